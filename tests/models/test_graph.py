"""Tests of `bihf_jax.models.graph`."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from bihf_jax.models import graph as graph_module
from bihf_jax.models.graph import (
    aggregate,
    gather_neighbours,
    graph_masks,
    graph_pool,
    make_graph,
    reduce_neighbours,
    structure_neighbours,
)
from bihf_jax.models.platform import compiling_for
from tests.models.batches import noise_where_masked, pack, quick_jit, random_protein

PROTEINS = [random_protein(1), random_protein(2, (12,)), random_protein(3, (5, 4, 3)), random_protein(4, (1,))]


@pytest.fixture
def batch():
    return pack([PROTEINS[:2], PROTEINS[2:]], length=40)


def unpadded_graph(protein, features):
    """The protein as a jraph graph of its real edges only."""
    receivers, slots = np.nonzero(protein.neighbour_mask)
    count = len(receivers)
    return jraph.GraphsTuple(
        nodes=features,
        edges=np.ones((count, 1), np.float32),
        globals=np.zeros((1, 1), np.float32),
        senders=protein.neighbours[receivers, slots].astype(np.int32),
        receivers=receivers.astype(np.int32),
        n_node=np.asarray([protein.slots]),
        n_edge=np.asarray([count]),
    )


def slot_features(batch, width=3):
    return jnp.asarray(np.random.default_rng(0).normal(size=(*batch.tokens.shape, width)), jnp.float32)


def test_grid_equals_jraph_batch_of_the_same_graphs(batch):
    """Real nodes and edges of the grid, in order, are those of `jraph.batch` of the unpadded graphs."""
    features = slot_features(batch).reshape(-1, 3)
    node_mask, edge_mask, graph_mask = (np.asarray(mask) for mask in graph_masks(batch))
    graph = make_graph(batch)
    starts = np.cumsum([0, *[p.slots for p in PROTEINS]])
    real = np.asarray(features)[node_mask]
    expected = jraph.batch_np(
        [unpadded_graph(p, real[s : s + p.slots]) for p, s in zip(PROTEINS, starts[:-1], strict=True)]
    )
    new_number = np.cumsum(node_mask) - 1  # grid node -> node of the unpadded batch
    np.testing.assert_array_equal(new_number[np.asarray(graph.senders)[edge_mask]], expected.senders)
    np.testing.assert_array_equal(new_number[np.asarray(graph.receivers)[edge_mask]], expected.receivers)
    np.testing.assert_array_equal(np.asarray(graph.n_node)[graph_mask], expected.n_node)


def test_counts_and_order(batch):
    """Nodes and edges of all graphs, padding included, add up to the grid, and receivers are sorted, K each."""
    rows, length, degree = batch.neighbours.shape
    graph = make_graph(batch)
    graphs = batch.record.shape[1] + 1
    assert graph.n_node.shape == (rows * graphs,)
    assert int(graph.n_node.sum()) == rows * length
    assert int(graph.n_edge.sum()) == len(graph.senders) == rows * length * degree
    np.testing.assert_array_equal(graph.receivers, np.repeat(np.arange(rows * length), degree))
    np.testing.assert_array_equal(graph.n_node.reshape(rows, graphs).sum(axis=1), [length, length])
    assert not np.asarray(graph_masks(batch)[2]).reshape(rows, graphs)[:, -1].any()


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gather_and_aggregate_equal_segment_operations(batch, reduction):
    """Row-local gathering and the reduction over K equal jraph's gather and segment operation on the flat graph."""
    features = slot_features(batch)
    neighbours, mask = structure_neighbours(batch, batch.neighbours.shape[2])
    ours = aggregate(gather_neighbours(features, neighbours), mask, reduction)
    graph = make_graph(batch)
    edges = np.asarray(graph_masks(batch)[1])
    operation = {"sum": jraph.segment_sum, "mean": jraph.segment_mean}[reduction]
    flat = features.reshape(-1, 3)
    theirs = operation(flat[graph.senders[edges]], graph.receivers[edges], len(flat))
    np.testing.assert_allclose(ours.reshape(-1, 3), theirs, atol=1e-6)


def test_aggregate_ignores_masked_messages(batch):
    """NaN in masked messages reaches neither the result nor the gradient."""
    _, mask = structure_neighbours(batch, 8)
    messages = jnp.where(mask[..., None], 1.0, jnp.nan)
    assert np.all(np.isfinite(aggregate(messages, mask)))
    np.testing.assert_array_equal(aggregate(messages, mask)[..., 0], np.asarray(mask.any(-1), np.float32))


def test_aggregate_refuses_another_reduction():
    """The error names the value and the allowed ones."""
    with pytest.raises(ValueError, match="'max'; allowed: mean, sum"):
        aggregate(jnp.ones((1, 2, 3, 4)), jnp.ones((1, 2, 3), bool), "max")


def test_neighbours_are_limited_to_the_nearest_and_safe(batch):
    """The first K' are kept; a masked neighbour is the slot itself, whatever number stood there."""
    limited, mask = structure_neighbours(noise_where_masked(batch, 5), 3)
    whole, whole_mask = structure_neighbours(batch, 8)
    np.testing.assert_array_equal(limited, whole[..., :3])
    np.testing.assert_array_equal(mask, whole_mask[..., :3])
    own = np.broadcast_to(np.arange(limited.shape[1])[:, None], limited.shape)
    np.testing.assert_array_equal(np.asarray(limited)[~np.asarray(mask)], own[~np.asarray(mask)])


def test_graph_pool_is_the_mean_of_each_protein(batch):
    """Each protein's mean over its counted slots, zeros for unused graph slots, and NaN elsewhere does not leak."""
    features = jnp.where(batch.structure_mask[..., None], slot_features(batch), jnp.nan)
    pooled = np.asarray(jax.jit(graph_pool)(features, batch, batch.structure_mask))
    assert pooled.shape == (2, 4, 3)
    for row in range(2):
        for graph in range(4):
            member = np.asarray((batch.protein_segment[row] == graph + 1) & batch.structure_mask[row])
            expected = np.asarray(features)[row][member].mean(axis=0) if member.any() else np.zeros(3)
            np.testing.assert_allclose(pooled[row, graph], expected, atol=1e-6)


@pytest.mark.parametrize("edges_of_block", [60, 64, 100])
def test_blocks_of_slots_change_nothing(batch, edges_of_block, monkeypatch):
    """Values and all gradients are those of all edges at once, also where blocks do not divide the slots.

    Slots have from none to all of their edges, with gaps among them.
    """
    features = {"a": slot_features(batch), "b": slot_features(batch, 2)[..., None]}
    neighbours, mask = structure_neighbours(batch, 6)
    mask &= jnp.asarray(np.random.default_rng(2).random(mask.shape) < np.linspace(0, 1, mask.shape[1])[:, None])
    edges = jnp.asarray(np.random.default_rng(1).normal(size=(*mask.shape, 3)), jnp.float32)

    def reduction(scale, senders, edges, mask, own):
        return {
            "mean": aggregate(jnp.tanh(senders["a"] * edges * scale + own[..., None, :]), mask),
            "sum": aggregate(senders["b"], mask, "sum"),
        }

    def loss(scale, features, edges):
        reduced = reduce_neighbours(reduction, scale, features, edges, features["a"], neighbours, mask)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(reduced)), reduced

    arguments = jnp.asarray([0.5, 1.0, 2.0]), features, edges
    compute = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)
    at_once = quick_jit(compute)(*arguments)
    monkeypatch.setattr(graph_module, "EDGES_OF_BLOCK", edges_of_block)
    in_blocks = quick_jit(lambda *arguments: compute(*arguments))(*arguments)
    assert "scan" in str(jax.make_jaxpr(loss)(*arguments))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), in_blocks, at_once)


@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.bfloat16])
def test_gathering_by_a_product_is_exact(dtype):
    """What is traced for TPU, a one-hot product, gathers the bits that indexing does."""
    rng = np.random.default_rng(3)
    x, neighbours = jnp.asarray(rng.normal(size=(2, 24, 5, 3)), dtype), random_neighbours(rng)
    with compiling_for("tpu"):
        assert "gather" not in str(jax.make_jaxpr(gather_neighbours)(x, neighbours))
        product = gather_neighbours(x, neighbours)
    assert product.dtype == dtype
    np.testing.assert_array_equal(product, x[np.arange(2)[:, None, None], neighbours])


def test_gradient_of_gathering_by_a_product():
    """It sums the edges that a slot sends on, as the gradient of indexing does."""
    rng = np.random.default_rng(4)
    x, neighbours = jnp.asarray(rng.normal(size=(2, 24, 5)), jnp.bfloat16), random_neighbours(rng)
    weight = jnp.asarray(rng.integers(-3, 4, (2, 24, 6, 5)), jnp.bfloat16)  # sums of them are exact

    def weighted_sum(x):
        return jnp.sum((weight * gather_neighbours(x, neighbours)).astype(jnp.float32))

    expected = jax.grad(weighted_sum)(x)
    with compiling_for("tpu"):
        np.testing.assert_array_equal(jax.grad(weighted_sum)(x), expected)


def random_neighbours(rng):
    return jnp.asarray(rng.integers(0, 24, (2, 24, 6)), jnp.int32)
