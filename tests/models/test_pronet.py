"""Tests of `bihf_jax.models.pronet`; what every structure encoder has to do is in test_structure.py."""

import dataclasses

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
import scipy.special

from bihf_jax.data.example import BACKBONE_ATOMS
from bihf_jax.models.basis import bessel_zeros
from bihf_jax.models.config import ProNetConfig
from bihf_jax.models.features import choose_neighbours
from bihf_jax.models.pronet import ProNetBlock, ProNetEncoder, angle_features, direction_features, turned
from bihf_jax.models.relative_geometry import edge_geometry, euler_geometry
from bihf_jax.protein import edge_angles, euler_angles
from tests.models.batches import pack, quick_jit, random_protein, random_variables

CONFIG = ProNetConfig(width=8, num_radial=4, num_spherical=3, neighbours=6, radius=12.0)


@pytest.fixture(scope="module")
def batch():
    return pack([[random_protein(1, (20,), missing=0.05), random_protein(2, (12,))]], length=40)


def published_radial(distance):
    """[E, l, n] normalised spherical Bessel functions, in double precision."""
    zeros = bessel_zeros(CONFIG.num_spherical, CONFIG.num_radial)
    orders = np.arange(CONFIG.num_spherical)[:, None]
    values = scipy.special.spherical_jn(orders, distance[:, None, None] / CONFIG.radius * zeros)
    return values / np.sqrt(0.5 * scipy.special.spherical_jn(orders + 1, zeros) ** 2)


def published_harmonic(degree, order, theta, phi):
    value = scipy.special.sph_harm_y(degree, abs(order), theta, phi) * (-1.0) ** order
    return {-1: value.imag * np.sqrt(2), 0: value.real, 1: value.real * np.sqrt(2)}[np.sign(order)]


def test_edge_features_equal_the_published_formulas(batch):
    """R_ln(d) Y_lm(theta, phi), and R_ln(d) Y_l0 of tau and of the Euler angles, computed from the angles by scipy."""

    def compute(batch):
        chosen = choose_neighbours(batch, CONFIG)
        edges, euler = edge_geometry(chosen), euler_geometry(chosen)
        return chosen, (
            direction_features(edges.distance, edges.direction, CONFIG),
            angle_features(edges.distance, edges.torsion[..., None, :], CONFIG),
            angle_features(edges.distance, euler, CONFIG),
        )

    chosen, (direction, torsion, rotation) = quick_jit(compute)(batch)
    _, receivers, k = np.nonzero(np.asarray(chosen.neighbour_mask))
    senders = np.asarray(chosen.neighbours)[0, receivers, k]
    backbone, mask = np.asarray(batch.backbone)[0], np.asarray(batch.backbone_mask)[0]
    distance, angles, defined = edge_angles(
        backbone[:, 1], np.asarray(batch.structure_mask)[0], np.asarray(batch.chain_segment)[0], senders, receivers
    )
    assert distance.max() <= CONFIG.radius  # the radius graph
    euler, euler_defined = euler_angles(backbone, mask, senders, receivers)
    radial = published_radial(distance)
    known = defined.all(axis=1) & euler_defined.all(axis=1)
    assert known.sum() > 60

    expected = [
        radial[:, degree] * published_harmonic(degree, order, *angles[:, :2].T)[:, None]
        for degree in range(CONFIG.num_spherical)
        for order in range(-degree, degree + 1)
    ]
    edge = (0, receivers, k)
    np.testing.assert_allclose(np.asarray(direction)[edge][known], np.concatenate(expected, -1)[known], atol=1e-4)
    for features, columns in ((torsion, angles[:, 2:]), (rotation, euler)):
        expected = [
            radial[:, degree] * published_harmonic(degree, 0, angle, 0.0)[:, None]
            for angle in columns.T
            for degree in range(CONFIG.num_spherical)
        ]
        np.testing.assert_allclose(np.asarray(features)[edge][known], np.concatenate(expected, -1)[known], atol=1e-4)
    # Where the direction is not known, the distance still is: degree 0.
    unknown = ~defined[:, 0]
    assert unknown.any()
    values = np.asarray(direction)[edge][unknown]
    np.testing.assert_allclose(values[:, : CONFIG.num_radial], radial[unknown, 0] / np.sqrt(4 * np.pi), atol=1e-4)
    assert np.all(values[:, CONFIG.num_radial :] == 0)


def test_block_equals_segment_sums_on_the_flat_edge_list(batch):
    """The block of the paper, written with numpy and jraph's segment sum over the unpadded edges."""
    chosen = choose_neighbours(batch, CONFIG)
    mask, node_mask = np.asarray(chosen.neighbour_mask), np.asarray(chosen.structure_mask)
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(1, 40, 8)).astype(np.float32)
    edges = tuple(
        np.where(mask[..., None], rng.normal(size=(*mask.shape, width)), 0).astype(np.float32) for width in (5, 4, 3)
    )
    block = ProNetBlock(CONFIG, jnp.float32)
    arguments = (nodes, edges, chosen.neighbours, chosen.neighbour_mask, chosen.structure_mask, None)
    variables = random_variables(block, *arguments)
    ours = np.asarray(quick_jit(lambda variables: block.apply(variables, *arguments))(variables))

    def dense(name, x):
        layer = variables["params"][name]
        return x @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0.0))

    def silu(x):
        return x / (1 + np.exp(-x))

    _, receivers, k = np.nonzero(mask)
    senders = np.asarray(chosen.neighbours)[0, receivers, k]
    sent, kept = silu(dense("sent", nodes[0])), silu(dense("kept", nodes[0]))
    heard = []
    for name, edge in zip(("direction", "rotation", "position"), edges, strict=True):
        messages = dense(f"{name}_filter", edge[0, receivers, k]) * sent[senders]
        total = np.asarray(jraph.segment_sum(jnp.asarray(messages), receivers, 40))
        heard.append(silu(dense(f"{name}_sum", total) + dense(f"{name}_own", sent)))
    hidden = np.concatenate(heard, axis=-1)
    for layer in range(3):
        hidden = silu(dense(f"merge_{layer}", hidden))
    hidden += kept
    for layer in range(2):
        hidden = silu(dense(f"hidden_{layer}", hidden))
    np.testing.assert_allclose(ours[0], np.where(node_mask[0][:, None], dense("final", hidden), 0), atol=1e-4)


def scalars(encoder, batch, row_id=None):
    return encoder.scalars(encoder.stage(0, encoder.embed(batch, row_id), row_id))


@pytest.mark.parametrize(
    ("level", "sees"),
    [
        ("aminoacid", {"CA"}),
        ("backbone", {"CA", "N", "C", "phi"}),
        ("allatom", {"CA", "N", "C", "phi", "chi4"}),
    ],
)
def test_levels_see_more_and_more(batch, level, sees):
    """A change of an atom or torsion changes the output exactly at the levels that have it."""
    encoder = ProNetEncoder(dataclasses.replace(CONFIG, level=level), 1)
    variables = random_variables(encoder, batch, method=scalars)
    compute = quick_jit(lambda batch: encoder.apply(variables, batch, method=scalars))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1, 40, 3)), jnp.float32)
    batch = batch._replace(torsion_mask=batch.torsion_mask | batch.structure_mask[..., None])
    atoms = {
        name: batch._replace(backbone=batch.backbone.at[:, :, n].add(noise)) for n, name in enumerate(BACKBONE_ATOMS)
    }
    angles = {
        name: batch._replace(torsions=batch.torsions.at[:, :, n].add(1.0)) for name, n in (("phi", 0), ("chi4", 6))
    }
    plain = compute(batch)
    changed = {name for name, other in (atoms | angles).items() if np.abs(compute(other) - plain).max() > 1e-5}
    assert changed == sees


@pytest.fixture(scope="module")
def without_augmentation(batch):
    """Variables of the encoder, and its output in evaluation."""
    encoder = ProNetEncoder(CONFIG, 1)
    variables = random_variables(encoder, batch, method=scalars)
    return variables, quick_jit(lambda batch: encoder.apply(variables, batch, method=scalars))(batch)


@pytest.mark.parametrize("setting", ["residue_masking", "coordinate_noise", "feature_noise", "angle_noise"])
def test_augmentations_act_in_training_only_and_follow_the_row_id(batch, without_augmentation, setting):
    """Each changes the output where row ids are given, other ids otherwise, and none does without."""
    variables, expected = without_augmentation
    encoder = ProNetEncoder(dataclasses.replace(CONFIG, dropout=0.0, **{setting: 0.3}), 1)

    @quick_jit
    def outputs(row_id):
        train = encoder.apply(variables, batch, row_id, method=scalars, rngs={"dropout": jax.random.key(1)})
        return train, encoder.apply(variables, batch, method=scalars)

    (train, evaluation), (other_train, _) = outputs(batch.row_id), outputs(batch.row_id + 1)
    np.testing.assert_allclose(evaluation, expected, atol=1e-5)
    assert np.abs(train - expected).max() > 1e-4
    assert np.abs(other_train - train).max() > 1e-4
    assert np.all(np.isfinite(train))


def test_turned_angles():
    """Turning adds to the angle, and leaves an undefined one undefined."""
    angle, by = np.array([0.3, -2.0, 3.0]), np.array([0.2, -0.1, 1.0])
    pairs = jnp.asarray(np.stack([np.cos(angle), np.sin(angle)], axis=-1))
    expected = np.stack([np.cos(angle + by), np.sin(angle + by)], axis=-1)
    np.testing.assert_allclose(turned(pairs, jnp.asarray(by)), expected, atol=1e-6)
    assert not np.any(turned(jnp.zeros((3, 2)), jnp.asarray(by)))
