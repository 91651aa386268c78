"""Residues of a model and a native: by number, by alignment, over several chains, and copies of a chain."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.protein import Protein, StructureError, match_residues, residue_constants
from tests.protein.traces import CA, moved, random_walk, renamed, renumbered, trace, with_ca, without_residues

NATIVE = trace(random_walk(60))


def _assert_same_residues(match, model: Protein, native: Protein, num: int) -> None:
    """The pairs are residues of one position of the same trace: their CA atoms coincide."""
    assert match.num_shared == num
    np.testing.assert_allclose(
        model.atom_positions[match.model_rows, CA], native.atom_positions[match.native_rows, CA], atol=1e-4
    )


def test_missing_residues_are_matched_by_number():
    """A model without some residues keeps the others, in order, by number."""
    model = without_residues(NATIVE, np.array([0, 10, 11, 12, 59]))
    match = match_residues(model, NATIVE)
    _assert_same_residues(match, model, NATIVE, 55)
    assert [(chain.method, chain.num_shared, chain.num_substituted) for chain in match.chains] == [("numbering", 55, 0)]
    assert (np.diff(match.native_rows) > 0).all()


@pytest.mark.parametrize("first", [1, 3, 500])
def test_other_numbers_are_aligned_by_sequence(first):
    """A model numbered without the gap, or from elsewhere, is matched by sequence to the same residues."""
    model = renumbered(without_residues(NATIVE, np.arange(20, 26)), first)
    match = match_residues(model, NATIVE)
    _assert_same_residues(match, model, NATIVE, 54)
    assert match.chains[0].method == "alignment"


def test_alignment_wins_where_numbers_slip_late():
    """Numbers that are right for 92 % of the chain and then slip by one do not hide the slip."""
    native = trace(random_walk(100))
    model = renumbered(without_residues(native, np.array([92])), 1)
    match = match_residues(model, native)
    _assert_same_residues(match, model, native, 99)
    assert match.chains[0].method == "alignment"


def test_insertion_codes_are_part_of_the_number():
    """Residues 10, 10A and 10B are three residues."""
    code = NATIVE.insertion_code.copy()
    number = NATIVE.residue_number.copy()
    number[10:] -= 2
    number[9:12], code[9:12] = 10, [" ", "A", "B"]
    native = dataclasses.replace(NATIVE, residue_number=number, insertion_code=code)
    model = without_residues(native, np.array([10]))
    match = match_residues(model, native)
    assert match.chains[0].method == "numbering"
    _assert_same_residues(match, model, native, 59)


def test_mutations_stay_and_are_counted():
    """Two residues of another type keep their partner; one of unknown type is no mutation."""
    types = NATIVE.residue_type.copy()
    types[[5, 30]] = (types[[5, 30]] + 1) % 20
    types[7] = residue_constants.UNKNOWN_RESIDUE
    match = match_residues(dataclasses.replace(NATIVE, residue_type=types), NATIVE)
    assert (match.num_shared, match.num_substituted) == (60, 2)


def test_residues_without_ca_are_not_shared():
    """A residue that is unresolved in either structure is in no pair."""
    unresolved = [dataclasses.replace(NATIVE, atom_mask=NATIVE.atom_mask.copy()) for _ in range(2)]
    unresolved[0].atom_mask[3] = unresolved[1].atom_mask[7] = False
    match = match_residues(*unresolved)
    assert set(range(60)) - set(match.native_rows.tolist()) == {3, 7}


def test_a_chain_of_another_name_is_found():
    """One chain against one chain is matched whatever they are called."""
    match = match_residues(renamed(NATIVE, "X"), NATIVE)
    assert (match.chains[0].native, match.chains[0].model, match.num_shared) == ("A", "X", 60)


def test_an_unrelated_protein_shares_nothing():
    """Another sequence with the same numbers and the same chain id has no residue in common."""
    other = trace(random_walk(60), sequence="".join(np.random.default_rng(9).choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)))
    match = match_residues(other, NATIVE)
    assert match.num_shared == 0
    assert (match.left_out_native, match.left_out_model) == (("A",), ("A",))


def _two_chains() -> tuple[Protein, Protein]:
    return trace(random_walk(60), chain="H"), trace(random_walk(45, 1) + 30, chain="L")


def test_several_chains_are_matched_by_id_and_else_by_sequence():
    """Chains in another order and under swapped or new names find their partner; a lone one is reported."""
    heavy, light = _two_chains()
    native = Protein.concatenate([heavy, light])
    for model in (
        Protein.concatenate([light, heavy]),
        Protein.concatenate([renamed(heavy, "L"), renamed(light, "H")]),
        Protein.concatenate([renamed(light, "x"), renamed(heavy, "y")]),
    ):
        _assert_same_residues(match_residues(model, native), model, native, 105)
    match = match_residues(light, native)
    _assert_same_residues(match, light, native, 45)
    assert match.left_out_native == ("H",)
    match = match_residues(native, light)
    assert match.left_out_model == ("H",)


def _trimer(*ids: str) -> Protein:
    """Three copies of a chain, in three places."""
    ca = random_walk(40)
    copies = [moved(ca, seed) for seed in (1, 2, 3)]
    return Protein.concatenate([trace(copy, chain=chain) for copy, chain in zip(copies, ids, strict=True)])


def test_copies_of_a_chain_are_assigned_by_rmsd():
    """Copies under other names in another order are laid on the copy in the same place."""
    native = _trimer("A", "B", "C")
    parts = [native.select_chains([chain]) for chain in "BCA"]
    model = renamed(Protein.concatenate(parts), "X", "Y", "Z")
    match = match_residues(model, native)
    _assert_same_residues(match, model, native, 120)
    assert [(chain.native, chain.model) for chain in match.chains] == [("A", "Z"), ("B", "X"), ("C", "Y")]
    pair = renamed(Protein.concatenate(parts[:2]), "X", "Y")
    match = match_residues(pair, native)
    _assert_same_residues(match, pair, native, 80)
    assert match.left_out_native == ("A",)


def test_named_chains_overrule():
    """A mapping of chains is followed, also against the names; what it leaves out is left out."""
    native = _trimer("A", "B", "C")
    match = match_residues(native, native, chains={"A": "B", "B": "A"})
    assert [(chain.native, chain.model) for chain in match.chains] == [("A", "B"), ("B", "A")]
    assert (match.left_out_native, match.left_out_model) == (("C",), ("C",))


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        ({"H": "Q"}, r"0 chains are called 'Q'; chains: 'H', 'L'"),
        ({"H": "L"}, "neither numbers nor sequence in common"),
        ({"H": "H", "L": "H"}, "a chain of the model twice"),
    ],
)
def test_impossible_mappings_are_refused(chains, message):
    """Chains that are not there, unrelated or used twice are named."""
    protein = Protein.concatenate(list(_two_chains()))
    with pytest.raises(StructureError, match=message):
        match_residues(protein, protein, chains=chains)


def test_same_numbers_twice_are_aligned():
    """A chain that uses a number twice is matched by its sequence."""
    number = NATIVE.residue_number.copy()
    number[30:] -= 30
    model = dataclasses.replace(NATIVE, residue_number=number)
    match = match_residues(model, NATIVE)
    assert match.chains[0].method == "alignment"
    _assert_same_residues(match, with_ca(model, NATIVE.atom_positions[:, CA]), NATIVE, 60)
