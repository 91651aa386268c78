"""Superposition of matched points: the optimal one, and a search for those that bring many points close together."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

# Shortest window of matched residues that a search starts from (Zhang and Skolnick 2004: 4).
MIN_WINDOW = 4
# Windows of this many places or more begin this share of their length apart, shorter ones at every residue.
_STRIDE_SHARE = 1 / 8
# Times that a superposition is repeated on the points that it brought close, at most (Zhang and Skolnick 2004: 20).
MAX_EXTENSIONS = 20
# Distances held at once, so that memory does not grow with the square of the protein.
_MAX_DISTANCES = 2_000_000
# Three points fix a superposition.
_MIN_POINTS = 3


@dataclasses.dataclass(frozen=True)
class Superposition:
    """A proper rotation and a translation, or a batch of them: moved = rotation @ point + translation."""

    rotation: np.ndarray  # [..., 3, 3] float64, determinant 1
    translation: np.ndarray  # [..., 3] float64 Å

    def apply(self, points: np.ndarray) -> np.ndarray:
        """[n, 3] Å -> [..., n, 3] Å."""
        return points @ np.swapaxes(self.rotation, -1, -2) + self.translation[..., None, :]


def superpose(mobile: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Superposition:
    """The motion of `mobile` that minimises the weighted sum of squared distances to `target` (Kabsch 1976, 1978).

    Mirror images are never used: where the best orthogonal matrix is one, the axis of the smallest singular value is
    turned. Points on a line or in one place leave a rotation open; one of the best is given.

    Args:
      mobile: [n, 3] Å, n >= 1.
      target: [n, 3] Å, the point that each belongs to.
      weights: [..., n] >= 0, some of each row above 0: one superposition for each row; None is 1 everywhere.

    Raises:
      ValueError: shapes that do not fit, coordinates that are not finite, or weights that are negative or all 0.
    """
    pairs = PointPairs(mobile, target)
    weights = np.ones(len(pairs)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape[-1:] != (len(pairs),):
        raise ValueError(f"weights must be [..., {len(pairs)}], one a point, got shape {weights.shape}")
    if not ((weights >= 0).all() and np.isfinite(weights).all() and (weights.sum(axis=-1) > 0).all()):
        raise ValueError("weights must be finite, at least 0 and not all 0")
    return pairs.superpose(weights)


def rmsd(mobile: np.ndarray, target: np.ndarray) -> float:
    """Root mean square distance, Å, of points [n, 3] Å after the optimal superposition."""
    pairs = PointPairs(mobile, target)
    return float(np.sqrt(pairs.squared_distances(np.ones((1, len(pairs)))).mean()))


class PointPairs:
    """Points and where they belong, prepared for many weighted superpositions.

    Every sum that a superposition needs (weights, centres, covariance) is linear in the weights, so that those of B
    weightings are one product [B, n] x [n, 16].
    """

    def __init__(self, mobile: np.ndarray, target: np.ndarray) -> None:
        mobile, target = np.asarray(mobile, dtype=np.float64), np.asarray(target, dtype=np.float64)
        if mobile.ndim != 2 or mobile.shape[1] != 3 or mobile.shape != target.shape or not len(mobile):
            raise ValueError(f"points must be two arrays [n, 3] with n >= 1, got {mobile.shape} and {target.shape}")
        if not (np.isfinite(mobile).all() and np.isfinite(target).all()):
            raise ValueError("points must have finite coordinates; leave out those that have none")
        # Centred, the covariance is no small difference of large sums.
        self._origins = mobile.mean(axis=0), target.mean(axis=0)
        self._mobile, self._target = mobile - self._origins[0], target - self._origins[1]
        products = (self._mobile[:, :, None] * self._target[:, None, :]).reshape(-1, 9)
        self._moments = np.concatenate([np.ones((len(mobile), 1)), self._mobile, self._target, products], axis=1)

    def __len__(self) -> int:
        return len(self._mobile)

    def superpose(self, weights: np.ndarray) -> Superposition:
        """`superpose` with these weights [..., n], unchecked."""
        rotation, translation = self._superpose_centred(weights)
        mobile, target = self._origins
        return Superposition(rotation, translation + target - rotation @ mobile)

    def squared_distances(self, weights: np.ndarray) -> np.ndarray:
        """Weights [B, n] -> squared distances [B, n] Å² of all pairs under the superposition of each row."""
        rotation, translation = self._superpose_centred(weights)
        total = np.zeros(weights.shape)
        for axis in range(3):
            moved = rotation[:, axis] @ self._mobile.T + translation[:, axis, None]
            total += (moved - self._target[:, axis]) ** 2
        return total

    def _superpose_centred(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moments = weights @ self._moments
        moments = moments[..., 1:] / moments[..., :1]
        mobile, target = moments[..., :3], moments[..., 3:6]
        covariance = moments[..., 6:].reshape(*moments.shape[:-1], 3, 3) - mobile[..., :, None] * target[..., None, :]
        left, _, right = np.linalg.svd(covariance)
        # The singular values fall: turning the last axis costs least.
        right[..., 2, :] *= np.sign(np.linalg.det(left @ right))[..., None]
        rotation = np.swapaxes(left @ right, -1, -2)
        return rotation, target - (rotation @ mobile[..., None])[..., 0]


def search(pairs: PointPairs, radii: Sequence[float]) -> Iterator[np.ndarray]:
    """Squared distances [B, n] Å² of all pairs under the superpositions that a search tries, batch by batch.

    The heuristic of LGA and TM-score (Zemla 2003; Zhang and Skolnick 2004), our own writing of it: superpose on a
    window of consecutive pairs (all of them, a half, a quarter, ... down to `MIN_WINDOW`, everywhere along the array);
    then, for each radius, superpose again on all pairs that came within the radius, until they do not change. A set of
    pairs that was tried with this radius before is not tried again, whichever window led to it.

    A score is the best over what is yielded, which is at least that of the optimal superposition of all pairs (the
    first window). It is a lower bound of the true optimum.

    Args:
      pairs: consecutive ones neighbours in the chain.
      radii: Å, above 0.
    """
    tried: dict[float, set[bytes]] = {radius: set() for radius in radii}
    for windows in _windows(len(pairs)):
        started = pairs.squared_distances(windows)
        yield started
        for radius, seen in tried.items():
            distances = started
            for _ in range(MAX_EXTENSIONS):
                chosen = _not_seen(_close(distances, radius), seen)
                if not len(chosen):
                    break
                distances = pairs.squared_distances(chosen)
                yield distances


def _windows(num: int) -> Iterator[np.ndarray]:
    """Windows of consecutive places as rows [B, num] of 0.0 and 1.0, the whole first, in batches of bounded size."""
    lengths, length = [num], num // 2
    while length > MIN_WINDOW:
        lengths.append(length)
        length //= 2
    if num > MIN_WINDOW:
        lengths.append(MIN_WINDOW)
    starts, stops = [], []
    for length in lengths:
        first = np.arange(0, num - length + 1, max(1, int(length * _STRIDE_SHARE)))
        first = np.union1d(first, num - length)  # the end of the chain, too
        starts.append(first)
        stops.append(first + length)
    start, stop = np.concatenate(starts)[:, None], np.concatenate(stops)[:, None]
    place = np.arange(num)
    batch = max(1, _MAX_DISTANCES // num)
    for row in range(0, len(start), batch):
        rows = slice(row, row + batch)
        yield ((place >= start[rows]) & (place < stop[rows])).astype(np.float64)


def _close(squared_distances: np.ndarray, radius: float) -> np.ndarray:
    """[B, n] bool: the pairs within the radius, and at least the three nearest."""
    close = squared_distances <= radius**2
    few = np.flatnonzero(close.sum(axis=1) < _MIN_POINTS)
    if len(few) and squared_distances.shape[1] > _MIN_POINTS:
        nearest = np.argpartition(squared_distances[few], _MIN_POINTS, axis=1)[:, :_MIN_POINTS]
        close[few[:, None], nearest] = True
    elif len(few):
        close[few] = True
    return close


def _not_seen(chosen: np.ndarray, seen: set[bytes]) -> np.ndarray:
    """The rows [b, n] of `chosen` [B, n] bool that `seen` does not hold yet, as 0.0 and 1.0; they are added to it."""
    new = []
    for row, key in enumerate(map(bytes, np.packbits(chosen, axis=1))):
        if key not in seen:
            seen.add(key)
            new.append(row)
    return chosen[new].astype(np.float64)
