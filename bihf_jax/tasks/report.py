"""The score report of a run: `scores.json` and the tables made from it.

A report compares **contestants** on the same residues of every split: the model, trivial baselines, and controls
trained on shuffled labels. `build_scores` makes the one structure (plain dicts, numbers and strings); `score_table`
and `markdown_table` only format it.

**A control is one draw.** Trained on shuffled labels, a model is an arbitrary function of the features, and that
function may well go with the real label (buried against exposed) or against it. So single controls scatter around
chance by more than their intervals, which cover the choice of complexes and not the choice of the function: chance is
the mean of controls with several seeds. Keep their last checkpoint: the best on real validation labels is selected.

Structure of `scores.json` (a number that could not be computed is null, with a `reason` beside it)::

    version            1
    threshold_split    the split on which the thresholds of MCC were chosen
    bootstrap          {level, resamples, seed, unit, method}
    splits.<split>     residues, positives, unlabelled_residues, proteins, complexes, repeated_keys,
                       reason                       only where the split could not be scored
                       scores.<contestant>          {role: model | baseline | control, threshold, threshold_source,
                                                     auc_pr, roc_auc, mcc, positive_rate: estimate}
                       differences                  [{first, second, auc_pr, roc_auc, mcc: estimate}]
                       controls                     only with two or more: {count, at_chance, auc_pr, roc_auc:
                                                     {value: mean, low, high, chance}}; see `_controls_together`
    estimate           {value, low, high, undefined_resamples, reason?, share_above_zero?}
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from bihf_jax.tasks import metrics
from bihf_jax.tasks.labelled import Labelled
from bihf_jax.tasks.predictions import Predictions

SCORES_VERSION = 1
MODEL = "model"
CONTROL = "control"
POSITIVE_RATE = "positive_rate"
# An interval from fewer complexes than this is marked in the tables: the percentile bootstrap is then too narrow.
FEW_COMPLEXES = 10

_DIFFERENCE_METRICS = ("auc_pr", "roc_auc", "mcc")
_NO_THRESHOLD = 0.5


def build_scores(
    predictions: Mapping[str, Mapping[str, Predictions]],
    *,
    threshold_split: str = "validation",
    num_resamples: int = metrics.DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict:
    """Scores every contestant on every split; returns what `scores.json` holds.

    Args:
      predictions: split -> contestant -> its predictions, on the same residues for all contestants of a split. Each
        split has a contestant "model"; "control", "control_2", .. are trained on shuffled labels; the others are
        baselines.
      threshold_split: the split on which each contestant's MCC threshold is chosen.
      num_resamples: bootstrap resamples.
      seed: of the resamples; the same for all, so that differences are paired.

    Raises:
      ValueError: no contestant "model" in a split, contestants whose residues or labels differ, or scores that are
        not finite.
    """
    for split, contestants in predictions.items():
        _check_contestants(split, contestants)
    thresholds = _choose_thresholds(predictions, threshold_split)
    return {
        "version": SCORES_VERSION,
        "threshold_split": threshold_split,
        "bootstrap": {
            "level": metrics.INTERVAL_LEVEL,
            "resamples": num_resamples,
            "seed": seed,
            "unit": "complex",
            "method": "percentiles over complexes drawn with replacement, the same draws for every contestant",
        },
        "splits": {
            split: _score_split(contestants, thresholds, num_resamples, seed)
            for split, contestants in predictions.items()
        },
    }


def write_scores(scores: dict, path: str | os.PathLike[str]) -> None:
    """Writes `scores.json`: floats in full precision, no NaN; the file appears whole or not at all."""
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(scores, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def score_table(scores: dict) -> str:
    """Aligned text: per split one table of the contestants and one of the differences to the model."""
    return "\n\n".join(_split_text(split, scores, aligned) for split in scores["splits"]) + "\n"


def markdown_table(scores: dict) -> str:
    """The same as `score_table`, in Markdown."""
    return "\n\n".join(_split_text(split, scores, markdown_rows, "### ") for split in scores["splits"]) + "\n"


# --- scores ---


@dataclasses.dataclass(frozen=True)
class _Threshold:
    value: float
    source: str


def _check_contestants(split: str, contestants: Mapping[str, Predictions]) -> None:
    if MODEL not in contestants:
        raise ValueError(f"split {split!r} has the contestants {list(contestants)}; one of them must be {MODEL!r}")
    model = contestants[MODEL]
    for name, other in contestants.items():
        for field in ("record", "residue_number", "label", "label_mask", "weight"):
            if not np.array_equal(getattr(other, field), getattr(model, field)):
                raise ValueError(
                    f"split {split!r}: {name!r} and {MODEL!r} differ in {field!r}; score the same records in one order"
                )
        if other.record_ids != model.record_ids or other.groups != model.groups:
            raise ValueError(
                f"split {split!r}: {name!r} and {MODEL!r} differ in their records; score the same in one order"
            )


def _choose_thresholds(
    predictions: Mapping[str, Mapping[str, Predictions]], threshold_split: str
) -> dict[str, _Threshold]:
    names = dict.fromkeys(name for contestants in predictions.values() for name in contestants)
    return {name: _choose_threshold(predictions.get(threshold_split, {}).get(name), threshold_split) for name in names}


def _choose_threshold(predictions: Predictions | None, split: str) -> _Threshold:
    """The threshold of largest MCC, or 0.5 with the reason where the split cannot give one."""
    reason = "not scored there"
    if predictions is not None:
        labels, scores, weights, _ = predictions.labelled()
        reason = metrics.undefined_reason(labels, weights)
        if reason is None:
            return _Threshold(metrics.choose_threshold(labels, scores, weights), f"largest MCC on {split!r}")
    return _Threshold(_NO_THRESHOLD, f"{_NO_THRESHOLD} by default, none could be chosen on {split!r}: {reason}")


def _score_split(
    contestants: Mapping[str, Predictions], thresholds: Mapping[str, _Threshold], num_resamples: int, seed: int
) -> dict:
    model = contestants[MODEL]
    labelled = model.labelled()
    num_groups = len(np.unique(labelled.groups))
    entry = {
        "residues": len(labelled.labels),
        "positives": int(labelled.labels.sum()),
        "unlabelled_residues": model.num_residues - len(labelled.labels),
        "proteins": len(np.unique(model.record[model.label_mask])),
        "complexes": num_groups,
        "repeated_keys": model.num_repeated_keys,
    }
    if not len(labelled.labels):
        return entry | {"reason": "no labelled residues", "scores": {}, "differences": []}
    contests = {
        name: _Contest.run(predictions.labelled(), thresholds[name].value, num_resamples, seed)
        for name, predictions in contestants.items()
    }
    one_class = metrics.undefined_reason(labelled.labels, labelled.weights)
    entry["scores"] = {
        name: {"role": role_of(name), "threshold": thresholds[name].value, "threshold_source": thresholds[name].source}
        | {
            metric: estimate_as_dict(
                metrics.estimate(contest.values[metric], contest.resampled[metric], num_groups), one_class
            )
            for metric in metrics.METRICS
        }
        for name, contest in contests.items()
    }
    entry["differences"] = [
        {"first": first, "second": second}
        | {
            metric: estimate_as_dict(contests[first].minus(contests[second], metric, num_groups), one_class)
            for metric in _DIFFERENCE_METRICS
        }
        for first, second in compared_pairs(list(contests))
    ]
    controls = [contest.values for name, contest in contests.items() if role_of(name) == "control"]
    if len(controls) > 1 and one_class is None:
        entry["controls"] = _controls_together(controls)
    return entry


def _controls_together(controls: Sequence[Mapping[str, float | None]]) -> dict:
    """Mean of several controls with its 95 % interval over their seeds (Student's t), beside chance.

    Controls are at chance where the interval of the mean ROC-AUC holds 0.5.
    """
    result: dict = {"count": len(controls)}
    for metric, chance in (("auc_pr", controls[0]["positive_rate"]), ("roc_auc", 0.5)):
        values = np.array([control[metric] for control in controls])
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        mean = values.mean()
        result[metric] = {"value": float(mean), "low": float(mean - half), "high": float(mean + half), "chance": chance}
    result["at_chance"] = bool(result["roc_auc"]["low"] <= 0.5 <= result["roc_auc"]["high"])
    return result


@dataclasses.dataclass(frozen=True)
class _Contest:
    """One contestant on one split."""

    values: dict[str, float | None]  # metric -> value
    resampled: dict[str, np.ndarray]  # metric -> [num_resamples]

    @classmethod
    def run(cls, labelled: Labelled, threshold: float, num_resamples: int, seed: int) -> "_Contest":
        labels, scores, weights, groups = labelled
        resampled = metrics.bootstrap(
            labels, scores, weights, groups, threshold, num_resamples=num_resamples, seed=seed
        )
        return cls(metrics.residue_metrics(labels, scores, weights, threshold), resampled)

    def minus(self, other: "_Contest", metric: str, num_groups: int) -> metrics.Estimate:
        return metrics.paired_difference(
            self.values[metric], other.values[metric], self.resampled[metric], other.resampled[metric], num_groups
        )


def role_of(name: str) -> str:
    """ "model", "control" or "baseline", by the name of a contestant."""
    if name == MODEL:
        return "model"
    return "control" if name == CONTROL or name.startswith(f"{CONTROL}_") else "baseline"


def compared_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The model against every other; each control against the positive rate too: they scatter around it."""
    pairs = [(MODEL, name) for name in names if name != MODEL]
    controls = [name for name in names if role_of(name) == "control"] if POSITIVE_RATE in names else []
    return [*pairs, *((name, POSITIVE_RATE) for name in controls)]


def estimate_as_dict(estimate: metrics.Estimate, one_class: str | None) -> dict:
    """An estimate as JSON; what only some estimates have is left out where it is None."""
    result = dataclasses.asdict(estimate)
    if estimate.value is None and one_class:
        result["reason"] = f"not defined: {one_class}"
    return {key: value for key, value in result.items() if value is not None or key in ("value", "low", "high")}


# --- tables ---


def _split_text(split: str, scores: dict, format_table: Callable[[list[list[str]]], str], heading: str = "") -> str:
    entry = scores["splits"][split]
    parts = [heading + _headline(split, entry)]
    if "reason" in entry:
        return "\n\n".join([*parts, f"Not scored: {entry['reason']}."])
    parts.append(format_table(_score_rows(entry)))
    if entry["differences"]:
        parts.append(format_table(_difference_rows(entry)))
    return "\n\n".join([*parts, "\n".join(_notes(entry, chosen_here=split == scores["threshold_split"]))])


def _headline(split: str, entry: dict) -> str:
    rate = f", {entry['positives'] / entry['residues']:.1%} positive" if entry["residues"] else ""
    return (
        f"{split}: {entry['residues']:,} labelled residues{rate}; "
        f"{entry['proteins']:,} proteins of {entry['complexes']:,} complexes"
    )


def _score_rows(entry: dict) -> list[list[str]]:
    header = ["", *(f"{metrics.title(metric)} [95 %]" for metric in _DIFFERENCE_METRICS), "threshold"]
    rows = [
        [
            display(name),
            *(interval_text(score[metric]) for metric in _DIFFERENCE_METRICS),
            f"{score['threshold']:.3g}",
        ]
        for name, score in entry["scores"].items()
    ]
    return [header, *rows]


def _difference_rows(entry: dict) -> list[list[str]]:
    header = ["difference", *(f"{metrics.title(metric)} [95 %]" for metric in _DIFFERENCE_METRICS), "AUC-PR > 0"]
    rows = [
        [
            f"{display(pair['first'])} - {display(pair['second'])}",
            *(interval_text(pair[metric], signed=True) for metric in _DIFFERENCE_METRICS),
            share_text(pair["auc_pr"].get("share_above_zero")),
        ]
        for pair in entry["differences"]
    ]
    return [header, *rows]


def _notes(entry: dict, chosen_here: bool) -> list[str]:
    notes = ["Intervals: bootstrap over complexes; AUC-PR > 0: share of the resamples in which the first is ahead."]
    sources = dict.fromkeys(score["threshold_source"] for score in entry["scores"].values())
    notes += [f"Threshold of MCC: {source}." for source in sources]
    if chosen_here:
        notes.append("MCC is too good here: the thresholds were chosen on this split.")
    if entry["complexes"] < FEW_COMPLEXES:
        notes.append(f"Only {entry['complexes']} complexes: the intervals are too narrow; read them with care.")
    if any(score["role"] == "control" for score in entry["scores"].values()):
        notes.append("A control is one draw of an arbitrary function: only several seeds together show chance.")
    if controls := entry.get("controls"):
        means = ", ".join(
            f"{metrics.title(metric)} {interval_text(controls[metric])} (chance {controls[metric]['chance']:.3f})"
            for metric in ("auc_pr", "roc_auc")
        )
        verdict = "at chance" if controls["at_chance"] else "NOT at chance: look for a leak"
        notes.append(f"Mean of {controls['count']} controls, interval over their seeds: {means}; {verdict}.")
    estimates = [score[metric] for score in entry["scores"].values() for metric in _DIFFERENCE_METRICS]
    reasons = dict.fromkeys(estimate["reason"] for estimate in estimates if "reason" in estimate)
    notes += [f"{reason[0].upper()}{reason[1:]}." for reason in reasons]
    undefined = max(
        (estimate["undefined_resamples"] for estimate in estimates if estimate["low"] is not None), default=0
    )
    if undefined:
        notes.append(f"{undefined} resamples hold one class only and are left out of the intervals.")
    if entry["repeated_keys"]:
        notes.append(f"{entry['repeated_keys']} residues share file, chain, number and insertion code with another.")
    return notes


def display(name: str) -> str:
    """A name for people."""
    return name.replace("_", " ")


def interval_text(estimate: dict, signed: bool = False) -> str:
    """`value [low, high]` of an estimate; "n/a" where it has none."""
    if estimate["value"] is None:
        return "n/a"
    sign = "+" if signed else ""
    text = f"{estimate['value']:{sign}.3f}"
    return text if estimate["low"] is None else f"{text} [{estimate['low']:{sign}.3f}, {estimate['high']:{sign}.3f}]"


def share_text(share: float | None) -> str:
    """A share in percent."""
    return "n/a" if share is None else f"{share:.1%}"


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells as aligned text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown_rows(rows: list[list[str]]) -> str:
    """Rows of cells, the header first, as a Markdown table."""
    header, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
