"""Task heads on the fused encoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import EncoderConfig, HeadConfig
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.encoder import EncoderOutput, FusedEncoder
from bihf_jax.models.plm import layer_norm

Array = jax.Array


class ResidueHead(nn.Module):
    """LayerNorm, one hidden layer with GELU, and the logits of each residue."""

    config: HeadConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, representation: Array, row_id: Array | None = None) -> Array:
        """Representation [R, L, C] -> logits [R, L, num_outputs] float32; values at absent slots mean nothing."""
        x = layer_norm("norm", self.dtype)(representation)
        x = nn.gelu(nn.Dense(self.config.hidden_width, dtype=self.dtype, name="hidden")(x))
        x = Dropout(self.config.dropout, name="dropout")(x, row_id)
        return nn.Dense(self.config.num_outputs, dtype=jnp.float32, name="logits")(x)


class ResidueModel(nn.Module):
    """The fused encoder with a residue head: what the residue tasks (`ppbs`, `bce`) train.

    `ResidueModel(encoder_config, HeadConfig(num_outputs=1)).apply(variables, batch, row_id, rngs={"dropout": key})`.
    """

    encoder_config: EncoderConfig
    head_config: HeadConfig

    def setup(self) -> None:
        self.encoder = FusedEncoder(self.encoder_config)
        self.head = ResidueHead(self.head_config, jnp.dtype(self.encoder_config.dtype))

    def __call__(self, batch: ProteinBatch, row_id: Array | None = None) -> Array:
        """Logits [R, L, num_outputs] float32 of every slot; `row_id` [R] turns dropout on."""
        return self.logits_and_features(batch, row_id)[0]

    def logits_and_features(self, batch: ProteinBatch, row_id: Array | None = None) -> tuple[Array, EncoderOutput]:
        """The logits, and what the encoder made on the way to them."""
        encoded = self.encoder(batch, row_id)
        return self.head(encoded.representation, row_id), encoded
