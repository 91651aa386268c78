"""Structure encoders against PyTorch Geometric: same weights, same graphs of real proteins, outputs compared first.

    pip install torch torch_geometric
    python -m benchmarks.structure_speed RECORDS               # GVP-GNN of the published size, 30 neighbours
    python -m benchmarks.structure_speed RECORDS --curve       # time and memory from 128 to 16,384 residues

Contestants alternate in one process, and rounds in which another process was busy are discarded (`benchmarks.timing`).
Ours includes the geometric features, which the other gets ready-made, and the empty slots of the grid.
"""

import argparse
import functools
import sys
from collections.abc import Callable
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
from bihf_jax.models import GVPConfig
from bihf_jax.models.features import GeometricFeatures, geometric_features, residue_types
from bihf_jax.models.gvp import GVPEncoder

LENGTH = 1024
GRAPHS_PER_ROW = 24
LAYERS = 3
# The network of the published code's model quality assessment (gvp-pytorch, MQAModel), without dropout.
PUBLISHED = GVPConfig(scalar_width=100, vector_width=16, neighbours=30, message_gvps=3, dropout=0.0)
TOLERANCE = 1e-4  # max |a - b| / max |b|


def first_grid(records: RecordSet, rows: int, neighbours: int, devices: int) -> ProteinBatch:
    """The first training step of the records, [devices, rows / devices, L, ..]."""
    shape = GridShape({LENGTH: rows}, GRAPHS_PER_ROW, neighbours)
    source = StepSource(records, Schedule(records.slots, shape, seed=0), 1, shape, Host(0, 1, devices), seed=0)
    return source[0]


def encode(encoder: GVPEncoder, batch: ProteinBatch) -> jax.Array:
    """Scalars of all slots after all stages, [R, L, S]."""
    state = encoder.embed(batch, None)
    for stage in range(encoder.stages):
        state = encoder.stage(stage, state, None)
    return encoder.scalars(state)


def our_functions(encoder: GVPEncoder, params: Any, batch: ProteinBatch) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Forward, and forward with the gradient of all parameters, each to its end."""

    def forward(params: Any, batch: ProteinBatch) -> jax.Array:
        return encoder.apply({"params": params}, batch, method=encode)

    def gradient(params: Any, batch: ProteinBatch) -> Any:
        loss = lambda params: jnp.sum(jnp.square(forward(params, batch)))  # noqa: E731
        return jax.lax.psum(jax.grad(loss)(params), "device")

    spread = functools.partial(jax.pmap, axis_name="device", in_axes=(None, 0))
    forward, gradient = spread(forward), spread(gradient)
    return (
        lambda: jax.block_until_ready(forward(params, batch)),
        lambda: jax.block_until_ready(gradient(params, batch)),
    )


def peer_inputs(features: GeometricFeatures, types: jax.Array) -> tuple[Any, Any, Any]:
    """The same graph as an edge list, without empty slots: nodes, edge_index, edges as PyTorch has them."""
    import torch

    exists = np.asarray(features.node_mask).reshape(-1)
    number = np.cumsum(exists) - 1  # of a slot among the nodes
    rows, length, degree = features.neighbours.shape
    senders = np.asarray(features.neighbours) + np.arange(rows)[:, None, None] * length
    receivers = np.broadcast_to(np.arange(rows * length).reshape(rows, length, 1), (rows, length, degree))
    edge = np.asarray(features.edge_mask)
    edge_index = np.stack([number[senders[edge]], number[receivers[edge]]])

    def nodes(x: jax.Array) -> "torch.Tensor":
        return torch.from_numpy(np.asarray(x).reshape(rows * length, *x.shape[2:])[exists])

    def edges(x: jax.Array) -> "torch.Tensor":
        return torch.from_numpy(np.asarray(x)[edge])

    node_scalars = nodes(jnp.concatenate([features.node_scalars, types], axis=-1))
    node_vectors = nodes(features.node_vectors).transpose(-1, -2).contiguous()
    edge_vectors = edges(features.edge_vectors).transpose(-1, -2).contiguous()
    return (
        (node_scalars, node_vectors),
        torch.from_numpy(edge_index),
        (edges(features.edge_scalars), edge_vectors),
    )


def peer_functions(network: Any, inputs: tuple[Any, Any, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """As `our_functions`."""
    import torch

    def forward() -> Any:
        with torch.no_grad():
            return network(*inputs)

    def gradient() -> None:
        network.zero_grad(set_to_none=True)
        torch.sum(torch.square(network(*inputs))).backward()

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


def compare_gvp(records: RecordSet, rows: int, devices: int, rounds: int) -> None:
    """Prints the comparison with PyTorch Geometric."""
    from benchmarks.peers.gvp import GVPNetwork

    batch = first_grid(records, rows, PUBLISHED.neighbours, devices)
    flat = ProteinBatch(*(jnp.asarray(x.reshape(rows, *x.shape[2:])) for x in batch))
    encoder = GVPEncoder(PUBLISHED, LAYERS)
    params = encoder.init(jax.random.key(0), flat, method=encode)["params"]
    features = geometric_features(flat, PUBLISHED)
    inputs = peer_inputs(features, residue_types(flat, PUBLISHED))
    sizes = [(x[0].shape[-1], x[1].shape[-2]) for x in (inputs[0], inputs[2])]
    network = GVPNetwork(PUBLISHED, *sizes, LAYERS)
    network.load_flax(params)

    our_forward, our_gradient = our_functions(encoder, params, batch)
    peer_forward, peer_gradient = peer_functions(network, inputs)
    mask = np.asarray(features.node_mask)
    difference = check_equal(np.asarray(our_forward()).reshape(rows, LENGTH, -1)[mask], peer_forward().numpy())
    flops = product_flops(jax.make_jaxpr(lambda p: encoder.apply({"params": p}, flat, method=encode))(params).jaxpr)
    residues, peak = int(mask.sum()), matmul_peak()
    print(
        f"{residues} residues, {inputs[1].shape[1]} edges in {rows} rows of {LENGTH}; {devices} device(s); "
        f"outputs equal to {difference:.1e}; product peak {peak / 1e9:.0f} GFLOP/s"
    )
    print("| GVP-GNN, published size | residues/s, ours | PyTorch Geometric | ratio [10 %, 90 %] | share of the peak |")
    print("|---|---|---|---|---|")
    for name, ours, theirs, factor in (
        ("forward", our_forward, peer_forward, 1),
        ("forward and gradient", our_gradient, peer_gradient, 3),
    ):
        times = timing.compare(ours, theirs, rounds)
        ratio, low, high = times.ratio
        mine, other = np.median(times.ours), np.median(times.theirs)
        print(
            f"| {name} | {residues / mine:,.0f} | {residues / other:,.0f} | {ratio:.2f} [{low:.2f}, {high:.2f}] "
            f"| {factor * flops / mine / peak:.0%} |",
            flush=True,
        )
        print(f"{times.discarded} of {len(times.ours) + times.discarded} rounds discarded", file=sys.stderr)


def curve(records: RecordSet) -> None:
    """Prints time and memory of forward and gradient by the number of slots, in rows of 128 (one) to 1,024."""
    print("| slots | forward, ms | forward and gradient, ms | temporaries, MiB |")
    print("|---|---|---|---|")
    largest = first_grid(records, 16, PUBLISHED.neighbours, 1)
    encoder = GVPEncoder(PUBLISHED, LAYERS)
    for slots in (128, 256, 512, 1024, 2048, 4096, 8192, 16384):
        rows, length = max(1, slots // LENGTH), min(slots, LENGTH)
        # Neighbours beyond the cut are clipped to the last slot: other edges, the same work.
        batch = ProteinBatch(*(jnp.asarray(_cut(x[0], rows, length)) for x in largest))
        batch = batch._replace(neighbours=jnp.minimum(batch.neighbours, length - 1))
        params = encoder.init(jax.random.key(0), batch, method=encode)["params"]
        forward = jax.jit(lambda p, b: encoder.apply({"params": p}, b, method=encode))
        gradient = jax.jit(jax.grad(lambda p, b: jnp.sum(jnp.square(encoder.apply({"params": p}, b, method=encode)))))
        memory = gradient.lower(params, batch).compile().memory_analysis().temp_size_in_bytes
        run_forward = lambda: jax.block_until_ready(forward(params, batch))  # noqa: B023, E731
        run_gradient = lambda: jax.block_until_ready(gradient(params, batch))  # noqa: B023, E731
        times = timing.alternate({"forward": run_forward, "gradient": run_gradient}, 5, 30)
        milliseconds = [np.median(times[name]) * 1e3 for name in ("forward", "gradient")]
        print(f"| {slots} | {milliseconds[0]:.0f} | {milliseconds[1]:.0f} | {memory / 2**20:.0f} |", flush=True)


def _cut(x: np.ndarray, rows: int, length: int) -> np.ndarray:
    """The first rows, and of fields with slots the first slots."""
    return x[:rows, :length] if x.ndim > 1 and x.shape[1] == LENGTH else x[:rows]


def main() -> None:
    """Parses arguments and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", help="folder of records (data_prep.build)")
    parser.add_argument("--split", default="train")
    parser.add_argument("--rows", type=int, default=2, help="rows of 1,024 slots")
    parser.add_argument("--devices", type=int, default=2, help="simulated CPU devices that share the rows")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--curve", action="store_true", help="time and memory by size instead")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 1 if arguments.curve else arguments.devices)
    records = RecordSet(arguments.records, arguments.split)
    if arguments.curve:
        curve(records)
    else:
        compare_gvp(records, arguments.rows, arguments.devices, arguments.rounds)


if __name__ == "__main__":
    main()
