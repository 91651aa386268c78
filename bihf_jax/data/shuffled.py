"""`ShuffledLabels`: a control in which there is nothing to learn."""

import dataclasses

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.data.pipeline import Records


class ShuffledLabels:
    """Records whose labels are permuted over all labelled residues of the split.

    A model trained on them has to score at chance on real labels; where it does not, something leaks.
    """

    def __init__(self, records: Records, seed: int):
        self.slots = records.slots
        self._records = records
        labels = [example.label[example.label_mask] for example in (records[i] for i in range(len(records)))]
        shuffled = np.random.default_rng(seed).permutation(np.concatenate(labels))
        self._labels = np.split(shuffled, np.cumsum([len(x) for x in labels])[:-1])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        example = self._records[index]
        label = example.label.copy()
        label[example.label_mask] = self._labels[index]
        return dataclasses.replace(example, label=label)
