"""The fused encoder: sequence and structure side by side, exchanging information after every stage."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import EncoderConfig
from bihf_jax.models.dropout import Dropout, ResidueMasking
from bihf_jax.models.fusion import FUSIONS, SlotMasks
from bihf_jax.models.plm import ProteinLanguageModel, layer_norm
from bihf_jax.models.structure import structure_encoder

Array = jax.Array


class EncoderOutput(NamedTuple):
    """Features of every slot; zeros where the side (for `representation`, both sides) is absent.

    A side that the config does not run (`EncoderConfig.sides`) is None.
    """

    representation: Array  # [R, L, representation_width] both sides merged
    sequence: Array | None  # [R, L, pLM width] after the pLM's last LayerNorm
    structure: Array | None  # [R, L, structure width] invariant features
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
        self.structure = structure_encoder(config.structure.name)(config.structure, config.stages, self.dtype)
        exchanges = config.stages if config.fusion.kind != "none" else 0
        self.fusions = [
            FUSIONS[config.fusion.kind](config.fusion, self.dtype, config.attention) for _ in range(exchanges)
        ]
        self.structure_norm = layer_norm(None, self.dtype)
        self.merge_dense = nn.Dense(config.representation_width, dtype=self.dtype)
        self.dropout = Dropout(config.dropout)
        self.residue_masking = ResidueMasking(config.residue_masking)

    def __call__(self, batch: ProteinBatch, row_id: Array | None = None) -> EncoderOutput:
        """Encodes a residue grid.

        Args:
          batch: R rows of L slots.
          row_id: [R] int32 global row ids, which turn dropout on; None evaluates.

        Returns:
          EncoderOutput in the compute dtype.
        """
        sides, layers = self.config.sides, self.config.plm_layers_of_stage
        batch = batch._replace(tokens=self.residue_masking(batch.tokens, row_id))
        masks = SlotMasks.of(batch)
        sequence = structure = carry = None
        if "sequence" in sides:
            sequence = self.plm.embed(batch.tokens, batch.chain_segment, batch.sequence_mask)  # [R, L, Cs]
        if "structure" in sides:
            structure = self.structure.embed(batch, row_id)  # scalars [R, L, Cg] and what else the encoder has
        intermediates = {}
        for part, stage in self.config.schedule:
            if part == "sequence":
                sequence = self.plm.blocks(layers[stage], sequence, batch.chain_segment, batch.sequence_mask, row_id)
            elif part == "structure":
                structure = self.structure.stage(stage, structure, row_id)
            else:
                fused = self.fusions[stage](sequence, self.structure.scalars(structure), masks, carry, row_id)
                sequence = sequence + fused.sequence_update
                structure = self.structure.add_scalars(structure, fused.structure_update)
                carry = fused.carry
                intermediates |= {f"stage{stage + 1}/{name}": value for name, value in fused.intermediates.items()}
        if sequence is not None:
            sequence = jnp.where(masks.sequence[..., None], self.plm.finish(sequence), 0)
        if structure is not None:
            structure = self.structure.scalars(structure)
        representation = self._merge(sequence, structure, masks, row_id)
        return EncoderOutput(representation, sequence, structure, intermediates)

    def _merge(self, sequence: Array | None, structure: Array | None, masks: SlotMasks, row_id: Array | None) -> Array:
        """Dense of the normalised sides that make the representation, each zero where it is absent: [R, L, C]."""
        output, parts = self.config.fusion.output, []
        if output != "structure":
            parts.append(sequence)  # the pLM's last LayerNorm is its normalisation
        if output != "sequence":
            parts.append(jnp.where(masks.structure[..., None], self.structure_norm(structure), 0))
        representation = self.merge_dense(jnp.concatenate(parts, axis=-1))
        representation = jnp.where(masks.any_side[..., None], representation, 0)
        return self.dropout(representation, row_id)
