"""The fused encoder: sequence and structure side by side, exchanging information after every stage."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import EncoderConfig
from bihf_jax.models.dense import Dense
from bihf_jax.models.dropout import Dropout, ResidueMasking
from bihf_jax.models.features import visible
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
    intermediates: dict[str, Array]  # by stage and name, e.g. "stage1/gate"; see `FusedEncoder`


class FusedEncoder(nn.Module):
    """Bidirectional Hierarchical Fusion (arXiv 2504.04770).

    `FusedEncoder(config).apply(variables, batch)` evaluates; with the row ids and a "dropout" key it trains:
    `.apply(variables, batch, batch.row_id, rngs={"dropout": step_key})`.

    Intermediates of the stages, from 1; what nobody reads of them is not computed in a compiled program:
    "stageN/sequence" [R, L, pLM width] and "stageN/structure" [R, L, structure width], the side's features at the end
    of the stage, with the update of the exchange after it; "stageN/sequence_change" and "stageN/structure_change"
    [R, L] float32, how long the update was, relative to the features it was added to; and what the fusion adds.
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
        self.merge_dense = Dense(config.representation_width, dtype=self.dtype)
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
        batch = visible(batch, self.config.structure)
        batch = batch._replace(tokens=self.residue_masking(batch.tokens, row_id))
        masks = SlotMasks.of(batch)
        sequence = structure = carry = None
        if "sequence" in sides:
            sequence = self.plm.start(batch.tokens, batch.chain_segment, batch.sequence_mask)  # features [R, L, Cs]
        if "structure" in sides:
            structure = self.structure.embed(batch, row_id)  # scalars [R, L, Cg] and what else the encoder has
        intermediates: dict[str, Array] = {}
        reached: dict[str, str] = {}  # side -> the last stage that it went through
        for part, stage in self.config.schedule:
            name = f"stage{stage + 1}"
            if part == "sequence":
                sequence = self.plm.stage(layers[stage], sequence, row_id)
                reached[part] = name
            elif part == "structure":
                structure = self.structure.stage(stage, structure, row_id)
                reached[part] = name
            else:
                features, scalars = self.plm.features(sequence), self.structure.scalars(structure)
                fused = self.fusions[stage](features, scalars, masks, carry, row_id)
                intermediates |= {f"{name}/{key}": value for key, value in fused.intermediates.items()}
                intermediates[f"{name}/sequence_change"] = _relative_length(fused.sequence_update, features)
                intermediates[f"{name}/structure_change"] = _relative_length(fused.structure_update, scalars)
                sequence = self.plm.add_features(sequence, fused.sequence_update)
                structure = self.structure.add_scalars(structure, fused.structure_update)
                carry = fused.carry
            if "sequence" in reached:
                intermediates[f"{reached['sequence']}/sequence"] = self.plm.features(sequence)
            if "structure" in reached:
                intermediates[f"{reached['structure']}/structure"] = self.structure.scalars(structure)
        if sequence is not None:
            sequence = jnp.where(masks.sequence[..., None], self.plm.output(sequence), 0)
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


def _relative_length(update: Array, x: Array) -> Array:
    """|update| / |x| over the last axis, float32; 0 where x is 0."""
    update_length, length = (jnp.linalg.norm(value.astype(jnp.float32), axis=-1) for value in (update, x))
    return jnp.where(length > 0, update_length / jnp.where(length > 0, length, 1), 0)
