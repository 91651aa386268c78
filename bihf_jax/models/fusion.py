"""Fusion of the sequence and the structure side after a stage (arXiv 2504.04770), in two forms.

Both read each side through a LayerNorm (the residual streams grow with depth) and a projection into a shared width, and
give each side an update through a projection that starts at zero: at initialisation neither side changes.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.models.attention import segment_attention
from bihf_jax.models.config import FusionConfig
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.plm import layer_norm

Array = jax.Array


class SlotMasks(NamedTuple):
    """What exists at each slot."""

    sequence: Array  # [R, L] bool
    structure: Array  # [R, L] bool
    protein_segment: Array  # [R, L] int32, 0 is padding

    @property
    def any_side(self) -> Array:
        return self.sequence | self.structure


class FusionOutput(NamedTuple):
    """What one exchange adds to each side; zeros where the side is absent."""

    sequence_update: Array  # [R, L, Cs]
    structure_update: Array  # [R, L, Cg]
    intermediates: dict[str, Array]  # by name, for pictures and tests


def _project(x: Array, mask: Array, width: int, dtype: jnp.dtype, name: str) -> Array:
    """LayerNorm and Dense: [R, L, C] -> [R, L, width], zeros where masked. Only inside a compact method."""
    x = nn.Dense(width, dtype=dtype, name=f"{name}_in")(layer_norm(f"{name}_norm", dtype)(x))
    return jnp.where(mask[..., None], x, 0)


def _update(z: Array, mask: Array, width: int, dtype: jnp.dtype, name: str) -> Array:
    """Zero-initialised Dense: [R, L, C] -> [R, L, width], zeros where masked. Only inside a compact method."""
    update = nn.Dense(width, dtype=dtype, kernel_init=nn.initializers.zeros_init(), name=f"{name}_out")(z)
    return jnp.where(mask[..., None], update, 0)


class LocalFusion(nn.Module):
    """A gate at each slot: g = softmax(f(x1) + f(x2)) in R^2, z = g1 x1 + g2 x2.

    x1 and x2 are the projected sequence and structure features, f one vote MLP (C -> C -> 2) for both. A side that is
    absent casts no vote and its logit is minus infinity, so z is the other side; where both are absent z is 0.
    Intermediates: "gate" [R, L, 2] float32, the weights of sequence and structure.
    """

    config: FusionConfig
    dtype: jnp.dtype
    attention: str = "auto"  # not used; one signature for all fusions

    @nn.compact
    def __call__(self, sequence: Array, structure: Array, masks: SlotMasks, row_id: Array | None) -> FusionOutput:
        """Sequence [R, L, Cs] and structure [R, L, Cg] features -> updates of both."""
        width, dtype = self.config.width, self.dtype
        x1 = _project(sequence, masks.sequence, width, dtype, "sequence")  # [R, L, C]
        x2 = _project(structure, masks.structure, width, dtype, "structure")

        present = jnp.stack([masks.sequence, masks.structure], axis=-1)  # [R, L, 2]
        vote_hidden, vote = nn.Dense(width, dtype=dtype, name="vote_0"), nn.Dense(2, dtype=dtype, name="vote_1")
        votes = jnp.stack([vote(nn.gelu(vote_hidden(x))) for x in (x1, x2)], axis=-2)  # [R, L, voter, 2]
        logits = jnp.sum(jnp.where(present[..., None], votes, 0), axis=-2, dtype=jnp.float32)  # [R, L, 2]
        gate = jax.nn.softmax(jnp.where(present, logits, -1e30), axis=-1)
        gate = jnp.where(present, gate, 0.0)  # both absent: softmax gives 1/2 each

        z = gate[..., :1].astype(dtype) * x1 + gate[..., 1:].astype(dtype) * x2  # [R, L, C]
        z = Dropout(self.config.dropout, name="dropout")(z, row_id)
        return FusionOutput(
            _update(z, masks.sequence, sequence.shape[-1], dtype, "sequence"),
            _update(z, masks.structure, structure.shape[-1], dtype, "structure"),
            {"gate": gate},
        )


class GlobalFusion(nn.Module):
    """Multi-head self-attention over the slots of a protein, all its chains together.

    Every slot that has a sequence or a structure side is one token and attends to all such slots of its protein, <cls>
    and <eos> included. The token is the sum of the projected sequence and structure features, with a learned vector in
    place of a side that is absent. Queries, keys and values are read from the tokens' LayerNorm; z is the attention's
    output.
    Intermediates: "attended" [R, L, C], z before dropout.
    """

    config: FusionConfig
    dtype: jnp.dtype
    attention: str = "auto"

    @nn.compact
    def __call__(self, sequence: Array, structure: Array, masks: SlotMasks, row_id: Array | None) -> FusionOutput:
        """Sequence [R, L, Cs] and structure [R, L, Cg] features -> updates of both."""
        width, heads, dtype = self.config.width, self.config.heads, self.dtype
        tokens = _project(sequence, masks.sequence, width, dtype, "sequence")  # [R, L, C]
        tokens += _project(structure, masks.structure, width, dtype, "structure")
        for name, mask in (("sequence", masks.sequence), ("structure", masks.structure)):
            absent = self.param(f"{name}_absent", nn.initializers.normal(0.02), (width,)).astype(dtype)
            tokens += jnp.where(mask[..., None], 0, absent)

        tokens = layer_norm("token_norm", dtype)(tokens)
        query, key, value = (
            jnp.swapaxes(nn.Dense(width, dtype=dtype, name=name)(tokens).reshape(*tokens.shape[:2], heads, -1), 1, 2)
            for name in ("query", "key", "value")
        )  # [R, H, L, D]
        segment = jnp.where(masks.any_side, masks.protein_segment, 0)
        attended = segment_attention(query, key, value, segment, segment, self.attention)
        attended = jnp.swapaxes(attended, 1, 2).reshape(tokens.shape)  # [R, H, L, D] -> [R, L, C]
        z = nn.Dense(width, dtype=dtype, name="attention_out")(attended)

        dropped = Dropout(self.config.dropout, name="dropout")(z, row_id)
        return FusionOutput(
            _update(dropped, masks.sequence, sequence.shape[-1], dtype, "sequence"),
            _update(dropped, masks.structure, structure.shape[-1], dtype, "structure"),
            {"attended": z},
        )


FUSIONS: dict[str, type] = {
    "local": LocalFusion,
    "global": GlobalFusion,
}
