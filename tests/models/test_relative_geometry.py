"""Tests of `bihf_jax.models.relative_geometry`: equal to the numpy geometry of `bihf_jax.protein.frames`."""

import numpy as np
import pytest

from bihf_jax.models.config import ProNetConfig
from bihf_jax.models.features import choose_neighbours
from bihf_jax.models.relative_geometry import edge_geometry, euler_geometry
from bihf_jax.protein import edge_angles, euler_angles
from tests.models.batches import pack, quick_jit, random_protein

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def geometry():
    """The batch with its edges, and the geometry of them, as numpy arrays."""
    batch = pack([[random_protein(1), random_protein(2)], [random_protein(3, (14,))]], length=40)

    def compute(batch):
        batch = choose_neighbours(batch, ProNetConfig(radius=100.0, neighbours=8, sequence_neighbours=1))
        return batch, edge_geometry(batch), euler_geometry(batch)

    batch, edges, euler = quick_jit(compute)(batch)
    row, receiver, k = np.nonzero(np.asarray(batch.neighbour_mask))
    edge = (row, receiver, k)
    sender = np.asarray(batch.neighbours)[edge]
    length = batch.tokens.shape[1]
    return batch, edge, row * length + sender, row * length + receiver, edges, euler


def cosine_sine(angles, mask):
    return np.where(mask[..., None], np.stack([np.cos(angles), np.sin(angles)], axis=-1), 0.0)


def test_edges_equal_numpy(geometry):
    """Distance, direction and torsion of every edge, undefined ones included, are those of `edge_angles`."""
    batch, edge, senders, receivers, edges, _ = geometry
    chain = (np.asarray(batch.chain_segment) + 100 * np.arange(2)[:, None]).reshape(-1)
    ca = np.asarray(batch.backbone)[:, :, 1].reshape(-1, 3)
    exists = np.asarray(batch.structure_mask).reshape(-1)
    distance, angles, mask = edge_angles(ca, exists, chain, senders, receivers)
    np.testing.assert_allclose(np.asarray(edges.distance)[edge], distance, atol=TOLERANCE)
    (cos_theta, sin_theta), (cos_phi, sin_phi) = (
        np.moveaxis(cosine_sine(angles[:, n], mask[:, n]), 1, 0) for n in (0, 1)
    )
    expected = np.stack([sin_theta * cos_phi, sin_theta * sin_phi, cos_theta], axis=-1)
    np.testing.assert_allclose(np.asarray(edges.direction)[edge], expected, atol=TOLERANCE)
    np.testing.assert_allclose(np.asarray(edges.torsion)[edge], cosine_sine(angles, mask)[:, 2], atol=TOLERANCE)
    assert 0.3 < mask[:, 1].mean() < 1  # both kinds are there
    assert 0.3 < mask[:, 2].mean() < 1


def test_euler_angles_equal_numpy(geometry):
    """The three Euler angles of every edge are those of `euler_angles`."""
    batch, edge, senders, receivers, _, euler = geometry
    positions = np.asarray(batch.backbone).reshape(-1, 5, 3)
    angles, mask = euler_angles(positions, np.asarray(batch.backbone_mask).reshape(-1, 5), senders, receivers)
    # Where the z axes are nearly parallel, alpha and gamma hang on the last digits of float32.
    sure = np.sin(angles[:, 1]) > 0.05
    assert sure.mean() > 0.9
    np.testing.assert_allclose(np.asarray(euler)[edge][sure], cosine_sine(angles, mask)[sure], atol=2 * TOLERANCE)
