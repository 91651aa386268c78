"""Synthetic proteins and residue grids for the model tests, in numpy and independent of the package's own packing."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.ligand import ATOM_FIELDS, RESIDUES

# These tests compile many programs that run once on tiny inputs: without LLVM's optimisation they take half the time.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@dataclasses.dataclass(frozen=True)
class SyntheticProtein:
    """One protein in slots (<cls> residues <eos> for each chain); neighbours are slots of the protein itself."""

    tokens: np.ndarray  # [n]
    chain: np.ndarray  # [n], from 1
    structure_mask: np.ndarray  # [n]
    backbone: np.ndarray  # [n, 5, 3]
    torsions: np.ndarray  # [n, 7]
    torsion_mask: np.ndarray  # [n, 7]
    neighbours: np.ndarray  # [n, K]
    neighbour_mask: np.ndarray  # [n, K]

    @property
    def slots(self) -> int:
        return len(self.tokens)


def random_protein(
    seed: int, chain_lengths: tuple[int, ...] = (9, 6), missing: float = 0.15, degree: int = 8
) -> SyntheticProtein:
    """Chains that are random walks of 3.8 Å steps, with a share of residues without coordinates."""
    rng = np.random.default_rng(seed)
    slots = sum(chain_lengths) + 2 * len(chain_lengths)
    tokens, chain = np.zeros(slots, np.int32), np.zeros(slots, np.int32)
    is_residue = np.zeros(slots, bool)
    alpha = np.zeros((slots, 3))
    start = 0
    for number, length in enumerate(chain_lengths, 1):
        stop = start + length + 2
        chain[start:stop] = number
        tokens[start:stop] = [alphabet.CLS, *rng.integers(4, 24, length), alphabet.EOS]
        is_residue[start + 1 : stop - 1] = True
        steps = rng.normal(size=(length, 3))
        steps *= 3.8 / np.linalg.norm(steps, axis=-1, keepdims=True)
        alpha[start + 1 : stop - 1] = rng.normal(scale=4.0, size=3) + np.cumsum(steps, axis=0)
        start = stop
    structure_mask = is_residue & (rng.random(slots) >= missing)
    backbone = alpha[:, None] + rng.normal(size=(slots, 5, 3))
    backbone[:, 1] = alpha
    neighbours, neighbour_mask = nearest_neighbours(alpha, structure_mask, degree)
    torsion_mask = structure_mask[:, None] & (rng.random((slots, 7)) < 0.9)
    return SyntheticProtein(
        tokens=tokens,
        chain=chain,
        structure_mask=structure_mask,
        backbone=np.where(structure_mask[:, None, None], backbone, 0).astype(np.float32),
        torsions=np.where(torsion_mask, rng.uniform(-np.pi, np.pi, (slots, 7)), 0).astype(np.float32),
        torsion_mask=torsion_mask,
        neighbours=neighbours,
        neighbour_mask=neighbour_mask,
    )


def nearest_neighbours(alpha: np.ndarray, structure_mask: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest `degree` slots with a structure, nearest first; the slot itself where there are fewer."""
    distance = np.linalg.norm(alpha[:, None] - alpha[None], axis=-1)
    distance[~structure_mask] = distance[:, ~structure_mask] = np.inf
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :degree]
    mask = np.isfinite(np.take_along_axis(distance, order, axis=1))
    neighbours = np.where(mask, order, np.arange(len(alpha))[:, None])
    absent = max(0, degree - len(alpha))
    own = np.broadcast_to(np.arange(len(alpha))[:, None], (len(alpha), absent))
    return np.concatenate([neighbours, own], axis=1), np.pad(mask, ((0, 0), (0, absent)))


def pack(rows: list[list[SyntheticProtein]], length: int, graphs: int = 4, offset: int = 0) -> ProteinBatch:
    """One row of the grid for each list of proteins; `offset` slots of padding stand before the first protein."""
    degree = max((p.neighbours.shape[1] for row in rows for p in row), default=1)
    count = len(rows)
    own = np.broadcast_to(np.arange(length)[:, None], (count, length, degree))
    fields = {
        "tokens": np.full((count, length), alphabet.PAD, np.int32),
        "chain_segment": np.zeros((count, length), np.int32),
        "protein_segment": np.zeros((count, length), np.int32),
        "sequence_mask": np.zeros((count, length), bool),
        "structure_mask": np.zeros((count, length), bool),
        "backbone": np.zeros((count, length, 5, 3), np.float32),
        "backbone_mask": np.zeros((count, length, 5), bool),
        "torsions": np.zeros((count, length, 7), np.float32),
        "torsion_mask": np.zeros((count, length, 7), bool),
        "neighbours": own.astype(np.int32).copy(),
        "neighbour_mask": np.zeros((count, length, degree), bool),
        "edge_type": np.zeros((count, length, degree), np.int8),
        "ligand_atom": np.zeros((count, length, len(ATOM_FIELDS)), np.int8),
        "label": np.zeros((count, length), np.float32),
        "label_mask": np.zeros((count, length), bool),
        "weight": np.zeros((count, length), np.float32),
        "protein_label": np.zeros((count, graphs, 0), np.float32),
        "protein_label_mask": np.zeros((count, graphs), bool),
        "protein_weight": np.zeros((count, graphs), np.float32),
        "record": np.full((count, graphs), -1, np.int32),
        "row_id": np.arange(count, dtype=np.int32),
    }
    for row, proteins in enumerate(rows):
        start, chains = offset, 0
        for number, protein in enumerate(proteins, 1):
            slots = slice(start, start + protein.slots)
            fields["tokens"][row, slots] = protein.tokens
            fields["chain_segment"][row, slots] = protein.chain + chains
            fields["protein_segment"][row, slots] = number
            fields["sequence_mask"][row, slots] = True
            fields["structure_mask"][row, slots] = protein.structure_mask
            fields["backbone"][row, slots] = protein.backbone
            fields["backbone_mask"][row, slots] = protein.structure_mask[:, None]
            fields["torsions"][row, slots] = protein.torsions
            fields["torsion_mask"][row, slots] = protein.torsion_mask
            fields["neighbours"][row, slots] = protein.neighbours + start
            fields["neighbour_mask"][row, slots] = protein.neighbour_mask
            fields["edge_type"][row, slots] = np.where(protein.neighbour_mask, RESIDUES, 0)
            fields["label_mask"][row, slots] = protein.structure_mask
            fields["weight"][row, slots] = 1.0
            fields["record"][row, number - 1] = number - 1
            start, chains = start + protein.slots, chains + protein.chain.max()
    return ProteinBatch(**{name: jnp.asarray(value) for name, value in fields.items()})


def transform(batch: ProteinBatch, rotation: np.ndarray, translation: np.ndarray) -> ProteinBatch:
    """The batch moved in space: x -> rotation x + translation; a rotation with determinant -1 mirrors torsions too."""
    moved = jnp.einsum("ij,rlaj->rlai", rotation, batch.backbone, precision="highest") + jnp.asarray(translation)
    backbone = jnp.where(batch.backbone_mask[..., None], moved, 0)
    return batch._replace(backbone=backbone, torsions=batch.torsions * np.sign(np.linalg.det(rotation)))


def random_rotation(seed: int) -> np.ndarray:
    """A proper rotation matrix [3, 3] float32."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return (matrix * np.sign(np.linalg.det(matrix))).astype(np.float32)


def noise_where_masked(batch: ProteinBatch, seed: int, invalid: bool = False) -> ProteinBatch:
    """The batch with large noise (or NaN coordinates and torsions, with `invalid`) at every value no mask admits."""
    rng = np.random.default_rng(seed)

    def noisy(values: jax.Array, mask: jax.Array) -> jax.Array:
        noise = np.full(values.shape, np.nan) if invalid else rng.normal(scale=1e4, size=values.shape)
        mask = np.asarray(mask).reshape(*mask.shape, *[1] * (values.ndim - mask.ndim))
        return jnp.where(mask, values, noise.astype(np.float32))

    return batch._replace(
        tokens=jnp.where(batch.sequence_mask, batch.tokens, rng.integers(0, 33, batch.tokens.shape, np.int32)),
        backbone=noisy(batch.backbone, batch.backbone_mask),
        torsions=noisy(batch.torsions, batch.torsion_mask),
        neighbours=jnp.where(
            batch.neighbour_mask, batch.neighbours, rng.integers(-5000, 5000, batch.neighbours.shape, np.int32)
        ),
        edge_type=jnp.where(batch.neighbour_mask, batch.edge_type, rng.integers(0, 9, batch.edge_type.shape, np.int8)),
        ligand_atom=jnp.where(
            batch.structure_mask[..., None], batch.ligand_atom, rng.integers(0, 5, batch.ligand_atom.shape, np.int8)
        ),
        label=noisy(batch.label, batch.label_mask),
    )


def random_variables(module: nn.Module, *arguments: object, method: Callable | None = None) -> dict:
    """Random values for every parameter of the module, so that the zero-initialised projections are open.

    `arguments` and `method` are what the module is called with; nothing is compiled.
    """
    rng = np.random.default_rng(9)

    def value(path: tuple, shape: jax.ShapeDtypeStruct) -> jax.Array:
        noise = rng.normal(size=shape.shape).astype(np.float32)
        if path[-1].key == "scale":
            return jnp.asarray(1 + 0.1 * noise)
        return jnp.asarray(noise / np.sqrt(shape.shape[0]) if len(shape.shape) == 2 else 0.2 * noise)

    initialise = functools.partial(module.init, method=method)
    return jax.tree_util.tree_map_with_path(value, jax.eval_shape(initialise, jax.random.key(0), *arguments))
