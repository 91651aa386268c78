"""Neighbour lists and burial against plain all-pairs computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bihf_jax.protein import burial, nearest_neighbours


def _random(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 10, (n, 3)).astype(np.float32), rng.random(n) < 0.8


def _brute_force(positions: np.ndarray, mask: np.ndarray, k: int) -> np.ndarray:
    result = np.full((len(mask), k), -1)
    for i in np.flatnonzero(mask):
        others = [j for j in np.flatnonzero(mask) if j != i]
        others.sort(key=lambda j: (np.linalg.norm(positions[i].astype(float) - positions[j]), j))
        result[i, : len(others[:k])] = others[:k]
    return result


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 60), k=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_equals_all_pairs(n, k, seed):
    """The lists are those of sorting all pairs by distance, also with fewer residues than k."""
    positions, mask = _random(n, seed)
    expected = _brute_force(positions, mask, k)
    found = nearest_neighbours(positions, mask, k)
    assert found.dtype == np.int32
    distances = [
        np.where(index < 0, np.inf, np.linalg.norm(positions[:, None] - positions[index], axis=-1))
        for index in (expected, found)
    ]
    np.testing.assert_array_equal(found < 0, expected < 0)
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-3)
    assert (found != np.arange(n)[:, None]).all()


def test_rotation_and_translation_change_nothing():
    """The selection is a property of the distances only."""
    positions, mask = _random(300, 0)
    moved = Rotation.random(rng=1).apply(positions) + np.array([100.0, -50.0, 3.0])
    np.testing.assert_array_equal(nearest_neighbours(positions, mask, 30), nearest_neighbours(moved, mask, 30))


def test_ties_go_to_the_lower_index_under_rotation():
    """On a cubic lattice, where most distances are equal, the order is by index, however the lattice is turned."""
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3) * 3.8
    mask = np.ones(len(grid), dtype=bool)
    straight = nearest_neighbours(grid, mask, 3)
    np.testing.assert_array_equal(straight[0], sorted(straight[0]))
    for seed in range(5):
        turned = Rotation.random(rng=seed).apply(grid)
        np.testing.assert_array_equal(nearest_neighbours(turned, mask, 3), straight)


def test_masked_positions_are_never_read():
    """Noise, also not-a-number, at masked residues changes neither lists nor counts."""
    positions, mask = _random(80, 3)
    noisy = positions.copy()
    noisy[~mask] = np.nan
    np.testing.assert_array_equal(nearest_neighbours(noisy, mask, 8), nearest_neighbours(positions, mask, 8))
    np.testing.assert_array_equal(burial(noisy, mask), burial(positions, mask))
    assert (nearest_neighbours(noisy, mask, 8)[~mask] == -1).all()


def test_coincident_residues_are_neighbours():
    """Residues at one point list each other and not themselves."""
    found = nearest_neighbours(np.zeros((12, 3)), np.ones(12, dtype=bool), 3)
    np.testing.assert_array_equal(found[0], [1, 2, 3])
    assert (found != np.arange(12)[:, None]).all()


def test_burial_counts_all_pairs_within_the_radius():
    """Burial is the number of other residues within the radius, the radius included."""
    positions, mask = _random(150, 4)
    distance = np.linalg.norm(positions[:, None].astype(float) - positions[None], axis=-1)
    within = (distance <= 10.0) & mask[:, None] & mask[None] & ~np.eye(150, dtype=bool)
    np.testing.assert_array_equal(burial(positions, mask), within.sum(axis=1))
    np.testing.assert_array_equal(burial(np.array([[0.0, 0, 0], [10.0, 0, 0]]), np.ones(2, bool)), [1, 1])


def test_bad_input_is_named():
    """Wrong shapes, k, radius and unmasked gaps are refused."""
    with pytest.raises(ValueError, match=r"positions must be \[N, 3\]"):
        nearest_neighbours(np.zeros((3, 2)), np.ones(3, bool), 2)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        nearest_neighbours(np.zeros((3, 3)), np.ones(3, bool), 0)
    with pytest.raises(ValueError, match="radius must be above 0"):
        burial(np.zeros((3, 3)), np.ones(3, bool), 0.0)
    with pytest.raises(ValueError, match="must be finite"):
        burial(np.full((3, 3), np.nan), np.ones(3, bool))
