"""How the sender j of each edge lies as seen from its receiver i, on the device; always in float32.

The same as `bihf_jax.protein.frames`, which see for the definitions, but for the form: an angle is its cosine and
sine, made from products of vectors, so that gradients stay finite at coincident atoms and straight angles. Both are 0
where the angle is not defined.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import BACKBONE_ATOMS
from bihf_jax.models.features import backbone_atoms, followed_in_chain, has_frame, unit_vector, vector_length
from bihf_jax.models.graph import gather_neighbours

Array = jax.Array

_N, _CA, _C = (BACKBONE_ATOMS.index(atom) for atom in ("N", "CA", "C"))


class Beside(NamedTuple):
    """What stands before and after each slot [R, L] in its chain, or before and after each sender [R, L, K]."""

    to_previous: Array  # [.., 3] Å from the CA to the one before; 0 where there is none
    to_next: Array  # [.., 3] Å from the CA to the one after; 0 where there is none
    has_previous: Array  # [..] bool
    has_next: Array  # [..] bool


def beside(alpha: Array, node_mask: Array, chain_segment: Array) -> Beside:
    """The residues beside each slot, from CAs [R, L, 3] Å, the structure mask [R, L] and the chains [R, L]."""
    joined = followed_in_chain(node_mask, chain_segment)
    step = jnp.where(joined[..., None], alpha[:, 1:] - alpha[:, :-1], 0.0)
    return Beside(
        to_previous=jnp.pad(-step, ((0, 0), (1, 0), (0, 0))),
        to_next=jnp.pad(step, ((0, 0), (0, 1), (0, 0))),
        has_previous=jnp.pad(joined, ((0, 0), (1, 0))),
        has_next=jnp.pad(joined, ((0, 0), (0, 1))),
    )


class EdgeGeometry(NamedTuple):
    """Of every edge; 0 where masked."""

    distance: Array  # [R, L, K] Å between the CAs
    # [R, L, K, 3] unit vector to j in the frame of i: (sin theta cos phi, sin theta sin phi, cos theta). Where phi is
    # not defined (0, 0, cos theta).
    direction: Array
    torsion: Array  # [R, L, K, 2] cos tau, sin tau


def edge_geometry(batch: ProteinBatch) -> EdgeGeometry:
    """Distance, direction and torsion of the edges of `features.choose_neighbours`, from CAs alone."""
    alpha = backbone_atoms(batch)[0][..., _CA, :]
    neighbours, edge_mask = batch.neighbours, batch.neighbour_mask
    sides = beside(alpha, batch.structure_mask, batch.chain_segment)

    edge = jnp.where(edge_mask[..., None], gather_neighbours(alpha, neighbours) - alpha[:, :, None], 0.0)
    axis = unit_vector(edge)  # [R, L, K, 3]

    z = unit_vector(sides.to_previous)
    y = unit_vector(jnp.cross(z, unit_vector(sides.to_next)))
    frame = jnp.stack([jnp.cross(y, z), y, z], axis=-2)  # [R, L, 3 (axis), 3 (xyz)]
    direction = jnp.sum(frame[:, :, None] * axis[..., None, :], axis=-1)

    # Which is the residue beside an end that is not the other end.
    slot = jnp.arange(neighbours.shape[1])[:, None]
    sender_is_previous, sender_is_next = neighbours == slot - 1, neighbours == slot + 1
    receiver_sides = jax.tree.map(lambda x: x[:, :, None], sides)
    sender_sides = jax.tree.map(lambda x: gather_neighbours(x, neighbours), sides)
    from_receiver = _to_one_beside(receiver_sides, sender_is_previous, sender_is_next)
    from_sender = _to_one_beside(sender_sides, sender_is_next, sender_is_previous)
    left = unit_vector(jnp.cross(axis, unit_vector(from_receiver)))
    right = unit_vector(jnp.cross(axis, unit_vector(from_sender)))
    cosine = jnp.sum(left * right, axis=-1)
    sine = jnp.sum(jnp.cross(left, right) * axis, axis=-1)
    return EdgeGeometry(vector_length(edge), direction, jnp.stack([cosine, sine], axis=-1))


def _to_one_beside(sides: Beside, previous_is_other: Array, next_is_other: Array) -> Array:
    """[R, L, K, 3] Å to the residue before, or after where that is the other end or does not exist; 0 if none."""
    before = sides.has_previous & ~previous_is_other
    after = sides.has_next & ~next_is_other & ~before
    return jnp.where(before[..., None], sides.to_previous, jnp.where(after[..., None], sides.to_next, 0.0))


def euler_geometry(batch: ProteinBatch) -> Array:
    """Euler angles from the backbone frame of i to that of j: [R, L, K, 3, 2], cos and sin of alpha, beta, gamma."""
    atoms, atom_mask = backbone_atoms(batch)
    to_n = unit_vector(atoms[..., _N, :] - atoms[..., _CA, :])
    to_c = unit_vector(atoms[..., _C, :] - atoms[..., _CA, :])
    normal = unit_vector(jnp.cross(to_n, to_c))
    exists = (jnp.any(normal != 0, axis=-1) & has_frame(atom_mask))[..., None]
    x = jnp.where(exists, to_n, 0.0)
    frame = jnp.stack([x, normal, jnp.cross(x, normal)], axis=-2)  # [R, L, 3 (axis), 3 (xyz)]

    receiver, sender = frame[:, :, None], gather_neighbours(frame, batch.neighbours)
    sender = jnp.where(batch.neighbour_mask[..., None, None], sender, 0.0)
    new_z = jnp.sum(receiver * sender[..., 2:, :], axis=-1)  # [R, L, K, 3]: j's z axis in the frame of i
    old_z = jnp.sum(sender * receiver[..., 2:, :], axis=-1)  # i's z axis in the frame of j
    alpha = unit_vector(jnp.stack([-new_z[..., 1], new_z[..., 0]], axis=-1))
    gamma = unit_vector(jnp.stack([old_z[..., 1], old_z[..., 0]], axis=-1))
    beta = jnp.stack([new_z[..., 2], vector_length(new_z[..., :2])], axis=-1)
    return jnp.stack([alpha, beta, gamma], axis=-2)
