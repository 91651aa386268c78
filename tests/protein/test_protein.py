"""The `Protein` type: its checks, selection and concatenation."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.protein import Protein, StructureError
from tests.protein.compare import assert_same


@pytest.fixture
def protein(write, complex_text) -> Protein:
    """Chains A, B and C of 20, 20 and 10 residues."""
    return Protein.from_file(write(complex_text))


def test_fields_have_the_documented_types(protein):
    """Shapes and dtypes are those of the docstring; masked atoms are zero."""
    assert protein.num_residues == 50
    shapes = {
        "residue_type": ((50,), "int8"),
        "atom_positions": ((50, 37, 3), "float32"),
        "atom_mask": ((50, 37), "bool"),
        "chain_index": ((50,), "int32"),
        "residue_number": ((50,), "int32"),
        "label_residue_number": ((50,), "int32"),
        "insertion_code": ((50,), "<U1"),
        "b_factors": ((50, 37), "float32"),
    }
    for name, (shape, dtype) in shapes.items():
        array = getattr(protein, name)
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype)), name
    assert (protein.atom_positions[~protein.atom_mask] == 0).all()
    assert (protein.b_factors[protein.atom_mask] == 10).all()
    assert (protein.source, protein.chain_ids) == ("made.pdb", ("A", "B", "C"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b_factors": np.zeros((3, 37), np.float32)}, r"b_factors must be float32 of shape \(50, 37\)"),
        ({"residue_number": np.zeros(50)}, "residue_number must be int32"),
        ({"chain_ids": ("A", "B")}, "one length, got 2 and 3"),
        ({"chain_index": np.zeros(50, np.int32)}, "must use every chain"),
        ({"chain_index": np.repeat(np.int32([0, 2, 1]), [20, 20, 10])}, "must be contiguous"),
    ],
)
def test_inconsistent_fields_are_refused(protein, changes, message):
    """Wrong lengths, dtypes and chain indices are errors that name the field and the source."""
    with pytest.raises(ValueError, match=message) as error:
        dataclasses.replace(protein, **changes)
    assert "made.pdb" in str(error.value)


def test_select_chains(protein):
    """A selection holds the rows of its chains in file order, and an unknown id lists the chains."""
    some = protein.select_chains(["C", "A"])
    assert some.chain_ids == ("A", "C")
    assert some.sequence() == (protein.sequence()[0], protein.sequence()[2])
    rows = protein.chain_index != 1
    np.testing.assert_array_equal(some.atom_positions, protein.atom_positions[rows])
    np.testing.assert_array_equal(some.chain_index, np.repeat([0, 1], [20, 10]))
    with pytest.raises(StructureError, match=r"made.pdb: no chain 'X'; chains: A, B, C"):
        protein.select_chains(["X"])


def test_concatenate_undoes_selection(protein):
    """The chains selected one by one and put together are the protein again."""
    whole = Protein.concatenate([protein.select_chains([chain]) for chain in protein.chain_ids])
    assert_same(whole, protein)


def test_concatenate_of_two_files(protein):
    """Sources are joined, equal chain ids kept apart, and nothing to concatenate is an error."""
    both = Protein.concatenate([protein, dataclasses.replace(protein, source="other.pdb")])
    assert both.source == "made.pdb+other.pdb"
    assert both.chain_ids == ("A", "B", "C", "A", "B", "C")
    assert both.sequence() == protein.sequence() * 2
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Protein.concatenate([])
