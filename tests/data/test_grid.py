"""The residue grid: placing loses nothing, the graph is that of jraph, cropping keeps what it must."""

import dataclasses

import jraph
import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.data.grid import crop_example, empty_grid, make_grid, split_over_devices, values_by_record
from tests.data.examples import random_example

NEIGHBOURS = 8


def two_rows():
    """Five examples of one to three chains in two rows."""
    examples = [random_example(i, lengths) for i, lengths in enumerate([(12,), (5, 9), (1,), (20,), (3, 4, 6)])]
    rows = [[(0, examples[0]), (1, examples[1]), (2, examples[2])], [(3, examples[3]), (4, examples[4])]]
    return examples, make_grid(rows, length=64, neighbours=NEIGHBOURS, graphs=4, first_row_id=10)


def slots_of(grid, record):
    """(row, slots) of a record."""
    row, graph = np.argwhere(grid.record == record)[0]
    return row, np.flatnonzero(grid.protein_segment[row] == graph + 1)


def test_placed_examples_read_back():
    """Each record's fields stand at its slots, in order; everything else is padding."""
    examples, grid = two_rows()
    for record, example in enumerate(examples):
        row, slots = slots_of(grid, record)
        for name in ("tokens", "backbone", "backbone_mask", "torsions", "torsion_mask", "label", "label_mask"):
            np.testing.assert_array_equal(getattr(grid, name)[row, slots], getattr(example, name), err_msg=name)
        chain = grid.chain_segment[row, slots]
        np.testing.assert_array_equal(chain - chain[0] + 1, example.chain_segment)
        assert np.all(grid.weight[row, slots] == np.float32(example.weight))
    padding = ~grid.sequence_mask
    assert np.all(grid.tokens[padding] == alphabet.PAD)
    assert not grid.label_mask[padding].any()
    assert not grid.structure_mask[padding].any()
    assert np.all(grid.chain_segment[padding] == 0)
    assert np.all(grid.protein_segment[padding] == 0)
    assert grid.sequence_mask.sum() == sum(example.num_slots for example in examples)
    np.testing.assert_array_equal(grid.row_id, [10, 11])


@pytest.mark.parametrize("devices", [None, 2])
def test_values_are_taken_apart_by_record(devices):
    """What stands at the slots of a record comes back as its own, whatever is behind the slots, on any devices."""
    examples, grid = two_rows()
    if devices:
        grid = split_over_devices(grid, devices)
    for name in ("tokens", "backbone"):
        found = dict(values_by_record(getattr(grid, name), grid))
        assert sorted(found) == list(range(len(examples)))
        for record, example in enumerate(examples):
            np.testing.assert_array_equal(found[record], getattr(example, name))


def test_chains_of_a_row_are_told_apart():
    """No two chains of a row share a segment, so that attention never crosses from one to the other."""
    examples, grid = two_rows()
    for row, members in ((0, examples[:3]), (1, examples[3:])):
        assert grid.chain_segment[row].max() == sum(len(example.chain_ids) for example in members)


def test_graph_equals_jraph_batch():
    """The grid's edges and features, padding left out, are those of `jraph.batch` of the same graphs unpadded."""
    examples, grid = two_rows()
    batched = jraph.batch_np([unpadded_graph(example) for example in examples])
    grid_edges, grid_nodes = [], []
    first_node = 0
    for record, example in enumerate(examples):
        row, slots = slots_of(grid, record)
        to_node = np.full(grid.tokens.shape[1], -1)
        to_node[slots] = first_node + np.arange(example.num_slots)
        receiver, place = np.nonzero(grid.neighbour_mask[row] & np.isin(np.arange(64), slots)[:, None])
        sender = grid.neighbours[row][receiver, place]
        grid_edges.append(np.stack([to_node[sender], to_node[receiver]], axis=1))
        grid_nodes.append(grid.backbone[row, slots, 1])
        first_node += example.num_slots
    jraph_edges = np.stack([batched.senders, batched.receivers], axis=1)
    np.testing.assert_array_equal(np.concatenate(grid_edges), jraph_edges)
    np.testing.assert_array_equal(np.concatenate(grid_nodes), batched.nodes)
    assert len(jraph_edges) == grid.neighbour_mask.sum()
    # A sum over the K neighbour slots is jraph's own sum over the edges.
    rows = np.arange(len(grid.tokens))[:, None, None]
    messages = np.where(grid.neighbour_mask[..., None], grid.backbone[rows, grid.neighbours, 1], 0).sum(axis=2)
    ours = np.concatenate([messages[slots_of(grid, r)[0], slots_of(grid, r)[1]] for r in range(len(examples))])
    theirs = jraph.segment_sum(batched.nodes[batched.senders], batched.receivers, len(batched.nodes))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def unpadded_graph(example):
    """The example as an ordinary jraph graph: a node a slot, an edge from each of the nearest neighbours."""
    offset = example.neighbour_offset[:, :NEIGHBOURS]
    receivers, place = np.nonzero(offset)
    return jraph.GraphsTuple(
        nodes=example.backbone[:, 1],
        edges=None,
        senders=receivers + offset[receivers, place],
        receivers=receivers,
        n_node=np.array([example.num_slots]),
        n_edge=np.array([len(receivers)]),
        globals=None,
    )


def test_masked_neighbours_point_to_themselves():
    """A missing neighbour is a self-loop with mask 0, so that a gather never leaves the protein."""
    _, grid = two_rows()
    own = np.broadcast_to(np.arange(64)[None, :, None], grid.neighbours.shape)
    np.testing.assert_array_equal(grid.neighbours[~grid.neighbour_mask], own[~grid.neighbour_mask])
    rows = np.arange(2)[:, None, None]
    same_protein = grid.protein_segment[rows, grid.neighbours] == grid.protein_segment[..., None]
    assert same_protein.all()


def test_unresolved_neighbours_are_no_neighbours():
    """A neighbour whose N, CA or C is missing is masked: it is no node of the graph."""
    example = random_example(3, (20,), unresolved=0.0)
    mask = example.backbone_mask.copy()
    mask[5, 0] = False
    grid = make_grid([[(0, dataclasses.replace(example, backbone_mask=mask))]], length=32, neighbours=8, graphs=1)
    assert not grid.structure_mask[0, 5]
    assert not grid.neighbour_mask[0, 5].any()
    assert not (grid.neighbours == 5)[grid.neighbour_mask].any()


def test_overfull_row_is_an_error():
    """An example that does not fit is refused, not cut."""
    with pytest.raises(ValueError, match="14 slots do not fit"):
        make_grid([[(0, random_example(0))]], length=13, neighbours=8, graphs=1)
    with pytest.raises(ValueError, match="records hold 32"):
        empty_grid(1, 8, 33, 1)


def test_split_over_devices_keeps_row_order():
    """Devices take consecutive rows."""
    grid = empty_grid(6, 8, 2, 1)
    np.testing.assert_array_equal(split_over_devices(grid, 3).row_id, [[0, 1], [2, 3], [4, 5]])


@pytest.mark.parametrize("seed", range(20))
def test_crop_is_a_window_of_whole_chains_ends(seed):
    """A crop fits, is contiguous in residues, and each chain left in it has <cls> and <eos>."""
    example = random_example(seed, (15, 1, 30), unresolved=0.2)
    cropped = crop_example(example, 24, np.random.default_rng(seed))
    assert cropped.num_slots <= 24
    for chain in range(1, len(cropped.chain_ids) + 1):
        tokens = cropped.tokens[cropped.chain_segment == chain]
        assert tokens[0] == alphabet.CLS
        assert tokens[-1] == alphabet.EOS
        assert len(tokens) > 2
    is_residue, was_residue = cropped.tokens > alphabet.UNK, example.tokens > alphabet.UNK
    whole, part = example.tokens[was_residue], cropped.tokens[is_residue]
    starts = [s for s in range(len(whole) - len(part) + 1) if np.array_equal(whole[s : s + len(part)], part)]
    assert len(part) == 24 - 2 * 3
    assert any(np.array_equal(example.backbone[was_residue][s : s + 18], cropped.backbone[is_residue]) for s in starts)


@pytest.mark.parametrize("seed", range(20))
def test_crop_keeps_the_neighbours_inside(seed):
    """A cropped residue's neighbours are its old ones that are still there, nearest first, without gaps."""
    example = random_example(seed, (15, 1, 30), unresolved=0.2)
    example = dataclasses.replace(example, residue_number=np.arange(example.num_slots, dtype=np.int32))
    cropped = crop_example(example, 24, np.random.default_rng(seed))
    kept = set(cropped.residue_number.tolist())
    for slot, old_slot in enumerate(cropped.residue_number):
        old = [old_slot + o for o in example.neighbour_offset[old_slot] if o and old_slot + o in kept]
        offsets = cropped.neighbour_offset[slot]
        count = np.count_nonzero(offsets)
        assert not offsets[count:].any()
        assert [cropped.residue_number[slot + o] for o in offsets[:count]] == old


def test_crop_keeps_the_label_of_the_protein():
    """The label of the whole is not cut, even where it has as many numbers as the protein has slots."""
    example = random_example(0, chain_lengths=(12,))
    example = dataclasses.replace(example, protein_label=np.arange(example.num_slots, dtype=np.float32))
    cropped = crop_example(example, 8, np.random.default_rng(0))
    assert cropped.num_slots == 8
    np.testing.assert_array_equal(cropped.protein_label, example.protein_label)


def test_crop_places_windows_all_over():
    """Windows reach both ends of the protein."""
    example = random_example(0, (40,), unresolved=0.0)
    crops = [crop_example(example, 12, np.random.default_rng(seed)) for seed in range(200)]
    assert {crop.residue_number[1] for crop in crops} == set(range(1, 32))


def test_short_examples_are_not_cropped():
    """What fits is returned as it is."""
    example = random_example(0)
    assert crop_example(example, 14, np.random.default_rng(0)) is example


def test_crop_without_room_is_an_error():
    """More chains than the row has room for special tokens: the message says what to change."""
    with pytest.raises(ValueError, match="larger length bucket"):
        crop_example(random_example(0, (4, 4, 4)), 6, np.random.default_rng(0))
