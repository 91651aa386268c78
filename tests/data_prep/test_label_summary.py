"""The phrase about the labels of a split."""

import numpy as np
import pytest

from bihf_jax.data.featurise import make_example
from bihf_jax.data.labels import Labels
from bihf_jax.protein import Protein
from data_prep.label_summary import summarise
from tests.data_prep.structures import chain_lines

PROTEIN = Protein.from_text("\n".join([*chain_lines("MKWY"), "END", ""]))


def proteins(*labels):
    return [make_example(PROTEIN, id=str(number), group="g", protein_label=one) for number, one in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "values", "phrase"),
    [
        (Labels("protein", "regression", ("x",)), ([1.0], [3.0], ()), "mean 2, SD 1, from 1 to 3"),
        (Labels("protein", "binary", ("x",)), ([1.0], [0.0], [0.0], [0.0]), "25.0% positive"),
        (Labels("protein", "multiclass", ("a", "b", "c")), ([2.0], [2.0], [0.0]), "2 of 3 classes, the largest 66.7%"),
        (Labels("protein", "multilabel", ("a", "b", "c")), ([1, 0, 1], [0, 0, 1]), "2 of 3 classes, 1.50 a protein"),
        (Labels("protein", "regression", ("x",)), ((),), "no label"),
    ],
)
def test_labels_of_proteins(labels, values, phrase):
    """Each type has its phrase; proteins without a label do not count."""
    assert summarise(labels, proteins(*values)) == phrase


def test_labels_of_residues():
    """Masked residues do not count."""
    label, mask = np.array([1.0, 0.0, 1.0, 1.0]), np.array([True, True, False, False])
    example = make_example(PROTEIN, id="a", group="g", label=label, label_mask=mask)
    assert summarise(Labels(), [example]) == "50.0% positive"
    assert summarise(Labels("residue", "regression", ("x",)), [example]) == "mean 0.5, SD 0.5, from 0 to 1"
