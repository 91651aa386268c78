"""Fusion of the sequence and the structure side after a stage (arXiv 2504.04770), and what it is compared with.

All read each side through a LayerNorm (the residual streams grow with depth) and a projection into a shared width, and
give each side that listens (`FusionConfig.direction`) an update through a projection that starts at zero: at
initialisation neither side changes. When they run, and which sides the model returns, is the encoder's matter.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.attention import segment_attention
from bihf_jax.models.config import FusionConfig
from bihf_jax.models.dense import Dense
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.plm import layer_norm

Array = jax.Array


class SlotMasks(NamedTuple):
    """What exists at each slot."""

    sequence: Array  # [R, L] bool
    structure: Array  # [R, L] bool
    protein_segment: Array  # [R, L] int32, 0 is padding
    protein: Array  # [R, G] bool: the graph slot holds a protein

    @classmethod
    def of(cls, batch: ProteinBatch) -> "SlotMasks":
        """The masks of a batch."""
        numbers = jnp.arange(1, batch.record.shape[-1] + 1)
        protein = jnp.any(batch.protein_segment[:, None, :] == numbers[:, None], axis=-1)
        return cls(batch.sequence_mask, batch.structure_mask, batch.protein_segment, protein)

    @property
    def any_side(self) -> Array:
        return self.sequence | self.structure

    @property
    def protein_slots(self) -> Array:
        """`protein_segment`, and 0 also where both sides are absent."""
        return jnp.where(self.any_side, self.protein_segment, 0)


class FusionOutput(NamedTuple):
    """What one exchange adds to each side; zeros where the side is absent or does not listen."""

    sequence_update: Array  # [R, L, Cs]
    structure_update: Array  # [R, L, Cg]
    intermediates: dict[str, Array]  # by name, for pictures and tests
    carry: Array | None = None  # what the exchange after the next stage starts from, where a fusion keeps something


class Fusion(nn.Module):
    """What all fusions share: their settings, how they read the two sides and how they answer.

    Attributes:
      config: Widths, dropout and which sides listen.
      dtype: Compute type.
      attention: Implementation of `segment_attention`, for those that attend.
    """

    config: FusionConfig
    dtype: jnp.dtype
    attention: str = "auto"

    def __call__(
        self, sequence: Array, structure: Array, masks: SlotMasks, carry: Array | None, row_id: Array | None
    ) -> FusionOutput:
        """Sequence [R, L, Cs] and structure [R, L, Cg] features, and the last exchange's carry -> updates of both."""
        raise NotImplementedError

    # The helpers make submodules, so they are only for compact methods.

    def _project(self, x: Array, mask: Array, name: str) -> Array:
        """LayerNorm and Dense: [R, L, C'] -> [R, L, C], zeros where masked."""
        x = layer_norm(f"{name}_norm", self.dtype)(x)
        x = Dense(self.config.width, dtype=self.dtype, name=f"{name}_in")(x)
        return jnp.where(mask[..., None], x, 0)

    def _project_both(self, sequence: Array, structure: Array, masks: SlotMasks) -> tuple[Array, Array]:
        """x1 and x2, [R, L, C] each."""
        return (
            self._project(sequence, masks.sequence, "sequence"),
            self._project(structure, masks.structure, "structure"),
        )

    def _heads(self, queries: Array, keys: Array, prefix: str = "") -> tuple[Array, Array, Array]:
        """Query [R, H, Lq, D], key and value [R, H, Lk, D] of tokens [R, Lq, C] and [R, Lk, C]."""
        width, heads = self.config.width, self.config.heads
        query, key, value = (
            jnp.swapaxes(
                Dense(width, dtype=self.dtype, name=f"{prefix}{name}")(x).reshape(*x.shape[:2], heads, -1), 1, 2
            )
            for name, x in (("query", queries), ("key", keys), ("value", keys))
        )
        return query, key, value

    def _attend(
        self, query: Array, key: Array, value: Array, query_segment: Array, key_segment: Array, prefix: str = ""
    ) -> Array:
        """Multi-head attention of the queries over the keys of the same segment -> [R, Lq, C]."""
        attended = segment_attention(query, key, value, query_segment, key_segment, self.attention)
        attended = jnp.swapaxes(attended, 1, 2).reshape(query.shape[0], query.shape[2], self.config.width)
        return Dense(self.config.width, dtype=self.dtype, name=f"{prefix}attention_out")(attended)

    def _listens(self, side: str) -> bool:
        return self.config.direction in ("both", f"to_{side}")

    def _update(self, z: Array | None, x: Array, mask: Array, side: str) -> Array:
        """Zero-initialised Dense, z [R, L, C] to the width of x; zeros where masked or the side does not listen."""
        if not self._listens(side):
            return jnp.zeros_like(x)
        zeros = nn.initializers.zeros_init()
        update = Dense(x.shape[-1], dtype=self.dtype, kernel_init=zeros, name=f"{side}_out")(z)
        return jnp.where(mask[..., None], update, 0)

    def _updates(
        self,
        for_sequence: Array | None,
        for_structure: Array | None,
        sequence: Array,
        structure: Array,
        masks: SlotMasks,
    ) -> tuple[Array, Array]:
        """What each side receives of its z [R, L, C]; z is not read for a side that does not listen."""
        return (
            self._update(for_sequence, sequence, masks.sequence, "sequence"),
            self._update(for_structure, structure, masks.structure, "structure"),
        )


class LocalFusion(Fusion):
    """A gate at each slot: g = softmax(f(x1) + f(x2)) in R^2, z = g1 x1 + g2 x2.

    x1 and x2 are the projected sequence and structure features, f one vote MLP (C -> C -> 2) for both. A side that is
    absent casts no vote and its logit is minus infinity, so z is the other side; where both are absent z is 0.
    Intermediates: "gate" [R, L, 2] float32, the weights of sequence and structure; "fused" [R, L, C], z before dropout.
    """

    @nn.compact
    def __call__(
        self, sequence: Array, structure: Array, masks: SlotMasks, carry: Array | None, row_id: Array | None
    ) -> FusionOutput:
        """Updates of both sides; see `Fusion`."""
        width, dtype = self.config.width, self.dtype
        x1, x2 = self._project_both(sequence, structure, masks)

        present = jnp.stack([masks.sequence, masks.structure], axis=-1)  # [R, L, 2]
        vote_hidden, vote = Dense(width, dtype=dtype, name="vote_0"), Dense(2, dtype=dtype, name="vote_1")
        votes = jnp.stack([vote(nn.gelu(vote_hidden(x))) for x in (x1, x2)], axis=-2)  # [R, L, voter, 2]
        logits = jnp.sum(jnp.where(present[..., None], votes, 0), axis=-2, dtype=jnp.float32)  # [R, L, 2]
        gate = jax.nn.softmax(jnp.where(present, logits, -1e30), axis=-1)
        gate = jnp.where(present, gate, 0.0)  # both absent: softmax gives 1/2 each

        z = gate[..., :1].astype(dtype) * x1 + gate[..., 1:].astype(dtype) * x2  # [R, L, C]
        dropped = Dropout(self.config.dropout, name="dropout")(z, row_id)
        return FusionOutput(*self._updates(dropped, dropped, sequence, structure, masks), {"gate": gate, "fused": z})


class GlobalFusion(Fusion):
    """Multi-head self-attention over the slots of a protein, all its chains together.

    Every slot that has a sequence or a structure side is one token and attends to all such slots of its protein, <cls>
    and <eos> included. The token is the sum of the projected sequence and structure features, with a learned vector in
    place of a side that is absent. Queries, keys and values are read from the tokens' LayerNorm; z is the attention's
    output.
    Intermediates: "fused" [R, L, C], z before dropout; "query" and "key" [R, H, L, D], which the attention's weights
    follow from (`attention.attention_summary`).
    """

    @nn.compact
    def __call__(
        self, sequence: Array, structure: Array, masks: SlotMasks, carry: Array | None, row_id: Array | None
    ) -> FusionOutput:
        """Updates of both sides; see `Fusion`."""
        width, dtype = self.config.width, self.dtype
        tokens = sum(self._project_both(sequence, structure, masks))  # [R, L, C]
        for name, mask in (("sequence", masks.sequence), ("structure", masks.structure)):
            absent = self.param(f"{name}_absent", nn.initializers.normal(0.02), (width,)).astype(dtype)
            tokens += jnp.where(mask[..., None], 0, absent)

        tokens = layer_norm("token_norm", dtype)(tokens)
        query, key, value = self._heads(tokens, tokens)
        z = self._attend(query, key, value, masks.protein_slots, masks.protein_slots)
        dropped = Dropout(self.config.dropout, name="dropout")(z, row_id)
        updates = self._updates(dropped, dropped, sequence, structure, masks)
        return FusionOutput(*updates, {"fused": z, "query": query, "key": key})


class LinearFusion(Fusion):
    """Each side receives the other's projected features, slot by slot, without a gate.

    In one direction, once, between the sequence side's last and the structure side's first layer it is serial fusion
    (Zhang et al. 2023, arXiv 2303.06275, section 3.2): the pLM's output as the graph's input.
    """

    @nn.compact
    def __call__(
        self, sequence: Array, structure: Array, masks: SlotMasks, carry: Array | None, row_id: Array | None
    ) -> FusionOutput:
        """Updates of both sides; see `Fusion`."""
        sides = {
            "sequence": (structure, masks.structure, "structure"),
            "structure": (sequence, masks.sequence, "sequence"),
        }
        z = {
            side: Dropout(self.config.dropout, name=f"{side}_dropout")(self._project(*other), row_id)
            for side, other in sides.items()
            if self._listens(side)
        }
        return FusionOutput(*self._updates(z.get("sequence"), z.get("structure"), sequence, structure, masks), {})


class CrossFusion(Fusion):
    """Multi-head self-attention over the slots of both sides of a protein as separate tokens, 2L of a row.

    Once, after the last stage, it is the cross fusion of Zhang et al. 2023 (arXiv 2303.06275).
    Intermediates: "attended" [R, 2 L, C], the sequence side's slots, then the structure side's, before dropout.
    """

    @nn.compact
    def __call__(
        self, sequence: Array, structure: Array, masks: SlotMasks, carry: Array | None, row_id: Array | None
    ) -> FusionOutput:
        """Updates of both sides; see `Fusion`."""
        tokens = jnp.concatenate(self._project_both(sequence, structure, masks), axis=1)  # [R, 2L, C]
        segment = jnp.concatenate(
            [jnp.where(mask, masks.protein_segment, 0) for mask in (masks.sequence, masks.structure)], axis=1
        )
        attended = self._attend(*self._heads(tokens, tokens), segment, segment)
        dropped = Dropout(self.config.dropout, name="dropout")(attended, row_id)
        updates = self._updates(*jnp.split(dropped, 2, axis=1), sequence, structure, masks)
        return FusionOutput(*updates, {"attended": attended})


class TokenFusion(Fusion):
    """One learnable token per protein, carried back and forth between the sides (after FusionProt's fusion token).

    At each exchange the token attends to the sequence side's slots of its protein and is given to each of them, then
    does the same with the structure side, and is carried to the next stage. So the sequence side hears the structure
    from the stages before.
    Intermediates and carry: "token" [R, G, C].
    """

    @nn.compact
    def __call__(
        self, sequence: Array, structure: Array, masks: SlotMasks, carry: Array | None, row_id: Array | None
    ) -> FusionOutput:
        """Updates of both sides and the token; see `Fusion`."""
        width, dtype = self.config.width, self.dtype
        token = carry
        if token is None:
            start = self.param("token", nn.initializers.normal(0.02), (width,)).astype(dtype)
            token = jnp.broadcast_to(start, (*masks.protein.shape, width))
        numbers = jnp.where(masks.protein, jnp.arange(1, masks.protein.shape[1] + 1), 0)
        given = []
        for name, x, mask in zip(
            ("sequence", "structure"),
            self._project_both(sequence, structure, masks),
            (masks.sequence, masks.structure),
            strict=True,
        ):
            query = layer_norm(f"{name}_query_norm", dtype)(token)
            segment = jnp.where(mask, masks.protein_segment, 0)
            heads = self._heads(query, x, f"{name}_")
            token = token + self._attend(*heads, numbers, segment, f"{name}_")
            answer = layer_norm(f"{name}_token_norm", dtype)(token)
            answer = Dropout(self.config.dropout, name=f"{name}_dropout")(answer, row_id)
            of_slot = jnp.maximum(masks.protein_segment - 1, 0)[..., None]
            given.append(jnp.take_along_axis(answer, of_slot, axis=1))  # [R, L, C]
        return FusionOutput(*self._updates(*given, sequence, structure, masks), {"token": token}, token)


FUSIONS: dict[str, type[Fusion]] = {
    "local": LocalFusion,
    "global": GlobalFusion,
    "linear": LinearFusion,
    "cross": CrossFusion,
    "token": TokenFusion,
}
