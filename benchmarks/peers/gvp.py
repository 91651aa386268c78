"""GVP-GNN (Jing et al. 2021) on torch_geometric: `MessagePassing` over an edge list, one GVP at a time.

Written from the equations in the way such networks are written there: vectors are [.., V, 3], messages concatenate
sender, edge and receiver, and the mean over neighbours is torch_geometric's. Its parameters come from a trained
`bihf_jax` structure side (`load_flax`), so that both compute the same.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from bihf_jax.models import GVPConfig

Features = tuple[Tensor, Tensor]  # scalars [.., S], vectors [.., V, 3]
Sizes = tuple[int, int]


def concatenate(*parts: Features) -> Features:
    """Scalars beside scalars, vectors beside vectors."""
    return torch.cat([part[0] for part in parts], dim=-1), torch.cat([part[1] for part in parts], dim=-2)


class GVP(nn.Module):
    """Geometric vector perceptron with vector gating."""

    def __init__(self, inputs: Sizes, outputs: Sizes, hidden: int, activate: bool = True) -> None:
        super().__init__()
        self.wh = nn.Linear(inputs[1], hidden, bias=False)
        self.ws = nn.Linear(inputs[0] + hidden, outputs[0])
        self.wv = nn.Linear(hidden, outputs[1], bias=False)
        self.wg = nn.Linear(outputs[0], outputs[1])
        self.activate = activate

    def forward(self, x: Features) -> Features:
        scalars, vectors = x
        hidden = self.wh(vectors.transpose(-1, -2))  # [.., 3, H]
        lengths = torch.sqrt(torch.sum(torch.square(hidden), dim=-2) + 1e-8)
        scalars = self.ws(torch.cat([scalars, lengths], dim=-1))
        if self.activate:
            scalars = torch.relu(scalars)
        gate = torch.sigmoid(self.wg(scalars))
        return scalars, self.wv(hidden).transpose(-1, -2) * gate[..., None]

    def load_flax(self, params: Mapping[str, Any]) -> None:
        for linear, kernel, bias in (
            (self.wh, "wh", None),
            (self.ws, "ws", "bs"),
            (self.wv, "wv", None),
            (self.wg, "wg", "bg"),
        ):
            linear.weight.data = torch.from_numpy(np.array(params[kernel]).T.copy())
            if bias:
                linear.bias.data = torch.from_numpy(np.array(params[bias]))


class Norm(nn.Module):
    """LayerNorm of the scalars, vectors divided by the root of their mean square length."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.scalar_norm = nn.LayerNorm(sizes[0])

    def forward(self, x: Features) -> Features:
        mean_square = torch.mean(torch.sum(torch.square(x[1]), dim=-1, keepdim=True), dim=-2, keepdim=True)
        return self.scalar_norm(x[0]), x[1] * torch.rsqrt(mean_square + 1e-4)

    def load_flax(self, params: Mapping[str, Any]) -> None:
        self.scalar_norm.weight.data = torch.from_numpy(np.array(params["scalar_norm"]["scale"]))
        self.scalar_norm.bias.data = torch.from_numpy(np.array(params["scalar_norm"]["bias"]))


class GVPConv(MessagePassing):
    """Mean over neighbours of GVPs on (sender, edge, receiver)."""

    def __init__(self, nodes: Sizes, edges: Sizes, count: int) -> None:
        super().__init__(aggr="mean")
        self.vectors = nodes[1]
        sizes = [(2 * nodes[0] + edges[0], 2 * nodes[1] + edges[1]), *[nodes] * count]
        self.gvps = nn.ModuleList([GVP(sizes[i], sizes[i + 1], nodes[1], activate=i + 1 < count) for i in range(count)])

    def forward(self, nodes: Features, edge_index: Tensor, edges: Features) -> Features:
        scalars, vectors = nodes
        # `propagate` aggregates one array: vectors travel flattened, behind the scalars.
        out = self.propagate(
            edge_index, s=scalars, v=vectors.flatten(1), edge_scalars=edges[0], edge_vectors=edges[1].flatten(1)
        )
        return out[:, : scalars.shape[1]], out[:, scalars.shape[1] :].reshape(-1, self.vectors, 3)

    def message(
        self, s_i: Tensor, s_j: Tensor, v_i: Tensor, v_j: Tensor, edge_scalars: Tensor, edge_vectors: Tensor
    ) -> Tensor:
        parts = ((s_j, v_j), (edge_scalars, edge_vectors), (s_i, v_i))
        x = concatenate(*((s, v.reshape(len(v), -1, 3)) for s, v in parts))
        for gvp in self.gvps:
            x = gvp(x)
        return torch.cat([x[0], x[1].flatten(1)], dim=-1)


class GVPLayer(nn.Module):
    """Messages, then two GVPs at each node; residual and norm after each."""

    def __init__(self, nodes: Sizes, edges: Sizes, message_gvps: int) -> None:
        super().__init__()
        wide = (4 * nodes[0], 2 * nodes[1])
        self.messages = GVPConv(nodes, edges, message_gvps)
        self.feed_forward = nn.ModuleList([GVP(nodes, wide, wide[1]), GVP(wide, nodes, wide[1], activate=False)])
        self.norms = nn.ModuleList([Norm(nodes), Norm(nodes)])

    def forward(self, nodes: Features, edge_index: Tensor, edges: Features) -> Features:
        update = self.messages(nodes, edge_index, edges)
        nodes = self.norms[0]((nodes[0] + update[0], nodes[1] + update[1]))
        update = self.feed_forward[1](self.feed_forward[0](nodes))
        return self.norms[1]((nodes[0] + update[0], nodes[1] + update[1]))

    def load_flax(self, params: Mapping[str, Any]) -> None:
        for number, gvp in enumerate(self.messages.gvps):
            gvp.load_flax(params["messages"][f"gvp_{number}"])
        for number, gvp in enumerate(self.feed_forward):
            gvp.load_flax(params[f"feed_forward_{number}"])
        for norm, name in zip(self.norms, ("message_norm", "feed_forward_norm"), strict=True):
            norm.load_flax(params[name])


class GVPNetwork(nn.Module):
    """Embeddings of nodes and edges, then layers: scalars of the nodes."""

    def __init__(self, config: GVPConfig, node_inputs: Sizes, edge_inputs: Sizes, layers: int) -> None:
        super().__init__()
        nodes, edges = (config.scalar_width, config.vector_width), (config.edge_scalar_width, config.edge_vector_width)
        self.node_embedding = GVP(node_inputs, nodes, config.vector_width, activate=False)
        self.node_norm = Norm(nodes)
        self.edge_embedding = GVP(edge_inputs, edges, max(1, config.edge_vector_width), activate=False)
        self.edge_norm = Norm(edges)
        self.layers = nn.ModuleList([GVPLayer(nodes, edges, config.message_gvps) for _ in range(layers)])

    def forward(self, nodes: Features, edge_index: Tensor, edges: Features) -> Tensor:
        """Nodes (scalars [N, ..], vectors [N, .., 3]), edge_index [2, E] (sender, receiver), edges [E, ..]: [N, S]."""
        nodes, edges = self.node_norm(self.node_embedding(nodes)), self.edge_norm(self.edge_embedding(edges))
        for layer in self.layers:
            nodes = layer(nodes, edge_index, edges)
        return nodes[0]

    def load_flax(self, params: Mapping[str, Any]) -> None:
        """Takes the parameters of a `bihf_jax.models.gvp.GVPEncoder`."""
        for name in ("node_embedding", "node_norm", "edge_embedding", "edge_norm"):
            getattr(self, name).load_flax(params[name])
        for number, layer in enumerate(self.layers):
            layer.load_flax(params[f"layers_{number}"])
