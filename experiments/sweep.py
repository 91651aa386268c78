"""Methods x encoders x seeds, each trained and scored, then compared: a background job that goes on where it stopped.

    nohup python -m experiments.sweep --config=configs/ppbs.py --config_args=records=RECORDS --workdir=DIR \\
        --methods=local,global,parallel --seeds=0,1,2 --jobs=2 > sweep.log &

`--encoders=gvp,pronet` runs every method with each of these graph networks. `--folds=FOLDS` is a cross-validation:
every run once for each record set FOLDS/fold*, and all numbers means over them. `--splits=test,test_none` reports
several splits or parts of them. `--config.KEY=VALUE` changes the config of all runs, as in `experiments.train`.

Each run is `experiments.train` and `experiments.evaluate` in processes of their own, in `DIR/METHOD/seed_SEED` (with
encoders `DIR/METHOD-ENCODER`, with folds another folder `foldN` below); what they print is in `log.txt` there. The same
command keeps finished runs and goes on with the others. A run that fails does not stop the rest; it is named at the end
and the exit code is 1. SIGTERM lets the runs under way save, and exits with 143. A second sweep in the same folder is
refused until the first one has ended. Other tasks are sweeps of their own, see `benchmarks/five_tasks.py`.

Writes `DIR/comparison.json`, `comparison.md` and `comparison_SPLIT.png` from the finished runs, after each of them.
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from filelock import FileLock, Timeout

from bihf_jax.configuration import ConfigError
from bihf_jax.data.records import METADATA_FILE, RecordError, RecordSet
from bihf_jax.models import FUSION_METHODS
from bihf_jax.models.config import FusionConfig
from bihf_jax.models.structure import STRUCTURE_ENCODERS
from bihf_jax.pretrained import PretrainedError
from bihf_jax.tasks import Task, comparison, plots, task_baselines
from bihf_jax.tasks.tables import read_table, table_of
from bihf_jax.training.config import load_config
from experiments import imports, logs

_LOGGER = logging.getLogger("bihf_jax.sweep")
FINISHED_FILE = "finished.json"
STATUS_OF_SIGTERM = 143


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of a sweep.

    Attributes:
      method: fusion method.
      encoder: graph network; "" takes the config's own.
      fold: folder of the records below `Plan.folds`; "" without a cross-validation.
      seed: of the run.
    """

    method: str
    encoder: str
    fold: str
    seed: int

    @property
    def variant(self) -> str:
        """What is compared: the method, with its encoder where it has one."""
        return f"{self.method}-{self.encoder}" if self.encoder else self.method

    def __str__(self) -> str:
        return " ".join(filter(None, (self.variant, self.fold, f"seed {self.seed}")))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one invocation does.

    Attributes:
      config: path of the config document.
      config_args: its arguments besides those that the sweep sets, as text.
      workdir: of the sweep.
      methods: fusion methods.
      seeds: of each method.
      jobs: runs at a time.
      imports: modules that the commands import first, as `experiments.evaluate --imports`.
      encoders: graph networks, each with every method that has one; none: that of the config.
      folds: folder of the record sets `fold*` of a cross-validation.
      splits: that are reported, or parts of them.
      overrides: `--config.KEY=VALUE` of every run.
    """

    config: str
    config_args: str
    workdir: Path
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    jobs: int = 1
    imports: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    folds: Path | None = None
    splits: tuple[str, ...] = ("test",)
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [method for method in self.methods if method not in FUSION_METHODS]:
            raise ValueError(f"--methods has {', '.join(unknown)}; methods: {', '.join(FUSION_METHODS)}")
        if unknown := [name for name in self.encoders if name not in STRUCTURE_ENCODERS]:
            raise ValueError(f"--encoders has {', '.join(unknown)}; encoders: {', '.join(STRUCTURE_ENCODERS)}")
        if not self.methods or not self.seeds or not self.splits:
            raise ValueError("--methods, --seeds and --splits must each name at least one")
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}; it must be at least 1")
        if not Path(self.config).is_file():
            raise ValueError(f"--config {self.config} does not exist; arguments go into --config_args")
        if self.folds is not None and not self._fold_names:
            raise ValueError(
                f"--folds {self.folds} holds no record set fold1, fold2, ..; data_prep.build bce makes them"
            )
        flag_of = {"fusion": "--methods", "seed": "--seeds"}
        flag_of |= {"gnn": "--encoders"} if self.encoders else {}
        flag_of |= {"records": "--folds"} if self.folds else {}
        given = [part.partition("=")[0] for part in self.config_args.split(",")]
        if taken := [name for name in flag_of if name in given]:
            flags = " and ".join(flag_of[name] for name in taken)
            raise ValueError(f"--config_args sets {', '.join(taken)}; the sweep does: use {flags}")
        if unknown := [text for text in self.overrides if not text.startswith("--config.") or "=" not in text]:
            raise ValueError(f"unknown arguments: {' '.join(unknown)}; settings of all runs are --config.KEY=VALUE")

    @property
    def _fold_names(self) -> list[str]:
        """Folders of the record sets; [""] without a cross-validation."""
        if self.folds is None:
            return [""]
        return sorted(path.parent.name for path in self.folds.glob(f"fold*/{METADATA_FILE}"))

    @property
    def variants(self) -> list[tuple[str, str]]:
        """(method, encoder) of what is compared; what has no structure side runs once, whatever the encoders."""
        return [
            (method, encoder)
            for method in self.methods
            for encoder in (self.encoders if "structure" in FusionConfig.named(method).sides else ()) or ("",)
        ]

    def runs(self) -> list[Run]:
        """Every run, the first seed of all variants first, so that a first comparison comes early."""
        return [
            Run(*variant, fold, seed) for seed in self.seeds for variant in self.variants for fold in self._fold_names
        ]

    def folder(self, run: Run) -> Path:
        return self.workdir / run.variant / run.fold / f"seed_{run.seed}"

    def is_finished(self, run: Run) -> bool:
        folder = self.folder(run)
        scored = (folder / f"predictions_{split}.csv" for split in self.splits)
        return (folder / FINISHED_FILE).exists() and all(path.exists() for path in scored)

    def arguments(self, run: Run) -> str:
        """Those of the config document of a run."""
        parts = [f"fusion={run.method}", f"seed={run.seed}"]
        parts += [f"gnn={run.encoder}"] if run.encoder else []
        parts += [f"records={self.folds / run.fold}"] if self.folds else []
        return ",".join([*parts, *filter(None, [self.config_args])])


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

    def run(self, after_each: Callable[[], object]) -> list[Run]:
        """Finishes what is not finished.

        Args:
          after_each: called in this thread after each run that finished.

        Returns:
          The runs that failed.
        """
        plan = self._plan
        missing = [run for run in plan.runs() if not plan.is_finished(run)]
        _LOGGER.info("%d runs, %d of them finished before", len(plan.runs()), len(plan.runs()) - len(missing))
        failed, done, start = [], 0, time.monotonic()
        slots = list(range(plan.jobs))
        with ThreadPoolExecutor(plan.jobs) as pool:
            futures = {pool.submit(self._one, run, slots): run for run in missing}
            for future in as_completed(futures):
                run = futures[future]
                finished = future.result()
                if self.stopped:
                    continue
                if not finished:
                    failed.append(run)
                    log = plan.folder(run) / "log.txt"
                    _LOGGER.error("%s failed; see %s, which ends: %s", run, log, _last_line(log))
                    continue
                done += 1
                left = (time.monotonic() - start) / done * (len(missing) - done - len(failed))
                _LOGGER.info("%s finished; %d of %d, about %.0f min left", run, done, len(missing), left / 60)
                after_each()
        return failed

    def _one(self, run: Run, slots: list[int]) -> bool:
        """Trains and scores one run; whether it finished."""
        plan, folder = self._plan, self._plan.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            slot = slots.pop()
        imported = [f"--imports={','.join(plan.imports)}"] if plan.imports else []
        splits = ",".join(dict.fromkeys(["validation", *plan.splits]))
        try:
            for module, *more in (
                ("experiments.train", f"--config={plan.config}:{plan.arguments(run)}", *plan.overrides),
                ("experiments.evaluate", *imported, f"--splits={splits}"),
            ):
                command = [*_own_cores(slot, plan.jobs), sys.executable, "-m", module, f"--workdir={folder}", *more]
                if self._call(slot, command, folder / "log.txt") != 0:
                    return False
            (folder / FINISHED_FILE).write_text(json.dumps(dataclasses.asdict(run)) + "\n", encoding="utf-8")
            return True
        finally:
            with self._lock:
                slots.append(slot)

    def _call(self, slot: int, command: Sequence[str], log: Path) -> int:
        with open(log, "a", encoding="utf-8") as file:
            with self._lock:
                if self.stopped:
                    return STATUS_OF_SIGTERM
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


def summarise(plan: Plan, ours: Sequence[str]) -> str | None:
    """Writes the comparison of the finished runs; returns its Markdown, None while none has finished.

    Of a cross-validation a seed counts once all of its folds have finished.
    """
    compared = {split: found for split in plan.splits if (found := compare_split(plan, split, ours))}
    if not compared:
        return None
    sections = []
    for split, (of_split, trivial) in compared.items():
        tables = f"{comparison.markdown(of_split)}\n{comparison.metrics_markdown(of_split)}"
        sections.append(f"### {split}\n\n{tables}" if len(compared) > 1 else tables)
        trained = tuple(row for row in of_split.rows if row.method not in trivial)
        references = {row.method: row.interval.value for row in of_split.rows if row.method in trivial}
        picture = plan.workdir / f"comparison_{split}.png"
        shown = dataclasses.replace(of_split, rows=trained)
        plots.plot_comparison(shown, references, picture, title=f"{split} split")
    text = "\n".join(sections)
    (plan.workdir / "comparison.md").write_text(text, encoding="utf-8")
    values = {split: comparison.as_dict(of_split) for split, (of_split, _) in compared.items()}
    written = json.dumps(values, indent=2, allow_nan=False) + "\n"
    (plan.workdir / "comparison.json").write_text(written, encoding="utf-8")
    return text


def compare_split(plan: Plan, split: str, ours: Sequence[str]) -> tuple[comparison.Comparison, tuple[str, ...]] | None:
    """(the finished runs side by side on a split, names of the trivial baselines among them); None without any."""
    finished: dict[str, list[Run]] = {}
    for method, encoder in plan.variants:
        for seed in plan.seeds:
            of_seed = [run for run in plan.runs() if (run.method, run.encoder, run.seed) == (method, encoder, seed)]
            if all(plan.is_finished(run) for run in of_seed):
                finished.setdefault(of_seed[0].variant, []).extend(of_seed)
    if not finished:
        return None
    folders = {run.fold: plan.folder(run) for run in next(iter(finished.values()))}
    configs = {fold: load_config(folder) for fold, folder in folders.items()}
    task = next(iter(configs.values())).make_task()
    runs = {
        variant: [_read_run(configs[run.fold].make_task(), plan.folder(run), run, split) for run in of]
        for variant, of in finished.items()
    }
    trivial = _trivial_runs(
        {fold: (config.make_task(), config.data.records) for fold, config in configs.items()}, split
    )
    not_ours = [run[0].variant for run in finished.values() if run[0].method not in ours]
    baselines = [*not_ours, *trivial] or list(runs)
    return comparison.compare({**runs, **trivial}, baselines, task=task), tuple(trivial)


def _read_run(task: Task, folder: Path, run: Run, split: str) -> comparison.Run:
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return comparison.Run(
        seed=run.seed,
        validation=scores["splits"]["validation"]["scores"]["model"][task.selection_metric]["value"],
        predictions=read_table(task, folder / f"predictions_{split}.csv"),
        seconds=scores["run"]["training_seconds"],
        parameters=scores["run"]["parameters"],
        fold=run.fold,
    )


def _trivial_runs(of_fold: Mapping[str, tuple[Task, str]], split: str) -> dict[str, list[comparison.Run]]:
    """The trivial baselines as runs without a seed, from the task and the records of each fold."""
    runs: dict[str, list[comparison.Run]] = {}
    left_out = set()
    for fold, (task, records) in of_fold.items():
        for name, baseline in task_baselines.fit_baselines(task, RecordSet(records, "train")).items():
            tables = []
            for part in ("validation", split):
                examples = RecordSet(records, part)
                tables.append(table_of(task, examples, [baseline.score(example) for example in examples]))
            try:
                validation, _ = (comparison.selection_value(task, table) for table in tables)
            except ValueError as error:  # a constant has no correlation
                _LOGGER.warning("the baseline %s is left out: %s", name, error)
                left_out.add(name)
                continue
            runs.setdefault(name, []).append(comparison.Run(0, validation, tables[1], 0.0, 0, fold))
    return {name: of for name, of in runs.items() if name not in left_out}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args, overrides = _parser().parse_known_args(argv)
    try:
        imports.load(args.imports)
        plan = Plan(
            *(args.config, args.config_args, args.workdir, args.methods, args.seeds, args.jobs, args.imports),
            *(args.encoders, args.folds, args.splits, tuple(overrides)),
        )
    except ValueError as error:
        _LOGGER.error("%s", error)
        return 1
    status, text = finish(plan, args.ours)
    print(text or "nothing to compare: no run has finished")
    return status


def finish(plan: Plan, ours: Sequence[str]) -> tuple[int, str | None]:
    """Does what of a plan is not done: (exit status, the comparison as Markdown, None where there is none)."""
    plan.workdir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.workdir / "lock", blocking=False):
            return _finish(plan, ours)
    except Timeout:
        _LOGGER.error("another sweep works in %s; wait for it to end, or give another --workdir", plan.workdir)
        return 1, None


def _finish(plan: Plan, ours: Sequence[str]) -> tuple[int, str | None]:
    sweep = Sweep(plan)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sweep.stop())
    try:
        failed = sweep.run(lambda: summarise(plan, ours))
        if sweep.stopped:
            _LOGGER.info("stopped by a signal; the same command goes on from here")
            return STATUS_OF_SIGTERM, None
        text = summarise(plan, ours)
    except (ConfigError, PretrainedError, RecordError) as error:
        _LOGGER.error("%s", error)
        return 1, None
    if failed:
        _LOGGER.error("failed: %s", ", ".join(map(str, failed)))
    return int(bool(failed)), text


def _parser() -> argparse.ArgumentParser:
    def names(text: str) -> tuple[str, ...]:
        return tuple(text.split(","))

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description="Train and score methods x encoders x seeds, and compare them.",
        epilog="--config.KEY=VALUE changes the config of all runs.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="config document that takes the arguments fusion and seed")
    parser.add_argument("--config_args", default="", help="its other arguments, e.g. records=DIR,steps=300")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the sweep")
    parser.add_argument("--methods", type=names, default=",".join(FUSION_METHODS), help="fusion methods")
    parser.add_argument("--ours", type=names, default="local,global", help="compared with the best of the others")
    parser.add_argument("--seeds", type=numbers, default="0,1,2", help="seeds of each method")
    parser.add_argument("--encoders", type=names, default=(), help="graph networks, if not that of the config document")
    parser.add_argument("--folds", type=Path, help="cross-validation: folder of the record sets fold1, fold2, ..")
    parser.add_argument("--splits", type=names, default="test", help="splits that are reported, or parts of them")
    parser.add_argument("--imports", type=names, default=(), help="modules to import first, e.g. with own encoders")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, on CPU; each gets its share of the cores")
    return parser


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
