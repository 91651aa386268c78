"""Balanced sampling: how often each training record is drawn, by how rare its class is."""

from collections import Counter

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels
from bihf_jax.data.pipeline import Records


def balanced_weights(records: Records, exponent: float) -> np.ndarray:
    """Weights to draw records with, [records] float64, mean 1: how often each comes in an epoch.

    A protein of a class with n proteins has a weight in proportion to n^-exponent: 0 draws all alike, 1 every class as
    often as any other. Of several classes (multilabel) the rarest that it has counts; those with none are a class of
    their own. A protein without a label is not drawn.

    Args:
      records: of the training split; all are read.
      exponent: 0 to 1.

    Raises:
      ValueError: the labels are not classes of proteins, or no protein has one.
    """
    labels = records.labels
    if labels.unit != "protein" or labels.type == "regression":
        raise ValueError(
            f"balanced sampling needs classes of proteins; the labels are {labels.unit} {labels.type}: set it to 0"
        )
    classes = [_classes(labels, records[number]) for number in range(len(records))]
    counts = Counter(name for of in classes for name in of)
    rarest = np.array([min((counts[name] for name in of), default=0) for of in classes], np.float64)
    if not rarest.any():
        raise ValueError("balanced sampling needs labels; no training protein has one")
    weights = np.where(rarest > 0, np.maximum(rarest, 1) ** -exponent, 0.0)
    return weights / weights.mean()


def _classes(labels: Labels, example: Example) -> list[int]:
    """The classes that an example has; none without a label, -1 where it has none of several."""
    values = example.protein_label
    if not len(values):
        return []
    if labels.type == "multilabel":
        return np.flatnonzero(values).tolist() or [-1]
    return [int(values[0])]
