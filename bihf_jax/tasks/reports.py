"""Which module made a set of scores, and can format it: binary residues, other tasks and `mlm` have one each."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from bihf_jax.tasks import mlm_report, report, task_report
from bihf_jax.tasks.mlm import MaskedLanguageModelling


def report_of(scores: Mapping[str, Any]) -> ModuleType:
    """The module with the `score_table` and `markdown_table` of what `scores.json` holds."""
    if scores.get("task") == MaskedLanguageModelling.name:
        return mlm_report
    return task_report if "task" in scores else report
