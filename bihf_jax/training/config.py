"""`ExperimentConfig`: everything that one run is made of, checked before data or devices are touched."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn

from bihf_jax.configuration import ConfigError, build, differences
from bihf_jax.data.plan import GridShape
from bihf_jax.data.records import RecordSet
from bihf_jax.models.config import EncoderConfig, FusionConfig, GVPConfig, HeadConfig, PLMConfig, StructureConfig
from bihf_jax.models.heads import TaskModel
from bihf_jax.models.masked_language import MaskedLanguageModel
from bihf_jax.models.structure import structure_encoder
from bihf_jax.pretrained import esm2_config
from bihf_jax.tasks import TASKS, Objective, make_task, resolve_settings
from bihf_jax.training.optimizer import OptimizerConfig, learning_rate_schedule

CONFIG_FILE = "config.json"  # in the folder of a run, and of an exported model (`model_folder`)
MODEL_TYPE = "bihf_jax"  # what it says of itself in an exported model, as files on a hub do


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which records, and the shape of the grid they are packed into.

    Attributes:
      records: folder that `data_prep.build` wrote.
      rows: rows of a global step in the longest bucket; shorter buckets get proportionally more, so that each step
        has about the same number of slots. A multiple of the number of devices.
      lengths: length buckets in slots. A protein goes into the shortest that takes it; in training a longer one is
        cropped, for scoring larger buckets are added.
      graphs_per_row: proteins that fit into one row at most.
      neighbours: K, incoming edges of a residue.
      balanced_sampling: exponent from 0 to 1: in an epoch a protein of a class with n training proteins is drawn in
        proportion to n^-balanced_sampling, rare classes more than once and frequent ones in part
        (`data.balance`). 0: every protein once; 1: all classes alike.
      shuffle_labels: a control: permutes the training labels over all labelled residues, so nothing can be learned.
    """

    records: str
    rows: int = 4
    lengths: tuple[int, ...] = (1024,)
    graphs_per_row: int = 32
    neighbours: int = 24
    balanced_sampling: float = 0.0
    shuffle_labels: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"rows must be >= 1, got {self.rows}")
        if not self.lengths:
            raise ValueError("lengths needs at least one length bucket, e.g. (1024,)")
        if not 0 <= self.balanced_sampling <= 1:
            raise ValueError(f"balanced_sampling must be 0 to 1, got {self.balanced_sampling}")
        self.grid_shape()  # its own checks

    def grid_shape(self) -> GridShape:
        """The grid of a training step."""
        longest = max(self.lengths)
        rows = {length: self.rows * (longest // length) for length in self.lengths}
        return GridShape(rows, self.graphs_per_row, self.neighbours)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and how often what happens. All in steps.

    Attributes:
      steps: length of the run.
      log_every: a line in `metrics.jsonl`: the mean over the steps since the line before.
      evaluate_every: score the validation split, and keep the best checkpoint by it; also done at the last step.
      checkpoint_every: save to resume from; also done at each validation and at the last step.
      patience: validations in a row without a better score after which the run ends; 0: it takes all its steps.
      optimizer: AdamW and its schedule.
    """

    steps: int
    log_every: int = 20
    evaluate_every: int = 200
    checkpoint_every: int = 100
    patience: int = 0
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.patience < 0:
            raise ValueError(f"patience must be >= 0 validations, got {self.patience}")
        learning_rate_schedule(self.optimizer, self.steps)  # its own checks


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One experiment: a task, its data, a model and a way to train it."""

    task: Mapping[str, Any]  # {"name": ..., settings of that task}; what it leaves open comes from the records
    data: DataConfig
    encoder: EncoderConfig
    training: TrainingConfig
    head: HeadConfig = dataclasses.field(default_factory=HeadConfig)
    seed: int = 0

    def make_task(self) -> Objective:
        settings = dict(self.task)
        return make_task(settings.pop("name", ""), settings)

    def make_model(self) -> nn.Module:
        """The model: called with (batch, row_id), gives logits [R, L, outputs], or [R, G, outputs] of proteins."""
        return MODELS[self.make_task().model](self)


# `Objective.model` -> the model that it trains.
MODELS: dict[str, Callable[[ExperimentConfig], nn.Module]] = {
    "task": lambda config: TaskModel(config.encoder, config.head),
    "masked_language": lambda config: MaskedLanguageModel(config.encoder),
}


def experiment_config(values: Mapping[str, Any], workdir: Path | None = None) -> ExperimentConfig:
    """Builds and checks the config of a run from a config document.

    Args:
      values: nested settings, e.g. an `ml_collections.ConfigDict`; `encoder.plm.name` may name a published size of
        ESM-2 and `encoder.fusion.name` a fusion method, whose other settings then are changes to it. So may
        `encoder.plm.pretrained`, where the sizes are left out: they are those of the weights.
        `encoder.structure.name` says whose settings the others of `encoder.structure` are; without it GVP's.
      workdir: folder of the run. Once it has started from pretrained weights, their sizes are those that it keeps: the
        weights are not needed again.

    Raises:
      ConfigError: names the key, the value and what is allowed.
      RecordError: the task leaves open what its records say, and they cannot be read.
    """
    values = _plain(values)
    encoder = values.get("encoder")
    if isinstance(encoder, dict):
        for part, make in (("plm", PLMConfig.named), ("fusion", FusionConfig.named)):
            if isinstance(encoder.get(part), dict) and "name" in encoder[part]:
                name = encoder[part].pop("name")
                encoder[part] = _changed(functools.partial(make, name), encoder[part], f"config.encoder.{part}")
        plm = encoder.get("plm")
        if isinstance(plm, dict) and plm.get("pretrained") and not {"layers", "width", "heads"} & plm.keys():
            make = functools.partial(_pretrained_plm, plm["pretrained"], workdir)
            encoder["plm"] = _changed(make, plm, "config.encoder.plm")
        if isinstance(encoder.get("structure"), dict):
            encoder["structure"] = _structure(encoder["structure"], "config.encoder.structure")
    if isinstance(values.get("task"), dict) and isinstance(values.get("data"), dict) and "records" in values["data"]:
        values["task"] = _task_settings(values["task"], values["data"]["records"])
    config = build(ExperimentConfig, values)
    task = config.make_task()
    if config.encoder.structure.neighbours > config.data.neighbours:
        raise ConfigError(
            f"config.encoder.structure.neighbours is {config.encoder.structure.neighbours}, but config.data.neighbours "
            f"gives each residue {config.data.neighbours}; lower the first or raise the second"
        )
    if task.model == "masked_language" and config.encoder.sides != ("sequence",):
        raise ConfigError(
            f"task {task.name!r} trains the pLM alone, but config.encoder.fusion runs "
            f"{' and '.join(config.encoder.sides)}; set config.encoder.fusion.name to sequence_only"
        )
    if task.model == "masked_language" and config.data.shuffle_labels:
        raise ConfigError(f"task {task.name!r} makes its own labels; leave config.data.shuffle_labels out")
    head = dataclasses.replace(config.head, num_outputs=task.num_outputs, unit=task.unit)
    return dataclasses.replace(config, head=head)


def _task_settings(values: Mapping[str, Any], records: str) -> dict[str, Any]:
    """The settings of the task with what they leave open: a run keeps them, so its records are not needed again."""
    settings = dict(values)
    name = settings.pop("name", "")
    if name not in TASKS or TASKS[name].labels is not None or "labels" in settings:
        return dict(values)
    training = RecordSet(records, "train")
    return {"name": name, **resolve_settings(name, settings, training.labels, training)}


def _changed(make: Callable[[], Any], changes: Mapping[str, Any], path: str) -> Any:
    """The config that `make` gives, with changes as they stand in the document."""
    try:
        config = make()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return build(type(config), values | changes, path)


def _pretrained_plm(source: str, workdir: Path | None) -> PLMConfig:
    """The config of published weights: what the run in `workdir` keeps of it, if that started from them."""
    if workdir is not None and (workdir / CONFIG_FILE).is_file():
        kept = load_config(workdir).encoder.plm
        if kept.pretrained == source:
            return PLMConfig(**kept.architecture)
    return esm2_config(source)


def _structure(values: Mapping[str, Any], path: str) -> StructureConfig:
    """The config of the structure encoder `values["name"]`, with the other values."""
    settings = dict(values)
    try:
        encoder = structure_encoder(settings.pop("name", GVPConfig.name))
    except ValueError as error:
        raise ConfigError(f"{path}.name: {error}") from error
    return build(encoder.config_class, settings, path)


def _plain(values: Any) -> Any:
    """Nested dicts of plain values, so that config documents and JSON read alike."""
    if hasattr(values, "to_dict"):
        values = values.to_dict()
    return {k: _plain(v) for k, v in values.items()} if isinstance(values, Mapping) else values


def keep_config(config: ExperimentConfig, workdir: Path, *, first_host: bool) -> dict[str, Any]:
    """Writes `WORKDIR/config.json`, or checks that the run there has the same config.

    Returns:
      The config as plain values, as JSON has them.

    Raises:
      ConfigError: the run there has another config; lists what differs. Or, on a host that is not the first, there is
        none: what the first one wrote is not seen here.
    """
    values = _json_values(config)
    path = workdir / CONFIG_FILE
    if path.exists():
        kept = _json_values(load_config(workdir))  # what it does not say has its default
        changes = [f"{key} was {old!r}, is {new!r}" for key, old, new in differences(kept, values, "config")]
        if changes:
            raise ConfigError(
                f"{workdir} holds a run with another config ({'; '.join(changes)}); "
                f"give the same config to go on with it, or another --workdir to start a new run"
            )
    elif not first_host:
        raise ConfigError(f"host 0 has written {path}, which is not here: all hosts must share the --workdir")
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        os.replace(scratch, path)
    return values


def _json_values(config: ExperimentConfig) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read_config(workdir: str | Path) -> dict[str, Any]:
    """`WORKDIR/config.json` as it stands.

    Raises:
      ConfigError: no run there but nothing or an exported model, or the file is no JSON object.
    """
    path = Path(workdir) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{workdir} holds no run: {CONFIG_FILE} is missing; give the --workdir of a training run")
    values = read_json(path, "copy it again from the run")
    if is_exported(values):
        raise ConfigError(f"{workdir} holds an exported model and no run; give the --workdir of a training run")
    return values


def is_exported(values: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of an exported model, and not of a run."""
    return values.get("model_type") == MODEL_TYPE


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      ConfigError: it is missing or no JSON object; ends with `fix`, what to do.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {fix}") from error
    except (ValueError, RecursionError) as error:  # also where it is not UTF-8
        raise ConfigError(f"{path} is not JSON ({error}); {fix}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no config but {type(values).__name__}; {fix}")
    return values


def load_config(workdir: str | Path) -> ExperimentConfig:
    """The config of the run in `workdir`.

    Raises:
      ConfigError: no run there, or a config that this version cannot read.
    """
    return experiment_config(read_config(workdir))
