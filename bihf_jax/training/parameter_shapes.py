"""Shape and type of each parameter of a config's model, kept on disk: to build the model only for them takes a second.

What is kept is of one config, one version of this package, of JAX and of Flax, and of the source of the models, whose
digest is the name of the file. A checkpoint that does not fit it is held against the model itself (`restore`): a file
that is out of date, as that of a model defined outside this package can be, costs time and refuses nothing.
"""

import functools
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bihf_jax import models
from bihf_jax.data.grid import example_batch
from bihf_jax.training.config import ExperimentConfig
from bihf_jax.version import __version__

_LOGGER = logging.getLogger(__name__)


def parameter_shapes(config: ExperimentConfig) -> Any:
    """`jax.ShapeDtypeStruct` of each parameter of the config's model; nothing is computed."""
    model, batch = config.make_model(), example_batch(config.data.grid_shape())
    return jax.eval_shape(lambda: model.init(jax.random.key(0), batch, None)["params"])


def kept_shapes(folder: Path, config: ExperimentConfig) -> Any | None:
    """What `keep_shapes` kept in `folder` for this config; None where there is nothing, or nothing that can be read."""
    path = _path(folder, config)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        leaves = {tuple(name): jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for name, shape, dtype in kept}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        _LOGGER.debug("%s is not used: %s", path, error)
        return None
    return unflatten_dict(leaves)


def keep_shapes(folder: Path, config: ExperimentConfig, shapes: Any) -> None:
    """Keeps the shapes of this config's parameters in `folder`, where that can be written."""
    path = _path(folder, config)
    leaves = [[name, leaf.shape, leaf.dtype.name] for name, leaf in flatten_dict(shapes).items()]
    part = path.with_name(f"{path.name}.{os.getpid()}")  # of several processes, each writes its own
    try:
        part.write_text(json.dumps(leaves), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        _LOGGER.debug("%s is not kept: %s", path, error)


def _path(folder: Path, config: ExperimentConfig) -> Path:
    made_by = (__version__, jax.__version__, flax.__version__, _source_of_models(), repr(config))
    return folder / f"parameter_shapes-{hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:24]}.json"


@functools.cache
def _source_of_models() -> str:
    """Digest of the package's models as they are on disk."""
    digest = hashlib.sha256()
    for path in sorted(Path(models.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
