"""Trains a model: `python -m experiments.train --config=configs/quickstart.py --workdir=DIR`.

The same command goes on with a run that was stopped. SIGTERM saves and exits with status 143. With `--profile=5` it
traces five steps of a fresh model instead and prints where their time goes. Several hosts with their devices train as
one: docs/multihost.md.
"""

import logging
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from bihf_jax.configuration import ConfigError
from bihf_jax.data.records import RecordError
from bihf_jax.training.checkpoints import CheckpointError
from bihf_jax.training.loop import Interrupted, NonFiniteLossError, train
from bihf_jax.training.profile import markdown, profile_training
from bihf_jax.training.supervisor import STOPPED
from experiments import logs, multihost

_LOGGER = logging.getLogger("bihf_jax.train")
_CONFIG = config_flags.DEFINE_config_file("config", None, "Config document, e.g. configs/quickstart.py:fusion=global")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: config, checkpoints, metrics.jsonl, TensorBoard")
_PROFILE = flags.DEFINE_integer("profile", 0, "Instead of training, trace this many steps and say where time goes")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Parses flags and trains."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    multihost.run(_train, Path(_WORKDIR.value))


def _train() -> int:
    """The exit status."""
    try:
        if _PROFILE.value:
            print(markdown(profile_training(_CONFIG.value, _WORKDIR.value, _PROFILE.value)))
        else:
            train(_CONFIG.value, _WORKDIR.value)
    except Interrupted as stop:
        _LOGGER.info("%s", stop)
        return STOPPED
    except (ConfigError, RecordError, CheckpointError, NonFiniteLossError) as error:
        return multihost.fail(error)
    return 0


if __name__ == "__main__":
    logs.show_progress()
    app.run(main)
