"""Tests of `bihf_jax.models.normalisation`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models.normalisation import LayerNorm
from bihf_jax.models.platform import compiling_for


def compute(module, variables, x, weights):
    """The value, and the gradients of a weighted sum by variables and input."""

    def loss(variables, x):
        out = module.apply(variables, x)
        return jnp.sum(out.astype(jnp.float32) * weights), out

    return jax.grad(loss, (0, 1), has_aux=True)(variables, x)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 1e-2)])
def test_equals_flax(platform, dtype, tolerance):
    """Values and all gradients of both forms are those of Flax's LayerNorm, with a mean far from 0 as well."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 24)) * 3 + np.asarray([0, 50])[:, None, None], dtype)
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    values = {"scale": jnp.asarray(rng.uniform(0.5, 2, 24), jnp.float32), "bias": jnp.asarray(rng.normal(size=24))}
    variables = {"params": jax.tree.map(lambda leaf: leaf.astype(jnp.float32), values)}
    theirs = nn.LayerNorm(epsilon=1e-5, dtype=jnp.dtype(dtype), use_fast_variance=False)
    ours = LayerNorm(epsilon=1e-5, dtype=jnp.dtype(dtype))
    assert jax.tree.structure(ours.init(jax.random.key(0), x)) == jax.tree.structure(variables)
    expected = compute(theirs, variables, x, weights)
    with compiling_for(platform):
        result = compute(ours, variables, x, weights)

    def close(a, b):
        a, b = (np.asarray(value, np.float32) for value in (a, b))
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()

    jax.tree.map(close, result, expected)


def test_a_constant_input_has_a_finite_gradient():
    """No variance: the bias comes out, and gradients are finite."""
    x = jnp.full((3, 8), 2.0)
    module = LayerNorm(epsilon=1e-5, dtype=jnp.float32)
    (parameters, gradient), out = compute(module, module.init(jax.random.key(0), x), x, jnp.ones_like(x))
    np.testing.assert_array_equal(out, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((parameters, gradient)))
