"""How sure a model is of a number: several samples of it as a mean with an interval."""

from typing import NamedTuple

import numpy as np

PERCENTILES = (5, 95)


class Estimate(NamedTuple):
    """A mean and the interval around it, [*] float32 each; an interval of a single sample is None."""

    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def summarise(samples: np.ndarray) -> Estimate:
    """The mean of samples [*, S] with their 5th and 95th percentile, interpolated between samples.

    Where a few far samples draw the mean out of that, the interval reaches to the mean.
    """
    if samples.shape[-1] == 1:
        return Estimate(samples[..., 0].astype(np.float32), None, None)
    mean = samples.mean(axis=-1, dtype=np.float64).astype(np.float32)
    low, high = np.percentile(samples, PERCENTILES, axis=-1).astype(np.float32)
    return Estimate(mean, np.minimum(low, mean), np.maximum(high, mean))


def describe(num_models: int, dropout_samples: int) -> str:
    """What an interval is, for people; empty where there is none."""
    if dropout_samples:
        what = f"{dropout_samples} dropout samples" + (f" of each of {num_models} models" if num_models > 1 else "")
    elif num_models > 1:
        what = f"{num_models} models"
    else:
        return ""
    return f"{PERCENTILES[0]}th to {PERCENTILES[1]}th percentile of {what}"
