"""Time and memory of structure encoders by the number of residues: a table, the exponents, and a picture.

Run by `python -m benchmarks.structure_speed RECORDS --curve CURVE.png`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from benchmarks.structure_speed import LENGTH, Case, encode, first_grid
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.records import RecordSet
from bihf_jax.figures import new_figure, save_figure

SLOTS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
ROUNDS, MOST_ROUNDS = 5, 30


@dataclasses.dataclass(frozen=True)
class Point:
    """An encoder on so many slots.

    Attributes:
      slots: of the grid; one in a hundred has no residue.
      forward, gradient: seconds, the medians.
      mebibytes: of temporary arrays that the program with gradient takes.
    """

    slots: int
    forward: float
    gradient: float
    mebibytes: float


QUANTITIES = {"forward": "forward, ms", "gradient": "forward and gradient, ms", "mebibytes": "temporary arrays, MiB"}


def measure(cases: Mapping[str, Case], records: RecordSet, picture: Path, slots: Sequence[int] = SLOTS) -> None:
    """Prints the table and writes the picture.

    Args:
      cases: encoders by name.
      records: real proteins, enough to fill the largest grid.
      picture: PNG to write; its folder is made.
      slots: sizes, up to `LENGTH` or multiples of it.
    """
    print("| encoder | slots | forward, ms | forward and gradient, ms | temporary arrays, MiB |")
    print("|---|---:|---:|---:|---:|")
    curves: dict[str, list[Point]] = {}
    for name, case in cases.items():
        rows = max(1, max(slots) // LENGTH)
        largest = ProteinBatch(*(x[0] for x in first_grid(records, rows, case.config.neighbours, devices=1)))
        curves[name] = [_point(case, cut(largest, size)) for size in slots]
        for point in curves[name]:
            times = f"{point.forward * 1e3:,.1f} | {point.gradient * 1e3:,.1f}"
            print(f"| {name} | {point.slots:,} | {times} | {point.mebibytes:,.0f} |", flush=True)
    print("\n| exponent of the slots | " + " | ".join(QUANTITIES.values()) + " |")
    print("|---|---:|---:|---:|")
    for name, points in curves.items():
        print(f"| {name} | " + " | ".join(f"{exponent(points, quantity):.2f}" for quantity in QUANTITIES) + " |")
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(curves, picture)


def cut(batch: ProteinBatch, slots: int) -> ProteinBatch:
    """The first rows of `LENGTH` slots, or the first slots of the first row.

    Neighbours beyond the cut become its last slot: other edges, as many as before.
    """
    rows, length = max(1, slots // LENGTH), min(slots, LENGTH)

    def cut_field(x: np.ndarray) -> jax.Array:
        return jnp.asarray(x[:rows, :length] if x.ndim > 1 and x.shape[1] == LENGTH else x[:rows])

    batch = ProteinBatch(*map(cut_field, batch))
    return batch._replace(neighbours=jnp.minimum(batch.neighbours, length - 1))


def _point(case: Case, batch: ProteinBatch) -> Point:
    encoder = case.encoder()
    params = jax.jit(lambda key: encoder.init(key, batch, method=encode)["params"])(jax.random.key(0))

    def forward(params: Any, batch: ProteinBatch) -> jax.Array:
        return encoder.apply({"params": params}, batch, method=encode)

    def loss(params: Any, batch: ProteinBatch) -> jax.Array:
        return jnp.sum(jnp.square(forward(params, batch)))

    programs = {
        "forward": jax.jit(forward).lower(params, batch).compile(),
        "gradient": jax.jit(jax.grad(loss)).lower(params, batch).compile(),
    }

    def run(name: str) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(programs[name](params, batch))

    times = timing.alternate({name: run(name) for name in programs}, ROUNDS, MOST_ROUNDS)
    return Point(
        slots=batch.tokens.size,
        forward=float(np.median(times["forward"])),
        gradient=float(np.median(times["gradient"])),
        mebibytes=programs["gradient"].memory_analysis().temp_size_in_bytes / 2**20,
    )


def exponent(points: Sequence[Point], quantity: str) -> float:
    """a of quantity ~ slots^a, by least squares of the logarithms: 1 where cost grows in proportion."""
    values = [getattr(point, quantity) for point in points]
    return float(np.polyfit(np.log([point.slots for point in points]), np.log(values), 1)[0])


def draw(curves: Mapping[str, Sequence[Point]], picture: Path) -> None:
    """Three panels on logarithmic axes, with the line of proportional growth beside the first curve."""
    figure = new_figure(11, 3.8)
    for axes, (quantity, label) in zip(figure.subplots(1, 3), QUANTITIES.items(), strict=True):
        factor = 1 if quantity == "mebibytes" else 1e3
        for name, points in curves.items():
            values = [factor * getattr(point, quantity) for point in points]
            legend = f"{name}: slots^{exponent(points, quantity):.2f}"
            axes.plot([point.slots for point in points], values, marker="o", markersize=3, label=legend)
        slots = np.asarray([point.slots for point in next(iter(curves.values()))])
        last = factor * getattr(next(iter(curves.values()))[-1], quantity)
        axes.plot(slots, last * slots / slots[-1], color="#999999", linestyle="--", label="in proportion")
        axes.set(xscale="log", yscale="log", xlabel="slots", ylabel=label)
        axes.set_xticks(slots, [f"{size:,}" for size in slots], rotation=45)
        axes.minorticks_off()
        axes.legend(fontsize=7)
    save_figure(figure, picture)
