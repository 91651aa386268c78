"""The floor is a proper encoder: what is compared with it does not win by its defects."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import floor
from bihf_jax.models import FusedEncoder
from bihf_jax.models.structure import STRUCTURE_ENCODERS
from bihf_jax.training.config import ConfigError, experiment_config
from experiments import imports
from tests.models.batches import (
    noise_where_masked,
    pack,
    quick_jit,
    random_protein,
    random_rotation,
    random_variables,
    transform,
)


def test_the_floor_is_symmetric_and_sees_no_masked_value():
    """Motions change nothing, a mirror image does; alone is as in company; masked values reach nothing."""
    config = experiment_config(floor.get_config("records=none").to_dict()).encoder
    assert config.sides == ("structure",)
    encoder = FusedEncoder(config)
    first, second = random_protein(1), random_protein(2)
    batch = pack([[first, second], []], length=48)
    variables = random_variables(encoder, batch)
    encode = quick_jit(lambda batch: encoder.apply(variables, batch).representation)
    plain = encode(batch)
    moved = encode(transform(batch, random_rotation(1), np.asarray([20.0, -3.0, 7.0])))
    np.testing.assert_allclose(moved, plain, atol=2e-4)
    mirrored = encode(transform(batch, np.diag([1.0, 1.0, -1.0]).astype(np.float32), np.zeros(3)))
    assert jnp.abs(mirrored - plain).max() > 1e-2
    np.testing.assert_array_equal(encode(noise_where_masked(batch, 2, invalid=True)), plain)
    alone = encode(pack([[], [second]], length=48))
    np.testing.assert_allclose(alone[1, : second.slots], plain[0, first.slots : first.slots + second.slots], atol=1e-5)


def test_imports_make_an_own_encoder_known(monkeypatch):
    """A module that registers an encoder is imported by name; one that is not there is named."""
    monkeypatch.delitem(STRUCTURE_ENCODERS, "local_frames")
    monkeypatch.delitem(sys.modules, "benchmarks.floor")
    imports.load(["benchmarks.floor"])
    assert "local_frames" in STRUCTURE_ENCODERS
    with pytest.raises(ConfigError, match=r"--imports my\.encoder: No module named 'my'"):
        imports.load(["my.encoder"])
