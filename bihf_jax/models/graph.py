"""The graph of a residue grid: R x L slots are the nodes, each with K incoming edges.

A residue's edges stand together ([R, L, K]), so gathering is row-local and aggregation is a masked reduction over K
instead of a scatter. `make_graph` shows the same graph as a `jraph.GraphsTuple`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jraph

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.platform import target_platform

Array = jax.Array
Tree = TypeVar("Tree")  # arrays, in any structure
Parameters = TypeVar("Parameters")
Senders = TypeVar("Senders")
Edges = TypeVar("Edges")
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
    reduction: Callable[[Parameters, Senders, Edges, Array, Slots], Tree],
    parameters: Parameters,
    senders: Senders,
    edges: Edges,
    slots: Slots,
    neighbours: Array,
    mask: Array,
) -> Tree:
    """What each slot computes from its edges, without the arrays of all edges where they are slow.

    On a CPU it is computed in blocks of slots that stay in the cache, and again in the backward pass instead of stored:
    less time and memory, as the arrays of all edges leave the cache. The slots are sorted by their number of edges, and
    a block computes no more of the K than its slots have, to a quarter. Elsewhere all at once.

    Args:
      reduction: (parameters, senders at the edges [.., K', ...], edges [.., K', ...], mask [.., K'], slots [.., ...])
        -> [.., ...], where [..] is [R, L] and K' is K, or [B] are slots in any order and K' the edges that they need.
        Its value at a slot depends on that slot alone, and on no masked edge. It reads no arrays but these, and has a
        finite gradient of 0 where that of its value is 0.
      parameters: Arrays that all slots share.
      senders: [R, L, ...] arrays that the edges gather.
      edges: [R, L, K, ...] arrays of the edges.
      slots: [R, L, ...] arrays of the slots. All four are trees of floating point arrays.
      neighbours: [R, L, K] int32 slots of the same row.
      mask: [R, L, K] bool: the edge exists.

    Returns:
      [R, L, ...] arrays as `reduction` has them.
    """
    if target_platform() != "cpu" or neighbours.size <= EDGES_OF_BLOCK:
        return reduction(parameters, _gather_all(senders, neighbours), edges, mask, slots)
    return _reduce_in_blocks(reduction, parameters, senders, edges, slots, neighbours, mask)


def _gather_all(x: Tree, neighbours: Array) -> Tree:
    return jax.tree.map(lambda leaf: gather_neighbours(leaf, neighbours), x)


class _Blocks(NamedTuple):
    """The N slots of all rows, sorted by the number of edges that they need, in blocks of B."""

    slots: Array  # [blocks, B] int32, numbered through all rows; the last block is filled up with slot 0
    choice: Array  # [blocks] int32: which of `_edge_counts` is enough for the block
    places: Array  # [N] int32: where each slot stands in `slots`

    def split(self, x: Array) -> Array:
        """[N, ...] -> [blocks, B, ...], with zeros where the last block is filled up."""
        x = x[self.slots.reshape(-1)[: len(x)]]
        padding = [(0, self.slots.size - len(x)), *[(0, 0)] * (x.ndim - 1)]
        return jnp.pad(x, padding).reshape(*self.slots.shape, *x.shape[1:])

    def join(self, x: Array) -> Array:
        """[blocks, B, ...] -> [N, ...]."""
        return x.reshape(-1, *x.shape[2:])[self.places]


def _edge_counts(degree: int) -> list[int]:
    """So many edges of each slot a block may compute: quarters of all. Each is a program of its own."""
    return sorted({-(-degree * quarters // 4) for quarters in (1, 2, 3, 4)})


def _make_blocks(mask: Array) -> _Blocks:
    """Blocks of slots whose edges [N, K] exist where the mask is on."""
    number, degree = mask.shape
    blocks = -(-mask.size // EDGES_OF_BLOCK)
    size = -(-number // blocks)
    needed = jnp.max(jnp.where(mask, jnp.arange(1, degree + 1), 0), axis=-1)  # [N], up to the last edge that exists
    order = jnp.argsort(needed)
    of_block = jnp.pad(needed[order], (0, blocks * size - number)).reshape(blocks, size).max(axis=-1)
    return _Blocks(
        slots=jnp.pad(order, (0, blocks * size - number)).reshape(blocks, size),
        choice=jnp.searchsorted(jnp.asarray(_edge_counts(degree)), of_block),
        places=jnp.argsort(order),
    )


def _rows_joined(x: Tree) -> Tree:
    """Arrays [R, L, ...] -> [R L, ...]."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), x)


class _Grid(NamedTuple):
    """What `reduce_neighbours` is given, rows joined: N slots."""

    senders: Tree  # [N, ...]
    edges: Tree  # [N, K, ...]
    slots: Tree  # [N, ...]
    neighbours: Array  # [N, K] int32, numbered through all rows
    mask: Array  # [N, K]

    @classmethod
    def of(cls, senders: Tree, edges: Tree, slots: Tree, neighbours: Array, mask: Array) -> "_Grid":
        rows, length, _ = neighbours.shape
        neighbours = neighbours + jnp.arange(rows, dtype=neighbours.dtype)[:, None, None] * length
        return cls(*map(_rows_joined, (senders, edges, slots, neighbours, mask)))

    def block(self, slots: Array, count: int) -> tuple[Array, tuple[Tree, Tree, Array, Tree]]:
        """The first `count` edges of `slots` [B]: their senders' numbers, and what the reduction takes of them."""
        edges, neighbours, mask = jax.tree.map(lambda x: x[slots, :count], (self.edges, self.neighbours, self.mask))
        senders = jax.tree.map(lambda x: x[neighbours], self.senders)
        return neighbours, (senders, edges, mask, jax.tree.map(lambda x: x[slots], self.slots))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reduce_in_blocks(reduction: Callable[..., Tree], parameters: Tree, *arrays: Tree) -> Tree:
    """`reduce_neighbours` in a loop over blocks of the slots of all rows."""
    grid, shape = _Grid.of(*arrays), arrays[-1].shape
    blocks = _make_blocks(grid.mask)

    def reduce_block(block: tuple[Array, Array]) -> Tree:
        slots, choice = block

        def compute(count: int) -> Tree:
            return reduction(parameters, *grid.block(slots, count)[1])

        return jax.lax.switch(choice, [functools.partial(compute, count) for count in _edge_counts(shape[-1])])

    reduced = jax.lax.map(reduce_block, (blocks.slots, blocks.choice))
    return jax.tree.map(lambda x: blocks.join(x).reshape(*shape[:2], *x.shape[2:]), reduced)


def _forward(reduction: Callable[..., Tree], parameters: Tree, *arrays: Tree) -> tuple[Tree, tuple[Tree, ...]]:
    return _reduce_in_blocks(reduction, parameters, *arrays), (parameters, *arrays)


def _backward(reduction: Callable[..., Tree], saved: tuple[Tree, ...], gradient: Tree) -> tuple[Tree | None, ...]:
    """The gradient, block by block: each computes its edges again.

    Written out, as autodiff of the choice would keep what each of its branches computes, chosen or not.
    """
    parameters, *arrays = saved
    grid, (rows, length, degree) = _Grid.of(*arrays), arrays[-1].shape
    blocks = _make_blocks(grid.mask)

    def add_block(totals: tuple[Tree, Tree], block: tuple[Array, Array, Tree]) -> tuple[tuple[Tree, Tree], ...]:
        """Totals of the parameters and of the senders; gradients of the block's edges and slots."""
        slots, choice, gradient = block

        def compute(count: int) -> tuple[tuple[Tree, Tree], ...]:
            neighbours, (senders, edges, mask, own) = grid.block(slots, count)
            _, pull_back = jax.vjp(lambda p, s, e, o: reduction(p, s, e, mask, o), parameters, senders, edges, own)
            of_parameters, of_senders, of_edges, of_slots = pull_back(gradient)
            all_edges = lambda x: jnp.pad(x, [(0, 0), (0, degree - count), *[(0, 0)] * (x.ndim - 2)])  # noqa: E731
            totals_here = (
                jax.tree.map(jnp.add, totals[0], of_parameters),
                jax.tree.map(lambda total, x: total.at[neighbours].add(x), totals[1], of_senders),
            )
            return totals_here, (jax.tree.map(all_edges, of_edges), of_slots)

        return jax.lax.switch(choice, [functools.partial(compute, count) for count in _edge_counts(degree)])

    zeros = jax.tree.map(jnp.zeros_like, (parameters, grid.senders))
    xs = blocks.slots, blocks.choice, jax.tree.map(blocks.split, _rows_joined(gradient))
    (of_parameters, of_senders), of_blocks = jax.lax.scan(add_block, zeros, xs)
    of_edges, of_slots = jax.tree.map(blocks.join, of_blocks)
    by_row = jax.tree.map(lambda x: x.reshape(rows, length, *x.shape[1:]), (of_senders, of_edges, of_slots))
    return of_parameters, *by_row, None, None


_reduce_in_blocks.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def sum_edges(x: Array, axis: int) -> Array:
    """Sum over the edges, float32: [.., K, ...] with K at `axis` -> [.., ...]."""
    count, half = x.shape[axis], x.shape[axis] // 2
    if target_platform() != "cpu" or count < 2:
        return jnp.sum(x, axis=axis, dtype=jnp.float32)
    # Written out by halves: one loop with what comes before it. A reduction is a loop of its own on CPU, three times
    # as long.
    part = lambda start, end: jax.lax.slice_in_dim(x, start, end, axis=axis).astype(jnp.float32)  # noqa: E731
    total = sum_edges(part(0, half) + part(half, 2 * half), axis)
    return total + jnp.squeeze(part(count - 1, count), axis) if count % 2 else total


# Autodiff of the halves would add up padded arrays.
sum_edges.defvjp(
    lambda x, axis: (sum_edges(x, axis), x),
    lambda axis, x, gradient: (jnp.broadcast_to(jnp.expand_dims(gradient, axis), x.shape).astype(x.dtype),),
)


def aggregate(messages: Array, mask: Array, reduction: str = "mean") -> Array:
    """Masked mean or sum over a slot's incoming edges, summed in float32.

    Args:
      messages: [.., K, ...]; any finite value where masked.
      mask: [.., K] bool.
      reduction: "mean" (over the edges that exist) or "sum".

    Returns:
      [.., ...] in the dtype of the messages; zeros at a slot without edges.

    Raises:
      ValueError: for another reduction.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}; allowed: mean, sum. Choose one of them.")
    axis = mask.ndim - 1
    mask = mask.reshape(*mask.shape, *[1] * (messages.ndim - mask.ndim))
    total = sum_edges(jnp.where(mask, messages, 0), axis)
    if reduction == "mean":
        total /= jnp.maximum(jnp.sum(mask, axis=axis), 1)
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
