"""The flag `--imports`: modules of the user's that a command imports first, e.g. one with an own structure encoder."""

import importlib
from collections.abc import Sequence

from absl import flags

from bihf_jax.configuration import ConfigError

_IMPORTS = flags.DEFINE_list("imports", [], "Modules to import first, e.g. with own structure encoders")


def load(names: Sequence[str] | None = None) -> None:
    """Imports the modules `names`, or those of the flag.

    Raises:
      ConfigError: one is not found.
    """
    for name in _IMPORTS.value if names is None else names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ConfigError(f"--imports {name}: {error}; name modules as in an import, e.g. my.encoders") from error
