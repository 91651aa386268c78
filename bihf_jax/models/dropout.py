"""Dropout, masking and noise that depend on the step's key, the module's path and the global row id: nothing else."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data import alphabet

Array = jax.Array


class Dropout(nn.Module):
    """Drops values and scales the others, so that the expectation stays.

    Each row of the batch draws from its own key, so neither the number of devices nor a row's position on a device
    changes its mask. Needs the "dropout" stream of random keys wherever it is active.

    Attributes:
      rate: Share dropped, 0 <= rate < 1.
      shared_axes: Axes along which all values share one decision, e.g. (-2,) for the x, y, z of a vector.
    """

    rate: float
    shared_axes: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, row_id: Array | None) -> Array:
        """Drops from x.

        Args:
          x: [R, ...] any float dtype.
          row_id: [R] int32 global row ids; None (evaluation) returns x as it is.

        Returns:
          Array like x.
        """
        if row_id is None or self.rate == 0.0:
            return x
        shape = list(x.shape)
        for axis in self.shared_axes:
            shape[axis] = 1
        keep = _keep_rows(self.make_rng("dropout"), row_id, tuple(shape[1:]), 1.0 - self.rate)
        return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros_like(x))


class ResidueMasking(nn.Module):
    """Hides residue types: a share of the residues' tokens becomes <mask> in training, special tokens never.

    Attributes:
      rate: Share hidden, 0 <= rate < 1.
    """

    rate: float

    @nn.compact
    def __call__(self, tokens: Array, row_id: Array | None) -> Array:
        """Tokens [R, L] int32 and row ids as in `Dropout` -> tokens [R, L]."""
        if row_id is None or self.rate == 0.0:
            return tokens
        keep = _keep_rows(self.make_rng("dropout"), row_id, tokens.shape[1:], 1.0 - self.rate)
        special = jnp.isin(tokens, jnp.asarray((alphabet.CLS, alphabet.PAD, alphabet.EOS)))
        return jnp.where(keep | special, tokens, alphabet.MASK)


class Noise(nn.Module):
    """Adds Gaussian noise in training.

    Attributes:
      deviation: Standard deviation, 0 or more.
      clip: Deviations at which the noise ends.
    """

    deviation: float
    clip: float

    @nn.compact
    def __call__(self, x: Array, row_id: Array | None) -> Array:
        """x [R, ...] and row ids as in `Dropout` -> an array like x."""
        if row_id is None or self.deviation == 0.0:
            return x
        draw = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))
        noise = jnp.clip(draw(_row_keys(self.make_rng("dropout"), row_id)), -self.clip, self.clip)
        return x + (noise * self.deviation).astype(x.dtype)


def _row_keys(step_key: Array, row_id: Array) -> Array:
    """A key for each row: [R]."""
    return jax.vmap(lambda row: jax.random.fold_in(step_key, row))(row_id)


def _keep_rows(step_key: Array, row_id: Array, shape: tuple[int, ...], probability: float) -> Array:
    """`_keep_mask` of each row, from a key of its own: [R, *shape]."""
    return jax.vmap(lambda key: _keep_mask(key, shape, probability))(_row_keys(step_key, row_id))


def _keep_mask(key: Array, shape: tuple[int, ...], probability: float) -> Array:
    """Random bool array, True with `probability` (to 2^-16); two values per random word, as words are what costs."""
    size = 1
    for length in shape:
        size *= length
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]
    threshold = min(round(probability * 2**16), 2**16 - 1)
    return (halves < threshold).reshape(shape)
