"""ProNet (Wang et al. 2023) on torch_geometric: geometry from coordinates in the forward pass, then `MessagePassing`.

Written from the paper's equations in the way such networks are written there: angles by arctangent over an edge list,
bases evaluated at each edge, one message-passing module for each of the three features of the edges. The residues
before and after one are those of its chain, and an angle that is not defined leaves only the functions of degree 0, as
in `bihf_jax`. Its parameters come from a `bihf_jax` structure side (`load_flax`), so that both compute the same.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch_geometric.nn import MessagePassing

from bihf_jax.models import ProNetConfig
from bihf_jax.models.basis import bessel_zeros


class Residues(NamedTuple):
    """N residues of any number of proteins, in the order of their chains."""

    features: Tensor  # [N, F] residue types and torsions
    n: Tensor  # [N, 3] Å
    alpha: Tensor  # [N, 3] Å
    c: Tensor  # [N, 3] Å
    chain: Tensor  # [N] int64, another number for each chain of each protein
    place: Tensor  # [N] int64 place in the chain


class Beside(NamedTuple):
    """Å from the CA to the CAs of the residues before and after it in its chain, 0 where there is none."""

    previous: Tensor  # [.., 3]
    following: Tensor  # [.., 3]
    has_previous: Tensor  # [..] bool
    has_following: Tensor  # [..] bool

    def at(self, index: Tensor) -> "Beside":
        return Beside(*(x[index] for x in self))


def beside(residues: Residues) -> Beside:
    """Of every residue; one whose coordinates are missing stands beside none."""
    joined = (residues.chain[1:] == residues.chain[:-1]) & (residues.place[1:] - residues.place[:-1] == 1)
    step = torch.where(joined[:, None], residues.alpha[1:] - residues.alpha[:-1], 0.0)
    nothing, no = step.new_zeros(1, 3), joined.new_zeros(1)
    return Beside(
        torch.cat([nothing, -step]), torch.cat([step, nothing]), torch.cat([no, joined]), torch.cat([joined, no])
    )


def dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.sum(a * b, dim=-1)


def dihedral(a: Tensor, axis: Tensor, b: Tensor) -> Tensor:
    """The turn about the axis that takes the half plane of a to that of b, radians: three [E, 3] -> [E]."""
    left, right = torch.linalg.cross(axis, a), torch.linalg.cross(axis, b)
    sine = dot(torch.linalg.cross(left, right), axis) / axis.norm(dim=-1)
    return torch.atan2(sine, dot(left, right))


def angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), dot(a, b))


def one_beside(sides: Beside, previous_is_other: Tensor, following_is_other: Tensor) -> tuple[Tensor, Tensor]:
    """Å to the residue before, or after where that is the other end or absent; and whether there is one."""
    before = sides.has_previous & ~previous_is_other
    after = sides.has_following & ~following_is_other & ~before
    return torch.where(before[:, None], sides.previous, sides.following), before | after


def euler_angles(residues: Residues, edge_index: Tensor) -> list[Tensor]:
    """Angles [E] from the backbone frame of the receiver to that of the sender, by the line of nodes."""
    x = residues.n - residues.alpha
    z = torch.linalg.cross(x, torch.linalg.cross(x, residues.c - residues.alpha))
    sender, receiver = edge_index
    nodes_line = torch.linalg.cross(z[receiver], z[sender])
    return [
        signed_angle(x[receiver], nodes_line, z[receiver]),
        angle(z[receiver], z[sender]),
        signed_angle(nodes_line, x[sender], z[sender]),
    ]


def signed_angle(a: Tensor, b: Tensor, axis: Tensor) -> Tensor:
    """From a to b, both at right angles to the axis, counted about it: radians [E]."""
    return torch.atan2(dot(torch.linalg.cross(a, b), axis) / axis.norm(dim=-1), dot(a, b))


class RadialBasis(nn.Module):
    """Spherical Bessel functions of degree 0 and 1 that end at the radius: [E] Å -> [E, 2 (degree), radial]."""

    def __init__(self, count: int, radius: float) -> None:
        super().__init__()
        zeros = bessel_zeros(2, count)
        scale = np.sqrt(2) / np.abs(scipy.special.spherical_jn(np.array([[1], [2]]), zeros))
        self.radius = radius
        self.register_buffer("zeros", torch.tensor(zeros, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, distance: Tensor) -> Tensor:
        x = distance[:, None, None] / self.radius * self.zeros
        first, second = x[:, 0], x[:, 1]
        values = torch.sin(first) / first, torch.sin(second) / second**2 - torch.cos(second) / second
        return torch.stack(values, dim=1) * self.scale


class EdgeFeatures(nn.Module):
    """Direction, rotation and difference in sequence of every edge."""

    def __init__(self, config: ProNetConfig) -> None:
        super().__init__()
        self.level = config.level
        self.radial = RadialBasis(config.num_radial, config.radius)
        self.register_buffer("frequencies", torch.exp(torch.arange(0, 16, 2) * -(math.log(10000.0) / 16)))

    def forward(self, residues: Residues, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sender, receiver = edge_index
        sides = beside(residues)
        axis = residues.alpha[sender] - residues.alpha[receiver]
        radial = self.radial(axis.norm(dim=-1))
        here = sides.at(receiver)
        theta = angle(here.previous, axis)
        phi = dihedral(here.following, here.previous, axis)
        direction = self._direction(radial, theta, phi, here.has_previous, here.has_previous & here.has_following)
        if self.level == "aminoacid":
            tau, known = self._tau(residues, sides, edge_index, axis)
            rotation = self._rotation(radial, [tau], known)
        else:
            rotation = self._rotation(radial, euler_angles(residues, edge_index), torch.ones_like(here.has_previous))
        return direction, rotation, self._position(residues, edge_index)

    def _tau(self, residues: Residues, sides: Beside, edge_index: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
        sender, receiver = edge_index
        same = residues.chain[sender] == residues.chain[receiver]
        apart = residues.place[sender] - residues.place[receiver]
        is_previous, is_following = same & (apart == -1), same & (apart == 1)
        from_receiver, one_there = one_beside(sides.at(receiver), is_previous, is_following)
        from_sender, other_there = one_beside(sides.at(sender), is_following, is_previous)
        return dihedral(from_receiver, axis, from_sender), one_there & other_there

    def _direction(self, radial: Tensor, theta: Tensor, phi: Tensor, theta_known: Tensor, phi_known: Tensor) -> Tensor:
        """R_ln(d) Y_lm(theta, phi) for l = 0, 1: [E, 4 radial]."""
        zero, one = 0.5 / math.sqrt(math.pi), math.sqrt(0.75 / math.pi)
        across = one * torch.sin(theta)
        harmonics = torch.stack(
            [
                torch.full_like(theta, zero),
                torch.where(phi_known, across * torch.sin(phi), 0.0),
                torch.where(theta_known, one * torch.cos(theta), 0.0),
                torch.where(phi_known, across * torch.cos(phi), 0.0),
            ],
            dim=-1,
        )
        return (radial[:, [0, 1, 1, 1]] * harmonics[..., None]).flatten(1)

    def _rotation(self, radial: Tensor, angles: list[Tensor], known: Tensor) -> Tensor:
        """R_ln(d) Y_l0(angle) for l = 0, 1 and each angle: [E, angles 2 radial]."""
        zero, one = 0.5 / math.sqrt(math.pi), math.sqrt(0.75 / math.pi)
        turned = torch.stack(angles, dim=-1)
        polar = torch.where(known[:, None], one * torch.cos(turned), 0.0)
        harmonics = torch.stack([torch.full_like(turned, zero), polar], dim=-1)  # [E, angles, 2]
        return (radial[:, None] * harmonics[..., None]).flatten(1)

    def _position(self, residues: Residues, edge_index: Tensor) -> Tensor:
        """Cosines and sines of the difference in sequence, 0 between chains: [E, 16]."""
        sender, receiver = edge_index
        turns = (residues.place[sender] - residues.place[receiver])[:, None] * self.frequencies
        same_chain = residues.chain[sender] == residues.chain[receiver]
        return torch.where(same_chain[:, None], torch.cat([torch.cos(turns), torch.sin(turns)], dim=-1), 0.0)


class EdgeConv(MessagePassing):
    """C sum_j (W e_ij) * x_j + D x_i."""

    def __init__(self, edges: int, width: int) -> None:
        super().__init__(aggr="add")
        self.filter = nn.Linear(edges, width, bias=False)
        self.sum = nn.Linear(width, width)
        self.own = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        return self.sum(self.propagate(edge_index, x=x, weight=self.filter(edges))) + self.own(x)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        return weight * x_j


class Block(nn.Module):
    """The interaction block."""

    def __init__(self, config: ProNetConfig, edge_sizes: tuple[int, ...]) -> None:
        super().__init__()
        width, layers = config.width, config.merge_layers
        self.sent, self.kept = nn.Linear(width, width), nn.Linear(width, width)
        self.convolutions = nn.ModuleList([EdgeConv(size, width) for size in edge_sizes])
        self.merge = nn.ModuleList([nn.Linear(width if i else 3 * width, width) for i in range(layers)])
        self.hidden = nn.ModuleList([nn.Linear(width, width) for _ in range(layers - 1)])
        self.final = nn.Linear(width, width)

    def forward(self, nodes: Tensor, edge_index: Tensor, edges: tuple[Tensor, ...]) -> Tensor:
        sent, kept = silu(self.sent(nodes)), silu(self.kept(nodes))
        heard = [
            silu(convolution(sent, edge_index, edge))
            for convolution, edge in zip(self.convolutions, edges, strict=True)
        ]
        hidden = torch.cat(heard, dim=-1)
        for layer in self.merge:
            hidden = silu(layer(hidden))
        hidden = hidden + kept
        for layer in self.hidden:
            hidden = silu(layer(hidden))
        return self.final(hidden)

    def load_flax(self, params: Mapping[str, Any]) -> None:
        for name in ("sent", "kept", "final"):
            load_linear(getattr(self, name), params[name])
        for name in ("merge", "hidden"):
            for number, layer in enumerate(getattr(self, name)):
                load_linear(layer, params[f"{name}_{number}"])
        for convolution, name in zip(self.convolutions, ("direction", "rotation", "position"), strict=True):
            for part in ("filter", "sum", "own"):
                load_linear(getattr(convolution, part), params[f"{name}_{part}"])


class ProNetNetwork(nn.Module):
    """Embedding of the nodes, geometry of the edges, then blocks: features of the nodes.

    Raises:
      ValueError: the config has another number of degrees than the published two.
    """

    def __init__(self, config: ProNetConfig, node_inputs: int, blocks: int) -> None:
        super().__init__()
        if config.num_spherical != 2:
            raise ValueError(f"num_spherical is {config.num_spherical}; allowed: 2, whose functions are written out")
        angles = 1 if config.level == "aminoacid" else 3
        edge_sizes = (4 * config.num_radial, 2 * angles * config.num_radial, 16)
        self.embedding = nn.Linear(node_inputs, config.width)
        self.edge_features = EdgeFeatures(config)
        self.blocks = nn.ModuleList([Block(config, edge_sizes) for _ in range(blocks)])

    def forward(self, residues: Residues, edge_index: Tensor) -> Tensor:
        """Residues, and edge_index [2, E] (sender, receiver) -> [N, C]."""
        nodes, edges = self.embedding(residues.features), self.edge_features(residues, edge_index)
        for block in self.blocks:
            nodes = block(nodes, edge_index, edges)
        return nodes

    def load_flax(self, params: Mapping[str, Any]) -> None:
        """Takes the parameters of a `bihf_jax.models.pronet.ProNetEncoder`."""
        load_linear(self.embedding, params["node_embedding"])
        for number, block in enumerate(self.blocks):
            block.load_flax(params[f"blocks_{number}"])


def load_linear(linear: nn.Linear, params: Mapping[str, Any]) -> None:
    """Kernel [inputs, outputs], and bias where there is one."""
    linear.weight.data = torch.from_numpy(np.array(params["kernel"]).T.copy())
    if linear.bias is not None:
        linear.bias.data = torch.from_numpy(np.array(params["bias"]))
