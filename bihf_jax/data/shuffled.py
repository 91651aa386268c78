"""`ShuffledLabels`: a control in which there is nothing to learn."""

import dataclasses

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.data.pipeline import Records


class ShuffledLabels:
    """Records whose labels are permuted: over all labelled residues of the split, or over its labelled proteins.

    A model trained on them has to score at chance on real labels; where it does not, something leaks.
    """

    def __init__(self, records: Records, seed: int):
        self.slots, self.labels = records.slots, records.labels
        self._records = records
        examples = [records[number] for number in range(len(records))]
        rng = np.random.default_rng(seed)
        if self.labels.unit == "protein":
            labelled = [number for number, example in enumerate(examples) if len(example.protein_label)]
            order = rng.permutation(labelled)
            self._protein_labels = {
                number: examples[other].protein_label for number, other in zip(labelled, order, strict=True)
            }
            return
        labels = [example.label[example.label_mask] for example in examples]
        shuffled = rng.permutation(np.concatenate(labels))
        self._residue_labels = np.split(shuffled, np.cumsum([len(x) for x in labels])[:-1])

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        example = self._records[index]
        if self.labels.unit == "protein":
            return dataclasses.replace(example, protein_label=self._protein_labels.get(index, example.protein_label))
        label = example.label.copy()
        label[example.label_mask] = self._residue_labels[index]
        return dataclasses.replace(example, label=label)
