"""Structure encoders: against PyTorch Geometric, by the number of residues, and as a part of the fused training step.

    pip install torch torch_geometric
    python -m benchmarks.structure_speed RECORDS                            # every case against PyTorch Geometric
    python -m benchmarks.structure_speed RECORDS --cases gvp,pronet-allatom
    python -m benchmarks.structure_speed RECORDS --curve CURVE.png          # time and memory to 16,384 slots
    python -m benchmarks.structure_speed RECORDS --fused FOLDER             # where the time of whole steps goes

Against PyTorch Geometric both sides have the same weights and the same edges of real proteins, and their outputs are
compared first. Contestants alternate in one process, and rounds in which another process was busy are discarded
(`benchmarks.timing`). Ours includes the choice of the edges, the geometric features and the empty slots of the grid;
the other GVP-GNN gets its features ready-made, the other ProNet computes them from coordinates.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.compile_report import product_flops
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.pipeline import Host, StepSource
from bihf_jax.data.plan import GridShape, Schedule
from bihf_jax.data.records import RecordSet
from bihf_jax.models import GVPConfig, MPNNConfig, ProNetConfig, StructureConfig
from bihf_jax.models.features import (
    BACKBONE_TORSIONS,
    backbone_atoms,
    choose_neighbours,
    geometric_features,
    residue_types,
    torsion_features,
)
from bihf_jax.models.structure import StructureEncoder, structure_encoder
from bihf_jax.training import step as step_lib

LENGTH = 1024
GRAPHS_PER_ROW = 24
TOLERANCE = 1e-4  # max |a - b| / max |b|


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoder of the published size, without dropout.

    Attributes:
      title: what it is.
      config: its settings.
      layers: graph layers.
    """

    title: str
    config: StructureConfig
    layers: int

    def encoder(self) -> StructureEncoder:
        """One stage a layer."""
        return structure_encoder(self.config.name)(self.config, self.layers)


def _pronet(level: str) -> Case:
    """Width 128, 4 blocks, a radius graph of 10 Å with at most 32 neighbours (Wang et al. 2023)."""
    return Case(f"ProNet, {level} level", ProNetConfig(level=level, neighbours=32, dropout=0.0), layers=4)


CASES: dict[str, Case] = {
    # The network of the published code's model quality assessment (gvp-pytorch, MQAModel).
    "gvp": Case(
        "GVP-GNN", GVPConfig(scalar_width=100, vector_width=16, neighbours=30, message_gvps=3, dropout=0.0), layers=3
    ),
    "pronet": _pronet("backbone"),
    "pronet-aminoacid": _pronet("aminoacid"),
    "pronet-allatom": _pronet("allatom"),
}
# Not a published network but the plain reference, one `jraph.GraphNetwork` a layer. In the curve and the fused steps.
PLAIN = Case("mpnn", MPNNConfig(neighbours=30, dropout=0.0), layers=3)


def first_grid(records: RecordSet, rows: int, neighbours: int, devices: int) -> ProteinBatch:
    """The first training step of the records, [devices, rows / devices, L, ..]."""
    shape = GridShape({LENGTH: rows}, GRAPHS_PER_ROW, neighbours)
    source = StepSource(records, Schedule(records.slots, shape, seed=0), 1, shape, Host(0, 1, devices), seed=0)
    return source[0]


def encode(encoder: StructureEncoder, batch: ProteinBatch) -> jax.Array:
    """Scalars of all slots after all stages, [R, L, S]."""
    state = encoder.embed(batch, None)
    for stage in range(encoder.stages):
        state = encoder.stage(stage, state, None)
    return encoder.scalars(state)


def our_functions(
    encoder: StructureEncoder, params: Any, batch: ProteinBatch
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Forward, and forward with the gradient of all parameters, each to its end; batch [devices, rows / devices, ..].

    Parameters and batch lie on the devices, as the peer's do.
    """

    def forward(params: Any, batch: ProteinBatch) -> jax.Array:
        return encoder.apply({"params": params}, batch, method=encode)

    def gradient(params: Any, batch: ProteinBatch) -> Any:
        loss = lambda params: jnp.sum(jnp.square(forward(params, batch)))  # noqa: E731
        return jax.lax.psum(jax.grad(loss)(params), step_lib.AXIS)

    spread = functools.partial(jax.pmap, axis_name=step_lib.AXIS)
    run_forward, run_gradient = spread(forward), spread(gradient)
    inputs = step_lib.replicate(params), spread(lambda batch: batch)(batch)
    return (
        lambda: jax.block_until_ready(run_forward(*inputs)),
        lambda: jax.block_until_ready(run_gradient(*inputs)),
    )


@dataclasses.dataclass(frozen=True)
class Peer:
    """The same network on PyTorch Geometric.

    Attributes:
      network: a torch module with our parameters.
      inputs: what it is called with: the graph without empty slots, nodes in the order of the slots.
      edges: their number.
    """

    network: Any
    inputs: tuple[Any, ...]
    edges: int


def make_peer(case: Case, params: Any, batch: ProteinBatch) -> Peer:
    """The peer of a case for a batch [R, L, ..], with the parameters of our encoder.

    Raises:
      KeyError: the case has none.
    """
    return {"gvp": _gvp_peer, "pronet": _pronet_peer}[case.config.name](case, params, batch)


def _gvp_peer(case: Case, params: Any, batch: ProteinBatch) -> Peer:
    from benchmarks.peers.gvp import GVPNetwork

    features = geometric_features(batch, case.config)
    edge_index = _edge_index(features.neighbours, features.edge_mask, features.node_mask)
    nodes, edges = (functools.partial(_tensor, mask) for mask in (features.node_mask, features.edge_mask))
    node_scalars = jnp.concatenate([features.node_scalars, residue_types(batch, case.config)], axis=-1)
    node_features = (nodes(node_scalars), nodes(features.node_vectors).mT.contiguous())
    edge_features = (edges(features.edge_scalars), edges(features.edge_vectors).mT.contiguous())
    sizes = [(scalars.shape[-1], vectors.shape[-2]) for scalars, vectors in (node_features, edge_features)]
    network = GVPNetwork(case.config, *sizes, case.layers)
    network.load_flax(params)
    return Peer(network, (node_features, edge_index, edge_features), edge_index.shape[1])


def _pronet_peer(case: Case, params: Any, batch: ProteinBatch) -> Peer:
    from benchmarks.peers.pronet import ProNetNetwork, Residues

    batch = choose_neighbours(batch, case.config)
    edge_index = _edge_index(batch.neighbours, batch.neighbour_mask, batch.structure_mask)
    nodes = functools.partial(_tensor, batch.structure_mask)
    torsions = {"aminoacid": 0, "backbone": BACKBONE_TORSIONS, "allatom": batch.torsions.shape[-1]}[case.config.level]
    groups = (slice(0, min(torsions, BACKBONE_TORSIONS)), slice(BACKBONE_TORSIONS, torsions))
    features = [torsion_features(batch, group) for group in groups if group.start < group.stop]
    n, alpha, c = (backbone_atoms(batch)[0][:, :, atom] for atom in range(3))
    rows, length = batch.tokens.shape
    residues = Residues(
        features=nodes(jnp.concatenate([residue_types(batch, case.config), *features], axis=-1)),
        n=nodes(n),
        alpha=nodes(alpha),
        c=nodes(c),
        chain=nodes(batch.chain_segment + jnp.arange(rows)[:, None] * length).long(),
        place=nodes(jnp.broadcast_to(jnp.arange(length), (rows, length))).long(),
    )
    network = ProNetNetwork(case.config, residues.features.shape[-1], case.layers)
    network.load_flax(params)
    return Peer(network, (residues, edge_index), edge_index.shape[1])


def _tensor(mask: jax.Array, x: jax.Array) -> Any:
    """What exists of [R, L, ..] or [R, L, K, ..], one after the other, as PyTorch has it."""
    import torch

    return torch.from_numpy(np.asarray(x)[np.asarray(mask)])


def _edge_index(neighbours: jax.Array, edge_mask: jax.Array, node_mask: jax.Array) -> Any:
    """[2, E] int64, senders and receivers: numbers of nodes among those that exist."""
    import torch

    number = np.cumsum(np.asarray(node_mask).reshape(-1)) - 1  # of a slot among the nodes
    rows, length, degree = neighbours.shape
    senders = np.asarray(neighbours) + np.arange(rows)[:, None, None] * length
    receivers = np.broadcast_to(np.arange(rows * length).reshape(rows, length, 1), (rows, length, degree))
    exists = np.asarray(edge_mask)
    return torch.from_numpy(np.stack([number[senders[exists]], number[receivers[exists]]]))


def peer_functions(peer: Peer) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """As `our_functions`."""
    import torch

    def forward() -> Any:
        with torch.no_grad():
            return peer.network(*peer.inputs)

    def gradient() -> None:
        peer.network.zero_grad(set_to_none=True)
        torch.sum(torch.square(peer.network(*peer.inputs))).backward()

    return forward, gradient


def check_equal(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max |a - b| / max |b|.

    Raises:
      RuntimeError: above the tolerance: what is timed would not be the same work.
    """
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not difference <= TOLERANCE:
        raise RuntimeError(f"the outputs differ by {difference:.1e} of the largest; allowed {TOLERANCE:.0e}")
    return difference


def matmul_peak(size: int = 2048, rounds: int = 5) -> float:
    """FLOP/s of a large float32 product, the better of PyTorch's and ours."""
    import torch

    ours, theirs = jnp.ones((size, size)), torch.ones((size, size))
    product = jax.jit(jnp.dot)
    times = timing.alternate(
        {"ours": lambda: product(ours, ours).block_until_ready(), "theirs": lambda: theirs @ theirs}, rounds, 40
    )
    return 2 * size**3 / min(times["ours"].min(), times["theirs"].min())


def compare_case(case: Case, records: RecordSet, rows: int, devices: int, rounds: int, peak: float) -> list[str]:
    """Rows of the table of comparisons with PyTorch Geometric; says on stderr what was compared.

    Args:
      case: which.
      records: the real proteins.
      rows: rows of the grid.
      devices: simulated devices that share them.
      rounds: undisturbed rounds wanted.
      peak: FLOP/s of a large product.
    """
    batch = first_grid(records, rows, case.config.neighbours, devices)
    flat = ProteinBatch(*(jnp.asarray(x.reshape(rows, *x.shape[2:])) for x in batch))
    encoder = case.encoder()
    params = encoder.init(jax.random.key(0), flat, method=encode)["params"]
    peer = make_peer(case, params, flat)
    our_forward, our_gradient = our_functions(encoder, params, batch)
    peer_forward, peer_gradient = peer_functions(peer)
    mask = np.asarray(flat.structure_mask)
    difference = check_equal(np.asarray(our_forward()).reshape(rows, LENGTH, -1)[mask], peer_forward().numpy())
    flops = product_flops(jax.make_jaxpr(lambda p: encoder.apply({"params": p}, flat, method=encode))(params).jaxpr)
    residues = int(mask.sum())
    print(
        f"{case.title}: {residues:,} residues, {peer.edges:,} edges in {rows} rows of {LENGTH:,}; {devices} device(s); "
        f"outputs equal to {difference:.1e}",
        file=sys.stderr,
    )
    table = []
    for name, ours, theirs, factor in (
        ("forward", our_forward, peer_forward, 1),
        ("forward and gradient", our_gradient, peer_gradient, 3),
    ):
        times = timing.compare(ours, theirs, rounds)
        ratio, low, high = times.ratio
        mine, other = np.median(times.ours), np.median(times.theirs)
        table.append(
            f"| {case.title} | {name} | {residues / mine:,.0f} | {residues / other:,.0f} "
            f"| {ratio:.2f} [{low:.2f}, {high:.2f}] | {factor * flops / mine / peak:.0%} |"
        )
        print(f"{times.discarded} of {len(times.ours) + times.discarded} rounds discarded", file=sys.stderr)
    return table


def compare(cases: Mapping[str, Case], records: RecordSet, rows: int, devices: int, rounds: int) -> None:
    """Prints the table of comparisons with PyTorch Geometric."""
    peak = matmul_peak()
    print(f"The peak is that of a large float32 product, {peak / 1e9:.0f} GFLOP/s.\n")
    print("| encoder | | residues/s, ours | PyTorch Geometric | ratio [10 %, 90 %] | share of the peak |")
    print("|---|---|---|---|---|---|")
    for case in cases.values():
        for line in compare_case(case, records, rows, devices, rounds, peak):
            print(line, flush=True)


def main() -> None:
    """Parses arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", help="folder of records (data_prep.build)")
    parser.add_argument("--split", default="train")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--rows", type=int, default=2, help="rows of 1,024 slots")
    parser.add_argument("--devices", type=int, default=2, help="simulated CPU devices that share the rows")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--curve", type=Path, metavar="PNG", help="time and memory by size instead")
    parser.add_argument("--fused", type=Path, metavar="FOLDER", help="parts of whole training steps instead")
    arguments = parser.parse_args()
    unknown = set(arguments.cases.split(",")) - CASES.keys()
    if unknown:
        parser.error(f"--cases has {', '.join(sorted(unknown))}; allowed: {', '.join(CASES)}")
    cases = {name: CASES[name] for name in arguments.cases.split(",")}
    jax.config.update("jax_num_cpu_devices", 1 if arguments.curve else arguments.devices)
    records = RecordSet(arguments.records, arguments.split)
    if arguments.curve:
        from benchmarks import structure_curve

        structure_curve.measure({**cases, "mpnn": PLAIN}, records, arguments.curve)
    elif arguments.fused:
        from benchmarks import fused_step

        fused_step.measure({**cases, "mpnn": PLAIN}, records, arguments.fused, arguments.rows)
    else:
        compare(cases, records, arguments.rows, arguments.devices, arguments.rounds)


if __name__ == "__main__":
    main()
