"""The trivial baselines, against scikit-learn's own pipeline and hand-worked counts."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bihf_jax.data import alphabet
from bihf_jax.tasks import baselines, metrics, predictions
from tests.tasks.synthetic import make_example


def scored(baseline, examples):
    return predictions.from_examples(examples, [baseline.score(example) for example in examples]).labelled()


def test_positive_rate_counts_weighted_labels():
    """The rate is the weighted share of positives among labelled slots, and every slot gets it."""
    examples = [make_example(0, weight=1.0), make_example(1, weight=3.0)]
    positives = [e.label[e.label_mask].sum() for e in examples]
    labelled = [e.label_mask.sum() for e in examples]
    expected = (positives[0] + 3 * positives[1]) / (labelled[0] + 3 * labelled[1])
    baseline = baselines.PositiveRate.fit(examples)
    assert baseline.rate == pytest.approx(expected)
    np.testing.assert_array_equal(baseline.score(examples[0]), np.full(42, np.float32(expected)))


def test_burial_counts_of_a_line_of_atoms():
    """Atoms every 4 Å on a line have two neighbours within 10 Å on each side, fewer at the ends, none where masked."""
    example = make_example(0, residues=7)
    backbone = np.zeros((9, 5, 3), np.float32)
    backbone[:, :, 0] = 4.0 * np.arange(9)[:, None]
    mask = np.zeros((9, 5), bool)
    mask[1:8] = True
    mask[4, 4] = False  # no CB in the middle
    counts = baselines.burial_counts(dataclasses.replace(example, backbone=backbone, backbone_mask=mask))
    nan = np.nan
    np.testing.assert_array_equal(counts[:, 0], [nan, 2, 3, 4, 4, 4, 3, 2, nan])
    np.testing.assert_array_equal(counts[:, 1], [nan, 2, 2, 3, nan, 3, 2, 2, nan])


def test_logistic_regression_equals_scikit_learn():
    """The stored coefficients give the probabilities of scikit-learn fitted on features made here one by one."""
    examples = [make_example(i, residues=60, weight=1.0 + i % 2) for i in range(12)]
    letters = [alphabet.TOKENS.index(letter) for letter in "ACDEFGHIKLMNPQRSTVWYX"]
    rows, labels, weights = [], [], []
    for example in examples:
        for slot in np.flatnonzero(example.label_mask):
            counts = []
            for atom in (1, 4):
                distance = np.linalg.norm(example.backbone[:, atom] - example.backbone[slot, atom], axis=1)
                counts.append(np.sum((distance <= 10) & example.backbone_mask[:, atom]) - 1)
            rows.append([*(example.tokens[slot] == letter for letter in letters), *counts])
            labels.append(example.label[slot])
            weights.append(example.weight)
    features = np.array(rows, float)
    features[:, 21:] = (features[:, 21:] - features[:, 21:].mean(0)) / features[:, 21:].std(0)
    reference = LogisticRegression(max_iter=1000, tol=1e-8).fit(features, labels, sample_weight=weights)
    baseline = baselines.ResidueTypeAndBurial.fit(examples)
    np.testing.assert_allclose(scored(baseline, examples).scores, reference.predict_proba(features)[:, 1], atol=2e-3)


def test_logistic_regression_learns_what_the_labels_depend_on():
    """On unseen proteins whose labels depend on type and burial it beats the positive rate."""
    train, test = (
        [make_example(i, residues=80) for i in range(40)],
        [make_example(i, residues=80) for i in range(90, 110)],
    )
    fitted = baselines.fit_baselines(train)
    labels, scores, weights, _ = scored(fitted["logistic_regression"], test)
    auc = metrics.residue_metrics(labels, scores, weights, 0.5)["roc_auc"]
    assert auc > 0.65
    labels, scores, weights, _ = scored(fitted["positive_rate"], test)
    assert metrics.residue_metrics(labels, scores, weights, 0.5)["roc_auc"] == pytest.approx(0.5)


def test_probabilities_are_calibrated_on_the_training_set():
    """The weighted mean of the probabilities is the weighted positive rate, as for any regression with an intercept."""
    train = [make_example(i, residues=80, weight=1.0 + i % 3) for i in range(20)]
    labels, scores, weights, _ = scored(baselines.ResidueTypeAndBurial.fit(train), train)
    assert np.average(scores, weights=weights) == pytest.approx(np.average(labels, weights=weights), abs=1e-3)


def test_a_residue_without_coordinates_takes_the_mean_burial():
    """Without any coordinates the score depends on the residue type only, and is finite."""
    baseline = baselines.ResidueTypeAndBurial.fit([make_example(i) for i in range(10)])
    example = make_example(50)
    bare = dataclasses.replace(example, backbone_mask=np.zeros_like(example.backbone_mask))
    scores = baseline.score(bare)
    assert np.isfinite(scores).all()
    for token in np.unique(bare.tokens):
        assert np.ptp(scores[bare.tokens == token]) < 1e-6


def test_fitting_without_usable_labels_is_refused():
    """No labels at all, and labels of one class, give an error that says so."""
    example = make_example(0)
    unlabelled = dataclasses.replace(example, label_mask=np.zeros_like(example.label_mask))
    negative = dataclasses.replace(example, label=np.zeros_like(example.label))
    with pytest.raises(ValueError, match="no label"):
        baselines.PositiveRate.fit([unlabelled])
    with pytest.raises(ValueError, match=r"classes \[\]"):
        baselines.ResidueTypeAndBurial.fit([unlabelled])
    with pytest.raises(ValueError, match=r"classes \[0\.0\]"):
        baselines.ResidueTypeAndBurial.fit([negative])
