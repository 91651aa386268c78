"""What of a model learns: frozen weights stay to the bit, and the rest learns as it would without them."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from bihf_jax.data.grid import example_batch, split_over_devices
from bihf_jax.models import FusedEncoder, LearningConfig, MPNNConfig, PLMConfig
from bihf_jax.training import learning
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import experiment_config
from bihf_jax.training.optimizer import make_optimizer
from tests.models.batches import pack, quick_jit, random_protein, random_variables
from tests.models.test_encoder import small_config as small_encoder
from tests.training.small_run import small_config
from tests.training.test_step import uneven_batch

STEPS = 4
LEARNING = {
    "full": {},
    "frozen": {"mode": "frozen"},
    "lora": {"mode": "lora", "rank": 3, "targets": ["q_proj", "fc1"]},
}
WIDTH = 24  # of the pLM, and of nothing else in this model


def start(mode):
    """(config, shapes of the state, a random state, train step) of a small model whose weights all decay.

    The updates of the exchanges and of LoRA do not start at zero here, and nothing is compiled.
    """
    values = small_config("unused").to_dict()
    values["encoder"]["stages"] = 2
    values["encoder"]["plm"] = {"layers": 2, "width": WIDTH, "heads": 2, "dropout": 0.1, "learning": LEARNING[mode]}
    values["encoder"]["structure"] = {"name": "mpnn", "width": 12, "neighbours": 6}
    values["training"]["optimizer"]["weight_decay"] = 0.1
    config = experiment_config(values)
    model, plm = config.make_model(), config.encoder.plm
    optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
    batch = jax.tree.map(jnp.asarray, example_batch(config.data.grid_shape()))
    shapes = jax.eval_shape(lambda batch: step_lib.init_state(model, optimizer, plm, batch, seed=0), batch)
    params = random_variables(model, batch, None)["params"]
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.opt_state)
    state = step_lib.TrainState(np.int32(0), jax.tree.map(np.asarray, params), opt_state)
    train_step = step_lib.pmap_train_step(model, config.make_task(), optimizer, plm, seed=0)
    return config, shapes, state, train_step


def is_frozen(path):
    """Independent of `learning.learns`: a parameter of the pLM that is no factor of a low-rank update."""
    return path[:2] == ("encoder", "plm") and not any("lora" in part for part in path)


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_frozen_weights_do_not_move_by_a_bit(mode):
    """Over several steps with weight decay every other matrix moves; one compilation; no state of what is frozen."""
    config, shapes, before, train_step = start(mode)
    assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, shapes)
    kept = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(before.opt_state)}
    assert {"lora" in path for path in kept if "'plm'" in path} == ({True} if mode == "lora" else set())

    state = step_lib.replicate(before)
    for step in range(STEPS):
        state, metrics = train_step(state, split_over_devices(uneven_batch(step), 1))
    assert train_step.compiles == 1
    assert np.isfinite(metrics.gradient_norm).all()
    old, new = flatten_dict(before.params), flatten_dict(step_lib.unreplicate(state).params)
    assert old.keys() == new.keys()
    assert {path[1] for path in old if is_frozen(path)} == {"plm"}
    for path, value in new.items():
        if is_frozen(path):
            np.testing.assert_array_equal(value, old[path], err_msg="/".join(path))
        elif value.ndim > 1:
            assert np.abs(value - old[path]).max() > 1e-5, "/".join(path)
    factors = [path for path in new if "lora" in "".join(path)]
    assert len(factors) == (8 if mode == "lora" else 0)  # 2 layers x 2 targets x 2
    frozen = sum(leaf.size for path, leaf in old.items() if is_frozen(path))
    learn = sum(leaf.size for leaf in old.values()) - frozen
    moments = sum(leaf.size for leaf in jax.tree.leaves(before.opt_state) if leaf.ndim)
    assert moments == 2 * learn
    split = learning.split(before.params, config.encoder.plm)
    assert [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in split] == [learn, frozen]


def test_no_gradient_of_a_frozen_weight_is_made():
    """Where the pLM learns, the program has products of the shape of its weights, their gradients; else it has none."""

    def products(mode):
        _, shapes, _, train_step = start(mode)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), shapes)
        text = train_step.lower(shapes, split_over_devices(uneven_batch(0), 1)).as_text()
        shapes = "|".join(f"{a}x{b}" for a, b in ((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)))
        return len(re.findall(rf"dot_general .*-> tensor<(?:1x)?(?:{shapes})xf32>", text))

    assert products("full") == 4  # fc1 and fc2 of two layers
    assert products("frozen") == products("lora") == 0


@functools.cache
def encoder_gradients(mode, **plm):
    """Gradients of a sum of the representation by all that learns, in a small encoder with open exchanges."""
    config = small_encoder("local", structure=MPNNConfig(width=12, neighbours=6))
    plm = PLMConfig(layers=4, width=16, heads=2, learning=LearningConfig(mode=mode), **plm)
    encoder = FusedEncoder(dataclasses.replace(config, plm=plm))
    batch = pack([[random_protein(0), random_protein(1, (12,))]], 48)
    learn, frozen = learning.split(random_variables(encoder, batch)["params"], plm)

    def total(learn):
        representation = encoder.apply({"params": learning.join(learn, frozen)}, batch).representation
        return jnp.sum(representation * jnp.sin(jnp.arange(representation.size).reshape(representation.shape)))

    return flatten_dict(quick_jit(jax.grad(total))(learn))


@pytest.mark.parametrize("plm", [{}, {"scan": True, "remat": True}])
def test_gradients_pass_through_frozen_blocks(plm):
    """The first exchange, read by frozen blocks only through them, learns as if they learned too."""
    full, frozen = encoder_gradients("full"), encoder_gradients("frozen", **plm)
    assert {path for path in full if path[0] != "plm"} == set(frozen)
    assert any(path[0] == "fusions_0" for path in frozen)
    for path, gradient in frozen.items():
        size = np.abs(full[path]).max()
        np.testing.assert_allclose(gradient, full[path], rtol=0, atol=1e-5 * max(size, 1.0), err_msg="/".join(path))
        assert size > 0 or path[0] != "fusions_0", "/".join(path)


def test_split_and_join_give_back_the_tree():
    """Whatever the mode; a model without a pLM learns as a whole."""
    params = {"encoder": {"plm": {"layers_0": {"fc1": {"kernel": 1}, "fc1_lora": {"a": {"kernel": 2}}}}}, "head": 3}
    for mode, expected in (("full", {1, 2, 3}), ("lora", {2, 3}), ("frozen", {2, 3})):
        parts = learning.split(params, PLMConfig(learning=LearningConfig(mode=mode)))
        assert set(jax.tree.leaves(parts[0])) == expected
        assert learning.join(*parts) == params
    assert learning.split({"head": 3}, PLMConfig(learning=LearningConfig(mode="frozen"))) == ({"head": 3}, {})
