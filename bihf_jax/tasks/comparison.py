"""Methods side by side: several seeds of each on one split, and the paired difference to the best baseline.

The best baseline is picked on the validation split, so that the reported split decides nothing. In a cross-validation
every seed has a run a fold, each scored on the items of its fold: a number is the mean over the folds.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bihf_jax.tasks import Task, make_task, metrics
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
      fold: of a cross-validation; "" where there is none.
    """

    seed: int
    validation: float
    predictions: Table
    seconds: float
    parameters: int
    fold: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
      method: its name.
      values: selection metric of each seed, in the order of `seeds`.
      seeds: of the runs.
      metrics: every metric of the task: mean over the seeds, with the bootstrap interval over complexes.
      interval: that of the selection metric.
      validation: mean of the selection metric on the validation split.
      difference: mean minus the best baseline's mean, paired by complex; None for the best baseline itself.
      seconds: of training, mean over the runs.
      parameters: of the model.
    """

    method: str
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    metrics: dict[str, metrics.Estimate]
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
    interval of a difference holds the luck of the complexes; the luck of the seeds is `Row.spread`. Folds are drawn
    from one by one, and averaged.

    Args:
      runs: method -> its runs, all on the same residues; in a cross-validation a run for each seed and fold.
      baselines: methods that are not ours; the one with the best validation metric is compared with.
      task: of all runs, whose selection metric they are compared by; `ppbs` if None.
      num_resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      ValueError: no runs of a method or of any baseline, a seed without a run of some fold, or runs on different
        residues.
    """
    if empty := [method for method, of_method in runs.items() if not of_method]:
        raise ValueError(f"no finished run of {', '.join(empty)}; finish or leave out these methods")
    candidates = [method for method in baselines if method in runs]
    if not candidates:
        raise ValueError(f"none of the baselines {', '.join(baselines)} is among the methods {', '.join(runs)}")
    _check_same_items(runs)
    task = task or make_task("ppbs")
    scored = {method: _Scored.of(task, of, num_resamples, seed) for method, of in runs.items()}
    validation = {method: float(np.mean([run.validation for run in of])) for method, of in runs.items()}
    best = max(candidates, key=validation.__getitem__)
    first = {run.fold: run for run in next(iter(runs.values()))}
    num_groups = sum(len(np.unique(run.predictions.labelled().groups)) for run in first.values())
    by = task.selection_metric

    def difference(method: str) -> metrics.Estimate | None:
        if method == best:
            return None
        one, other = scored[method], scored[best]
        pairs = (one.means[by], other.means[by], one.resampled[by], other.resampled[by])
        return metrics.paired_difference(*pairs, num_groups)

    rows = tuple(
        Row(
            method=method,
            values=tuple(values[by] for values in scored[method].by_seed.values()),
            seeds=tuple(scored[method].by_seed),
            metrics=(estimates := scored[method].estimates(num_groups)),
            interval=estimates[by],
            validation=validation[method],
            difference=difference(method),
            seconds=float(np.mean([run.seconds for run in of])),
            parameters=of[0].parameters,
        )
        for method, of in runs.items()
    )
    return Comparison(rows, best, by)


@dataclasses.dataclass(frozen=True)
class _Scored:
    """A method: its metrics by seed, means over the folds; None where one is not defined in some fold."""

    by_seed: dict[int, dict[str, float | None]]
    resampled: dict[str, np.ndarray]  # [num_resamples], means over seeds and folds

    @classmethod
    def of(cls, task: Task, runs: Sequence[Run], num_resamples: int, seed: int) -> "_Scored":
        of_seed: dict[int, list[dict[str, float | None]]] = {}
        resampled = []
        for run in sorted(runs, key=lambda run: run.fold):
            of_fold = of_seed.setdefault(run.seed, [])
            # Each fold is drawn from anew: equal draws would tie the folds to each other.
            draw_seed = seed + len(of_fold)
            resampled.append(task.bootstrap(run.predictions.labelled(), num_resamples=num_resamples, seed=draw_seed))
            of_fold.append(_metrics(task, run.predictions))
        by_seed = {run.seed: _means(of_seed[run.seed]) for run in runs}
        return cls(by_seed, {name: np.mean([of[name] for of in resampled], axis=0) for name in task.metric_names})

    @property
    def means(self) -> dict[str, float | None]:
        """Over the seeds."""
        return _means(list(self.by_seed.values()))

    def estimates(self, num_groups: int) -> dict[str, metrics.Estimate]:
        return {
            name: metrics.estimate(value, self.resampled[name], num_groups, group="group", fault="have no such number")
            for name, value in self.means.items()
        }


def _means(several: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Of each name; None where one is."""
    return {
        name: None if any(values[name] is None for values in several) else float(np.mean([v[name] for v in several]))
        for name in several[0]
    }


def selection_value(task: Task, predictions: Table) -> float:
    """The selection metric of the task.

    Raises:
      ValueError: it is not defined for these labels.
    """
    return _metrics(task, predictions)[task.selection_metric]


def _metrics(task: Task, predictions: Table) -> dict[str, float | None]:
    """As `Task.metrics`, which has the selection metric or else ValueError is raised."""
    labelled = predictions.labelled()
    values = task.metrics(labelled) if len(labelled.labels) else {}
    if values.get(task.selection_metric) is None:
        raise ValueError(f"{metrics.title(task.selection_metric)} is not defined: {task.undefined_reason(labelled)}")
    return values


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
        "Intervals: bootstrap over groups (complexes, targets) of the mean over seeds and folds; "
        f"ahead in: share of the resamples in which the method is ahead of {_display(comparison.best_baseline)}, the "
        f"baseline with the best validation {title}. Training min: mean wall time of a run's training steps."
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{notes}\n"


def metrics_markdown(comparison: Comparison) -> str:
    """Every metric of every method as a Markdown table."""
    names = list(comparison.rows[0].metrics)
    lines = [["method", *(f"{metrics.title(name)} [95 %]" for name in names)], ["---"] * (len(names) + 1)]
    lines += [[_display(row.method), *(_interval(row.metrics[name]) for name in names)] for row in comparison.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def as_dict(comparison: Comparison) -> dict:
    """The comparison as plain values, for JSON."""
    return dataclasses.asdict(comparison) | {
        "rows": [dataclasses.asdict(row) | {"spread": row.spread} for row in comparison.rows]
    }


def _check_same_items(runs: Mapping[str, Sequence[Run]]) -> None:
    """Every method and seed has one run of each fold, and in a fold all have the same items."""
    firsts: dict[str, tuple[str, Run]] = {}
    folds_of: dict[str, set[str]] = {}
    for method, of in runs.items():
        for run in of:
            name = f"{method} (seed {run.seed})"
            folds = folds_of.setdefault(name, set())
            if run.fold in folds:
                raise ValueError(f"{name} has two runs" + (f" of {run.fold}" if run.fold else ""))
            folds.add(run.fold)
            first_name, first = firsts.setdefault(run.fold, (name, run))
            check_same_items(run.predictions, first.predictions, (name, first_name))
    for name, folds in folds_of.items():
        if missing := firsts.keys() - folds:
            raise ValueError(f"{name} has no run of {', '.join(sorted(missing))}; finish it, or leave the seed out")


def _display(name: str) -> str:
    return name.replace("_", " ")


def _interval(estimate: metrics.Estimate, sign: str = "") -> str:
    if estimate.value is None:
        return "n/a"
    text = f"{estimate.value:{sign}.3f}"
    return text if estimate.low is None else f"{text} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"
