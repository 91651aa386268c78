"""The optimizer: rates by layer are what the config says, and without them it is AdamW with clipping alone."""

import jax
import numpy as np
import optax
import pytest

from bihf_jax.models import LearningConfig, PLMConfig
from bihf_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer

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


def test_linear_decay_is_that_of_esm2():
    """Up to the peak in the warm-up, then in a straight line to the final rate at the last step."""
    config = OptimizerConfig(learning_rate=4e-4, warmup_steps=20, decay="linear", final_learning_rate=4e-5)
    schedule = learning_rate_schedule(config, 120)
    found = [float(schedule(step)) for step in (0, 10, 20, 70, 120)]
    np.testing.assert_allclose(found, [0, 2e-4, 4e-4, 2.2e-4, 4e-5], rtol=1e-5, atol=1e-12)
    with pytest.raises(ValueError, match="decay is 'step'; allowed: cosine, linear"):
        OptimizerConfig(decay="step")
