"""What a task is to the trainer: an output size, a loss in sums, scores, and the metric that picks the best step."""

import abc
import dataclasses

import jax
import jax.numpy as jnp
import optax

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.tasks.objective import LossSums, Objective


class Task(Objective):
    """One of the comparisons that the model is judged on."""

    name: str
    num_outputs: int
    selection_metric: str  # name of the validation metric that picks the best checkpoint; larger is better
    label_names: tuple[str, ...]  # what the labels 0, 1, .. mean; a score is of the last one

    @abc.abstractmethod
    def scores(self, logits: jax.Array) -> jax.Array:
        """Logits [R, L, num_outputs] -> what is reported per slot [R, L] float32."""


@dataclasses.dataclass(frozen=True)
class BinaryResidueTask(Task):
    """Each residue is positive or not; binary cross-entropy over labelled residues, weighted by example.

    Attributes:
      name: of the task.
      positive_weight: factor on the loss of positive residues; above 1 counters rare positives.
      label_names: for people.
    """

    name: str
    positive_weight: float = 1.0
    num_outputs: int = 1
    selection_metric: str = "auc_pr"
    label_names: tuple[str, ...] = ("negative", "positive")

    def __post_init__(self) -> None:
        if not self.positive_weight > 0:
            raise ValueError(f"positive_weight must be > 0, got {self.positive_weight}")

    def loss(self, logits: jax.Array, batch: ProteinBatch) -> LossSums:
        weight = jnp.where(batch.label_mask, batch.weight, 0.0)
        weight = weight * jnp.where(batch.label > 0.5, self.positive_weight, 1.0)
        loss = optax.sigmoid_binary_cross_entropy(logits[..., 0], batch.label)
        # Slots without a label can hold anything; 0 x inf would be nan.
        return LossSums(jnp.sum(jnp.where(weight > 0, loss * weight, 0.0)), jnp.sum(weight))

    def scores(self, logits: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(logits[..., 0])
