"""One step: the same on any number of devices, compiled once, on a batch of any content."""

import json
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from bihf_jax.data.grid import example_batch, make_grid, split_over_devices
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import experiment_config
from bihf_jax.training.optimizer import make_optimizer
from tests.data.examples import random_example
from tests.training.small_run import run_python, small_config

STEPS = 6


def steps_on_devices(devices: int) -> Iterator[dict]:
    """Loss sum, weight, gradient norm of each step of a small model with dropout, and the final parameters' norm."""
    config = experiment_config(small_config("unused"))
    model, task = config.make_model(), config.make_task()
    plm = config.encoder.plm
    optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
    state = step_lib.init_state(model, optimizer, plm, example_batch(config.data.grid_shape()), seed=0)
    train_step = step_lib.pmap_train_step(model, task, optimizer, plm, seed=0)
    state = step_lib.replicate(state)
    for step in range(STEPS):
        state, metrics = train_step(state, split_over_devices(uneven_batch(step), devices))
        yield {
            "loss": float(metrics.loss.loss[0]),
            "weight": float(metrics.loss.weight[0]),
            "gradient_norm": float(metrics.gradient_norm[0]),
            "compiles": train_step.compiles,
        }
    params = step_lib.unreplicate(state).params
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    yield {"params": flat.astype(float).tolist()}


def uneven_batch(step: int):
    """Four rows: three proteins, one, one without a single label, and an empty one."""
    examples = [random_example(10 * step + i, (20 + i, 9)) for i in range(5)]
    no_label = random_example(10 * step + 7, (30,), unresolved=1.0)
    rows = [[(0, examples[0]), (1, examples[1]), (2, examples[2])], [(3, examples[3])], [(4, no_label)], []]
    return make_grid(rows, length=512, neighbours=6, graphs=24, first_row_id=0)


@pytest.mark.slow
def test_four_devices_equal_one():
    """With dropout and very unequal numbers of labels a device, four devices take the steps that one takes."""
    code = (
        "import json, sys\n"
        "from tests.training.test_step import steps_on_devices\n"
        "print(json.dumps(list(steps_on_devices(int(sys.argv[1])))))\n"
    )
    one, four = (json.loads(run_python(code, n, devices=n).splitlines()[-1]) for n in (1, 4))
    for step, (a, b) in enumerate(zip(one[:-1], four[:-1], strict=True)):
        for name in ("loss", "weight", "gradient_norm"):
            assert a[name] == pytest.approx(b[name], rel=2e-5), f"{name} of step {step}"
        assert a["compiles"] == b["compiles"] == 1
    assert len({a["loss"] for a in one[:-1]}) == STEPS  # they do change
    np.testing.assert_allclose(one[-1]["params"], four[-1]["params"], rtol=0, atol=2e-5)


def test_dropout_depends_on_the_global_row():
    """The same row under another row id draws other masks; under the same id, alone on a device, the same."""
    config = experiment_config(small_config("unused"))
    model = config.make_model()
    batch = uneven_batch(0)
    variables = model.init(jax.random.key(0), batch, None)
    # Only the first two rows hold labels of interest; fusion's projections start at zero and dropout still acts.
    run = jax.jit(lambda b: model.apply(variables, b, b.row_id, rngs={"dropout": jax.random.key(1)}))
    whole = run(batch)
    alone = run(jax.tree.map(lambda x: x[1:2], batch))
    moved = run(batch._replace(row_id=batch.row_id + 1))
    np.testing.assert_allclose(whole[1:2], alone, atol=1e-5)
    assert np.abs(whole[1] - moved[1])[batch.sequence_mask[1]].max() > 1e-3


def test_labels_beyond_the_mask_do_not_count():
    """What stands at a slot without a label changes neither loss nor gradient."""
    config = experiment_config(small_config("unused"))
    model, task = config.make_model(), config.make_task()
    batch = uneven_batch(0)
    params = model.init(jax.random.key(0), batch, None)["params"]
    noise = np.where(batch.label_mask, batch.label, 1e9).astype(np.float32)

    def loss(params, batch):
        return task.loss(model.apply({"params": params}, batch, None), batch).loss

    loss_and_gradient = jax.jit(jax.value_and_grad(loss))
    clean, noisy = loss_and_gradient(params, batch), loss_and_gradient(params, batch._replace(label=noise))
    jax.tree.map(np.testing.assert_array_equal, clean, noisy)
    assert np.isfinite(clean[0])


def test_replicate_and_back():
    """Every device holds a copy, and the first one comes back as numpy."""
    tree = {"a": np.arange(3.0), "b": np.int32(7)}
    there = step_lib.replicate(tree)
    assert there["a"].shape == (jax.local_device_count(), 3)
    back = step_lib.unreplicate(there)
    assert isinstance(back["a"], np.ndarray)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
