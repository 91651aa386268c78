"""The score report of a run in the metrics of its task: what `report` is to binary residues, for all other tasks.

Structure of `scores.json` (a number that could not be computed is null, with a `reason` beside it)::

    version            1
    task               {name, unit, type, selection_metric}
    bootstrap          {level, resamples, seed, unit, method}
    splits.<split>     labelled, unlabelled, proteins, groups, notes,
                       reason                       only where the split could not be scored
                       scores.<contestant>          {role: model | baseline | control, METRIC: estimate}
                       differences                  [{first, second, METRIC: estimate}]
    estimate           {value, low, high, undefined_resamples, reason?, share_above_zero?}
"""

from collections.abc import Callable, Mapping

import numpy as np

from bihf_jax.tasks import metrics
from bihf_jax.tasks.report import (
    FEW_COMPLEXES,
    MODEL,
    SCORES_VERSION,
    aligned,
    compared_pairs,
    display,
    estimate_as_dict,
    interval_text,
    markdown_rows,
    role_of,
    share_text,
)
from bihf_jax.tasks.tables import Table, check_same_items
from bihf_jax.tasks.task import Task

_FAULT = "or the scores hold one value only"


def build_scores(
    task: Task,
    predictions: Mapping[str, Mapping[str, Table]],
    *,
    num_resamples: int = metrics.DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict:
    """Scores every contestant on every split; returns what `scores.json` holds.

    Args:
      task: of all contestants.
      predictions: split -> contestant -> its predictions, of the same items for all contestants of a split. Each split
        has a contestant "model"; "control", "control_2", .. are trained on shuffled labels; the others are baselines.
      num_resamples: bootstrap resamples.
      seed: of the resamples; the same for all, so that differences are paired.

    Raises:
      ValueError: no contestant "model" in a split, or contestants whose items or labels differ.
    """
    for split, contestants in predictions.items():
        if MODEL not in contestants:
            raise ValueError(f"split {split!r} has the contestants {list(contestants)}; one of them must be {MODEL!r}")
        for name, table in contestants.items():
            check_same_items(table, contestants[MODEL], (f"split {split!r}: {name!r}", repr(MODEL)))
    return {
        "version": SCORES_VERSION,
        "task": {
            "name": task.name,
            "unit": task.unit,
            "type": task.type,
            "selection_metric": task.selection_metric,
        },
        "bootstrap": {
            "level": metrics.INTERVAL_LEVEL,
            "resamples": num_resamples,
            "seed": seed,
            "unit": "group",
            "method": "percentiles over groups drawn with replacement, the same draws for every contestant",
        },
        "splits": {
            split: _score_split(task, contestants, num_resamples, seed) for split, contestants in predictions.items()
        },
    }


def score_table(scores: dict) -> str:
    """Aligned text: per split one table of the contestants and one of the differences to the model."""
    return "\n\n".join(_split_text(split, scores, aligned) for split in scores["splits"]) + "\n"


def markdown_table(scores: dict) -> str:
    """The same as `score_table`, in Markdown."""
    return "\n\n".join(_split_text(split, scores, markdown_rows, "### ") for split in scores["splits"]) + "\n"


def _score_split(task: Task, contestants: Mapping[str, Table], num_resamples: int, seed: int) -> dict:
    model = contestants[MODEL]
    labelled = model.labelled()
    num_groups = len(np.unique(labelled.groups))
    entry = {
        "labelled": len(labelled.labels),
        "unlabelled": len(model.label_mask) - len(labelled.labels),
        "proteins": len(model.record_ids),
        "groups": num_groups,
    }
    if not len(labelled.labels):
        return entry | {"reason": f"no labelled {task.unit}s", "scores": {}, "differences": [], "notes": []}
    values = {name: task.metrics(table.labelled()) for name, table in contestants.items()}
    resampled = {
        name: task.bootstrap(table.labelled(), num_resamples=num_resamples, seed=seed)
        for name, table in contestants.items()
    }

    def as_dict(estimate: metrics.Estimate) -> dict:
        return estimate_as_dict(estimate, None)

    return entry | {
        "notes": task.notes(labelled),
        "scores": {
            name: {"role": role_of(name)}
            | {
                metric: as_dict(
                    metrics.estimate(value, resampled[name][metric], num_groups, group="group", fault=_FAULT)
                )
                for metric, value in of.items()
            }
            for name, of in values.items()
        },
        "differences": [
            {"first": first, "second": second}
            | {
                metric: as_dict(
                    metrics.paired_difference(
                        values[first][metric],
                        values[second][metric],
                        resampled[first][metric],
                        resampled[second][metric],
                        num_groups,
                        group="group",
                        fault=_FAULT,
                    )
                )
                for metric in task.metric_names
            }
            for first, second in compared_pairs(list(contestants))
        ],
    }


def _split_text(split: str, scores: dict, format_table: Callable[[list[list[str]]], str], heading: str = "") -> str:
    entry, task = scores["splits"][split], scores["task"]
    headline = f"{heading}{split}: {entry['labelled']:,} labelled {task['unit']}s of {entry['groups']:,} groups"
    if entry["unlabelled"]:
        headline += f"; {entry['unlabelled']:,} have no label"
    if "reason" in entry:
        return f"{headline}\n\nNot scored: {entry['reason']}."
    names = [name for name in entry["scores"][MODEL] if name != "role"]
    header = ["", *(f"{metrics.title(name)} [95 %]" for name in names)]
    rows = [
        [display(contestant), *(interval_text(of[name]) for name in names)]
        for contestant, of in entry["scores"].items()
    ]
    parts = [headline, format_table([header, *rows])]
    if entry["differences"]:
        parts.append(format_table([_difference_header(task, names), *_difference_rows(entry, task, names)]))
    return "\n\n".join([*parts, "\n".join(_notes(entry, task))])


def _difference_header(task: dict, names: list[str]) -> list[str]:
    ahead = f"{metrics.title(task['selection_metric'])} > 0"
    return ["difference", *(f"{metrics.title(name)} [95 %]" for name in names), ahead]


def _difference_rows(entry: dict, task: dict, names: list[str]) -> list[list[str]]:
    return [
        [
            f"{display(pair['first'])} - {display(pair['second'])}",
            *(interval_text(pair[name], signed=True) for name in names),
            share_text(pair[task["selection_metric"]].get("share_above_zero")),
        ]
        for pair in entry["differences"]
    ]


def _notes(entry: dict, task: dict) -> list[str]:
    title = metrics.title(task["selection_metric"])
    notes = [
        f"Intervals: bootstrap over groups (complexes, targets). {title} picked the checkpoint on validation; "
        f"{title} > 0: share of the resamples in which the first is ahead.",
        *entry["notes"],
    ]
    if entry["groups"] < FEW_COMPLEXES:
        notes.append(f"Only {entry['groups']} groups: the intervals are too narrow; read them with care.")
    reasons = dict.fromkeys(
        estimate["reason"]
        for of in entry["scores"].values()
        for estimate in of.values()
        if isinstance(estimate, dict) and "reason" in estimate
    )
    return notes + [f"{reason[0].upper()}{reason[1:]}." for reason in reasons]
