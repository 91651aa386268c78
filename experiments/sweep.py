"""Methods x seeds, each trained and scored, then compared: a background job that goes on where it stopped.

    nohup python -m experiments.sweep --config=configs/ppbs.py --config_args=records=RECORDS --workdir=DIR \\
        --methods=local,global,parallel --seeds=0,1,2 --jobs=2 > sweep.log &

Each run is `experiments.train` and `experiments.evaluate` in processes of their own, in `DIR/METHOD/seed_SEED`; what
they print is in `log.txt` there. The same command keeps finished runs and goes on with the others. A run that fails
does not stop the rest; it is named at the end and the exit code is 1. SIGTERM lets the runs under way save, and exits
with 143. A second sweep in the same folder is refused until the first one has ended.

Writes `DIR/comparison.json`, `comparison.md` and `comparison.png` from the finished runs, after each of them.
"""

import argparse
import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from filelock import FileLock, Timeout

from bihf_jax.configuration import ConfigError
from bihf_jax.data.records import RecordError, RecordSet
from bihf_jax.models import FUSION_METHODS
from bihf_jax.pretrained import PretrainedError
from bihf_jax.tasks import Task, comparison, plots, task_baselines
from bihf_jax.tasks.tables import Table, read_table, table_of
from bihf_jax.training.config import load_config
from experiments import imports, logs

_LOGGER = logging.getLogger("bihf_jax.sweep")
FINISHED_FILE = "finished.json"
_STATUS_OF_SIGTERM = 143


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one invocation does.

    Attributes:
      config: path of the config document.
      config_args: its arguments besides `fusion` and `seed`, as text.
      workdir: of the sweep.
      methods: fusion methods.
      seeds: of each method.
      jobs: runs at a time.
      imports: modules that the commands import first, as `experiments.evaluate --imports`.
    """

    config: str
    config_args: str
    workdir: Path
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    jobs: int = 1
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [method for method in self.methods if method not in FUSION_METHODS]:
            raise ValueError(f"--methods has {', '.join(unknown)}; methods: {', '.join(FUSION_METHODS)}")
        if not self.methods or not self.seeds:
            raise ValueError("--methods and --seeds must each name at least one")
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}; it must be at least 1")
        if not Path(self.config).is_file():
            raise ValueError(f"--config {self.config} does not exist; arguments go into --config_args")
        if taken := [name for name in ("fusion", "seed") if f"{name}=" in self.config_args]:
            raise ValueError(f"--config_args sets {', '.join(taken)}; the sweep does: use --methods and --seeds")

    def runs(self) -> list[tuple[str, int]]:
        """Every (method, seed), the first seed of all methods first, so that a first comparison comes early."""
        return [(method, seed) for seed in self.seeds for method in self.methods]

    def folder(self, method: str, seed: int) -> Path:
        return self.workdir / method / f"seed_{seed}"

    def is_finished(self, method: str, seed: int) -> bool:
        return (self.folder(method, seed) / FINISHED_FILE).exists()


class Sweep:
    """Runs the runs of a plan that are not finished."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children: dict[int, subprocess.Popen] = {}  # by number of the slot
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Starts nothing more, and asks what is under way to save and exit."""
        self._stopping.set()
        with self._lock:
            for child in self._children.values():
                child.terminate()

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    def run(self, after_each: Callable[[], object]) -> list[tuple[str, int]]:
        """Finishes what is not finished.

        Args:
          after_each: called in this thread after each run that finished.

        Returns:
          The runs that failed.
        """
        plan = self._plan
        missing = [run for run in plan.runs() if not plan.is_finished(*run)]
        _LOGGER.info("%d runs, %d of them finished before", len(plan.runs()), len(plan.runs()) - len(missing))
        failed, done, start = [], 0, time.monotonic()
        slots = list(range(plan.jobs))
        with ThreadPoolExecutor(plan.jobs) as pool:
            futures = {pool.submit(self._one, *run, slots): run for run in missing}
            for future in as_completed(futures):
                run = futures[future]
                finished = future.result()
                if self.stopped:
                    continue
                if not finished:
                    failed.append(run)
                    log = plan.folder(*run) / "log.txt"
                    _LOGGER.error("%s seed %d failed; see %s, which ends: %s", *run, log, _last_line(log))
                    continue
                done += 1
                left = (time.monotonic() - start) / done * (len(missing) - done - len(failed))
                _LOGGER.info("%s seed %d finished; %d of %d, about %.0f min left", *run, done, len(missing), left / 60)
                after_each()
        return failed

    def _one(self, method: str, seed: int, slots: list[int]) -> bool:
        """Trains and scores one run; whether it finished."""
        plan, folder = self._plan, self._plan.folder(method, seed)
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ",".join(part for part in (f"fusion={method}", f"seed={seed}", plan.config_args) if part)
        with self._lock:
            slot = slots.pop()
        imported = [f"--imports={','.join(plan.imports)}"] if plan.imports else []
        try:
            for module, *more in (
                ("experiments.train", f"--config={plan.config}:{arguments}"),
                ("experiments.evaluate", *imported, "--splits=validation,test"),
            ):
                command = [*_own_cores(slot, plan.jobs), sys.executable, "-m", module, f"--workdir={folder}", *more]
                if self._call(slot, command, folder / "log.txt") != 0:
                    return False
            (folder / FINISHED_FILE).write_text(json.dumps({"method": method, "seed": seed}) + "\n", encoding="utf-8")
            return True
        finally:
            with self._lock:
                slots.append(slot)

    def _call(self, slot: int, command: Sequence[str], log: Path) -> int:
        with open(log, "a", encoding="utf-8") as file:
            with self._lock:
                if self.stopped:
                    return _STATUS_OF_SIGTERM
                child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=self._environment())
                self._children[slot] = child
            try:
                return child.wait()
            finally:
                with self._lock:
                    del self._children[slot]

    def _environment(self) -> dict[str, str]:
        # Seeds of a method compile the same program.
        compiled = str((self._plan.workdir / "compiled").resolve())
        return {"JAX_COMPILATION_CACHE_DIR": compiled, **os.environ}


def _last_line(log: Path) -> str:
    """The error of a run that failed; Python and the entry points print it last."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def _own_cores(slot: int, jobs: int) -> list[str]:
    """The start of a command that runs it on its share of this process's cores; empty where that cannot be had."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity") or not shutil.which("taskset"):
        return []
    mine = sorted(os.sched_getaffinity(0))[slot::jobs]
    return ["taskset", "-c", ",".join(map(str, mine))] if mine else []


def summarise(plan: Plan, split: str, ours: Sequence[str]) -> str | None:
    """Writes the comparison of the finished runs; returns its Markdown, None while none has finished."""
    runs, records, task = {}, None, None
    for method in plan.methods:
        finished = [seed for seed in plan.seeds if plan.is_finished(method, seed)]
        if finished:
            config = load_config(plan.folder(method, finished[0]))
            records, task = config.data.records, config.make_task()
            runs[method] = [_read_run(task, plan.folder(method, seed), seed, split) for seed in finished]
    if not runs:
        return None
    trivial = _trivial_runs(task, records, split)
    baseline_names = [method for method in runs if method not in ours] + list(trivial)
    compared = comparison.compare({**runs, **trivial}, baseline_names, task=task)
    text = comparison.markdown(compared)
    (plan.workdir / "comparison.md").write_text(text, encoding="utf-8")
    values = json.dumps(comparison.as_dict(compared), indent=2, allow_nan=False) + "\n"
    (plan.workdir / "comparison.json").write_text(values, encoding="utf-8")
    trained = dataclasses.replace(compared, rows=tuple(row for row in compared.rows if row.method in runs))
    references = {row.method: row.interval.value for row in compared.rows if row.method in trivial}
    plots.plot_comparison(trained, references, plan.workdir / "comparison.png", title=f"{split} split")
    return text


def _read_run(task: Task, folder: Path, seed: int, split: str) -> comparison.Run:
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return comparison.Run(
        seed=seed,
        validation=scores["splits"]["validation"]["scores"]["model"][task.selection_metric]["value"],
        predictions=read_table(task, folder / f"predictions_{split}.csv"),
        seconds=scores["run"]["training_seconds"],
        parameters=scores["run"]["parameters"],
    )


def _trivial_runs(task: Task, records: str, split: str) -> dict[str, list[comparison.Run]]:
    """The trivial baselines as runs without a seed."""
    fitted = task_baselines.fit_baselines(task, RecordSet(records, "train"))

    def score(baseline: task_baselines.Baseline, name: str) -> Table:
        examples = RecordSet(records, name)
        return table_of(task, examples, [baseline.score(example) for example in examples])

    runs = {}
    for name, baseline in fitted.items():
        reported = score(baseline, split)
        try:
            values = [comparison.selection_value(task, table) for table in (score(baseline, "validation"), reported)]
        except ValueError as error:  # a constant has no correlation
            _LOGGER.warning("the baseline %s is left out: %s", name, error)
            continue
        runs[name] = [comparison.Run(0, values[0], reported, 0.0, 0)]
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        imports.load(args.imports)
        plan = Plan(args.config, args.config_args, args.workdir, args.methods, args.seeds, args.jobs, args.imports)
    except ValueError as error:
        _LOGGER.error("%s", error)
        return 1
    plan.workdir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.workdir / "lock", blocking=False):
            return _run(plan, args.split, args.ours)
    except Timeout:
        _LOGGER.error("another sweep works in %s; wait for it to end, or give another --workdir", plan.workdir)
        return 1


def _run(plan: Plan, split: str, ours: Sequence[str]) -> int:
    """Finishes the plan and prints the comparison; returns the exit code."""
    sweep = Sweep(plan)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sweep.stop())
    try:
        failed = sweep.run(lambda: summarise(plan, split, ours))
        if sweep.stopped:
            _LOGGER.info("stopped by a signal; the same command goes on from here")
            return _STATUS_OF_SIGTERM
        print(summarise(plan, split, ours) or "nothing to compare: no run has finished")
    except (ConfigError, PretrainedError, RecordError) as error:
        _LOGGER.error("%s", error)
        return 1
    if failed:
        _LOGGER.error("failed: %s", ", ".join(f"{method} seed {seed}" for method, seed in failed))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    def names(text: str) -> tuple[str, ...]:
        return tuple(text.split(","))

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description="Train and score methods x seeds, and compare them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="config document that takes the arguments fusion and seed")
    parser.add_argument("--config_args", default="", help="its other arguments, e.g. records=DIR,steps=300")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the sweep")
    parser.add_argument("--methods", type=names, default=",".join(FUSION_METHODS), help="fusion methods")
    parser.add_argument("--ours", type=names, default="local,global", help="compared with the best of the others")
    parser.add_argument("--seeds", type=numbers, default="0,1,2", help="seeds of each method")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="split that is reported")
    parser.add_argument("--imports", type=names, default=(), help="modules to import first, e.g. with own encoders")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, on CPU; each gets its share of the cores")
    return parser


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
