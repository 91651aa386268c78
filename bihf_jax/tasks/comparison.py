"""Methods side by side: several seeds of each on one split, and the paired difference to the best baseline.

The best baseline is picked on the validation split, so that the reported split decides nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bihf_jax.tasks import Task, make_task, metrics
from bihf_jax.tasks.labelled import Labelled
from bihf_jax.tasks.tables import Table, check_same_items


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
      seed: of the run.
      validation: selection metric of the task on the validation split.
      predictions: on the reported split.
      seconds: of training.
      parameters: of the model.
    """

    seed: int
    validation: float
    predictions: Table
    seconds: float
    parameters: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
      method: its name.
      values: selection metric of each seed, in the order of `seeds`.
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
    """Rows in the order of the methods, which of them the differences are to, and the metric that all is about."""

    rows: tuple[Row, ...]
    best_baseline: str
    metric: str


def compare(
    runs: Mapping[str, Sequence[Run]],
    baselines: Sequence[str],
    *,
    task: Task | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Methods side by side.

    A resample draws complexes once for all methods and seeds; a method's value in it is the mean over its seeds. So the
    interval of a difference holds the luck of the complexes; the luck of the seeds is `Row.spread`.

    Args:
      runs: method -> its runs, all on the same residues.
      baselines: methods that are not ours; the one with the best validation metric is compared with.
      task: of all runs, whose selection metric they are compared by; `ppbs` if None.
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
    _check_same_items(runs)
    task = task or make_task("ppbs")
    validation = {method: float(np.mean([run.validation for run in of])) for method, of in runs.items()}
    best = max(candidates, key=validation.__getitem__)
    num_groups = len(np.unique(next(iter(runs.values()))[0].predictions.labelled().groups))
    values = {method: [selection_value(task, run.predictions) for run in of] for method, of in runs.items()}
    means = {method: float(np.mean(of)) for method, of in values.items()}
    resampled = {
        method: np.mean([_resampled(task, run.predictions.labelled(), num_resamples, seed) for run in of], axis=0)
        for method, of in runs.items()
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
    return Comparison(rows, best, task.selection_metric)


def selection_value(task: Task, predictions: Table) -> float:
    """The selection metric of the task.

    Raises:
      ValueError: it is not defined for these labels.
    """
    labelled = predictions.labelled()
    value = task.metrics(labelled)[task.selection_metric] if len(labelled.labels) else None
    if value is None:
        raise ValueError(f"{metrics.title(task.selection_metric)} is not defined: {task.undefined_reason(labelled)}")
    return value


def markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table, with what its columns mean."""
    title = metrics.title(comparison.metric)
    header = ["method", "seeds", f"{title} [95 %]", "SD of seeds", f"minus {_display(comparison.best_baseline)} [95 %]"]
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
        "Intervals: bootstrap over groups (complexes, targets) of the mean over seeds; "
        f"ahead in: share of the resamples in which the method is ahead of {_display(comparison.best_baseline)}, the "
        f"baseline with the best validation {title}. Training min: mean wall time of a run's training steps."
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{notes}\n"


def as_dict(comparison: Comparison) -> dict:
    """The comparison as plain values, for JSON."""
    return dataclasses.asdict(comparison) | {
        "rows": [dataclasses.asdict(row) | {"spread": row.spread} for row in comparison.rows]
    }


def _check_same_items(runs: Mapping[str, Sequence[Run]]) -> None:
    every = [(f"{method} (seed {run.seed})", run) for method, of in runs.items() for run in of]
    first_name, first = every[0]
    for name, run in every[1:]:
        check_same_items(run.predictions, first.predictions, (name, first_name))


def _resampled(task: Task, labelled: Labelled, num_resamples: int, seed: int) -> np.ndarray:
    return task.bootstrap(labelled, num_resamples=num_resamples, seed=seed)[task.selection_metric]


def _display(name: str) -> str:
    return name.replace("_", " ")


def _interval(estimate: metrics.Estimate, sign: str = "") -> str:
    if estimate.value is None:
        return "n/a"
    text = f"{estimate.value:{sign}.3f}"
    return text if estimate.low is None else f"{text} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
