"""How well scores rank the models of each target, and agree over all: with bootstrap intervals over targets.

All functions take flat arrays over models: `labels` [n] (what is right, such as GDT-TS; larger is better), `scores` [n]
(what was predicted, on the same scale for `rmse`) and `targets` [n] (whose model it is: strings or integers).

Models of one target are not independent, so the bootstrap draws **targets** with replacement, each with all of its
models. A correlation of a target is not defined where it has fewer than `min_models` models, or all its labels or all
its scores are equal. Such targets are no part of the mean of that correlation, and are reported with the reason.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from bihf_jax.tasks import metrics

CORRELATIONS: tuple[str, ...] = ("pearson", "spearman", "kendall")
# What `ranking_metrics` returns, in the order of tables: means over targets, then over all models at once.
METRICS: tuple[str, ...] = (
    *(f"mean_{name}" for name in (*CORRELATIONS, "top1_loss")),
    *(f"global_{name}" for name in (*CORRELATIONS, "rmse")),
)
# Two models correlate by 1 or -1 whatever the scores.
MIN_MODELS = 3
_FAULT = "hold nothing that can be ranked"


@dataclasses.dataclass(frozen=True)
class TargetRanking:
    """One target. What is not defined is None, and `reason` says why."""

    target: str
    num_models: int
    pearson: float | None
    spearman: float | None  # tied values have their mean rank
    kendall: float | None  # tau-b, which corrects for ties
    top1_loss: float | None  # label of the best model minus that of the model with the highest score; 0 is perfect
    num_picked: int  # models that share the highest score; where several do, the loss is the mean over them
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Ranking:
    """All targets, and the numbers over them.

    Attributes:
      targets: in the order of their names.
      metrics: `METRICS` with their intervals.
      undefined: reason -> number of targets without correlations for it.
      num_tied: targets for which several models share the highest score.
    """

    targets: tuple[TargetRanking, ...]
    metrics: dict[str, metrics.Estimate]
    undefined: dict[str, int]
    num_tied: int


def rank(
    labels: np.ndarray,
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    min_models: int = MIN_MODELS,
    num_resamples: int = metrics.DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """Every target, `METRICS` with intervals, and what is not defined, counted.

    Raises:
      ValueError: no models, arrays of different lengths, values that are not finite, or `min_models` below 2.
    """
    rankings = target_rankings(labels, scores, targets, min_models=min_models)
    values = ranking_metrics(labels, scores, targets, min_models=min_models)
    resampled = bootstrap(labels, scores, targets, min_models=min_models, num_resamples=num_resamples, seed=seed)
    return Ranking(
        targets=rankings,
        metrics={name: estimate(values[name], resampled[name], len(rankings)) for name in METRICS},
        undefined=dict(collections.Counter(ranking.reason for ranking in rankings if ranking.reason)),
        num_tied=sum(ranking.num_picked > 1 for ranking in rankings),
    )


def target_rankings(
    labels: np.ndarray, scores: np.ndarray, targets: np.ndarray, *, min_models: int = MIN_MODELS
) -> tuple[TargetRanking, ...]:
    """The correlations and the top-1 loss of each target, by name of the target; raises as `rank`."""
    models = _Models(labels, scores, targets, min_models)
    return tuple(
        _target_ranking(str(name), models.labels[rows], models.scores[rows], min_models)
        for name, rows in zip(models.names, models.rows, strict=True)
    )


def ranking_metrics(
    labels: np.ndarray, scores: np.ndarray, targets: np.ndarray, *, min_models: int = MIN_MODELS
) -> dict[str, float | None]:
    """`METRICS`; raises as `rank`.

    * mean_*: the mean over the targets for which it is defined, each target counting once;
    * global_*: over all models of all targets at once;
    * global_rmse: root mean square of score - label.
    """
    counts = np.ones((1, len(np.unique(targets))), dtype=np.int64)
    values = _over(_Models(labels, scores, targets, min_models), counts, min_models)
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()}


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    min_models: int = MIN_MODELS,
    num_resamples: int = metrics.DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """`METRICS` on resamples of whole targets: name -> float64 [num_resamples], NaN where not defined.

    A pure function of its arguments: two models that are scored on the same targets meet the same resamples, so that
    `paired_difference` can take them. Raises as `rank`.
    """
    models = _Models(labels, scores, targets, min_models)
    return _over(models, metrics.resample_counts(len(models.names), num_resamples, seed), min_models)


def estimate(value: float | None, resampled: np.ndarray, num_targets: int) -> metrics.Estimate:
    """`metrics.estimate`, in the words of targets."""
    return metrics.estimate(value, resampled, num_targets, group="target", fault=_FAULT)


def paired_difference(
    first: float | None,
    second: float | None,
    first_resampled: np.ndarray,
    second_resampled: np.ndarray,
    num_targets: int,
) -> metrics.Estimate:
    """`metrics.paired_difference`, in the words of targets."""
    return metrics.paired_difference(
        first, second, first_resampled, second_resampled, num_targets, group="target", fault=_FAULT
    )


class _Models:
    """Checked arrays, and the rows of each target.

    `labels`, `scores` [n] float64; `names` of the T targets, sorted; `rows`: T arrays of indices.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, targets: np.ndarray, min_models: int) -> None:
        if min_models < 2:
            raise ValueError(f"min_models is {min_models}; a correlation needs at least 2 models of a target")
        self.labels, self.scores = _checked("labels", labels), _checked("scores", scores)
        targets = np.asarray(targets)
        if not self.labels.shape == self.scores.shape == targets.shape:
            shapes = f"labels {self.labels.shape}, scores {self.scores.shape}, targets {targets.shape}"
            raise ValueError(f"shapes differ: {shapes}; give one of each for every model")
        self.names, index = np.unique(targets, return_inverse=True)
        order = np.argsort(index, kind="stable")
        self.rows = np.split(order, np.cumsum(np.bincount(index))[:-1])


def _checked(name: str, values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{name} have shape {values.shape}; expected [n] with at least one model")
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"{bad.sum()} of {values.size} {name} are not finite, first {values[bad][0]}; leave them out")
    return values


def _target_ranking(target: str, labels: np.ndarray, scores: np.ndarray, min_models: int) -> TargetRanking:
    picked = scores == scores.max()
    if len(labels) < min_models:
        correlations, loss, reason = dict.fromkeys(CORRELATIONS), None, f"fewer than {min_models} models"
    else:
        correlations, reason = _correlations(labels, scores), _why_constant(labels, scores)
        loss = float(labels.max() - labels[picked].mean())
    return TargetRanking(
        target, len(labels), **correlations, top1_loss=loss, num_picked=int(picked.sum()), reason=reason
    )


def _why_constant(labels: np.ndarray, scores: np.ndarray) -> str | None:
    for name, values in (("labels", labels), ("scores", scores)):
        if (values == values[0]).all():
            return f"all {name} equal"
    return None


def _correlations(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    if _why_constant(labels, scores):
        return dict.fromkeys(CORRELATIONS)
    from scipy import stats  # slow to import, and prediction does without

    return {
        "pearson": float(stats.pearsonr(labels, scores).statistic),
        "spearman": float(stats.spearmanr(labels, scores).statistic),
        "kendall": float(stats.kendalltau(labels, scores).statistic),
    }


def _over(models: _Models, counts: np.ndarray, min_models: int) -> dict[str, np.ndarray]:
    """`METRICS` [S] where each target counts as often as `counts` [S, T] says; NaN where not defined."""
    rankings = [_target_ranking("", models.labels[rows], models.scores[rows], min_models) for rows in models.rows]
    values = {}
    for name in (*CORRELATIONS, "top1_loss"):
        of_target = np.array([getattr(ranking, name) for ranking in rankings], dtype=np.float64)  # None is NaN
        times = counts @ ~np.isnan(of_target)
        sums = counts @ np.nan_to_num(of_target)
        values[f"mean_{name}"] = np.where(times > 0, sums / np.maximum(times, 1), np.nan)
    overall = [_global_metrics(models, drawn) for drawn in counts]
    for name in (*CORRELATIONS, "rmse"):
        values[f"global_{name}"] = np.array([numbers[name] for numbers in overall], dtype=np.float64)
    return values


def _global_metrics(models: _Models, drawn: np.ndarray) -> dict[str, float | None]:
    """Over all models, each target repeated as often as `drawn` [T] says."""
    rows = np.concatenate([np.tile(rows, times) for rows, times in zip(models.rows, drawn, strict=True)])
    labels, scores = models.labels[rows], models.scores[rows]
    return _correlations(labels, scores) | {"rmse": float(np.sqrt(np.mean((scores - labels) ** 2)))}
