"""ProNet, a structure encoder (Wang et al. 2023, "Learning hierarchical protein representations via complete 3D graph
networks"), at amino-acid, backbone and all-atom level.

All features are invariant; edges hold the complete geometry (distances, angles and torsions), so that two proteins that
differ, mirror images included, have different graphs. Facts not in the paper are from the published code (DIG).
"""

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.basis import radial_bessel, spherical_harmonics, zonal_harmonics
from bihf_jax.models.config import ProNetConfig
from bihf_jax.models.dense import Dense, dense_product
from bihf_jax.models.dropout import Dropout, Noise, ResidueMasking
from bihf_jax.models.features import (
    BACKBONE_TORSIONS,
    chain_separation,
    choose_neighbours,
    edge_types,
    node_types,
    torsion_features,
)
from bihf_jax.models.graph import reduce_neighbours, sum_edges
from bihf_jax.models.relative_geometry import edge_geometry, euler_geometry

Array = jax.Array

# A float32 product is made of bfloat16 or TF32 passes on accelerators by default: too coarse for coordinates.
_EXACT = jax.lax.Precision.HIGHEST


def direction_features(distance: Array, direction: Array, config: ProNetConfig) -> Array:
    """R_ln(d) Y_lm(theta, phi) of each edge.

    Args:
      distance: [R, L, K] Å.
      direction: [R, L, K, 3] as in `EdgeGeometry`. Where theta is not defined only degree 0 is left, where phi is not,
        order 0.
      config: The number of functions, and the radius.

    Returns:
      [R, L, K, num_radial num_spherical^2].
    """
    radial = radial_bessel(distance, config.radius, config.num_spherical, config.num_radial)  # [.., l, n]
    degrees = jnp.asarray([degree for degree in range(config.num_spherical) for _ in range(2 * degree + 1)])
    angular = _where_defined(spherical_harmonics(direction, config.num_spherical), degrees, direction)
    return (radial[..., degrees, :] * angular[..., None]).reshape(*distance.shape, -1)


def angle_features(distance: Array, angles: Array, config: ProNetConfig) -> Array:
    """R_ln(d) Y_l0(angle) of each edge: [R, L, K] Å and [R, L, K, A, 2] cos, sin -> [.., A num_spherical num_radial].

    Where an angle is not defined only its degree 0 is left.
    """
    radial = radial_bessel(distance, config.radius, config.num_spherical, config.num_radial)  # [.., l, n]
    degrees = jnp.arange(config.num_spherical)
    angular = _where_defined(zonal_harmonics(angles[..., 0], config.num_spherical), degrees, angles)
    return (radial[..., None, :, :] * angular[..., None]).reshape(*distance.shape, -1)


def _where_defined(harmonics: Array, degrees: Array, vector: Array) -> Array:
    """Harmonics [.., H] of degrees [H], those above degree 0 only where the vector [.., 2 or 3] is not 0."""
    return jnp.where(jnp.any(vector != 0, axis=-1, keepdims=True) | (degrees == 0), harmonics, 0.0)


def turned(angles: Array, by: Array) -> Array:
    """Angles given as cos and sin [.., 2], each turned by so many radians [..]."""
    (cosine, sine), (cosine_by, sine_by) = jnp.moveaxis(angles, -1, 0), (jnp.cos(by), jnp.sin(by))
    return jnp.stack([cosine * cosine_by - sine * sine_by, sine * cosine_by + cosine * sine_by], axis=-1)


class Filter(nn.Module):
    """The matrix that turns a feature of the edges into a weight for each channel of the sender."""

    width: int

    @nn.compact
    def __call__(self, inputs: int) -> Array:
        """[inputs, width]."""
        return self.param("kernel", nn.initializers.lecun_normal(), (inputs, self.width))


class ProNetBlock(nn.Module):
    """The interaction block, with silu for the activation a:

        x = a(A h_i),  y = a(B h_i)
        m_f = a(C_f sum_j (W_f e_fij) * x_j + D_f x)     for each of the three features f of the edges
        h_i <- final(hidden layers(y + hidden layers([m_1, m_2, m_3])))

    Two linear maps in a row, of which the published code has some, are one here.
    """

    config: ProNetConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        nodes: Array,
        edges: tuple[Array, ...],
        neighbours: Array,
        edge_mask: Array,
        node_mask: Array,
        row_id: Array | None,
    ) -> Array:
        """Nodes [R, L, C], edges [R, L, K, ..] (zeros where masked) -> nodes [R, L, C], zeros where masked."""

        def dense(name: str, use_bias: bool = True) -> Dense:
            return Dense(self.config.width, use_bias, dtype=self.dtype, name=name)

        nodes = Noise(self.config.feature_noise, clip=4.0, name="feature_noise")(nodes, row_id)
        sent, kept = nn.silu(dense("sent")(nodes)), nn.silu(dense("kept")(nodes))
        names = ("direction", "rotation", "position")
        filters = [
            Filter(self.config.width, name=f"{name}_filter")(edge.shape[-1])
            for name, edge in zip(names, edges, strict=True)
        ]

        def filtered(filters: list[Array], sent_here: Array, edges: tuple[Array, ...], *_: object) -> tuple[Array, ...]:
            """Senders [.., K, C], edges [.., K, features] -> for each feature of the edges a sum over them [.., C]."""
            kernels = (kernel.astype(self.dtype) for kernel in filters)
            weights = (dense_product(edge, kernel, _EXACT) for edge, kernel in zip(edges, kernels, strict=True))
            return tuple(sum_edges(weight * sent_here, sent_here.ndim - 2) for weight in weights)

        totals = reduce_neighbours(filtered, filters, sent, edges, (), neighbours, edge_mask)
        heard = []
        for name, total in zip(names, totals, strict=True):
            update = nn.silu(dense(f"{name}_sum")(total) + dense(f"{name}_own", use_bias=False)(sent))
            heard.append(Dropout(self.config.dropout, name=f"{name}_dropout")(update, row_id))
        hidden = jnp.concatenate(heard, axis=-1)
        for layer in range(self.config.merge_layers):
            hidden = nn.silu(dense(f"merge_{layer}")(hidden))
        hidden += kept
        for layer in range(self.config.merge_layers - 1):
            hidden = nn.silu(dense(f"hidden_{layer}")(hidden))
        return jnp.where(node_mask[..., None], dense("final")(hidden), 0)


class ProNetState(NamedTuple):
    """What goes from block to block."""

    nodes: Array  # [R, L, C]
    edges: tuple[Array, Array, Array]  # [R, L, K, ..] direction, rotation and position of j; 0 where masked
    neighbours: Array  # [R, L, K]
    edge_mask: Array  # [R, L, K]
    node_mask: Array  # [R, L]


class ProNetEncoder(nn.Module):
    """The structure side as ProNet; see `structure.StructureEncoder` for the interface.

    Attributes:
      config: Level, widths and augmentations.
      stages: Groups of `config.layers_per_stage` blocks.
      dtype: Compute type.
    """

    config_class: ClassVar[type] = ProNetConfig
    # Distances, angles and the signs of phi and of the torsions are those of the moved, not of the mirrored protein.
    symmetry: ClassVar[str] = "SE(3)"
    inputs: ClassVar[tuple[str, ...]] = (
        "tokens",
        "backbone",
        "torsions",
        "ligand_atom",
        "edge_type",
    )  # torsions not at amino-acid level

    config: ProNetConfig
    stages: int
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        config = self.config
        block = nn.remat(ProNetBlock) if config.remat else ProNetBlock
        self.residue_masking = ResidueMasking(config.residue_masking)
        self.coordinate_noise = Noise(config.coordinate_noise, clip=3.0)
        self.angle_noise = Noise(config.angle_noise, clip=4.0)
        self.node_embedding = Dense(config.width, dtype=self.dtype)
        self.blocks = [block(config, self.dtype) for _ in range(self.stages * config.layers_per_stage)]

    def embed(self, batch: ProteinBatch, row_id: Array | None) -> ProNetState:
        """Nodes from residue types and torsions, edges from the geometry, augmented where `row_id` [R] is given."""
        shift = self.coordinate_noise(jnp.zeros((*batch.tokens.shape, 3)), row_id)  # a residue moves as a whole
        batch = batch._replace(
            tokens=self.residue_masking(batch.tokens, row_id), backbone=batch.backbone + shift[:, :, None]
        )
        batch = choose_neighbours(batch, self.config)
        nodes = jnp.where(batch.structure_mask[..., None], self.node_embedding(self._node_features(batch)), 0)
        edges = self._edge_features(batch, row_id)
        return ProNetState(nodes, edges, batch.neighbours, batch.neighbour_mask, batch.structure_mask)

    def _node_features(self, batch: ProteinBatch) -> Array:
        """`node_types` [R, L, ..], and 6 more from the backbone's torsions, 8 more from the side chain's, by level."""
        parts = [node_types(batch, self.config)]
        if self.config.level != "aminoacid":
            parts.append(torsion_features(batch, slice(0, BACKBONE_TORSIONS)))
        if self.config.level == "allatom":
            parts.append(torsion_features(batch, slice(BACKBONE_TORSIONS, None)))
        return jnp.concatenate(parts, axis=-1)

    def _edge_features(self, batch: ProteinBatch, row_id: Array | None) -> tuple[Array, Array, Array]:
        """Direction (d, theta, phi), rotation ((d, tau), or d with the Euler angles) and difference in sequence."""
        geometry = edge_geometry(batch)
        if self.config.level == "aminoacid":
            angles = geometry.torsion[..., None, :]
        else:
            angles = euler_geometry(batch)
            angles = turned(angles, self.angle_noise(jnp.zeros(angles.shape[:-1]), row_id))
        edges = (
            direction_features(geometry.distance, geometry.direction, self.config),
            angle_features(geometry.distance, angles, self.config),
            jnp.concatenate([chain_separation(batch)[0], edge_types(batch, self.config)], axis=-1),
        )
        mask = batch.neighbour_mask[..., None]
        return tuple(jnp.where(mask, edge, 0.0).astype(self.dtype) for edge in edges)

    def stage(self, stage: int, state: ProNetState, row_id: Array | None) -> ProNetState:
        """The blocks of one stage (from 0)."""
        nodes, first = state.nodes, stage * self.config.layers_per_stage
        for block in self.blocks[first : first + self.config.layers_per_stage]:
            nodes = block(nodes, state.edges, state.neighbours, state.edge_mask, state.node_mask, row_id)
        return state._replace(nodes=nodes)

    def scalars(self, state: ProNetState) -> Array:
        """The invariant features of the slots, [R, L, C]."""
        return state.nodes

    def add_scalars(self, state: ProNetState, update: Array) -> ProNetState:
        """The state with `update` [R, L, C] added to the invariant features."""
        return state._replace(nodes=state.nodes + update)
