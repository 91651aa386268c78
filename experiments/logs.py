"""Logging of the entry points: the library's own lines, and only errors of the libraries beneath it."""

import logging

from absl import logging as absl_logging


def show_progress() -> None:
    """Prints the log of `bihf_jax` from INFO on, with the time; Orbax and others log through absl, from ERROR on."""
    absl_logging.set_verbosity(absl_logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("bihf_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
