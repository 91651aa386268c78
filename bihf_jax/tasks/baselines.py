"""Two trivial baselines for a label per residue, fitted on the training records: what a model has to beat.

* `PositiveRate`: every residue gets the positive rate of the training labels;
* `ResidueTypeAndBurial`: logistic regression on the residue's type and how buried it is.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, Example
from bihf_jax.protein import neighbours, residue_constants

BURIAL_RADIUS_ANGSTROM = 10.0
_CA, _CB = BACKBONE_ATOMS.index("CA"), BACKBONE_ATOMS.index("CB")
_TYPE_TOKENS = alphabet.encode_residue_types(np.arange(len(residue_constants.RESIDUE_TYPES)))  # [21]


@dataclasses.dataclass(frozen=True)
class PositiveRate:
    """Scores every slot with the weighted share of positives among the training labels."""

    rate: float

    @classmethod
    def fit(cls, examples: Iterable[Example]) -> "PositiveRate":
        """Raises ValueError where no example has a label."""
        positive = total = 0.0
        for example in examples:
            positive += example.weight * float(example.label[example.label_mask].sum())
            total += example.weight * int(example.label_mask.sum())
        if not total > 0:
            raise ValueError("the training records hold no label of positive weight; the positive rate needs one")
        return cls(positive / total)

    def score(self, example: Example) -> np.ndarray:
        """[n] float32, one score a slot."""
        return np.full(example.num_slots, self.rate, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class ResidueTypeAndBurial:
    """Logistic regression on residue type (one-hot) and burial (see `burial_counts`), standardised on training data.

    Probabilities are those of the training positive rate: classes are not reweighted. A residue without coordinates
    takes the mean burial of the training residues.
    """

    burial_mean: np.ndarray  # [2] float64
    burial_scale: np.ndarray  # [2] float64
    coefficients: np.ndarray  # [23] float64: 21 residue types, two burial counts
    intercept: float

    @classmethod
    def fit(cls, examples: Iterable[Example]) -> "ResidueTypeAndBurial":
        """Fits on the labelled residues, each with the weight of its example (L2 penalty 1, scikit-learn's default).

        Raises:
          ValueError: the labels hold one class only.
        """
        from sklearn.linear_model import LogisticRegression

        types, burial, labels, weights = _labelled_features(examples)
        if len(np.unique(labels)) < 2:
            raise ValueError(
                f"the {labels.size} training labels hold the classes {np.unique(labels).tolist()}; "
                "logistic regression needs both 0 and 1"
            )
        mean, scale = _mean_and_scale(burial)
        features = np.concatenate([types, _standardise(burial, mean, scale)], axis=1)
        model = LogisticRegression(max_iter=1000).fit(features, labels, sample_weight=weights)
        return cls(mean, scale, model.coef_[0].astype(np.float64), float(model.intercept_[0]))

    def score(self, example: Example) -> np.ndarray:
        """Probability of a positive label, [n] float32, one a slot (that of a special token means nothing)."""
        burial = _standardise(burial_counts(example), self.burial_mean, self.burial_scale)
        logits = np.concatenate([_one_hot_types(example), burial], axis=1) @ self.coefficients + self.intercept
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


Baseline = PositiveRate | ResidueTypeAndBurial
BASELINES: dict[str, type[Baseline]] = {
    "positive_rate": PositiveRate,
    "logistic_regression": ResidueTypeAndBurial,
}


def fit_baselines(examples: Iterable[Example]) -> dict[str, Baseline]:
    """Name -> fitted baseline, for every one of `BASELINES`. `examples` are the training records (read once)."""
    examples = list(examples)
    return {name: baseline.fit(examples) for name, baseline in BASELINES.items()}


def burial_counts(example: Example) -> np.ndarray:
    """[n, 2] float64: other CA atoms within 10 Å of the CA, other CB atoms within 10 Å of the CB; NaN without the atom.

    Counted inside the example, one partner alone, so the count knows nothing of the other partner.
    """
    return np.stack([_neighbours_within(example, atom) for atom in (_CA, _CB)], axis=1)


def _neighbours_within(example: Example, atom: int) -> np.ndarray:
    mask = example.backbone_mask[:, atom] & example.is_residue
    counts = neighbours.burial(example.backbone[:, atom], mask, BURIAL_RADIUS_ANGSTROM)
    return np.where(mask, counts, np.nan)


def _one_hot_types(example: Example) -> np.ndarray:
    """[n, 21] float64; all zero at special tokens."""
    return (example.tokens[:, None] == _TYPE_TOKENS).astype(np.float64)


def _mean_and_scale(burial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [2] of the known counts [m, 2]; 0 and 1 where a column has none or does not vary."""
    known = [column[~np.isnan(column)] for column in burial.T]
    mean = np.array([column.mean() if column.size else 0.0 for column in known])
    scale = np.array([column.std() if column.size else 0.0 for column in known])
    return mean, np.where(scale > 0, scale, 1.0)


def _standardise(burial: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """[n, 2] -> [n, 2]; an unknown count becomes 0, the training mean."""
    return np.where(np.isnan(burial), 0.0, (burial - mean) / scale)


def _labelled_features(examples: Iterable[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residue types [m, 21], burial counts [m, 2], labels [m] and weights [m] of the m labelled residues."""
    types, burial = [np.zeros((0, len(_TYPE_TOKENS)))], [np.zeros((0, 2))]
    labels, weights = [np.zeros(0)], [np.zeros(0)]
    for example in examples:
        mask = example.label_mask
        types.append(_one_hot_types(example)[mask])
        burial.append(burial_counts(example)[mask])
        labels.append(example.label[mask])
        weights.append(np.full(np.count_nonzero(mask), example.weight))
    return np.concatenate(types), np.concatenate(burial), np.concatenate(labels), np.concatenate(weights)
