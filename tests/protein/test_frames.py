"""Tests of `bihf_jax.protein.frames` against gemmi, scipy and the definitions."""

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bihf_jax.protein import Protein, backbone, backbone_frames, edge_angles, euler_angles, nearest_neighbours
from bihf_jax.protein.geometry import BACKBONE_ATOMS
from tests.protein.conftest import sample_files

CA = BACKBONE_ATOMS.index("CA")


def edges_of(protein):
    """Backbone, its mask, and the senders and receivers of the 16 nearest neighbours of each residue."""
    positions, mask = backbone(protein)
    neighbours = nearest_neighbours(positions[:, CA], mask[:, CA], 16)
    receivers, k = np.nonzero(neighbours >= 0)
    return positions, mask, neighbours[receivers, k], receivers


@pytest.fixture(scope="module")
def proteins():
    files = [path for path in sample_files() if "parser" not in path.parts][:3]
    if not files:
        pytest.skip("the embedded sample is not there")
    return [Protein.from_file(path) for path in files]


def test_edge_angles_equal_gemmi(proteins):
    """theta, phi and tau of edges of real structures are gemmi's angles and torsions of the same four points."""
    rng, compared = np.random.default_rng(0), 0
    for protein in proteins:
        positions, mask, senders, receivers = edges_of(protein)
        ca, chain = positions[:, CA], protein.chain_index
        distance, angles, defined = edge_angles(ca, mask[:, CA], chain, senders, receivers)
        point = [gemmi.Position(*map(float, xyz)) for xyz in ca]

        def beside(residue, other, mask=mask, chain=chain):
            for there in (residue - 1, residue + 1):
                if 0 <= there < len(chain) and there != other and mask[there, CA] and chain[there] == chain[residue]:
                    return there
            return None

        for e in rng.choice(len(senders), 300, replace=False):
            i, j = receivers[e], senders[e]
            assert distance[e] == pytest.approx(point[i].dist(point[j]), abs=1e-4)
            before, after = beside(i, i + 1), beside(i, i - 1)
            for number, (points, exists) in enumerate(
                [
                    ((before, i, j), before is not None),
                    ((after, i, before, j), before is not None and after is not None and j != before),
                    ((beside(i, j), i, j, beside(j, i)), beside(i, j) is not None and beside(j, i) is not None),
                ]
            ):
                assert defined[e, number] == exists
                if exists:
                    compute = gemmi.calculate_angle if number == 0 else gemmi.calculate_dihedral
                    expected = compute(*(point[k] for k in points))
                    assert abs(np.angle(np.exp(1j * (angles[e, number] - expected)))) < 1e-3
                    compared += 1
    assert compared > 2000


def test_euler_angles_equal_scipy(proteins):
    """The Euler angles of frame pairs of real structures are scipy's intrinsic ZXZ angles of the relative rotation."""
    for protein in proteins:
        positions, mask, senders, receivers = edges_of(protein)
        frames, exists = backbone_frames(positions, mask)
        determinants = np.linalg.det(frames[exists])
        np.testing.assert_allclose(determinants, 1, atol=1e-6)
        angles, defined = euler_angles(positions, mask, senders, receivers)
        use = defined.all(axis=1)
        assert use.mean() > 0.9
        relative = np.swapaxes(frames[receivers[use]], 1, 2) @ frames[senders[use]]
        expected = Rotation.from_matrix(relative).as_euler("ZXZ")
        assert np.abs(np.angle(np.exp(1j * (angles[use] - expected)))).max() < 1e-5


def test_frame_axes():
    """x points to N, z lies in the plane of N, CA and C away from C."""
    positions = np.zeros((1, 5, 3))
    positions[0, [0, 2]] = [[1.5, 0, 0], [-0.5, 1.4, 0]]
    frames, exists = backbone_frames(positions, np.ones((1, 5), bool))
    assert exists.all()
    np.testing.assert_allclose(frames[0], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)


def test_undefined_angles_are_masked():
    """Residues on a line, at one point, at chain ends and without coordinates have masked zeros, and no NaN."""
    ca = np.array([[0, 0, 0], [3.8, 0, 0], [7.6, 0, 0], [7.6, 0, 0], [0, 9, 0], [0, 0, 9.0]])
    senders, receivers = (x.reshape(-1) for x in np.meshgrid(range(6), range(6)))
    apart = senders != receivers
    _, angles, mask = edge_angles(ca, np.arange(6) != 4, np.repeat(0, 6), senders[apart], receivers[apart])
    assert np.isfinite(angles).all()
    assert (angles[~mask] == 0).all()
    unresolved = (senders[apart] == 4) | (receivers[apart] == 4)
    assert not mask[unresolved].any()
    assert not mask[:, 1].any()  # each turn needs a residue between two others that are not on a line with it
    positions = np.repeat(ca[:, None], 5, axis=1)
    angles, mask = euler_angles(positions, np.ones((6, 5), bool), senders, receivers)
    assert not mask.any()
    assert not angles.any()
