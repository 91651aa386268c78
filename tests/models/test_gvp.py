"""Tests of `bihf_jax.models.gvp`."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from bihf_jax.models.config import GVPConfig
from bihf_jax.models.gvp import GVP, EquivariantLayerNorm, GVPEncoder, GVPMessages, ScalarsVectors
from bihf_jax.models.platform import compiling_for
from tests.models.batches import pack, random_protein, random_rotation


def random_features(seed, shape, scalars, vectors):
    rng = np.random.default_rng(seed)
    return ScalarsVectors(
        jnp.asarray(rng.normal(size=(*shape, scalars)), jnp.float32),
        jnp.asarray(rng.normal(size=(*shape, 3, vectors)), jnp.float32),
    )


def textbook_gvp(p, s, v, activate):
    """Algorithm 1 of the paper with a vector gate, for s [n, S] and v [n, V, 3] (the paper's layout)."""
    vh = np.einsum("nvx,vh->nhx", v, p["wh"])
    s = np.concatenate([s, np.sqrt((vh**2).sum(-1) + 1e-8)], axis=-1) @ p["ws"] + p["bs"]
    if activate:
        s = np.maximum(s, 0)
    gate = 1 / (1 + np.exp(-(s @ p["wg"] + p["bg"])))
    return s, np.einsum("nhx,ho->nox", vh, p["wv"]) * gate[..., None]


@pytest.mark.parametrize("message_gvps", [1, 2, 3])
def test_messages_equal_concatenate_gather_segment_mean(message_gvps):
    """Projection before the gather and the product after the mean equal the textbook form on the flat edge list."""
    config = GVPConfig(
        scalar_width=7, vector_width=4, edge_scalar_width=5, edge_vector_width=2, message_gvps=message_gvps
    )
    rows, length, degree = 2, 6, 3
    rng = np.random.default_rng(0)
    neighbours = jnp.asarray(rng.integers(0, length, (rows, length, degree)), jnp.int32)
    mask = jnp.asarray(rng.random((rows, length, degree)) < 0.6).at[0, 0].set(False)
    nodes, edges = random_features(1, (rows, length), 7, 4), random_features(2, (rows, length, degree), 5, 2)
    module = GVPMessages(config, jnp.float32)
    variables = module.init(jax.random.key(0), nodes, edges, neighbours, mask)
    leaves, tree = jax.tree.flatten(variables)  # biases start at zero, which would hide an error in them
    variables = tree.unflatten([leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])
    ours = module.apply(variables, nodes, edges, neighbours, mask)

    row, receiver, k = np.nonzero(np.asarray(mask))
    sender = np.asarray(neighbours)[row, receiver, k]
    node_s, node_v = np.asarray(nodes.scalars), np.swapaxes(nodes.vectors, -1, -2)
    edge_s, edge_v = np.asarray(edges.scalars), np.swapaxes(edges.vectors, -1, -2)
    s = np.concatenate([node_s[row, sender], edge_s[row, receiver, k], node_s[row, receiver]], axis=-1)
    v = np.concatenate([node_v[row, sender], edge_v[row, receiver, k], node_v[row, receiver]], axis=1)
    for i in range(message_gvps):
        parameters = jax.tree.map(np.asarray, variables["params"][f"gvp_{i}"])
        s, v = textbook_gvp(parameters, s, v, activate=i + 1 < message_gvps)
    flat = row * length + receiver
    expected_s = jraph.segment_mean(s, flat, rows * length).reshape(rows, length, -1)
    expected_v = jraph.segment_mean(v, flat, rows * length).reshape(rows, length, -1, 3)
    np.testing.assert_allclose(ours.scalars, expected_s, atol=1e-5)
    np.testing.assert_allclose(ours.vectors, np.swapaxes(expected_v, -1, -2), atol=1e-5)
    assert np.all(np.asarray(ours.scalars[0, 0]) == 0)  # a slot without edges receives nothing


def test_perceptron_and_norm_are_equivariant():
    """Turning the vectors that go in turns the vectors that come out and leaves the scalars."""
    x, rotation = random_features(3, (4, 5), 6, 3), random_rotation(2)
    turned = x._replace(vectors=jnp.einsum("ij,...jv->...iv", rotation, x.vectors))
    for module in (GVP((6, 3), (4, 2), 5), EquivariantLayerNorm(jnp.float32)):
        variables = module.init(jax.random.key(0), x)
        plain, moved = module.apply(variables, x), module.apply(variables, turned)
        np.testing.assert_allclose(moved.scalars, plain.scalars, atol=1e-5)
        np.testing.assert_allclose(moved.vectors, jnp.einsum("ij,...jv->...iv", rotation, plain.vectors), atol=1e-5)


def test_norm_of_zero_vectors_has_a_finite_gradient():
    """A node without vectors goes through the norm and the channel lengths with finite gradients."""
    x = random_features(4, (2,), 4, 3)
    x = x._replace(vectors=jnp.zeros_like(x.vectors))
    gvp, norm = GVP((4, 3), (4, 3), 3), EquivariantLayerNorm(jnp.float32)
    gvp_variables, norm_variables = gvp.init(jax.random.key(0), x), norm.init(jax.random.key(0), x)

    def total(x):
        out = norm.apply(norm_variables, gvp.apply(gvp_variables, x))
        return jnp.sum(out.scalars * jnp.arange(4)) + jnp.sum(out.vectors)

    with jax.debug_nans(True):
        gradient = jax.grad(total)(x)
    assert all(np.all(np.isfinite(leaf)) for leaf in gradient)


def test_what_is_traced_for_a_tpu_computes_the_same():
    """The whole encoder as it is written for TPU (no reshapes, products for gathers) equals the CPU's, gradient too."""
    batch = pack([[random_protein(5), random_protein(6, (7,))]], length=32)
    encoder = GVPEncoder(GVPConfig(scalar_width=12, vector_width=4, neighbours=6, message_gvps=3), stages=1)

    def run(module, batch):
        return module.stage(0, module.embed(batch, None), None).nodes

    variables = encoder.init(jax.random.key(0), batch, method=run)

    def loss(variables):
        nodes = encoder.apply(variables, batch, method=run)
        return jnp.sum(nodes.scalars**2) + jnp.sum(nodes.vectors[..., 0, :]), nodes

    here = jax.grad(loss, has_aux=True)(variables)
    with compiling_for("tpu"):
        for_tpu = jax.grad(loss, has_aux=True)(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), for_tpu, here)
