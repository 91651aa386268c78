"""The scene: every atom at its place, every place with its residue of the page, and no text of the file."""

import dataclasses

import gemmi
import numpy as np
import pytest

from bihf_jax.page.scene import read, scene_of
from bihf_jax.protein import StructureError, residue_constants
from tests.page.made import HOSTILE_NAME, protein_of, small_protein
from tests.protein.synthetic import chain_of, pdb_text


def _rows(protein) -> list[tuple[str, int, str, str]]:
    """The residues of the protein, as the page names them."""
    letters = [residue_constants.RESIDUE_TYPES[index] for index in protein.residue_type]
    chains = [protein.chain_ids[index] for index in protein.chain_index]
    codes = [code.strip() for code in protein.insertion_code]
    return list(zip(chains, protein.residue_number.tolist(), codes, letters, strict=True))


def _atoms(text: str) -> gemmi.cif.Table:
    """(place, atom name, x, y, z) of each atom of the scene, read by gemmi."""
    block = gemmi.cif.read_string(text).sole_block()
    return block.find("_atom_site.", ["auth_seq_id", "auth_atom_id", "Cartn_x", "Cartn_y", "Cartn_z"])


@pytest.mark.parametrize("file_format", ["PDB", "mmCIF"])
def test_atoms_and_residues_are_those_of_the_protein(file_format):
    """Insertion codes, negative numbers and unresolved residues included; the zinc has the place after them."""
    protein = small_protein()
    text = protein.to_pdb() if file_format == "PDB" else protein.to_mmcif()
    scene = scene_of(read(text, file_format), _rows(protein))
    assert scene.row_of_place == [*range(protein.num_residues), -1]
    assert scene.labels == {protein.num_residues: "ZN 201, chain A (ion)"}
    assert scene.resolved == protein.atom_mask.any(axis=1).tolist()
    assert scene.num_unlisted == 0
    places, atoms = protein.atom_mask.nonzero()
    found = [tuple(row) for row in _atoms(scene.text)]
    names = [(str(place), residue_constants.ATOM_NAMES[atom]) for place, atom in zip(places, atoms, strict=True)]
    assert [row[:2] for row in found] == [*names, (str(protein.num_residues), "Zn")]
    positions = np.array([row[2:] for row in found], dtype=float)
    np.testing.assert_allclose(positions[:-1], protein.atom_positions[protein.atom_mask], atol=6e-4)


def test_a_subset_of_the_residues_in_any_order_finds_its_places():
    """The page may show one partner of a complex: the others are drawn, named and counted."""
    protein = small_protein()
    rows = [row for row in reversed(_rows(protein)) if row[0] == "B"]
    scene = scene_of(read(protein.to_mmcif(), "mmCIF"), rows)
    assert scene.row_of_place == [-1] * 10 + list(reversed(range(8))) + [-1]
    assert scene.labels[3] == "GLU 3A, chain A"
    assert scene.num_unlisted == 10
    assert scene.resolved == [True, True, True, False, False, True, True, True]


def test_residues_of_one_number_are_told_apart_by_their_order():
    """Author numbering allows it; the page has them in the order of the structure."""
    atoms = chain_of("ACDE", "A", seed=1)
    for atom in atoms:
        atom.number = {3: 7, 4: 2}.get(atom.number, atom.number)
    protein = protein_of(pdb_text(atoms))
    assert [row[1] for row in _rows(protein)] == [1, 2, 7, 2]
    assert scene_of(read(protein.to_mmcif(), "mmCIF"), _rows(protein)).row_of_place == [0, 1, 2, 3]


def test_no_text_of_the_file_reaches_the_scene():
    """Chain ids and compound names become places and labels."""
    protein = small_protein()
    ligands = dataclasses.replace(
        protein.ligands,
        names=np.array([HOSTILE_NAME]),
        chain_ids=np.array([HOSTILE_NAME]),
        atom_names=np.array(["<b>"]),
    )
    protein = dataclasses.replace(protein, chain_ids=(HOSTILE_NAME, "B"), ligands=ligands)
    scene = scene_of(read(protein.to_mmcif(), "mmCIF"), _rows(protein))
    assert "<" not in scene.text
    assert "img" not in scene.text
    assert scene.row_of_place[:-1] == list(range(protein.num_residues))
    assert scene.labels == {protein.num_residues: f"{HOSTILE_NAME} 201, chain {HOSTILE_NAME} (ion)"}


def test_a_residue_of_another_type_is_refused():
    """Shifted numbering would colour the wrong residues."""
    protein = small_protein()
    rows = [(chain, number + 1, code, letter) for chain, number, code, letter in _rows(protein)]
    with pytest.raises(ValueError, match="residue 2 of chain 'A' is A on the page but C in the structure"):
        scene_of(read(protein.to_pdb(), "PDB"), rows)


def test_residues_of_another_structure_are_refused():
    protein = small_protein()
    rows = [("X", number, code, letter) for _, number, code, letter in _rows(protein)]
    with pytest.raises(ValueError, match=r"none of the 18 residues of the page is in the structure.*'A', 'B'"):
        scene_of(read(protein.to_pdb(), "PDB"), rows)


@pytest.mark.parametrize(
    ("text", "file_format", "message"),
    [
        ("", "PDB", "no coordinate record"),
        ("no structure", "mmCIF", "damaged"),
        ("x", "XYZ", "unknown structure format 'XYZ'"),
    ],
)
def test_a_text_that_is_no_structure_is_refused(text, file_format, message):
    with pytest.raises(StructureError, match=message):
        read(text, file_format)
