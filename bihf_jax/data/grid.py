"""Placing examples into the residue grid (see `batch.ProteinBatch`), cropping included. Numpy only."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import BACKBONE_ATOMS, MAX_NEIGHBOURS, TORSIONS, Example, schema
from bihf_jax.data.ligand import ATOM_FIELDS, ATOMS, CONTACT, FIRST_BOND, RESIDUES
from bihf_jax.data.plan import GridShape

_STRUCTURE_ATOMS = [BACKBONE_ATOMS.index(name) for name in ("N", "CA", "C")]
_CA = BACKBONE_ATOMS.index("CA")


def empty_grid(rows: int, length: int, neighbours: int, graphs: int, protein_values: int = 0) -> ProteinBatch:
    """A grid without proteins: [rows, length] of padding (host arrays). `row_id` counts from 0.

    `protein_values` is P, the numbers of a protein's label (`labels.Labels.num_values`).
    """
    if neighbours > MAX_NEIGHBOURS:
        raise ValueError(f"{neighbours} neighbours asked for, but records hold {MAX_NEIGHBOURS}; ask for fewer")
    cell = (rows, length)
    own_slot = np.broadcast_to(np.arange(length, dtype=np.int32)[:, None], (*cell, neighbours))
    return ProteinBatch(
        tokens=np.full(cell, alphabet.PAD, np.int32),
        chain_segment=np.zeros(cell, np.int32),
        protein_segment=np.zeros(cell, np.int32),
        sequence_mask=np.zeros(cell, bool),
        structure_mask=np.zeros(cell, bool),
        backbone=np.zeros((*cell, len(BACKBONE_ATOMS), 3), np.float32),
        backbone_mask=np.zeros((*cell, len(BACKBONE_ATOMS)), bool),
        torsions=np.zeros((*cell, len(TORSIONS)), np.float32),
        torsion_mask=np.zeros((*cell, len(TORSIONS)), bool),
        neighbours=own_slot.copy(),
        neighbour_mask=np.zeros((*cell, neighbours), bool),
        edge_type=np.zeros((*cell, neighbours), np.int8),
        ligand_atom=np.zeros((*cell, len(ATOM_FIELDS)), np.int8),
        label=np.zeros(cell, np.float32),
        label_mask=np.zeros(cell, bool),
        weight=np.zeros(cell, np.float32),
        protein_label=np.zeros((rows, graphs, protein_values), np.float32),
        protein_label_mask=np.zeros((rows, graphs), bool),
        protein_weight=np.zeros((rows, graphs), np.float32),
        record=np.full((rows, graphs), -1, np.int32),
        row_id=np.arange(rows, dtype=np.int32),
    )


def example_batch(shape: GridShape) -> ProteinBatch:
    """One row of padding in the shapes of the grid: what a model is initialised with."""
    return empty_grid(1, min(shape.buckets), shape.neighbours, shape.graphs_per_row)


def place_example(grid: ProteinBatch, row: int, start: int, graph: int, record: int, example: Example) -> int:
    """Writes an example into slots [start, start + n) of a row, in place.

    Args:
      grid: host arrays made by `empty_grid`.
      row: row of the grid.
      start: first slot within the row; the slots from there on must be free.
      graph: graph slot of the protein within its row, from 0.
      record: index of the record in its split.
      example: what to place; n slots.

    Returns:
      The first free slot after it.
    """
    end = start + example.num_slots
    if end > grid.tokens.shape[1]:
        raise ValueError(
            f"example {example.id!r}: {example.num_slots} slots do not fit at {start} of {grid.tokens.shape[1]}"
        )
    cells = (row, slice(start, end))
    grid.tokens[cells] = example.tokens
    grid.chain_segment[cells] = example.chain_segment + (grid.chain_segment[row, start - 1] if start else 0)
    grid.protein_segment[cells] = graph + 1
    first_atom = start + example.first_atom
    grid.sequence_mask[row, start:first_atom] = True
    grid.structure_mask[cells] = example.backbone_mask[:, _STRUCTURE_ATOMS].all(axis=1)
    grid.structure_mask[row, first_atom:end] = True
    grid.ligand_atom[row, first_atom:end] = example.ligand_atoms
    grid.backbone[cells] = example.backbone
    grid.backbone_mask[cells] = example.backbone_mask
    grid.torsions[cells] = example.torsions
    grid.torsion_mask[cells] = example.torsion_mask
    _place_neighbours(grid, cells, start, example)
    grid.label[cells] = example.label
    grid.label_mask[cells] = example.label_mask
    grid.weight[cells] = example.weight
    _place_protein_label(grid, row, graph, example)
    grid.record[row, graph] = record
    return end


def _place_protein_label(grid: ProteinBatch, row: int, graph: int, example: Example) -> None:
    grid.protein_weight[row, graph] = example.weight
    if not len(example.protein_label):
        return
    values = grid.protein_label.shape[2]
    if len(example.protein_label) != values:
        raise ValueError(
            f"example {example.id!r}: its protein_label has {len(example.protein_label)} numbers, the grid holds "
            f"{values}; make the grid with the num_values of the labels of the record set"
        )
    grid.protein_label[row, graph] = example.protein_label
    grid.protein_label_mask[row, graph] = True


def _place_neighbours(grid: ProteinBatch, cells: tuple[int, slice], start: int, example: Example) -> None:
    """Neighbour slots of the row. A neighbour without N, CA and C is no node of the graph, so it is masked."""
    offset = example.neighbour_offset[:, : grid.neighbours.shape[2]]
    slot = np.arange(start, start + example.num_slots, dtype=np.int32)[:, None] + offset
    has_structure = grid.structure_mask[cells]
    mask = (offset != 0) & has_structure[:, None] & has_structure[slot - start]
    grid.neighbours[cells] = np.where(mask, slot, slot - offset)
    grid.neighbour_mask[cells] = mask
    grid.edge_type[cells] = np.where(mask, _edge_types(example, slot - start), 0)


def _edge_types(example: Example, sender: np.ndarray) -> np.ndarray:
    """[n, K] int8, `ligand.EDGE_TYPES` of the edges from `sender` [n, K] slots of the example."""
    types = np.full(sender.shape, RESIDUES, np.int8)
    atoms = len(example.ligand_atoms)
    if not atoms:
        return types
    first = example.first_atom
    from_atom = sender >= first
    types[from_atom] = CONTACT
    types[first:] = CONTACT
    between = np.full((atoms, atoms), ATOMS, np.int8)
    i, j, bond = example.ligand_bonds.T
    between[i, j] = between[j, i] = FIRST_BOND + bond
    receiver, place = np.nonzero(from_atom[first:])
    types[first:][receiver, place] = between[receiver, sender[first:][receiver, place] - first]
    return types


def make_grid(
    rows: Sequence[Sequence[tuple[int, Example]]],
    *,
    length: int,
    neighbours: int,
    graphs: int,
    protein_values: int = 0,
    first_row_id: int = 0,
) -> ProteinBatch:
    """Packs rows of (record index, example) into a grid [len(rows), length]."""
    grid = empty_grid(len(rows), length, neighbours, graphs, protein_values)
    grid.row_id[:] += first_row_id
    for row, members in enumerate(rows):
        start = 0
        for graph, (record, example) in enumerate(members):
            start = place_example(grid, row, start, graph, record, example)
    return grid


def split_over_devices(grid: ProteinBatch, num_devices: int) -> ProteinBatch:
    """[rows, ...] -> [devices, rows / devices, ...], rows in order."""
    return ProteinBatch(*(x.reshape(num_devices, x.shape[0] // num_devices, *x.shape[1:]) for x in grid))


def values_by_record(values: np.ndarray, batch: ProteinBatch) -> Iterator[tuple[int, np.ndarray]]:
    """Takes the proteins of a batch apart again.

    Args:
      values: [..., R, L, *] something of every slot.
      batch: [..., R, L].

    Yields:
      (record, its values [slots, *]) for each protein.
    """
    length = batch.tokens.shape[-1]
    rows = zip(
        values.reshape(-1, length, *values.shape[batch.tokens.ndim :]),
        batch.protein_segment.reshape(-1, length),
        batch.record.reshape(-1, batch.record.shape[-1]),
        strict=True,
    )
    for row_values, segment, record in rows:
        for graph in np.flatnonzero(record >= 0):
            yield int(record[graph]), row_values[segment == graph + 1]


def values_by_protein(values: np.ndarray, batch: ProteinBatch) -> Iterator[tuple[int, np.ndarray]]:
    """(record, its values [*]) for each protein of a batch, from something of every graph slot: [..., R, G, *]."""
    flat = values.reshape(-1, *values.shape[batch.record.ndim :])
    records = batch.record.reshape(-1)
    for slot in np.flatnonzero(records >= 0):
        yield int(records[slot]), flat[slot]


def crop_example(example: Example, max_slots: int, rng: np.random.Generator) -> Example:
    """A window of consecutive residues, placed at random, that needs at most `max_slots` slots.

    Residues are cropped first and special tokens added after: every chain with a residue in the window keeps its
    <cls> and <eos>. A ligand stays whole, and the window holds the residue nearest to it. Neighbours outside the window
    are dropped and the lists closed up, nearest first. The label of the protein as a whole stays: a window of an enzyme
    is taken for the enzyme.

    Raises:
      ValueError: `max_slots` has no room for a residue beside the special tokens of all chains and the ligand.
    """
    if example.num_slots <= max_slots:
        return example
    residue = example.is_residue
    width = max_slots - 2 * len(example.chain_ids) - len(example.ligand_atoms)
    if width < 1:
        raise ValueError(
            f"example {example.id!r} has {len(example.chain_ids)} chains and {len(example.ligand_atoms)} ligand atoms; "
            f"special tokens and atoms leave no room for a residue in {max_slots} slots; use a larger length bucket"
        )
    residue_slots = np.flatnonzero(residue)
    first = rng.integers(*_window_starts(example, residue_slots, width))
    kept = np.zeros(example.num_slots, bool)
    kept[residue_slots[first : first + width]] = True
    chains = np.unique(example.chain_segment[kept])
    kept |= ~residue & np.isin(example.chain_segment, chains)
    kept[example.first_atom :] = True
    return _take_slots(example, kept)


def _window_starts(example: Example, residue_slots: np.ndarray, width: int) -> tuple[int, int]:
    """Range (low, high + 1) of the first residue of a window of `width` residues."""
    stop = len(residue_slots) - width + 1
    if not len(example.ligand_atoms):
        return 0, stop
    places = example.backbone[:, _CA]
    distance = np.linalg.norm(places[residue_slots, None] - places[example.first_atom :], axis=-1).min(axis=1)
    nearest = int(np.argmin(np.where(example.backbone_mask[residue_slots, _CA], distance, np.inf)))
    return max(0, nearest - width + 1), min(stop, nearest + 1)


def _take_slots(example: Example, keep: np.ndarray) -> Example:
    """The example reduced to the slots where `keep` [n]."""
    kept = {name: getattr(example, name)[keep] for name, field in schema().items() if field.shape[:1] == ("slots",)}
    chains, segment = np.unique(kept["chain_segment"], return_inverse=True)
    kept["chain_segment"] = (segment + 1).astype(example.chain_segment.dtype)
    kept["chain_ids"] = tuple(example.chain_ids[c - 1] for c in chains if c <= len(example.chain_ids))
    kept["neighbour_offset"] = _renumber_neighbours(example.neighbour_offset, keep)
    return dataclasses.replace(example, **kept)


def _renumber_neighbours(offset: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Offsets [n, K] after dropping slots: neighbours that go are removed, the rest move up in order."""
    new_slot = np.where(keep, np.cumsum(keep) - 1, -1)
    old_sender = np.arange(len(keep))[:, None] + offset
    new_sender = new_slot[old_sender][keep]
    present = (offset[keep] != 0) & (new_sender >= 0)
    new_offset = np.where(present, new_sender - new_slot[keep][:, None], 0)
    order = np.argsort(~present, axis=1, kind="stable")
    return np.take_along_axis(new_offset, order, axis=1).astype(offset.dtype)
