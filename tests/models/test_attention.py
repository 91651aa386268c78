"""Tests of `bihf_jax.models.attention`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models import attention
from bihf_jax.models.attention import attention_summary, segment_attention
from bihf_jax.models.config import ATTENTION_KINDS
from bihf_jax.models.platform import compiling_for

# The TPU kernel is emulated here; tests/benchmarks/test_compile_report.py compiles it.
IMPLEMENTATIONS = {
    "blockwise": functools.partial(segment_attention, implementation="blockwise"),
    "splash": functools.partial(attention._splash_attention, interpret=True),
    "dense": functools.partial(segment_attention, implementation="dense"),
}


def random_inputs(seed, rows=2, heads=3, queries=300, keys=300, width=8):
    rng = np.random.default_rng(seed)
    shapes = ((rows, heads, queries, width), (rows, heads, keys, width), (rows, heads, keys, width))
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)


def packed_segments(seed, rows=2, length=300):
    """Segments of random lengths in order, then padding, as in a packed row."""
    rng = np.random.default_rng(seed)
    segments = np.zeros((rows, length), np.int32)
    for row in segments:
        ends = np.sort(rng.choice(np.arange(1, length), 6, replace=False))
        for number, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
            row[start:stop] = number
    return jnp.asarray(segments)


def reference(query, key, value, query_segment, key_segment):
    """Softmax over an explicit mask, in float32 with nothing clever."""
    allowed = (query_segment[:, :, None] == key_segment[:, None, :]) & (query_segment[:, :, None] > 0)
    scores = jnp.einsum("rhqd,rhkd->rhqk", query, key) / query.shape[-1] ** 0.5
    weights = jnp.where(allowed[:, None], jnp.exp(scores), 0)
    total = weights.sum(-1, keepdims=True)
    return jnp.einsum("rhqk,rhkd->rhqd", weights / jnp.where(total > 0, total, 1), value)


@pytest.mark.parametrize("attend", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_values_and_gradients_equal_an_explicit_softmax(attend):
    """Each implementation equals a plain masked softmax on packed rows with padding, in values and all gradients."""
    inputs, segments = random_inputs(0), packed_segments(1)
    weight = random_inputs(2)[0]

    def total(function):
        return lambda *qkv: jnp.sum(weight * function(*qkv, segments, segments))

    np.testing.assert_allclose(attend(*inputs, segments, segments), reference(*inputs, segments, segments), atol=2e-6)
    ours = jax.grad(total(attend), (0, 1, 2))(*inputs)
    expected = jax.grad(total(reference), (0, 1, 2))(*inputs)
    for ours_gradient, expected_gradient in zip(ours, expected, strict=True):
        np.testing.assert_allclose(ours_gradient, expected_gradient, atol=1e-5)


def test_blockwise_equals_jax_attention_without_padding():
    """On full rows, values and gradients equal `jax.nn.dot_product_attention` with the same mask."""
    inputs = random_inputs(3, queries=256, keys=256)
    segments = jnp.asarray(np.sort(np.random.default_rng(4).integers(1, 5, (2, 256)), axis=1), jnp.int32)

    def theirs(query, key, value):
        mask = (segments[:, :, None] == segments[:, None, :])[:, None]
        swapped = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
        return jnp.swapaxes(jax.nn.dot_product_attention(*swapped, mask=mask), 1, 2)

    def ours(query, key, value):
        return segment_attention(query, key, value, segments, segments, "blockwise")

    np.testing.assert_allclose(ours(*inputs), theirs(*inputs), atol=2e-6)
    ours_gradients = jax.grad(lambda *x: jnp.sum(ours(*x) ** 2), (0, 1, 2))(*inputs)
    their_gradients = jax.grad(lambda *x: jnp.sum(theirs(*x) ** 2), (0, 1, 2))(*inputs)
    for our_gradient, their_gradient in zip(ours_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-5)


def test_segments_in_any_order_and_different_lengths():
    """Segment numbers need not be sorted, and queries and keys may differ in number: no needed block is skipped."""
    query, key, value = random_inputs(5, queries=200, keys=330)
    rng = np.random.default_rng(6)
    query_segment = jnp.asarray(rng.integers(0, 6, (2, 200)), jnp.int32)
    key_segment = jnp.asarray(rng.integers(0, 4, (2, 330)), jnp.int32)
    np.testing.assert_allclose(
        segment_attention(query, key, value, query_segment, key_segment, "blockwise"),
        reference(query, key, value, query_segment, key_segment),
        atol=2e-6,
    )


@pytest.mark.parametrize("attend", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_padding_gives_zeros_and_finite_gradients(attend):
    """Rows of padding only, and queries whose segment has no key, give exact zeros and gradients without NaN."""
    inputs = random_inputs(7, queries=140, keys=140)
    query_segment = jnp.zeros((2, 140), jnp.int32).at[0, :50].set(1).at[0, 50:60].set(7)
    key_segment = jnp.zeros((2, 140), jnp.int32).at[0, :50].set(1)
    with jax.debug_nans(True):
        out = attend(*inputs, query_segment, key_segment)
        gradients = jax.grad(lambda *x: jnp.sum(attend(*x, query_segment, key_segment) ** 2), (0, 1, 2))(*inputs)
    assert np.all(np.asarray(out[0, :, 50:]) == 0)
    assert np.all(np.asarray(out[1]) == 0)
    assert np.any(np.asarray(out[0, :, :50]) != 0)
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
        assert np.all(np.asarray(gradient[:, :, 60:]) == 0)


def test_large_scores_do_not_overflow():
    """Scores of several thousand, whose exponentials are infinite in float32, still give a softmax."""
    query, key, value = random_inputs(8, queries=256, keys=256)
    segments = jnp.ones((2, 256), jnp.int32)
    out = segment_attention(100 * query, 100 * key, value, segments, segments, "blockwise")
    scores = np.einsum("rhqd,rhkd->rhqk", query, key, dtype=np.float64) * 1e4 / 8**0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("rhqk,rhkd->rhqd", weights / weights.sum(-1, keepdims=True), value)
    np.testing.assert_allclose(out, expected, atol=2e-2)
    assert np.all(np.isfinite(out))


@pytest.mark.parametrize("attend", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_bfloat16_in_and_out(attend):
    """bfloat16 inputs give a bfloat16 result close to float32 (the softmax itself is float32)."""
    inputs, segments = random_inputs(9), packed_segments(10)
    low = tuple(x.astype(jnp.bfloat16) for x in inputs)
    out = attend(*low, segments, segments)
    assert out.dtype == jnp.bfloat16
    expected = reference(*(x.astype(jnp.float32) for x in low), segments, segments)
    np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=2e-2)


def test_long_rows_make_no_square_of_scores():
    """At 4,096 slots the compiled blockwise program, gradient included, holds no array of L x L scores."""
    length = 4096
    shape = jax.ShapeDtypeStruct((1, 4, length, 8), jnp.float32)
    segment = jax.ShapeDtypeStruct((1, length), jnp.int32)

    def loss(query, key, value, segments):
        return jnp.sum(segment_attention(query, key, value, segments, segments, "blockwise"))

    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(shape, shape, shape, segment).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * length**2  # one head's float32 scores


def test_key_blocks_that_share_no_segment_are_skipped():
    """Each block of queries visits only the blocks of keys between the first and last that it shares a segment with."""
    block = attention.BLOCK
    segments = jnp.repeat(jnp.asarray([1, 1, 2, 3, 0]), block).reshape(5, block)
    first, stop = attention._key_block_range(segments, segments)
    np.testing.assert_array_equal(first[:4], [0, 0, 2, 3])
    np.testing.assert_array_equal(stop[:4], [2, 2, 3, 4])
    assert first[4] == stop[4]


def test_a_segment_is_not_touched_by_blocks_that_it_shares_nothing_with():
    """Blocks of another segment hold NaN, which a visit would spread, in values and gradients."""
    block = attention.BLOCK
    segments = jnp.repeat(jnp.asarray([[1, 1, 2, 3]]), block, axis=1)
    query, key, value = random_inputs(24, rows=1, queries=4 * block, keys=4 * block)
    poisoned = jnp.isin(segments, jnp.asarray([2]))[:, None, :, None]
    inputs = (query, jnp.where(poisoned, jnp.nan, key), jnp.where(poisoned, jnp.nan, value))

    def total(*inputs):
        out = segment_attention(*inputs, segments, segments, "blockwise")
        return jnp.sum(jnp.where(poisoned, 0, out)), out

    gradients, out = jax.grad(total, (0, 1, 2), has_aux=True)(*inputs)
    for x in (out, *gradients):
        assert np.isfinite(np.where(poisoned, 0, x)).all()
    np.testing.assert_allclose(
        out[:, :, : 2 * block],
        reference(query, key, value, segments, segments)[:, :, : 2 * block],
        atol=2e-6,
    )


def test_unknown_implementation_is_refused():
    """The error names the value and the allowed ones."""
    inputs, segments = random_inputs(11, queries=4, keys=4), jnp.ones((2, 4), jnp.int32)
    with pytest.raises(ValueError, match="'flash'; allowed: auto, blockwise, splash, cudnn, dense"):
        segment_attention(*inputs, segments, segments, "flash")


def test_splash_takes_other_lengths_for_keys_and_any_head_width():
    """Queries and keys of different numbers, in more than one block, with heads as wide as those of ESM-2 35M."""
    query, key, value = random_inputs(12, rows=1, heads=2, queries=200, keys=600, width=24)
    rng = np.random.default_rng(13)
    query_segment = jnp.asarray(rng.integers(0, 6, (1, 200)), jnp.int32)
    key_segment = jnp.asarray(rng.integers(0, 4, (1, 600)), jnp.int32)
    np.testing.assert_allclose(
        IMPLEMENTATIONS["splash"](query, key, value, query_segment, key_segment),
        reference(query, key, value, query_segment, key_segment),
        atol=2e-6,
    )


@pytest.mark.parametrize("length", [1, 128, 129, 300, 512, 513, 1024, 1030, 2048, 4096])
def test_splash_blocks(length):
    """Blocks are whole lanes, at most 512 slots, and cover a row with less than 128 slots of padding a block."""
    block = attention._splash_block(length)
    blocks = -(-length // block)
    assert block % 128 == 0
    assert block <= 512
    assert blocks * block - length < 128 * blocks


@pytest.fixture
def emulated_cudnn(monkeypatch):
    """The kernel needs a GPU: what it is called with goes to the same function of JAX without it."""
    real = jax.nn.dot_product_attention
    calls = []

    def emulate(query, key, value, mask, implementation):
        calls.append(implementation)
        assert query.shape[1] % 2 == 0
        assert key.shape[1] % 2 == 0
        return real(query, key, value, mask=mask)

    monkeypatch.setattr(jax.nn, "dot_product_attention", emulate)
    return calls


def test_cudnn_is_called_with_even_lengths_and_the_segments(emulated_cudnn):
    """Odd lengths are padded and cut off again; values and gradients are those of a plain softmax."""
    query, key, value = random_inputs(20, queries=37, keys=51)
    rng = np.random.default_rng(21)
    segments = (jnp.asarray(rng.integers(0, 4, (2, n)), jnp.int32) for n in (37, 51))
    query_segment, key_segment = segments
    low = tuple(x.astype(jnp.bfloat16) for x in (query, key, value))
    attend = functools.partial(segment_attention, implementation="cudnn")
    out = attend(*low, query_segment, key_segment)
    assert out.dtype == jnp.bfloat16
    expected = reference(*(x.astype(jnp.float32) for x in low), query_segment, key_segment)
    np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=2e-2)
    ours = jax.grad(lambda *x: jnp.sum(attend(*x, query_segment, key_segment).astype(jnp.float32)), (0, 1, 2))(*low)
    theirs = jax.grad(lambda *x: jnp.sum(reference(*x, query_segment, key_segment)), (0, 1, 2))(query, key, value)
    for our_gradient, their_gradient in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our_gradient.astype(jnp.float32), their_gradient, atol=5e-2)
    assert set(emulated_cudnn) == {"cudnn"}


@pytest.mark.parametrize(
    ("dtype", "width", "kernel"), [("bfloat16", 64, "cudnn"), ("float32", 64, "xla"), ("bfloat16", 12, "xla")]
)
def test_auto_takes_the_fused_kernel_on_a_gpu_where_it_can(emulated_cudnn, monkeypatch, dtype, width, kernel):
    """In half precision with a width that the kernel takes; otherwise, and for another machine, the plain products."""
    inputs = tuple(x.astype(dtype) for x in random_inputs(22, queries=8, keys=8, width=width))
    segments = jnp.ones((2, 8), jnp.int32)
    with compiling_for("gpu"):
        segment_attention(*inputs, segments, segments)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    segment_attention(*inputs, segments, segments)
    assert emulated_cudnn == ["xla", kernel]


def test_cudnn_refuses_what_the_kernel_does_not_take():
    """The error names dtype and width, and what to set."""
    inputs, segments = random_inputs(23, queries=8, keys=8), jnp.ones((2, 8), jnp.int32)
    with pytest.raises(ValueError, match=r"not float32 and 8\. Set EncoderConfig.dtype to 'bfloat16'"):
        segment_attention(*inputs, segments, segments, "cudnn")


@pytest.mark.parametrize(("platform", "operation"), [("cpu", "while"), ("tpu", "pallas_call"), ("gpu", "softmax")])
def test_auto_follows_the_target_platform(platform, operation):
    """ "auto" is traced as loops over blocks for CPU, as a Pallas kernel for TPU, and as plain products elsewhere."""
    inputs, segments = random_inputs(14, queries=8, keys=8), jnp.ones((2, 8), jnp.int32)
    with compiling_for(platform):
        traced = str(jax.make_jaxpr(lambda *x: segment_attention(*x, segments, segments))(*inputs))
    found = {name for name in ("while", "pallas_call") if name in traced} or {"softmax"}
    assert operation in found


def test_the_config_allows_every_implementation():
    """What EncoderConfig.attention may be is what `segment_attention` takes."""
    assert set(ATTENTION_KINDS) == {"auto", *attention._IMPLEMENTATIONS}


def test_summary_equals_that_of_the_explicit_weights():
    """Entropy and weight on the own slot, as means over the heads; 0 where there is padding."""
    (query, key, _), segment = random_inputs(5), packed_segments(6)
    allowed = (segment[:, :, None] == segment[:, None, :]) & (segment[:, :, None] > 0)
    scores = jnp.einsum("rhqd,rhkd->rhqk", query, key) / query.shape[-1] ** 0.5
    weights = jax.nn.softmax(jnp.where(allowed[:, None], scores, -jnp.inf), axis=-1)
    weights = np.where(allowed[:, None], weights, 0)
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1).mean(1)
    summary = jax.jit(attention_summary)(query, key, segment)
    np.testing.assert_allclose(summary.entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(summary.own, np.diagonal(weights, axis1=2, axis2=3).mean(1), atol=1e-6)
    assert not np.asarray(summary.own)[np.asarray(segment) == 0].any()


def test_summary_of_equal_scores():
    """With no preference the weight is equal, and the entropy the log of the number of slots."""
    segment = jnp.asarray([[1] * 5 + [2] * 3 + [0] * 2])
    zeros = jnp.zeros((1, 2, 10, 4))
    summary = attention_summary(zeros, zeros, segment)
    np.testing.assert_allclose(summary.own[0], [1 / 5] * 5 + [1 / 3] * 3 + [0] * 2, atol=1e-6)
    np.testing.assert_allclose(summary.entropy[0], [np.log(5)] * 5 + [np.log(3)] * 3 + [0] * 2, atol=1e-6)
