"""Intervals: what they hold, and what they are called."""

import numpy as np

from bihf_jax.inference.interval import describe, summarise


def test_an_interval_holds_its_share_of_the_samples_and_the_mean():
    """Nine tenths of many samples, for each residue on its own."""
    samples = np.random.default_rng(0).beta([[0.5], [2], [50]], 3, (3, 2000)).astype(np.float32)
    mean, low, high = summarise(samples)
    inside = (samples >= low[:, None]) & (samples <= high[:, None])
    np.testing.assert_allclose(inside.mean(axis=1), 0.9, atol=0.002)
    np.testing.assert_allclose(mean, samples.mean(axis=1), rtol=1e-6)
    assert {array.dtype for array in (mean, low, high)} == {np.dtype(np.float32)}


def test_a_mean_outside_of_the_percentiles_widens_the_interval():
    """One of a hundred samples is far off."""
    samples = np.zeros((2, 100), np.float32)
    samples[0, 3], samples[1] = 1.0, 1.0
    samples[1, 4] = 0.0
    mean, low, high = summarise(samples)
    assert (low <= mean).all()
    assert (mean <= high).all()
    np.testing.assert_allclose(high[0], 0.01)
    np.testing.assert_allclose(low[1], 0.99)


def test_one_sample_has_no_interval():
    mean, low, high = summarise(np.float32([[0.25], [0.5]]))
    assert mean.tolist() == [0.25, 0.5]
    assert low is None
    assert high is None


def test_what_an_interval_is_called():
    assert describe(1, 0) == ""
    assert describe(1, 16) == "5th to 95th percentile of 16 dropout samples"
    assert describe(3, 0) == "5th to 95th percentile of 3 models"
    assert describe(3, 16) == "5th to 95th percentile of 16 dropout samples of each of 3 models"
