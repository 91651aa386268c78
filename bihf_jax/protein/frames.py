"""How residues lie to each other: backbone frames, and the angles of an edge from a sender j to a receiver i.

The geometry of ProNet (Wang et al. 2023, "Learning hierarchical protein representations via complete 3D graph
networks"), in numpy and double precision. `bihf_jax.models.relative_geometry` computes the same on the
device. Angles are in radians.
"""

import numpy as np

from bihf_jax.protein.geometry import BACKBONE_ATOMS, dihedral

_N, _CA, _C = (BACKBONE_ATOMS.index(name) for name in ("N", "CA", "C"))
_MIN_LENGTH = 1e-3  # Å; a shorter vector has no direction


def backbone_frames(positions: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frame of each residue: x from CA to N, z in the plane of N, CA and C on the side away from C, y = z x x.

    Args:
      positions: [N, 5, 3] Å, N CA C O CB, as of `geometry.backbone`.
      mask: [N, 5] bool.

    Returns:
      rotations [N, 3, 3] whose columns are x, y and z, 0 where masked; mask [N] bool: N, CA and C exist and are not
      on a line.
    """
    positions = positions.astype(np.float64)
    to_n, to_c = positions[:, _N] - positions[:, _CA], positions[:, _C] - positions[:, _CA]
    x, x_exists = _unit(to_n)
    normal, normal_exists = _unit(np.cross(x, to_c))
    exists = mask[:, [_N, _CA, _C]].all(axis=1) & x_exists & normal_exists
    rotations = np.stack([x, normal, np.cross(x, normal)], axis=-1)
    return np.where(exists[:, None, None], rotations, 0.0), exists


def euler_angles(
    positions: np.ndarray, mask: np.ndarray, senders: np.ndarray, receivers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Euler angles that turn the frame of the receiver into the frame of the sender, about its z, new x and new z.

    Args:
      positions: [N, 5, 3] Å.
      mask: [N, 5] bool.
      senders: [E] int residues j.
      receivers: [E] int residues i.

    Returns:
      angles [E, 3]: alpha and gamma from -pi to pi, beta from 0 to pi; 0 where masked. mask [E, 3] bool: both frames
      exist, and for alpha and gamma their z axes are not parallel.
    """
    rotations, exists = backbone_frames(positions, mask)
    both = exists[senders] & exists[receivers]
    turn = np.einsum("eji,ejk->eik", rotations[receivers], rotations[senders])
    sine = np.hypot(turn[:, 0, 2], turn[:, 1, 2])
    alpha, gamma = np.arctan2(turn[:, 0, 2], -turn[:, 1, 2]), np.arctan2(turn[:, 2, 0], turn[:, 2, 1])
    beta = np.arctan2(sine, turn[:, 2, 2])
    tilted = both & (sine > _MIN_LENGTH)
    angle_mask = np.stack([tilted, both, tilted], axis=1)
    return np.where(angle_mask, np.stack([alpha, beta, gamma], axis=1), 0.0), angle_mask


def edge_angles(
    ca: np.ndarray, exists: np.ndarray, chain_index: np.ndarray, senders: np.ndarray, receivers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance d and angles theta, phi and tau of each edge, from CAs alone.

    theta and phi are the direction to j in the frame of i: theta is the angle of j, i and i - 1, phi the turn about
    i -> i - 1 from i + 1 to j. tau is the torsion about i -> j of a neighbour of i and one of j in their chains: the
    one before, or the one after where that is the other end or does not exist.

    A residue has a neighbour in its chain where the residue beside it exists and is of the same chain. Published code
    takes the residue beside it in the batch, of whatever chain or protein that is.

    Args:
      ca: [N, 3] Å.
      exists: [N] bool: the residue has coordinates.
      chain_index: [N] int.
      senders: [E] int residues j.
      receivers: [E] int residues i.

    Returns:
      distance [E] Å; angles [E, 3], theta from 0 to pi, phi and tau from -pi to pi, 0 where masked; mask [E, 3] bool.
    """
    ca = ca.astype(np.float64)
    joined = exists[:-1] & exists[1:] & (chain_index[:-1] == chain_index[1:])
    has_previous, has_next = np.append(False, joined), np.append(joined, False)
    i, j = receivers, senders

    def beside(residue: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The neighbour in the chain that is not `other`, and whether there is one."""
        before = has_previous[residue] & (other != residue - 1)
        after = has_next[residue] & (other != residue + 1)
        return np.where(before, residue - 1, np.minimum(residue + 1, len(ca) - 1)), before | after

    def spans(axis: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether two directions are not on a line."""
        return np.linalg.norm(np.cross(_unit(axis)[0], _unit(other)[0]), axis=-1) > _MIN_LENGTH

    previous, following = ca[i - 1], ca[np.minimum(i + 1, len(ca) - 1)]
    edge, back = ca[j] - ca[i], previous - ca[i]
    distance = np.linalg.norm(edge, axis=-1)
    (beside_i, has_i), (beside_j, has_j) = beside(i, j), beside(j, i)
    theta = np.arctan2(np.linalg.norm(np.cross(back, edge), axis=-1), (back * edge).sum(axis=-1))
    phi = dihedral(following, ca[i], previous, ca[j])
    tau = dihedral(ca[beside_i], ca[i], ca[j], ca[beside_j])

    is_edge = exists[i] & exists[j]
    has_theta = is_edge & has_previous[i] & (distance > _MIN_LENGTH) & _unit(back)[1]
    has_phi = has_theta & has_next[i] & spans(back, following - ca[i]) & spans(back, edge)
    has_tau = is_edge & has_i & has_j & spans(edge, ca[beside_i] - ca[i]) & spans(edge, ca[beside_j] - ca[j])
    mask = np.stack([has_theta, has_phi, has_tau], axis=1)
    return distance, np.where(mask, np.stack([theta, phi, tau], axis=1), 0.0), mask


def _unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x / |x| along the last axis and 0 where |x| < 0.001, and where it is not."""
    length = np.linalg.norm(x, axis=-1)
    long_enough = length > _MIN_LENGTH
    return np.where(long_enough[..., None], x / np.where(long_enough, length, 1.0)[..., None], 0.0), long_enough
