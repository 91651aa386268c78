"""Ranking metrics against scipy and hand-worked cases; ties, constant targets and the bootstrap over targets."""

import numpy as np
import pytest
from scipy import stats

from bihf_jax.tasks import ranking

REFERENCE = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def random_models(seed, num_targets=8, noise=0.3):
    """Labels, scores with ties, and targets of 5 to 24 models, in mixed order."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([f"T{i:04d}" for i in range(num_targets)], rng.integers(5, 25, num_targets))
    rng.shuffle(targets)
    labels = rng.random(targets.size)
    scores = np.round(labels + noise * rng.normal(size=targets.size), 1)
    return labels, scores, targets


@pytest.mark.parametrize("seed", range(3))
def test_values_equal_scipy(seed):
    """Each target, the means and the values over all models are scipy's, whatever the order of the models."""
    labels, scores, targets = random_models(seed)
    found = {target.target: target for target in ranking.target_rankings(labels, scores, targets)}
    values = ranking.ranking_metrics(labels, scores, targets)
    for name, function in REFERENCE.items():
        expected = {t: function(labels[targets == t], scores[targets == t]).statistic for t in np.unique(targets)}
        assert {t: getattr(of_target, name) for t, of_target in found.items()} == pytest.approx(expected)
        assert values[f"mean_{name}"] == pytest.approx(np.mean(list(expected.values())))
        assert values[f"global_{name}"] == pytest.approx(function(labels, scores).statistic)
    assert values["global_rmse"] == pytest.approx(np.sqrt(np.mean((labels - scores) ** 2)))


def test_hand_worked_case():
    """Labels 0.2 0.4 0.9, scores 3 1 2: one of three pairs in order; the picked model is 0.7 below the best."""
    (target,) = ranking.target_rankings([0.2, 0.4, 0.9], [3, 1, 2], ["a", "a", "a"])
    assert target.kendall == pytest.approx(-1 / 3)
    assert target.spearman == pytest.approx(-0.5)
    assert target.pearson == pytest.approx(-0.2 / np.sqrt(0.26 * 2))
    assert (target.top1_loss, target.num_picked, target.num_models) == (pytest.approx(0.7), 1, 3)


def test_correlation_within_targets_and_over_all_can_disagree():
    """Two targets of opposite order within, but one far above the other: mean -1, over all positive."""
    labels = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    scores = np.array([0.3, 0.2, 0.1, 0.9, 0.8, 0.7])
    values = ranking.ranking_metrics(labels, scores, [1, 1, 1, 2, 2, 2])
    assert values["mean_pearson"] == pytest.approx(-1)
    assert values["global_pearson"] > 0.8
    assert values["mean_top1_loss"] == pytest.approx(0.2)


def test_each_target_counts_once():
    """The mean over targets does not depend on how many models a target has."""
    labels, scores, targets = random_models(3)
    again = np.concatenate([np.arange(labels.size), *[np.flatnonzero(targets == "T0002")] * 5])
    once, repeated = (
        ranking.ranking_metrics(labels[rows], scores[rows], targets[rows]) for rows in (np.arange(labels.size), again)
    )
    for name in ("mean_pearson", "mean_spearman", "mean_kendall", "mean_top1_loss"):
        assert repeated[name] == pytest.approx(once[name])
    assert repeated["global_pearson"] != pytest.approx(once["global_pearson"])


def test_a_tie_at_the_top_is_the_mean_over_the_tied():
    """Two models share the highest score: the loss is that of a pick at random, and the tie is counted."""
    result = ranking.rank([0.9, 0.5, 0.7, 0.1], [2, 5, 5, 1], ["a"] * 4, num_resamples=5)
    assert result.targets[0].top1_loss == pytest.approx(0.9 - 0.6)
    assert (result.targets[0].num_picked, result.num_tied) == (2, 1)


def test_targets_without_correlation_are_left_out_and_counted():
    """Constant labels, constant scores and too few models are no part of the mean, and are reported by reason."""
    labels = [0.1, 0.5, 0.9, 0.4, 0.4, 0.4, 0.1, 0.2, 0.3, 0.6, 0.8]
    scores = [1, 2, 3, 1, 2, 3, 7, 7, 7, 1, 2]
    targets = ["good"] * 3 + ["flat"] * 3 + ["dull"] * 3 + ["few"] * 2
    result = ranking.rank(labels, scores, targets, num_resamples=300)
    reasons = {target.target: target.reason for target in result.targets}
    expected = {"good": None, "flat": "all labels equal", "dull": "all scores equal", "few": "fewer than 3 models"}
    assert reasons == expected
    assert result.undefined == dict.fromkeys((expected[name] for name in ("flat", "dull", "few")), 1)
    assert result.metrics["mean_pearson"].value == pytest.approx(1)
    # The loss of a target with constant labels is 0, and of one with constant scores that of a pick at random.
    assert result.metrics["mean_top1_loss"].value == pytest.approx((0 + 0 + (0.3 - 0.2)) / 3)
    # 300 resamples draw 4 of 4 targets; "good" is in none of (3/4)^4 of them.
    estimate = result.metrics["mean_pearson"]
    assert estimate.low is None
    assert estimate.undefined_resamples == pytest.approx(300 * 0.75**4, abs=40)
    assert "of 300 resamples hold nothing that can be ranked" in estimate.reason
    assert ranking.target_rankings(labels, scores, targets, min_models=2)[1].pearson == pytest.approx(1)


def test_nothing_to_rank_is_none_with_a_reason():
    """One model a target, as in pairs of bound and unbound: no mean correlation, but one over all."""
    result = ranking.rank([0.1, 0.5, 0.9], [1, 2, 3], ["a", "b", "c"], num_resamples=20)
    assert result.metrics["mean_kendall"].value is None
    assert "nothing that can be ranked" in result.metrics["mean_kendall"].reason
    assert result.metrics["global_kendall"].value == pytest.approx(1)
    assert result.undefined == {"fewer than 3 models": 3}


def test_one_target_has_no_interval():
    """A single target cannot be resampled; the reason speaks of targets."""
    result = ranking.rank([0.1, 0.5, 0.9], [1, 3, 2], ["a"] * 3, num_resamples=5)
    assert result.metrics["mean_pearson"].low is None
    assert "one target cannot be resampled" in result.metrics["mean_pearson"].reason


def test_resample_equals_the_metrics_of_repeated_targets():
    """Each bootstrap value is that of the drawn targets, explicitly repeated under names of their own."""
    labels, scores, targets = random_models(5, num_targets=4)
    found = ranking.bootstrap(labels, scores, targets, num_resamples=6, seed=2)
    names = np.unique(targets)
    for i, counts in enumerate(ranking.metrics.resample_counts(4, 6, seed=2)):
        copies = [(name, copy) for name, count in zip(names, counts, strict=True) for copy in range(count)]
        rows = [np.flatnonzero(targets == name) for name, _ in copies]
        new = np.concatenate([np.full(len(r), f"{name}/{copy}") for r, (name, copy) in zip(rows, copies, strict=True)])
        rows = np.concatenate(rows)
        expected = ranking.ranking_metrics(labels[rows], scores[rows], new)
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected)


def test_better_scores_are_better_by_a_paired_interval():
    """Less noise on the same targets gives a mean correlation that is higher in every resample."""
    labels, scores, targets = random_models(6, num_targets=20, noise=0.6)
    better = labels + 0.2 * (scores - labels)
    values = [ranking.ranking_metrics(labels, s, targets)["mean_spearman"] for s in (better, scores)]
    resampled = [ranking.bootstrap(labels, s, targets, num_resamples=100)["mean_spearman"] for s in (better, scores)]
    difference = ranking.paired_difference(*values, *resampled, 20)
    assert difference.low > 0
    assert difference.share_above_zero == 1
    undefined = ranking.paired_difference(None, values[0], *resampled, 20)
    assert "nothing that can be ranked" in undefined.reason


@pytest.mark.parametrize(
    ("labels", "scores", "targets", "settings", "message"),
    [
        ([], [], [], {}, "at least one model"),
        ([0.1, np.nan], [1, 2], [1, 1], {}, "1 of 2 labels are not finite"),
        ([0.1, 0.2], [1, np.inf], [1, 1], {}, "1 of 2 scores are not finite, first inf"),
        ([0.1, 0.2], [1, 2], [1], {}, r"targets \(1,\)"),
        ([0.1, 0.2], [1, 2], [1, 1], {"min_models": 1}, "min_models is 1"),
    ],
)
def test_bad_input_is_refused(labels, scores, targets, settings, message):
    """Empty, non-finite and mismatched input gives an error that names it."""
    with pytest.raises(ValueError, match=message):
        ranking.rank(labels, scores, targets, **settings)
