"""`make_example`: the slot layout, neighbours, masks, and that a partner's features come from the partner alone."""

import dataclasses
import gzip

import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.data.example import MAX_NEIGHBOURS, schema
from bihf_jax.data.featurise import OffsetOverflowError, make_example, residue_slots
from bihf_jax.data.records import encode_example
from bihf_jax.protein import Protein, backbone, torsions
from tests.data_prep.structures import chain_lines, random_sequence, write_pdb


@pytest.fixture
def protein(tmp_path):
    """Two chains of 30 and 45 residues that lie beside each other."""
    rng = np.random.default_rng(0)
    path = tmp_path / "two.pdb"
    first, second = random_sequence(rng, 30), random_sequence(rng, 45)
    write_pdb(path, chain_lines(first, "H"), chain_lines(second, "L", start=(0, 5, 0), seed=1, first_number=101))
    return Protein.from_file(path)


def without_coordinates(protein, index):
    """`protein` with the residues of `index` unresolved."""
    mask, positions = protein.atom_mask.copy(), protein.atom_positions.copy()
    mask[index], positions[index] = False, 0
    return dataclasses.replace(protein, atom_mask=mask, atom_positions=positions)


def test_each_chain_is_cls_residues_eos(protein):
    """Tokens, segments and residue numbers lie in slots as the design says, and dtypes and shapes are the schema's."""
    example = make_example(protein, id="x", group="g")
    first, second = (protein.sequence()[chain] for chain in (0, 1))
    expected = ["<cls>", *first, "<eos>", "<cls>", *second, "<eos>"]
    assert [alphabet.TOKENS[token] for token in example.tokens] == expected
    assert example.chain_segment.tolist() == [1] * 32 + [2] * 47
    assert example.residue_number.tolist() == [0, *range(1, 31), 0, 0, *range(101, 146), 0]
    assert (example.chain_ids, example.source, example.num_slots) == (("H", "L"), "two.pdb", 79)
    encode_example(example)  # raises where a dtype or shape is not the schema's


def test_residue_fields_follow_the_slots(protein):
    """Backbone and torsions of a residue are found at its slot, and special tokens hold zeros and no mask."""
    example = make_example(protein, id="x", group="g", label=np.ones(75))
    slot = residue_slots(protein)
    for field, (values, mask) in {"backbone": backbone(protein), "torsions": torsions(protein)}.items():
        mask_field = field.removesuffix("s") + "_mask"
        np.testing.assert_array_equal(getattr(example, field)[slot], values)
        np.testing.assert_array_equal(getattr(example, mask_field)[slot], mask)
        special = np.setdiff1d(np.arange(example.num_slots), slot)
        assert len(special) == 4
        assert not getattr(example, field)[special].any()
        assert not getattr(example, mask_field)[special].any()
    assert not example.label_mask[special].any()
    assert not example.neighbour_offset[special].any()


def test_neighbours_are_the_nearest_in_slots(protein):
    """Offsets point to the nearest CA over both chains, by all pairs, nearest first; unresolved residues have none."""
    protein = without_coordinates(protein, [3, 40])
    example = make_example(protein, id="x", group="g")
    has_ca = example.backbone_mask[:, 1]
    ca = example.backbone[:, 1].astype(np.float64)
    distance = np.linalg.norm(ca[:, None] - ca[None], axis=-1)
    distance[~has_ca] = distance[:, ~has_ca] = np.inf
    np.fill_diagonal(distance, np.inf)
    crossing = 0
    for receiver in range(example.num_slots):
        offsets = example.neighbour_offset[receiver].astype(int)
        if not has_ca[receiver]:
            assert not offsets.any()
            continue
        senders = receiver + offsets
        assert (offsets != 0).all()
        assert len(set(senders)) == MAX_NEIGHBOURS
        nearest = np.sort(distance[receiver])[:MAX_NEIGHBOURS]
        np.testing.assert_allclose(distance[receiver, senders], nearest, atol=2e-3)
        crossing += (example.chain_segment[senders] != example.chain_segment[receiver]).sum()
    assert crossing > 0, "neighbours in the other chain of the partner belong to the graph"


def test_missing_neighbours_are_zeros_at_the_end(tmp_path):
    """A chain of 20 residues has 19 neighbours a residue, then zeros."""
    write_pdb(tmp_path / "short.pdb", chain_lines("ACDEFGHIKLMNPQRSTVWY"))
    offsets = make_example(Protein.from_file(tmp_path / "short.pdb"), id="x", group="g").neighbour_offset[1:-1]
    assert (offsets[:, :19] != 0).all()
    assert not offsets[:, 19:].any()


def test_unresolved_residues_keep_a_slot_without_structure_or_label(protein):
    """A residue without coordinates has its token and number, and no mask of any kind, even if it is given a label."""
    example = make_example(without_coordinates(protein, [10]), id="x", group="g", label=np.ones(75))
    full = make_example(protein, id="x", group="g", label=np.ones(75))
    slot = 11
    np.testing.assert_array_equal(example.tokens, full.tokens)
    np.testing.assert_array_equal(example.residue_number, full.residue_number)
    assert full.label_mask[slot]
    assert full.backbone_mask[slot].all()
    assert not example.label_mask[slot]
    assert example.label[slot] == 0
    assert not example.backbone_mask[slot].any()
    assert not example.torsion_mask[slot].any()
    assert example.label_mask.sum() == full.label_mask.sum() - 1


def test_labels_go_to_their_residues(protein):
    """A label and its mask are found at the slot of the residue; a masked label may be NaN and becomes 0."""
    label = np.arange(75) / 75
    label[5] = np.nan
    mask = np.arange(75) != 5
    example = make_example(protein, id="x", group="g", label=label, label_mask=mask, weight=0.25)
    slot = residue_slots(protein)
    np.testing.assert_array_equal(example.label_mask[slot], mask)
    np.testing.assert_allclose(example.label[slot], np.where(mask, label, 0), rtol=1e-6)
    assert example.weight == 0.25
    unlabelled = make_example(protein, id="x", group="g")
    assert not unlabelled.label_mask.any()


def test_insertion_codes_are_kept(tmp_path):
    """Residues 52, 52A and 52B are told apart by the ASCII code of their insertion code."""
    lines = chain_lines("ACDEFGHIKLMNPQRSTVWY" * 2, first_number=50)
    lines = [
        line[:22] + f"  52{' AB'[n - 52]}" + line[27:] if (n := int(line[22:26] or 0)) in (52, 53, 54) else line
        for line in lines[:-1]
    ]
    write_pdb(tmp_path / "codes.pdb", lines)
    example = make_example(Protein.from_file(tmp_path / "codes.pdb"), id="x", group="g")
    assert bytes(example.insertion_code[1:7].tolist()) == b"   AB "
    assert example.residue_number[1:7].tolist() == [50, 51, 52, 52, 52, 55]


def test_bad_labels_are_refused(protein):
    """Labels of another length, and one that counts but is NaN, are refused with the example's id."""
    with pytest.raises(ValueError, match=r"1abc:A: label has shape \(74,\); the protein has 75 residues"):
        make_example(protein, id="1abc:A", group="g", label=np.ones(74))
    with pytest.raises(ValueError, match="label_mask has shape"):
        make_example(protein, id="x", group="g", label=np.ones(75), label_mask=np.ones(3, bool))
    label = np.ones(75)
    label[7] = np.nan
    with pytest.raises(ValueError, match="label of residue 7 is not finite"):
        make_example(protein, id="x", group="g", label=label)


def test_the_label_of_a_protein_is_kept_and_checked(protein):
    """Numbers become float32 [P], none is empty; a table or NaN is refused."""
    example = make_example(protein, id="x", group="x", protein_label=[0.25, 3])
    assert example.protein_label.dtype == np.float32
    assert example.protein_label.tolist() == [0.25, 3]
    assert make_example(protein, id="x", group="x").protein_label.shape == (0,)
    for bad in ([[1, 2]], [np.nan]):
        with pytest.raises(ValueError, match=r"x: protein_label is .*list of finite numbers"):
            make_example(protein, id="x", group="x", protein_label=bad)


def test_an_offset_that_int16_cannot_hold_is_an_error(protein):
    """A protein whose neighbours lie more than 32,767 slots apart is refused, not wrapped around."""
    count = 33_000
    index = np.arange(count) % protein.num_residues
    arrays = {
        name: getattr(protein, name)[index].copy()
        for name in (
            "residue_type",
            "atom_mask",
            "residue_number",
            "label_residue_number",
            "insertion_code",
            "b_factors",
        )
    }
    positions = protein.atom_positions[index] + np.arange(count)[:, None, None] * np.float32([4, 0, 0])
    positions[-1] = positions[0] + np.float32([0, 4, 0])
    big = Protein(
        **arrays,
        atom_positions=positions.astype(np.float32),
        chain_index=np.zeros(count, np.int32),
        chain_ids=("A",),
        label_chain_ids=("A",),
        source="big.pdb",
    )
    with pytest.raises(OffsetOverflowError, match=r"big: two neighbours lie 32999 slots apart; .* up to 32767"):
        make_example(big, id="big", group="g")


def assert_same_but_label(first, second):
    """Every field of two examples equal but label and label mask."""
    for name in schema():
        if not name.startswith("label"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_deleting_the_other_partner_changes_no_feature(tmp_path):
    """The example of a partner from the whole complex equals that from a file with the other chains deleted."""
    rng = np.random.default_rng(4)
    chains = [chain_lines(random_sequence(rng, 40), name, start=(0, 5 * i, 0), seed=i) for i, name in enumerate("ABC")]
    write_pdb(tmp_path / "x.pdb", *chains)
    whole = Protein.from_file(tmp_path / "x.pdb").select_chains(["A", "C"])
    write_pdb(tmp_path / "x.pdb", chains[0], chains[2])
    alone = Protein.from_file(tmp_path / "x.pdb")
    assert_same_but_label(
        make_example(whole, id="x:AC", group="x", label=np.ones(80)), make_example(alone, id="x:AC", group="x")
    )


@pytest.mark.shared_data
def test_deleting_the_other_partner_changes_no_feature_of_real_complexes(shared_data, tmp_path):
    """The same on ten real files with several chains: each chain alone, the others deleted from the file."""
    folder = shared_data / "common/equidock_public/data/benchmark5.5/structures"
    checked = 0
    for path in sorted(folder.glob("*_r_b.pdb.gz")):
        lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
        chains = sorted({line[21] for line in lines if line.startswith("ATOM")})
        if len(chains) < 2:
            continue
        whole = Protein.from_file(path)
        for chain in whole.chain_ids:
            kept = [
                line for line in lines if not line.startswith(("ATOM", "HETATM", "TER", "ANISOU")) or line[21] == chain
            ]
            (tmp_path / "alone.pdb").write_text("\n".join(kept) + "\n", "ascii")
            alone = make_example(Protein.from_file(tmp_path / "alone.pdb"), id="x", group="x", source="s")
            assert_same_but_label(make_example(whole.select_chains([chain]), id="x", group="x", source="s"), alone)
        checked += 1
        if checked == 10:
            break
    assert checked == 10
