"""Low-rank updates: the identity at the start, and the same function when they are merged into the weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from bihf_jax.models import LearningConfig, PLMConfig, ProteinLanguageModel, merge_lora, unmerge_lora
from bihf_jax.models.config import LORA_TARGETS
from tests.models.batches import quick_jit
from tests.models.chains import in_one_row, random_chains

FULL = PLMConfig(layers=3, width=16, heads=2)
LORA = dataclasses.replace(FULL, learning=LearningConfig(mode="lora", rank=3, targets=LORA_TARGETS))
# Of float32, in max|a - b| / max|b| of the features: a merged weight is rounded once more.
MERGE_TOLERANCE = 1e-5


def row():
    return in_one_row(random_chains(1, (9, 5)), 24)


def features(config, params, dtype=jnp.float32):
    return np.asarray(quick_jit(ProteinLanguageModel(config, dtype).apply)({"params": params}, *row()), np.float32)


def random_params(config, dtype=jnp.float32, *, open_updates):
    """Random weights, the same for every config; B is zero unless the updates are open."""
    shapes = jax.eval_shape(ProteinLanguageModel(config, dtype).init, jax.random.key(0), *row())["params"]

    def value(path, leaf):
        rng = np.random.default_rng(list("/".join(path).encode()))
        if path[-2] == "b" and not open_updates:
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.normal(scale=0.3, size=leaf.shape), leaf.dtype)

    return unflatten_dict({path: value(path, leaf) for path, leaf in flatten_dict(shapes).items()})


@pytest.mark.parametrize("scan", [False, True])
def test_the_start_is_the_identity(scan):
    """With B at zero the features are those of the pLM without updates, bit for bit; with another B they are not."""
    full, lora = (dataclasses.replace(config, scan=scan) for config in (FULL, LORA))
    plain = features(full, random_params(full, open_updates=False))
    np.testing.assert_array_equal(features(lora, random_params(lora, open_updates=False)), plain)
    assert np.abs(features(lora, random_params(lora, open_updates=True)) - plain).max() > 0.1


def test_initial_factors():
    """A is random and B is zero for every target of every layer; both are float32 beside frozen bfloat16 weights."""
    params = quick_jit(ProteinLanguageModel(LORA, jnp.bfloat16).init)(jax.random.key(0), *row())["params"]
    flat = flatten_dict(params)
    factors = {path: leaf for path, leaf in flat.items() if any(part.endswith("_lora") for part in path)}
    assert len(factors) == 2 * len(LORA_TARGETS) * LORA.layers
    for path, leaf in factors.items():
        assert leaf.dtype == jnp.float32
        assert leaf.shape[{"a": 1, "b": 0}[path[-2]]] == 3
        assert (np.std(leaf) > 0.05) == (path[-2] == "a"), path
        assert path[-2] == "a" or not np.any(leaf)
    norms = {path for path in flat if any("layer_norm" in part for part in path)}
    assert {str(leaf.dtype) for path, leaf in flat.items() if path not in norms | factors.keys()} == {"bfloat16"}
    assert {str(flat[path].dtype) for path in norms} == {"float32"}


def test_frozen_weights_in_bfloat16_are_the_same_function():
    """In the compute type a frozen pLM has the features of the one that learns, as far as bfloat16 tells."""
    frozen = dataclasses.replace(FULL, learning=LearningConfig(mode="frozen"))
    params = random_params(FULL, open_updates=False)
    kept = jax.tree.map(
        lambda leaf, like: leaf.astype(like.dtype), params, random_params(frozen, jnp.bfloat16, open_updates=False)
    )
    expected = features(FULL, params, jnp.bfloat16)
    assert np.abs(features(frozen, kept, jnp.bfloat16) - expected).max() <= 2e-2 * np.abs(expected).max()
    np.testing.assert_array_equal(features(frozen, params), features(FULL, params))


def test_merged_weights_are_the_same_function():
    """Without updates, the pLM of the merged weights has the features of the one with them."""
    params = random_params(LORA, open_updates=True)
    merged = merge_lora(params, LORA)
    shapes = (jax.tree.map(jnp.shape, tree) for tree in (merged.params, random_params(FULL, open_updates=False)))
    assert next(shapes) == next(shapes)
    expected, found = features(LORA, params), features(FULL, merged.params)
    assert np.abs(found - expected).max() <= MERGE_TOLERANCE * np.abs(expected).max()
    layer = jax.tree.map(np.asarray, params["layers_1"])
    update = layer["fc2_lora"]["a"]["kernel"] @ layer["fc2_lora"]["b"]["kernel"] * (16.0 / 3)
    kernel = merged.params["layers_1"]["fc2"]["kernel"]
    np.testing.assert_allclose(kernel, layer["fc2"]["kernel"] + update, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unmerging_gives_back_the_bits(dtype):
    """Weights, factors and their types; a merged weight is float32 whatever the frozen one was."""
    params = {"encoder": {"plm": random_params(LORA, jnp.dtype(dtype), open_updates=True)}, "head": np.ones(2)}
    merged = merge_lora(params, LORA)
    assert merged.params["encoder"]["plm"]["layers_0"]["fc1"]["kernel"].dtype == np.float32
    back = unmerge_lora(merged)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    assert jax.tree.map(lambda leaf: leaf.dtype, back) == jax.tree.map(lambda leaf: leaf.dtype, params)


def test_parameters_of_another_config_are_refused():
    """Merging what has no updates, or others, says what is there and what the config has."""
    with pytest.raises(ValueError, match=r"needs a config with learning\.mode 'lora', this one has 'full'"):
        merge_lora({}, FULL)
    other = dataclasses.replace(FULL, learning=LearningConfig(mode="lora", rank=2, targets=("v_proj",)))
    with pytest.raises(ValueError, match=r"updates \(target, rank\) \[\('v_proj', 2\)\], the parameters \[\]"):
        merge_lora(random_params(FULL, open_updates=False), other)
    with pytest.raises(ValueError, match=r"\[\('v_proj', 2\)\], the parameters \[\('fc1', 3\), \('fc2', 3\)"):
        merge_lora(random_params(LORA, open_updates=True), other)
