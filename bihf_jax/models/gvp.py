"""GVP-GNN, a structure encoder (Jing et al. 2021, "Equivariant graph neural networks for 3D macromolecular structure").

A node has scalars, which are invariant, and vectors, which turn with the protein. Vectors are stored as
[.., 3 (xyz), V], so that mixing channels is a product along the last axis.
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import GVPConfig
from bihf_jax.models.dense import dense_product
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.features import (
    GeometricFeatures,
    geometric_features,
    node_types,
    num_edge_scalars,
    num_node_types,
)
from bihf_jax.models.graph import aggregate, reduce_neighbours
from bihf_jax.models.platform import target_platform
from bihf_jax.models.plm import layer_norm

Array = jax.Array

# On accelerators a float32 product is made of bfloat16 or TF32 passes by default, which would break equivariance.
_EXACT = jax.lax.Precision.HIGHEST
_LENGTH_EPSILON = 1e-8  # under the root of a channel's length: a finite gradient at the zero vector
# Under the root of a node's mean vector length. The published code has 1e-8, which multiplies the vectors of a node
# that has hardly any by up to 10,000.
_VECTOR_NORM_EPSILON = 1e-4


class ScalarsVectors(NamedTuple):
    """Features of nodes or edges."""

    scalars: Array  # [.., S]
    vectors: Array  # [.., 3 (xyz), V]


def channel_lengths(vectors: Array) -> Array:
    """Length of each vector channel: [.., 3, V] -> [.., V], differentiable at 0."""
    return jnp.sqrt(_sum_xyz(jnp.square(vectors)) + _LENGTH_EPSILON)


@jax.custom_vjp
def scale_channels(vectors: Array, factor: Array) -> Array:
    """Vectors [.., 3, V] times one factor for each channel [.., V]."""
    return vectors * factor[..., None, :]


# Written out for the sum over x, y, z in the gradient of the factor.
scale_channels.defvjp(
    lambda vectors, factor: (scale_channels(vectors, factor), (vectors, factor)),
    lambda saved, gradient: (gradient * saved[1][..., None, :], _sum_xyz(gradient * saved[0])),
)


@jax.custom_vjp
def _sum_xyz(x: Array) -> Array:
    """[.., 3, V] -> [.., V]."""
    if target_platform() != "cpu":
        return jnp.sum(x, axis=-2)
    # On CPU a reduction over three takes a multiple of the time of two sums, and cannot be merged with other work.
    return x[..., 0, :] + x[..., 1, :] + x[..., 2, :]


_sum_xyz.defvjp(
    lambda x: (_sum_xyz(x), None),
    lambda _, gradient: (jnp.broadcast_to(gradient[..., None, :], (*gradient.shape[:-1], 3, gradient.shape[-1])),),
)


@flax.struct.dataclass
class Perceptron:
    """Geometric vector perceptron with vector gating (equations 3 and 4 of the paper), as functions of its parameters.

    With inputs s, V:   V_h = V W_h;   s' = [s, |V_h|] W_s + b;   V' = sigmoid(act(s') W_g + b_g) * (V_h W_v);
    the output is act(s'), V' where `activate`, and s', V' otherwise (then s' is not activated in the gate either).

    The input of a message is a concatenation (sender, edge, receiver), and everything up to |V_h| is linear in it.
    `project` is therefore also available for a part of the concatenation, so that nodes are projected before they are
    gathered, and `finish_mean` averages over neighbours before the product with W_s.
    """

    wh: Array  # [V, H]
    ws: Array  # [S + H, S']
    bs: Array  # [S']
    wv: Array  # [H, V']
    wg: Array  # [S', V']
    bg: Array  # [V']
    dtype: jnp.dtype = flax.struct.field(pytree_node=False)  # of the computation
    activate: bool = flax.struct.field(pytree_node=False)  # apply ReLU to the scalars

    def __call__(self, x: ScalarsVectors) -> ScalarsVectors:
        """Inputs [.., S], [.., 3, V] -> outputs."""
        return self.finish(self.project(x))

    def project(self, x: ScalarsVectors, first: tuple[int, int] = (0, 0)) -> ScalarsVectors:
        """The linear part, for the channels of the input that start at `first`: s W_s without bias, and V W_h.

        Projections of the parts of a concatenation add up to the projection of the whole.
        """
        scalar_rows = slice(first[0], first[0] + x.scalars.shape[-1])
        vector_rows = slice(first[1], first[1] + x.vectors.shape[-1])
        return ScalarsVectors(
            self._dot(x.scalars, self.ws[scalar_rows]), self._exact_dot(x.vectors, self.wh[vector_rows])
        )

    def finish(self, projected: ScalarsVectors) -> ScalarsVectors:
        """The rest of the perceptron, from the whole projected input."""
        lengths = channel_lengths(projected.vectors)
        scalars = projected.scalars + self._exact_dot(lengths, self._length_rows(self.ws)) + self._cast(self.bs)
        if self.activate:
            scalars = nn.relu(scalars)
        gate = nn.sigmoid(self._dot(scalars, self.wg) + self._cast(self.bg))
        return ScalarsVectors(scalars, scale_channels(self._exact_dot(projected.vectors, self.wv), gate))

    def finish_mean(self, x: ScalarsVectors, mask: Array) -> ScalarsVectors:
        """`__call__` on each edge followed by the mean over a slot's edges, with less work; needs `activate=False`.

        Without activation the scalars are linear in [s, |V_h|], so their mean is W_s of the mean; only the gate is
        needed at each edge, and W_s W_g is one small matrix.

        Args:
          x: Inputs at the edges, [.., K, S] and [.., K, 3, V].
          mask: [.., K] bool.

        Returns:
          Means [.., S'] and [.., 3, V']; zeros at a slot without edges.
        """
        hidden = self._exact_dot(x.vectors, self.wh)
        lengths = channel_lengths(hidden)
        gate_kernel = jnp.dot(self.ws, self.wg, precision=_EXACT)
        gate_bias = jnp.dot(self.bs, self.wg, precision=_EXACT) + self.bg
        gate = nn.sigmoid(self._linear(x.scalars, lengths, gate_kernel) + self._cast(gate_bias))
        vectors = aggregate(scale_channels(self._exact_dot(hidden, self.wv), gate), mask)
        scalars = self._linear(aggregate(x.scalars, mask), aggregate(lengths, mask), self.ws) + self._cast(self.bs)
        return ScalarsVectors(jnp.where(mask.any(axis=-1)[..., None], scalars, 0), vectors)

    def _length_rows(self, kernel: Array) -> Array:
        """The rows of a kernel [S + H, ..] that the lengths are multiplied with."""
        return kernel[-self.wh.shape[1] :]

    def _linear(self, scalars: Array, lengths: Array, kernel: Array) -> Array:
        """[scalars, lengths] kernel, without making the concatenation: at the edges it is a large array."""
        first = scalars.shape[-1]
        return self._dot(scalars, kernel[:first]) + self._exact_dot(lengths, self._length_rows(kernel))

    def _cast(self, parameter: Array) -> Array:
        return parameter.astype(self.dtype)

    def _dot(self, x: Array, kernel: Array, precision: jax.lax.Precision | None = None) -> Array:
        """[.., a] times [a, b]."""
        return dense_product(x.astype(self.dtype), self._cast(kernel), precision)

    def _exact_dot(self, x: Array, kernel: Array) -> Array:
        return self._dot(x, kernel, _EXACT)


class GVP(nn.Module):
    """A `Perceptron` with its parameters.

    Attributes:
      inputs: Scalars and vector channels that come in.
      outputs: Scalars and vector channels that go out.
      hidden: Channels of V_h.
      dtype: Compute type.
      activate: Apply ReLU to the scalars.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    hidden: int
    dtype: jnp.dtype = jnp.float32
    activate: bool = True

    def setup(self) -> None:
        initializer, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros_init()
        (scalars_in, vectors_in), (scalars_out, vectors_out) = self.inputs, self.outputs
        self.perceptron = Perceptron(
            wh=self.param("wh", initializer, (vectors_in, self.hidden)),
            ws=self.param("ws", initializer, (scalars_in + self.hidden, scalars_out)),
            bs=self.param("bs", zeros, (scalars_out,)),
            wv=self.param("wv", initializer, (self.hidden, vectors_out)),
            wg=self.param("wg", initializer, (scalars_out, vectors_out)),
            bg=self.param("bg", zeros, (vectors_out,)),
            dtype=self.dtype,
            activate=self.activate,
        )

    def __call__(self, x: ScalarsVectors) -> ScalarsVectors:
        """Inputs [.., S], [.., 3, V] -> outputs."""
        return self.perceptron(x)

    def of_parameters(self) -> Perceptron:
        """The perceptron as a function of arrays alone, which JAX's transformations can be used in."""
        return self.perceptron


class EquivariantLayerNorm(nn.Module):
    """LayerNorm of the scalars; vectors divided by the root mean square length over the node's channels."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: ScalarsVectors) -> ScalarsVectors:
        """[.., S], [.., 3, V] -> the same shapes."""
        scalars = layer_norm("scalar_norm", self.dtype)(x.scalars)
        vectors = x.vectors.astype(jnp.float32)
        mean_square = jnp.mean(jnp.sum(jnp.square(vectors), axis=-2, keepdims=True), axis=-1, keepdims=True)
        vectors *= jax.lax.rsqrt(mean_square + _VECTOR_NORM_EPSILON)
        return ScalarsVectors(scalars, vectors.astype(self.dtype))


class GVPMessages(nn.Module):
    """Mean over a slot's edges of the message function, `message_gvps` GVPs on (sender, edge, receiver)."""

    config: GVPConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, nodes: ScalarsVectors, edges: ScalarsVectors, neighbours: Array, mask: Array) -> ScalarsVectors:
        """Nodes [R, L, ..], edges [R, L, K, ..], neighbours and mask [R, L, K] -> [R, L, ..]."""
        config = self.config
        node_sizes = (config.scalar_width, config.vector_width)
        edge_sizes = (config.edge_scalar_width, config.edge_vector_width)
        inputs = tuple(2 * node + edge for node, edge in zip(node_sizes, edge_sizes, strict=True))
        sizes = [inputs, *[node_sizes] * config.message_gvps]
        perceptrons = [
            GVP(
                sizes[i], sizes[i + 1], config.vector_width, self.dtype, i + 1 < config.message_gvps, name=f"gvp_{i}"
            ).of_parameters()
            for i in range(config.message_gvps)
        ]
        # The order of the concatenation is sender, edge, receiver; nodes are projected before they are gathered.
        edge_start = node_sizes
        receiver_start = (node_sizes[0] + edge_sizes[0], node_sizes[1] + edge_sizes[1])

        def mean_message(
            perceptrons: list[Perceptron],
            sender: ScalarsVectors,
            edges: ScalarsVectors,
            mask: Array,
            receiver: ScalarsVectors,
        ) -> ScalarsVectors:
            """Senders and edges [.., K, channels], mask [.., K], receivers [.., channels] -> like the receivers."""
            first, *others = perceptrons
            receiver = jax.tree.map(lambda x: jnp.expand_dims(x, mask.ndim - 1), receiver)
            projected = jax.tree.map(lambda *parts: sum(parts), sender, first.project(edges, edge_start), receiver)
            messages = first.finish(projected)
            if not others:
                return jax.tree.map(lambda x: aggregate(x, mask), messages)
            for perceptron in others[:-1]:
                messages = perceptron(messages)
            return others[-1].finish_mean(messages, mask)

        sender, receiver = perceptrons[0].project(nodes), perceptrons[0].project(nodes, receiver_start)
        return reduce_neighbours(mean_message, perceptrons, sender, edges, receiver, neighbours, mask)


class GVPLayer(nn.Module):
    """Messages, then a feed-forward of two GVPs at each node; residual, dropout and norm after each of them."""

    config: GVPConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, nodes: ScalarsVectors, edges: ScalarsVectors, features: GeometricFeatures, row_id: Array | None
    ) -> ScalarsVectors:
        """Nodes [R, L, ..] and edges [R, L, K, ..] -> nodes; zeros at slots without a structure."""
        sizes = (self.config.scalar_width, self.config.vector_width)
        wide = (4 * sizes[0], 2 * sizes[1])
        update = GVPMessages(self.config, self.dtype, name="messages")(
            nodes, edges, features.neighbours, features.edge_mask
        )
        nodes = self._add(nodes, update, row_id, "message")
        update = GVP(sizes, wide, wide[1], self.dtype, name="feed_forward_0")(nodes)
        update = GVP(wide, sizes, wide[1], self.dtype, activate=False, name="feed_forward_1")(update)
        nodes = self._add(nodes, update, row_id, "feed_forward")
        return mask_nodes(nodes, features.node_mask)

    def _add(self, nodes: ScalarsVectors, update: ScalarsVectors, row_id: Array | None, name: str) -> ScalarsVectors:
        """norm(nodes + dropout(update)); a vector is dropped whole."""
        scalars = Dropout(self.config.dropout, name=f"{name}_scalar_dropout")(update.scalars, row_id)
        vectors = Dropout(self.config.dropout, shared_axes=(-2,), name=f"{name}_vector_dropout")(update.vectors, row_id)
        total = ScalarsVectors(nodes.scalars + scalars, nodes.vectors + vectors)
        return EquivariantLayerNorm(self.dtype, name=f"{name}_norm")(total)


def mask_nodes(nodes: ScalarsVectors, mask: Array) -> ScalarsVectors:
    """Nodes with zeros where the mask [R, L] is off."""
    return ScalarsVectors(
        jnp.where(mask[..., None], nodes.scalars, 0), jnp.where(mask[..., None, None], nodes.vectors, 0)
    )


class GVPState(NamedTuple):
    """What goes from layer to layer."""

    nodes: ScalarsVectors  # [R, L, S], [R, L, 3, V]
    edges: ScalarsVectors  # [R, L, K, Se], [R, L, K, 3, Ve]; the same for all layers
    features: GeometricFeatures


class GVPEncoder(nn.Module):
    """The structure side as GVP-GNN; see `structure.StructureEncoder` for the interface.

    Attributes:
      config: Widths.
      stages: Groups of `config.layers_per_stage` layers.
      dtype: Compute type.
    """

    config_class: ClassVar[type] = GVPConfig
    # Turning and moving the protein changes no scalar; a mirror image does.
    symmetry: ClassVar[str] = "SE(3)"
    inputs: ClassVar[tuple[str, ...]] = ("tokens", "backbone", "torsions", "ligand_atom", "edge_type")

    config: GVPConfig
    stages: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config, dtype = self.config, self.dtype
        layer = nn.remat(GVPLayer) if config.remat else GVPLayer
        self.has_types = config.residue_type or config.ligands
        node_inputs = (6 + (num_node_types(config) if self.has_types else 0), 3)
        edge_inputs = (num_edge_scalars(config), 1)
        node_sizes = (config.scalar_width, config.vector_width)
        edge_sizes = (config.edge_scalar_width, config.edge_vector_width)
        self.node_embedding = GVP(node_inputs, node_sizes, config.vector_width, dtype, activate=False)
        self.node_norm = EquivariantLayerNorm(dtype)
        self.edge_embedding = GVP(edge_inputs, edge_sizes, max(1, config.edge_vector_width), dtype, activate=False)
        self.edge_norm = EquivariantLayerNorm(dtype)
        self.layers = [layer(config, dtype) for _ in range(self.stages * config.layers_per_stage)]

    def embed(self, batch: ProteinBatch, row_id: Array | None) -> GVPState:
        """Features of the geometry and their embeddings."""
        features = geometric_features(batch, self.config)
        nodes = ScalarsVectors(features.node_scalars, features.node_vectors)
        if self.has_types:
            types = node_types(batch, self.config)
            nodes = ScalarsVectors(jnp.concatenate([nodes.scalars, types], axis=-1), nodes.vectors)
        nodes = self.node_norm(self.node_embedding(nodes))
        edges = self.edge_norm(self.edge_embedding(ScalarsVectors(features.edge_scalars, features.edge_vectors)))
        return GVPState(mask_nodes(nodes, features.node_mask), edges, features)

    def stage(self, stage: int, state: GVPState, row_id: Array | None) -> GVPState:
        """The graph layers of one stage (from 0)."""
        nodes = state.nodes
        first = stage * self.config.layers_per_stage
        for layer in self.layers[first : first + self.config.layers_per_stage]:
            nodes = layer(nodes, state.edges, state.features, row_id)
        return state._replace(nodes=nodes)

    def scalars(self, state: GVPState) -> Array:
        """The invariant features of the slots, [R, L, S]."""
        return state.nodes.scalars

    def add_scalars(self, state: GVPState, update: Array) -> GVPState:
        """The state with `update` [R, L, S] added to the invariant features."""
        nodes = state.nodes._replace(scalars=state.nodes.scalars + update)
        return state._replace(nodes=nodes)
