"""The optimizer: AdamW with linear warm-up, cosine decay and clipping of the global gradient norm.

As settings: gradients accumulated over several steps, and a moving average of the weights, which is what is scored.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import path_aware_map

from bihf_jax.models.config import PLMConfig
from bihf_jax.training import learning


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Settings of AdamW and its schedule."""

    learning_rate: float = 1e-3  # peak, reached at the end of the warm-up
    warmup_steps: int = 100
    final_learning_rate: float = 0.0  # at the last step
    weight_decay: float = 0.01  # of weight matrices; biases, norms and embeddings' scales are left alone
    b1: float = 0.9
    b2: float = 0.98
    max_gradient_norm: float = 1.0  # global norm; larger gradients are scaled down to it
    accumulate: int = 1  # steps whose gradients are averaged before the weights move; each step counts alike
    average_decay: float = 0.0  # of the moving average of the weights, e.g. 0.999 a step; 0: none

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be >= 0, got {self.warmup_steps}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be >= 1 steps, got {self.accumulate}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must be 0 to below 1, got {self.average_decay}")
        if not self.max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be > 0, got {self.max_gradient_norm}")


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step -> learning rate, over `steps` steps in all."""
    if config.warmup_steps >= steps:
        raise ValueError(f"warmup_steps ({config.warmup_steps}) must be below steps ({steps})")
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=steps,
        end_value=config.final_learning_rate,
    )


def make_optimizer(config: OptimizerConfig, steps: int, plm: PLMConfig) -> optax.GradientTransformation:
    """The gradient transformation of a run of `steps` steps, for the parameters that learn (`learning.split`).

    The norm that is clipped is that of their gradient. A rate that differs by layer (`plm.learning`) multiplies AdamW's
    update, its weight decay included. With `accumulate` the weights move in every so many steps; warm-up and decay are
    in steps of the run all the same.
    """
    schedule = learning_rate_schedule(config, steps)
    parts = [
        optax.clip_by_global_norm(config.max_gradient_norm),
        optax.adamw(
            schedule if config.accumulate == 1 else lambda moves: schedule(moves * config.accumulate),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
        ),
    ]
    if (plm.learning.rate_multiplier, plm.learning.layer_decay) != (1.0, 1.0):
        parts.append(optax.stateless(lambda updates, _: path_aware_map(_at_rate(plm), updates)))
    if config.average_decay:
        parts.append(average_weights(config.average_decay))
    optimizer = optax.chain(*parts)
    if config.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, every_k_schedule=config.accumulate).gradient_transformation()


class WeightAverage(NamedTuple):
    """State of `average_weights`."""

    moves: jax.Array  # int32, updates so far
    average: optax.Params


def average_weights(decay: float) -> optax.GradientTransformation:
    """Keeps a moving average of the weights as they are after the update; changes no update, so it goes last.

    In the first moves the decay is (1 + moves) / (10 + moves) where that is less, so that the start is soon forgotten.
    """

    def init(params: optax.Params) -> WeightAverage:
        # A copy: a step that donates its state may hold no buffer twice.
        return WeightAverage(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params))

    def update(
        updates: optax.Updates, state: WeightAverage, params: optax.Params
    ) -> tuple[optax.Updates, WeightAverage]:
        now = jnp.minimum(decay, (1 + state.moves) / (10 + state.moves))
        moved = optax.apply_updates(params, updates)
        return updates, WeightAverage(state.moves + 1, optax.incremental_update(moved, state.average, 1 - now))

    return optax.GradientTransformation(init, update)


def averaged(opt_state: optax.OptState) -> optax.Params | None:
    """The moving average of the weights that learn; None where none is kept."""
    return optax.tree.get(opt_state, "average")


def _at_rate(plm: PLMConfig) -> Callable[[learning.Path, jax.Array], jax.Array]:
    return lambda path, update: update * learning.rate_multiplier(path, plm)
