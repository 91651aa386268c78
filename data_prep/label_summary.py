"""One phrase about the labels of a split."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels


def summarise(labels: Labels, examples: Iterable[Example]) -> str:
    """Such as "12.3% positive", "7 of 7 classes, the largest 31.0%" or "mean 6.35, SD 1.90, from 2.00 to 11.92"."""
    values = [_values(labels, example) for example in examples]
    numbers = np.concatenate([np.zeros((0, max(labels.num_values, 1)), np.float32), *values])
    if not len(numbers):
        return "no label"
    if labels.type == "regression":
        mean, deviation = numbers.mean(axis=0)[0], numbers.std(axis=0)[0]
        return f"mean {mean:.3g}, SD {deviation:.3g}, from {numbers[:, 0].min():.3g} to {numbers[:, 0].max():.3g}"
    if labels.type == "binary":
        return f"{(numbers > 0.5).mean():.1%} positive"
    if labels.type == "multiclass":
        times = Counter(numbers[:, 0].astype(int).tolist())
        return f"{len(times)} of {len(labels.names)} classes, the largest {max(times.values()) / len(numbers):.1%}"
    present = int(numbers.any(axis=0).sum())
    return f"{present} of {len(labels.names)} classes, {numbers.sum(axis=1).mean():.2f} a protein"


def _values(labels: Labels, example: Example) -> np.ndarray:
    """[labelled, values] the labels of one example."""
    if labels.unit == "residue":
        return example.label[example.label_mask][:, None]
    return example.protein_label[None] if len(example.protein_label) else np.zeros((0, labels.num_values), np.float32)
