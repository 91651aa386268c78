"""The pLM alone with its head for masked tokens: what the task `mlm` pretrains."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import EncoderConfig
from bihf_jax.models.encoder import EncoderOutput
from bihf_jax.models.plm import ProteinLanguageModel

Array = jax.Array


class MaskedLanguageModel(nn.Module):
    """ESM-2 on the residue grid. Of the encoder's config it reads `plm`, `dtype` and `attention`."""

    encoder_config: EncoderConfig

    def setup(self) -> None:
        config = self.encoder_config
        self.plm = ProteinLanguageModel(config.plm, jnp.dtype(config.dtype), config.attention)

    def __call__(self, batch: ProteinBatch, row_id: Array | None = None) -> Array:
        """Logits [R, L, vocab] float32 of every slot; `row_id` [R] turns dropout on."""
        return self.logits_and_features(batch, row_id)[0]

    def logits_and_features(self, batch: ProteinBatch, row_id: Array | None = None) -> tuple[Array, EncoderOutput]:
        """The logits, and the features on the way to them, which are the representation too."""
        features = self.plm(batch.tokens, batch.chain_segment, batch.sequence_mask, row_id)
        features = jnp.where(batch.sequence_mask[..., None], features, 0)
        return self.plm.logits(features), EncoderOutput(features, features, None, {})
