"""Which residues mattered: gradient times input on the embedding of the sequence."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.plm import ProteinLanguageModel

_SPECIAL = (alphabet.CLS, alphabet.PAD, alphabet.EOS)


def gradient_times_embedding(scores: Callable[[], jax.Array], batch: ProteinBatch) -> jax.Array:
    """How much each residue's type contributes to the scores of its protein, to first order.

    The sum over channels of gradient times input (Shrikumar et al. 2016, arXiv 1605.01713) at the token embedding:
    about what the sum of the protein's scores would lose if the embedding of this residue were zero, which is what
    ESM-2 makes of <mask>. Only the way through the sequence side counts: what a structure encoder reads of residue
    types itself is not seen.

    Args:
      scores: applies the model to `batch`; [R, L] float32. What is at special tokens and padding does not count.
      batch: R rows of L slots.

    Returns:
      [R, L] float32; 0 at padding.
    """
    residue = batch.sequence_mask & ~jnp.isin(batch.tokens, jnp.asarray(_SPECIAL))

    # Where x is scaled by s = 1, d/ds f(s x) is the sum over channels of gradient times x.
    def total(scale: jax.Array) -> jax.Array:
        with nn.intercept_methods(_scaling(scale)):
            return jnp.sum(jnp.where(residue, scores(), 0))

    return jax.grad(total)(jnp.ones(batch.tokens.shape, jnp.float32))


def _scaling(scale: jax.Array) -> Callable[..., Any]:
    """Multiplies what `ProteinLanguageModel.embed` returns [R, L, C] with `scale` [R, L]."""

    def intercept(method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        value = method(*args, **kwargs)
        if isinstance(context.module, ProteinLanguageModel) and context.method_name == "embed":
            return (value.astype(jnp.float32) * scale[..., None]).astype(value.dtype)
        return value

    return intercept
