"""Dense layers and GELU in the form that the platform does fast; parameters and values are those of Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.models.platform import runs_here, target_platform

Array = jax.Array


def dense_product(x: Array, kernel: Array, precision: jax.lax.Precision | None = None) -> Array:
    """[.., a] times [a, b], of slots or edges, in the form that the platform does fast."""
    if target_platform() != "cpu":
        return jnp.dot(x, kernel, precision=precision)
    # A product of two matrices: on CPU its gradient takes two thirds of the time. On TPU the reshape would force
    # narrow channels into the lanes; the messages then take five times as long and four times the memory.
    product = jnp.dot(x.reshape(-1, x.shape[-1]), kernel, precision=precision)
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def _dot_general(x: Array, kernel: Array, dimension_numbers: object, precision: jax.lax.Precision | None) -> Array:
    """`dense_product` as `nn.Dense` calls it: it always contracts the last axis of x with the first of the kernel."""
    del dimension_numbers
    return dense_product(x, kernel, precision)


class Dense(nn.Dense):
    """`flax.linen.Dense` by `dense_product`."""

    dot_general: object = _dot_general


@jax.custom_vjp
def exact_gelu(x: Array) -> Array:
    """GELU with the error function (Hendrycks & Gimpel 2016), x Φ(x), elementwise.

    Computed in float32, returned in the dtype of x. The gradient saves x alone. `jax.nn.gelu(approximate=False)` is
    written with erfc, of which XLA makes three times as many instructions, once more in each product that reads them.
    """
    y = x.astype(jnp.float32)
    return (y * _normal_distribution(y)).astype(x.dtype)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    return exact_gelu(x), x


def _gelu_backward(x: Array, gradient: Array) -> tuple[Array]:
    """d/dx x Φ(x) = Φ(x) + x φ(x), φ the normal density."""
    y = x.astype(jnp.float32)
    density = jnp.exp(-0.5 * jnp.square(y)) * (2 * jnp.pi) ** -0.5
    return (((_normal_distribution(y) + y * density) * gradient.astype(jnp.float32)).astype(x.dtype),)


exact_gelu.defvjp(_gelu_forward, _gelu_backward)


def _normal_distribution(x: Array) -> Array:
    """Φ(x): the share of the standard normal distribution below x."""
    if not runs_here():  # exported programs: erf, unlike erfc, is an operation that TensorFlow may not know
        return 0.5 * jax.lax.erfc(x * -(2**-0.5))
    return 0.5 + 0.5 * jax.lax.erf(x * 2**-0.5)
