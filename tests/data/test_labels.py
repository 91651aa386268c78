"""`Labels`: what a record set says about its labels, and the examples that contradict it."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.data.labels import Labels
from tests.data.examples import random_example

PROTEIN = {
    "binary": (Labels("protein", "binary", ("enzyme",)), [1]),
    "multiclass": (Labels("protein", "multiclass", ("a", "b", "c")), [2]),
    "multilabel": (Labels("protein", "multilabel", ("a", "b", "c")), [1, 0, 1]),
    "regression": (Labels("protein", "regression", ("GDT-TS", "lDDT")), [0.5, -3.25]),
}


def labelled(values):
    return dataclasses.replace(random_example(0, id="p1"), protein_label=np.array(values, np.float32))


def test_labels_survive_the_metadata_and_old_sets_are_binary_residues():
    """`of_metadata` is the inverse of `to_metadata`; metadata without labels (version 1) is residue binary."""
    for labels, _ in PROTEIN.values():
        assert Labels.of_metadata({"labels": labels.to_metadata()}) == labels
    assert Labels.of_metadata({"task": "ppbs"}) == Labels("residue", "binary", ("positive",))


@pytest.mark.parametrize("kind", PROTEIN)
def test_fitting_labels_pass_and_so_does_none(kind):
    """The label of each type, and a protein without one, are accepted; its length is `num_values`."""
    labels, values = PROTEIN[kind]
    assert labels.num_values == len(values)
    labels.check(labelled(values))
    labels.check(labelled([]))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("binary", [0.5], "p1: protein_label 0.5; binary labels must be a whole number from 0 to 1"),
        ("multiclass", [3], "protein_label 3.0; multiclass labels must be a whole number from 0 to 2"),
        ("multiclass", [0, 1], "has 2 numbers; multiclass labels with 3 names need 1, or none"),
        ("multilabel", [0, 1], "has 2 numbers; multilabel labels with 3 names need 3"),
        ("regression", [np.inf, 1], "protein_label inf; regression labels must be finite"),
    ],
)
def test_labels_of_another_type_are_named(kind, values, message):
    """The protein, the value and what is allowed are in the message."""
    with pytest.raises(ValueError, match=message):
        PROTEIN[kind][0].check(labelled(values))


def test_a_protein_label_in_a_set_of_residue_labels_is_refused():
    """Neither unit is silently ignored for the other; residue labels are checked only where they count."""
    with pytest.raises(ValueError, match="the labels of the set are of residues"):
        Labels().check(labelled([1]))
    example = labelled([])
    masked = dataclasses.replace(example, label=np.where(example.label_mask, example.label, 7).astype(np.float32))
    Labels().check(masked)
    with pytest.raises(ValueError, match=r"label 7\.0; binary labels must be"):
        Labels().check(dataclasses.replace(masked, label_mask=np.ones(example.num_slots, bool)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "chain"}, "unit is 'chain'; it must be one of residue, protein"),
        ({"type": "ordinal"}, "type is 'ordinal'; it must be one of binary, multiclass, multilabel, regression"),
        ({"type": "multiclass", "names": ["a"]}, "residue multiclass labels need at least 2 names, got 1"),
        ({"unit": "protein", "type": "multilabel", "names": ["a", "a"]}, "the name 'a' is there twice"),
        ({"type": "multilabel", "names": ["a", "b"]}, "write one record set a class"),
        ({"names": ["no", "yes"]}, "residue binary labels need 1 names, got 2"),
    ],
)
def test_labels_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Labels(**settings)
