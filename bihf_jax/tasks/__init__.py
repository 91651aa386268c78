"""The tasks that a model is trained and judged on."""

from collections.abc import Callable, Mapping
from typing import Any

from bihf_jax.configuration import ConfigError
from bihf_jax.tasks.mlm import MaskedLanguageModelling
from bihf_jax.tasks.objective import LossSums, Objective
from bihf_jax.tasks.task import BinaryResidueTask, Task

__all__ = [
    "TASKS",
    "BinaryResidueTask",
    "LossSums",
    "MaskedLanguageModelling",
    "Objective",
    "Task",
    "make_task",
]

# Name in the config -> factory taking the task's settings.
TASKS: dict[str, Callable[..., Objective]] = {
    # Protein-protein binding site: is a heavy atom of another partner within 4 Å?
    "ppbs": lambda **settings: BinaryResidueTask(
        name="ppbs", label_names=("no binding site", "binding site"), **settings
    ),
    # Pretraining: which residue is under the mask?
    "mlm": MaskedLanguageModelling,
}


def make_task(name: str, settings: Mapping[str, Any] | None = None) -> Objective:
    """The task called `name`.

    Raises:
      ConfigError: an unknown task or setting; the message lists the known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}; tasks are: {', '.join(sorted(TASKS))}")
    try:
        return TASKS[name](**dict(settings or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings of task {name!r}: {error}") from error
