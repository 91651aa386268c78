"""Metrics against scikit-learn, hand-worked cases, and the properties of the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from bihf_jax.tasks import metrics


def random_residues(seed, n=300, levels=40, groups=9):
    """Labels, scores with many ties, weights and groups; every group has both classes."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.2).astype(np.float32)
    scores = (np.round(levels * (generator.random(n) + 0.3 * labels)) / levels).astype(np.float32)
    weights = generator.uniform(0.2, 3, n).astype(np.float32)
    return labels, scores, weights, np.arange(n) % groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_values_equal_scikit_learn(seed, weighted):
    """AUC-PR, ROC-AUC and MCC equal scikit-learn's, with ties, with and without weights."""
    labels, scores, weights, _ = random_residues(seed)
    weights = weights if weighted else None
    result = metrics.residue_metrics(labels, scores, weights, threshold=0.5)
    called = scores >= 0.5
    expected = {
        "auc_pr": sklearn_metrics.average_precision_score(labels, scores, sample_weight=weights),
        "roc_auc": sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weights),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, called, sample_weight=weights),
        "positive_rate": np.average(labels, weights=weights),
    }
    assert result == pytest.approx(expected, abs=1e-6)


def test_hand_worked_case():
    """Scores 0.9+ 0.8- 0.7+ 0.6-: precision 1 at recall 1/2, 2/3 at recall 1; three of four pairs in order."""
    result = metrics.residue_metrics([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6], None, threshold=0.7)
    assert result["auc_pr"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert result["roc_auc"] == pytest.approx(3 / 4)
    assert result["mcc"] == pytest.approx((2 * 1 - 1 * 0) / np.sqrt(3 * 2 * 2 * 1))
    assert result["positive_rate"] == 0.5


def test_threshold_is_inclusive():
    """A residue whose score equals the threshold is called positive."""
    labels, scores = [1, 0], np.array([0.3, 0.2], np.float32)
    assert metrics.residue_metrics(labels, scores, None, threshold=float(scores[0]))["mcc"] == 1
    assert metrics.residue_metrics(labels, scores, None, threshold=float(np.nextafter(scores[0], 1)))["mcc"] == 0


@pytest.mark.parametrize("threshold", [-1.0, 2.0])
def test_calling_everything_the_same_is_a_guess(threshold):
    """MCC is exactly 0 where all or no residues are called positive, for any weights."""
    labels, scores, weights, _ = random_residues(0)
    assert metrics.residue_metrics(labels, scores, weights, threshold)["mcc"] == 0


def test_constant_scores_are_a_guess():
    """One score for all gives AUC-PR = positive rate, ROC-AUC = 1/2, MCC = 0."""
    labels, _, weights, _ = random_residues(1)
    result = metrics.residue_metrics(labels, np.full(labels.size, 0.3), weights, threshold=0.3)
    assert result["auc_pr"] == pytest.approx(result["positive_rate"])
    assert (result["roc_auc"], result["mcc"]) == (pytest.approx(0.5), 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=30))
def test_weights_are_repeat_counts(rows):
    """A weight c gives what repeating the residue c times gives, as scikit-learn sees the repeated rows."""
    labels, scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    repeated, values = np.repeat(labels, weights.astype(int)), np.repeat(scores, weights.astype(int))
    if not 0 < repeated.sum() < repeated.size:
        return
    result = metrics.residue_metrics(labels, scores, weights, threshold=3)
    assert result["auc_pr"] == pytest.approx(sklearn_metrics.average_precision_score(repeated, values))
    assert result["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(repeated, values))
    assert result["mcc"] == pytest.approx(sklearn_metrics.matthews_corrcoef(repeated, values >= 3))


def test_order_of_residues_does_not_matter():
    """Shuffling the residues changes no metric, no threshold and no resample."""
    arrays = random_residues(3)
    order = np.random.default_rng(0).permutation(arrays[0].size)
    shuffled = [array[order] for array in arrays]
    assert metrics.residue_metrics(*arrays[:3], 0.5) == pytest.approx(metrics.residue_metrics(*shuffled[:3], 0.5))
    assert metrics.choose_threshold(*arrays[:3]) == metrics.choose_threshold(*shuffled[:3])
    straight = metrics.bootstrap(*arrays, 0.5, num_resamples=20)
    for name, values in metrics.bootstrap(*shuffled, 0.5, num_resamples=20).items():
        np.testing.assert_allclose(values, straight[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(4))
def test_chosen_threshold_has_the_largest_mcc(seed):
    """No threshold of a fine grid has a larger MCC than the chosen one, which lies between two scores."""
    labels, scores, weights, _ = random_residues(seed)
    threshold = metrics.choose_threshold(labels, scores, weights)
    best = metrics.residue_metrics(labels, scores, weights, threshold)["mcc"]
    grid = np.linspace(scores.min() - 0.1, scores.max() + 0.1, 501)
    others = [sklearn_metrics.matthews_corrcoef(labels, scores >= value, sample_weight=weights) for value in grid]
    assert best == pytest.approx(max(others), abs=1e-6)
    assert threshold not in scores


def test_threshold_separates_neighbouring_float32_scores():
    """The midpoint of two adjacent float32 scores still calls the upper one only."""
    low = np.float32(0.1)
    scores = np.array([np.nextafter(low, np.float32(1)), low], np.float32)
    threshold = metrics.choose_threshold([1, 0], scores, None)
    assert metrics.residue_metrics([1, 0], scores, None, threshold)["mcc"] == 1


def test_roc_curve_has_the_area_of_roc_auc():
    """It starts at (0, 0), ends at (1, 1), and its trapezoids add up, ties and weights included."""
    generator = np.random.default_rng(4)
    labels, weights = generator.integers(0, 2, 80), generator.uniform(0, 2, 80)
    scores = np.round(generator.random(80) + 0.3 * labels, 1)
    false, true = metrics.roc_curve(labels, scores, weights)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)
    assert area == pytest.approx(metrics.residue_metrics(labels, scores, weights, 0.5)["roc_auc"])
    with pytest.raises(ValueError, match="a ROC curve needs positives and negatives: no negative among 80"):
        metrics.roc_curve(np.ones(80), scores, weights)


def test_precision_recall_curve_has_the_area_of_auc_pr():
    """The steps of the curve enclose the average precision, and recall ends at 1."""
    labels, scores, weights, _ = random_residues(5)
    precision, recall = metrics.precision_recall_curve(labels, scores, weights)
    area = np.sum(np.diff(recall, prepend=0) * precision)
    assert area == pytest.approx(metrics.residue_metrics(labels, scores, weights, 0.5)["auc_pr"])
    assert recall[-1] == pytest.approx(1)


def test_resample_equals_scikit_learn_on_the_repeated_residues():
    """Each bootstrap value is scikit-learn's on the residues of the drawn complexes, explicitly repeated."""
    labels, scores, weights, groups = random_residues(6)
    result = metrics.bootstrap(labels, scores, weights, groups, 0.5, num_resamples=10, seed=3)
    for i, counts in enumerate(metrics.resample_counts(9, 10, seed=3)):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in range(9) for _ in range(counts[g])])
        arguments = {"sample_weight": weights[rows]}
        expected = {
            "auc_pr": sklearn_metrics.average_precision_score(labels[rows], scores[rows], **arguments),
            "roc_auc": sklearn_metrics.roc_auc_score(labels[rows], scores[rows], **arguments),
            "mcc": sklearn_metrics.matthews_corrcoef(labels[rows], scores[rows] >= 0.5, **arguments),
            "positive_rate": np.average(labels[rows], weights=weights[rows]),
        }
        assert {name: values[i] for name, values in result.items()} == pytest.approx(expected, abs=1e-6)


def test_bootstrap_depends_on_the_seed_only():
    """The same seed gives the same values bit for bit, another seed other ones."""
    arrays = random_residues(7)
    first, again, other = (metrics.bootstrap(*arrays, 0.5, num_resamples=30, seed=s)["auc_pr"] for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_complexes_are_drawn_whole():
    """Copying every residue of a complex leaves the interval, though a bootstrap over residues would narrow it."""
    labels, scores, weights, groups = random_residues(8)
    once = metrics.bootstrap(labels, scores, weights, groups, 0.5, num_resamples=50)
    copied = metrics.bootstrap(*(np.repeat(a, 10) for a in (labels, scores, weights, groups)), 0.5, num_resamples=50)
    for name in metrics.METRICS:
        np.testing.assert_allclose(copied[name], once[name], atol=1e-9, err_msg=name)


def test_interval_covers_the_truth():
    """Over 120 data sets of 30 complexes that differ, about 95 % of the intervals hold the true positive rate."""
    covered = 0
    for seed in range(120):
        generator = np.random.default_rng(seed)
        rates = generator.beta(2, 8, 30)  # mean 0.2
        groups = np.repeat(np.arange(30), 50)
        labels = (generator.random(groups.size) < rates[groups]).astype(float)
        values = metrics.bootstrap(labels, generator.random(groups.size), None, groups, 0.5, num_resamples=200)
        result = metrics.estimate(labels.mean(), values["positive_rate"], 30)
        covered += result.low <= 0.2 <= result.high
    # Binomial(120, 0.95) lies in 106..120 nearly always; percentile intervals of 30 units cover a little less.
    assert 104 <= covered <= 119


def test_paired_difference_is_narrower_than_the_two_intervals():
    """Two models that share the difficulty of each complex differ by less than their own intervals suggest."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 60)
    labels = (generator.random(groups.size) < 0.2).astype(float)
    shared = generator.normal(0, 1, groups.size) + labels * generator.normal(1.5, 1.2, 30)[groups]
    better, worse = shared + 0.3 * labels, shared
    values = [metrics.residue_metrics(labels, s, None, 1)["auc_pr"] for s in (better, worse)]
    resampled = [metrics.bootstrap(labels, s, None, groups, 1, num_resamples=300)["auc_pr"] for s in (better, worse)]
    difference = metrics.paired_difference(*values, *resampled, 30)
    alone = [metrics.estimate(v, r, 30) for v, r in zip(values, resampled, strict=True)]
    assert difference.value == pytest.approx(values[0] - values[1])
    assert difference.high - difference.low < 0.5 * min(a.high - a.low for a in alone)
    assert difference.low > 0
    assert difference.share_above_zero == 1


def test_difference_of_a_model_with_itself_is_zero():
    """Identical scores differ by exactly 0 in every resample, and 0 is not above 0."""
    arrays = random_residues(9)
    value, resampled = 0.5, metrics.bootstrap(*arrays, 0.5, num_resamples=20)["auc_pr"]
    result = metrics.paired_difference(value, value, resampled, resampled, 9)
    assert (result.value, result.low, result.high, result.share_above_zero) == (0, 0, 0, 0)


@pytest.mark.parametrize(("labels", "reason"), [([0, 0, 0], "no positive"), ([1, 1, 1], "no negative")])
def test_one_class_is_none_with_a_reason(labels, reason):
    """With one class the three scores are None, the positive rate stays, and the reason names the missing class."""
    result = metrics.residue_metrics(labels, [0.1, 0.2, 0.3], None, 0.5)
    assert [result[name] for name in metrics.METRICS] == [None, None, None, labels[0]]
    assert reason in metrics.undefined_reason(np.array(labels))
    with pytest.raises(ValueError, match=reason):
        metrics.choose_threshold(labels, [0.1, 0.2, 0.3], None)


def test_resamples_of_one_class_are_counted():
    """Where only one complex of three has positives, many resamples have none, and no interval is given."""
    labels, groups = np.array([1, 0, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 2, 2])
    resampled = metrics.bootstrap(labels, np.arange(6), None, groups, 3)["auc_pr"]
    undefined = int(np.isnan(resampled).sum())
    assert undefined == pytest.approx(1000 * (2 / 3) ** 3, abs=60)
    result = metrics.estimate(0.5, resampled, 3)
    assert result.low is None
    assert result.undefined_resamples == undefined
    assert str(undefined) in result.reason


def test_one_complex_has_no_interval():
    """A single complex gives the value without an interval, and says why."""
    result = metrics.estimate(0.5, np.full(10, 0.5), 1)
    assert (result.value, result.low) == (0.5, None)
    assert "at least 2" in result.reason


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([], [], None, "at least one labelled residue"),
        ([0, 2], [0.1, 0.2], None, "neither 0 nor 1, first 2"),
        ([0, 1], [0.1, np.nan], None, "1 of 2 scores are not finite"),
        ([0, 1], [0.1, 0.2, 0.3], None, r"scores have shape \(3,\)"),
        ([0, 1], [0.1, 0.2], [1, -1], "weights are not finite and >= 0, first -1"),
        ([0, 1], [0.1, 0.2], [0, 0], "all weights are 0"),
    ],
)
def test_bad_input_is_refused(labels, scores, weights, message):
    """Empty, non-binary, non-finite, negative and mismatched input gives an error that names it."""
    with pytest.raises(ValueError, match=message):
        metrics.residue_metrics(labels, scores, weights, 0.5)
