"""The fused encoder: sequence and structure side by side, exchanging information after every stage."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import EncoderConfig
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.fusion import FUSIONS, SlotMasks
from bihf_jax.models.plm import ProteinLanguageModel, layer_norm
from bihf_jax.models.structure import STRUCTURE_ENCODERS

Array = jax.Array


class EncoderOutput(NamedTuple):
    """Features of every slot; zeros where the side (for `representation`, both sides) is absent."""

    representation: Array  # [R, L, representation_width] both sides merged
    sequence: Array  # [R, L, pLM width] after the pLM's last LayerNorm
    structure: Array  # [R, L, structure width] invariant features
    intermediates: dict[str, Array]  # by stage and name, e.g. "stage1/gate"


class FusedEncoder(nn.Module):
    """Bidirectional Hierarchical Fusion (arXiv 2504.04770).

    `FusedEncoder(config).apply(variables, batch)` evaluates; with the row ids and a "dropout" key it trains:
    `.apply(variables, batch, batch.row_id, rngs={"dropout": step_key})`.
    """

    config: EncoderConfig

    def setup(self) -> None:
        config = self.config
        self.dtype = jnp.dtype(config.dtype)
        self.plm = ProteinLanguageModel(config.plm, self.dtype, config.attention)
        self.structure = STRUCTURE_ENCODERS[config.structure.name](config.structure, config.stages, self.dtype)
        fusion = FUSIONS[config.fusion.kind]
        self.fusions = [fusion(config.fusion, self.dtype, config.attention) for _ in range(config.stages)]
        self.structure_norm = layer_norm(None, self.dtype)
        self.merge_dense = nn.Dense(config.representation_width, dtype=self.dtype)
        self.dropout = Dropout(config.dropout)

    def __call__(self, batch: ProteinBatch, row_id: Array | None = None) -> EncoderOutput:
        """Encodes a residue grid.

        Args:
          batch: R rows of L slots.
          row_id: [R] int32 global row ids, which turn dropout on; None evaluates.

        Returns:
          EncoderOutput in the compute dtype.
        """
        masks = SlotMasks(batch.sequence_mask, batch.structure_mask, batch.protein_segment)
        sequence = self.plm.embed(batch.tokens, batch.chain_segment, batch.sequence_mask)  # [R, L, Cs]
        structure = self.structure.embed(batch)  # scalars [R, L, Cg] and what else the encoder has
        intermediates = {}
        for stage, layers in enumerate(self.config.plm_layers_of_stage):
            for layer in layers:
                sequence = self.plm.block(layer, sequence, batch.chain_segment, batch.sequence_mask, row_id)
            structure = self.structure.stage(stage, structure, row_id)
            fused = self.fusions[stage](sequence, self.structure.scalars(structure), masks, row_id)
            sequence = sequence + fused.sequence_update
            structure = self.structure.add_scalars(structure, fused.structure_update)
            intermediates |= {f"stage{stage + 1}/{name}": value for name, value in fused.intermediates.items()}
        return self._merge(self.plm.finish(sequence), self.structure.scalars(structure), masks, intermediates, row_id)

    def _merge(
        self, sequence: Array, structure: Array, masks: SlotMasks, intermediates: dict[str, Array], row_id: Array | None
    ) -> EncoderOutput:
        """Dense of the two normalised sides, each zero where it is absent."""
        sequence = jnp.where(masks.sequence[..., None], sequence, 0)  # the pLM's last LayerNorm is its normalisation
        normed_structure = jnp.where(masks.structure[..., None], self.structure_norm(structure), 0)
        representation = self.merge_dense(jnp.concatenate([sequence, normed_structure], axis=-1))  # [R, L, C]
        representation = jnp.where(masks.any_side[..., None], representation, 0)
        return EncoderOutput(self.dropout(representation, row_id), sequence, structure, intermediates)
