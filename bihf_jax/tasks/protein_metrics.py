"""Metrics of multiclass, multilabel and regression labels, and their bootstrap intervals over groups.

All functions take arrays over labelled items (proteins, or residues): `labels` and `scores` as `labelled.Labelled` has
them. A number that is not defined is None.
"""

from collections.abc import Callable

import numpy as np

from bihf_jax.tasks import metrics
from bihf_jax.tasks.labelled import Labelled

Metrics = Callable[[Labelled], dict[str, float | None]]

# Scores at which `f_max` calls classes positive, as DeepFRI and CAFA step them.
F_MAX_THRESHOLDS = np.arange(1, 100) / 100


def bootstrap(of: Metrics, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Metrics `of` on resamples of whole groups: name -> float64 [num_resamples], NaN where not defined.

    A pure function of its arguments, so that two models that are scored on the same items meet the same resamples.
    """
    names, group = np.unique(labelled.groups, return_inverse=True)
    rows = []
    for counts in metrics.resample_counts(len(names), num_resamples, seed):
        drawn = np.repeat(np.arange(len(group)), counts[group])
        rows.append(of(Labelled(*(array[drawn] for array in labelled))))
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


def multiclass_metrics(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float | None]:
    """Weighted metrics of the class with the highest score (the first of equals).

    * accuracy;
    * balanced_accuracy: mean over the classes that occur of the share that is called so;
    * macro_f1: mean over the classes that occur, or are called, of 2 hits / (labelled + called).

    Args:
      labels: [n] class indices.
      scores: [n, classes].
      weights: [n]; None is 1 everywhere.

    Raises:
      ValueError: no items, arrays of different lengths, scores that are not finite, or a label that is no class.
    """
    labels, scores = np.asarray(labels).astype(np.int64), np.asarray(scores, np.float64)
    _check(labels, scores)
    if scores.ndim != 2 or not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise ValueError(f"labels span {labels.min()} to {labels.max()}, scores have shape {scores.shape}")
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    called = scores.argmax(axis=1)
    hit = weights * (called == labels)
    size = scores.shape[1]
    labelled, claimed, hits = (
        np.bincount(*pair, minlength=size) for pair in ((labels, weights), (called, weights), (labels, hit))
    )
    if not weights.sum() > 0:
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"))
    there, either = labelled > 0, labelled + claimed > 0
    return {
        "accuracy": float(hit.sum() / weights.sum()),
        "balanced_accuracy": float((hits[there] / labelled[there]).mean()),
        "macro_f1": float((2 * hits[either] / (labelled + claimed)[either]).mean()),
    }


def coarse_accuracy(
    labels: np.ndarray, scores: np.ndarray, coarse: np.ndarray, weights: np.ndarray | None = None
) -> float | None:
    """Weighted share of items whose class with the highest score is of the same coarse class as the labelled one.

    Args:
      labels: [n] class indices.
      scores: [n, classes].
      coarse: [classes], the coarse class of each.
      weights: [n]; None is 1 everywhere.

    Returns:
      The share, never below the accuracy; None where all weights are 0.
    """
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    right = coarse[np.asarray(scores).argmax(axis=1)] == coarse[np.asarray(labels).astype(np.int64)]
    return float((weights * right).sum() / weights.sum()) if weights.sum() > 0 else None


def multilabel_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """`f_max` and the average precision over all pairs of protein and class (`auc_pr`, micro).

    Args:
      labels: [n, classes] of 0 and 1.
      scores: [n, classes] probabilities.

    Raises:
      ValueError: no items, other shapes, or scores that are not finite.
    """
    labels, scores = _as_table(labels), _as_table(scores)
    _check(labels, scores)
    once = np.ones((1, len(labels)))
    f_max = _f_max_of(*_precision_and_recall(labels, scores), once)[0]
    flat = metrics.residue_metrics(labels.ravel(), scores.ravel(), None, threshold=0.5)
    return {"f_max": None if np.isnan(f_max) else float(f_max), "auc_pr": flat["auc_pr"]}


def bootstrap_multilabel(labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """`multilabel_metrics` on resamples of whole groups, as `bootstrap`, but each protein is counted only once."""
    labels, scores = _as_table(labelled.labels), _as_table(labelled.scores)
    _check(labels, scores)
    names, group = np.unique(labelled.groups, return_inverse=True)
    counts = metrics.resample_counts(len(names), num_resamples, seed)[:, group]
    classes = labels.shape[1]
    auc_pr = metrics.bootstrap(
        labels.ravel(), scores.ravel(), None, np.repeat(group, classes), 0.5, num_resamples=num_resamples, seed=seed
    )["auc_pr"]
    return {"f_max": _f_max_of(*_precision_and_recall(labels, scores), counts), "auc_pr": auc_pr}


def _precision_and_recall(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each protein at each of `F_MAX_THRESHOLDS`, [n, T]: NaN where it has no call, or no class."""
    precision = np.full((len(labels), len(F_MAX_THRESHOLDS)), np.nan)
    recall = precision.copy()
    has = labels.sum(axis=1)
    for column, threshold in enumerate(F_MAX_THRESHOLDS):
        called = scores >= threshold
        hits, calls = (called * labels).sum(axis=1), called.sum(axis=1)
        np.divide(hits, calls, out=precision[:, column], where=calls > 0)
        np.divide(hits, has, out=recall[:, column], where=has > 0)
    return precision, recall


def _f_max_of(precision: np.ndarray, recall: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[S] protein-centric Fmax where each protein counts as often as `counts` [S, n] says.

    The largest harmonic mean of precision, averaged over the proteins with a call, and recall, averaged over the
    proteins with a class (Radivojac et al. 2013, equations 1 to 4); NaN where no protein has a class.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        number = counts @ ~np.isnan(values)
        return np.where(number > 0, (counts @ np.nan_to_num(values)) / np.maximum(number, 1e-300), np.nan)

    p, r = np.nan_to_num(mean(precision)), mean(recall)
    f = np.where(p + r > 0, 2 * p * r / np.where(p + r > 0, p + r, 1), 0.0)
    return np.where(np.isnan(r[:, 0]), np.nan, f.max(axis=1))


def regression_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """rmse, mae, pearson, spearman, kendall (tau-b) and r2 = 1 - squared error / variance; their means over several
    values. Sample weights do not enter: a rank has none.

    Correlations are None where labels or scores are constant, r2 where labels are.

    Raises:
      ValueError: no items, arrays of different shapes, or numbers that are not finite.
    """
    labels, scores = _as_table(labels), _as_table(scores)
    _check(labels, scores)
    rows = [_regression(*columns) for columns in zip(labels.T, scores.T, strict=True)]
    return {
        name: None if any(row[name] is None for row in rows) else float(np.mean([row[name] for row in rows]))
        for name in rows[0]
    }


def _regression(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    error = scores - labels
    constant = (labels == labels[0]).all()
    values: dict[str, float | None] = {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        **dict.fromkeys(("pearson", "spearman", "kendall")),
        "r2": r2(labels, scores),
    }
    if not constant and not (scores == scores[0]).all():
        from scipy import stats  # slow to import, and prediction does without

        values["pearson"] = float(stats.pearsonr(labels, scores).statistic)
        values["spearman"] = float(stats.spearmanr(labels, scores).statistic)
        values["kendall"] = float(stats.kendalltau(labels, scores).statistic)
    return values


def r2(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """1 - squared error / variance of the labels, [n] each; None where all labels are equal."""
    if (labels == labels[0]).all():
        return None
    return float(1 - np.mean((scores - labels) ** 2) / np.mean((labels - labels.mean()) ** 2))


def _as_table(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[:, None] if values.ndim == 1 else values


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    if not len(labels) or len(labels) != len(scores) or (labels.ndim == 2 and labels.shape != scores.shape):
        raise ValueError(f"labels have shape {labels.shape}, scores {scores.shape}; give one of each for every item")
    for name, values in (("labels", labels), ("scores", scores)):
        if not np.isfinite(values).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} {name} are not finite; every one must be")
