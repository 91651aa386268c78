"""What a run needs of a device's memory: exact for its state, and refused before the first step."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.configuration import ConfigError
from bihf_jax.data.grid import example_batch
from bihf_jax.training import memory
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import experiment_config
from bihf_jax.training.loop import train
from bihf_jax.training.memory import DoesNotFitError, StateMemory
from bihf_jax.training.optimizer import OptimizerConfig, make_optimizer
from tests.training.small_run import small_config

KIB = 1024


def initial_state(mode="full", **optimizer):
    """Shapes of the state that a small run starts with, and its pLM's config."""
    values = small_config("unused")
    values.encoder.plm["learning"] = {"mode": mode}
    config = experiment_config(values)
    model, plm = config.make_model(), config.encoder.plm
    chain = make_optimizer(OptimizerConfig(**optimizer), 1000, plm)
    batch = example_batch(config.data.grid_shape())
    return jax.eval_shape(lambda: step_lib.init_state(model, chain, plm, batch, seed=0)), plm


def plm_bytes(state):
    return sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params["encoder"]["plm"]))


def test_state_of_full_training():
    """Every weight has a gradient and two moments; a moving average is one more of them."""
    state, plm = initial_state()
    found = memory.state_memory(state, plm)
    counters = sum(leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim == 0)
    assert found.gradients == found.weights == sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    assert found.optimizer == 2 * found.weights + counters
    averaged = memory.state_memory(*initial_state(average_decay=0.999))
    assert averaged.optimizer == pytest.approx(3 * found.weights, abs=64)


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_what_is_frozen_has_no_gradient_and_no_moments(mode):
    """Of the pLM only the updates of low rank have them."""
    full, (state, plm) = memory.state_memory(*initial_state()), initial_state(mode)
    found = memory.state_memory(state, plm)
    rest = full.weights - plm_bytes(initial_state()[0])
    factors = plm_bytes(state) - plm_bytes(initial_state("frozen")[0])
    assert (factors > 0) == (mode == "lora")
    assert found.gradients == rest + factors
    assert found.weights == full.weights + factors


def test_a_state_over_the_limit_is_refused():
    """The message has the estimate, the limit and what to change; at the limit, and without one, all is well."""
    needs = StateMemory(weights=2 * 2**30, optimizer=4 * 2**30, gradients=2 * 2**30)
    memory.check_state(needs, None)
    memory.check_state(needs, 8 * 2**30)
    expected = r"8.00 GiB \(weights 2.00, optimizer 4.00, gradients 2.00\), and a device has 7.50 GiB.*learning.mode"
    with pytest.raises(DoesNotFitError, match=expected):
        memory.check_state(needs, 15 * 2**29)


def lowered():
    """A program with an argument of 4 KiB that is donated, one of 4 KiB that is not, and a result of 4 KiB."""
    x = jnp.ones(KIB, jnp.float32)
    return jax.jit(lambda a, b: a * b + 1, donate_argnums=0).lower(x, x)


def test_memory_of_a_program():
    """Arguments, results and temporaries; a donated argument and the result in its place count once."""
    assert 8 * KIB <= memory.program_memory(lowered().compile()) <= 9 * KIB


def test_a_program_over_the_limit_is_refused():
    """By what the compiled program needs; without a limit nothing is compiled."""
    state = StateMemory(KIB, KIB, KIB)
    assert memory.check_program(lowered(), state, limit=None) is None
    assert memory.check_program(lowered(), state, limit=10 * KIB) == memory.program_memory(lowered().compile())
    with pytest.raises(DoesNotFitError, match=r"a training step needs .* GiB a device.*config.data.rows.*remat"):
        memory.check_program(lowered(), state, limit=7 * KIB)


def refusing(text):
    """A lowered program that the compiler refuses."""

    def compile_it():
        raise jax.errors.JaxRuntimeError(text)

    return types.SimpleNamespace(compile=compile_it)


def test_a_compiler_that_finds_no_room():
    """Its refusal is that of the run, and says what it said; other errors stay what they are."""
    state = StateMemory(KIB, KIB, KIB)
    with pytest.raises(DoesNotFitError, match=r"does not fit: the compiler finds no room.*Used 20G of 16G"):
        memory.check_program(refusing("RESOURCE_EXHAUSTED: Used 20G of 16G"), state, limit=KIB)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        memory.check_program(refusing("INTERNAL: odd"), state, limit=KIB)


def test_the_limit_is_that_of_the_smallest_device(monkeypatch):
    """A device that does not tell, such as a CPU, leaves it open."""
    assert memory.device_limit() is None
    devices = [types.SimpleNamespace(memory_stats=lambda size=size: {"bytes_limit": size}) for size in (16, 12)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert memory.device_limit() == 12


@pytest.mark.parametrize("share", ["half of the state", "the state and a little"])
def test_a_run_that_cannot_fit_ends_before_its_first_step(share, sample_records, tmp_path, monkeypatch):
    """Half of the state: before a parameter is made. A little more than it: when the step is compiled."""
    needs = memory.state_memory(*initial_state()).total
    limit = needs // 2 if share == "half of the state" else needs + 64 * KIB
    monkeypatch.setattr(memory, "device_limit", lambda: limit)
    expected = "the training state alone is" if share == "half of the state" else "a training step needs"
    with pytest.raises(ConfigError, match=f"the run does not fit: {expected}"):
        train(small_config(sample_records), tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    assert not metrics.exists() or not metrics.read_text()


def test_a_run_that_fits_is_compiled_once(sample_records, tmp_path, monkeypatch, caplog):
    """Asking the compiler costs no second compilation, and the log says what the step needs."""
    monkeypatch.setattr(memory, "device_limit", lambda: 2**34)
    with caplog.at_level("INFO", logger="bihf_jax"):
        train(small_config(sample_records), tmp_path / "run")
    assert "compiles 1" in caplog.text
    assert "of 16.00 GiB" in caplog.text
    assert np.sum(["slots a device needs" in record.getMessage() for record in caplog.records]) == 1
