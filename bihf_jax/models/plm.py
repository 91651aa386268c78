"""ESM-2, the protein language model of the sequence side (Lin et al. 2023, "Evolutionary-scale prediction ...").

Parameter names are those of the published torch checkpoints (fair-esm: `layers.0.self_attn.q_proj.weight` is
`layers_0/self_attn/q_proj/kernel`, transposed), so that weights cross over name by name.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.models.attention import segment_attention
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.dense import Dense, dense_product, exact_gelu
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.lora import SUFFIX, LowRankUpdate
from bihf_jax.models.normalisation import LayerNorm
from bihf_jax.models.windows import Windows, chain_positions, make_windows

Array = jax.Array
Params = Mapping[str, Any]

LAYER_NORM_EPSILON = 1e-5
# Share of <mask> among the tokens while ESM-2 was trained: 15 % of residues chosen, 80 % of them masked.
TRAINED_MASK_RATIO = 0.15 * 0.8


def layer_norm(name: str, dtype: jnp.dtype, epsilon: float = LAYER_NORM_EPSILON) -> LayerNorm:
    """LayerNorm with float32 statistics."""
    return LayerNorm(epsilon=epsilon, dtype=dtype, name=name)


def parameter_dtype(config: PLMConfig, dtype: jnp.dtype) -> jnp.dtype:
    """Type of the weights that are converted to the compute type where they are used.

    What learns must be float32. What is frozen is kept as it is used: the same function in half the memory. LayerNorms
    are computed in float32, so theirs are not converted.
    """
    return dtype if config.learning.freezes else jnp.float32


def project(config: PLMConfig, dtype: jnp.dtype, name: str, features: int, x: Array) -> Array:
    """The dense layer `name` of the module that calls, [.., C] -> [.., features], with its update of low rank."""
    y = Dense(features, dtype=dtype, param_dtype=parameter_dtype(config, dtype), name=name)(x)
    if name in config.learning.adapted:
        y += LowRankUpdate(features, config.learning, dtype, name=name + SUFFIX)(x)
    return y


def kept_by_remat(config: PLMConfig) -> Callable[..., bool] | None:
    """The policy of `jax.checkpoint` that `config.remat_keeps` names."""
    # The dense layers are the products without a batch axis; those of attention have one.
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable if config.remat_keeps == "products" else None


def round_to_dtype(x: Array) -> Array:
    """x, really rounded to its dtype.

    XLA may keep more digits of a bfloat16 value between two operations, depending on what else the program computes. At
    the end of each block that would let an exchange with the other side change the pLM by adding zero.
    """
    if x.dtype == jnp.float32:
        return x
    return jax.lax.reduce_precision(x, jnp.finfo(x.dtype).nexp, jnp.finfo(x.dtype).nmant)


def rotary_frequencies(head_width: int, dtype: str = "float32") -> np.ndarray:
    """Radians per position of each pair of a head's channels, [head_width / 2] float32, rounded to `dtype`."""
    exact = 10000.0 ** (-np.arange(0, head_width, 2) / head_width)
    return exact.astype(np.float32).astype(dtype).astype(np.float32)


class Rotation(NamedTuple):
    """What the channels of queries and keys are turned by at each slot (Su et al. 2021), the same in every block."""

    cos: Array  # [R, L, D / 2] float32
    sin: Array  # [R, L, D / 2] float32


def chain_rotation(chain_segment: Array, config: PLMConfig) -> Rotation:
    """The rotation of each slot by its position in its chain: [R, L] int32 -> [R, L, D / 2]; angles in float32.

    Looked up in a table of all positions: sines and cosines of the positions themselves XLA would compute again for
    every head of every block.
    """
    positions = np.arange(chain_segment.shape[1], dtype=np.float32)[:, None]
    angles = positions * rotary_frequencies(config.head_width, config.rotary_dtype)  # [L, D / 2]
    own = chain_positions(chain_segment)
    return Rotation(jnp.asarray(np.cos(angles))[own], jnp.asarray(np.sin(angles))[own])


def rotate(x: Array, rotation: Rotation) -> Array:
    """Rotary position embedding, pairs (i, i + D/2) as in ESM-2: [R, H, L, D] -> the same in the dtype of x."""
    cos, sin = rotation.cos[:, None], rotation.sin[:, None]  # [R, 1, L, D/2]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def mask_rescaling(tokens: Array, chain_segment: Array, sequence_mask: Array) -> Array:
    """Factor of ESM-2's token dropout: what the chain's other embeddings are multiplied with for its share of <mask>.

    Args:
      tokens: [R, L] int32.
      chain_segment: [R, L] int32.
      sequence_mask: [R, L] bool.

    Returns:
      [R, L] float32 (1 - 0.12) / (1 - share of <mask> in the slot's chain, special tokens counted).
    """
    length = tokens.shape[1]
    is_mask = sequence_mask & (tokens == alphabet.MASK)
    count = jax.vmap(lambda values, segment: jax.ops.segment_sum(values.astype(jnp.int32), segment, length + 1))
    chain_masked, chain_slots = count(is_mask, chain_segment), count(sequence_mask, chain_segment)  # [R, L + 1]
    masked = jnp.take_along_axis(chain_masked, chain_segment, axis=1).astype(jnp.float32)
    slots = jnp.take_along_axis(chain_slots, chain_segment, axis=1).astype(jnp.float32)
    observed = masked / jnp.maximum(slots, 1.0)
    # A crop of <mask> only has nothing to rescale.
    return (1.0 - TRAINED_MASK_RATIO) / jnp.where(observed < 1.0, 1.0 - observed, 1.0)


class SelfAttention(nn.Module):
    """Multi-head self-attention within a chain, with rotary positions."""

    config: PLMConfig
    dtype: jnp.dtype
    attention: str

    @nn.compact
    def __call__(self, x: Array, segment: Array, rotation: Rotation) -> Array:
        """[R, L, C], segment [R, L] -> [R, L, C]."""
        width = self.config.width
        query, key, value = (
            self._heads(project(self.config, self.dtype, name, width, x)) for name in ("q_proj", "k_proj", "v_proj")
        )
        query, key = rotate(query, rotation), rotate(key, rotation)
        attended = segment_attention(query, key, value, segment, segment, self.attention)
        attended = jnp.swapaxes(attended, 1, 2).reshape(x.shape)  # [R, H, L, D] -> [R, L, C]
        return project(self.config, self.dtype, "out_proj", width, attended)

    def _heads(self, x: Array) -> Array:
        """[R, L, C] -> [R, H, L, D]."""
        return jnp.swapaxes(x.reshape(*x.shape[:2], self.config.heads, self.config.head_width), 1, 2)


class TransformerBlock(nn.Module):
    """One pre-LayerNorm block of ESM-2: attention, then a feed-forward layer with the exact (erf) GELU."""

    config: PLMConfig
    dtype: jnp.dtype
    attention: str

    @nn.compact
    def __call__(self, x: Array, segment: Array, rotation: Rotation, row_id: Array | None) -> Array:
        """[R, L, C] -> [R, L, C]."""
        config = self.config
        normed = layer_norm("self_attn_layer_norm", self.dtype)(x)
        update = SelfAttention(config, self.dtype, self.attention, name="self_attn")(normed, segment, rotation)
        x += Dropout(config.dropout, name="attention_dropout")(update, row_id)
        update = layer_norm("final_layer_norm", self.dtype)(x)
        update = exact_gelu(project(config, self.dtype, "fc1", config.feed_forward_width, update))
        update = project(config, self.dtype, "fc2", config.width, update)
        return round_to_dtype(x + Dropout(config.dropout, name="feed_forward_dropout")(update, row_id))


class SequenceState(NamedTuple):
    """Features on their way through the pLM's blocks."""

    streams: tuple[Array, ...]  # [R, L, C] each, one for each of `windows.segments`
    windows: Windows
    sequence_mask: Array  # [R, L] bool: the slot holds a token


class ProteinLanguageModel(nn.Module):
    """ESM-2 in steps, so that others can act between its blocks: `start`, `stage` for groups of layers, `output`.

    Calling it runs all steps. A chain that is longer than `config.trained_length` goes through them in windows, and has
    their mean (`windows`); `embed`, `blocks` and `finish` are the steps of whole chains. `logits` is the
    masked-language-model head, whose parameters exist only if it is used at initialisation.

    Attributes:
      config: Sizes.
      dtype: Compute type; parameters are float32, but see `parameter_dtype`.
      attention: See `attention.segment_attention`.
    """

    config: PLMConfig
    dtype: jnp.dtype = jnp.float32
    attention: str = "auto"

    def setup(self) -> None:
        config = self.config
        block = nn.remat(TransformerBlock, policy=kept_by_remat(config)) if config.remat else TransformerBlock
        self.embed_tokens = nn.Embed(
            config.vocab,
            config.width,
            dtype=self.dtype,
            param_dtype=parameter_dtype(config, self.dtype),
            embedding_init=nn.initializers.normal(0.02),
        )
        self.layers = [block(config, self.dtype, self.attention) for _ in range(config.layers)]
        self.emb_layer_norm_after = layer_norm(None, self.dtype)
        self.lm_head = LanguageModelHead(config, self.dtype)

    def embed(self, tokens: Array, chain_segment: Array, sequence_mask: Array) -> Array:
        """Token embeddings, <mask> zeroed and the rest rescaled as in training.

        Args:
          tokens: [R, L] int32; any value where masked.
          chain_segment: [R, L] int32, 0 is padding.
          sequence_mask: [R, L] bool: the slot holds a token.

        Returns:
          [R, L, C], zeros where masked.
        """
        tokens = jnp.where(sequence_mask, tokens, alphabet.PAD)
        x = self.embed_tokens(tokens)
        if self.config.token_dropout:
            x = jnp.where((tokens == alphabet.MASK)[..., None], 0, x)
            x *= mask_rescaling(tokens, chain_segment, sequence_mask)[..., None].astype(x.dtype)
        return jnp.where(sequence_mask[..., None], x, 0)

    def blocks(
        self, layers: range, x: Array, chain_segment: Array, sequence_mask: Array, row_id: Array | None
    ) -> Array:
        """Blocks of consecutive numbers (from 0): [R, L, C] -> [R, L, C]; no slot attends to one without a token."""
        segment, rotation = jnp.where(sequence_mask, chain_segment, 0), chain_rotation(chain_segment, self.config)
        if self.config.scan and len(layers) > 1 and not self.is_initializing():
            return self._scanned(layers, x, segment, rotation, row_id)
        for layer in layers:
            x = self.layers[layer](x, segment, rotation, row_id)
        return x

    def _scanned(self, layers: range, x: Array, segment: Array, rotation: Rotation, row_id: Array | None) -> Array:
        """The blocks as one loop of the compiled program.

        Their parameters are stacked here, in the step, so that they have the same names and shapes in both forms. A
        block draws its dropout from a key of its own, but not from the one it has in the unrolled form.
        """
        block = TransformerBlock(self.config, self.dtype, self.attention, name="layers", parent=None)
        modules = [self.layers[layer] for layer in layers]
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(module.variables["params"] for module in modules))
        keys = jnp.stack([module.make_rng("dropout") for module in modules]) if self.has_rng("dropout") else None

        def body(x: Array, of_layer: tuple[Params, Array | None]) -> tuple[Array, None]:
            params, key = of_layer
            rngs = {} if key is None else {"dropout": key}
            return block.apply({"params": params}, x, segment, rotation, row_id, rngs=rngs), None

        if self.config.remat:
            body = jax.checkpoint(body, prevent_cse=False, policy=kept_by_remat(self.config))
        return jax.lax.scan(body, x, (params, keys))[0]

    def finish(self, x: Array) -> Array:
        """The LayerNorm after the last block: [R, L, C] -> [R, L, C]."""
        return self.emb_layer_norm_after(x)

    def start(self, tokens: Array, chain_segment: Array, sequence_mask: Array) -> SequenceState:
        """The state before the first block; arguments as of `embed`."""
        windows = make_windows(chain_segment, self.config.trained_length)
        if self.is_initializing():
            windows = Windows(windows.segments[:1])  # the second set has no parameters of its own
        streams = tuple(self.embed(tokens, segment, sequence_mask) for segment in windows.segments)
        return SequenceState(streams, windows, sequence_mask)

    def stage(self, layers: range, state: SequenceState, row_id: Array | None) -> SequenceState:
        """The state after blocks of consecutive numbers; `row_id` [R] turns dropout on."""
        windows, mask = state.windows, state.sequence_mask

        def blocks(plm: ProteinLanguageModel, x: Array, segment: Array) -> Array:
            return plm.blocks(layers, x, segment, mask, row_id)

        first = blocks(self, state.streams[0], windows.segments[0])
        if len(state.streams) == 1:
            return state._replace(streams=(first,))
        # Rows may be long because of several chains. The second set takes time only where a chain is divided.
        operands = state.streams[1], windows.segments[1]
        second = nn.cond(windows.needed, blocks, lambda _, x, segment: x, self, *operands)
        return state._replace(streams=(first, second))

    def features(self, state: SequenceState) -> Array:
        """The features of a state [R, L, C]."""
        return state.windows.mean(state.streams)

    def add_features(self, state: SequenceState, update: Array) -> SequenceState:
        """The state with `update` [R, L, C] added to the features, in all windows alike."""
        return state._replace(streams=tuple(x + update for x in state.streams))

    def output(self, state: SequenceState) -> Array:
        """The finished features of the state after the last block, [R, L, C]."""
        return state.windows.mean(tuple(self.finish(x) for x in state.streams))

    def logits(self, x: Array) -> Array:
        """Masked-language-model logits [R, L, vocab] float32 of the finished features [R, L, C]."""
        return self.lm_head(x, self.embed_tokens.embedding)

    def __call__(self, tokens: Array, chain_segment: Array, sequence_mask: Array, row_id: Array | None = None) -> Array:
        """Finished features [R, L, C] of tokens [R, L]; `row_id` [R] turns dropout on."""
        state = self.start(tokens, chain_segment, sequence_mask)
        return self.output(self.stage(range(self.config.layers), state, row_id))

    def token_logits(self, tokens: Array, chain_segment: Array, sequence_mask: Array) -> Array:
        """Masked-language-model logits [R, L, vocab] float32 of tokens [R, L]."""
        return self.logits(self(tokens, chain_segment, sequence_mask))


class LanguageModelHead(nn.Module):
    """ESM-2's head for masked tokens; its output matrix is the token embedding."""

    config: PLMConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array, embedding: Array) -> Array:
        """[R, L, C], token embedding [vocab, C] -> [R, L, vocab] float32."""
        x = exact_gelu(project(self.config, self.dtype, "dense", self.config.width, x))
        x = layer_norm("layer_norm", self.dtype)(x)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.config.vocab,))
        return dense_product(x, embedding.astype(x.dtype).T).astype(jnp.float32) + bias
