"""Metrics of classes and values: those of scikit-learn and SciPy, and of definitions written out in loops."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from bihf_jax.tasks import metrics, protein_metrics
from bihf_jax.tasks.labelled import Labelled


def labelled(seed, kind, items=60):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 9, items)
    weights = rng.uniform(0.2, 2, items)
    if kind == "multiclass":
        labels = rng.integers(0, 4, items)
        scores = rng.random((items, 6)) + np.eye(6)[labels] * 0.5
    elif kind == "multilabel":
        labels = (rng.random((items, 7)) < 0.3).astype(float)
        labels[3] = 0
        scores = np.clip(rng.random((items, 7)) * 0.7 + labels * 0.3, 0, 1)
        scores[5] = 0
    else:
        labels = rng.normal(size=items)
        scores = labels + rng.normal(size=items)
    return Labelled(labels, scores, weights, groups)


@pytest.mark.parametrize("seed", range(3))
def test_multiclass_metrics_are_those_of_scikit_learn(seed):
    """With weights; classes that do not occur (4, 5) count where they are called, in F1 only."""
    labels, scores, weights, _ = labelled(seed, "multiclass")
    called = scores.argmax(axis=1)
    ours = protein_metrics.multiclass_metrics(labels, scores, weights)
    assert ours["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, called, sample_weight=weights))
    recall = sklearn_metrics.recall_score(labels, called, labels=[0, 1, 2, 3], average="macro", sample_weight=weights)
    assert ours["balanced_accuracy"] == pytest.approx(recall)
    f1 = sklearn_metrics.f1_score(labels, called, average="macro", sample_weight=weights)
    assert ours["macro_f1"] == pytest.approx(f1)


def f_max_by_loops(labels, scores):
    """CAFA's definition, protein by protein."""
    best = 0.0
    for threshold in np.arange(1, 100) / 100:
        precisions, recalls = [], []
        for truth, score in zip(labels, scores, strict=True):
            called = {i for i, s in enumerate(score) if s >= threshold}
            has = {i for i, t in enumerate(truth) if t}
            if called:
                precisions.append(len(called & has) / len(called))
            if has:
                recalls.append(len(called & has) / len(has))
        precision, recall = np.mean(precisions or [0]), np.mean(recalls)
        if precision + recall > 0:
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


@pytest.mark.parametrize("seed", range(3))
def test_multilabel_metrics_are_those_of_their_definitions(seed):
    """Fmax by loops; AUC-PR is scikit-learn's micro average."""
    labels, scores, _, _ = labelled(seed, "multilabel")
    ours = protein_metrics.multilabel_metrics(labels, scores)
    assert ours["f_max"] == pytest.approx(f_max_by_loops(labels, scores))
    assert ours["auc_pr"] == pytest.approx(sklearn_metrics.average_precision_score(labels, scores, average="micro"))


def test_a_perfect_multilabel_score_is_one():
    labels, *_ = labelled(0, "multilabel")
    assert protein_metrics.multilabel_metrics(labels, labels) == {"f_max": 1.0, "auc_pr": 1.0}


@pytest.mark.parametrize("seed", range(3))
def test_regression_metrics_are_those_of_scipy_and_scikit_learn(seed):
    labels, scores, _, _ = labelled(seed, "regression")
    ours = protein_metrics.regression_metrics(labels, scores)
    assert ours["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(labels, scores))
    assert ours["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(labels, scores))
    assert ours["r2"] == pytest.approx(sklearn_metrics.r2_score(labels, scores))
    assert ours["pearson"] == pytest.approx(np.corrcoef(labels, scores)[0, 1])
    assert ours["spearman"] == pytest.approx(stats.spearmanr(labels, scores).statistic)
    assert ours["kendall"] == pytest.approx(stats.kendalltau(labels, scores).statistic)


def test_several_values_are_averaged_and_constants_have_no_correlation():
    """Two columns give the mean of each one's metrics; a constant score has R² 0 at the mean and no correlation."""
    first, second = labelled(0, "regression"), labelled(1, "regression")
    both = protein_metrics.regression_metrics(
        np.stack([first.labels, second.labels], 1), np.stack([first.scores, second.scores], 1)
    )
    singles = [protein_metrics.regression_metrics(x.labels, x.scores) for x in (first, second)]
    for name, value in both.items():
        assert value == pytest.approx(np.mean([single[name] for single in singles]))
    constant = protein_metrics.regression_metrics(first.labels, np.full(60, first.labels.mean()))
    assert constant["r2"] == pytest.approx(0)
    assert constant["pearson"] is None
    assert protein_metrics.regression_metrics(np.ones(4), np.arange(4.0))["r2"] is None


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_resamples_are_the_metrics_of_repeated_groups(kind):
    """Each resample equals the metrics of the items of the drawn groups, one by one."""
    data = labelled(4, kind)
    of = {
        "multiclass": lambda x: protein_metrics.multiclass_metrics(*x[:3]),
        "multilabel": lambda x: protein_metrics.multilabel_metrics(*x[:2]),
        "regression": lambda x: protein_metrics.regression_metrics(*x[:2]),
    }[kind]
    if kind == "multilabel":
        resampled = protein_metrics.bootstrap_multilabel(data, num_resamples=5, seed=1)
    else:
        resampled = protein_metrics.bootstrap(of, data, num_resamples=5, seed=1)
    names = np.unique(data.groups)
    for number, counts in enumerate(metrics.resample_counts(len(names), 5, 1)):
        drawn = [i for name, times in zip(names, counts, strict=True) for i in np.flatnonzero(data.groups == name)
                 for _ in range(times)]  # fmt: skip
        expected = of(Labelled(*(array[drawn] for array in data)))
        for name, value in expected.items():
            assert resampled[name][number] == pytest.approx(value)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (protein_metrics.multiclass_metrics, (np.array([0, 3]), np.zeros((2, 3))), "labels span 0 to 3"),
        (protein_metrics.regression_metrics, (np.zeros(2), np.array([0, np.nan])), "1 scores are not finite"),
        (protein_metrics.multilabel_metrics, (np.zeros((2, 3)), np.zeros((2, 2))), r"labels have shape \(2, 3\)"),
        (protein_metrics.regression_metrics, (np.zeros(0), np.zeros(0)), "give one of each for every item"),
    ],
)
def test_bad_input_is_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
