"""A ligand in records and grids: its slots, its words, and the neighbours of its atoms and of the residues near it."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.data import alphabet, tfrecord
from bihf_jax.data.example import MAX_NEIGHBOURS, schema
from bihf_jax.data.featurise import make_example, residue_slots
from bihf_jax.data.grid import crop_example, make_grid
from bihf_jax.data.ligand import (
    ATOM_FIELDS,
    BOND_TYPES,
    CONTACT_CUTOFF,
    EDGE_TYPES,
    ELEMENTS,
    HYBRIDISATIONS,
    MAX_CONTACTS,
)
from bihf_jax.data.records import count_example, decode_example, encode_example
from data_prep.facts import check_example
from tests.data.complexes import made_complex, made_ligand, made_protein, permuted
from tests.models.batches import random_rotation

ATOMS = 9


def distances_to_ligand(protein, ligand):
    """[N, A] from the closest heavy atom of each residue, by all pairs."""
    between = np.linalg.norm(protein.atom_positions[:, :, None] - ligand.atom_positions.astype(np.float64), axis=-1)
    return np.where(protein.atom_mask[:, :, None], between, np.inf).min(axis=1)


def moved(protein, ligand, rotation, translation):
    """Both, turned and moved as one."""

    def move(positions):
        return (positions.astype(np.float64) @ rotation.T + translation).astype(np.float32)

    positions = np.where(protein.atom_mask[..., None], move(protein.atom_positions), 0).astype(np.float32)
    return (
        dataclasses.replace(protein, atom_positions=positions),
        dataclasses.replace(ligand, atom_positions=move(ligand.atom_positions)),
    )


def test_atoms_and_bonds_in_small_integers():
    """Each field is the entry of its list that the molecule says; what no list has is "other", or the last charge."""
    ligand = made_ligand()
    elements = np.array([6, 7, 8, 17, 26, 0, 35, 9, 16], np.int8)
    charges = np.array([0, 1, -1, -3, 3, 0, 0, 0, 2], np.int8)
    fields = dataclasses.replace(ligand, elements=elements, charges=charges).atom_fields()
    assert fields.dtype == np.int8
    assert fields.shape == (ATOMS, len(ATOM_FIELDS))
    assert [ELEMENTS[i] for i in fields[:, 0]] == ["C", "N", "O", "Cl", "other", "other", "Br", "F", "S"]
    assert fields[:, 1].tolist() == [2, 3, 1, 0, 4, 2, 2, 2, 4]
    assert [HYBRIDISATIONS[i] for i in fields[:, 2]] == ["sp2"] * 6 + ["sp3"] * 3
    assert fields[:, 3].tolist() == fields[:, 4].tolist() == [1] * 6 + [0] * 3
    assert (fields >= 0).all()
    assert (fields < list(ATOM_FIELDS.values())).all()
    bonds = ligand.bond_fields()
    assert bonds[:, :2].tolist() == ligand.bonds.tolist()
    assert [BOND_TYPES[i] for i in bonds[2:4, 2]] == ["single", "aromatic"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charges": np.zeros(ATOMS, np.int64)}, "charges must be int8"),
        ({"aromatic": np.zeros(3, bool)}, r"aromatic must be bool of shape \(9,\)"),
        ({"bonds": np.array([[1, 1]] * 9)}, "bonds must be pairs i < j of the 9 atoms"),
        ({"hybridisation": np.full(ATOMS, 8, np.int8)}, "hybridisation must be 0 to 7: an index of other, s, sp"),
        ({"atom_positions": np.full((ATOMS, 3), np.nan, np.float32)}, "atom_positions must be finite"),
    ],
)
def test_what_is_no_ligand_is_refused(change, message):
    """Wrong dtypes, shapes, indices and places are named, with the file."""
    with pytest.raises(ValueError, match=f"made0.sdf: {message}"):
        dataclasses.replace(made_ligand(), **change)


def test_atoms_are_slots_after_the_chains():
    """Each atom has its place as CA, no token, a chain of its own, and nothing else that residues have."""
    protein, ligand = made_protein(), made_ligand()
    example = made_complex(label=np.ones(24))
    assert (example.num_slots, example.first_atom) == (24 + 4 + ATOMS, 28)
    atoms = slice(28, None)
    assert (example.tokens[atoms] == alphabet.PAD).all()
    assert example.chain_segment[atoms].tolist() == list(range(3, 3 + ATOMS))
    np.testing.assert_array_equal(example.backbone[atoms, 1], ligand.atom_positions)
    assert example.backbone_mask[atoms].tolist() == [[False, True, False, False, False]] * ATOMS
    assert not example.backbone[atoms][:, [0, 2, 3, 4]].any()
    for name in ("torsion_mask", "torsions", "label", "label_mask", "residue_number"):
        assert not getattr(example, name)[atoms].any(), name
    assert np.flatnonzero(example.is_residue).tolist() == residue_slots(protein).tolist()
    assert count_example(example)["residues"] == 24
    assert count_example(example)["ligand_atoms"] == ATOMS
    check_example(example)


def test_a_record_with_a_ligand_is_read_back():
    """Every field survives, and a record without a ligand is hardly longer than one that has no such fields."""
    example = made_complex(protein_label=[6.5])
    read = decode_example(encode_example(example))
    for name in schema():
        np.testing.assert_array_equal(getattr(read, name), getattr(example, name), err_msg=name)
    without = make_example(made_protein(), id="x", group="x")
    assert without.ligand_atoms.shape == (0, len(ATOM_FIELDS))
    features = tfrecord.parse_example(encode_example(without))
    for name in ("ligand_atoms", "ligand_bonds"):
        del features[name]
    assert len(encode_example(without)) < len(tfrecord.serialize_example(features)) + 80


def test_a_ligand_changes_the_protein_only_at_its_contacts():
    """All fields of the protein's slots are those without ligand, and the neighbours differ where an atom is near."""
    protein, ligand = made_protein(), made_ligand()
    alone, bound = make_example(protein, id="made0", group="made0"), made_complex()
    for name, field in schema().items():
        if field.shape[:1] == ("slots",) and name != "neighbour_offset":
            np.testing.assert_array_equal(getattr(bound, name)[:28], getattr(alone, name), err_msg=name)
    changed = (bound.neighbour_offset[:28] != alone.neighbour_offset).any(axis=1)
    touched = np.zeros(28, bool)
    touched[residue_slots(protein)] = (distances_to_ligand(protein, ligand) <= CONTACT_CUTOFF).any(axis=1)
    assert 3 < touched.sum() < 20
    np.testing.assert_array_equal(changed, touched)


def test_neighbours_by_all_pairs():
    """Residues: the nearest contacts, then their residues as before. Atoms: bonds, then the nearest of all others."""
    protein, ligand = made_protein(), made_ligand()
    centre = ligand.atom_positions.mean(axis=0)  # of a smaller molecule every atom touches some residue
    ligand = dataclasses.replace(ligand, atom_positions=centre + (ligand.atom_positions - centre) / 2)
    example, alone = made_complex(0, ligand), make_example(protein, id="x", group="x")
    contact = distances_to_ligand(protein, ligand)
    contact[contact > CONTACT_CUTOFF] = np.inf
    slot = residue_slots(protein)
    several = 0
    for residue, own in enumerate(slot):
        senders = own + example.neighbour_offset[own][example.neighbour_offset[own] != 0]
        count = min(MAX_CONTACTS, int(np.isfinite(contact[residue]).sum()))
        several += np.isfinite(contact[residue]).sum() > MAX_CONTACTS
        assert (senders[:count] >= 28).all()
        np.testing.assert_allclose(contact[residue, senders[:count] - 28], np.sort(contact[residue])[:count], atol=2e-3)
        residues = own + alone.neighbour_offset[own][alone.neighbour_offset[own] != 0]
        assert senders[count:].tolist() == residues[: MAX_NEIGHBOURS - count].tolist()
    assert several > 0, "no residue has more contacts than are kept"

    between = np.linalg.norm(ligand.atom_positions[:, None] - ligand.atom_positions[None], axis=-1)
    for atom in range(ATOMS):
        own = 28 + atom
        senders = own + example.neighbour_offset[own][example.neighbour_offset[own] != 0]
        bonded = {int(b) for bond in ligand.bonds for b in bond if atom in bond} - {atom}
        assert set(senders[: len(bonded)] - 28) == bonded
        rest = senders[len(bonded) :]
        row_of = {own: row for row, own in enumerate(slot.tolist())}
        found = [between[atom, s - 28] if s >= 28 else contact[row_of[s], atom] for s in rest.tolist()]
        assert (np.diff(found) > -2e-3).all()
        others = ATOMS - 1 - len(bonded) + int(np.isfinite(contact[:, atom]).sum())
        assert len(senders) == min(MAX_NEIGHBOURS, len(bonded) + others)
        assert len(set(senders.tolist())) == len(senders)


def test_the_order_of_the_atoms_is_only_a_name():
    """With the atoms in another order every list names the same atoms at their new slots."""
    order = np.random.default_rng(1).permutation(ATOMS)
    first, second = made_complex(), made_complex(ligand=permuted(made_ligand(), order))
    new_slot = np.concatenate([np.arange(28), 28 + np.argsort(order)])
    for old in range(first.num_slots):
        offsets = first.neighbour_offset[old]
        expected = new_slot[old + offsets[offsets != 0]]
        offsets = second.neighbour_offset[new_slot[old]]
        assert (new_slot[old] + offsets[offsets != 0]).tolist() == expected.tolist()


def test_motions_of_the_complex_change_no_list():
    """Turned and moved together, protein and ligand have the same neighbours."""
    turned, ligand = moved(made_protein(), made_ligand(), random_rotation(3), np.array([20.0, -7.0, 3.0]))
    example = make_example(turned, id="x", group="x", ligand=ligand)
    np.testing.assert_array_equal(example.neighbour_offset, made_complex().neighbour_offset)


def edge_names(grid, row, start, example):
    """(receiver, sender) in slots of the example -> name of the type of the edge."""
    names = {}
    for receiver in range(example.num_slots):
        place = (row, start + receiver)
        for sender, there, kind in zip(*(x[place] for x in (grid.neighbours, grid.neighbour_mask, grid.edge_type))):  # noqa: B905
            assert there == (kind > 0)
            if there:
                names[receiver, int(sender) - start] = EDGE_TYPES[kind]
    return names


def test_the_grid_says_what_joins_two_slots():
    """Bonds by their type in both directions, contacts, atoms and residues; sides and fields of the atoms' slots."""
    first, example = make_example(made_protein(1), id="x", group="x"), made_complex()
    grid = make_grid([[(0, first), (1, example), (2, first)]], length=96, neighbours=24, graphs=3)
    start = first.num_slots
    atoms = slice(start + 28, start + 37)
    assert not grid.sequence_mask[0, atoms].any()
    assert grid.structure_mask[0, atoms].all()
    np.testing.assert_array_equal(grid.ligand_atom[0, atoms], example.ligand_atoms)
    assert np.count_nonzero(grid.ligand_atom[..., 0]) == ATOMS
    assert grid.sequence_mask.sum() == 3 * 28
    chains = grid.chain_segment[0][grid.chain_segment[0] > 0]
    assert chains.tolist() == sorted(chains)
    assert chains.max() == 3 * 2 + ATOMS
    names = edge_names(grid, 0, start, example)
    bonds = {(28 + i, 28 + j): BOND_TYPES[kind] for i, j, kind in example.ligand_bonds.tolist()}
    for (receiver, sender), name in names.items():
        pair = (min(receiver, sender), max(receiver, sender))
        if pair in bonds:
            assert name == f"{bonds[pair]} bond"
        else:
            assert name == {0: "residues", 1: "contact", 2: "atoms"}[(receiver >= 28) + (sender >= 28)]
    assert sum("bond" in name for name in names.values()) == 2 * len(bonds)
    assert {"residues", "contact", "atoms", "double bond"} <= set(names.values())
    assert set(edge_names(grid, 0, 0, first).values()) == {"residues"}


@pytest.mark.parametrize("seed", range(8))
def test_a_crop_keeps_the_ligand_and_what_touches_it(seed):
    """The whole ligand stays, the residue nearest to it too, and the edges that are left have the types they had."""
    example = made_complex()
    cropped = crop_example(example, 24, np.random.default_rng(seed))
    assert cropped.num_slots <= 24
    check_example(cropped)
    np.testing.assert_array_equal(cropped.ligand_atoms, example.ligand_atoms)
    np.testing.assert_array_equal(cropped.backbone[cropped.first_atom :], example.backbone[28:])
    assert cropped.is_residue.sum() == 24 - 4 - ATOMS
    assert cropped.chain_ids == tuple("AB"[: len(cropped.chain_ids)])
    atoms = example.backbone[28:, 1]
    distance = np.linalg.norm(example.backbone[:28, None, 1] - atoms, axis=-1).min(axis=1)
    nearest = example.backbone[np.argmin(np.where(example.is_residue[:28], distance, np.inf)), 1]
    assert (cropped.backbone[:, 1] == nearest).all(axis=-1).any()

    def edges_by_place(example):
        grid = make_grid([[(0, example)]], length=64, neighbours=32, graphs=1)
        place = [tuple(ca) for ca in example.backbone[:, 1].tolist()]
        return {(place[a], place[b]): name for (a, b), name in edge_names(grid, 0, 0, example).items()}

    before, after = edges_by_place(example), edges_by_place(cropped)
    kept = {tuple(ca) for ca in cropped.backbone[:, 1].tolist()}
    assert after == {edge: name for edge, name in before.items() if set(edge) <= kept}


def test_a_crop_without_room_for_the_ligand_is_an_error():
    """The message counts the atoms."""
    with pytest.raises(ValueError, match="2 chains and 9 ligand atoms"):
        crop_example(made_complex(), 13, np.random.default_rng(0))
