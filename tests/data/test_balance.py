"""Balanced sampling: every class is drawn as the exponent says, and labels without classes are refused."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.data.balance import balanced_weights
from bihf_jax.data.labels import Labels
from bihf_jax.data.pipeline import Host, training_batches
from bihf_jax.data.plan import GridShape
from tests.data.examples import random_example

NAMES = ("a", "b", "c")


class Made(list):
    """Examples as records."""

    def __init__(self, labels, values):
        self.labels = labels
        super().__init__(labelled(seed, value) for seed, value in enumerate(values))
        self.slots = np.array([example.num_slots for example in self])


def labelled(seed, value):
    example = random_example(seed, chain_lengths=(12,), id=f"p{seed}")
    return dataclasses.replace(
        example,
        label=np.zeros_like(example.label),
        label_mask=np.zeros_like(example.label_mask),
        protein_label=np.array(value, np.float32),
    )


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_classes_are_drawn_as_the_exponent_says(exponent):
    """A class of n proteins is drawn n^(1 - x) times as often as one of a single protein; unlabelled ones never."""
    values = [[0]] * 8 + [[1]] * 2 + [[2]] + [[]]
    weights = balanced_weights(Made(Labels("protein", "multiclass", NAMES), values), exponent)
    assert weights.mean() == pytest.approx(1)
    assert weights[-1] == 0
    of_class = np.array([weights[:8].sum(), weights[8:10].sum(), weights[10]])
    np.testing.assert_allclose(of_class / of_class[2], np.array([8, 2, 1]) ** (1 - exponent))


def test_the_rarest_of_several_classes_counts():
    """Multilabel: proteins without any class are a class of their own."""
    values = [[1, 0, 0]] * 3 + [[1, 1, 0]] + [[0, 0, 0]] * 2
    weights = balanced_weights(Made(Labels("protein", "multilabel", NAMES), values), 1.0)
    np.testing.assert_allclose(weights / weights[3], [1 / 4] * 3 + [1] + [1 / 2] * 2)


def test_batches_hold_what_is_drawn():
    """Over the steps of many epochs the rare class comes as often as the frequent one."""
    records = Made(Labels("protein", "multiclass", NAMES), [[0]] * 15 + [[1]] * 3)
    shape = GridShape({64: 2}, graphs_per_row=4, neighbours=4)
    weights = balanced_weights(records, 1.0)
    batches = training_batches(*(records, shape, Host(0, 1, 1)), seed=0, first_step=0, last_step=60, weights=weights)
    labels = np.concatenate(
        [np.asarray(batch.protein_label)[np.asarray(batch.protein_label_mask)] for batch in batches]
    )
    assert np.mean(labels == 1) == pytest.approx(0.5, abs=0.05)


def test_labels_that_have_no_classes_are_refused():
    with pytest.raises(ValueError, match="needs classes of proteins; the labels are residue binary: set it to 0"):
        balanced_weights(Made(Labels(), [[]]), 1.0)
    with pytest.raises(ValueError, match="the labels are protein regression"):
        balanced_weights(Made(Labels("protein", "regression", ("x",)), [[1]]), 1.0)
    with pytest.raises(ValueError, match="no training protein has one"):
        balanced_weights(Made(Labels("protein", "multiclass", NAMES), [[]]), 1.0)
