"""Geometric features of the structure side, computed on the device from the backbone; always in float32.

Scalars are invariant and vectors equivariant under rotation and translation; torsions and side-chain directions change
under a mirror image. Sources: Ingraham et al. 2019 (features), Jing et al. 2021 (as GVP inputs).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import BACKBONE_ATOMS
from bihf_jax.models.config import GVPConfig
from bihf_jax.models.graph import gather_neighbours, structure_neighbours

Array = jax.Array

NUM_RADIAL = 16
NUM_POSITIONAL = 16
BACKBONE_TORSIONS = 3  # phi, psi, omega come first in `ProteinBatch.torsions`
_MIN_SQUARED_LENGTH = 1e-6  # Å^2; a shorter vector has no direction
_N, _CA, _C = (BACKBONE_ATOMS.index(atom) for atom in ("N", "CA", "C"))


class GeometricFeatures(NamedTuple):
    """Inputs of a structure encoder. All values are finite, and 0 where masked."""

    node_scalars: Array  # [R, L, 6] float32 cos and sin of phi, psi, omega
    node_vectors: Array  # [R, L, 3 (xyz), 3] float32 unit vectors to the next CA, the previous CA, the side chain
    node_mask: Array  # [R, L] bool: the slot has a structure
    edge_scalars: Array  # [R, L, K, 33 + 16 x extra distances] float32: distances, position difference, same chain
    edge_vectors: Array  # [R, L, K, 3 (xyz), 1] float32 unit vector from the receiver's CA to the sender's
    neighbours: Array  # [R, L, K] int32 slot of the sender in the row
    edge_mask: Array  # [R, L, K] bool


def geometric_features(batch: ProteinBatch, config: GVPConfig) -> GeometricFeatures:
    """Features of all slots and their edges; values at masked slots of the batch do not reach them."""
    node_mask = batch.structure_mask
    atom_mask = batch.backbone_mask & node_mask[..., None]  # [R, L, 5]
    atoms = jnp.where(atom_mask[..., None], batch.backbone, 0.0).astype(jnp.float32)
    neighbours, edge_mask = structure_neighbours(batch, config.neighbours)
    return GeometricFeatures(
        node_scalars=torsion_features(batch.torsions, batch.torsion_mask & node_mask[..., None]),
        node_vectors=node_vectors(atoms, node_mask, batch.chain_segment),
        node_mask=node_mask,
        edge_scalars=edge_scalars(atoms, atom_mask, neighbours, edge_mask, batch.chain_segment, config),
        edge_vectors=edge_vectors(atoms, neighbours, edge_mask),
        neighbours=neighbours,
        edge_mask=edge_mask,
    )


def torsion_features(torsions: Array, torsion_mask: Array) -> Array:
    """Cosine and sine of phi, psi, omega: torsions [R, L, 7] radians and their mask -> [R, L, 6], 0 where masked."""
    mask = torsion_mask[..., :BACKBONE_TORSIONS]
    angles = jnp.where(mask, torsions[..., :BACKBONE_TORSIONS], 0.0)
    return jnp.concatenate([jnp.where(mask, jnp.cos(angles), 0.0), jnp.sin(angles)], axis=-1)


def node_vectors(atoms: Array, node_mask: Array, chain_segment: Array) -> Array:
    """Unit vectors of each residue.

    Args:
      atoms: [R, L, 5, 3] Å.
      node_mask: [R, L] bool.
      chain_segment: [R, L] int32.

    Returns:
      [R, L, 3 (xyz), 3]: to the next CA and to the previous CA of the chain (0 where that slot has no structure),
      and the direction of the side chain (`side_chain_direction`).
    """
    alpha = atoms[..., _CA, :]  # [R, L, 3]
    bonded = node_mask[:, :-1] & node_mask[:, 1:] & (chain_segment[:, :-1] == chain_segment[:, 1:])
    step = jnp.where(bonded[..., None], unit_vector(alpha[:, 1:] - alpha[:, :-1]), 0.0)  # [R, L - 1, 3]
    forward = jnp.pad(step, ((0, 0), (0, 1), (0, 0)))
    backward = jnp.pad(-step, ((0, 0), (1, 0), (0, 0)))
    side_chain = jnp.where(node_mask[..., None], side_chain_direction(atoms), 0.0)
    return jnp.stack([forward, backward, side_chain], axis=-1)


def side_chain_direction(atoms: Array) -> Array:
    """Unit vector from CA to where an ideal CB lies, from N, CA and C: atoms [.., 5, 3] -> [.., 3].

    Tetrahedral geometry about CA (Jing et al. 2021, section 4); 0 where N, CA, C lie on a line or coincide.
    """
    alpha = atoms[..., _CA, :]
    to_n = unit_vector(atoms[..., _N, :] - alpha)
    to_c = unit_vector(atoms[..., _C, :] - alpha)
    bisector, normal = unit_vector(to_n + to_c), unit_vector(jnp.cross(to_c, to_n))
    return unit_vector(-bisector * (1 / 3) ** 0.5 - normal * (2 / 3) ** 0.5)


def edge_scalars(
    atoms: Array, atom_mask: Array, neighbours: Array, edge_mask: Array, chain_segment: Array, config: GVPConfig
) -> Array:
    """Scalars of each edge, [R, L, K, 33 + 16 x extra distances].

    16 radial basis functions of the CA distance and of each extra distance, 16 sinusoids of the difference in slots
    (0 between chains, where it means nothing), and whether both ends are in one chain.
    """
    parts = []
    for sender_atom, receiver_atom in (("CA", "CA"), *config.extra_distances):
        sender, receiver = BACKBONE_ATOMS.index(sender_atom), BACKBONE_ATOMS.index(receiver_atom)
        both = gather_neighbours(atom_mask[..., sender], neighbours) & atom_mask[..., receiver, None] & edge_mask
        difference = gather_neighbours(atoms[..., sender, :], neighbours) - atoms[..., None, receiver, :]
        basis = radial_basis(vector_length(difference), config.distance_cutoff)
        parts.append(jnp.where(both[..., None], basis, 0.0))
    same_chain = (gather_neighbours(chain_segment, neighbours) == chain_segment[..., None]) & edge_mask
    slots_apart = neighbours - jnp.arange(neighbours.shape[1])[:, None]
    parts.append(jnp.where(same_chain[..., None], sinusoids(slots_apart), 0.0))
    parts.append(same_chain[..., None].astype(jnp.float32))
    return jnp.concatenate(parts, axis=-1)


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
