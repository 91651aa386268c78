"""What a task is to the trainer: labels, outputs, a loss in sums, scores, and the metric that picks the best step.

One class for each type of labels, of residues or proteins alike (`bihf_jax.data.labels.Labels`). In shapes, U is the
unit: L slots or G graph slots; V is the number of reported values.
"""

import abc
import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels
from bihf_jax.tasks import metrics, protein_metrics, ranking
from bihf_jax.tasks.labelled import Labelled
from bihf_jax.tasks.objective import LossSums, Objective


class Target(NamedTuple):
    """The labels of a batch in the task's unit."""

    value: jax.Array  # [R, U, P] float32; 0 where masked. Residues have P = 1
    weight: jax.Array  # [R, U] float32 sample weight; 0 where there is no label


def target_of(batch: ProteinBatch, unit: str) -> Target:
    """Labels of the "residue"s or of the "protein"s of a batch."""
    if unit == "residue":
        return Target(batch.label[..., None], jnp.where(batch.label_mask, batch.weight, 0.0))
    return Target(batch.protein_label, jnp.where(batch.protein_label_mask, batch.protein_weight, 0.0))


@dataclasses.dataclass(frozen=True)
class Task(Objective):
    """One of the comparisons that the model is judged on.

    Attributes:
      name: of the task.
      labels: unit, type and names of what is predicted.
      selection_metric: name of the validation metric that picks the best checkpoint; larger is better.
    """

    name: str
    labels: Labels
    selection_metric: str = ""

    type: ClassVar[str]  # of the labels
    metric_names: ClassVar[tuple[str, ...]]  # that `metrics` returns, in the order of tables
    selectable: ClassVar[tuple[str, ...]]  # metrics of which larger is better; the first is the default
    logged: ClassVar[tuple[str, ...] | None] = None  # metrics of a validation; None: all

    def __post_init__(self) -> None:
        if self.labels.type != self.type:
            raise ValueError(f"{type(self).__name__} takes {self.type} labels, got {self.labels.type}")
        if not self.selection_metric:
            object.__setattr__(self, "selection_metric", self.selectable[0])
        if self.selection_metric not in self.selectable:
            raise ValueError(f"selection_metric is {self.selection_metric!r}; allowed: {', '.join(self.selectable)}")

    @property
    def unit(self) -> str:
        return self.labels.unit

    @property
    def num_outputs(self) -> int:
        """Logits, and reported values V, of a residue or protein."""
        return len(self.labels.names)

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the labels 0, 1, .. or the values mean, for people."""
        return self.labels.names

    @property
    def score_names(self) -> tuple[str, ...]:
        """Of the V reported values."""
        return self.labels.names

    def loss(self, logits: jax.Array, batch: ProteinBatch) -> LossSums:
        """Logits [R, U, num_outputs] float32 -> sums over this device's labels."""
        target = target_of(batch, self.unit)
        weight = target.weight * self.label_weight(target.value)
        loss = self.loss_of(logits, target.value)
        # Slots without a label can hold anything; 0 x inf would be nan.
        return LossSums(jnp.sum(jnp.where(weight > 0, loss * weight, 0.0)), jnp.sum(weight))

    def label_weight(self, value: jax.Array) -> jax.Array:
        """Factor on the weight of labels [R, U, P]: [R, U]."""
        return jnp.ones(value.shape[:-1])

    @abc.abstractmethod
    def loss_of(self, logits: jax.Array, value: jax.Array) -> jax.Array:
        """Logits [R, U, num_outputs] and labels [R, U, P] -> the loss of each [R, U]."""

    @abc.abstractmethod
    def scores(self, logits: jax.Array) -> jax.Array:
        """Logits [R, U, num_outputs] -> what is reported [R, U, V] float32."""

    def undefined_reason(self, labelled: Labelled) -> str:
        """Why the selection metric is not defined for these labels."""
        if not len(labelled.labels):
            return f"no labelled {self.unit}s"
        if (np.asarray(labelled.labels) == np.asarray(labelled.labels)[0]).all():
            return f"all {len(labelled.labels)} labelled {self.unit}s have one label"
        return f"all {self.unit}s have one score, or no group has enough members with different labels"

    @abc.abstractmethod
    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        """`metric_names` over labelled residues or proteins; None where one is not defined."""

    @abc.abstractmethod
    def bootstrap(self, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
        """Metrics on resamples of whole groups: name -> [num_resamples], NaN where not defined."""

    def notes(self, labelled: Labelled) -> list[str]:
        """What a reader of the metrics has to know about these labels; none here."""
        del labelled
        return []

    @classmethod
    def learned_settings(cls, settings: Mapping[str, Any], labels: Labels, examples: Iterable[Example]) -> dict:
        """Settings that `settings` leaves open and that the training examples decide; none here."""
        del settings, labels, examples
        return {}


@dataclasses.dataclass(frozen=True)
class BinaryTask(Task):
    """Positive or not: binary cross-entropy, weighted by example.

    Attributes:
      positive_weight: factor on the loss of positives; above 1 counters rare positives.
    """

    positive_weight: float = 1.0

    type: ClassVar[str] = "binary"
    metric_names: ClassVar[tuple[str, ...]] = ("auc_pr", "roc_auc", "positive_rate")
    selectable: ClassVar[tuple[str, ...]] = ("auc_pr", "roc_auc")
    logged: ClassVar[tuple[str, ...] | None] = ("auc_pr", "roc_auc")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.positive_weight > 0:
            raise ValueError(f"positive_weight must be > 0, got {self.positive_weight}")

    @property
    def label_names(self) -> tuple[str, ...]:
        """("no binding site", "binding site"): a score is of the last one."""
        return (f"no {self.labels.names[0]}", self.labels.names[0])

    def label_weight(self, value: jax.Array) -> jax.Array:
        return jnp.where(value[..., 0] > 0.5, self.positive_weight, 1.0)

    def loss_of(self, logits: jax.Array, value: jax.Array) -> jax.Array:
        return optax.sigmoid_binary_cross_entropy(logits[..., 0], value[..., 0])

    def scores(self, logits: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(logits)

    def undefined_reason(self, labelled: Labelled) -> str:
        return metrics.undefined_reason(labelled.labels, labelled.weights) or super().undefined_reason(labelled)

    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        # None of these depends on the threshold.
        values = metrics.residue_metrics(labelled.labels, labelled.scores, labelled.weights, threshold=0.5)
        return {name: values[name] for name in self.metric_names}

    def bootstrap(self, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
        labels, scores, weights, groups = labelled
        resampled = metrics.bootstrap(labels, scores, weights, groups, 0.5, num_resamples=num_resamples, seed=seed)
        return {name: resampled[name] for name in self.metric_names}


@dataclasses.dataclass(frozen=True)
class MulticlassTask(Task):
    """One of several classes: softmax cross-entropy, weighted by example and class.

    Attributes:
      label_smoothing: share of a label that is spread evenly over all classes, 0 to below 1.
      class_balance: exponent: a class with n training labels has the weight n^-class_balance in the loss, scaled to a
        mean of 1 over the training labels. 0 is none, 1 counts every class alike.
      class_weights: one a class; found from the training labels where `class_balance` asks for it.
    """

    label_smoothing: float = 0.0
    class_balance: float = 0.0
    class_weights: tuple[float, ...] = ()

    type: ClassVar[str] = "multiclass"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "macro_f1")
    selectable: ClassVar[tuple[str, ...]] = ("accuracy", "balanced_accuracy", "macro_f1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be 0 to below 1, got {self.label_smoothing}")
        if not 0 <= self.class_balance <= 1:
            raise ValueError(f"class_balance must be 0 to 1, got {self.class_balance}")
        object.__setattr__(self, "class_weights", tuple(self.class_weights))
        if self.class_weights and len(self.class_weights) != len(self.labels.names):
            raise ValueError(
                f"{len(self.class_weights)} class_weights for {len(self.labels.names)} classes; give one for each"
            )

    @classmethod
    def learned_settings(cls, settings: Mapping[str, Any], labels: Labels, examples: Iterable[Example]) -> dict:
        balance = settings.get("class_balance", 0.0)
        if not balance or settings.get("class_weights"):
            return {}
        values = np.concatenate([labels.values_of(example)[:, 0] for example in examples]).astype(int)
        counts = np.bincount(values, minlength=len(labels.names))
        weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -balance, 0.0)
        mean = (weights * counts).sum() / max(counts.sum(), 1)
        return {"class_weights": [float(weight) for weight in weights / mean]} if mean > 0 else {}

    def label_weight(self, value: jax.Array) -> jax.Array:
        if not self.class_weights:
            return super().label_weight(value)
        return jnp.asarray(self.class_weights, jnp.float32)[_class_of(value)]

    def loss_of(self, logits: jax.Array, value: jax.Array) -> jax.Array:
        target = jax.nn.one_hot(_class_of(value), self.num_outputs)
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(target, self.label_smoothing))

    def scores(self, logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits, axis=-1)

    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        return protein_metrics.multiclass_metrics(labelled.labels, labelled.scores, labelled.weights)

    def bootstrap(self, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
        return protein_metrics.bootstrap(self.metrics, labelled, num_resamples=num_resamples, seed=seed)


@dataclasses.dataclass(frozen=True)
class EnzymeTask(MulticlassTask):
    """One of several classes with EC numbers as names: also judged by their first number, `level_1_accuracy`."""

    metric_names: ClassVar[tuple[str, ...]] = (*MulticlassTask.metric_names, "level_1_accuracy")
    selectable: ClassVar[tuple[str, ...]] = (*MulticlassTask.selectable, "level_1_accuracy")

    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        _, level_1 = np.unique([name.partition(".")[0] for name in self.labels.names], return_inverse=True)
        share = protein_metrics.coarse_accuracy(labelled.labels, labelled.scores, level_1, labelled.weights)
        return {**super().metrics(labelled), "level_1_accuracy": share}


def _class_of(value: jax.Array) -> jax.Array:
    return value[..., 0].astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class MultilabelTask(Task):
    """Any of several classes: the mean over the classes of binary cross-entropies, weighted by example.

    Attributes:
      positive_weight: factor on the loss of the classes that a protein has; above 1 counters rare positives.
    """

    positive_weight: float = 1.0

    type: ClassVar[str] = "multilabel"
    metric_names: ClassVar[tuple[str, ...]] = ("f_max", "auc_pr")
    selectable: ClassVar[tuple[str, ...]] = ("f_max", "auc_pr")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.positive_weight > 0:
            raise ValueError(f"positive_weight must be > 0, got {self.positive_weight}")

    def loss_of(self, logits: jax.Array, value: jax.Array) -> jax.Array:
        loss = optax.sigmoid_binary_cross_entropy(logits, value)
        return jnp.mean(loss * jnp.where(value > 0.5, self.positive_weight, 1.0), axis=-1)

    def scores(self, logits: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(logits)

    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        return protein_metrics.multilabel_metrics(labelled.labels, labelled.scores)

    def bootstrap(self, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
        return protein_metrics.bootstrap_multilabel(labelled, num_resamples=num_resamples, seed=seed)


@dataclasses.dataclass(frozen=True)
class RegressionTask(Task):
    """One or several numbers: a loss on the difference, weighted by example; its mean over the numbers.

    Attributes:
      loss_name: "mse", or "huber", which grows linearly from a difference of `huber_delta` on.
      huber_delta: in units of `scale`; in those of the label with output "sigmoid".
      output: "linear": mean + scale x logit, the loss in units of `scale`; "sigmoid": for labels from 0 to 1.
      mean, scale: one for each number; where left out, mean and standard deviation of the training labels.
    """

    loss_name: str = "mse"
    huber_delta: float = 1.0
    output: str = "linear"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    type: ClassVar[str] = "regression"
    metric_names: ClassVar[tuple[str, ...]] = ("rmse", "mae", "pearson", "spearman", "kendall", "r2")
    # Not a correlation: a constant output has none, and a scale that is off does not show in it.
    selectable: ClassVar[tuple[str, ...]] = ("r2", "pearson", "spearman", "kendall")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("loss_name", ("mse", "huber")), ("output", ("linear", "sigmoid"))):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if not self.huber_delta > 0:
            raise ValueError(f"huber_delta must be > 0, got {self.huber_delta}")
        size = len(self.labels.names)
        for name, neutral in (("mean", 0.0), ("scale", 1.0)):
            values = tuple(getattr(self, name)) or (neutral,) * size
            if len(values) != size or (name == "scale" and min(values) <= 0):
                raise ValueError(f"{name} is {values}; it must hold {size} numbers, those of scale above 0")
            object.__setattr__(self, name, values)

    @classmethod
    def learned_settings(cls, settings: Mapping[str, Any], labels: Labels, examples: Iterable[Example]) -> dict:
        sigmoid = settings.get("output", "linear") == "sigmoid"
        if not sigmoid and settings.get("mean") and settings.get("scale"):
            return {}
        values = np.concatenate([labels.values_of(example) for example in examples]).astype(np.float64)
        if not len(values):
            raise ValueError("the training records hold no label; regression needs some")
        if sigmoid:
            if values.min() < 0 or values.max() > 1:
                raise ValueError(
                    f"output 'sigmoid' is for labels from 0 to 1; those of training span {values.min():g} to "
                    f"{values.max():g}. Set output to 'linear'"
                )
            return {}
        spread = values.std(axis=0)
        found = {"mean": values.mean(axis=0).tolist(), "scale": np.where(spread > 0, spread, 1.0).tolist()}
        return {name: value for name, value in found.items() if not settings.get(name)}

    def loss_of(self, logits: jax.Array, value: jax.Array) -> jax.Array:
        difference = self.scores(logits) - value
        if self.output == "linear":
            difference = difference / jnp.asarray(self.scale, jnp.float32)
        if self.loss_name == "huber":
            return jnp.mean(optax.huber_loss(difference, delta=self.huber_delta), axis=-1)
        return jnp.mean(difference**2, axis=-1)

    def scores(self, logits: jax.Array) -> jax.Array:
        if self.output == "sigmoid":
            return jax.nn.sigmoid(logits)
        return jnp.asarray(self.mean, jnp.float32) + jnp.asarray(self.scale, jnp.float32) * logits

    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        return protein_metrics.regression_metrics(labelled.labels, labelled.scores)

    def bootstrap(self, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
        return protein_metrics.bootstrap(self.metrics, labelled, num_resamples=num_resamples, seed=seed)


@dataclasses.dataclass(frozen=True)
class RankingTask(RegressionTask):
    """Regression that also has to rank the members of each group: models (decoys) of a target.

    Metrics are of the first number, means over the groups and over all at once (`ranking`); the others are learned
    beside it.
    """

    metric_names: ClassVar[tuple[str, ...]] = (*ranking.METRICS, "r2")
    selectable: ClassVar[tuple[str, ...]] = (
        "r2",
        *(f"{over}_{name}" for over in ("global", "mean") for name in ranking.CORRELATIONS),
    )

    def metrics(self, labelled: Labelled) -> dict[str, float | None]:
        labels, scores, groups = _first(labelled.labels), _first(labelled.scores), labelled.groups
        return {**ranking.ranking_metrics(labels, scores, groups), **_r2(labelled)}

    def bootstrap(self, labelled: Labelled, *, num_resamples: int, seed: int) -> dict[str, np.ndarray]:
        labels, scores, groups = _first(labelled.labels), _first(labelled.scores), labelled.groups
        return {
            **ranking.bootstrap(labels, scores, groups, num_resamples=num_resamples, seed=seed),
            **protein_metrics.bootstrap(_r2, labelled, num_resamples=num_resamples, seed=seed),
        }

    def notes(self, labelled: Labelled) -> list[str]:
        labels, scores = _first(labelled.labels), _first(labelled.scores)
        rankings = ranking.target_rankings(labels, scores, labelled.groups)
        reasons = collections.Counter(of_target.reason for of_target in rankings if of_target.reason)
        return [
            f"{count} of {len(rankings)} groups have no correlation: {reason}." for reason, count in reasons.items()
        ]


def _r2(labelled: Labelled) -> dict[str, float | None]:
    return {"r2": protein_metrics.r2(_first(labelled.labels), _first(labelled.scores))}


def _first(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 1 else values[:, 0]


TASK_TYPES: dict[str, type[Task]] = {
    task.type: task for task in (BinaryTask, MulticlassTask, MultilabelTask, RegressionTask)
}
