"""PDBQT, AutoDock's format."""

import gemmi
import numpy as np
import pytest

from bihf_jax.data import pdbqt
from bihf_jax.data.text_file import FormatError
from bihf_jax.protein import Protein, StructureError
from tests.data_prep.structures import chain_lines

LIGAND = """REMARK  1 active torsions:
ROOT
ATOM      1  C1  LIG d           7.174  26.772   5.504  0.00  0.00     0.249 A
ATOM      2  O1  LIG d           7.624  27.887  -5.218  0.00  0.00    -0.271 OA
ENDROOT
BRANCH   1   3
ATOM      3  N1  LIG d           7.434  24.988   6.395  0.00  0.00    -0.163 NA
HETATM    4 CL1  LIG d           8.434  24.988   6.395  0.00  0.00     0.100 Cl
ATOM      5  H1  LIG d           9.434  24.988   6.395  0.00  0.00     0.085 HD
ENDBRANCH   1   3
TORSDOF 1
"""


def test_atoms_of_a_ligand(tmp_path):
    """Elements by AutoDock's types, names, positions and partial charges; the torsion tree is passed over."""
    (tmp_path / "a.pdbqt").write_text(LIGAND)
    atoms = pdbqt.read_atoms(tmp_path / "a.pdbqt")
    assert atoms.elements.tolist() == [6, 8, 7, 17, 1]
    assert atoms.atom_names.tolist() == ["C1", "O1", "N1", "CL1", "H1"]
    assert atoms.atom_positions[1].tolist() == pytest.approx([7.624, 27.887, -5.218])
    assert atoms.partial_charges.sum() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("A", "C"), ("HD", "H"), ("NA", "N"), ("OA", "O"), ("SA", "S"), ("CA", "Ca"), ("Ca", "Ca"), ("Zn", "Zn")],
)
def test_types_are_elements(name, symbol):
    """NA is an accepting nitrogen, not sodium; CA is calcium, not an alpha carbon."""
    assert pdbqt.element_of_type(name) == gemmi.Element(symbol).atomic_number
    assert pdbqt.element_of_type("Qq") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" NA\n", " Zz\n", "line 7: unknown atom type 'Zz' in columns 78-79"),
        ("-0.163", "charge", "line 7: could not convert string to float"),
        ("  -5.218", "     nan", "line 4: a number that is not finite"),
        ("ROOT\n", "MODEL 1\nROOT\nMODEL 2\n", "2 models; one is expected"),
    ],
)
def test_what_is_not_in_the_format_is_named(tmp_path, old, new, message):
    """The message has file, line and value."""
    (tmp_path / "a.pdbqt").write_text(LIGAND.replace(old, new, 1))
    with pytest.raises(FormatError, match=message):
        pdbqt.read_atoms(tmp_path / "a.pdbqt")


def test_a_receptor_is_the_protein_of_its_pdb_file(tmp_path):
    """Residues, numbers and coordinates are those of the same chain as PDB; hydrogens are counted."""
    lines = chain_lines("MKWYCDE", "A", first_number=-2)
    (tmp_path / "a.pdb").write_text("\n".join([*lines, "END", ""]))
    typed = [f"{line[:66]:<66}     0.000 {'OA' if line[13] == 'O' else line[13]}" for line in lines if line != "TER"]
    hydrogen = typed[0][:12] + " H  " + typed[0][16:30] + "   1.000   2.000   3.000" + typed[0][54:77] + "HD"
    (tmp_path / "a.pdbqt").write_text("\n".join(["REMARK", typed[0], hydrogen, *typed[1:], "TER", ""]))
    protein, expected = pdbqt.read_protein(tmp_path / "a.pdbqt"), Protein.from_file(tmp_path / "a.pdb")
    assert protein.sequence() == expected.sequence()
    np.testing.assert_array_equal(protein.residue_number, expected.residue_number)
    np.testing.assert_array_equal(protein.atom_mask, expected.atom_mask)
    np.testing.assert_array_equal(protein.atom_positions, expected.atom_positions)
    assert protein.report.hydrogen_atoms == 1


def test_a_ligand_is_no_protein(tmp_path):
    """A file without residues, and one without atoms, are errors."""
    (tmp_path / "a.pdbqt").write_text(LIGAND)
    with pytest.raises(StructureError, match=r"^a\.pdb: "):
        pdbqt.read_protein(tmp_path / "a.pdbqt")
    (tmp_path / "b.pdbqt").write_text("REMARK\n")
    with pytest.raises(FormatError, match="no ATOM or HETATM line"):
        pdbqt.read_protein(tmp_path / "b.pdbqt")


@pytest.mark.shared_data
def test_real_receptors_and_ligands_are_read(shared_data):
    """A sixteenth of the core set: every receptor has residues, every ligand atoms with charges that add up."""
    ligands = sorted((shared_data / "LBA" / "core2013").glob("*_ligand.pdbqt.gz"))[::16]
    assert len(ligands) >= 12
    for path in ligands:
        atoms = pdbqt.read_atoms(path)
        assert (atoms.elements > 1).sum() > 3
        assert abs(atoms.partial_charges.sum()) < 12
    for path in ligands[:4]:
        protein = pdbqt.read_protein(path.with_name(path.name.replace("_ligand", "_receptor")))
        protein.validate()
        assert protein.num_residues > 50
