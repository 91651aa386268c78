"""`page_of`: the structure carries the scores, the residues are those of the protein, and nothing is lost silently."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.page import page_of
from bihf_jax.page.scene import read
from tests.page.made import small_protein, small_scores


def test_the_structure_carries_the_scores_in_the_b_factor_column():
    """As PDB, to two decimals; 0 where there is no score."""
    protein = small_protein()
    scores = small_scores(protein)
    page = page_of(protein, scores)
    assert (page.title, page.structure_format) == (protein.source, "PDB")
    written = read(page.structure, "PDB")
    b_factors = np.where(written.atom_mask, np.nan_to_num(scores)[:, None], 0)
    np.testing.assert_allclose(written.b_factors, b_factors, atol=0.0051)
    assert "1 residues have no score; the B-factor column of the structure has 0 for them." in page.notes
    np.testing.assert_array_equal([residue.score for residue in page.residues], scores)


def test_what_pdb_cannot_hold_is_mmcif_and_says_why():
    protein = dataclasses.replace(small_protein(), chain_ids=("A", "B-2"))
    scores = small_scores(protein)
    page = page_of(protein, scores)
    assert page.structure_format == "mmCIF"
    assert any("PDB cannot hold it" in note and "B-2" in note for note in page.notes)
    ca = read(page.structure, "mmCIF").b_factors[:, 1]
    resolved = protein.atom_mask[:, 1]
    np.testing.assert_array_equal(ca[resolved], np.nan_to_num(scores).astype(np.float32)[resolved])


def test_without_scores_the_structure_keeps_its_b_factors():
    protein = small_protein()
    page = page_of(protein, title="t", notes=["mine"])
    assert {residue.score is None or np.isnan(residue.score) for residue in page.residues} == {True}
    np.testing.assert_array_equal(read(page.structure, "PDB").b_factors, protein.b_factors)
    assert page.notes[0] == "mine"


def test_the_report_of_reading_is_in_the_notes():
    protein = small_protein()
    protein = dataclasses.replace(protein, report=dataclasses.replace(protein.report, water_atoms=7, file_atoms=150))
    notes = page_of(protein).notes
    assert "Reading the file: atoms in the file: 150, of which 7 are left out" in notes
    assert "Reading the file: water atoms: 7" in notes


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((18, 1)), 0.5])
def test_scores_of_another_shape_are_refused(scores):
    with pytest.raises(ValueError, match=r"scores have shape .*; they must have shape \(18,\)"):
        page_of(small_protein(), scores)


def test_infinite_scores_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        page_of(small_protein(), np.full(18, np.inf))
