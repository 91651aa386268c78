"""Protein representations from sequence and 3D structure, fused after every stage (arXiv 2504.04770)."""

import typing
from pathlib import Path

from bihf_jax.version import __version__

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from bihf_jax.inference import Predictor

__all__ = ["__version__", "load"]


def load(path: "str | Path | Sequence[str | Path]", **settings: typing.Any) -> "Predictor":
    """A trained model from the folder of its run or export, ready for new structures.

    `Predictor.load` has the settings.

    model = bihf_jax.load("runs/quickstart/model")  # or a list of folders: the mean of several models
    model.predict("1abc.cif.gz")
    """
    # Imported here, so that `import bihf_jax` stays light: it loads JAX and all that stands on it.
    from bihf_jax.inference import Predictor

    return Predictor.load(path, **settings)
