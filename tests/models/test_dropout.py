"""Tests of `bihf_jax.models.dropout`."""

import jax
import jax.numpy as jnp
import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.models.dropout import Dropout, Noise, ResidueMasking


def drop(x, row_id, seed=0, **options):
    return Dropout(**options).apply({}, x, row_id, rngs={"dropout": jax.random.key(seed)})


def test_without_row_ids_nothing_is_dropped():
    """Evaluation (row_id None) needs no key and changes nothing."""
    x = jnp.ones((2, 5, 3))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, None), x)


def test_mask_depends_on_the_row_id_only():
    """Rows regrouped on other devices, in another order, keep their masks; other ids and keys get other ones."""
    x = jnp.ones((4, 7, 6))
    whole = drop(x, jnp.arange(4), rate=0.5)
    parts = [drop(x[:2], jnp.asarray(ids), rate=0.5) for ids in ([3, 1], [0, 2])]
    np.testing.assert_array_equal(np.concatenate(parts), whole[jnp.asarray([3, 1, 0, 2])])
    assert np.any(np.asarray(whole[0]) != np.asarray(whole[1]))
    assert np.any(np.asarray(drop(x, jnp.arange(4), seed=1, rate=0.5)) != np.asarray(whole))


def test_rate_and_scale():
    """The share dropped is the rate and the rest is scaled so that the mean stays."""
    out = np.asarray(drop(jnp.ones((2, 300, 300)), jnp.arange(2), rate=0.3))
    assert abs(np.mean(out == 0) - 0.3) < 0.01
    np.testing.assert_allclose(out[out != 0], 1 / 0.7, rtol=1e-6)


def test_shared_axes_drop_whole_vectors():
    """With the xyz axis shared, a vector is kept or dropped whole, and single vectors are decided apart."""
    kept = np.asarray(drop(jnp.ones((2, 50, 3, 4)), jnp.arange(2), rate=0.5, shared_axes=(-2,))) != 0
    assert np.all(kept == kept[:, :, :1])
    assert 0 < kept[:, :, 0].mean() < 1
    assert np.any(kept[..., 0] != kept[..., 1])


def test_residue_masking_hides_residues_only():
    """About the share of the residues becomes <mask>, by row id; special tokens stay, and evaluation hides nothing."""
    masking = ResidueMasking(0.15)
    tokens = jnp.tile(jnp.asarray([alphabet.CLS, *[5] * 500, alphabet.EOS, *[alphabet.PAD] * 10]), (4, 1))
    row_id = jnp.asarray([3, 8, 3, 9])
    masked = np.asarray(masking.apply({}, tokens, row_id, rngs={"dropout": jax.random.key(0)}))
    hidden = masked == alphabet.MASK
    assert not hidden[:, [0, *range(501, 512)]].any()
    np.testing.assert_array_equal(masked[~hidden], np.asarray(tokens)[~hidden])
    assert abs(hidden[:, 1:501].mean() - 0.15) < 0.03
    np.testing.assert_array_equal(hidden[0], hidden[2])
    assert (hidden[0] != hidden[1]).any()
    np.testing.assert_array_equal(masking.apply({}, tokens, None), tokens)


def test_noise_has_its_deviation_and_its_ends():
    """Clipped Gaussian noise by row id, in the dtype of the values; none in evaluation."""
    x, row_id = jnp.full((3, 200, 50), 2.0, jnp.float32), jnp.asarray([4, 1, 4])
    noise = Noise(0.1, clip=2.0)
    out = np.asarray(noise.apply({}, x, row_id, rngs={"dropout": jax.random.key(0)})) - 2.0
    np.testing.assert_array_equal(out[0], out[2])
    assert np.any(out[0] != out[1])
    assert abs(np.abs(out).max() - 0.2) < 1e-5
    assert abs(out.mean()) < 2e-3
    assert abs(out.std() - 0.1 * 0.9594) < 2e-3  # a Gaussian clipped at 2 deviations has 0.9594 of them
    assert noise.apply({}, x.astype(jnp.bfloat16), row_id, rngs={"dropout": jax.random.key(0)}).dtype == jnp.bfloat16
    np.testing.assert_array_equal(noise.apply({}, x, None), x)
