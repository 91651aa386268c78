"""What fits on 16, 32 and 80 GB: the memory of a training step by size of the pLM, mode and shape of the batch.

    python -m benchmarks.memory --plan                     # from shapes alone: weights, optimizer, gradients; seconds
    pip install -e '.[tpu]'
    python -m benchmarks.memory --sizes 8M,650M --modes frozen,lora,full --batches 1x1024,4x1024

Weights, optimizer and gradients are exact and need no compiler. The rest is what the compiler says of the real step on
a chip of --topology, as `benchmarks.compile_report` compiles it. Each program is a line of --results as soon as it is
compiled; one that is there, or among what that command compiled (--reports), for whichever chip, is not compiled again.
Then the table is printed and put between the markers of --docs. A step whose state alone is over the largest memory is
not compiled.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from benchmarks import compile_report
from benchmarks.compile_report import (
    CHIPS,
    COMPILE_ONLY,
    SIZES,
    STAGES,
    Case,
    abstract_state,
    lower_case,
    names,
    write_between_markers,
)
from bihf_jax.models.config import LEARNING_MODES, REMAT_KEEPS
from bihf_jax.training.memory import GIB, StateMemory, program_memory, state_memory

MODES = tuple(sorted(LEARNING_MODES))
CARDS = (16, 32, 80)  # GB as memory is sold: GiB


@dataclasses.dataclass(frozen=True)
class Need:
    """What the compiler says of a case."""

    case: Case
    total: int | None  # bytes on a chip; None: more than it has
    seconds: float  # to compile it

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Need":
        values = json.loads(line)
        return cls(case=Case(**values.pop("case")), **values)


def compile_need(case: Case) -> Need:
    """Compiles the step of a case."""
    program = lower_case(case, case.encoder_config())
    try:
        compiled, seconds = program.compile(case.topology)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Need(case, None, 0.0)
    return Need(case, program_memory(compiled), seconds)


@functools.cache
def _state_of_layers(case: Case, layers: int) -> tuple[int, StateMemory]:
    """`state_of` with so many pLM blocks."""
    encoder = case.encoder_config()
    encoder = dataclasses.replace(encoder, plm=dataclasses.replace(encoder.plm, layers=layers))
    state = abstract_state(case, encoder)
    return sum(leaf.size for leaf in jax.tree.leaves(state.params)), state_memory(state, encoder.plm)


def state_of(case: Case) -> tuple[int, StateMemory]:
    """(parameters, bytes of the state) of a case, exactly; nothing is computed.

    All blocks of a pLM are alike, so two small depths tell what each adds: tracing 48 blocks takes minutes.
    """
    layers = case.encoder_config().plm.layers
    case = dataclasses.replace(case, rows=1, length=128, remat="nothing", scan=False)  # none of them matters
    (few, of_few), (more, of_more) = (_state_of_layers(case, STAGES + extra) for extra in (0, 1))
    further = layers - STAGES
    memory = (small + further * (large - small) for small, large in zip(of_few, of_more, strict=True))
    return few + further * (more - few), StateMemory(*memory)


Needs = Mapping[Case, Need]  # by the case without its topology


def anywhere(case: Case) -> Case:
    """The case, whichever chip it is compiled for."""
    return dataclasses.replace(case, topology="")


def read_results(path: Path, reports: Path | None = None) -> dict[Case, Need]:
    """What was compiled so far, `Needs`.

    Args:
      path: of `Need` lines.
      reports: of the lines of `benchmarks.compile_report`, whose training steps on TPUs count where `path` has none.
    """
    found = [] if reports is None else compile_report.read_results(reports).values()
    steps = [report for report in found if report.case.step == "train" and report.chip is not None]
    needs = [Need(report.case, report.memory, report.compile_seconds) for report in steps]
    if path.exists():
        needs += map(Need.from_json, path.read_text(encoding="utf-8").splitlines())
    return {anywhere(need.case): need for need in needs}


def table(cases: Iterable[Case], needs: Needs) -> str:
    """A Markdown table of the cases; of those that are not compiled, what follows from shapes."""
    cards = " | ".join(f"{card} GB" for card in CARDS)
    lines = [
        "| ESM-2 | mode | rows x slots | kept by remat | parameters | weights, GiB | optimizer | gradients "
        f"| activations and the rest | step, GiB | on | {cards} |",
        "|" + "---|" * (11 + len(CARDS)),
    ]
    for case in cases:
        parameters, state = state_of(case)
        need = needs.get(anywhere(case))
        total = None if need is None else need.total
        cells = [
            case.size,
            case.mode,
            f"{case.rows} x {case.length:,}",
            case.remat + (", scan" if case.scan else ""),
            f"{parameters / 1e6:,.0f} M",
            *(f"{size / GIB:.2f}" for size in state),
            "" if total is None else f"{(total - state.total) / GIB:.2f}",
            f"over {_at_least(need, state) / GIB:.2f}" if total is None else f"{total / GIB:.2f}",
            "" if need is None else _chip(need),
            *(fits(card * GIB, need, state) for card in CARDS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _chip(need: Need) -> str:
    return need.case.topology.partition(":")[0]


def _at_least(need: Need | None, state: StateMemory) -> float:
    """Bytes that a step needs in any case, of which no compiled program is there."""
    return state.total if need is None else max(state.total, CHIPS[_chip(need)].memory)


def fits(memory: int, need: Need | None, state: StateMemory) -> str:
    """Whether a step runs in so many bytes: "yes", "no", or "?" where only its compiled program would tell."""
    if need is not None and need.total is not None:
        return "yes" if need.total <= memory else "no"
    return "no" if _at_least(need, state) >= memory else "?"


def _batches(text: str) -> list[tuple[int, int]]:
    """ "1x1024,4x1024" -> rows and slots."""
    try:
        return [(int(rows), int(length)) for rows, length in (part.split("x") for part in text.split(","))]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of ROWSxSLOTS, e.g. 1x1024,4x1024") from error


def _cases(arguments: argparse.Namespace) -> list[Case]:
    return [
        Case(arguments.topology, size, arguments.method, "train", *batch, mode=mode, remat=remat, scan=arguments.scan)
        for size, mode, batch, remat in itertools.product(
            arguments.sizes, arguments.modes, arguments.batches, arguments.remat
        )
    ]


def main() -> None:
    """Compiles what is missing, prints the table and puts it into the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=names(SIZES), default=list(SIZES))
    parser.add_argument("--modes", type=names(MODES), default=list(MODES))
    parser.add_argument("--batches", type=_batches, default="1x1024,4x1024", help="ROWSxSLOTS of a device, ...")
    parser.add_argument("--remat", type=names(REMAT_KEEPS), default=["nothing"], help="as PLMConfig.remat_keeps")
    parser.add_argument("--scan", action="store_true", help="as PLMConfig.scan: compiles sooner, copies the weights")
    parser.add_argument("--method", default="local", help="of fusion")
    parser.add_argument("--topology", default="v5p:2x2x1", help="chips with more memory than what is asked about")
    parser.add_argument("--plan", action="store_true", help="compile nothing; say what shapes and --results tell")
    parser.add_argument("--results", type=Path, default=Path("docs/memory.jsonl"), help="one line for each program")
    parser.add_argument("--reports", type=Path, default=Path("docs/tpu.jsonl"), help="of benchmarks.compile_report")
    parser.add_argument("--docs", type=Path, help="put the table of all that is in --results there, too")
    arguments = parser.parse_args()

    cases, done = _cases(arguments), read_results(arguments.results, arguments.reports)
    for case in cases if not arguments.plan else ():
        if anywhere(case) in done or state_of(case)[1].total >= max(CARDS) * GIB:
            continue
        print(f"compiling {case}", file=sys.stderr, flush=True)
        need = done[anywhere(case)] = compile_need(case)
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(need.to_json() + "\n")
    print(table(cases, done))
    if arguments.docs:
        listed = {anywhere(case) for case in cases} | {case for case in done if case.fusion == arguments.method}
        write_between_markers(arguments.docs, table(sorted(listed, key=_place), done), "memory")


def _place(case: Case) -> tuple[Any, ...]:
    """Where a case stands in the table: small before large."""
    return list(SIZES).index(case.size), MODES.index(case.mode), case.rows * case.length, case.remat, case.scan


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in COMPILE_ONLY.items()):
        # Both libraries read these once, when they are loaded: start again with them.
        command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env={**os.environ, **COMPILE_ONLY}, check=False).returncode)
    main()
