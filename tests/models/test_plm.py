"""Tests of `bihf_jax.models.plm`; that it is ESM-2 is tested in tests/pretrained/test_parity.py."""

import functools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models.config import PLM_SIZES, PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel, chain_positions, mask_rescaling
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


def test_positions_restart_at_every_chain():
    """A position is the slot's offset in its chain, wherever the chain stands."""
    segment = jnp.asarray([[0, 1, 1, 1, 2, 2, 0, 3], [1, 1, 2, 2, 2, 0, 0, 0]])
    positions = chain_positions(segment)
    np.testing.assert_array_equal(positions, [[0, 0, 1, 2, 0, 1, 0, 0], [0, 1, 0, 1, 2, 0, 1, 2]])


def test_mask_rescaling_is_per_chain():
    """Each chain is rescaled by its own share of <mask>, special tokens counted; one without <mask> by 0.88."""
    chains = [np.asarray([0, 5, 32, 32, 2]), np.asarray([0, 5, 5, 2])]
    tokens, segment, mask = in_one_row(chains, 12)
    factor = mask_rescaling(tokens, segment, mask)[0]
    np.testing.assert_allclose(factor[:5], 0.88 / (1 - 2 / 5), rtol=1e-6)
    np.testing.assert_allclose(factor[5:9], 0.88, rtol=1e-6)


def test_named_size_with_a_change_and_an_unknown_one():
    """`PLMConfig.named` gives a published size with changes, and lists the sizes for another name."""
    assert PLMConfig.named("esm2_t33_650M_UR50D", remat=True).width == 1280
    with pytest.raises(ValueError, match=r"esm2_t99.*esm2_t6_8M_UR50D"):
        PLMConfig.named("esm2_t99")
