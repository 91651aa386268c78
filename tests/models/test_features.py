"""Tests of `bihf_jax.models.features`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models import features
from bihf_jax.models.config import GVPConfig
from bihf_jax.models.features import choose_neighbours, geometric_features
from tests.models.batches import noise_where_masked, pack, quick_jit, random_protein, random_rotation, transform

CONFIG = GVPConfig(neighbours=6, extra_distances=(("N", "O"), ("CB", "CB")))


@pytest.fixture(scope="module")
def batch():
    return pack([[random_protein(1), random_protein(2)], [random_protein(3, (14,))]], length=40)


@pytest.fixture(scope="module")
def compute():
    return quick_jit(lambda batch: geometric_features(batch, CONFIG))


def test_scalars_stay_and_vectors_turn(batch, compute):
    """Rotation and translation leave scalars and turn vectors with the protein."""
    rotation = random_rotation(1)
    before, after = compute(batch), compute(transform(batch, rotation, np.asarray([5.0, -7.0, 3.0])))
    for name in ("node_scalars", "edge_scalars"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-4)
    for name in ("node_vectors", "edge_vectors"):
        turned = jnp.einsum("ij,...jv->...iv", rotation, getattr(before, name))
        np.testing.assert_allclose(getattr(after, name), turned, atol=1e-4)


def test_side_chain_tells_a_mirror_image(batch, compute):
    """Under a mirror the side-chain direction is not the mirrored one, as it comes from a cross product."""
    mirror = np.diag([1.0, 1.0, -1.0]).astype(np.float32)
    before, after = compute(batch), compute(transform(batch, mirror, np.zeros(3)))
    mirrored = jnp.einsum("ij,...jv->...iv", mirror, before.node_vectors)
    np.testing.assert_allclose(after.node_vectors[..., :2], mirrored[..., :2], atol=1e-5)
    difference = jnp.abs(after.node_vectors[..., 2] - mirrored[..., 2]).max(axis=-1)
    assert float(difference[batch.structure_mask].min()) > 1e-3


def test_side_chain_direction_points_at_an_ideal_cb():
    """For ideal backbone geometry the direction is within 5 degrees of the tetrahedral CB of an L-amino acid."""
    n, ca, c = np.asarray([1.46, 0, 0]), np.zeros(3), np.asarray([-0.55, 1.42, 0])
    b = ca - n
    # CB by the coefficients used in structure-prediction codes (b = CA - N, c = C - CA, a = b x c).
    cb = -0.58273431 * np.cross(b, c - ca) + 0.56802827 * b - 0.54067466 * (c - ca) + ca
    atoms = jnp.asarray(np.stack([n, ca, c, ca, cb]), jnp.float32)
    direction = features.side_chain_direction(atoms)
    assert float(direction @ cb) / np.linalg.norm(cb) > np.cos(np.deg2rad(5))


def test_vectors_stop_at_chain_ends_and_gaps(batch, compute):
    """A forward vector exists only where the chain's next slot has a structure, and is minus that one's backward."""
    vectors = np.asarray(compute(batch).node_vectors)
    mask, chain = np.asarray(batch.structure_mask), np.asarray(batch.chain_segment)
    bonded = mask[:, :-1] & mask[:, 1:] & (chain[:, :-1] == chain[:, 1:])
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :-1, :, 0], axis=-1), bonded, atol=1e-5)
    np.testing.assert_array_equal(vectors[:, :-1, :, 0], -vectors[:, 1:, :, 1])
    np.testing.assert_allclose(np.linalg.norm(vectors[..., 2], axis=-1), mask, atol=1e-5)


def test_edges_by_hand(batch, compute):
    """Distance, direction and position difference of every edge equal a plain numpy computation."""
    out = jax.tree.map(np.asarray, compute(batch))
    alpha, chain = np.asarray(batch.backbone)[:, :, 1], np.asarray(batch.chain_segment)
    for row, slot, k in zip(*np.nonzero(out.edge_mask), strict=True):
        sender = out.neighbours[row, slot, k]
        assert sender == batch.neighbours[row, slot, k]
        difference = alpha[row, sender] - alpha[row, slot]
        distance = np.linalg.norm(difference)
        np.testing.assert_allclose(out.edge_vectors[row, slot, k, :, 0], difference / distance, atol=1e-5)
        basis = np.exp(-(((distance - np.linspace(0, 20, 16)) / 1.25) ** 2))
        np.testing.assert_allclose(out.edge_scalars[row, slot, k, :16], basis, atol=1e-4)
        same_chain = chain[row, sender] == chain[row, slot]
        assert out.edge_scalars[row, slot, k, -1] == same_chain
        angles = (sender - slot) / 10000 ** (np.arange(0, 16, 2) / 16)
        expected = np.concatenate([np.cos(angles), np.sin(angles)]) * same_chain
        np.testing.assert_allclose(out.edge_scalars[row, slot, k, -17:-1], expected, atol=1e-4)


@pytest.mark.parametrize("invalid", [False, True])
def test_masked_values_do_not_reach_the_features(batch, compute, invalid):
    """Noise, or NaN, in everything no mask admits changes no feature."""
    jax.tree.map(np.testing.assert_array_equal, compute(batch), compute(noise_where_masked(batch, 3, invalid)))


def test_degenerate_geometry_has_finite_gradients(batch):
    """Coincident atoms and straight N-CA-C angles give finite features and coordinate gradients."""
    backbone = batch.backbone.at[:, 2:6].set(1.0)  # whole residues at one point
    straight = backbone[:, 7, 1] + jnp.asarray([1.4, 0.0, 0.0])
    backbone = backbone.at[:, 7, 0].set(straight).at[:, 7, 2].set(2 * backbone[:, 7, 1] - straight)

    def total(backbone):
        out = geometric_features(batch._replace(backbone=backbone), CONFIG)
        parts = (out.node_scalars, out.node_vectors, out.edge_scalars, out.edge_vectors)
        return sum(jnp.sum(part * jnp.arange(part.shape[-1])) for part in parts)

    with jax.debug_nans(True):
        gradient = quick_jit(jax.grad(total))(backbone)
    assert np.all(np.isfinite(gradient))
    assert np.any(np.asarray(gradient) != 0)


def test_radius_leaves_the_near_of_the_nearest(batch):
    """A neighbour is used where it is among the nearest K, and within the radius."""
    alpha = np.asarray(batch.backbone)[:, :, 1]
    chosen = choose_neighbours(batch, GVPConfig(neighbours=5, radius=6.0))
    senders = np.asarray(batch.neighbours)[..., :5]
    rows = np.arange(len(alpha))[:, None, None]
    distance = np.linalg.norm(alpha[rows, senders] - alpha[:, :, None], axis=-1)
    expected = np.asarray(batch.neighbour_mask)[..., :5] & (distance <= 6.0)
    assert 0 < expected.sum() < np.asarray(batch.neighbour_mask)[..., :5].sum()
    np.testing.assert_array_equal(chosen.neighbour_mask, expected)
    own = np.broadcast_to(np.arange(senders.shape[1])[:, None], senders.shape)
    np.testing.assert_array_equal(chosen.neighbours, np.where(expected, senders, own))


def test_sequence_neighbours_are_added_once(batch):
    """Edges are those of the radius and those to residues up to two places away in the chain, each of them once."""
    config = GVPConfig(neighbours=6, radius=4.5, sequence_neighbours=2)
    chosen = choose_neighbours(noise_where_masked(batch, 1), config)
    near = choose_neighbours(batch, GVPConfig(neighbours=6, radius=4.5))
    mask, chain = np.asarray(batch.structure_mask), np.asarray(batch.chain_segment)
    for row, slot in np.ndindex(mask.shape):
        beside = {
            other
            for other in range(max(0, slot - 2), min(mask.shape[1], slot + 3))
            if other != slot and mask[row, slot] and mask[row, other] and chain[row, other] == chain[row, slot]
        }
        expected = beside | set(np.asarray(near.neighbours)[row, slot][np.asarray(near.neighbour_mask)[row, slot]])
        edges = np.asarray(chosen.neighbours)[row, slot][np.asarray(chosen.neighbour_mask)[row, slot]]
        assert sorted(edges) == sorted(expected)
    assert chosen.neighbours.dtype == batch.neighbours.dtype
