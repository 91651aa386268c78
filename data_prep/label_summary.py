"""The labels of a split: how often each value occurs, and one phrase about it."""

from collections.abc import Iterable

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels


class LabelCounts:
    """What the labels of many examples are, counted one example after the other.

    Attributes:
      number: of labels.
      times: [classes] int64, how often each of `Labels.names` occurs; of binary labels, the positives [1]; of numbers,
        nothing [0].
      values: of labels that are numbers, the first one of each, float32 [labelled] an example.
    """

    def __init__(self, labels: Labels) -> None:
        self.number = 0
        self.times = np.zeros(0 if labels.type == "regression" else len(labels.names), np.int64)
        self.values: list[np.ndarray] = []
        self._labels = labels

    def add(self, example: Example) -> None:
        """Count the labels of `example`."""
        values = self._labels.values_of(example)
        self.number += len(values)
        if self._labels.type == "regression":
            self.values.append(values[:, 0].copy())
        elif self._labels.type == "multiclass":
            self.times += np.bincount(values[:, 0].astype(np.int64), minlength=len(self.times))
        else:
            self.times += (values > 0.5).sum(axis=0)

    def __str__(self) -> str:
        """Such as "12.3% positive", "7 of 7 classes, the largest 31.0%" or "mean 6.35, SD 1.90, from 2.00 to 11.92"."""
        if not self.number:
            return "no label"
        if self._labels.type == "regression":
            numbers = np.concatenate(self.values)
            spread = f"mean {numbers.mean():.3g}, SD {numbers.std():.3g}"
            return f"{spread}, from {numbers.min():.3g} to {numbers.max():.3g}"
        if self._labels.type == "binary":
            return f"{self.times[0] / self.number:.1%} positive"
        present = f"{np.count_nonzero(self.times)} of {len(self.times)} classes"
        if self._labels.type == "multiclass":
            return f"{present}, the largest {self.times.max() / self.number:.1%}"
        return f"{present}, {self.times.sum() / self.number:.2f} a protein"


def summarise(labels: Labels, examples: Iterable[Example]) -> str:
    """The phrase of `LabelCounts` about `examples`."""
    counts = LabelCounts(labels)
    for example in examples:
        counts.add(example)
    return str(counts)
