"""Checkpoints: exact, apart from devices, and clear where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bihf_jax.training.checkpoints import CheckpointError, Checkpoints, Progress
from bihf_jax.training.step import TrainState


def make_state(step: int, width: int = 3) -> TrainState:
    rng = np.random.default_rng(step)
    params = {"dense": {"kernel": rng.normal(size=(4, width)).astype(np.float32), "bias": np.zeros(width, np.float32)}}
    opt_state = jax.tree.map(np.asarray, optax.adam(1e-3).init(params))
    return TrainState(np.int32(step), params, opt_state)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path, config={"seed": 1})
    yield opened
    opened.close()


def test_round_trip_is_exact(checkpoints, tmp_path):
    """State and progress come back bit for bit, in a new process's manager too."""
    progress = Progress(best_score=0.1 + 0.2, best_step=3, pending=[[1 / 3, 2.0, 3.0, 4.0, 5.0]])
    checkpoints.save(make_state(4), progress)
    reopened = Checkpoints(tmp_path, config={})
    state, restored = reopened.restore(make_state(0))
    assert_equal(state, make_state(4))
    assert restored == progress
    reopened.close()


def test_bfloat16_comes_back_as_it_is(checkpoints):
    """Frozen weights may be bfloat16; they do not become float32 on the way."""
    state = make_state(4)
    state.params["dense"]["kernel"] = state.params["dense"]["kernel"].astype(jnp.bfloat16)
    checkpoints.save(state, Progress(0.5, 4))
    for params in (checkpoints.restore(state)[0].params, checkpoints.restore_params(state.params)[1]):
        assert_equal(params, state.params)
        assert params["dense"]["kernel"].dtype == jnp.bfloat16


def test_best_outlives_the_last(checkpoints):
    """Later checkpoints that are not better leave the best where it is."""
    checkpoints.save(make_state(2), Progress(0.5, 2))
    for step in (4, 6, 8):
        checkpoints.save(make_state(step), Progress(0.5, 2))
    assert (checkpoints.last_step, checkpoints.best_step) == (8, 2)
    step, params = checkpoints.restore_params(make_state(0).params)
    assert step == 2
    assert_equal(params, make_state(2).params)
    step, params = checkpoints.restore_params(make_state(0).params, which="last")
    assert step == 8
    assert_equal(params, make_state(8).params)


def test_best_missing_after_a_crash_is_added(checkpoints, tmp_path):
    """The last checkpoint says it is the best, but the run was killed before the best was saved."""
    checkpoints.save(make_state(2), Progress(0.5, 2))
    checkpoints.save(make_state(4), Progress(0.7, None))
    progress = Progress(0.8, 6)
    original, checkpoints._save_best = checkpoints._save_best, lambda *_: None  # the crash
    checkpoints.save(make_state(6), progress)
    checkpoints._save_best = original
    assert checkpoints.best_step == 2
    reopened = Checkpoints(tmp_path, config={})
    reopened.restore(make_state(0))
    assert reopened.best_step == 6
    assert_equal(reopened.restore_params(make_state(0).params)[1], make_state(6).params)
    reopened.close()


def test_best_reached_again_after_going_back(checkpoints):
    """A best of a later step, left from before a crash, makes room when an earlier step becomes the best."""
    checkpoints.save(make_state(8), Progress(0.9, 8))
    checkpoints._save_best(5, make_state(5).params, Progress(0.95, 5))
    assert checkpoints.best_step == 5
    assert_equal(checkpoints.restore_params(make_state(0).params)[1], make_state(5).params)


def test_another_model_is_refused_with_both_sides(checkpoints):
    """The message lists what differs by name and shape."""
    checkpoints.save(make_state(2), Progress(0.5, 2))
    with pytest.raises(CheckpointError, match=r"dense/kernel: \(4, 3\) in the checkpoint, \(4, 5\) in the model"):
        checkpoints.restore(make_state(0, width=5))
    other = make_state(0)._replace(params={"other": np.zeros(2, np.float32)})
    with pytest.raises(CheckpointError, match=r"only in the checkpoint: dense/bias.*(?s:.*)only in the model: other"):
        checkpoints.restore(other)


def test_no_checkpoint(checkpoints):
    """Nothing to resume is None; nothing to score is an error that says what to do."""
    assert checkpoints.restore(make_state(0)) is None
    with pytest.raises(CheckpointError, match="train first"):
        checkpoints.restore_params(make_state(0).params)


def test_restored_on_another_number_of_devices(checkpoints):
    """Arrays are stored without a device axis."""
    checkpoints.save(make_state(2), Progress())
    state, _ = checkpoints.restore(make_state(0))
    assert state.params["dense"]["kernel"].shape == (4, 3)
    assert isinstance(state.params["dense"]["kernel"], np.ndarray)
