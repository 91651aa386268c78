"""Tests of `bihf_jax.models.plm`; that it is ESM-2 is tested in tests/pretrained/test_parity.py."""

import dataclasses
import functools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models.config import PLM_SIZES, PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel, mask_rescaling
from tests.models.chains import in_one_row, random_chains


def parameter_shapes(plm, row):
    """Shapes of all parameters, the language-model head's among them; nothing is computed."""
    init = functools.partial(plm.init, method="token_logits")
    return jax.tree.map(jnp.shape, jax.eval_shape(init, jax.random.key(0), *row)["params"])


def test_published_sizes():
    """Published sizes have the checkpoints' number of parameters, less the contact head we do not have."""
    # Counted in transformers 5.23 (`EsmForMaskedLM` on the meta device), without its contact head.
    counts = {"esm2_t6_8M_UR50D": 7_512_353, "esm2_t12_35M_UR50D": 33_501_153, "esm2_t33_650M_UR50D": 651_042_593}
    for name, expected in counts.items():
        plm = ProteinLanguageModel(PLM_SIZES[name])
        shapes = flax.traverse_util.flatten_dict(parameter_shapes(plm, in_one_row(random_chains(0, (4,)), 8)))
        assert sum(math.prod(shape) for shape in shapes.values()) == expected


def test_mask_rescaling_is_per_chain():
    """Each chain is rescaled by its own share of <mask>, special tokens counted; one without <mask> by 0.88."""
    chains = [np.asarray([0, 5, 32, 32, 2]), np.asarray([0, 5, 5, 2])]
    tokens, segment, mask = in_one_row(chains, 12)
    factor = mask_rescaling(tokens, segment, mask)[0]
    np.testing.assert_allclose(factor[:5], 0.88 / (1 - 2 / 5), rtol=1e-6)
    np.testing.assert_allclose(factor[5:9], 0.88, rtol=1e-6)


def features_and_gradients(config, params, row, row_id=None):
    """Finished features of a row, and the gradients of a fixed sum of them by every parameter."""
    plm = ProteinLanguageModel(config)

    def total(params):
        features = plm.apply({"params": params}, *row, row_id, rngs={"dropout": jax.random.key(7)})
        return jnp.sum(features * jnp.sin(jnp.arange(features.size).reshape(features.shape))), features

    gradients, features = jax.jit(jax.grad(total, has_aux=True))(params)
    return features, gradients


@pytest.mark.parametrize("remat", [{}, {"remat": True}, {"remat": True, "remat_keeps": "products"}], ids=str)
def test_scan_is_the_loop(remat):
    """Blocks as a loop of the program have the parameters, the features and the gradients of the unrolled ones."""
    loop = PLMConfig(layers=3, width=16, heads=2)
    scan = dataclasses.replace(loop, scan=True, **remat)
    row = in_one_row(random_chains(1, (9, 5)), 24)
    params = ProteinLanguageModel(loop).init(jax.random.key(0), *row)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, ProteinLanguageModel(scan).init(jax.random.key(0), *row)["params"]
    )
    expected, found = (features_and_gradients(config, params, row) for config in (loop, scan))
    for (path, value), (_, wanted) in zip(*map(jax.tree_util.tree_leaves_with_path, (found, expected)), strict=True):
        assert np.abs(value - wanted).max() <= 1e-5 * max(np.abs(wanted).max(), 1.0), jax.tree_util.keystr(path)


def test_scanned_blocks_are_compiled_once():
    """The program of 12 scanned blocks has as many matrix products as that of 2."""
    row = in_one_row(random_chains(1, (9,)), 16)

    def products(layers, scan):
        plm = ProteinLanguageModel(PLMConfig(layers=layers, width=16, heads=2, scan=scan))
        variables = jax.eval_shape(plm.init, jax.random.key(0), *row)
        return jax.jit(plm.apply).lower(variables, *row).as_text().count("dot_general")

    assert products(12, scan=True) == products(2, scan=True) < products(2, scan=False)


@pytest.mark.parametrize("scan", [False, True])
def test_what_is_kept_is_not_computed_again(scan):
    """A backward pass recomputes all products of a block, or those of its attention alone, or none."""
    row = in_one_row(random_chains(1, (9,)), 16)

    def products(**remat):
        plm = ProteinLanguageModel(PLMConfig(layers=2, width=16, heads=2, scan=scan, **remat), attention="dense")
        variables = jax.eval_shape(plm.init, jax.random.key(0), *row)
        backward = jax.grad(lambda variables: jnp.sum(plm.apply(variables, *row) ** 2))
        return jax.jit(backward).lower(variables).as_text().count("dot_general")

    blocks = 1 if scan else 2
    plain, kept, all_again = products(), products(remat=True, remat_keeps="products"), products(remat=True)
    assert plain < kept < all_again
    assert all_again - kept >= 5 * blocks  # the dense layers but the last, whose result nothing reads


def test_scanned_blocks_drop_out_by_layer_and_row_id():
    """Every scanned block drops other values; a row's depend on its id and not on its place."""
    config = PLMConfig(layers=3, width=16, heads=2, dropout=0.5, scan=True)
    first, second = (in_one_row(random_chains(seed, (9,)), 16) for seed in (1, 2))
    params = ProteinLanguageModel(config).init(jax.random.key(0), *first)["params"]
    rows, swapped = (jax.tree.map(lambda *x: jnp.concatenate(x), *pair) for pair in ((first, second), (second, first)))
    features, _ = features_and_gradients(config, params, rows, jnp.asarray([3, 8]))
    other_place, _ = features_and_gradients(config, params, swapped, jnp.asarray([8, 3]))
    other_id, _ = features_and_gradients(config, params, rows, jnp.asarray([3, 9]))
    np.testing.assert_allclose(features, other_place[::-1], atol=1e-6)
    np.testing.assert_allclose(features[0], other_id[0], atol=1e-6)
    assert np.abs(features[1] - other_id[1]).max() > 0.1

    # With all blocks alike, a block that only adds a constant shows its mask: kept values are twice the constant.
    alike = jax.tree.map(jnp.zeros_like, params)
    for layer in range(3):
        alike[f"layers_{layer}"]["fc2"]["bias"] = jnp.full(16, 4.0**layer)
    plm = ProteinLanguageModel(config)
    rngs = {"dropout": jax.random.key(7)}
    args = (range(3), jnp.zeros((1, 16, 16)), *first[1:], jnp.asarray([3]))
    total = plm.apply({"params": alike}, *args, method="blocks", rngs=rngs)
    kept = [(total // (2 * 4.0**layer)) % 2 for layer in (0, 1, 2)]
    for layer in range(3):
        assert 0.3 < kept[layer].mean() < 0.7
        assert (kept[layer] != kept[layer - 1]).mean() > 0.3


def test_named_size_with_a_change_and_an_unknown_one():
    """`PLMConfig.named` gives a published size with changes, and lists the sizes for another name."""
    assert PLMConfig.named("esm2_t33_650M_UR50D", remat=True).width == 1280
    with pytest.raises(ValueError, match=r"esm2_t99.*esm2_t6_8M_UR50D"):
        PLMConfig.named("esm2_t99")
