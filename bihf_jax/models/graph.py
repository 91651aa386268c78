"""The graph of a residue grid: R x L slots are the nodes, each with K incoming edges.

A residue's edges stand together ([R, L, K]), so gathering is row-local and aggregation is a masked reduction over K
instead of a scatter. `make_graph` shows the same graph as a `jraph.GraphsTuple`.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import jraph

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.platform import target_platform

Array = jax.Array
Tree = TypeVar("Tree")  # arrays, in any structure
Senders = TypeVar("Senders")
Slots = TypeVar("Slots")

# Edges whose messages are computed together on a CPU: at 100 channels an array of them takes 0.8 MB, and the few that
# are alive at a time stay in the cache.
EDGES_OF_BLOCK = 2048


def structure_edge_mask(batch: ProteinBatch) -> Array:
    """[R, L, K] bool: the edge exists, and both of its ends have a structure."""
    mask = batch.neighbour_mask & batch.structure_mask[..., None]
    return mask & gather_neighbours(batch.structure_mask, _safe_neighbours(batch.neighbours, mask))


def structure_neighbours(batch: ProteinBatch, limit: int) -> tuple[Array, Array]:
    """The nearest `limit` incoming edges of each slot.

    Args:
      batch: The grid; a batch with fewer than `limit` neighbour slots is used whole.
      limit: Most edges a slot may have.

    Returns:
      neighbours [R, L, K'] int32, the slot itself where there is none; mask [R, L, K'] bool.
    """
    batch = batch._replace(neighbours=batch.neighbours[..., :limit], neighbour_mask=batch.neighbour_mask[..., :limit])
    mask = structure_edge_mask(batch)
    return _safe_neighbours(batch.neighbours, mask), mask


def _safe_neighbours(neighbours: Array, mask: Array) -> Array:
    """Neighbours [R, L, K] with the slot itself where the mask is off, whatever was there."""
    own = jnp.arange(neighbours.shape[1], dtype=neighbours.dtype)[:, None]
    return jnp.where(mask, neighbours, own)


def gather_neighbours(x: Array, neighbours: Array) -> Array:
    """The senders' values at each edge, within the row.

    Args:
      x: [R, L, ...] values of the slots.
      neighbours: [R, L, K] int32 slots of the same row.

    Returns:
      [R, L, K, ...].
    """
    if target_platform() == "tpu" and x.dtype in (jnp.bool_, jnp.bfloat16):
        return _gather_by_product(x, neighbours)
    return jax.vmap(lambda row, senders: row[senders])(x, neighbours)


def _gather_by_product(x: Array, neighbours: Array) -> Array:
    """`gather_neighbours` as a product with a one-hot matrix, which a TPU does faster; bool or bfloat16, finite.

    Exact, as each sum has one term that is not 0. A float32 would need six passes of the matrix units to stay exact.
    """
    rows, length, degree = neighbours.shape
    chosen = jax.nn.one_hot(neighbours, length, dtype=jnp.bfloat16)  # [R, L, K, L]; fused, so it is never in memory
    values = x.reshape(rows, length, -1).astype(jnp.bfloat16)
    gathered = jnp.einsum("rlkm,rmc->rlkc", chosen, values).astype(x.dtype)
    return gathered.reshape(rows, length, degree, *x.shape[2:])


def reduce_neighbours(
    reduction: Callable[[Senders, Slots], Tree], senders: Senders, slots: Slots, neighbours: Array
) -> Tree:
    """What each slot computes from the senders of its edges, without the arrays of all edges where they are slow.

    On a CPU it is computed in blocks of slots that stay in the cache, and again in the backward pass instead of stored:
    less time and memory, as the arrays of all edges leave the cache. Elsewhere at once.

    Args:
      reduction: (senders at the edges [R, B, K, ...], slots [R, B, ...]) -> [R, B, ...]. It is given B slots and their
        edges, in one block or several, and its value at a slot depends on that slot alone. Finite, with a finite
        gradient, where all slots are zeros: the last block is filled up with those.
      senders: [R, L, ...] arrays that the edges gather.
      slots: [R, L, ...] arrays of the slots and of their edges.
      neighbours: [R, L, K] int32 slots of the same row.

    Returns:
      [R, L, ...] arrays as `reduction` has them.
    """
    _, length, degree = neighbours.shape
    if target_platform() != "cpu" or length * degree <= EDGES_OF_BLOCK:
        return reduction(_gather_all(senders, neighbours), slots)
    blocks = -(-length * degree // EDGES_OF_BLOCK)
    size = -(-length // blocks)

    def split(x: Array) -> Array:  # [L, ...] -> [blocks, 1, B, ...]
        padding = [(0, blocks * size - length), *[(0, 0)] * (x.ndim - 1)]
        return jnp.pad(x, padding).reshape(blocks, 1, size, *x.shape[1:])

    def reduce_row(row: tuple[Senders, Slots, Array]) -> Tree:
        senders = jax.tree.map(lambda x: x[None], row[0])

        def reduce_block(block: tuple[Slots, Array]) -> Tree:
            return reduction(_gather_all(senders, block[1]), block[0])

        # Inside a loop nothing can be merged with the first computation.
        reduced = jax.lax.map(jax.checkpoint(reduce_block, prevent_cse=False), jax.tree.map(split, row[1:]))
        return jax.tree.map(lambda x: x.reshape(blocks * size, *x.shape[3:])[:length], reduced)

    return jax.lax.map(reduce_row, (senders, slots, neighbours))


def _gather_all(x: Tree, neighbours: Array) -> Tree:
    return jax.tree.map(lambda leaf: gather_neighbours(leaf, neighbours), x)


def aggregate(messages: Array, mask: Array, reduction: str = "mean") -> Array:
    """Masked mean or sum over a slot's incoming edges, summed in float32.

    Args:
      messages: [R, L, K, ...]; any finite value where masked.
      mask: [R, L, K] bool.
      reduction: "mean" (over the edges that exist) or "sum".

    Returns:
      [R, L, ...] in the dtype of the messages; zeros at a slot without edges.

    Raises:
      ValueError: for another reduction.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}; allowed: mean, sum. Choose one of them.")
    mask = mask.reshape(*mask.shape, *[1] * (messages.ndim - mask.ndim))
    total = jnp.sum(jnp.where(mask, messages, 0), axis=2, dtype=jnp.float32)
    if reduction == "mean":
        total /= jnp.maximum(jnp.sum(mask, axis=2), 1)
    return total.astype(messages.dtype)


def make_graph(batch: ProteinBatch) -> jraph.GraphsTuple:
    """The grid as a jraph graph.

    Each row has G + 1 graphs: its proteins in order, unused ones of zero nodes, and one padding graph for the rest of
    the row. Padding is therefore inside the grid and jraph's own padding masks do not apply; use `graph_masks`.

    Args:
      batch: The grid, R rows of L slots with K neighbours, G graph slots a row.

    Returns:
      GraphsTuple of R x L nodes and R x L x K edges, sorted by receiver (K each); n_node and n_edge [R (G + 1)]
      int32; nodes, edges and globals None.
    """
    rows, length, degree = batch.neighbours.shape
    row_start = jnp.arange(rows, dtype=jnp.int32)[:, None, None] * length
    neighbours = _safe_neighbours(batch.neighbours, structure_edge_mask(batch))
    numbers = jnp.arange(1, batch.record.shape[1] + 1)
    protein_nodes = jnp.sum(batch.protein_segment[:, None, :] == numbers[:, None], axis=-1)  # [R, G]
    padding_nodes = length - protein_nodes.sum(axis=-1, keepdims=True)
    n_node = jnp.concatenate([protein_nodes, padding_nodes], axis=-1).reshape(-1).astype(jnp.int32)
    return jraph.GraphsTuple(
        nodes=None,
        edges=None,
        globals=None,
        senders=(row_start + neighbours).reshape(-1).astype(jnp.int32),
        receivers=jnp.repeat(jnp.arange(rows * length, dtype=jnp.int32), degree),
        n_node=n_node,
        n_edge=n_node * degree,
    )


def graph_masks(batch: ProteinBatch) -> tuple[Array, Array, Array]:
    """node_mask [R L], edge_mask [R L K], graph_mask [R (G + 1)], bool: what is real in `make_graph(batch)`.

    A node is real where its slot belongs to a protein (special tokens included), an edge where both ends have a
    structure, a graph where it is a protein.
    """
    node_mask = (batch.protein_segment > 0).reshape(-1)
    edge_mask = structure_edge_mask(batch).reshape(-1)
    numbers = jnp.arange(1, batch.record.shape[1] + 1)
    used = jnp.any(batch.protein_segment[:, None, :] == numbers[:, None], axis=-1)  # [R, G]
    return node_mask, edge_mask, jnp.pad(used, ((0, 0), (0, 1))).reshape(-1)


def graph_pool(x: Array, batch: ProteinBatch, mask: Array) -> Array:
    """Mean of each protein's slots.

    Args:
      x: [R, L, C].
      batch: The grid, with G graph slots a row.
      mask: [R, L] bool: the slots that count, e.g. `batch.structure_mask`.

    Returns:
      [R, G, C] float32; zeros for a graph slot with nothing to count.
    """
    numbers = jnp.arange(1, batch.record.shape[1] + 1)
    member = (batch.protein_segment[:, None, :] == numbers[:, None]) & mask[:, None, :]  # [R, G, L]
    x = jnp.where(mask[..., None], x, 0).astype(jnp.float32)
    total = jnp.einsum("rgl,rlc->rgc", member.astype(jnp.float32), x, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.maximum(member.sum(axis=-1, keepdims=True), 1)
