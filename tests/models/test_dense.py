"""Tests of `bihf_jax.models.dense`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from bihf_jax.models.dense import Dense, exact_gelu
from bihf_jax.models.platform import compiling_for


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_dense_equals_flax(platform, dtype, tolerance):
    """Parameters are those of Flax's Dense, and so are values and all gradients, on vectors, slots and edges."""
    rng = np.random.default_rng(0)
    ours, theirs = (kind(7, dtype=jnp.dtype(dtype), name="dense") for kind in (Dense, nn.Dense))
    for shape in ((5,), (2, 9, 5), (2, 9, 3, 5)):
        x = jnp.asarray(rng.normal(size=shape), jnp.float32)
        with compiling_for(platform):
            variables = ours.init(jax.random.key(1), x)
            jax.tree.map(np.testing.assert_array_equal, variables, theirs.init(jax.random.key(1), x))
            results = [
                jax.value_and_grad(lambda *a, m=module: jnp.sum(jnp.sin(m.apply(*a).astype(jnp.float32))), (0, 1))(
                    variables, x
                )
                for module in (ours, theirs)
            ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=10 * tolerance, rtol=tolerance), *results)


def test_gelu_and_its_gradient_equal_the_formula():
    """x Φ(x) and Φ(x) + x φ(x) in float64, to rounding, tails included."""
    x = np.concatenate([np.linspace(-12, 12, 4001), [0.0, -1e4, 1e4]]).astype(np.float32)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(exact_gelu(jnp.asarray(x)), exact * norm.cdf(exact), rtol=3e-7, atol=1e-6)
    gradient = jax.vmap(jax.grad(exact_gelu))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, norm.cdf(exact) + exact * norm.pdf(exact), atol=1e-6)


def test_gelu_keeps_the_dtype_and_computes_in_float32():
    """In bfloat16 the result is the rounded one of float32, and so is the gradient's."""
    x = jnp.linspace(-5, 5, 501).astype(jnp.bfloat16)
    wide = x.astype(jnp.float32)
    np.testing.assert_array_equal(exact_gelu(x), exact_gelu(wide).astype(jnp.bfloat16))
    gradient, expected = (jax.grad(lambda y: jnp.sum(exact_gelu(y).astype(jnp.float32)))(y) for y in (x, wide))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, expected.astype(jnp.bfloat16))
