"""The ligand of a structure file, with the chemistry of the dictionary of components."""

import numpy as np
import pytest

from bihf_jax.data.components import own_ligand
from bihf_jax.data.molecules import MoleculeError, read_molecule
from bihf_jax.protein import Protein
from tests.data.complexes import PHENOL_ATOMS, phenol_lines
from tests.data.test_molecules import PHENOL_MOL2
from tests.data_prep.structures import chain_lines

pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
pytest.importorskip("biotite", reason="needs biotite: pip install 'bihf_jax[components]'")


@pytest.fixture
def phenol(tmp_path):
    """Phenol of a mol2 file, with all hydrogens."""
    (tmp_path / "phenol.mol2").write_text(PHENOL_MOL2)
    return read_molecule(tmp_path / "phenol.mol2")


def structure(names=PHENOL_ATOMS, numbers=(301,), component="IPH"):
    ligands = [line for number in numbers for line in phenol_lines(names, number, component)]
    return Protein.from_text("\n".join([*chain_lines("ACDEFGHIKL"), *ligands, "END", ""]), name="bound")


@pytest.mark.parametrize("which", ["IPH", "IPH:A", "IPH:A:301"])
def test_the_chemistry_is_that_of_a_file_with_hydrogens(phenol, which):
    """Elements, charges, hybridisation, rings, hydrogens and bonds of the heavy atoms alone, at their places."""
    own = own_ligand(structure(), which)
    np.testing.assert_array_equal(own.atom_fields(), phenol.atom_fields())
    np.testing.assert_array_equal(own.bond_fields(), phenol.bond_fields())
    np.testing.assert_array_equal(own.num_hydrogens, phenol.num_hydrogens)
    np.testing.assert_allclose(own.atom_positions, phenol.atom_positions, atol=1e-3)
    assert own.source == "bound.pdb, IPH:A:301"
    assert own.remarks == ("bonds and charges are those of the Chemical Component Dictionary",)


def test_which_one_has_to_be_clear():
    """None or several of the name: the message lists those that there are."""
    with pytest.raises(MoleculeError, match=r"bound.pdb: 2 ligands are called 'IPH': IPH:A:301, IPH:A:302; name one"):
        own_ligand(structure(numbers=(301, 302)), "IPH")
    with pytest.raises(MoleculeError, match=r"bound.pdb: no ligand is called 'IP'; it has IPH:A:301\. A file is"):
        own_ligand(structure(), "IP")


def test_atoms_that_are_not_those_of_the_component():
    """Atoms that are missing or have other names: no bond is guessed."""
    with pytest.raises(MoleculeError, match=r"IPH:A:301: its atoms are not those of the component \(lacking: O1; unk"):
        own_ligand(structure(names=PHENOL_ATOMS[:6]), "IPH")
    with pytest.raises(MoleculeError, match=r"lacking: O1; unknown or twice: O9\), so its bonds are not known; give"):
        own_ligand(structure(names=(*PHENOL_ATOMS[:6], "O9")), "IPH")
    with pytest.raises(MoleculeError, match=r"the Chemical Component Dictionary has no 'UNL'"):
        own_ligand(structure(component="UNL"), "UNL")
