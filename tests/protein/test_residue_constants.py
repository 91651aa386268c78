"""The tables of amino acids against Biopython's."""

from Bio.PDB.ic_data import ic_data_sidechains, residue_atom_bond_state

from bihf_jax.protein import residue_constants


def test_orders_are_those_of_alphafold():
    """The first atoms are N, CA, C, CB, O and the last is OXT; 37 different atoms, 21 residue types ending in X."""
    assert residue_constants.ATOM_NAMES[:5] == ("N", "CA", "C", "CB", "O")
    assert residue_constants.ATOM_NAMES[-1] == "OXT"
    assert len(set(residue_constants.ATOM_NAMES)) == 37
    assert "".join(residue_constants.RESIDUE_TYPES) == "ARNDCQEGHILKMFPSTWYVX"


def test_atoms_are_those_of_biopython():
    """Each amino acid has the side-chain atoms that Biopython's table of bond states gives it."""
    backbone = {"N", "CA", "C", "O", "OXT"}
    for letter in residue_constants.RESIDUE_TYPES[:-1]:
        side_chain = set(residue_atom_bond_state.get(letter, {}))
        expected = backbone | side_chain | (set() if letter == "G" else {"CB"})
        assert set(residue_constants.RESIDUE_ATOMS[letter]) == expected, letter


def test_chi_angles_are_those_of_biopython():
    """chi1-4 of each amino acid go over the atoms that Biopython's internal coordinates use."""
    for letter in residue_constants.RESIDUE_TYPES[:-1]:
        entries = {entry[4]: tuple(entry[:4]) for entry in ic_data_sidechains.get(letter, []) if len(entry) > 4}
        expected = tuple(entries[f"chi{i}"] for i in range(1, 5) if f"chi{i}" in entries)
        assert residue_constants.CHI_ATOMS[letter] == expected, letter


def test_parents_of_modified_residues():
    """Common modified residues give their parent, ambiguous ones X, and what is no amino acid gives nothing."""
    parents = {
        **{"MSE": "M", "SEP": "S", "TPO": "T", "PTR": "Y", "HYP": "P", "CSO": "C", "KCX": "K", "MLY": "K", "LLP": "K"},
        **{"PCA": "E", "CME": "C", "DAL": "A", "SEC": "C", "PYL": "K", "P1L": "C", "HSD": "H", "HIE": "H", "CYX": "C"},
        **{"ASX": "X", "GLX": "X", "UNK": "X"},
    }
    for name, letter in parents.items():
        index = residue_constants.residue_type_of(name)
        assert index is not None, name
        assert residue_constants.RESIDUE_TYPES[index] == letter, name
    for name in ("HOH", "ACE", "NH2", "GOL", "DA", "U", "NAG", "ZZZ"):
        assert residue_constants.residue_type_of(name) is None, name
