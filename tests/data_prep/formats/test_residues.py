"""Labels find their residue by number or by alignment, and are verified by amino acid."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.protein import Protein
from data_prep.formats.residues import MatchError, match_by_alignment, match_by_number, residue_labels
from tests.data_prep.structures import chain_lines, random_sequence

RNG = np.random.default_rng(5)
SEQUENCE = random_sequence(RNG, 60)


def protein_of(*chains):
    """A protein of chains (sequence, id, first number)."""
    lines = [chain_lines(s, c, start=(0.0, 40.0 * i, 0.0), first_number=n) for i, (s, c, n) in enumerate(chains)]
    return Protein.from_text("\n".join([line for chain in lines for line in chain] + ["END", ""]), name="made")


def labels_of(sequence, chain="A", first_number=1, code=" "):
    """Every third residue is positive."""
    rows = enumerate(sequence)
    return residue_labels([(chain, first_number + i, code, letter, float(i % 3 == 0)) for i, letter in rows])


def test_labels_lie_at_their_numbers():
    """Each label is at the residue of its number; residues without a label are not known."""
    protein = protein_of((SEQUENCE, "A", -5), (SEQUENCE, "B", -5))
    match = match_by_number(labels_of(SEQUENCE[10:], first_number=5), protein)
    assert np.flatnonzero(match.known).tolist() == list(range(10, 60))
    assert np.flatnonzero(match.label).tolist() == list(range(10, 60, 3))
    assert (match.matched, match.missing, match.mismatched, match.unresolved) == (50, 0, 0, 0)


def test_insertion_codes_tell_residues_apart():
    """52, 52A and 52B are three residues."""
    protein = protein_of(("GAS", "A", 50))
    codes = np.array([" ", "A", "B"], dtype="<U1")
    protein = dataclasses.replace(protein, residue_number=np.full(3, 52, np.int32), insertion_code=codes)
    labels = residue_labels([("A", 52, "B", "S", 1.0), ("A", 52, " ", "G", 0.0)])
    match = match_by_number(labels, protein)
    assert match.label.tolist() == [0, 0, 1]
    assert match.known.tolist() == [True, False, True]


def test_dropped_insertion_codes_follow_the_order_of_the_chain():
    """Labels that repeat a number take its residues in order; where one is absent, by amino acid."""
    protein = protein_of(("MGASVK", "A", 50))
    number, codes = np.array([59, 60, 60, 60, 60, 61], np.int32), np.array([*"  ABC "], dtype="<U1")
    protein = dataclasses.replace(protein, residue_number=number, insertion_code=codes)
    rows = [("A", 59, " ", "M", 0.0), *(("A", 60, " ", letter, float(letter == "S")) for letter in "GASV")]
    match = match_by_number(residue_labels(rows), protein)
    assert match.label.tolist() == [0, 0, 0, 1, 0, 0]
    assert match.known.tolist() == [True] * 5 + [False]
    match = match_by_number(residue_labels([row for row in rows if row[3] != "A"]), protein)
    assert match.label.tolist() == [0, 0, 0, 1, 0, 0]
    assert match.known.tolist() == [True, True, False, True, True, False]


def test_a_shifted_numbering_is_refused():
    """Labels one residue off have other amino acids: refused by number, with the first; read by alignment."""
    protein = protein_of((SEQUENCE, "A", 2))
    with pytest.raises(MatchError, match=r"of 60 labels matched by number, 1 have no residue and \d+ another"):
        match_by_number(labels_of(SEQUENCE), protein)
    match = match_by_alignment(labels_of(SEQUENCE), protein)
    assert match.known.all()
    assert np.flatnonzero(match.label).tolist() == list(range(0, 60, 3))


def test_what_does_not_fit_is_counted_up_to_the_limit():
    """Two mutations and one absent residue of 60 pass at 0.1, are in no label, and are too many at 0.04."""
    mutated = list(SEQUENCE)
    for row in (3, 30):
        mutated[row] = "G" if SEQUENCE[row] != "G" else "A"
    protein = protein_of(("".join(mutated[:-1]), "A", 1))
    for match_by in (match_by_number, match_by_alignment):
        match = match_by(labels_of(SEQUENCE), protein)
        assert (match.matched, match.missing, match.mismatched) == (57, 1, 2)
        assert match.unmatched == pytest.approx(0.05)
        assert np.flatnonzero(~match.known).tolist() == [3, 30]
        with pytest.raises(MatchError, match=r"more than a share of 0.04; the first, A 4 \w, has"):
            match_by(labels_of(SEQUENCE), protein, max_unmatched=0.04)


def test_the_other_entry_may_lack_a_loop_and_have_a_tag():
    """Alignment puts every label opposite its residue where the other entry has a gap and longer ends."""
    other = "HHHHHH" + SEQUENCE[:25] + SEQUENCE[30:] + "GSGS"
    match = match_by_alignment(labels_of(SEQUENCE, first_number=400), protein_of((other, "X", 1)))
    assert match.chains == {"A": "X"}
    assert (match.matched, match.missing) == (55, 5)
    rows = [6 + i if i < 25 else 1 + i for i in range(60) if not 25 <= i < 30]
    assert np.flatnonzero(match.known).tolist() == rows
    assert match.label[rows].tolist() == [float(i % 3 == 0) for i in range(60) if not 25 <= i < 30]


def test_each_chain_of_labels_takes_its_own_chain():
    """Two different chains are told apart by sequence, whatever their ids; a chain is taken once."""
    first, second = SEQUENCE, random_sequence(RNG, 50)
    protein = protein_of((second, "P", 1), (first, "Q", 1), (first, "R", 1))
    parts = ((first, "A"), (first, "B"), (second, "C"))
    rows = [(chain, 1 + i, " ", letter, 1.0) for sequence, chain in parts for i, letter in enumerate(sequence)]
    match = match_by_alignment(residue_labels(rows), protein)
    assert match.chains == {"A": "Q", "B": "R", "C": "P"}
    assert match.known.all()
    with pytest.raises(MatchError, match="none is left for"):
        match_by_alignment(residue_labels(rows), protein_of((first, "Q", 1)))


def test_chains_can_be_mapped():
    """The labels of A go to B where that is said; a chain that is not there is named with those that are."""
    protein = protein_of((SEQUENCE, "B", 1), (SEQUENCE[::-1], "C", 1))
    match = match_by_number(labels_of(SEQUENCE), protein, chains={"A": "B"})
    assert match.known.tolist() == [True] * 60 + [False] * 60
    for match_by in (match_by_number, match_by_alignment):
        with pytest.raises(MatchError, match="no chain 'D' for the labels; chains: B, C"):
            match_by(labels_of(SEQUENCE), protein, chains={"A": "D"})


def test_labels_of_unresolved_residues_are_kept_and_counted():
    """A label at a residue without coordinates is known, and counted as unresolved."""
    protein = protein_of((SEQUENCE, "A", 1))
    mask = protein.atom_mask.copy()
    mask[:4] = False
    protein = dataclasses.replace(protein, atom_mask=mask, atom_positions=protein.atom_positions * mask[..., None])
    match = match_by_number(labels_of(SEQUENCE), protein)
    assert match.known.all()
    assert match.unresolved == 4


def test_labels_without_an_amino_acid_match_by_number_alone():
    """Where the file does not say the amino acid any residue agrees, and there is nothing to align."""
    labels = residue_labels([("A", 1, " ", "", 1.0)])
    assert match_by_number(labels, protein_of((SEQUENCE, "A", 1))).matched == 1
    with pytest.raises(ValueError, match="'A 1' has no amino acid to align"):
        match_by_alignment(labels, protein_of((SEQUENCE, "A", 1)))
