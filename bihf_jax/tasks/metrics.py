"""Metrics of a binary label per residue, with weights, and their bootstrap intervals over complexes.

All functions take flat arrays over labelled residues: `labels` [n] of 0 and 1, `scores` [n] (larger is more likely
positive), `weights` [n] >= 0 (None is 1 everywhere) and `groups` [n] (the complex of the residue: any integers).

Residues of one protein are not independent, and neither are the two partners of one complex. So the bootstrap draws
**complexes** with replacement, each with all of its residues; drawing residues would give intervals far too narrow.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

# What `residue_metrics` returns, in the order of tables.
METRICS: tuple[str, ...] = ("auc_pr", "roc_auc", "mcc", "positive_rate")
_TITLES = {"auc_pr": "AUC-PR", "roc_auc": "ROC-AUC", "mcc": "MCC", "f_max": "Fmax", "macro_f1": "macro F1"}
_TITLES |= {"level_1_accuracy": "EC level 1", "rmse": "RMSE", "mae": "MAE", "r2": "R²", "global_rmse": "global RMSE"}
INTERVAL_LEVEL = 0.95
DEFAULT_RESAMPLES = 1000
# A resample can hold one class only, and then has no AUC. Up to this share of such resamples is left out of the
# interval (and counted); with more, the interval would describe a selection and is not given.
MAX_UNDEFINED_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval. What could not be computed is None, and `reason` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    undefined_resamples: int = 0  # resamples left out of the interval because the number is not defined in them
    reason: str | None = None
    share_above_zero: float | None = None  # differences only: share of the resamples in which it is > 0


def title(metric: str) -> str:
    """Name of a metric for people."""
    return _TITLES.get(metric, metric.replace("_", " "))


def residue_metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None, threshold: float
) -> dict[str, float | None]:
    """Weighted `METRICS`; a residue is called positive where score >= threshold.

    * auc_pr: average precision, sum_k (R_k - R_{k-1}) P_k over the distinct scores (no interpolation), the value that
      ScanNet reports as AUC-PR;
    * roc_auc: tied scores count half;
    * mcc: Matthews correlation; 0 where every residue is called the same, as for a guess;
    * positive_rate: weighted share of positives, which is the AUC-PR of a guess.

    With labels of one class only, the first three are not defined and are None; `undefined_reason` says which class.

    Raises:
      ValueError: no labels, a label other than 0 and 1, a score that is not finite, a negative weight, or arrays of
        different lengths.
    """
    ranking = _Ranking(labels, scores, weights)
    return {name: _none_if_nan(value) for name, value in ranking.metrics(ranking.weights, threshold).items()}


def undefined_reason(labels: np.ndarray, weights: np.ndarray | None = None) -> str | None:
    """Why AUC-PR, ROC-AUC and MCC are not defined for these labels; None where they are."""
    labels = np.asarray(labels)
    counted = labels if weights is None else labels[np.asarray(weights) > 0]
    if not counted.size:
        return "no labelled residues"
    if not (counted > 0).any():
        return f"no positive among {counted.size} labelled residues"
    if (counted > 0).all():
        return f"no negative among {counted.size} labelled residues"
    return None


def choose_threshold(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> float:
    """The threshold with the largest MCC, halfway between two neighbouring scores; the highest one of equals.

    Choose it on the validation split, never on the split that is reported.

    Raises:
      ValueError: as `residue_metrics`, or labels of one class only.
    """
    ranking = _Ranking(labels, scores, weights)
    reason = undefined_reason(labels, weights)
    if reason:
        raise ValueError(f"no threshold can be chosen: {reason}; choose it on a split that has both classes")
    true_positive, false_positive = ranking.cumulative(ranking.weights)
    values = _mcc(true_positive, false_positive, true_positive[-1], false_positive[-1])
    distinct = ranking.scores[ranking.last]  # descending
    # Below the lowest score everything is positive: MCC 0, as good as the score itself.
    next_lower = np.append(distinct[1:], distinct[-1])
    best = int(np.argmax(values))
    return float((distinct[best] + next_lower[best]) / 2)


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(precision [T], recall [T]) at the T distinct scores, highest score first; recall ascends to 1.

    Raises:
      ValueError: as `residue_metrics`, or no positive label.
    """
    ranking = _Ranking(labels, scores, weights)
    true_positive, false_positive = ranking.cumulative(ranking.weights)
    if true_positive[-1] <= 0:
        raise ValueError(f"a precision-recall curve needs positives: {undefined_reason(labels, weights)}")
    called = true_positive + false_positive
    counted = called > 0  # residues of weight 0 ahead of all others have no precision
    return true_positive[counted] / called[counted], true_positive[counted] / true_positive[-1]


def roc_curve(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(false positive rate [T + 1], true positive rate [T + 1]): 0, then at the T distinct scores, highest first.

    Raises:
      ValueError: as `residue_metrics`, or labels of one class only.
    """
    ranking = _Ranking(labels, scores, weights)
    if reason := undefined_reason(labels, weights):
        raise ValueError(f"a ROC curve needs positives and negatives: {reason}")
    true_positive, false_positive = (np.append(0.0, counts) for counts in ranking.cumulative(ranking.weights))
    return false_positive / false_positive[-1], true_positive / true_positive[-1]


def resample_counts(num_groups: int, num_resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each complex is drawn: int64 [num_resamples, num_groups], every row sums to num_groups.

    A pure function of its arguments, so that models scored on the same split meet the same resamples (paired).
    """
    if num_groups < 1 or num_resamples < 1:
        raise ValueError(f"num_groups={num_groups} and num_resamples={num_resamples} must be at least 1")
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_resamples)


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None,
    groups: np.ndarray,
    threshold: float,
    *,
    num_resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """`METRICS` on resamples of whole complexes: name -> float64 [num_resamples], NaN where not defined.

    A complex drawn c times counts as c times its weight, which is the same as repeating its residues c times. So the
    residues are sorted once, and every resample is a sum over the sorted weights (n = 30,000, 1,000 resamples: 0.5 s).
    """
    ranking = _Ranking(labels, scores, weights)
    names, group = np.unique(_checked_shape("groups", groups, ranking.labels), return_inverse=True)
    group = group[ranking.order]
    values = {name: np.empty(num_resamples) for name in METRICS}
    for i, counts in enumerate(resample_counts(len(names), num_resamples, seed)):
        resampled = ranking.metrics(ranking.weights * counts[group], threshold)
        for name in METRICS:
            values[name][i] = resampled[name]
    return values


def estimate(
    value: float | None,
    resampled: np.ndarray,
    num_groups: int,
    *,
    group: str = "complex",
    fault: str = "hold one class only",
) -> Estimate:
    """`value` with the percentile interval (`INTERVAL_LEVEL`) of its resamples [n], NaN in those that have none.

    Args:
      value: of all the data; None where it is not defined.
      resampled: [n] the same of each resample.
      num_groups: what the resamples were drawn from.
      group: what one of these is called, for the reasons.
      fault: what labels do for which the number is not defined.
    """
    if value is None:
        return Estimate(None, reason=f"not defined: the labels {fault}")
    undefined = int(np.isnan(resampled).sum())
    if num_groups < 2:
        return Estimate(value, reason=f"no interval: one {group} cannot be resampled, at least 2 are needed")
    if undefined > MAX_UNDEFINED_SHARE * len(resampled):
        reason = f"no interval: {undefined} of {len(resampled)} resamples {fault}"
        return Estimate(value, undefined_resamples=undefined, reason=reason)
    tail = (1 - INTERVAL_LEVEL) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), undefined)


def paired_difference(
    first: float | None,
    second: float | None,
    first_resampled: np.ndarray,
    second_resampled: np.ndarray,
    num_groups: int,
    *,
    group: str = "complex",
    fault: str = "hold one class only",
) -> Estimate:
    """first - second of one metric, with the interval of the difference taken within each resample.

    Two models meet the same easy and hard complexes, so the difference is known far better than the two intervals
    side by side suggest. Both resampled arrays must come from `bootstrap` on the same residues with the same seed.
    `group` and `fault` are those of `estimate`.
    """
    if first is None or second is None:
        return estimate(None, np.empty(0), num_groups, group=group, fault=fault)
    difference = first_resampled - second_resampled
    result = estimate(first - second, difference, num_groups, group=group, fault=fault)
    if result.low is None:
        return result
    defined = difference[~np.isnan(difference)]
    return dataclasses.replace(result, share_above_zero=float((defined > 0).mean()))


class _Ranking:
    """Residues sorted once by descending score; every metric is then sums over sorted weights.

    `labels`, `scores`, `weights` [n] are float64 in sorted order, `order` [n] maps sorted -> given, and `last` [T] is
    the position of the last residue of every distinct score (tied residues are called together).
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> None:
        labels = np.asarray(labels, dtype=np.float64)
        if labels.ndim != 1 or not labels.size:
            raise ValueError(f"labels have shape {labels.shape}; expected [n] with at least one labelled residue")
        scores = _checked_shape("scores", scores, labels).astype(np.float64)
        weights = np.ones_like(labels) if weights is None else _checked_shape("weights", weights, labels)
        _check_values(labels, scores, weights)
        self.order = np.argsort(-scores, kind="stable")
        self.labels, self.scores = labels[self.order], scores[self.order]
        self.weights = weights.astype(np.float64)[self.order]
        self.last = np.append(np.flatnonzero(np.diff(self.scores)), labels.size - 1)

    def cumulative(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights [n] in sorted order -> true and false positives [T] when each distinct score is the threshold."""
        true_positive = np.cumsum(weights * self.labels)[self.last]
        false_positive = np.cumsum(weights * (1 - self.labels))[self.last]
        return true_positive, false_positive

    def metrics(self, weights: np.ndarray, threshold: float) -> Mapping[str, float]:
        """`METRICS` under weights [n] in sorted order; NaN where not defined."""
        true_positive, false_positive = self.cumulative(weights)
        positive, negative = true_positive[-1], false_positive[-1]
        total = positive + negative
        if positive <= 0 or negative <= 0:
            rate = positive / total if total > 0 else np.nan
            return {"auc_pr": np.nan, "roc_auc": np.nan, "mcc": np.nan, "positive_rate": float(rate)}
        called = np.searchsorted(-self.scores[self.last], -threshold, side="right")  # distinct scores >= threshold
        hits, false_alarms = (true_positive[called - 1], false_positive[called - 1]) if called else (0.0, 0.0)
        return {
            "auc_pr": _average_precision(true_positive, false_positive),
            "roc_auc": _roc_auc(true_positive, false_positive),
            "mcc": float(_mcc(hits, false_alarms, positive, negative)),
            "positive_rate": float(positive / total),
        }


def _average_precision(true_positive: np.ndarray, false_positive: np.ndarray) -> float:
    called = true_positive + false_positive
    precision = true_positive / np.where(called > 0, called, 1)
    return float(np.sum(np.diff(true_positive, prepend=0) * precision) / true_positive[-1])


def _roc_auc(true_positive: np.ndarray, false_positive: np.ndarray) -> float:
    """Area by trapezoids: a tie of positives and negatives is one sloping edge, so it counts half."""
    height = true_positive - np.diff(true_positive, prepend=0) / 2
    return float(np.sum(np.diff(false_positive, prepend=0) * height) / (true_positive[-1] * false_positive[-1]))


def _mcc(hits: np.ndarray, false_alarms: np.ndarray, positive: float, negative: float) -> np.ndarray:
    """Matthews correlation; 0 where all residues are called the same."""
    misses, rejections = positive - hits, negative - false_alarms
    product = (hits + false_alarms) * (misses + rejections)
    numerator = hits * rejections - false_alarms * misses
    # Sums of weights that should cancel leave a rounding error of either sign: no call on one side is exactly 0.
    one_sided = product <= 1e-12 * (positive + negative) ** 2
    return np.where(one_sided, 0.0, numerator / np.sqrt(np.where(one_sided, 1, product * positive * negative)))


def _checked_shape(name: str, values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != labels.shape:
        raise ValueError(
            f"{name} have shape {values.shape}, labels {labels.shape}; give one value per labelled residue"
        )
    return values


def _check_values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
    wrong = ~np.isin(labels, (0.0, 1.0))
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} labels are neither 0 nor 1, first {labels[wrong][0]}; leave unlabelled residues out"
        )
    if not np.isfinite(scores).all():
        bad = ~np.isfinite(scores)
        raise ValueError(
            f"{bad.sum()} of {scores.size} scores are not finite, first {scores[bad][0]}; every one must be"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = ~(np.isfinite(weights) & (weights >= 0))
        raise ValueError(f"{bad.sum()} of {weights.size} weights are not finite and >= 0, first {weights[bad][0]}")
    if not weights.sum() > 0:
        raise ValueError("all weights are 0; at least one residue must count")


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
