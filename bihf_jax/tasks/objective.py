"""What a training step needs of a task: a batch as the model sees it, and a loss in sums."""

import abc
from typing import ClassVar, NamedTuple

import jax

from bihf_jax.data.batch import ProteinBatch


class LossSums(NamedTuple):
    """A loss as sum and weight, so that devices, steps and hosts are averaged exactly: loss / weight at the end."""

    loss: jax.Array  # [] float32, weighted sum over labels
    weight: jax.Array  # [] float32, sum of the weights of the labels


class Objective(abc.ABC):
    """What is trained for."""

    name: str
    num_outputs: int  # logits of a slot
    selection_metric: str  # name of the validation metric that picks the best checkpoint; larger is better
    model: ClassVar[str] = "task"  # which model it trains, see `training.config.MODELS`

    def prepare(self, batch: ProteinBatch, key: jax.Array) -> ProteinBatch:
        """The batch as the model and the loss see it; drawn anew in each training step. As it is, here.

        Args:
          batch: of one device.
          key: of the step, the same on every device; at evaluation always the same.
        """
        del key
        return batch

    @abc.abstractmethod
    def loss(self, logits: jax.Array, batch: ProteinBatch) -> LossSums:
        """Logits [R, L, num_outputs] float32 -> sums over this device's labels."""
