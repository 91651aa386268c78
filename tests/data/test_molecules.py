"""Ligands by RDKit: the same chemistry from every format."""

import dataclasses
import re

import numpy as np
import pytest

from bihf_jax.data.molecules import BOND_TYPES, HYBRIDISATIONS, MoleculeError, read_molecule

pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")

# Acetate and benzonitrile, by name of the file -> atoms (element, x, y, z) with all hydrogens, in Å.
ACETATE = [
    *(
        ("C", 0.000, 0.000, 0.100),
        ("C", 1.520, 0.000, 0.000),
        ("O", 2.090, 1.120, -0.050),
        ("O", 2.090, -1.120, -0.050),
    ),
    *(("H", -0.400, 1.020, 0.100), ("H", -0.400, -0.520, -0.780), ("H", -0.340, -0.500, 1.010)),
]
ACETATE_SDF = """acetate
  made
  comment
  7  6  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1000 C   0  0
    1.5200    0.0000    0.0000 C   0  0
    2.0900    1.1200   -0.0500 O   0  0
    2.0900   -1.1200   -0.0500 O   0  5
   -0.4000    1.0200    0.1000 H   0  0
   -0.4000   -0.5200   -0.7800 H   0  0
   -0.3400   -0.5000    1.0100 H   0  0
  1  2  1  0
  2  3  2  0
  2  4  1  0
  1  5  1  0
  1  6  1  0
  1  7  1  0
M  CHG  1   4  -1
M  END
> <remark>
none

$$$$
"""
# Phenol with its hydrogens, in the form of PDBbind.
PHENOL_MOL2 = """@<TRIPOS>MOLECULE
1abc_ligand
 13 13 1 0 0
SMALL
GAST_CHRG

@<TRIPOS>ATOM
      1 C1         1.3900    0.0000    0.1000 C.ar    1 IPH         0.1000
      2 C2         0.6950    1.2038    0.1000 C.ar    1 IPH         0.0000
      3 C3        -0.6950    1.2038    0.1000 C.ar    1 IPH         0.0000
      4 C4        -1.3900    0.0000    0.1000 C.ar    1 IPH         0.0000
      5 C5        -0.6950   -1.2038    0.1000 C.ar    1 IPH         0.0000
      6 C6         0.6950   -1.2038    0.1000 C.ar    1 IPH         0.0000
      7 O1         2.7500    0.0000    0.1000 O.3     1 IPH        -0.1000
      8 H1         1.2400    2.1478    0.1000 H       1 IPH         0.0000
      9 H2        -1.2400    2.1478    0.1000 H       1 IPH         0.0000
     10 H3        -2.4800    0.0000    0.1000 H       1 IPH         0.0000
     11 H4        -1.2400   -2.1478    0.1000 H       1 IPH         0.0000
     12 H5         1.2400   -2.1478    0.1000 H       1 IPH         0.0000
     13 H6        3.0900    0.9000    0.1000 H       1 IPH         0.0000
@<TRIPOS>BOND
     1     1     2   ar
     2     2     3   ar
     3     3     4   ar
     4     4     5   ar
     5     5     6   ar
     6     6     1   ar
     7     1     7    1
     8     2     8    1
     9     3     9    1
    10     4    10    1
    11     5    11    1
    12     6    12    1
    13     7    13    1
@<TRIPOS>SUBSTRUCTURE
     1 IPH         1 TEMP              0 ****  ****    0 ROOT
"""


def names(molecule, field, of):
    return [of[value] for value in getattr(molecule, field)]


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def pdbqt_text(atoms, charges=None):
    charges = charges or [0.0] * len(atoms)
    types = {"O": "OA", "H": "H", "C": "C", "N": "N", "S": "S"}
    lines = [
        f"ATOM  {i:5d}  {e}{i:<2d} LIG A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00    {q:6.3f} {types[e]}"
        for i, ((e, x, y, z), q) in enumerate(zip(atoms, charges, strict=True), start=1)
    ]
    return "\n".join(["ROOT", *lines, "ENDROOT", "TORSDOF 0", ""])


def test_an_sdf_file(tmp_path):
    """Elements, charges, hybridisation, hydrogens and bonds of acetate; hydrogens are counted, not atoms."""
    molecule = read_molecule(write(tmp_path, "1abc_ligand.sdf", ACETATE_SDF))
    assert (molecule.name, molecule.source, molecule.remarks) == ("acetate", "1abc_ligand.sdf", ())
    assert molecule.elements.tolist() == [6, 6, 8, 8]
    assert molecule.charges.tolist() == [0, 0, 0, -1]
    assert names(molecule, "hybridisation", HYBRIDISATIONS) == ["sp3", "sp2", "sp2", "sp2"]
    assert molecule.num_hydrogens.tolist() == [3, 0, 0, 0]
    assert molecule.bonds.tolist() == [[0, 1], [1, 2], [1, 3]]
    assert names(molecule, "bond_types", BOND_TYPES) == ["single", "double", "single"]
    assert not molecule.aromatic.any()
    assert not molecule.in_ring.any()
    np.testing.assert_allclose(molecule.atom_positions, [atom[1:] for atom in ACETATE[:4]], atol=1e-6)


def test_a_mol2_file(tmp_path):
    """Aromaticity, rings, hydrogens and atom names of phenol."""
    molecule = read_molecule(write(tmp_path, "1abc_ligand.mol2", PHENOL_MOL2))
    assert molecule.name == "1abc_ligand"
    assert molecule.atom_names.tolist() == ["C1", "C2", "C3", "C4", "C5", "C6", "O1"]
    assert molecule.aromatic.tolist() == [True] * 6 + [False]
    assert molecule.in_ring.tolist() == [True] * 6 + [False]
    assert molecule.num_hydrogens.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert molecule.bonds.tolist() == [[0, 1], [0, 5], [0, 6], [1, 2], [2, 3], [3, 4], [4, 5]]
    assert names(molecule, "bond_types", BOND_TYPES) == ["aromatic"] * 2 + ["single"] + ["aromatic"] * 4
    assert set(names(molecule, "hybridisation", HYBRIDISATIONS)) == {"sp2"}


def test_a_pdbqt_file_gives_the_same_chemistry(tmp_path):
    """Acetate of a pdbqt, which has no bonds, is the acetate of the sdf."""
    pytest.importorskip("openbabel", reason="needs Open Babel: pip install 'bihf_jax[pdbqt]'")
    charges = [0.1, 0.2, -0.6, -0.7, 0.0, 0.0, 0.0]
    found = read_molecule(write(tmp_path, "a.pdbqt", pdbqt_text(ACETATE, charges)))
    expected = read_molecule(write(tmp_path, "a.sdf", ACETATE_SDF))
    assert found.remarks == ()
    assert sorted(found.charges.tolist()) == [-1, 0, 0, 0]
    assert sorted(names(found, "bond_types", BOND_TYPES)) == ["double", "single", "single"]
    for name in ("elements", "hybridisation", "num_hydrogens", "bonds", "aromatic", "in_ring", "atom_positions"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-3, err_msg=name)


def test_sulfonate_and_nitro_groups_of_a_pdbqt(tmp_path):
    """Methanesulfonate has two S=O and one negative oxygen; nitromethane N+ and O-, and no net charge."""
    pytest.importorskip("openbabel", reason="needs Open Babel: pip install 'bihf_jax[pdbqt]'")
    sulfonate = [
        *(("C", 0.0, 0.0, 0.0), ("S", 0.0, 0.0, 1.77), ("O", 1.37, 0.0, 2.26), ("O", -0.685, 1.187, 2.26)),
        *(("O", -0.685, -1.187, 2.26), ("H", 1.03, 0.0, -0.36), ("H", -0.51, 0.89, -0.36), ("H", -0.51, -0.89, -0.36)),
    ]
    molecule = read_molecule(write(tmp_path, "a.pdbqt", pdbqt_text(sulfonate)))
    assert sorted(names(molecule, "bond_types", BOND_TYPES)) == ["double", "double", "single", "single"]
    assert sorted(molecule.charges.tolist()) == [-1, 0, 0, 0, 0]
    nitro = [
        *(("C", 0.0, 0.0, 0.0), ("N", 0.0, 0.0, 1.49), ("O", 1.08, 0.0, 2.06), ("O", -1.08, 0.0, 2.06)),
        *(("H", 1.03, 0.0, -0.36), ("H", -0.51, 0.89, -0.36), ("H", -0.51, -0.89, -0.36)),
    ]
    molecule = read_molecule(write(tmp_path, "b.pdbqt", pdbqt_text(nitro)))
    assert molecule.remarks == ()
    assert sorted(molecule.charges.tolist()) == [-1, 0, 0, 1]


def test_charges_that_do_not_add_up_are_noted(tmp_path):
    """Partial charges of a neutral molecule under acetate's atoms leave a remark."""
    pytest.importorskip("openbabel", reason="needs Open Babel: pip install 'bihf_jax[pdbqt]'")
    molecule = read_molecule(write(tmp_path, "a.pdbqt", pdbqt_text(ACETATE)))
    assert molecule.remarks == ("charges that follow from the bonds add up to -1, partial charges to 0.00",)


def test_a_pdbqt_without_all_hydrogens_is_refused(tmp_path):
    """Without the methyl's hydrogens its bonds cannot be told; the message counts the carbons and says what to give."""
    pytest.importorskip("openbabel", reason="needs Open Babel: pip install 'bihf_jax[pdbqt]'")
    with pytest.raises(MoleculeError, match=r"1 carbons lack hydrogens .* the first is atom 1; .* as sdf or mol2"):
        read_molecule(write(tmp_path, "a.pdbqt", pdbqt_text(ACETATE[:4])))


def test_a_nitrogen_without_its_charge_is_mended(tmp_path):
    """Methylammonium written without a charge gets it, and a remark says so."""
    text = ACETATE_SDF.replace("  7  6", "  8  7").replace("M  CHG  1   4  -1\n", "")
    text = (
        text.replace("O   0  0\n", "H   0  0\n").replace("O   0  5\n", "H   0  0\n").replace("C   0  0", "N   0  0", 2)
    )
    text = text.replace("N   0  0", "C   0  0", 1).replace("  2  3  2  0", "  2  3  1  0")
    text = text.replace("H   0  0\n  1  2", "H   0  0\n    2.0000    0.5000    0.9000 H   0  0\n  1  2")
    text = text.replace("  1  7  1  0\n", "  1  7  1  0\n  2  8  1  0\n")
    molecule = read_molecule(write(tmp_path, "a.sdf", text))
    assert (molecule.elements.tolist(), molecule.charges.tolist()) == ([6, 7], [0, 1])
    assert molecule.num_hydrogens.tolist() == [3, 3]
    assert molecule.remarks == ("1 neutral nitrogens with four bonds: charged +1",)


def test_other_wrong_valences_are_left_and_noted(tmp_path):
    """A carbon of five bonds is kept as the file has it."""
    text = ACETATE_SDF.replace("  1  2  1  0", "  1  2  2  0")
    molecule = read_molecule(write(tmp_path, "a.sdf", text))
    assert names(molecule, "bond_types", BOND_TYPES) == ["double", "double", "single"]
    assert molecule.remarks == ("valences that RDKit does not allow are left as they are",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xyz", "1\n\nC 0 0 0\n", "unknown ending; known: .sdf, .mol2, .pdbqt"),
        ("a.sdf", ACETATE_SDF * 2, "2 molecules; one is expected"),
        ("a.sdf", "\n$$$$\n", "0 molecules"),
        ("a.sdf", "text\n\n\nthat is no molecule\n", "RDKit cannot parse it"),
        ("a.sdf", ACETATE_SDF.replace(" 0.1000 C", " 0.0000 C").replace("-0.0500 O", " 0.0000 O"), "no error"),
        ("a.mol2", re.sub(r"0\.1000 ([CHO])", r"0.0000 \1", PHENOL_MOL2), "a drawing"),
        ("a.mol2", re.sub(r".* H +1 IPH.*\n", "", PHENOL_MOL2), "no hydrogens in it"),
        ("a.mol2", PHENOL_MOL2.replace("     7     1     7    1", "     7     1     7   ar"), "no sense of its bonds"),
        ("a.mol2", "text", "0 molecules"),
    ],
)
def test_files_that_are_no_ligand_in_a_complex_are_refused(tmp_path, name, text, message):
    """The message names the file and what is wrong."""
    path = write(tmp_path, name, text)
    if message == "no error":  # some z of 0, as crystal coordinates may have
        assert read_molecule(path).num_atoms == 4
        return
    with pytest.raises(MoleculeError, match=f"{name}.*{message}"):
        read_molecule(path)


def test_arrays_are_checked(tmp_path):
    """A bond to an atom that is not there, and an array of another type."""
    molecule = read_molecule(write(tmp_path, "a.sdf", ACETATE_SDF))
    with pytest.raises(ValueError, match="bonds must be pairs i < j of the 4 atoms"):
        dataclasses.replace(molecule, bonds=np.array([[0, 1], [1, 2], [1, 4]]))
    with pytest.raises(ValueError, match=r"charges must be int8 of shape \(4,\), got int64"):
        dataclasses.replace(molecule, charges=np.zeros(4, dtype=np.int64))


@pytest.mark.shared_data
def test_real_sdf_ligands_are_read(shared_data):
    """All 21 ligands of the PDB's own sdf files, none mended; bonds are as long as bonds are."""
    paths = sorted((shared_data / "LBA" / "extra").glob("*.sdf.gz"))
    assert len(paths) == 21
    for path in paths:
        molecule = read_molecule(path)
        assert molecule.num_atoms > 5
        i, j = molecule.bonds.T
        lengths = np.linalg.norm(molecule.atom_positions[i] - molecule.atom_positions[j], axis=1)
        assert ((lengths > 1.0) & (lengths < 2.5)).all(), path.name


@pytest.mark.shared_data
def test_real_pdbqt_ligands_are_read(shared_data):
    """An eighth of the core set is read; charges add up to the file's for three quarters (of all 195: 162)."""
    pytest.importorskip("openbabel", reason="needs Open Babel: pip install 'bihf_jax[pdbqt]'")
    paths = sorted((shared_data / "LBA" / "core2013").glob("*_ligand.pdbqt.gz"))[::8]
    assert len(paths) >= 24
    remarks = [read_molecule(path).remarks for path in paths]
    assert sum(bool(remark) for remark in remarks) <= len(paths) / 4
