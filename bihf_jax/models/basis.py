"""Functions of distances and directions that ProNet's edges are made of (Gasteiger et al. 2020, DimeNet; in float32).

Degrees l count from 0; "degrees" is how many there are.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

Array = jax.Array

_SERIES_TERMS = 12  # enough for float32 up to `MAX_SPHERICAL` degrees


def radial_bessel(distance: Array, cutoff: float, degrees: int, count: int) -> Array:
    """Spherical Bessel functions of each degree, `count` of them, that are 0 at `cutoff`.

    With z_ln the n-th zero of j_l:  sqrt(2) / |j_(l+1)(z_ln)| * j_l(z_ln d / cutoff).

    Args:
      distance: [..] Å.
      cutoff: Å.
      degrees: Degrees l, at most `config.MAX_SPHERICAL`.
      count: Functions n of each degree.

    Returns:
      [.., degrees, count].
    """
    zeros = bessel_zeros(degrees, count)
    scale = math.sqrt(2) / np.abs(scipy.special.spherical_jn(np.arange(1, degrees + 1)[:, None], zeros))
    x = distance[..., None] / cutoff
    values = [
        spherical_bessel(degree, x * zeros[degree].astype(np.float32)) * scale[degree].astype(np.float32)
        for degree in range(degrees)
    ]
    return jnp.stack(values, axis=-2)


@functools.cache
def bessel_zeros(degrees: int, count: int) -> np.ndarray:
    """The first `count` positive zeros of the spherical Bessel function of each degree: [degrees, count] float64."""
    from scipy.optimize import brentq  # slow to import, and only ProNet needs it

    # A zero of j_l lies between each two of j_(l-1), so that one more is needed of each lower degree.
    zeros = np.arange(1, count + degrees) * np.pi  # of j_0 = sin x / x
    rows = [zeros[:count]]
    for degree in range(1, degrees):
        function = functools.partial(scipy.special.spherical_jn, degree)
        zeros = np.array([brentq(function, a, b, xtol=1e-13) for a, b in itertools.pairwise(zeros)])
        rows.append(zeros[:count])
    return np.stack(rows)


def spherical_bessel(degree: int, x: Array) -> Array:
    """j_l(x) for x >= 0, with finite gradients at 0: [..] -> [..]."""
    # The recurrence loses digits below x = l, the series above.
    small = x < degree + 1
    safe = jnp.where(small, 1.0 + degree, x)
    lower, value = jnp.cos(safe) / safe, jnp.sin(safe) / safe  # j_(-1) and j_0
    for below in range(degree):
        lower, value = value, (2 * below + 1) / safe * value - lower
    return jnp.where(small, _small_spherical_bessel(degree, jnp.where(small, x, 0.0)), value)


def _small_spherical_bessel(degree: int, x: Array) -> Array:
    """The power series of j_l: x^l / (2l+1)!! * (1 - (x^2/2) / (1 (2l+3)) * (1 - (x^2/2) / (2 (2l+5)) * ..))."""
    half_square, series = jnp.square(x) / 2, jnp.ones_like(x)
    for term in range(_SERIES_TERMS, 0, -1):
        series = 1 - half_square / (term * (2 * degree + 2 * term + 1)) * series
    return x**degree / math.prod(range(1, 2 * degree + 2, 2)) * series


def spherical_harmonics(direction: Array, degrees: int) -> Array:
    """Real orthonormal spherical harmonics, as polynomials of the direction, so that no angle is ever taken.

    Args:
      direction: [.., 3] unit vectors. (0, 0, cos theta) gives the harmonics of order m = 0, and 0 for the others.
      degrees: Degrees l.

    Returns:
      [.., degrees^2]: by degree, and within it by order m = -l..l, sin(|m| phi) for negative m, cos(m phi) for
      positive, all without the Condon-Shortley sign, so that Y_1 is proportional to (y, z, x).
    """
    x, y, z = jnp.moveaxis(direction, -1, 0)
    harmonics = {}
    cosine, sine = jnp.ones_like(x), jnp.zeros_like(x)  # sin(theta)^m times cos(m phi) and sin(m phi)
    for order in range(degrees):
        for degree, value in enumerate(_legendre(z, order, degrees), order):
            harmonics[degree, -order] = value * sine
            harmonics[degree, order] = value * cosine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    by_degree = [harmonics[degree, order] for degree in range(degrees) for order in range(-degree, degree + 1)]
    return jnp.stack(by_degree, axis=-1)


def zonal_harmonics(cosine: Array, degrees: int) -> Array:
    """Y_l0 of an angle of which the cosine [..] is given: [.., degrees]."""
    return jnp.stack(_legendre(cosine, 0, degrees), axis=-1)


def _legendre(z: Array, order: int, degrees: int) -> list[Array]:
    """P_lm(z) / sin(theta)^m for l = m .. degrees - 1, polynomials of z = cos theta, each normalised as in Y_lm."""
    values = [jnp.full_like(z, math.prod(range(1, 2 * order, 2)))]
    below = jnp.zeros_like(z)
    for degree in range(order + 1, degrees):
        value = ((2 * degree - 1) * z * values[-1] - (degree + order - 1) * below) / (degree - order)
        below = values[-1]
        values.append(value)
    return [value * _normalisation(degree, order) for degree, value in enumerate(values, order)]


def _normalisation(degree: int, order: int) -> float:
    """What makes the square of a real harmonic integrate to 1 over the sphere."""
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    return math.sqrt((2 if order else 1) * (2 * degree + 1) / (4 * math.pi) * ratio)
