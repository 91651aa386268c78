"""What a run needs of a device's memory, said before its first step: exactly for its state, and of the compiled step.

Nothing is guessed. The bytes of weights, optimizer and gradients follow from their shapes. What the step needs besides,
the activations above all, is what the compiler says of the program that will run. A device whose memory is not known,
such as a CPU, is not checked.
"""

from typing import Any, NamedTuple

import jax

from bihf_jax.configuration import ConfigError
from bihf_jax.models.config import PLMConfig
from bihf_jax.training import learning
from bihf_jax.training.step import TrainState

GIB = 2**30

_FEWER_ACTIVATIONS = (
    "lower config.data.rows (or max of config.data.lengths) and raise config.training.optimizer.accumulate, or "
    "use more devices with the same rows",
    "set config.encoder.plm.remat and config.encoder.structure.remat",
)
_SMALLER_STATE = (
    'set config.encoder.plm.learning.mode to "lora" or "frozen"',
    'set config.encoder.dtype to "bfloat16"',
    "use a smaller pLM",
)


class DoesNotFitError(ConfigError):
    """A run needs more memory than a device has; the message says how much, and what to change."""


class StateMemory(NamedTuple):
    """Bytes on each device, from shapes alone."""

    weights: int  # of the whole model
    optimizer: int
    gradients: int  # of what learns. All are there at once, as the norm of all of them is clipped

    @property
    def total(self) -> int:
        return sum(self)

    def __str__(self) -> str:
        parts = (f"{name} {size / GIB:.2f}" for name, size in zip(self._fields, self, strict=True))
        return f"{self.total / GIB:.2f} GiB ({', '.join(parts)})"


def state_memory(state: TrainState, plm: PLMConfig) -> StateMemory:
    """What a training state takes, and the gradients of a step.

    Args:
      state: of one device, without a device axis; arrays or `jax.ShapeDtypeStruct`.
      plm: says what learns.
    """
    learns, _ = learning.split(state.params, plm)
    return StateMemory(*map(_bytes, (state.params, state.opt_state, learns)))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def program_memory(compiled: jax.stages.Compiled) -> int:
    """Bytes on each device while a compiled program runs: its arguments, results, temporaries and code."""
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes  # what is donated is written in place
    return memory.argument_size_in_bytes + results + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes


def device_limit() -> int | None:
    """Bytes that a program may use on the smallest local device; None where that is not known, as on CPUs."""
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices()]
    return None if None in limits else min(limits)


def describe(memory: StateMemory, limit: int | None) -> str:
    """For the log: what the state takes, of how much."""
    of = "a limit that is not known here" if limit is None else f"{limit / GIB:.2f} GiB"
    return f"the state takes {memory} of {of}"


def check_state(memory: StateMemory, limit: int | None) -> None:
    """Raises DoesNotFitError where the state and its gradients alone are more than `limit` bytes."""
    if limit is not None and memory.total > limit:
        raise DoesNotFitError(_message(f"the training state alone is {memory}", limit, _SMALLER_STATE))


def check_program(program: jax.stages.Lowered, memory: StateMemory, limit: int | None) -> int | None:
    """Compiles a training step and checks what it needs.

    Args:
      program: the step, lowered for its real arguments.
      memory: of its state, for the message.
      limit: bytes; None checks and compiles nothing.

    Returns:
      Bytes that the step needs on each device; None without a limit.

    Raises:
      DoesNotFitError: it needs more than `limit`, or the compiler itself says that it does not fit.
    """
    if limit is None:
        return None
    changes = _FEWER_ACTIVATIONS + _SMALLER_STATE
    try:
        needed = program_memory(program.compile())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = f"the compiler finds no room for a training step whose state is {memory} ({error})"
        raise DoesNotFitError(_message(reason, limit, changes)) from error
    if needed > limit:
        reason = f"a training step needs {needed / GIB:.2f} GiB a device, of which the state is {memory}"
        raise DoesNotFitError(_message(reason, limit, changes))
    return needed


def _message(reason: str, limit: int, changes: tuple[str, ...]) -> str:
    if jax.default_backend() == "gpu":
        changes += ("give JAX more than its three quarters of the GPU with XLA_PYTHON_CLIENT_MEM_FRACTION=0.92",)
    return (
        f"the run does not fit: {reason}, and a device has {limit / GIB:.2f} GiB. Change one or more: "
        f"{'; '.join(changes)}. docs/memory.md has a table of what fits"
    )
