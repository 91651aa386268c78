"""A model without its run: a folder that holds the parameters and says what they are.

    FOLDER/config.json            what the model is: see `describe`
    FOLDER/model.safetensors      the parameters, in the form "safetensors"
    FOLDER/params/                the parameters, in the form "orbax"

There is no optimizer state, and nothing in a folder is executed when it is loaded: it is JSON and plain arrays.
"""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from bihf_jax.configuration import ConfigError
from bihf_jax.pretrained import PretrainedError
from bihf_jax.pretrained.tensors import read_safetensors
from bihf_jax.tasks import Task
from bihf_jax.training.checkpoints import CheckpointError, as_numpy, check_params, readable
from bihf_jax.training.config import CONFIG_FILE, MODEL_TYPE, is_exported, read_json
from bihf_jax.version import __version__

FORMAT_VERSION = 1  # of `config.json`
UNKNOWN = "unknown"
_WEIGHTS = {"safetensors": "model.safetensors", "orbax": "params"}  # form -> file or folder of the parameters
FORMS = tuple(_WEIGHTS)
_KEYS = ("format", "format_version", "bihf_jax", "alphabet", "config", "step", "which")  # that loading needs


def describe(
    *, about: Mapping[str, Any], step: int, which: str, task: Task, training_data: Mapping[str, Any] | None, form: str
) -> dict[str, Any]:
    """What `config.json` of the folder holds.

    Args:
      about: of the checkpoint, `Checkpoints.about`.
      step: of the checkpoint.
      which: "best" or "last" of its run.
      task: what it was trained for.
      training_data: `provenance.read_records` of the run; None where it is not known.
      form: of the export.

    Returns:
      Values that JSON holds. Of the config's paths only the last part is kept: where things lay is the user's own.
    """
    config = json.loads(json.dumps(about["config"]))
    config["data"]["records"] = PurePath(config["data"]["records"]).name
    plm = config["encoder"]["plm"]
    if plm.get("pretrained") and Path(plm["pretrained"]).expanduser().is_absolute():
        plm["pretrained"] = PurePath(plm["pretrained"]).name
    return {
        "model_type": MODEL_TYPE,
        "format": form,
        "format_version": FORMAT_VERSION,
        "task": task.name,
        "label_names": list(task.label_names),
        "step": step,
        "which": which,
        "best_score": about.get("best_score"),
        "selection_metric": task.selection_metric,
        "bihf_jax": about["bihf_jax"],  # that trained it
        "exported_with": {"bihf_jax": __version__, **{name: metadata.version(name) for name in ("jax", "flax")}},
        "training_data": UNKNOWN if training_data is None else dict(training_data),
        "alphabet": list(about["alphabet"]),
        "config": config,
    }


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Writes `config.json`."""
    (folder / CONFIG_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def write_params(folder: Path, params: Any, form: str) -> None:
    """Writes the parameters (numpy, one replica) in one of `FORMS`, each in its own type."""
    path = (folder / _WEIGHTS[form]).absolute()
    if form == "safetensors":
        tensors = {".".join(name): np.ascontiguousarray(leaf) for name, leaf in flatten_dict(params).items()}
        save_file(tensors, path, metadata={"format": "np"})
    else:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(path, args=ocp.args.PyTreeSave(params))


class ModelFolder:
    """Reads a model folder, as `Checkpoints` reads those of a run."""

    def __init__(self, folder: str | Path):
        """Takes the folder; nothing is read yet."""
        self.folder = Path(folder)

    def about(self, *, which: str = "best") -> dict[str, Any]:
        """What `config.json` holds.

        Raises:
          ConfigError: there is none, or it is no JSON.
          CheckpointError: it is of another version, lacks something, or is of a form that cannot be loaded here.
        """
        path = self.folder / CONFIG_FILE
        about = read_json(path, "an exported model needs it: export it again")
        made = f"; it was exported with bihf_jax {about.get('exported_with', {}).get('bihf_jax', UNKNOWN)}"
        if (version := about.get("format_version")) != FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format_version {version!r}, this is bihf_jax {__version__}, which reads {FORMAT_VERSION}"
                f"{made}: install that version, or export again"
            )
        if missing := [key for key in _KEYS if key not in about]:
            raise CheckpointError(f"{path} lacks {', '.join(missing)}{made}; export it again, or copy it again, whole")
        if about["format"] not in FORMS:
            raise CheckpointError(
                f"{self.folder} is an export in the form {about['format']!r}, which runs without this package (its "
                f"README.md says how); export the run as {' or '.join(FORMS)} to load it here"
            )
        if which == "last" and about["which"] != "last":
            raise CheckpointError(
                f"{self.folder} holds one checkpoint, the best of its run (step {about['step']}); leave out which, or "
                "export the run with --which=last"
            )
        return about

    def restore_params(self, template: Any, *, which: str = "best") -> tuple[int, Any]:
        """(step, parameters) as numpy arrays in the form of `template`, as `Checkpoints.restore_params`.

        Raises:
          CheckpointError: the file is missing or damaged, or its parameters are not those of `template`.
        """
        about = self.about(which=which)
        path = (self.folder / _WEIGHTS[about["format"]]).absolute()
        if not path.exists():
            raise CheckpointError(f"{path} is missing; copy the exported model again, whole")
        read = _read_safetensors if about["format"] == "safetensors" else _read_orbax
        return int(about["step"]), read(path, template)

    def close(self) -> None:
        """Nothing is open."""


def _read_safetensors(path: Path, template: Any) -> Any:
    try:
        tensors = read_safetensors(path)
    except PretrainedError as error:
        raise CheckpointError(f"{error}: copy the exported model again, whole") from error
    wanted = flatten_dict(template)
    names = {".".join(name): name for name in wanted}
    saved = {names.get(name, (name,)): tensor for name, tensor in tensors.items()}
    with readable(path):
        check_params(unflatten_dict(saved), template, path)
        return unflatten_dict({name: tensor.read().astype(wanted[name].dtype) for name, tensor in saved.items()})


def _read_orbax(path: Path, template: Any) -> Any:
    with readable(path), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        check_params(checkpointer.metadata(path).item_metadata.tree, template, path)
        return checkpointer.restore(path, args=as_numpy(template))


def is_model_folder(path: str | Path) -> bool:
    """Whether `path` is an exported model, and no run."""
    try:
        return is_exported(read_json(Path(path) / CONFIG_FILE, ""))
    except ConfigError:
        return False
