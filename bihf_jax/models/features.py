"""Geometric features of the structure side, computed on the device from the backbone; always in float32.

Scalars are invariant and vectors equivariant under rotation and translation; torsions and side-chain directions change
under a mirror image. Sources: Ingraham et al. 2019 (features), Jing et al. 2021 (as GVP inputs).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import BACKBONE_ATOMS
from bihf_jax.data.ligand import ATOM_FIELDS, EDGE_TYPES, RESIDUES
from bihf_jax.models.config import DistanceConfig, GVPConfig, StructureConfig
from bihf_jax.models.graph import gather_neighbours, structure_neighbours

Array = jax.Array

NUM_RADIAL = 16
NUM_POSITIONAL = 16
BACKBONE_TORSIONS = 3  # phi, psi, omega come first in `ProteinBatch.torsions`, chi1-4 after them
_MIN_SQUARED_LENGTH = 1e-6  # Å^2; a shorter vector has no direction
_N, _CA, _C = (BACKBONE_ATOMS.index(atom) for atom in ("N", "CA", "C"))


class GeometricFeatures(NamedTuple):
    """Inputs of a structure encoder. All values are finite, and 0 where masked."""

    node_scalars: Array  # [R, L, 6] float32 cos and sin of phi, psi, omega
    node_vectors: Array  # [R, L, 3 (xyz), 3] float32 unit vectors to the next CA, the previous CA, the side chain
    node_mask: Array  # [R, L] bool: the slot has a structure
    edge_scalars: Array  # [R, L, K, `num_edge_scalars`] float32: distances, position difference, same chain, type
    edge_vectors: Array  # [R, L, K, 3 (xyz), 1] float32 unit vector from the receiver's CA to the sender's
    neighbours: Array  # [R, L, K] int32 slot of the sender in the row
    edge_mask: Array  # [R, L, K] bool


def geometric_features(batch: ProteinBatch, config: GVPConfig) -> GeometricFeatures:
    """Features of all slots and their edges; values at masked slots of the batch do not reach them."""
    batch = choose_neighbours(batch, config)
    atoms, atom_mask = backbone_atoms(batch)
    return GeometricFeatures(
        node_scalars=torsion_features(batch, slice(0, BACKBONE_TORSIONS)),
        node_vectors=node_vectors(atoms, atom_mask, batch.chain_segment),
        node_mask=batch.structure_mask,
        edge_scalars=edge_scalars(atoms, atom_mask, batch, config),
        edge_vectors=edge_vectors(atoms, batch.neighbours, batch.neighbour_mask),
        neighbours=batch.neighbours,
        edge_mask=batch.neighbour_mask,
    )


def visible(batch: ProteinBatch, config: StructureConfig) -> ProteinBatch:
    """The batch as the model sees it: without `ligands` no ligand atom has a structure."""
    if config.ligands:
        return batch
    return batch._replace(structure_mask=batch.structure_mask & ~is_ligand_atom(batch))


def is_ligand_atom(batch: ProteinBatch) -> Array:
    """[R, L] bool: the slot holds an atom of a ligand."""
    return batch.ligand_atom[..., 0] > 0


def choose_neighbours(batch: ProteinBatch, config: StructureConfig) -> ProteinBatch:
    """The batch with the neighbours that the config asks for, each of them with a structure at both ends.

    These are the nearest `config.neighbours`, without those beyond `config.radius`, after the `2 sequence_neighbours`
    of the chain. One that is both stands once. A masked neighbour is the slot itself, whatever was there.
    """
    neighbours, mask = structure_neighbours(batch, config.neighbours)  # [R, L, K]
    edge_type = batch.edge_type[..., : config.neighbours]
    if config.radius is not None:
        alpha = backbone_atoms(batch)[0][..., _CA, :]
        mask &= vector_length(gather_neighbours(alpha, neighbours) - alpha[:, :, None]) <= config.radius
    if config.sequence_neighbours:
        in_chain, in_chain_mask = _sequence_neighbours(batch, config.sequence_neighbours)
        stands_there = (neighbours[..., None] == in_chain[:, :, None]) & in_chain_mask[:, :, None]  # [R, L, K, 2 reach]
        neighbours = jnp.concatenate([in_chain, neighbours], axis=-1)
        mask = jnp.concatenate([in_chain_mask, mask & ~stands_there.any(axis=-1)], axis=-1)
        edge_type = jnp.concatenate([jnp.full_like(in_chain, RESIDUES, edge_type.dtype), edge_type], axis=-1)
    own = jnp.arange(neighbours.shape[1], dtype=neighbours.dtype)[:, None]
    return batch._replace(
        neighbours=jnp.where(mask, neighbours, own), neighbour_mask=mask, edge_type=jnp.where(mask, edge_type, 0)
    )


def _sequence_neighbours(batch: ProteinBatch, reach: int) -> tuple[Array, Array]:
    """Slots -1, 1, -2, 2, .. reach away, and which are of the chain with a structure at both ends: [R, L, 2 reach]."""
    rows, length = batch.tokens.shape
    steps = jnp.arange(1, reach + 1, dtype=batch.neighbours.dtype)
    slots = jnp.arange(length, dtype=steps.dtype)[:, None] + jnp.stack([-steps, steps], axis=-1).reshape(-1)
    in_row = (slots >= 0) & (slots < length)
    slots = jnp.broadcast_to(jnp.clip(slots, 0, length - 1), (rows, *slots.shape))
    same_chain = gather_neighbours(batch.chain_segment, slots) == batch.chain_segment[..., None]
    both = gather_neighbours(batch.structure_mask, slots) & batch.structure_mask[..., None]
    return slots, in_row & same_chain & both


def backbone_atoms(batch: ProteinBatch) -> tuple[Array, Array]:
    """Backbone [R, L, 5, 3] float32 Å with 0 where an atom or the slot's structure is absent; mask [R, L, 5]."""
    mask = batch.backbone_mask & batch.structure_mask[..., None]
    return jnp.where(mask[..., None], batch.backbone, 0.0).astype(jnp.float32), mask


def residue_types(batch: ProteinBatch, config: StructureConfig) -> Array:
    """One-hot tokens [R, L, 33] float32; zeros where the slot has no token, and everywhere without `residue_type`."""
    known = batch.sequence_mask & config.residue_type
    return jax.nn.one_hot(jnp.where(known, batch.tokens, -1), len(alphabet.TOKENS))  # -1 gives a row of zeros


def node_types(batch: ProteinBatch, config: StructureConfig) -> Array:
    """What each node is, [R, L, `num_node_types`] float32: its `residue_types` and, with `ligands`, its
    `ligand_features`."""
    types = residue_types(batch, config)
    return jnp.concatenate([types, ligand_features(batch)], axis=-1) if config.ligands else types


def num_node_types(config: StructureConfig) -> int:
    """Last axis of `node_types`."""
    return len(alphabet.TOKENS) + (sum(ATOM_FIELDS.values()) if config.ligands else 0)


def ligand_features(batch: ProteinBatch) -> Array:
    """Each of `ligand.ATOM_FIELDS` one-hot, side by side: [R, L, 31] float32; zeros where no ligand atom is."""
    here = is_ligand_atom(batch) & batch.structure_mask
    fields = jnp.where(here[..., None], batch.ligand_atom, -1)  # -1 gives a row of zeros
    parts = [jax.nn.one_hot(fields[..., column], size) for column, size in enumerate(ATOM_FIELDS.values())]
    return jnp.concatenate(parts, axis=-1)


def edge_types(batch: ProteinBatch, config: StructureConfig) -> Array:
    """What joins the ends of each edge of `choose_neighbours`, of `ligand.EDGE_TYPES`, one-hot without "none":
    [R, L, K, `num_edge_types`] float32. Without `ligands` all join residues, and there is nothing to tell."""
    if not config.ligands:
        return jnp.zeros((*batch.neighbours.shape, 0))
    return jax.nn.one_hot(jnp.where(batch.neighbour_mask, batch.edge_type - 1, -1), num_edge_types(config))


def num_edge_types(config: StructureConfig) -> int:
    """Last axis of `edge_types`."""
    return len(EDGE_TYPES) - 1 if config.ligands else 0


def torsion_features(batch: ProteinBatch, which: slice) -> Array:
    """Cosines, then sines of the torsions `which` of `example.TORSIONS`: [R, L, 2 angles], 0 where masked."""
    mask = batch.torsion_mask[..., which] & batch.structure_mask[..., None]
    angles = jnp.where(mask, batch.torsions[..., which], 0.0)
    return jnp.concatenate([jnp.where(mask, jnp.cos(angles), 0.0), jnp.sin(angles)], axis=-1)


def node_vectors(atoms: Array, atom_mask: Array, chain_segment: Array) -> Array:
    """Unit vectors of each residue; zeros at ligand atoms.

    Args:
      atoms: [R, L, 5, 3] Å.
      atom_mask: [R, L, 5] bool.
      chain_segment: [R, L] int32.

    Returns:
      [R, L, 3 (xyz), 3]: to the next CA and to the previous CA of the chain (0 where that slot has no structure),
      and the direction of the side chain (`side_chain_direction`).
    """
    alpha = atoms[..., _CA, :]  # [R, L, 3]
    bonded = followed_in_chain(atom_mask[..., _CA], chain_segment)
    step = jnp.where(bonded[..., None], unit_vector(alpha[:, 1:] - alpha[:, :-1]), 0.0)  # [R, L - 1, 3]
    forward = jnp.pad(step, ((0, 0), (0, 1), (0, 0)))
    backward = jnp.pad(-step, ((0, 0), (1, 0), (0, 0)))
    side_chain = jnp.where(has_frame(atom_mask)[..., None], side_chain_direction(atoms), 0.0)
    return jnp.stack([forward, backward, side_chain], axis=-1)


def has_frame(atom_mask: Array) -> Array:
    """[R, L] bool: N, CA and C exist (`atom_mask` [R, L, 5]), as they do of all residues with a structure."""
    return atom_mask[..., _N] & atom_mask[..., _CA] & atom_mask[..., _C]


def followed_in_chain(node_mask: Array, chain_segment: Array) -> Array:
    """[R, L - 1] bool: the slot and the one after it have a structure and are of one chain."""
    return node_mask[:, :-1] & node_mask[:, 1:] & (chain_segment[:, :-1] == chain_segment[:, 1:])


def side_chain_direction(atoms: Array) -> Array:
    """Unit vector from CA to where an ideal CB lies, from N, CA and C: atoms [.., 5, 3] -> [.., 3].

    Tetrahedral geometry about CA (Jing et al. 2021, section 4); 0 where N, CA, C lie on a line or coincide.
    """
    alpha = atoms[..., _CA, :]
    to_n = unit_vector(atoms[..., _N, :] - alpha)
    to_c = unit_vector(atoms[..., _C, :] - alpha)
    bisector, normal = unit_vector(to_n + to_c), unit_vector(jnp.cross(to_c, to_n))
    return unit_vector(-bisector * (1 / 3) ** 0.5 - normal * (2 / 3) ** 0.5)


def edge_scalars(atoms: Array, atom_mask: Array, batch: ProteinBatch, config: DistanceConfig) -> Array:
    """Scalars of each edge of `choose_neighbours`, [R, L, K, `num_edge_scalars`].

    16 radial basis functions of the CA distance and of each extra distance, 16 sinusoids of the difference in slots
    (0 between chains, where it means nothing), whether both ends are in one chain, and the `edge_types`.
    """
    neighbours, edge_mask = batch.neighbours, batch.neighbour_mask
    parts = []
    for sender_atom, receiver_atom in (("CA", "CA"), *config.extra_distances):
        sender, receiver = BACKBONE_ATOMS.index(sender_atom), BACKBONE_ATOMS.index(receiver_atom)
        both = gather_neighbours(atom_mask[..., sender], neighbours) & atom_mask[..., receiver, None] & edge_mask
        difference = gather_neighbours(atoms[..., sender, :], neighbours) - atoms[..., None, receiver, :]
        basis = radial_basis(vector_length(difference), config.distance_cutoff)
        parts.append(jnp.where(both[..., None], basis, 0.0))
    separation, same_chain = chain_separation(batch)
    types = edge_types(batch, config)
    return jnp.concatenate([*parts, separation, same_chain[..., None].astype(jnp.float32), types], axis=-1)


def num_edge_scalars(config: DistanceConfig) -> int:
    """Last axis of `edge_scalars`: 33, 16 more for each extra distance, and those of `edge_types`."""
    return NUM_RADIAL * (1 + len(config.extra_distances)) + NUM_POSITIONAL + 1 + num_edge_types(config)


def chain_separation(batch: ProteinBatch) -> tuple[Array, Array]:
    """`sinusoids` [R, L, K, 16] of the difference in slots at each edge, 0 between chains; same chain [R, L, K]."""
    sender_chain = gather_neighbours(batch.chain_segment, batch.neighbours)
    same_chain = (sender_chain == batch.chain_segment[..., None]) & batch.neighbour_mask
    slots_apart = batch.neighbours - jnp.arange(batch.neighbours.shape[1])[:, None]
    return jnp.where(same_chain[..., None], sinusoids(slots_apart), 0.0), same_chain


def edge_vectors(atoms: Array, neighbours: Array, edge_mask: Array) -> Array:
    """Unit vector from each receiver's CA to the sender's, [R, L, K, 3 (xyz), 1]; 0 where masked or coincident."""
    alpha = atoms[..., _CA, :]
    direction = unit_vector(gather_neighbours(alpha, neighbours) - alpha[:, :, None])
    return jnp.where(edge_mask[..., None], direction, 0.0)[..., None]


def radial_basis(distance: Array, cutoff: float) -> Array:
    """16 Gaussians with centres from 0 to `cutoff` Å and a width of cutoff / 16: [..] Å -> [.., 16]."""
    centres = jnp.linspace(0.0, cutoff, NUM_RADIAL)
    return jnp.exp(-jnp.square((distance[..., None] - centres) * (NUM_RADIAL / cutoff)))


def sinusoids(slots_apart: Array) -> Array:
    """Cosines and sines of a signed difference in slots: [..] int -> [.., 16] (Vaswani et al. 2017)."""
    frequencies = jnp.exp(jnp.arange(0, NUM_POSITIONAL, 2) * -(jnp.log(10000.0) / NUM_POSITIONAL))
    angles = slots_apart[..., None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def unit_vector(x: Array) -> Array:
    """x / |x| along the last axis, and 0 (with gradient 0) where |x| < 0.001: [.., 3] -> [.., 3]."""
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    long_enough = squared > _MIN_SQUARED_LENGTH
    # The inner `where` keeps the untaken branch finite: its gradient is multiplied by 0, and 0 x inf is NaN.
    return jnp.where(long_enough, x * jax.lax.rsqrt(jnp.where(long_enough, squared, 1.0)), 0.0)


def vector_length(x: Array) -> Array:
    """|x| along the last axis, and 0 (with gradient 0) where |x| < 0.001: [.., 3] -> [..]."""
    squared = jnp.sum(jnp.square(x), axis=-1)
    long_enough = squared > _MIN_SQUARED_LENGTH
    return jnp.where(long_enough, jnp.sqrt(jnp.where(long_enough, squared, 1.0)), 0.0)
