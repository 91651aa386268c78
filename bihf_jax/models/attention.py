"""Multi-head attention limited to segments: a slot attends to the slots of its own chain (or protein) and no other.

Four implementations with the same result:

* "blockwise": blocks of 128 queries x 128 keys of all heads, as many as stay in a CPU's cache; blocks that
  share no segment are never visited, so a packed row costs what its proteins cost alone. The softmax is accumulated
  over the key blocks (Milakov & Gimelshein 2018; Dao et al. 2022), the backward pass recomputes the probabilities
  from the saved logsumexp, and nothing of size L x L exists. For CPUs.
* "splash": the Pallas kernel of that name that comes with JAX. For TPUs: blocks of up to 512 x 512 scores of one head
  stay in the chip's vector memory, and nothing of size L x L exists.
* "cudnn": NVIDIA's fused kernel, by `jax.nn.dot_product_attention`. For GPUs, in bfloat16 or float16, with heads of up
  to 128 channels, a multiple of 8. The scores stay on the chip; the mask is an array [R, 1, L, L].
* "dense": the same function without the kernel. For everything else: it materialises the scores [R, H, L, L].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihf_jax.models.platform import runs_here, target_platform

Array = jax.Array

BLOCK = 128
# Stands for minus infinity, so that differences of two of them are 0 and not NaN.
_MASKED_SCORE = -1e30


def segment_attention(
    query: Array,
    key: Array,
    value: Array,
    query_segment: Array,
    key_segment: Array,
    implementation: str = "auto",
) -> Array:
    """softmax(query key^T / sqrt(D)) value over the keys of the query's own segment.

    Args:
      query: [R, H, Lq, D] heads first.
      key: [R, H, Lk, D].
      value: [R, H, Lk, D].
      query_segment: [R, Lq] int32, 0 where there is no query.
      key_segment: [R, Lk] int32, 0 where there is no key.
      implementation: "blockwise", "splash" (compiles for TPUs only), "cudnn" (for NVIDIA GPUs only), "dense", or
        "auto": the first on CPU, the second on TPU, the third on the GPU at hand where the kernel takes the dtype and
        head width, the fourth elsewhere and in programs for another machine's GPU.

    Returns:
      [R, H, Lq, D] in the dtype of `value`; zeros where the query's segment is 0 or holds no key. The softmax is
      computed in float32.

    Raises:
      ValueError: for an unknown implementation, or "cudnn" with a dtype or head width that the kernel does not take.
    """
    if implementation == "auto":
        on_gpu = "cudnn" if runs_here() and _cudnn_takes(query) else "dense"
        implementation = {"cpu": "blockwise", "tpu": "splash", "gpu": on_gpu}.get(target_platform(), "dense")
    if implementation not in _IMPLEMENTATIONS:
        raise ValueError(
            f"attention implementation is {implementation!r}; allowed: auto, {', '.join(_IMPLEMENTATIONS)}. Set "
            "EncoderConfig.attention to one of them."
        )
    return _IMPLEMENTATIONS[implementation](query, key, value, query_segment, key_segment)


class AttentionSummary(NamedTuple):
    """What the weights of a self-attention are like, as the mean over its heads; 0 where the segment is 0."""

    entropy: Array  # [R, L] float32 nats: 0 where all weight is on one slot, the log of their number where it is equal
    own: Array  # [R, L] float32: the weight on the slot itself


def attention_summary(query: Array, key: Array, segment: Array) -> AttentionSummary:
    """Of self-attention as `segment_attention` does it, query and key [R, H, L, D], segment [R, L].

    Takes memory of H x 128 x L numbers a row, and nothing of size L x L.
    """
    return AttentionSummary(*jax.lax.map(lambda row: _row_summary(*row), (query, key, segment)))


def _row_summary(query: Array, key: Array, segment: Array) -> tuple[Array, Array]:
    """Query and key [H, L, D], segment [L] -> entropy [L], weight on the own slot [L]."""
    length = query.shape[1]

    def summarise(block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        block_query, block_segment, slots = block  # [H, BLOCK, D], [BLOCK], [BLOCK]
        allowed = _same_segment(block_segment, segment)  # [BLOCK, L]
        scores = jnp.where(allowed, _scores(block_query, key), _MASKED_SCORE)
        weights = jnp.where(allowed, jax.nn.softmax(scores, axis=-1), 0)  # [H, BLOCK, L]
        entropy = -jnp.sum(weights * jnp.log(jnp.where(weights > 0, weights, 1)), axis=-1)
        own = jnp.sum(jnp.where(slots[:, None] == jnp.arange(length), weights, 0), axis=-1)
        return entropy.mean(axis=0), own.mean(axis=0)

    blocks = (_split_blocks(query, 1), _split_blocks(segment, 0), _split_blocks(jnp.arange(length), 0))
    entropy, own = jax.lax.map(summarise, blocks)
    return _join_blocks(entropy, 0, length), _join_blocks(own, 0, length)


def _dense_attention(
    query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array, kernel: str = "xla"
) -> Array:
    allowed = _same_segment(query_segment, key_segment)  # [R, Lq, Lk]
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))  # [R, H, L, D] -> [R, L, H, D]
    attended = jax.nn.dot_product_attention(query, key, value, mask=allowed[:, None], implementation=kernel)
    attended = jnp.where(allowed.any(axis=-1)[:, :, None, None], attended, 0)
    return jnp.swapaxes(attended, 1, 2)


def _cudnn_attention(query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array) -> Array:
    if not _cudnn_takes(query):
        raise ValueError(
            f"attention 'cudnn' takes bfloat16 or float16 and a head width up to 128 that is a multiple of 8, not "
            f"{query.dtype} and {query.shape[-1]}. Set EncoderConfig.dtype to 'bfloat16', or EncoderConfig.attention "
            "to 'dense'."
        )
    # The kernel's gradient takes even lengths only. Padding is segment 0, to which no slot attends.
    padded = [_pad_to(x, 2, 2) for x in (query, key, value)]
    segments = [_pad_to(x, 2, 1) for x in (query_segment, key_segment)]
    return _dense_attention(*padded, *segments, kernel="cudnn")[:, :, : query.shape[2]]


def _cudnn_takes(query: Array) -> bool:
    """Whether the kernel takes queries [R, H, L, D] of this type."""
    width = query.shape[-1]
    return query.dtype in (jnp.bfloat16, jnp.float16) and width <= 128 and width % 8 == 0


def _same_segment(query_segment: Array, key_segment: Array) -> Array:
    """[..., Lq] and [..., Lk] -> [..., Lq, Lk] bool: the same segment, and not padding."""
    return (query_segment[..., :, None] == key_segment[..., None, :]) & (query_segment[..., :, None] != 0)


def _splash_attention(
    query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array, interpret: bool = False
) -> Array:
    """With `interpret`, JAX emulates the kernel, which runs on any platform (slowly: for tests)."""
    # Here, because importing Pallas takes a second that the other implementations need not spend.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    queries, keys = query.shape[2], key.shape[2]
    query_block, key_block = _splash_block(queries), _splash_block(keys)
    query *= _scale(query)  # the kernel does not scale the scores
    query, key, value = _pad_to(query, query_block, 2), _pad_to(key, key_block, 2), _pad_to(value, key_block, 2)
    # Padding is segment 0, which attends to itself; the result there is replaced below.
    segments = splash.SegmentIds(_pad_to(query_segment, query_block, 1), _pad_to(key_segment, key_block, 1))
    every_pair = splash.FullMask((query.shape[2], key.shape[2]))
    kernel = splash.make_splash_mha_single_device(
        splash.MultiHeadMask([every_pair] * query.shape[1]),
        block_sizes=splash.BlockSizes(
            block_q=query_block,
            block_kv=key_block,
            block_q_dkv=query_block,
            block_kv_dkv=key_block,
            block_q_dq=query_block,
            block_kv_dq=key_block,
        ),
        interpret=interpret,
    )
    attended = jax.vmap(kernel)(query, key, value, segments)[:, :, :queries]
    has_key = _same_segment(query_segment, key_segment).any(axis=-1)
    return jnp.where(has_key[:, None, :, None], attended, 0)


def _splash_block(length: int) -> int:
    """Slots of a block: few large blocks, but at most 512, and little padding; a multiple of 128 (a TPU's lanes)."""
    blocks = -(-length // 512)
    return -(-length // (128 * blocks)) * 128


def _pad_to(x: Array, multiple: int, axis: int) -> Array:
    """x with zeros after it along the axis, up to a multiple."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, -x.shape[axis] % multiple)
    return jnp.pad(x, padding)


@jax.custom_vjp
def _blockwise_attention(query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array) -> Array:
    return _blockwise_forward(query, key, value, query_segment, key_segment)[0]


def _blockwise_forward(
    query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array
) -> tuple[Array, tuple[Array, ...]]:
    out, logsumexp = jax.lax.map(lambda row: _row_forward(*row), (query, key, value, query_segment, key_segment))
    return out, (query, key, value, query_segment, key_segment, out, logsumexp)


def _blockwise_backward(saved: tuple[Array, ...], out_gradient: Array) -> tuple[Array, Array, Array, None, None]:
    gradients = jax.lax.map(lambda row: _row_backward(*row), (*saved, out_gradient))
    return (*gradients, None, None)


_blockwise_attention.defvjp(_blockwise_forward, _blockwise_backward)


def _row_forward(
    query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array
) -> tuple[Array, Array]:
    """One row: query [H, Lq, D], key and value [H, Lk, D] -> out [H, Lq, D], logsumexp of the scores [H, Lq]."""
    heads, length, width = query.shape
    queries, keys, values = (_split_blocks(x, axis=1) for x in (query, key, value))  # [blocks, H, BLOCK, D]
    query_segments, key_segments = _split_blocks(query_segment, 0), _split_blocks(key_segment, 0)  # [blocks, BLOCK]
    first, stop = _key_block_range(query_segments, key_segments)

    def attend(block: tuple[Array, ...]) -> tuple[Array, Array]:
        block_query, block_segment, *key_blocks = block  # the first key block, and one past the last

        def add_key_block(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            highest, total, weighted = carry
            allowed = _same_segment(block_segment, key_segments[index])
            scores = jnp.where(allowed, _scores(block_query, keys[index]), _MASKED_SCORE)  # [H, BLOCK, BLOCK]
            new_highest = jnp.maximum(highest, scores.max(axis=-1))
            rescale = jnp.exp(highest - new_highest)
            weights = jnp.where(allowed, jnp.exp(scores - new_highest[..., None]), 0.0)
            total = total * rescale + weights.sum(axis=-1)
            weighted = weighted * rescale[..., None] + _product("hqk,hkd->hqd", weights, values[index])
            return new_highest, total, weighted

        start = (
            jnp.full((heads, BLOCK), _MASKED_SCORE, jnp.float32),
            jnp.zeros((heads, BLOCK), jnp.float32),
            jnp.zeros((heads, BLOCK, width), jnp.float32),
        )
        highest, total, weighted = jax.lax.fori_loop(*key_blocks, add_key_block, start)
        total = jnp.where(total > 0, total, 1.0)  # no key at all: weighted is 0
        return (weighted / total[..., None]).astype(value.dtype), highest + jnp.log(total)

    out, logsumexp = jax.lax.map(attend, (queries, query_segments, first, stop))
    return _join_blocks(out, 1, length), _join_blocks(logsumexp, 1, length)


def _row_backward(
    query: Array,
    key: Array,
    value: Array,
    query_segment: Array,
    key_segment: Array,
    out: Array,
    logsumexp: Array,
    out_gradient: Array,
) -> tuple[Array, Array, Array]:
    """Gradients of one row with respect to query, key and value, by the blocks of `_row_forward`."""
    queries, keys, values, logsumexps, out_gradients = (
        _split_blocks(x, axis=1) for x in (query, key, value, logsumexp, out_gradient)
    )
    # sum_k of probability x its gradient, needed by the softmax's derivative, is <out, gradient of out>.
    inner = jnp.sum(out.astype(jnp.float32) * out_gradient.astype(jnp.float32), axis=-1)  # [H, Lq]
    query_segments, key_segments = _split_blocks(query_segment, 0), _split_blocks(key_segment, 0)
    first, stop = _key_block_range(query_segments, key_segments)

    def attend_backward(
        key_value_gradients: tuple[Array, Array], block: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], Array]:
        block_query, block_segment, block_logsumexp, block_gradient, block_inner, *key_blocks = block
        query_columns, gradient_columns = jnp.swapaxes(block_query, 1, 2), jnp.swapaxes(block_gradient, 1, 2)

        def add_key_block(index: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
            query_gradient, key_gradient, value_gradient, block_logsumexp = carry
            allowed = _same_segment(block_segment, key_segments[index])
            scores = _scores(block_query, keys[index])
            # The exponential of a selection would take five times as long. What overflows is not selected.
            weights = jnp.where(allowed, jnp.exp(scores - block_logsumexp[..., None]), 0.0)
            weight_gradient = _product("hqd,hkd->hqk", block_gradient, values[index])
            score_gradient = weights * (weight_gradient - block_inner[..., None]) * _scale(block_query)
            query_gradient += _product("hqk,hkd->hqd", score_gradient, keys[index])
            key_gradient = key_gradient.at[index].add(_product("hdq,hqk->hdk", query_columns, score_gradient))
            value_gradient = value_gradient.at[index].add(_product("hdq,hqk->hdk", gradient_columns, weights))
            # Stays as it is. But of what the loop changes XLA makes an array; otherwise it would slice it from all rows
            # again for every score.
            block_logsumexp += 0.0 * index
            return query_gradient, key_gradient, value_gradient, block_logsumexp

        start = (jnp.zeros(block_query.shape, jnp.float32), *key_value_gradients, block_logsumexp)
        query_gradient, *key_value_gradients, _ = jax.lax.fori_loop(*key_blocks, add_key_block, start)
        return tuple(key_value_gradients), query_gradient

    blocks = (queries, query_segments, logsumexps, out_gradients, _split_blocks(inner, 1), first, stop)
    # [blocks, H, D, BLOCK]: with the channels first, the products above read the scores in the order that they are in,
    # and the whole backward pass takes two thirds of the time.
    zeros = jnp.zeros(jnp.swapaxes(keys, 2, 3).shape, jnp.float32)
    key_value_gradients, query_gradient = jax.lax.scan(attend_backward, (zeros, zeros), blocks)
    key_gradient, value_gradient = (jnp.swapaxes(x, 2, 3) for x in key_value_gradients)
    return (
        _join_blocks(query_gradient, 1, query.shape[1]).astype(query.dtype),
        _join_blocks(key_gradient, 1, key.shape[1]).astype(key.dtype),
        _join_blocks(value_gradient, 1, value.shape[1]).astype(value.dtype),
    )


def _scale(query: Array) -> float:
    return query.shape[-1] ** -0.5


def _scores(query: Array, key: Array) -> Array:
    """[H, q, D], [H, k, D] -> [H, q, k] float32."""
    return _product("hqd,hkd->hqk", query, key) * _scale(query)


def _product(subscripts: str, left: Array, right: Array) -> Array:
    return jnp.einsum(subscripts, left.astype(jnp.float32), right.astype(jnp.float32))


def _split_blocks(x: Array, axis: int) -> Array:
    """[.., L, ..] -> [blocks, .., BLOCK, ..], padded with zeros (which is also segment 0) to whole blocks."""
    x = _pad_to(x, BLOCK, axis)
    return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, BLOCK, *x.shape[axis + 1 :]), axis, 0)


def _join_blocks(x: Array, axis: int, length: int) -> Array:
    """Inverse of `_split_blocks`: [blocks, .., BLOCK, ..] -> [.., length, ..]."""
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, length, axis=axis)


def _key_block_range(query_segments: Array, key_segments: Array) -> tuple[Array, Array]:
    """For each block of queries, the first block of keys that may share a segment with it, and one past the last.

    Compares ranges of segment numbers, so no visited pair is ever missed; the pairs inside are still masked.

    Args:
      query_segments: [query blocks, BLOCK] int32.
      key_segments: [key blocks, BLOCK] int32.

    Returns:
      first and stop, [query blocks] int32; equal where the block needs no key.
    """
    query_low, query_high = _segment_range(query_segments)
    key_low, key_high = _segment_range(key_segments)
    needed = (query_low[:, None] <= key_high) & (key_low <= query_high[:, None])  # [query blocks, key blocks]
    first = jnp.argmax(needed, axis=1)
    stop = needed.shape[1] - jnp.argmax(needed[:, ::-1], axis=1)
    return first, jnp.where(needed.any(axis=1), stop, first)


def _segment_range(segments: Array) -> tuple[Array, Array]:
    """[blocks, BLOCK] -> lowest and highest segment of each block [blocks]; an empty range for a block of padding."""
    low = jnp.where(segments > 0, segments, jnp.iinfo(jnp.int32).max).min(axis=1)
    return low, segments.max(axis=1)


_IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {
    "blockwise": _blockwise_attention,
    "splash": _splash_attention,
    "cudnn": _cudnn_attention,
    "dense": _dense_attention,
}
