"""One training step and one scoring step: pure functions of one device, mapped over all devices by `jax.pmap`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import PLMConfig
from bihf_jax.tasks import LossSums, MaskedLanguageModelling, Objective, Task
from bihf_jax.training import learning
from bihf_jax.training.optimizer import averaged

AXIS = "data"  # name of the pmapped device axis
OPTIMIZER_SCOPE = "optimizer"  # what `training.profile` finds the update of the parameters by
_PREPARING = 1  # folded into the step's key for what the task draws

Params = Any


class TrainState(NamedTuple):
    """Everything a step reads and writes. Under pmap each leaf has a leading device axis."""

    step: jax.Array  # int32, steps already taken
    params: Params  # all of them, with what is frozen
    opt_state: optax.OptState  # of those that learn


class StepMetrics(NamedTuple):
    """Sums over all devices, so that any group of steps can be averaged exactly."""

    loss: LossSums
    gradient_norm: jax.Array  # before clipping
    residues: jax.Array  # slots that hold a residue or special token
    slots: jax.Array  # all slots of the grid


class CompiledStep:
    """A step mapped over the devices by `jax.pmap`, that counts how often it is traced, which is once a shape."""

    def __init__(
        self, function: Callable, *, donate_argnums: tuple[int, ...] = (), devices: Sequence[jax.Device] | None = None
    ):
        self.compiles = 0

        def counted(*args: Any) -> Any:
            self.compiles += 1
            return function(*args)

        self._mapped = jax.pmap(counted, axis_name=AXIS, donate_argnums=donate_argnums, devices=devices)

    def __call__(self, *args: Any) -> Any:
        return self._mapped(*args)

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """The program for arguments of these shapes, to compile ahead of time."""
        return self._mapped.lower(*args)


def init_state(
    model: nn.Module, optimizer: optax.GradientTransformation, plm: PLMConfig, batch: ProteinBatch, seed: int
) -> TrainState:
    """The state at step 0, on the host's default device.

    Args:
      model: takes (batch, row_id).
      optimizer: the gradient transformation.
      plm: config of the model's pLM, which says what learns.
      batch: any batch of one device; only its shapes matter.
      seed: of the parameters.
    """
    params = jax.jit(lambda key: model.init(key, batch, None)["params"])(jax.random.key(seed))
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(learning.split(params, plm)[0]))


def scored_params(state: TrainState, plm: PLMConfig) -> Params:
    """What is validated and kept as the best: the moving average of the weights where one is kept, else the weights."""
    average = averaged(state.opt_state)
    return state.params if average is None else learning.join(average, learning.split(state.params, plm)[1])


def make_train_step(
    model: nn.Module, task: Objective, optimizer: optax.GradientTransformation, plm: PLMConfig, seed: int
) -> Callable[[TrainState, ProteinBatch], tuple[TrainState, StepMetrics]]:
    """Builds `train_step(state, batch) -> (state, metrics)` for one device of the axis `AXIS`.

    Only what learns (`learning.split`) is differentiated; what is frozen has no gradient and no update.
    """

    def train_step(state: TrainState, batch: ProteinBatch) -> tuple[TrainState, StepMetrics]:
        # The key depends on the step alone; dropout folds in the global row, so the device count changes no mask.
        step_key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = task.prepare(batch, jax.random.fold_in(step_key, _PREPARING))

        params, frozen = learning.split(state.params, plm)

        def local_loss(params: Params) -> tuple[jax.Array, LossSums]:
            variables = {"params": learning.join(params, frozen)}
            logits = model.apply(variables, batch, batch.row_id, rngs={"dropout": step_key})
            sums = task.loss(logits, batch)
            return sums.loss, sums

        # The gradient is of the local sum: differentiating a psum would multiply it by the number of devices.
        gradient, sums = jax.grad(local_loss, has_aux=True)(params)
        gradient, sums = jax.lax.psum((gradient, sums), AXIS)
        gradient = jax.tree.map(lambda g: g / jnp.maximum(sums.weight, 1e-8), gradient)
        with jax.named_scope(OPTIMIZER_SCOPE):
            updates, opt_state = optimizer.update(gradient, state.opt_state, params)
            params = optax.apply_updates(params, updates)
        metrics = StepMetrics(
            loss=sums,
            gradient_norm=optax.tree.norm(gradient),
            residues=jax.lax.psum(jnp.sum(batch.sequence_mask), AXIS),
            slots=jax.lax.psum(jnp.float32(batch.tokens.size), AXIS),
        )
        return TrainState(state.step + 1, learning.join(params, frozen), opt_state), metrics

    return train_step


def make_score_step(model: nn.Module, task: Task) -> Callable[[Params, ProteinBatch], tuple[jax.Array, LossSums]]:
    """Builds `score_step(params, batch) -> (scores [R, L or G, V], loss sums over the axis)`; no dropout."""

    def score_step(params: Params, batch: ProteinBatch) -> tuple[jax.Array, LossSums]:
        logits = model.apply({"params": params}, batch, None)
        return task.scores(logits), jax.lax.psum(task.loss(logits, batch), AXIS)

    return score_step


def make_sum_step(model: nn.Module, task: MaskedLanguageModelling) -> Callable[[Params, ProteinBatch], jax.Array]:
    """Builds `sum_step(params, batch) -> sums of each protein [R, G, S]`; what the task draws is always the same."""

    def sum_step(params: Params, batch: ProteinBatch) -> jax.Array:
        batch = task.prepare(batch, jax.random.key(0))
        return task.sums(model.apply({"params": params}, batch, None), batch)

    return sum_step


def pmap_train_step(
    model: nn.Module,
    task: Objective,
    optimizer: optax.GradientTransformation,
    plm: PLMConfig,
    seed: int,
    *,
    devices: Sequence[jax.Device] | None = None,
) -> CompiledStep:
    """`make_train_step` over all devices, or the given ones; the state it is given is donated."""
    return CompiledStep(make_train_step(model, task, optimizer, plm, seed), donate_argnums=(0,), devices=devices)


def pmap_score_step(model: nn.Module, task: Task, *, devices: Sequence[jax.Device] | None = None) -> CompiledStep:
    """`make_score_step` over all devices, or the given ones."""
    return CompiledStep(make_score_step(model, task), devices=devices)


def pmap_sum_step(model: nn.Module, task: MaskedLanguageModelling) -> CompiledStep:
    """`make_sum_step` over all devices."""
    return CompiledStep(make_sum_step(model, task))


def replicate(tree: Any) -> Any:
    """One copy of every leaf on each local device, along a new leading axis; no device ever holds two.

    The axis is called as in the steps: another name is another sharding, for which the first step compiles once more.
    """
    place = jax.pmap(lambda index: index, axis_name=AXIS)(np.arange(jax.local_device_count()))

    def copies(leaf: Any) -> jax.Array:
        one = np.asarray(leaf)[None]
        return jax.make_array_from_callback((place.shape[0], *one.shape[1:]), place.sharding, lambda _: one)

    return jax.tree.map(copies, tree)


def unreplicate(tree: Any) -> Any:
    """The first replica as numpy arrays. Reads one device's buffer; indexing would compile once per leaf."""
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0))[0], tree)
