"""Superposition against scipy, on degenerate sets and mirror images; what the search may and must find."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bihf_jax.protein.superposition import MIN_WINDOW, PointPairs, rmsd, search, superpose
from tests.protein.traces import moved, random_walk


@pytest.mark.parametrize("seed", range(5))
def test_weighted_superposition_equals_scipy(seed):
    """Rotation and RMSD of noisy points are those of scipy's `align_vectors` on centred points, weights included."""
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(30, 3)) * 10
    mobile = moved(target + rng.normal(size=target.shape), seed)
    weights = rng.uniform(0, 1, 30)
    found = superpose(mobile, target, weights)
    centres = [np.average(points, axis=0, weights=weights) for points in (target, mobile)]
    reference, _ = Rotation.align_vectors(target - centres[0], mobile - centres[1], weights=weights)
    np.testing.assert_allclose(found.rotation, reference.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(found.apply(mobile), reference.apply(mobile - centres[1]) + centres[0], atol=1e-8)
    reference, distance = Rotation.align_vectors(target - target.mean(axis=0), mobile - mobile.mean(axis=0))
    assert rmsd(mobile, target) == pytest.approx(distance / np.sqrt(30), abs=1e-9)


def test_rows_of_weights_are_superpositions_of_their_own():
    """A batch of weightings gives what each gives alone, and points of weight 0 have no say."""
    rng = np.random.default_rng(0)
    mobile, target = rng.normal(size=(2, 12, 3))
    weights = (rng.random((4, 5, 12)) < 0.6).astype(float)
    weights[..., :3] = 1
    batch = superpose(mobile, target, weights)
    for row in itertools.product(range(4), range(5)):
        chosen = weights[row] > 0
        alone = superpose(mobile[chosen], target[chosen])
        np.testing.assert_allclose(batch.rotation[row], alone.rotation, atol=1e-9)
        np.testing.assert_allclose(batch.translation[row], alone.translation, atol=1e-9)
    assert batch.apply(mobile).shape == (4, 5, 12, 3)


@given(st.integers(1, 12), st.integers(0, 3), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_moved_points_are_brought_back_by_a_proper_rotation(num, dimensions, seed):
    """Points in space, in a plane, on a line and in one place are laid on themselves; the determinant is 1."""
    rng = np.random.default_rng(seed)
    target = np.zeros((num, 3))
    target[:, :dimensions] = 20 * rng.normal(size=(num, dimensions))
    mobile = moved(moved(target, seed + 1), seed)
    found = superpose(mobile, target)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(found.apply(mobile), target, atol=1e-6)


def test_a_mirror_image_is_not_laid_on_the_original():
    """The best proper rotation of a mirror image is found, and no other rotation is better."""
    target = random_walk(40)
    mirror = target * [1, 1, -1]
    best = rmsd(mirror, target)
    assert best > 3
    centred = mirror - mirror.mean(axis=0)
    turned = Rotation.random(3000, rng=0).as_matrix() @ centred.T
    distances = np.sqrt((((turned - (target - target.mean(axis=0)).T) ** 2).sum(axis=1)).mean(axis=1))
    assert distances.min() >= best - 1e-9
    np.testing.assert_allclose(np.linalg.det(superpose(mirror, target).rotation), 1)


@pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 9, 40])
def test_search_starts_with_all_and_covers_every_window(num):
    """The first superposition is that of all pairs; all windows of the shortest length are tried."""
    target = random_walk(num, 1)
    mobile = random_walk(num, 2)
    pairs = PointPairs(mobile, target)
    first = next(search(pairs, (2.0,)))
    np.testing.assert_allclose(np.sqrt(first[0].mean()), rmsd(mobile, target), atol=1e-9)
    found = [tuple(np.round(row, 6)) for batch in search(pairs, (2.0,)) for row in batch]
    for start in range(num - MIN_WINDOW + 1):
        rows = slice(start, start + MIN_WINDOW)
        motion = superpose(mobile[rows], target[rows])
        expected = ((motion.apply(mobile) - target) ** 2).sum(axis=1)
        assert tuple(np.round(expected, 6)) in found


def test_search_finds_a_body_that_global_superposition_misses():
    """Of two bodies that moved apart, each is found exactly."""
    target = random_walk(60, 3)
    mobile = np.concatenate([moved(target[:35], 1), moved(target[35:], 2)])
    close = [(batch < 1e-6).sum(axis=1) for batch in search(PointPairs(mobile, target), (0.5, 1.0))]
    assert np.concatenate(close).max() == 35
    assert rmsd(mobile, target) > 5


def test_search_is_the_same_in_every_frame():
    """Moving either structure changes no distance of any superposition that is tried."""
    target, mobile = random_walk(50, 4), random_walk(50, 5)
    here = [np.sort(batch.min(axis=1)) for batch in search(PointPairs(mobile, target), (4.0,))]
    there = [np.sort(batch.min(axis=1)) for batch in search(PointPairs(moved(mobile, 1), moved(target, 2)), (4.0,))]
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.parametrize(
    ("mobile", "target", "weights", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), None, "n >= 1"),
        (np.zeros((4, 3)), np.zeros((5, 3)), None, r"got \(4, 3\) and \(5, 3\)"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), None, "finite"),
        (np.zeros((4, 3)), np.zeros((4, 3)), np.ones(3), r"weights must be \[..., 4\]"),
        (np.zeros((4, 3)), np.zeros((4, 3)), np.zeros(4), "not all 0"),
        (np.zeros((4, 3)), np.zeros((4, 3)), np.array([1, 1, 1, -1]), "at least 0"),
    ],
)
def test_bad_points_and_weights_are_refused(mobile, target, weights, message):
    """Nothing, other shapes, NaN and weights without a sum are errors that say so."""
    with pytest.raises(ValueError, match=message):
        superpose(mobile, target, weights)
