"""Methods side by side: several seeds of each on one split, and the paired difference to the best baseline.

The best baseline is picked on the validation split, so that the reported split decides nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bihf_jax.tasks import metrics
from bihf_jax.tasks.predictions import Predictions

METRIC = "auc_pr"


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
      seed: of the run.
      validation: AUC-PR on the validation split.
      predictions: on the reported split.
      seconds: of training.
      parameters: of the model.
    """

    seed: int
    validation: float
    predictions: Predictions
    seconds: float
    parameters: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
      method: its name.
      values: AUC-PR of each seed, in the order of `seeds`.
      seeds: of the runs.
      interval: mean over the seeds, with the bootstrap interval over complexes.
      validation: mean AUC-PR on the validation split.
      difference: mean minus the best baseline's mean, paired by complex; None for the best baseline itself.
      seconds: of training, mean over the seeds.
      parameters: of the model.
    """

    method: str
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    interval: metrics.Estimate
    validation: float
    difference: metrics.Estimate | None
    seconds: float
    parameters: int

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows in the order of the methods, and which of them the differences are to."""

    rows: tuple[Row, ...]
    best_baseline: str
    positive_rate: float


def compare(
    runs: Mapping[str, Sequence[Run]], baselines: Sequence[str], *, num_resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Methods side by side.

    A resample draws complexes once for all methods and seeds; a method's value in it is the mean over its seeds. So the
    interval of a difference holds the luck of the complexes; the luck of the seeds is `Row.spread`.

    Args:
      runs: method -> its runs, all on the same residues.
      baselines: methods that are not ours; the one with the best validation AUC-PR is compared with.
      num_resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      ValueError: no runs of a method or of any baseline, or runs on different residues.
    """
    if empty := [method for method, of_method in runs.items() if not of_method]:
        raise ValueError(f"no finished run of {', '.join(empty)}; finish or leave out these methods")
    candidates = [method for method in baselines if method in runs]
    if not candidates:
        raise ValueError(f"none of the baselines {', '.join(baselines)} is among the methods {', '.join(runs)}")
    _check_same_residues(runs)
    validation = {method: float(np.mean([run.validation for run in of])) for method, of in runs.items()}
    best = max(candidates, key=validation.__getitem__)
    labels, _, weights, groups = next(iter(runs.values()))[0].predictions.labelled()
    num_groups = len(np.unique(groups))
    values = {method: [auc_pr(run.predictions) for run in of] for method, of in runs.items()}
    means = {method: float(np.mean(of)) for method, of in values.items()}
    resampled = {
        method: np.mean([_resampled(run, num_resamples, seed) for run in of], axis=0) for method, of in runs.items()
    }
    rows = tuple(
        Row(
            method=method,
            values=tuple(values[method]),
            seeds=tuple(run.seed for run in of),
            interval=metrics.estimate(means[method], resampled[method], num_groups),
            validation=validation[method],
            difference=None
            if method == best
            else metrics.paired_difference(means[method], means[best], resampled[method], resampled[best], num_groups),
            seconds=float(np.mean([run.seconds for run in of])),
            parameters=of[0].parameters,
        )
        for method, of in runs.items()
    )
    return Comparison(rows, best, float(np.average(labels, weights=weights)))


def auc_pr(predictions: Predictions) -> float:
    """Weighted average precision.

    Raises:
      ValueError: labels of one class only.
    """
    labels, scores, weights, _ = predictions.labelled()
    value = metrics.residue_metrics(labels, scores, weights, threshold=0.5)[METRIC]
    if value is None:
        raise ValueError(f"AUC-PR is not defined: {metrics.undefined_reason(labels, weights)}")
    return value


def markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table, with what its columns mean."""
    header = ["method", "seeds", "AUC-PR [95 %]", "SD of seeds", f"minus {_display(comparison.best_baseline)} [95 %]"]
    header += ["ahead in", "validation", "training min", "parameters"]
    lines = [header, ["---"] * len(header)]
    for row in comparison.rows:
        difference = row.difference
        lines.append(
            [
                _display(row.method),
                str(len(row.seeds)),
                _interval(row.interval),
                "" if row.spread is None else f"{row.spread:.3f}",
                "best baseline" if difference is None else _interval(difference, sign="+"),
                ""
                if difference is None or difference.share_above_zero is None
                else f"{difference.share_above_zero:.1%}",
                f"{row.validation:.3f}",
                f"{row.seconds / 60:.1f}" if row.seconds else "",
                f"{row.parameters:,}" if row.parameters else "",
            ]
        )
    notes = (
        f"Positive rate {comparison.positive_rate:.3f}. Intervals: bootstrap over complexes of the mean over seeds; "
        f"ahead in: share of the resamples in which the method is ahead of {_display(comparison.best_baseline)}, the "
        "baseline with the best validation AUC-PR. Training min: mean wall time of a run's training steps."
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{notes}\n"


def as_dict(comparison: Comparison) -> dict:
    """The comparison as plain values, for JSON."""
    return dataclasses.asdict(comparison) | {
        "rows": [dataclasses.asdict(row) | {"spread": row.spread} for row in comparison.rows]
    }


def _check_same_residues(runs: Mapping[str, Sequence[Run]]) -> None:
    every = [(method, run) for method, of in runs.items() for run in of]
    first_method, first = every[0]
    for method, run in every[1:]:
        for field in ("record", "residue_number", "label", "label_mask", "weight"):
            if not np.array_equal(getattr(run.predictions, field), getattr(first.predictions, field)):
                raise ValueError(
                    f"{method} (seed {run.seed}) and {first_method} (seed {first.seed}) were scored on different "
                    f"residues: they differ in {field!r}; use one record set for all"
                )


def _resampled(run: Run, num_resamples: int, seed: int) -> np.ndarray:
    labels, scores, weights, groups = run.predictions.labelled()
    return metrics.bootstrap(labels, scores, weights, groups, 0.5, num_resamples=num_resamples, seed=seed)[METRIC]


def _display(name: str) -> str:
    return name.replace("_", " ")


def _interval(estimate: metrics.Estimate, sign: str = "") -> str:
    if estimate.value is None:
        return "n/a"
    text = f"{estimate.value:{sign}.3f}"
    return text if estimate.low is None else f"{text} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
