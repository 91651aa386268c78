"""A plain message-passing network on distances, one `jraph.GraphNetwork` a layer: the encoder to read first."""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import MPNNConfig
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.features import backbone_atoms, choose_neighbours, edge_scalars, node_types
from bihf_jax.models.graph import make_graph
from bihf_jax.models.plm import layer_norm

Array = jax.Array


class MPNNMessages(nn.Module):
    """W mean_j relu(A h_j + B e_ij + C h_i) over the neighbours j of each node i."""

    config: MPNNConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> Array:
        """Graph of N nodes [N, C] and E edges {"features": [E, D], "exists": [E, 1]} -> update of the nodes [N, C]."""

        def dense(name: str, use_bias: bool = False) -> nn.Dense:
            return nn.Dense(self.config.width, use_bias, dtype=self.dtype, name=name)

        def update_edge(edges: dict[str, Array], sender: Array, receiver: Array, _: None) -> dict[str, Array]:
            message = dense("sender")(sender) + dense("edge", True)(edges["features"]) + dense("receiver")(receiver)
            message = jnp.where(edges["exists"], nn.relu(message), 0)
            return {"sum": message.astype(jnp.float32), "count": edges["exists"].astype(jnp.float32)}

        def update_node(nodes: Array, sent: dict[str, Array], received: dict[str, Array], _: None) -> Array:
            return dense("node", True)(received["sum"] / jnp.maximum(received["count"], 1))

        return jraph.GraphNetwork(update_edge, update_node)(graph).nodes  # sums the edges that a node receives


class MPNNLayer(nn.Module):
    """norm(h + dropout(messages)), with zeros at slots without a structure."""

    config: MPNNConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple, node_mask: Array, row_id: Array | None) -> jraph.GraphsTuple:
        """Graph with nodes [R L, C], and which slots have a structure [R, L] -> the graph with new nodes."""
        update = MPNNMessages(self.config, self.dtype, name="messages")(graph).reshape(*node_mask.shape, -1)
        update = Dropout(self.config.dropout, name="dropout")(update, row_id)
        nodes = layer_norm("norm", self.dtype)(graph.nodes + update.reshape(graph.nodes.shape))
        return graph._replace(nodes=jnp.where(node_mask.reshape(-1, 1), nodes, 0))


class MPNNState(NamedTuple):
    """What goes from layer to layer."""

    graph: jraph.GraphsTuple  # of the whole grid; see `MPNNMessages` for its nodes and edges
    node_mask: Array  # [R, L] bool: the slot has a structure


class MPNNEncoder(nn.Module):
    """The structure side as message passing on distances; see `structure.StructureEncoder` for the interface.

    Attributes:
      config: Widths.
      stages: Groups of `config.layers_per_stage` layers.
      dtype: Compute type.
    """

    config_class: ClassVar[type] = MPNNConfig
    symmetry: ClassVar[str] = "E(3)"  # distances are those of the mirror image
    inputs: ClassVar[tuple[str, ...]] = ("tokens", "backbone", "ligand_atom", "edge_type")

    config: MPNNConfig
    stages: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        layer = nn.remat(MPNNLayer) if self.config.remat else MPNNLayer
        self.node_embedding = nn.Dense(self.config.width, dtype=self.dtype)
        self.layers = [layer(self.config, self.dtype) for _ in range(self.stages * self.config.layers_per_stage)]

    def embed(self, batch: ProteinBatch, row_id: Array | None) -> MPNNState:
        """Nodes from the residue types, edges from the distances (`features.edge_scalars`)."""
        batch = choose_neighbours(batch, self.config)
        types = node_types(batch, self.config)
        nodes = jnp.where(batch.structure_mask[..., None], self.node_embedding(types), 0)
        features = edge_scalars(*backbone_atoms(batch), batch, self.config).astype(self.dtype)
        graph = make_graph(batch)._replace(
            nodes=nodes.reshape(-1, nodes.shape[-1]),
            edges={
                "features": features.reshape(-1, features.shape[-1]),
                "exists": batch.neighbour_mask.reshape(-1, 1),
            },
        )
        return MPNNState(graph, batch.structure_mask)

    def stage(self, stage: int, state: MPNNState, row_id: Array | None) -> MPNNState:
        """The graph layers of one stage (from 0)."""
        graph, first = state.graph, stage * self.config.layers_per_stage
        for layer in self.layers[first : first + self.config.layers_per_stage]:
            graph = layer(graph, state.node_mask, row_id)
        return state._replace(graph=graph)

    def scalars(self, state: MPNNState) -> Array:
        """The invariant features of the slots, [R, L, C]."""
        return state.graph.nodes.reshape(*state.node_mask.shape, -1)

    def add_scalars(self, state: MPNNState, update: Array) -> MPNNState:
        """The state with `update` [R, L, C] added to the invariant features."""
        nodes = state.graph.nodes + update.reshape(state.graph.nodes.shape)
        return state._replace(graph=state.graph._replace(nodes=nodes))
