"""A trained model from the folder of its run or export, checked against its config and against this code."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bihf_jax.configuration import ConfigError, differences
from bihf_jax.data import alphabet
from bihf_jax.training.checkpoints import CheckpointError, Checkpoints
from bihf_jax.training.config import CONFIG_FILE, ExperimentConfig, experiment_config, read_config
from bihf_jax.training.model_folder import ModelFolder, is_model_folder
from bihf_jax.training.parameter_shapes import keep_shapes, kept_shapes, parameter_shapes
from bihf_jax.version import __version__

_LOGGER = logging.getLogger(__name__)
_MODEL_GROUPS = ("task", "encoder", "head")  # of a config: what decides how parameters are used


class RestoredModel(NamedTuple):
    """A checkpoint of a run."""

    config: ExperimentConfig
    step: int
    params: Any  # numpy, one replica
    about: Mapping[str, Any]  # what the checkpoint says of itself, see `Checkpoints.about`


def restore_model(workdir: str | Path, *, which: str = "best", shapes_folder: Path | None = None) -> RestoredModel:
    """Reads a checkpoint of a run. Nothing in it is executed: it is JSON and plain arrays.

    Args:
      workdir: of the run.
      which: "best" or "last".
      shapes_folder: see `load_model`.

    Raises:
      ConfigError: no run there, or a config that this version cannot read.
      CheckpointError: no such checkpoint, one with a part missing or damaged, one of another alphabet, or one that does
        not fit the run's config.
    """
    values = read_config(workdir)
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        return _restore(checkpoints, Path(workdir), values, which, shapes_folder)


def load_model(path: str | Path, *, which: str = "best", shapes_folder: Path | None = None) -> RestoredModel:
    """Reads a checkpoint of a run as `restore_model`, or what `experiments.export` made of one (`model_folder`).

    Args:
      path: of the run or the export.
      which: "best" or "last".
      shapes_folder: where the shapes of the parameters are kept from one start to the next (`parameter_shapes`).

    Raises:
      ConfigError, CheckpointError: as `restore_model`.
    """
    if not is_model_folder(path):
        return restore_model(path, which=which, shapes_folder=shapes_folder)
    with contextlib.closing(ModelFolder(path)) as folder:
        return _restore(folder, Path(path), folder.about(which=which)["config"], which, shapes_folder)


def _restore(
    source: Checkpoints | ModelFolder, path: Path, values: Mapping[str, Any], which: str, shapes_folder: Path | None
) -> RestoredModel:
    """The model of `source`, which lies at `path` and has the config `values`."""
    about = source.about(which=which)
    _check_about(about, values, f"the {which} checkpoint of {path}")
    try:
        config = experiment_config(values)
    except ConfigError as error:
        raise ConfigError(f"{path / CONFIG_FILE}: {error}{_version_note(about)}") from error
    try:
        step, params = _restore_params(source, config, which, shapes_folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_version_note(about)}") from error
    return RestoredModel(config, step, params, about)


def _restore_params(
    source: Checkpoints | ModelFolder, config: ExperimentConfig, which: str, shapes_folder: Path | None
) -> tuple[int, Any]:
    """(step, parameters), checked against the config's model."""
    if shapes_folder is not None and (shapes := kept_shapes(shapes_folder, config)) is not None:
        try:
            return source.restore_params(shapes, which=which)
        except CheckpointError as error:
            _LOGGER.debug("the model is built to see what it wants: %s", error)  # and that decides
    shapes = parameter_shapes(config)
    restored = source.restore_params(shapes, which=which)
    if shapes_folder is not None:
        keep_shapes(shapes_folder, config, shapes)
    return restored


def _check_about(about: Mapping[str, Any], values: Mapping[str, Any], name: str) -> None:
    """`CheckpointError` where the checkpoint is of another alphabet or model than the code or the config."""
    if tuple(about["alphabet"]) != alphabet.TOKENS:
        raise CheckpointError(
            f"{name} was trained with another alphabet: {' '.join(about['alphabet'])}; this version has "
            f"{' '.join(alphabet.TOKENS)}{_version_note(about)}"
        )
    kept, found = ({group: config.get(group) for group in _MODEL_GROUPS} for config in (about["config"], values))
    if changes := [f"{key} was {old!r}, is {new!r}" for key, old, new in differences(kept, found, "config")]:
        raise CheckpointError(
            f"{name} was trained with another config than {CONFIG_FILE} has now ({'; '.join(changes)}); put the old "
            "values back"
        )


def _version_note(about: Mapping[str, Any]) -> str:
    """What to add to a message where the checkpoint is of another version; empty where it is of this one."""
    if about["bihf_jax"] == __version__:
        return ""
    return f". The run was made with bihf_jax {about['bihf_jax']}, this is {__version__}: install that version"
