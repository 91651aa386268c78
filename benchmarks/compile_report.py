"""What the TPU compiler says about a step: the real training and scoring steps, compiled for chips that are not here.

    pip install -e '.[tpu]'
    python -m benchmarks.compile_report --sizes 8M,650M --methods local,global --topologies v5e:2x2,v5e:16x16,v5p:2x2x1

`libtpu` compiles for a topology on any machine. The command compiles the pmapped steps of `bihf_jax.training.step` for
each combination, without making a parameter, and writes one JSON line for each into --results as soon as it is done; a
combination that is there already is not compiled again. It then writes the tables between the markers of --docs, which
also says what each column means. "cpu" is a topology too, of this machine; its figures say nothing about a TPU.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from bihf_jax.data.grid import empty_grid
from bihf_jax.models import EncoderConfig, FusionConfig, GVPConfig, HeadConfig, LearningConfig, PLMConfig, TaskModel
from bihf_jax.models.config import FUSION_METHODS, PLM_SIZES
from bihf_jax.models.platform import compiling_for
from bihf_jax.tasks import make_task
from bihf_jax.training import step as step_lib
from bihf_jax.training.optimizer import OptimizerConfig, make_optimizer
from bihf_jax.training.profile import module_of

# What libtpu needs where there is no TPU: not to look for one, and not to refuse a second process.
COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
}

SIZES = {re.search(r"_(\d+[MB])_", name).group(1): name for name in PLM_SIZES}  # "8M" -> "esm2_t6_8M_UR50D"
STEPS = ("train", "score")
CPU = "cpu"

# The structure side of the published model quality assessment network (gvp-pytorch, MQAModel), on the grid of a step.
PUBLISHED_GVP = GVPConfig(scalar_width=100, vector_width=16, neighbours=30, message_gvps=3, remat=True)
STAGES = 3  # its graph layers, one before each fusion
GRAPHS_PER_ROW = 24

LANES = 128  # a TPU's vector registers and matrix units are so wide; narrower operands are padded to it


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip as its maker states it."""

    bfloat16_flops: float  # peak, FLOP/s
    memory: float  # HBM, bytes
    matrix_units: int  # of 128 x 128 multiply-adds a cycle

    @property
    def clock(self) -> float:
        """Cycles/s: what the peak implies."""
        return self.bfloat16_flops / (self.matrix_units * 2 * LANES**2)


CHIPS = {"v5e": Chip(197e12, 16 * 2**30, 4), "v5p": Chip(459e12, 95 * 2**30, 8)}


@dataclasses.dataclass(frozen=True)
class Case:
    """One program to compile."""

    topology: str  # "cpu", or as libtpu names it, e.g. "v5e:16x16"
    size: str  # key of `SIZES`
    fusion: str  # key of `FUSION_METHODS`
    step: str  # "train" or "score"
    rows: int  # rows of the grid on each chip
    length: int  # slots of a row
    attention: str = "auto"
    mode: str = "full"  # of the pLM, key of `LEARNING_MODES`
    remat: str = "nothing"  # what a recomputed block of the pLM keeps, as `PLMConfig.remat_keeps`
    scan: bool = False  # as `PLMConfig.scan`

    def encoder_config(self) -> EncoderConfig:
        """bfloat16, and every block and layer recomputed in the backward pass."""
        learning = LearningConfig(mode=self.mode)
        return EncoderConfig(
            plm=PLMConfig.named(
                SIZES[self.size], remat=True, remat_keeps=self.remat, scan=self.scan, learning=learning
            ),
            structure=PUBLISHED_GVP,
            fusion=FusionConfig.named(self.fusion),
            stages=STAGES,
            dtype="bfloat16",
            attention=self.attention,
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """The compiler's figures for one chip."""

    case: Case
    devices: int
    parameters: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int  # of the outputs, in place of arguments (the donated state)
    temporary_bytes: int
    code_bytes: int
    flops: float  # as the compiler counts them: recomputation included, Pallas kernels not
    bytes_accessed: float
    model_flops: float  # `product_flops` of the equations
    collectives: dict[str, tuple[int, int]]  # kind -> (count, bytes of the results)
    cycles: float  # the compiler's estimate, summed over the operations that have one
    kernel_flops: float  # of the attention kernels, which have none; see `attention_kernel_flops`
    roofline_seconds: float | None  # `roofline_seconds` of what cost_analysis() gives
    compile_seconds: float
    parts: dict[str, float] = dataclasses.field(default_factory=dict)  # `cycles_of_parts`

    @property
    def memory(self) -> int:
        """Bytes in HBM while the step runs."""
        return self.argument_bytes + self.output_bytes - self.alias_bytes + self.temporary_bytes + self.code_bytes

    @property
    def chip(self) -> Chip | None:
        return CHIPS.get(self.case.topology.partition(":")[0])

    @property
    def seconds(self) -> float | None:
        """The compiler's cycles, and the attention kernels at the chip's peak."""
        if self.chip is None:
            return None
        return self.cycles / self.chip.clock + self.kernel_flops / self.chip.bfloat16_flops

    @property
    def roofline(self) -> float | None:
        """Seconds at the peak of products or of memory, whichever is slower for each operation; kernels at the peak."""
        if self.chip is None or self.roofline_seconds is None:
            return None
        return self.roofline_seconds + self.kernel_flops / self.chip.bfloat16_flops

    def utilisation(self, seconds: float) -> float:
        """Model FLOPs / (seconds x peak)."""
        return self.model_flops / (seconds * self.chip.bfloat16_flops)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Report":
        values = json.loads(line)
        collectives = {kind: tuple(value) for kind, value in values.pop("collectives").items()}
        return cls(case=Case(**values.pop("case")), collectives=collectives, **values)


def topology_devices(topology: str) -> Sequence[Any]:
    """The devices of a topology: described by libtpu, or this machine's for "cpu".

    Raises:
      RuntimeError: libtpu is not installed, or knows no such topology; says what to do.
    """
    if topology == CPU:
        return jax.devices(CPU)
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(topology, "tpu").devices
    except Exception as error:  # libtpu's own errors have no common type
        raise RuntimeError(
            f"libtpu cannot describe the topology {topology!r}: {error}. Install it (pip install -e '.[tpu]') and give "
            "a topology that it knows, e.g. v5e:2x2, v5e:16x16 or v5p:2x2x1."
        ) from error


class Program(NamedTuple):
    """A step that is traced and not yet compiled."""

    lowered: jax.stages.Lowered
    state: step_lib.TrainState  # shapes on one device
    batch: Any  # shapes on one device
    devices: int

    def compile(self, topology: str) -> tuple[jax.stages.Compiled, float]:
        """The compiled program, and how many seconds it took."""
        start = time.monotonic()
        with compiling_for(CPU if topology == CPU else "tpu"):
            return self.lowered.compile(), time.monotonic() - start


def abstract_batch(case: Case, encoder: EncoderConfig) -> Any:
    """Shapes of the batch of one device."""
    grid = empty_grid(case.rows, case.length, encoder.structure.neighbours, GRAPHS_PER_ROW)
    return jax.eval_shape(lambda: jax.tree.map(jnp.asarray, grid))


def abstract_state(case: Case, encoder: EncoderConfig) -> step_lib.TrainState:
    """Shapes of the training state of one device."""
    model, optimizer = TaskModel(encoder, HeadConfig()), make_optimizer(OptimizerConfig(), 1000, encoder.plm)
    init = functools.partial(step_lib.init_state, model, optimizer, encoder.plm, seed=0)
    return jax.eval_shape(init, abstract_batch(case, encoder))


def lower_case(case: Case, encoder: EncoderConfig) -> Program:
    """Traces the step of a case with this encoder."""
    devices = topology_devices(case.topology)
    model, task = TaskModel(encoder, HeadConfig()), make_task("ppbs")
    optimizer = make_optimizer(OptimizerConfig(), 1000, encoder.plm)
    batch, state = abstract_batch(case, encoder), abstract_state(case, encoder)
    if case.step == "train":
        step = step_lib.pmap_train_step(model, task, optimizer, encoder.plm, seed=0, devices=devices)
        arguments = (state, batch)
    else:
        step, arguments = step_lib.pmap_score_step(model, task, devices=devices), (state.params, batch)
    with compiling_for(CPU if case.topology == CPU else "tpu"):
        return Program(step.lower(*_on_each(arguments, len(devices))), state, batch, len(devices))


def compile_case(case: Case, encoder: EncoderConfig | None = None) -> Report:
    """Compiles one program.

    Args:
      case: Which.
      encoder: The model's config; `case.encoder_config()` where None.
    """
    encoder = encoder or case.encoder_config()
    program = lower_case(case, encoder)
    state, batch = program.state, program.batch
    compiled, seconds = program.compile(case.topology)

    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    return Report(
        case=case,
        devices=program.devices,
        parameters=sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state.params)),
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        model_flops=model_flops(encoder, state.params, batch) * (3 if case.step == "train" else 1),
        collectives=collectives(text),
        cycles=estimated_cycles(text),
        kernel_flops=attention_kernel_flops(text),
        roofline_seconds=roofline_seconds(cost.get("optimal_seconds"), text),
        compile_seconds=seconds,
        parts=cycles_of_parts(text),
    )


def _on_each(tree: Any, devices: int) -> Any:
    """Shapes with a leading device axis."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype), tree)


def model_flops(encoder: EncoderConfig, params: Any, batch: Any) -> float:
    """FLOPs of the matrix products that the equations of one forward pass ask for, on one device.

    Attention counts the whole row, as if it were one chain. What is not counted: elementwise work, recomputation, and
    the one-hot products that stand for gathers on a TPU. A training step is three times that.
    """
    model = TaskModel(dataclasses.replace(encoder, attention="dense"), HeadConfig())
    with compiling_for(CPU):
        return product_flops(jax.make_jaxpr(lambda p, b: model.apply({"params": p}, b, None))(params, batch).jaxpr)


def product_flops(jaxpr: Any) -> float:
    """FLOPs of the matrix products of a traced function: 2 x elements of the result x length contracted, each."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * np.prod(out) * np.prod([left[axis] for axis in contracted])
        trips = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += trips * sum(product_flops(inner) for inner in jaxprs_in_params(equation.params))
    return float(total)


# One operation of the optimised program: name, type of the result, kind, the rest of the line.
_OPERATION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)(?:e\dm\d\w*)?\[([\d,]*)\]")
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def _computations(text: str) -> dict[str, list[tuple[str, str, str, str]]]:
    """Computation -> its operations, of an HLO text; the entry is called "ENTRY"."""
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    for line in text.splitlines():
        header = re.match(r"^(ENTRY )?%([\w.\-]+) .*\{$", line)
        if header:
            current = found.setdefault("ENTRY" if header[1] else header[2], [])
        operation = _OPERATION.match(line)
        if operation:
            current.append(operation.groups())
    return found


def _array_bytes(types: str) -> list[int]:
    """Bytes of each array in the type of a result, layouts' padding not counted."""
    bits = {"pred": 8}
    return [
        int(np.prod([int(n) for n in shape.split(",") if n])) * bits.get(kind, int(re.sub(r"\D", "", kind) or 8)) // 8
        for kind, shape in _ARRAY.findall(types)
    ]


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """Kind of collective -> (count, bytes of the results) in an optimised HLO text."""
    found: dict[str, tuple[int, int]] = {}
    for operation in itertools.chain(*_computations(text).values()):
        kind = operation[2].removesuffix("-start")  # an asynchronous one is counted where it starts
        if kind in _COLLECTIVES:
            sizes = _array_bytes(operation[1])
            # all-gather-start and collective-permute-start return their operands too, before the results.
            own = sizes[len(sizes) // 2 :] if operation[2].endswith("-start") and kind != "all-reduce" else sizes
            count, total = found.get(kind, (0, 0))
            found[kind] = (count + 1, total + sum(own))
    return found


def estimates(text: str) -> Iterator[tuple[str, float]]:
    """(path of the module, cycles) of the operations that the TPU compiler's cost model gave an estimate.

    A loop's are multiplied by its trips. Operations without an estimate: custom calls, transfers that overlap with the
    rest, collectives.
    """
    computations = _computations(text)

    def walk(name: str, trips: int) -> Iterator[tuple[str, float]]:
        for _, _, kind, rest in computations[name]:
            if cycles := re.search(r'"estimated_cycles":"(\d+)"', rest):
                path = re.search(r'op_name="([^"]*)"', rest)
                yield path[1] if path else "", trips * float(cycles[1])
            if kind == "while":
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
                for inner in re.findall(r"(?:body|condition)=%([\w.\-]+)", rest):
                    yield from walk(inner, trips * (int(known[1]) if known else 1))

    return walk("ENTRY", 1)


def estimated_cycles(text: str) -> float:
    """The cycles of all `estimates` of a program."""
    return sum(cycles for _, cycles in estimates(text))


def cycles_of_parts(text: str) -> dict[str, float]:
    """ "part direction" -> cycles of a training step's program, such as "plm backward"; see `profile.module_of`."""
    parts: dict[str, float] = {}
    for path, cycles in estimates(text):
        module, direction = module_of(path)
        name = f"{module.partition('/')[0]} {direction}".strip()
        parts[name] = parts.get(name, 0.0) + cycles
    return parts


# Custom calls for each of which `optimal_seconds` is a second too short; those of asynchronous calls occur on v5p.
_SUBTRACTED = ("ConcatBitcast", "PrepareAsyncCallStart", "PrepareAsyncCallDone")


def roofline_seconds(optimal_seconds: float | None, text: str) -> float | None:
    """`optimal_seconds` of cost_analysis() without its error: it subtracts a second for each call of some kinds.

    Each operation counts the longer of its FLOPs at the chip's peak and its bytes at the memory's; Pallas kernels and
    collectives count 0. None where the backend gives none (CPU).
    """
    if optimal_seconds is None:
        return None
    return optimal_seconds + sum(text.count(f'custom_call_target="{target}"') for target in _SUBTRACTED)


def attention_kernel_flops(text: str) -> float:
    """FLOPs of the splash attention kernels of a program on the matrix units, heads padded to their width.

    The compiler gives custom calls no cost. Products of [L, D] and [D, L] or [L, L] and [L, D] a head: two in the
    forward kernel, three for the gradient of the queries, four for that of keys and values.
    """
    products = {"fwd": 2, "dq": 3, "dkv": 4}
    total = 0.0
    for name, _, kind, rest in itertools.chain(*_computations(text).values()):
        kernel = re.match(r"splash_mha_(fwd|dq|dkv)_", name)
        if kind == "custom-call" and kernel:
            # Two arrays of blocks, then queries [R, H, Lq, D] and keys [R, H, Lk, D]; R is left out where it is 1.
            shapes = _ARRAY.findall(rest.partition("operand_layout_constraints=")[2])
            *batch, queries, width = (int(size) for size in shapes[2][1].split(","))
            keys = int(shapes[3][1].split(",")[-2])
            total += products[kernel[1]] * 2.0 * np.prod(batch) * queries * keys * max(width, LANES)
    return float(total)


def table(reports: Iterable[Report]) -> str:
    """The reports as a Markdown table, figures of one chip."""
    lines = [
        "| chips | ESM-2 | method | step | HBM, GiB | arguments | temporaries | TFLOP | GB accessed | collectives "
        "| time, ms: cost model, roofline | MFU at these | compiled in |",
        "|" + "---|" * 13,
    ]
    for report in reports:
        case = report.case
        kinds = ", ".join(f"{n} {kind}, {size / 1e6:.1f} MB" for kind, (n, size) in sorted(report.collectives.items()))
        fits = "" if report.chip is None or report.memory <= report.chip.memory else " (does not fit)"
        estimates = [seconds for seconds in (report.seconds, report.roofline) if seconds is not None]
        cells = [
            f"{case.topology} ({report.devices})",
            f"{case.size} ({report.parameters / 1e6:.0f} M)",
            case.fusion,
            case.step,
            f"{report.memory / 2**30:.2f}{fits}",
            f"{report.argument_bytes / 2**30:.2f}",
            f"{report.temporary_bytes / 2**30:.2f}",
            f"{report.flops / 1e12:.2f} ({report.model_flops / 1e12:.2f})",
            f"{report.bytes_accessed / 1e9:.1f}",
            kinds or "none",
            ", ".join(f"{seconds * 1e3:.1f}" for seconds in estimates) or "-",
            ", ".join(f"{report.utilisation(seconds):.1%}" for seconds in estimates) or "-",
            f"{report.compile_seconds:.0f} s",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


SMALLEST_PART = 0.01  # of the cycles; the parts below it are "other"


def parts_table(reports: Iterable[Report]) -> str:
    """Where the cost model's cycles of training steps go, as a Markdown table; "" where no report has parts."""
    reports = [report for report in reports if report.parts and report.case.step == "train"]
    if not reports:
        return ""
    totals = [sum(report.parts.values()) for report in reports]
    shares = [
        {part: cycles / total for part, cycles in report.parts.items()}
        for report, total in zip(reports, totals, strict=True)
    ]
    names = sorted({name for parts in shares for name, share in parts.items() if share >= SMALLEST_PART})
    lines = [
        "Share of the cost model's cycles of a training step; of the pLM without its attention kernels:",
        "",
        f"| chips | ESM-2 | method | million cycles | {' | '.join(names)} | other |",
        "|" + "---|" * (5 + len(names)),
    ]
    for report, parts, total in zip(reports, shares, totals, strict=True):
        case, named = report.case, [parts.get(name, 0.0) for name in names]
        cells = [f"{case.topology} ({report.devices})", case.size, case.fusion, f"{total / 1e6:.1f}"]
        cells += [f"{share:.1%}" for share in (*named, 1 - sum(named))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_between_markers(path: Path, text: str, name: str = "compile_report") -> None:
    """Replaces what stands between the markers of a document, `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Raises:
      ValueError: the document has no markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    document = path.read_text(encoding="utf-8")
    if begin not in document or end not in document:
        raise ValueError(f"{path} has no place for the tables; put {begin!r} and {end!r} on lines of their own")
    head, tail = document.partition(begin)[0], document.partition(end)[2]
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")


def read_results(path: Path) -> dict[Case, Report]:
    """Reports by case; the last one where a case is there twice."""
    if not path.exists():
        return {}
    reports = map(Report.from_json, path.read_text(encoding="utf-8").splitlines())
    return {report.case: report for report in reports}


def _cases(arguments: argparse.Namespace) -> Iterator[Case]:
    axes = (arguments.topologies, arguments.sizes, arguments.methods, arguments.steps)
    for topology, size, fusion, step in itertools.product(*axes):
        yield Case(topology, size, fusion, step, arguments.rows, arguments.length, arguments.attention)


def names(allowed: Iterable[str] | None = None) -> Any:
    """A comma-separated command line value, checked against what is allowed."""

    def parse(text: str) -> list[str]:
        found = text.split(",")
        unknown = [name for name in found if allowed is not None and name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} unknown; allowed: {', '.join(allowed)}")
        return found

    return parse


def main() -> None:
    """Compiles what is missing, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topologies", type=names(), default=["v5e:2x2", "v5e:16x16", "v5p:2x2x1"])
    parser.add_argument("--sizes", type=names(SIZES), default=["8M", "35M", "150M", "650M"])
    parser.add_argument("--methods", type=names(FUSION_METHODS), default=list(FUSION_METHODS))
    parser.add_argument("--steps", type=names(STEPS), default=list(STEPS))
    parser.add_argument("--rows", type=int, default=4, help="rows of the grid on each chip")
    parser.add_argument("--length", type=int, default=1024, help="slots of a row")
    parser.add_argument("--attention", default="auto", help="as EncoderConfig.attention")
    parser.add_argument("--results", type=Path, default=Path("docs/tpu.jsonl"), help="one line for each program")
    parser.add_argument("--docs", type=Path, default=Path("docs/tpu.md"))
    arguments = parser.parse_args()

    done = read_results(arguments.results)
    for case in _cases(arguments):
        if case in done:
            continue
        print(f"compiling {case}", flush=True)
        report = done[case] = compile_case(case)
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(report.to_json() + "\n")
        print(table([report]).splitlines()[-1], flush=True)
    write_between_markers(arguments.docs, tables(done.values()))


def _place(report: Report) -> tuple:
    """Where a report stands in a table: small before large, as the methods are listed, training first."""
    case = report.case
    return (
        case.topology.partition(":")[0],
        report.devices,
        list(SIZES).index(case.size),
        list(FUSION_METHODS).index(case.fusion),
        STEPS.index(case.step),
    )


def tables(reports: Iterable[Report]) -> str:
    """The table of the TPUs, and that of the CPU under its own heading."""
    reports = sorted(reports, key=_place)
    tpu = [report for report in reports if report.case.topology != CPU]
    cpu = [report for report in reports if report.case.topology == CPU]
    parts = [table(tpu), *filter(None, [parts_table(tpu)])] if tpu else []
    if cpu:
        parts += ["**CPU, not representative**: another compiler, another attention and no bfloat16 units.", table(cpu)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in COMPILE_ONLY.items()):
        # Both libraries read these once, when they are loaded: start again with them.
        command = [sys.executable, "-m", "benchmarks.compile_report", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env={**os.environ, **COMPILE_ONLY}, check=False).returncode)
    main()
