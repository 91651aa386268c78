"""LayerNorm with float32 statistics, and on CPU with a gradient of its own."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.models.platform import target_platform

Array = jax.Array


class LayerNorm(nn.Module):
    """As `flax.linen.LayerNorm(use_fast_variance=False)`: the same parameters and values.

    Attributes:
      epsilon: Added to the variance.
      dtype: Of the result; everything before it is float32.
    """

    epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[.., C] -> [.., C]."""
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        function = _normalise_on_cpu if target_platform() == "cpu" else _normalise
        return function(x.astype(jnp.float32), scale, bias, self.epsilon).astype(self.dtype)


def _normalise(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    # Two passes: the one-pass variance of a large mean loses digits.
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * (jax.lax.rsqrt(variance + epsilon) * scale) + bias


@jax.custom_vjp
def _normalise_on_cpu(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    return _normalise(x, scale, bias, epsilon)


def _forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple[Array, Array, float]]:
    return _normalise(x, scale, bias, epsilon), (x, scale, epsilon)


def _backward(saved: tuple[Array, Array, float], gradient: Array) -> tuple[Array, Array, Array, None]:
    """The gradient, its sums and means as matrix products.

    XLA's CPU reductions of what autodiff writes take several times as long.
    """
    x, scale, epsilon = saved
    width = x.shape[-1]
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + epsilon)
    normal, scaled = centred * inverse, gradient * scale

    def mean(y: Array) -> Array:  # [.., C] -> [.., 1]
        product = y.reshape(-1, width) @ jnp.full((width, 1), 1 / width, y.dtype)
        return product.reshape(*y.shape[:-1], 1)

    def total(y: Array) -> Array:  # [.., C] -> [C]
        rows = y.reshape(-1, width)
        return (jnp.ones((1, len(rows)), y.dtype) @ rows)[0]

    x_gradient = inverse * (scaled - mean(scaled) - normal * mean(scaled * normal))
    return x_gradient, total(gradient * normal), total(gradient), None


_normalise_on_cpu.defvjp(_forward, _backward)
