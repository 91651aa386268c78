"""`Labels`: what the labels of a record set are, as ``metadata.json`` says it under ``labels``.

    {"unit": "protein", "type": "multiclass", "names": ["1.1.1.1", "1.1.1.2", ...]}

Labels of residues are in `Example.label`, one number a slot; those of proteins in `Example.protein_label` [P].

| type | numbers of a label | names |
|---|---|---|
| binary | 0 or 1 | one: what 1 means |
| multiclass | one: the index of the class | of the classes, two at least |
| multilabel (proteins only) | 0 or 1 for each class | of the classes |
| regression | finite; one at a residue, one a name for a protein | of the values, with their unit |

A protein of a protein-labelled set without a label has P = 0; it counts neither in loss nor in scores.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from bihf_jax.data.example import Example

UNITS = ("residue", "protein")
TYPES = ("binary", "multiclass", "multilabel", "regression")


@dataclasses.dataclass(frozen=True)
class Labels:
    """Unit, type and names of the labels of a record set.

    Raises:
      ValueError: an unknown unit or type, a number of names that the type cannot have, or a name twice.
    """

    unit: str = "residue"
    type: str = "binary"
    names: tuple[str, ...] = ("positive",)

    def __post_init__(self) -> None:
        for field, allowed in (("unit", UNITS), ("type", TYPES)):
            if (value := getattr(self, field)) not in allowed:
                raise ValueError(f"labels: {field} is {value!r}; it must be one of {', '.join(allowed)}")
        object.__setattr__(self, "names", tuple(self.names))
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"labels: the name {twice!r} is there twice; names must differ")
        least, most = self._name_counts()
        if not least <= len(self.names) <= most:
            wanted = f"{least}" if least == most else f"at least {least}"
            raise ValueError(
                f"labels: {self.unit} {self.type} labels need {wanted} names, got {len(self.names)}: {self.names[:5]}"
            )
        if self.unit == "residue" and self.type == "multilabel":
            raise ValueError(
                "labels: a residue has one number, so its labels cannot be multilabel; write one record set a class"
            )

    def _name_counts(self) -> tuple[int, float]:
        """Fewest and most names."""
        if self.type == "binary" or (self.type == "regression" and self.unit == "residue"):
            return 1, 1
        return (2 if self.type == "multiclass" else 1), float("inf")

    @property
    def num_values(self) -> int:
        """P: numbers of `Example.protein_label` where a protein has a label; 0 where residues have the labels."""
        if self.unit == "residue":
            return 0
        return len(self.names) if self.type in ("multilabel", "regression") else 1

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> "Labels":
        """From the content of ``metadata.json``; binary labels of residues where it says nothing (version 1)."""
        return cls(**metadata["labels"]) if "labels" in metadata else cls()

    def to_metadata(self) -> dict[str, Any]:
        """The value of ``labels`` in ``metadata.json``."""
        return {"unit": self.unit, "type": self.type, "names": list(self.names)}

    def values_of(self, example: Example) -> np.ndarray:
        """The labels that `example` has: [labelled residues, 1], or [1, P], [0, P] for a protein with or without."""
        if self.unit == "residue":
            return example.label[example.label_mask][:, None]
        return example.protein_label.reshape(-1, self.num_values)

    def check(self, example: Example) -> None:
        """Raise ValueError where the labels of `example` are not of this unit and type."""
        if self.unit == "protein":
            values, what = example.protein_label, "protein_label"
            if len(values) not in (0, self.num_values):
                raise ValueError(
                    f"{example.id}: protein_label has {len(values)} numbers; {self.type} labels with "
                    f"{len(self.names)} names need {self.num_values}, or none where there is no label"
                )
        else:
            values, what = example.label[example.label_mask], "label"
            if len(example.protein_label):
                raise ValueError(f"{example.id}: has a protein_label, and the labels of the set are of residues")
        if len(wrong := values[~self._allowed(values)]):
            most = len(self.names) - 1 if self.type == "multiclass" else 1
            wanted = "finite" if self.type == "regression" else f"a whole number from 0 to {most}"
            raise ValueError(f"{example.id}: {what} {wrong[0]}; {self.type} labels must be {wanted}")

    def _allowed(self, values: np.ndarray) -> np.ndarray:
        if self.type == "regression":
            return np.isfinite(values)
        classes = len(self.names) if self.type == "multiclass" else 2
        return np.isin(values, np.arange(classes))
