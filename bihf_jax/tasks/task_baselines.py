"""Trivial baselines in the form of a task, fitted on the training records: what a model has to beat.

Of proteins:

* `constant`: the same for every protein: class frequencies (so the most frequent class is called), or the mean value;
* `composition`: logistic or ridge regression on what is known without a model: the share of each amino acid, the
  length, how compact the structure is and how much of it is resolved.

Of residues: `constant` likewise, and `residue_type`, the mean over the training residues of the same type. Binary
residue tasks have those of `baselines`.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, Example
from bihf_jax.data.labels import Labels
from bihf_jax.protein import residue_constants
from bihf_jax.tasks import baselines
from bihf_jax.tasks.task import Task

_CA = BACKBONE_ATOMS.index("CA")
_TYPE_TOKENS = alphabet.encode_residue_types(np.arange(len(residue_constants.RESIDUE_TYPES)))  # [21]


class Baseline(Protocol):
    """Scores examples as the model does."""

    def score(self, example: Example) -> np.ndarray:
        """[slots] or [slots, V] of a residue task, [V] of a protein."""
        ...


def fit_baselines(task: Task, examples: Iterable[Example]) -> dict[str, Baseline]:
    """Name -> fitted baseline. `examples` are the training records (read once).

    Raises:
      ValueError: no example has a label.
    """
    if task.unit == "residue" and task.type == "binary":
        return dict(baselines.fit_baselines(examples))
    labels, examples = task.labels, list(examples)
    if task.unit == "residue":
        return {"constant": Constant.fit(labels, examples), "residue_type": ResidueType.fit(labels, examples)}
    return {"constant": Constant.fit(labels, examples), "composition": Composition.fit(labels, examples)}


@dataclasses.dataclass(frozen=True)
class Constant:
    """The mean of the training labels (of a class its frequency), weighted by example, for everything."""

    labels: Labels
    values: np.ndarray  # [V]

    @classmethod
    def fit(cls, labels: Labels, examples: Sequence[Example]) -> "Constant":
        targets, weights = _targets(labels, examples)
        return cls(labels, np.average(targets, axis=0, weights=weights))

    def score(self, example: Example) -> np.ndarray:
        """[slots, V] or [V] float32."""
        values = self.values.astype(np.float32)
        return np.tile(values, (example.num_slots, 1)) if self.labels.unit == "residue" else values


@dataclasses.dataclass(frozen=True)
class ResidueType:
    """The mean of the training labels of residues of the same type; of all where a type has none."""

    values: np.ndarray  # [tokens, V]

    @classmethod
    def fit(cls, labels: Labels, examples: Sequence[Example]) -> "ResidueType":
        targets, weights = _targets(labels, examples)
        tokens = np.concatenate([example.tokens[example.label_mask] for example in examples])
        values = np.tile(np.average(targets, axis=0, weights=weights), (len(alphabet.TOKENS), 1))
        for token in np.unique(tokens):
            of_type = tokens == token
            if weights[of_type].sum() > 0:
                values[token] = np.average(targets[of_type], axis=0, weights=weights[of_type])
        return cls(values)

    def score(self, example: Example) -> np.ndarray:
        """[slots, V] float32."""
        return self.values[example.tokens].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Composition:
    """Logistic (classes) or ridge (values) regression on `protein_features`, standardised; penalty 1."""

    predict: Callable[[np.ndarray], np.ndarray]  # [n, features] -> [n, V]

    @classmethod
    def fit(cls, labels: Labels, examples: Sequence[Example]) -> "Composition":
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        with_label = [example for example in examples if len(example.protein_label)]
        targets, weights = _targets(labels, examples)
        features = np.stack([protein_features(example) for example in with_label])
        if labels.type == "regression":
            model = make_pipeline(StandardScaler(), Ridge()).fit(features, targets, ridge__sample_weight=weights)
            return cls(lambda x: model.predict(x).reshape(len(x), -1))
        if labels.type == "multiclass":
            return cls(_classifier(features, targets.argmax(axis=1), weights, targets.shape[1]))
        each = [_classifier(features, column.astype(int), weights, 2) for column in targets.T]
        return cls(lambda x: np.stack([classify(x)[:, 1] for classify in each], axis=1))

    def score(self, example: Example) -> np.ndarray:
        """[V] float32."""
        return self.predict(protein_features(example)[None])[0].astype(np.float32)


def _classifier(
    features: np.ndarray, classes: np.ndarray, weights: np.ndarray, num_classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """[n, features] -> probabilities [n, num_classes]; 0 for a class that training lacks."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    there = np.unique(classes)
    if len(there) == 1:
        return lambda x: np.tile(np.eye(num_classes)[there[0]], (len(x), 1))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # rare classes; as good a baseline without the last digits
        model.fit(features, classes, logisticregression__sample_weight=weights)

    def classify(x: np.ndarray) -> np.ndarray:
        probability = np.zeros((len(x), num_classes))
        probability[:, there] = model.predict_proba(x)
        return probability

    return classify


def protein_features(example: Example) -> np.ndarray:
    """[25] float64: share of each of the 21 residue types, log length, chains, share of residues with a CA, and the
    mean number of CAs within 10 Å of one (0 without CAs)."""
    types = (example.tokens[:, None] == _TYPE_TOKENS).sum(axis=0)
    length = max(int(types.sum()), 1)
    resolved = example.backbone_mask[:, _CA] & example.is_residue
    burial = baselines.burial_counts(example)[resolved, 0]
    more = [np.log(length), len(example.chain_ids), resolved.sum() / length, burial.mean() if resolved.any() else 0.0]
    return np.concatenate([types / length, more])


def _targets(labels: Labels, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Training labels as a model would predict them, [m, V] float64 (classes one-hot), and weights [m]."""
    values = [labels.values_of(example) for example in examples]
    weights = np.concatenate(
        [np.full(len(value), example.weight) for value, example in zip(values, examples, strict=True)]
    )
    targets = np.concatenate(values).astype(np.float64)
    if not weights.sum() > 0:
        raise ValueError("the training records hold no label of positive weight; a baseline needs some")
    if labels.type == "multiclass":
        targets = np.eye(len(labels.names))[targets[:, 0].astype(int)]
    return targets, weights
