"""The floor: a plain message-passing network on local-frame features, from scratch and without a pLM.

What one would try first on binding sites, as an own structure encoder (docs/encoders.md) and a config document:

    python -m experiments.train --config=benchmarks/floor.py:records=RECORDS,steps=N --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR --imports=benchmarks.floor

Everything but the encoder is that of configs/ppbs.py, so that scores and times can be compared.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import BACKBONE_ATOMS
from bihf_jax.models.config import StructureConfig
from bihf_jax.models.dropout import Dropout
from bihf_jax.models.features import (
    backbone_atoms,
    chain_separation,
    choose_neighbours,
    radial_basis,
    residue_types,
    torsion_features,
    unit_vector,
    vector_length,
)
from bihf_jax.models.graph import aggregate, gather_neighbours
from bihf_jax.models.structure import STRUCTURE_ENCODERS
from configs import ppbs

Array = jax.Array

_N, _CA, _C = (BACKBONE_ATOMS.index(atom) for atom in ("N", "CA", "C"))
_BURIAL_RADII = (6.0, 8.0, 10.0, 12.0)  # Å
_DISTANCE_CUTOFF = 20.0  # Å


@dataclasses.dataclass(frozen=True)
class LocalFramesConfig(StructureConfig):
    """Channels of nodes and messages, and what every encoder has."""

    name: str = dataclasses.field(default="local_frames", init=False)
    width: int = 96


class LocalFramesState(NamedTuple):
    """What goes from layer to layer."""

    nodes: Array  # [R, L, C]
    edges: Array  # [R, L, K, ..], 0 where masked
    batch: ProteinBatch  # with the chosen neighbours


def local_frames(atoms: Array) -> Array:
    """Axes of each residue's frame, from N, CA, C: [R, L, 5, 3] Å -> [R, L, 3 (axis), 3 (xyz)]."""
    alpha = atoms[..., _CA, :]
    x = unit_vector(atoms[..., _C, :] - alpha)
    z = unit_vector(jnp.cross(x, atoms[..., _N, :] - alpha))
    return jnp.stack([x, jnp.cross(z, x), z], axis=-2)


def edge_features(batch: ProteinBatch) -> tuple[Array, Array]:
    """Invariant features [R, L, K, 53] of the edges, 0 where masked, and the CA distances [R, L, K] Å.

    Distance, where the sender's CA lies and how its frame is turned, both in the receiver's frame, place in the chain.
    """
    atoms, _ = backbone_atoms(batch)
    frames, alpha = local_frames(atoms), atoms[..., _CA, :]
    difference = gather_neighbours(alpha, batch.neighbours) - alpha[:, :, None]
    distance = vector_length(difference)
    place = jnp.einsum("rlax,rlkx->rlka", frames, difference)
    turn = jnp.einsum("rlax,rlkbx->rlkab", frames, gather_neighbours(frames, batch.neighbours))
    separation, same_chain = chain_separation(batch)
    parts = [radial_basis(distance, _DISTANCE_CUTOFF), unit_vector(place), place / 10, turn.reshape(*distance.shape, 9)]
    features = jnp.concatenate([*parts, separation, same_chain[..., None].astype(jnp.float32)], axis=-1)
    return jnp.where(batch.neighbour_mask[..., None], features, 0.0), distance


class LocalFramesLayer(nn.Module):
    """norm(h_i + W mean_j gelu(A h_j + B e_ij + C h_i)), then the same with a feed-forward layer of each node."""

    config: LocalFramesConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, state: LocalFramesState, row_id: Array | None) -> Array:
        """State -> nodes [R, L, C], 0 where there is no structure."""

        def dense(name: str, width: int = self.config.width, use_bias: bool = True) -> nn.Dense:
            return nn.Dense(width, use_bias, dtype=self.dtype, name=name)

        nodes, batch = state.nodes, state.batch
        sender = gather_neighbours(dense("sender", use_bias=False)(nodes), batch.neighbours)
        message = sender + dense("edge", use_bias=False)(state.edges) + dense("receiver")(nodes)[:, :, None]
        update = dense("message")(aggregate(nn.gelu(message), batch.neighbour_mask))
        nodes = nn.LayerNorm(dtype=self.dtype)(nodes + Dropout(self.config.dropout)(update, row_id))
        update = dense("out")(nn.gelu(dense("hidden", 2 * self.config.width)(nodes)))
        nodes = nn.LayerNorm(dtype=self.dtype)(nodes + Dropout(self.config.dropout)(update, row_id))
        return jnp.where(batch.structure_mask[..., None], nodes, 0)


class LocalFramesEncoder(nn.Module):
    """The structure side of the floor; see `bihf_jax.models.structure.StructureEncoder` for the interface."""

    config_class: ClassVar[type] = LocalFramesConfig
    symmetry: ClassVar[str] = "SE(3)"  # a mirror image has other frames
    inputs: ClassVar[tuple[str, ...]] = ("tokens", "backbone", "torsions")

    config: LocalFramesConfig
    stages: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        self.embedding = nn.Dense(self.config.width, dtype=self.dtype)
        self.embedding_norm = nn.LayerNorm(dtype=self.dtype)
        count = self.stages * self.config.layers_per_stage
        self.layers = [LocalFramesLayer(self.config, self.dtype) for _ in range(count)]

    def embed(self, batch: ProteinBatch, row_id: Array | None) -> LocalFramesState:
        """Nodes from residue type, torsions and burial (neighbours within 6, 8, 10 and 12 Å); edges from the frames."""
        batch = choose_neighbours(batch, self.config)
        edges, distance = edge_features(batch)
        near = (distance[..., None] < jnp.asarray(_BURIAL_RADII)) & batch.neighbour_mask[..., None]
        burial = near.mean(axis=2, dtype=jnp.float32)  # [R, L, 4]
        features = [residue_types(batch, self.config), torsion_features(batch, slice(None)), burial]
        nodes = self.embedding_norm(self.embedding(jnp.concatenate(features, axis=-1)))
        nodes = jnp.where(batch.structure_mask[..., None], nodes, 0)
        return LocalFramesState(nodes, edges.astype(self.dtype), batch)

    def stage(self, stage: int, state: LocalFramesState, row_id: Array | None) -> LocalFramesState:
        """The layers of one stage (from 0)."""
        first = stage * self.config.layers_per_stage
        for layer in self.layers[first : first + self.config.layers_per_stage]:
            state = state._replace(nodes=layer(state, row_id))
        return state

    def scalars(self, state: LocalFramesState) -> Array:
        """The invariant features of the slots, [R, L, C]."""
        return state.nodes

    def add_scalars(self, state: LocalFramesState, update: Array) -> LocalFramesState:
        """The state with `update` [R, L, C] added to the invariant features."""
        return state._replace(nodes=state.nodes + update)


STRUCTURE_ENCODERS[LocalFramesConfig().name] = LocalFramesEncoder


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document: configs/ppbs.py, whose arguments it takes, with this encoder and no pLM."""
    config = ppbs.get_config(arg)
    config.encoder.fusion = {"name": "structure_only"}
    config.encoder.structure = {"name": "local_frames", "neighbours": 24, "dropout": 0.1}
    config.encoder.representation_width = 96
    return config
