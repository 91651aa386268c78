"""The optimizer: rates by layer are what the config says, and without them it is AdamW with clipping alone."""

import jax
import numpy as np
import optax
import pytest

from bihf_jax.models import LearningConfig, PLMConfig
from bihf_jax.training.optimizer import OptimizerConfig, averaged, make_optimizer

CONFIG = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.1)
LAYERS = 3


def random_tree(seed):
    """Parameters as a fused model with a pLM of three layers names them, or gradients of them."""
    rng = np.random.default_rng(seed)

    def dense():
        return {name: rng.normal(size=size).astype(np.float32) for name, size in (("kernel", (3, 2)), ("bias", 2))}

    plm = {f"layers_{layer}": {"fc1": dense(), "fc1_lora": {"a": dense()}} for layer in range(LAYERS)}
    plm |= {"embed_tokens": dense(), "emb_layer_norm_after": dense()}
    return {"encoder": {"plm": plm, "fusions_0": dense()}, "head": dense()}


def matrices(params):
    """What decays."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def first_update(plm):
    params = random_tree(0)
    optimizer = make_optimizer(CONFIG, 10, plm)
    return optimizer.update(random_tree(1), optimizer.init(params), params)[0]


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_layers_learn_at_their_rates(mode):
    """The first AdamW update, weight decay included, is multiplied by m d^(L - l) in block l, and m d^L below."""
    learning = LearningConfig(mode=mode, rate_multiplier=0.5, layer_decay=0.8)
    plain = first_update(PLMConfig(layers=LAYERS, learning=LearningConfig(mode=mode)))
    found = first_update(PLMConfig(layers=LAYERS, learning=learning))
    rates = {"embed_tokens": 0.256, "layers_0": 0.32, "layers_1": 0.4, "layers_2": 0.5, "emb_layer_norm_after": 0.5}
    for module, rate in rates.items():
        expected = jax.tree.map(lambda update, rate=rate: rate * update, plain["encoder"]["plm"].pop(module))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found["encoder"]["plm"].pop(module), expected
        )
    jax.tree.map(np.testing.assert_array_equal, found, plain)  # all that is not of the pLM
    assert min(np.abs(leaf).min() for leaf in jax.tree.leaves(plain)) > 0


def test_without_rates_it_is_clipping_and_adamw():
    """The same state and the same bits as the two written out; biases do not decay."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 0, 10)
    adamw = optax.adamw(schedule, b1=CONFIG.b1, b2=CONFIG.b2, weight_decay=0.1, mask=matrices)
    reference = optax.chain(optax.clip_by_global_norm(1.0), adamw)
    optimizer, params, gradient = make_optimizer(CONFIG, 10, PLMConfig()), random_tree(0), random_tree(1)
    (updates, state), (expected, expected_state) = (
        o.update(gradient, o.init(params), params) for o in (optimizer, reference)
    )
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)
    jax.tree.map(np.testing.assert_array_equal, (updates, state), (expected, expected_state))


def test_accumulated_gradients_move_the_weights_as_their_mean():
    """Nothing moves in the first two of three steps; the third one is AdamW on the mean, at the rate of that step."""
    config = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, accumulate=3)
    optimizer, params = make_optimizer(config, 9, PLMConfig()), random_tree(0)
    state, gradients = optimizer.init(params), [random_tree(seed) for seed in range(1, 7)]
    plain = make_optimizer(CONFIG, 9, PLMConfig())
    plain_state, expected = plain.init(params), params
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        if step % 3 < 2:
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
            continue
        if step == 2:
            mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *gradients[:3])
            expected = optax.apply_updates(expected, plain.update(mean, plain_state, expected)[0])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), params, expected)


def test_the_average_follows_the_weights():
    """It is the recursion written out, and changes no update; without a decay none is kept."""
    config = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, average_decay=0.6)
    optimizer, plain = make_optimizer(config, 9, PLMConfig()), make_optimizer(CONFIG, 9, PLMConfig())
    params = other = expected = random_tree(0)
    state, plain_state = optimizer.init(params), plain.init(params)
    assert averaged(plain_state) is None
    for step in range(8):
        gradient = random_tree(step + 1)
        updates, state = optimizer.update(gradient, state, params)
        plain_updates, plain_state = plain.update(gradient, plain_state, other)
        params, other = optax.apply_updates(params, updates), optax.apply_updates(other, plain_updates)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = jax.tree.map(lambda old, new, d=decay: d * old + (1 - d) * new, expected, params)
    jax.tree.map(np.testing.assert_array_equal, params, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), averaged(state), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"accumulate": 0}, "accumulate must be >= 1"), ({"average_decay": 1.0}, "average_decay must be 0 to below 1")],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)
