"""Tests of `bihf_jax.models.basis` against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from bihf_jax.models.basis import bessel_zeros, radial_bessel, spherical_bessel, spherical_harmonics, zonal_harmonics
from bihf_jax.models.config import MAX_SPHERICAL


@pytest.mark.parametrize("degree", range(MAX_SPHERICAL))
def test_spherical_bessel_equals_scipy(degree):
    """From 0 to beyond the largest argument there is, on both sides of where the formula changes."""
    x = np.concatenate([[0.0, 1e-4], np.linspace(0.01, 40, 700)])
    expected = scipy.special.spherical_jn(degree, x)
    np.testing.assert_allclose(spherical_bessel(degree, jnp.asarray(x, jnp.float32)), expected, atol=3e-6)
    assert np.isfinite(jax.grad(lambda x: spherical_bessel(degree, x))(0.0))


def test_radial_functions_are_orthonormal_and_end_at_the_cutoff():
    """Of each degree: the integral of two of them over the ball, divided by cutoff^3, is 1 or 0; zero at the cutoff."""
    cutoff = 10.0
    distance = np.linspace(0, cutoff, 4001)
    values = np.asarray(radial_bessel(jnp.asarray(distance, jnp.float32), cutoff, 3, 6), np.float64)
    assert values.shape == (4001, 3, 6)
    for degree in range(3):
        products = np.einsum("dn,dm,d->dnm", values[:, degree], values[:, degree], (distance / cutoff) ** 2)
        np.testing.assert_allclose(np.trapezoid(products, distance / cutoff, axis=0), np.eye(6), atol=1e-4)
    np.testing.assert_allclose(values[-1], 0, atol=1e-4)
    np.testing.assert_allclose(scipy.special.spherical_jn(np.arange(3)[:, None], bessel_zeros(3, 6)), 0, atol=1e-12)


def test_harmonics_equal_scipy():
    """Real harmonics made from scipy's complex ones, without the Condon-Shortley sign."""
    rng = np.random.default_rng(0)
    theta, phi = rng.uniform(0, np.pi, 200), rng.uniform(-np.pi, np.pi, 200)
    direction = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    ours = spherical_harmonics(jnp.asarray(direction, jnp.float32), MAX_SPHERICAL)
    expected = []
    for degree in range(MAX_SPHERICAL):
        for order in range(-degree, degree + 1):
            value = scipy.special.sph_harm_y(degree, abs(order), theta, phi) * (-1.0) ** order
            part = {-1: value.imag * np.sqrt(2), 0: value.real, 1: value.real * np.sqrt(2)}[np.sign(order)]
            expected.append(part)
    np.testing.assert_allclose(ours, np.stack(expected, axis=-1), atol=1e-5)
    zonal = [degree**2 + degree for degree in range(MAX_SPHERICAL)]
    np.testing.assert_allclose(
        zonal_harmonics(jnp.asarray(np.cos(theta), jnp.float32), MAX_SPHERICAL), ours[:, zonal], atol=1e-6
    )
