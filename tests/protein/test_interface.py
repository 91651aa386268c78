"""Interface labels against all pairs, and the partner that must not leak into the input."""

import dataclasses

import gemmi
import numpy as np
import pytest

from bihf_jax.protein import (
    Protein,
    StructureError,
    backbone,
    interface_labels,
    nearest_neighbours,
    split_partners,
    torsions,
)
from tests.protein.synthetic import Atom, chain_of, pdb_text


def _brute_force(partners: list[Protein], cutoff: float) -> list[np.ndarray]:
    labels = []
    for i, partner in enumerate(partners):
        label = np.zeros(partner.num_residues, dtype=bool)
        for j, other in enumerate(partners):
            if i == j:
                continue
            theirs = other.atom_positions[other.atom_mask].astype(float)
            for residue in range(partner.num_residues):
                ours = partner.atom_positions[residue, partner.atom_mask[residue]].astype(float)
                distance = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
                label[residue] |= bool((distance <= cutoff).any())
        labels.append(label)
    return labels


def test_equals_all_pairs(write, complex_text):
    """The neighbour search finds what comparing every pair of atoms finds, with two and with three partners."""
    protein = Protein.from_file(write(complex_text))
    for groups in (["A"], ["B"]), (["A", "C"], ["B"]), (["A"], ["B"], ["C"]):
        partners = split_partners(protein, groups)
        for found, expected in zip(interface_labels(partners), _brute_force(partners, 4.0), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == bool
    assert interface_labels(split_partners(protein, (["A"], ["B"])))[0].any()


def _two_residues_apart(write, distance: float, name: str = "CA") -> list[Protein]:
    """Two partners whose closest heavy atoms are `distance` Å apart; hydrogens in between."""
    atoms = [
        [Atom("CA", "ALA", chain, number, (x, 100.0 * (number - 1), 0.0)) for number in (1, 2)]
        for chain, x in (("A", 0.0), ("B", distance))
    ]
    for chain in atoms:
        for atom in list(chain):
            middle = (distance / 2, atom.xyz[1], 0.0)
            chain.append(Atom("H", "ALA", atom.chain, atom.number, middle))
        chain.sort(key=lambda atom: atom.number)
    return split_partners(Protein.from_file(write(pdb_text(*atoms))), [["A"], ["B"]])


@pytest.mark.parametrize(("distance", "positive"), [(3.999, True), (4.0, True), (4.001, False)])
def test_the_boundary_is_inside_and_hydrogens_do_not_count(write, distance, positive):
    """4.000 Å between heavy atoms is a contact, 4.001 Å is none, whatever hydrogens lie between."""
    for label in interface_labels(_two_residues_apart(write, distance)):
        assert label.all() == label.any() == positive


def test_contacts_inside_a_partner_do_not_count(write, complex_text):
    """Chains A and B touch; as one partner against the far chain C they have no positive residue."""
    partners = split_partners(Protein.from_file(write(complex_text)), [["A", "B"], ["C"]])
    assert not np.concatenate(interface_labels(partners)).any()


def test_partners_may_lie_in_two_files(write, complex_text):
    """Labels of partners from two files, one of them of two files itself, equal those of the one file."""
    whole = Protein.from_file(write(complex_text))
    files = [write(_only_chains(complex_text, chain), f"{chain}.pdb") for chain in "ABC"]
    a, b, c = map(Protein.from_file, files)
    expected = interface_labels(split_partners(whole, [["A", "C"], ["B"]]))
    for found, label in zip(interface_labels([Protein.concatenate([a, c]), b]), expected, strict=True):
        np.testing.assert_array_equal(found, label)


def test_unresolved_residues_are_negative(write, complex_text):
    """A residue without coordinates has the label False, also where its masked position would be in reach."""
    partners = split_partners(Protein.from_file(write(complex_text)), [["A"], ["B"]])
    gone = partners[0].atom_mask.copy()
    gone[3] = False
    partners[0] = dataclasses.replace(
        partners[0], atom_mask=gone, atom_positions=partners[0].atom_positions * gone[..., None]
    )
    assert not interface_labels(partners)[0][3]


def test_bad_input_is_named(write, complex_text):
    """One partner, a cutoff of 0, a chain in two partners and an unknown chain are refused by name."""
    protein = Protein.from_file(write(complex_text))
    with pytest.raises(ValueError, match="at least two partners, got 1"):
        interface_labels([protein])
    with pytest.raises(ValueError, match="cutoff must be above 0"):
        interface_labels([protein, protein], cutoff=0.0)
    with pytest.raises(StructureError, match="chain 'A' stands in 2 partners"):
        split_partners(protein, [["A"], ["A", "B"]])
    with pytest.raises(StructureError, match=r"made.pdb: no chain 'Z'; chains: A, B, C"):
        split_partners(protein, [["A"], ["Z"]])


# --------------------------------------------------------------------------------------------------------------------
# The partner alone
# --------------------------------------------------------------------------------------------------------------------


def _only_chains(text: str, chains: str) -> str:
    """PDB text without the coordinate, TER, SEQRES and REMARK 465 records of other chains."""
    column = {"ATOM  ": 21, "HETATM": 21, "ANISOU": 21, "TER   ": 21, "SEQRES": 11}
    kept = []
    for line in text.splitlines():
        at = column.get(f"{line[:6]:6}")
        if at is None or len(line) <= at or line[at] in chains:
            kept.append(line)
    return "\n".join(kept) + "\n"


def assert_same_features(alone: Protein, in_complex: Protein) -> None:
    """All that a model may see of a partner is equal."""
    for name in ("residue_type", "atom_positions", "atom_mask", "chain_index", "residue_number", "b_factors"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(in_complex, name), err_msg=name)
    for name in ("label_residue_number", "insertion_code"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(in_complex, name), err_msg=name)
    assert (alone.chain_ids, alone.label_chain_ids) == (in_complex.chain_ids, in_complex.label_chain_ids)
    for function in (backbone, torsions):
        for one, other in zip(function(alone), function(in_complex), strict=True):
            np.testing.assert_array_equal(one, other)
    lists = [nearest_neighbours(p.atom_positions[:, 1], p.atom_mask[:, 1], 32) for p in (alone, in_complex)]
    np.testing.assert_array_equal(*lists)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
@pytest.mark.parametrize("chains", ["A", "B", "AC"])
def test_deleting_the_partner_changes_no_feature(write, complex_text, kind, chains):
    """A partner from the whole file equals the partner from a file that never held the others, PDB and mmCIF."""
    texts = [complex_text, _only_chains(complex_text, chains)]
    if kind == "cif":
        texts = [_as_mmcif(text) for text in texts]
    in_complex, alone = (
        Protein.from_file(write(text, f"{i}.{kind}")).select_chains(list(chains)) for i, text in enumerate(texts)
    )
    if kind == "cif":  # gemmi numbers label chains through the file it writes
        alone = dataclasses.replace(alone, label_chain_ids=in_complex.label_chain_ids)
    assert_same_features(alone, in_complex)


def _as_mmcif(text: str) -> str:
    structure = gemmi.read_pdb_string(text)
    structure.setup_entities()
    return structure.make_mmcif_document().as_string()


@pytest.mark.shared_data
def test_deleting_the_partner_changes_no_feature_of_real_complexes(shared_data, write):
    """The same on real files: both partners of 12 complexes written into one file, then one of them deleted."""
    folder = shared_data / "common/equidock_public/data/benchmark5.5/structures"
    compared = 0
    for left in sorted(folder.glob("*_l_b.pdb.gz"))[::22]:
        pair = [left, left.with_name(left.name.replace("_l_b", "_r_b"))]
        partners = [Protein.from_file(path) for path in pair]
        ids = [set(partner.chain_ids) for partner in partners]
        if ids[0] & ids[1] or partners[0].report.old_columns or partners[1].report.old_columns:
            continue  # one id for two chains, or two entry ids in columns 73-80: not writable as one file
        texts = [gemmi.read_structure(str(path)).make_pdb_string() for path in pair]
        bodies = ["".join(line + "\n" for line in text.splitlines() if line[:6].strip() in _RECORDS) for text in texts]
        whole = Protein.from_file(write(bodies[0] + bodies[1] + "END\n"))
        for body, partner in zip(bodies, partners, strict=True):
            alone = Protein.from_file(write(body + "END\n", "alone.pdb"))
            assert_same_features(alone, whole.select_chains(partner.chain_ids))
            compared += 1
    assert compared >= 12


_RECORDS = ("ATOM", "HETATM", "TER")


def test_a_file_of_many_chains_is_searched_quickly(write):
    """Twelve chains against each other: as many labels as partners, and no partner without neighbours is positive."""
    chains = [
        chain_of("ACDEFGHIKLMNPQRSTVWY", name, seed=i, shift=(60.0 * i, 0, 0)) for i, name in enumerate("ABCDEFGHIJKL")
    ]
    protein = Protein.from_file(write(pdb_text(*chains)))
    labels = interface_labels(split_partners(protein, [[name] for name in protein.chain_ids]))
    expected = _brute_force(split_partners(protein, [[name] for name in protein.chain_ids]), 4.0)
    assert [label.tolist() for label in labels] == [label.tolist() for label in expected]
