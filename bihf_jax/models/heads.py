"""Task heads on the fused encoder: logits of each residue, or of each protein."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import EncoderConfig, HeadConfig
from bihf_jax.models.dense import Dense
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.encoder import EncoderOutput, FusedEncoder
from bihf_jax.models.features import visible
from bihf_jax.models.plm import layer_norm

Array = jax.Array

# Name among the intermediates of the encoder under which the weights of a protein's residues are returned.
POOLING_WEIGHT = "pooling_weight"


class Head(nn.Module):
    """LayerNorm, for proteins the pooling of their residues, one hidden layer with GELU, and the logits."""

    config: HeadConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, representation: Array, protein: Array, num_proteins: int, row_id: Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Logits of every unit.

        Args:
          representation: [R, L, C].
          protein: [R, L] int32 number of the residue's protein within the row, 1 to `num_proteins`; 0 at slots that
            are pooled into none. Residue heads do not read it.
          num_proteins: G.
          row_id: [R], which turns dropout on.

        Returns:
          Logits [R, L, num_outputs], for proteins [R, G, num_outputs], float32: where a slot or protein is absent they
          mean nothing. And what there is to look at: for proteins `POOLING_WEIGHT` [R, L] float32.
        """
        x, seen = layer_norm("norm", self.dtype)(representation), {}
        if self.config.unit == "protein":
            member = protein[..., None] == jnp.arange(1, num_proteins + 1)  # [R, L, G]
            weight = self._weights(x, member)
            seen[POOLING_WEIGHT] = weight
            x = pool(x, weight, member).astype(self.dtype)
        x = nn.gelu(Dense(self.config.hidden_width, dtype=self.dtype, name="hidden")(x))
        x = Dropout(self.config.dropout, name="dropout")(x, row_id)
        return Dense(self.config.num_outputs, dtype=jnp.float32, name="logits")(x), seen

    def _weights(self, x: Array, member: Array) -> Array:
        """[R, L] float32 weights of the residues, which add up to 1 in each protein.

        "attention" is a softmax over the protein of a small network of each residue, as in attention-based
        multiple-instance learning (Ilse et al. 2018, equation 8); its last layer starts at zero, where it is the mean.
        """
        if self.config.pooling == "mean":
            return protein_softmax(jnp.zeros(x.shape[:2], jnp.float32), member)
        hidden = nn.tanh(Dense(self.config.hidden_width, dtype=self.dtype, name="attention_hidden")(x))
        vote = Dense(1, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name="attention_vote")(hidden)
        return protein_softmax(vote[..., 0], member)


def protein_softmax(votes: Array, member: Array) -> Array:
    """Softmax of votes [R, L] over the slots of each protein, `member` [R, L, G] bool: [R, L]; 0 where in none."""
    votes = votes.astype(jnp.float32)
    highest = jnp.max(jnp.where(member, jax.lax.stop_gradient(votes)[..., None], -jnp.inf), axis=1)  # [R, G]
    inside = jnp.any(member, axis=-1)
    shifted = jnp.where(inside, votes - _of_slot(highest, member), 0.0)
    power = jnp.where(inside, jnp.exp(shifted), 0.0)
    total = jnp.sum(jnp.where(member, power[..., None], 0.0), axis=1)  # [R, G]
    return jnp.where(inside, power / jnp.where(inside, _of_slot(total, member), 1.0), 0.0)


def _of_slot(values: Array, member: Array) -> Array:
    """Values of proteins [R, G] at their slots [R, L]; 0 at slots of none."""
    return jnp.sum(jnp.where(member, values[:, None, :], 0.0), axis=-1)


def pool(x: Array, weight: Array, member: Array) -> Array:
    """Weighted sum of x [R, L, C] over the slots of each protein: [R, G, C] float32; 0 for a protein without slots."""
    of_protein = jnp.where(member, weight[..., None], 0.0)  # [R, L, G]
    x = jnp.where(jnp.any(member, axis=-1, keepdims=True), x.astype(jnp.float32), 0.0)  # 0 x nan would be nan
    return jnp.einsum("rlg,rlc->rgc", of_protein, x, precision=jax.lax.Precision.HIGHEST)


class TaskModel(nn.Module):
    """The fused encoder with a head: what every task trains.

    `TaskModel(encoder_config, HeadConfig(num_outputs=1)).apply(variables, batch, row_id, rngs={"dropout": key})`.
    """

    encoder_config: EncoderConfig
    head_config: HeadConfig

    def setup(self) -> None:
        self.encoder = FusedEncoder(self.encoder_config)
        self.head = Head(self.head_config, jnp.dtype(self.encoder_config.dtype))

    def __call__(self, batch: ProteinBatch, row_id: Array | None = None) -> Array:
        """Logits float32 of every slot [R, L, num_outputs], or of every graph slot [R, G, num_outputs] where the head
        is of proteins; `row_id` [R] turns dropout on."""
        return self.logits_and_features(batch, row_id)[0]

    def logits_and_features(self, batch: ProteinBatch, row_id: Array | None = None) -> tuple[Array, EncoderOutput]:
        """The logits, and what the encoder made on the way to them; for proteins its intermediates have
        `POOLING_WEIGHT` too."""
        encoded = self.encoder(batch, row_id)
        protein = jnp.where(self._pooled(batch), batch.protein_segment, 0)
        logits, seen = self.head(encoded.representation, protein, batch.record.shape[-1], row_id)
        return logits, encoded._replace(intermediates=encoded.intermediates | seen)

    def _pooled(self, batch: ProteinBatch) -> Array:
        """[R, L] bool: residues and ligand atoms (no special tokens) of which the representation knows something."""
        batch = visible(batch, self.encoder_config.structure)
        output = self.encoder_config.fusion.output
        known = {"sequence": batch.sequence_mask, "structure": batch.structure_mask}.get(
            output, batch.sequence_mask | batch.structure_mask
        )
        return known & (batch.tokens != alphabet.CLS) & (batch.tokens != alphabet.EOS)
