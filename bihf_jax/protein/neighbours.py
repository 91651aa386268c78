"""Nearest residues in space, and how buried a residue is."""

import numpy as np
from scipy.spatial import cKDTree

# Distances are compared in steps of this many Å, so that rotating the input does not reorder (near) equal ones.
_TIE_STEP = 1e-3
# Neighbours asked for beyond k, so that residues tied with the k-th are seen before ties are decided.
_EXTRA = 4


def nearest_neighbours(positions: np.ndarray, mask: np.ndarray, k: int) -> np.ndarray:
    """The k nearest residues of each residue.

    Args:
      positions: [N, 3] Å, e.g. of the CA atoms; values at masked residues are never read.
      mask: [N] bool, residues that have a position.
      k: neighbours a residue, at least 1.

    Returns:
      [N, k] int32: index of the neighbour (the sender of the message), nearest first, -1 where there is none (all of
      a masked residue's, and the last ones where fewer than k other residues have a position). A residue is never
      its own neighbour. Distances that agree to about 0.001 Å are a tie, which the lower index wins.
    """
    positions, mask = _checked(positions, mask)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    neighbours = np.full((len(mask), k), -1, dtype=np.int32)
    present = np.flatnonzero(mask)
    if len(present) < 2:
        return neighbours
    points = positions[present]
    wanted = min(k + 1 + _EXTRA, len(present))  # + 1: the residue itself
    distance, found = cKDTree(points).query(points, k=wanted)
    itself = found == np.arange(len(present))[:, None]
    ranked = np.where(itself, np.inf, np.round(distance / _TIE_STEP))
    order = np.lexsort((found, ranked), axis=1)[:, : min(k, len(present) - 1)]
    chosen = np.take_along_axis(found, order, axis=1)
    neighbours[present, : chosen.shape[1]] = present[chosen]
    return neighbours


def burial(positions: np.ndarray, mask: np.ndarray, radius: float = 10.0) -> np.ndarray:
    """Number of other residues within `radius` Å (inclusive) of each residue: [N] int32, 0 at masked residues.

    Args:
      positions: [N, 3] Å, e.g. of the CA or CB atoms; values at masked residues are never read.
      mask: [N] bool, residues that have a position.
      radius: Å, above 0.
    """
    positions, mask = _checked(positions, mask)
    if not radius > 0:
        raise ValueError(f"radius must be above 0 Å, got {radius}")
    counts = np.zeros(len(mask), dtype=np.int32)
    points = positions[mask]
    if len(points):
        counts[mask] = cKDTree(points).query_ball_point(points, radius, return_length=True) - 1
    return counts


def _checked(positions: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positions, mask = np.asarray(positions, dtype=np.float64), np.asarray(mask, dtype=bool)
    if mask.ndim != 1 or positions.shape != (len(mask), 3):
        raise ValueError(f"positions must be [N, 3] and mask [N], got {positions.shape} and {mask.shape}")
    if not np.isfinite(positions[mask]).all():
        raise ValueError("positions of unmasked residues must be finite; mask the others")
    return positions, mask
