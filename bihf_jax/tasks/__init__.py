"""The tasks that a model is trained and judged on."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from bihf_jax.configuration import ConfigError
from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels
from bihf_jax.tasks.mlm import MaskedLanguageModelling
from bihf_jax.tasks.objective import LossSums, Objective
from bihf_jax.tasks.task import (
    TASK_TYPES,
    BinaryTask,
    EnzymeTask,
    MulticlassTask,
    MultilabelTask,
    RankingTask,
    RegressionTask,
    Task,
)

__all__ = [
    "TASKS",
    "BinaryTask",
    "EnzymeTask",
    "LossSums",
    "MaskedLanguageModelling",
    "MulticlassTask",
    "MultilabelTask",
    "Objective",
    "RankingTask",
    "RegressionTask",
    "Task",
    "TaskKind",
    "check_labels",
    "make_task",
    "resolve_settings",
]


@dataclasses.dataclass(frozen=True)
class TaskKind:
    """What a name in the config stands for.

    Attributes:
      types: type of the labels -> the class of the task.
      unit: of the labels; None: either.
      labels: where they are always the same; None: those of the record set.
      defaults: settings that differ from those of the class.
    """

    types: Mapping[str, type[Task]]
    unit: str | None
    labels: Labels | None = None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# Name in the config -> what it is; `mlm`, which makes its own labels, is the one beside them.
TASKS: dict[str, TaskKind] = {
    # Protein-protein binding site: is a heavy atom of another partner within 4 Å?
    "ppbs": TaskKind({"binary": BinaryTask}, "residue", Labels("residue", "binary", ("binding site",))),
    # B-cell epitope: does an antibody bind here?
    "bce": TaskKind({"binary": BinaryTask}, "residue", Labels("residue", "binary", ("epitope",))),
    # Enzyme reaction class: one of 384 (Hermosilla et al. 2021), or any of DeepFRI's.
    "ec": TaskKind({"multiclass": EnzymeTask, "multilabel": MultilabelTask}, "protein"),
    # Model quality assessment: GDT-TS of a decoy; its group is the target.
    "mqa": TaskKind(
        {"regression": RankingTask}, "protein", defaults={"loss_name": "huber", "huber_delta": 0.1, "output": "sigmoid"}
    ),
    # Ligand binding affinity: -log10 K.
    "lba": TaskKind({"regression": RegressionTask}, "protein"),
    # Your own labels: what the record set says.
    "custom": TaskKind(TASK_TYPES, None),
}


def make_task(name: str, settings: Mapping[str, Any] | None = None) -> Objective:
    """The task called `name`.

    Args:
      name: one of `TASKS`, or "mlm".
      settings: of the class of its labels; `labels` (as in `metadata.json`) where the kind leaves them open.

    Raises:
      ConfigError: an unknown task or setting, labels that the task does not take, or none; says what is allowed.
    """
    settings = dict(settings or {})
    try:
        if name == MaskedLanguageModelling.name:
            return MaskedLanguageModelling(**settings)
        kind = _kind(name)
        labels = _labels(name, settings.pop("labels", None))
        return kind.types[labels.type](name=name, labels=labels, **{**kind.defaults, **settings})
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"settings of task {name!r}: {error}") from error


def resolve_settings(
    name: str, settings: Mapping[str, Any], labels: Labels, examples: Iterable[Example]
) -> dict[str, Any]:
    """The settings of a task, with what they leave open taken from a record set: labels, and what its class learns
    from the training examples (`Task.learned_settings`).

    Args:
      name: of the task.
      settings: as the config has them.
      labels: of the record set.
      examples: the training examples; read only where something is left open.

    Raises:
      ConfigError: as `make_task`, or training labels that the settings do not fit.
    """
    kind, settings = _kind(name), dict(settings)
    if kind.labels is not None:
        return settings
    found = labels.to_metadata()
    task_type = kind.types[_labels(name, found).type]
    settings.setdefault("labels", found)
    try:
        return settings | task_type.learned_settings({**kind.defaults, **settings}, labels, examples)
    except ValueError as error:
        raise ConfigError(f"settings of task {name!r}: {error}") from error


def check_labels(task: Objective, labels: Labels, where: object) -> None:
    """Raise ConfigError where the labels of the record set at `where` are not what the task predicts.

    `mlm` reads none, so any will do.
    """
    if not isinstance(task, Task):
        return
    named = TASKS[task.name].labels is None  # a binding site is one, whatever the record set calls it
    same_kind = (labels.unit, labels.type) == (task.unit, task.labels.type)
    if not same_kind or (named and labels.names != task.labels.names):
        raise ConfigError(
            f"task {task.name!r} predicts {_describe(task.labels)}; the labels of {where} are {_describe(labels)}. "
            "Choose the task of these records, or the records of this task"
        )


def _kind(name: str) -> TaskKind:
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; tasks are: {', '.join([*TASKS, MaskedLanguageModelling.name])}")
    return TASKS[name]


def _labels(name: str, given: Mapping[str, Any] | None) -> Labels:
    """The labels of the task `name`: its own, or those given."""
    kind = TASKS[name]
    if kind.labels is not None:
        if given is not None:
            raise ConfigError(f"task {name!r} takes no labels: they are {_describe(kind.labels)}; leave them out")
        return kind.labels
    if given is None:
        raise ConfigError(f"task {name!r} needs labels; they come from the record set of config.data.records")
    labels = Labels(**given)
    if labels.type not in kind.types or kind.unit not in (None, labels.unit):
        wanted = f"{kind.unit or 'residue or protein'} {' or '.join(kind.types)}"
        raise ConfigError(f"task {name!r} takes {wanted} labels; those of the records are {_describe(labels)}")
    return labels


def _describe(labels: Labels) -> str:
    shown = ", ".join(labels.names[:3]) + (f", .. ({len(labels.names)})" if len(labels.names) > 3 else "")
    return f"{labels.unit} {labels.type} ({shown})"
