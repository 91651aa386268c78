"""Where a training step's time goes: a trace that TensorBoard and Perfetto open, and a one-page table.

The compiler keeps for each operation of its program the path of the Flax module that asked for it. The trace says how
long each operation ran; the table adds up by module, forward and backward.
"""

import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from bihf_jax.configuration import ConfigError
from bihf_jax.data.grid import example_batch
from bihf_jax.data.pipeline import Host, training_batches
from bihf_jax.data.records import RecordSet
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import experiment_config
from bihf_jax.training.optimizer import make_optimizer

TRACE_FOLDER = "profile"
TABLE_FILE = "profile.md"
_WARM_UP_STEPS = 2
_OUTSIDE = "loss and gradient sum"
_OPTIMIZER = step_lib.OPTIMIZER_SCOPE
_UNKNOWN = "no module in the program"
_NOT_MODULES = ("encoder", "layers", "while", "body", "cond", "closed_call", "checkpoint")
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = .*?metadata=\{[^}]*?op_name="([^"]*)"', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Interval:
    """One run of an operation in the trace."""

    operation: str
    start: float  # ns
    duration: float  # ns


@dataclasses.dataclass(frozen=True)
class StepProfile:
    """Time of one training step.

    Attributes:
      steps: traced.
      seconds: wall time of a step.
      slots: of the global batch.
      device: kind and number.
      parts: (module, "forward" | "backward" | "") -> seconds of a step, summed over all threads of the devices.
    """

    steps: int
    seconds: float
    slots: int
    device: str
    parts: Mapping[tuple[str, str], float]


def profile_training(config_values: Mapping[str, Any], workdir: str | Path, steps: int = 5) -> StepProfile:
    """Traces training steps of a fresh model on the config's records; saves no checkpoint and touches no run.

    Writes `WORKDIR/profile/` (trace) and `WORKDIR/profile.md` (`markdown`).

    Args:
      config_values: a config document, see `config.ExperimentConfig`.
      workdir: made if missing.
      steps: traced, after the compilation and two more steps.

    Raises:
      ConfigError: as `loop.train`, or fewer than one step.
    """
    if steps < 1:
        raise ConfigError(f"{steps} steps cannot be profiled; give 1 or more")
    config, workdir = experiment_config(config_values), Path(workdir)
    shape, host = config.data.grid_shape(), Host(jax.process_index(), jax.process_count(), jax.local_device_count())
    try:
        shape.validate_devices(host.global_devices)
    except ValueError as error:
        raise ConfigError(f"config.data.rows: {error}") from error
    records = RecordSet(config.data.records, "train")
    model, task = config.make_model(), config.make_task()
    plm = config.encoder.plm
    optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
    state = step_lib.replicate(step_lib.init_state(model, optimizer, plm, example_batch(shape), config.seed))
    train_step = step_lib.pmap_train_step(model, task, optimizer, plm, config.seed)
    last = _WARM_UP_STEPS + steps
    batches = list(training_batches(records, shape, host, seed=config.seed, first_step=0, last_step=last))
    program = train_step.lower(state, batches[0]).compile().as_text()
    for batch in batches[:_WARM_UP_STEPS]:
        state, _ = train_step(state, batch)
    jax.block_until_ready(state)

    folder = workdir / TRACE_FOLDER
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # the calls of Python would fill the trace and slow the steps
    with jax.profiler.trace(str(folder), profiler_options=options):
        start = time.perf_counter()
        for batch in batches[_WARM_UP_STEPS:]:
            state, _ = train_step(state, batch)
        jax.block_until_ready(state)
        seconds = (time.perf_counter() - start) / steps

    trace = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    parts = add_up(self_times(read_trace(trace)), dict(_INSTRUCTION.findall(program)))
    devices = jax.local_devices()
    profile = StepProfile(
        steps=steps,
        seconds=seconds,
        slots=sum(rows * length for length, rows in shape.rows.items()),
        device=f"{len(devices)} x {devices[0].device_kind}",
        parts={part: total / steps for part, total in parts.items()},
    )
    if host.index == 0:
        (workdir / TABLE_FILE).write_text(markdown(profile), encoding="utf-8")
    return profile


def read_trace(path: Path) -> Iterator[list[Interval]]:
    """The operations of each thread (CPU) or stream (GPU, TPU) of a trace."""
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            intervals = []
            for event in line.events:
                operation = dict(event.stats).get("hlo_op")
                if operation is not None:
                    intervals.append(Interval(str(operation), event.start_ns, event.duration_ns))
            if intervals:
                yield intervals


def self_times(threads: Iterable[list[Interval]]) -> dict[str, float]:
    """Operation -> seconds without the operations inside it: a loop is not counted twice."""
    totals: dict[str, float] = defaultdict(float)
    for intervals in threads:
        open_intervals: list[Interval] = []
        for interval in sorted(intervals, key=lambda item: (item.start, -item.duration)):
            while open_intervals and open_intervals[-1].start + open_intervals[-1].duration <= interval.start:
                open_intervals.pop()
            if open_intervals:
                totals[open_intervals[-1].operation] -= interval.duration * 1e-9
            totals[interval.operation] += interval.duration * 1e-9
            open_intervals.append(interval)
    return dict(totals)


def add_up(times: Mapping[str, float], path_of: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Seconds of operations -> seconds of (module, direction)."""
    parts: dict[tuple[str, str], float] = defaultdict(float)
    for operation, seconds in times.items():
        parts[module_of(path_of.get(operation, ""))] += seconds
    return dict(parts)


def module_of(path: str) -> tuple[str, str]:
    """(module, direction) of a path such as `jit(f)/transpose(jvp(TaskModel))/encoder/plm.blocks/layers_0/fc1/dot`.

    Layers of one kind count together: that path is ("plm/fc1", "backward").
    """
    if not path or path.startswith("flat_args"):
        return _UNKNOWN, ""
    wrapped = re.search(r"jvp\(([A-Z]\w*)\)+/(.*)", path)
    if wrapped is None:
        return _OPTIMIZER if f"/{_OPTIMIZER}/" in path else _OUTSIDE, ""
    direction = "backward" if "transpose(" in path or "rematted" in path else "forward"
    # A part of the path is a module ("layers_0"), its method ("plm.blocks"), or a function or loop of JAX; methods of
    # the model itself have its name.
    names = [re.sub(r"_\d+$", "", part.split(".")[0]) for part in wrapped.group(2).split("/")[:-1] if "(" not in part]
    names = [name for name in dict.fromkeys(names) if name not in (*_NOT_MODULES, wrapped.group(1))]
    return "/".join(names[:2]) or "model", direction


def markdown(profile: StepProfile) -> str:
    """One page: totals, then modules by time."""
    busy = sum(profile.parts.values())
    modules: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (module, direction), seconds in profile.parts.items():
        modules[module][direction] += seconds
    lines = [
        "# Where a training step's time goes",
        "",
        f"{profile.device}; mean of {profile.steps} steps: {profile.seconds * 1e3:,.1f} ms, "
        f"{profile.slots / profile.seconds:,.0f} slots/s. Operations of all threads take {busy * 1e3:,.1f} ms a step.",
        "",
        "| module | forward ms | backward ms | all ms | share |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for module, times in sorted(modules.items(), key=lambda item: -sum(item[1].values())):
        total = sum(times.values())
        cells = [f"{times[name] * 1e3:,.2f}" if name in times else "" for name in ("forward", "backward")]
        lines.append(f"| {module} | {' | '.join(cells)} | {total * 1e3:,.2f} | {total / busy:.1%} |")
    lines += [
        "",
        f"The trace in `{TRACE_FOLDER}/` opens in TensorBoard (with its profile plugin) and, as the `.trace.json.gz` "
        "in it, at ui.perfetto.dev.",
    ]
    return "\n".join(lines) + "\n"
