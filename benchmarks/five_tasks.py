"""The five tasks: both forms of fusion, serial fusion, either side alone and trivial baselines, on small public sets.

    nohup python -m benchmarks.five_tasks --records=RECORDS --workdir=DIR --jobs=2 > five_tasks.log &

RECORDS holds a record set for each of `STUDIES`, under its name; docs/five_tasks.md has the commands that make them. A
study is a sweep (`experiments.sweep`) in `DIR/NAME`, so the same command goes on where it was stopped. Prints, and
writes to `DIR/five_tasks.md`, one table of all studies and the tables of each, with what has to be known beside them.
A small pLM from scratch and some hundred steps a run: this compares methods, it reproduces no published number.
"""

import argparse
import dataclasses
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bihf_jax.data.records import METADATA_FILE, RecordSet
from bihf_jax.tasks import metrics
from experiments import logs, sweep

_LOGGER = logging.getLogger("bihf_jax.five_tasks")
_REPOSITORY = Path(__file__).resolve().parents[1]
METHODS = ("local", "global", "serial", "sequence_only", "structure_only")
OURS = ("local", "global")
# Of every run: two stages instead of three or four, fewer neighbours, early stopping.
SETTINGS = (
    "--config.encoder.stages=2",
    "--config.encoder.plm.layers=2",
    "--config.encoder.structure.neighbours=16",
    "--config.data.neighbours=16",
    "--config.training.evaluate_every=25",
    "--config.training.checkpoint_every=25",
    "--config.training.patience=4",
)


@dataclasses.dataclass(frozen=True)
class Study:
    """One record set and what is compared on it.

    Attributes:
      name: of the folder of its records, and of its sweep.
      config: config document, below `configs`.
      title: for the table.
      metrics: of the table; the differences are of the one that picks the checkpoint.
      caveat: what the numbers do not say.
      facts: record set -> what a reader has to know of it, counted.
      splits: test sets.
      seeds: of every method.
      folds: whether the records are those of a cross-validation.
      arguments: of the config document, besides those of all studies.
    """

    name: str
    config: str
    title: str
    metrics: tuple[str, ...]
    caveat: str
    facts: Callable[[Path, str], str]
    splits: tuple[str, ...] = ("test",)
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: bool = False
    arguments: str = ""

    def plan(self, records: Path, workdir: Path, steps: int, jobs: int) -> sweep.Plan:
        """The sweep of this study."""
        arguments = ",".join(filter(None, [f"rows=1,steps={steps},learning_rate=2e-3", self.arguments]))
        return sweep.Plan(
            config=str(_REPOSITORY / "configs" / self.config),
            config_args=arguments if self.folds else f"records={records / self.name},{arguments}",
            workdir=workdir / self.name,
            methods=METHODS,
            seeds=self.seeds,
            jobs=jobs,
            folds=records / self.name if self.folds else None,
            splits=self.splits,
            overrides=SETTINGS,
        )


def class_facts(records: Path, split: str) -> str:
    """How many proteins of a split have a class that occurs in training."""
    known = {int(example.protein_label[0]) for example in RecordSet(records, "train")}
    labels = [int(example.protein_label[0]) for example in RecordSet(records, split)]
    seen = sum(label in known for label in labels)
    return f"{len(labels)} chains, {seen} of them of a class that occurs in training"


def model_facts(records: Path, split: str) -> str:
    """Models, targets, how many of them can be ranked, and how many models are synthetic."""
    examples = list(RecordSet(records, split))
    sizes = Counter(example.group for example in examples)
    ranked = sum(size >= 3 for size in sizes.values())
    synthetic = sum(":synthetic:" in example.id for example in examples)
    return f"{len(examples)} models of {len(sizes)} targets, {synthetic} synthetic; {ranked} targets have 3 or more"


def count_facts(records: Path, split: str) -> str:
    """Proteins and groups."""
    examples = RecordSet(records, split)
    return f"{len(examples)} proteins of {len(set(examples.groups))} groups"


_EC_METRICS = ("accuracy", "level_1_accuracy")
_LBA_METRICS = ("r2", "rmse", "pearson", "spearman")
_BINDING_METRICS = ("auc_pr", "roc_auc")
_UNBOUND = "The models are unbound forms of proteins whose native is the bound form, most of them close to it"
STUDIES = (
    Study(
        *("ec", "ec.py", "`ec`, official split", _EC_METRICS),
        "React with the official split, of which few structures are here: most classes of its test chains do not occur "
        "among the training chains, and cannot be called. EC level 1 asks for the first number of the EC number alone, "
        "and picks the checkpoint: no validation chain has a class of training",
        class_facts,
        arguments="task.selection_metric=level_1_accuracy",
    ),
    Study(
        *("ec_shared", "ec.py", "`ec`, re-split with shared classes", _EC_METRICS),
        "Not the official split: the same chains split by sequence cluster so that every class of validation and test "
        "is in training, too",
        class_facts,
    ),
    Study(
        *("mqa", "mqa.py", "`mqa`", ("r2", "global_pearson", "global_spearman", "global_rmse")),
        f"{_UNBOUND}, and one target with many decoys, which lies in training. One model a target ranks nothing, so "
        "correlations are over all models at once",
        model_facts,
        seeds=(0,),
    ),
    Study(
        *("mqa_synthetic", "mqa.py", "`mqa`, with synthetic decoys", ("r2", "mean_spearman", "mean_top1_loss")),
        f"{_UNBOUND}; beside each stand synthetic decoys (spoilt natives, predictions of no method), without which "
        "there would be nothing to rank",
        model_facts,
        seeds=(0,),
    ),
    Study(
        *("lba30", "lba.py", "`lba`, 30 % identity", _LBA_METRICS),
        "Pockets (residues within 10 Å of the ligand) with their ligand; the part of PDBbind's core set of 2013 that "
        "is here and a few complexes more: few to learn from",
        count_facts,
    ),
    Study(
        *("lba60", "lba.py", "`lba`, 60 % identity", _LBA_METRICS),
        "The same pockets; chains of up to 60 % identity lie on both sides",
        count_facts,
    ),
    Study(
        *("ppbs", "ppbs.py", "`ppbs`", _BINDING_METRICS),
        "ScanNet's training labels are not here: three of its validation sets stand for them. Of its four test sets, "
        "two are here (70 % identity, homology), in parts; `test` is their union",
        count_facts,
        splits=("test", "test_70", "test_homology"),
    ),
    Study(
        *("bce", "bce.py", "`bce`, cross-validated", _BINDING_METRICS),
        "Three of the five folds are here (2 to 4), and numbers are means over them. Most test entries of folds 3 and "
        "4 have a relative at 30 % identity in training, as the published folds allow it",
        count_facts,
        seeds=(0,),
        folds=True,
    ),
)


def table(workdir: Path, studies: Sequence[Study]) -> str:
    """One Markdown line for each study, test set and metric, from what the sweeps wrote.

    Columns: the methods (mean over the seeds), the trivial baseline that is best on validation, and the two forms of
    fusion minus the best of all others (picked on validation), with the interval over groups.
    """
    header = ["task", "test set", "metric", *map(_display, METHODS), "trivial"]
    header += [f"{method} minus the best other [95 %]" for method in OURS]
    lines = [header, ["---"] * len(header)]
    for study in studies:
        for split, compared in _compared(workdir, study).items():
            rows = {row["method"]: row for row in compared["rows"]}
            trivial = max((row for name, row in rows.items() if name not in METHODS), key=lambda row: row["validation"])
            for metric in study.metrics:
                shown = [rows.get(method, {"metrics": {}})["metrics"].get(metric) for method in METHODS]
                shown.append(trivial["metrics"][metric])
                differences = [""] * len(OURS)
                if metric == compared["metric"]:
                    best = _display(compared["best_baseline"])
                    differences = [
                        f"{_interval(rows[method]['difference'])} ({best})" if method in rows else "" for method in OURS
                    ]
                lines.append([study.title, split, metrics.title(metric), *map(_number, shown), *differences])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def document(records: Path, workdir: Path, studies: Sequence[Study]) -> str:
    """The table of all finished studies, and below it each with its caveat, its numbers and its own tables."""
    finished = [study for study in studies if _compared(workdir, study)]
    if not finished:
        return "nothing to compare: no run has finished\n"
    parts = [table(workdir, finished)]
    for study in finished:
        folders = sorted(records.glob(f"{study.name}/fold*")) if study.folds else [records / study.name]
        facts = [
            f"{' '.join(filter(None, (folder.name if study.folds else '', split)))}: {study.facts(folder, split)}."
            for folder in folders
            for split in ("train", "validation", *study.splits)
        ]
        # Headings of a sweep are of the third level, those of its test sets.
        tables = (workdir / study.name / "comparison.md").read_text(encoding="utf-8").replace("### ", "#### ")
        parts.append(f"### {study.title}\n\n{study.caveat}.\n\n" + "\n".join(f"* {fact}" for fact in facts))
        parts.append(tables)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _compared(workdir: Path, study: Study) -> dict:
    """Split -> comparison, as the sweep wrote it; empty where no run of it has finished."""
    path = workdir / study.name / "comparison.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _number(estimate: dict | None) -> str:
    return "" if estimate is None else "n/a" if estimate["value"] is None else f"{estimate['value']:.3f}"


def _interval(estimate: dict) -> str:
    if estimate["value"] is None or estimate["low"] is None:
        return "n/a"
    return f"{estimate['value']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def _display(name: str) -> str:
    return name.replace("_", " ")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    known = {study.name: study for study in STUDIES}
    names = args.studies.split(",") if args.studies else list(known)
    if unknown := [name for name in names if name not in known]:
        _LOGGER.error("--studies has %s; studies: %s", ", ".join(unknown), ", ".join(known))
        return 1
    studies = [dataclasses.replace(known[name], seeds=known[name].seeds[: args.seeds]) for name in names]
    pattern = {study: f"fold*/{METADATA_FILE}" if study.folds else METADATA_FILE for study in studies}
    if missing := [study.name for study in studies if not list((args.records / study.name).glob(pattern[study]))]:
        _LOGGER.error(
            "%s has no records of %s; docs/five_tasks.md says how to make them", args.records, ", ".join(missing)
        )
        return 1
    failed = False
    for study in studies:
        _LOGGER.info("study %s", study.name)
        status, _ = sweep.finish(study.plan(args.records, args.workdir, args.steps, args.jobs), OURS)
        if status == sweep.STATUS_OF_SIGTERM:
            return status
        failed |= status != 0
        text = document(args.records, args.workdir, studies)
        (args.workdir / "five_tasks.md").write_text(text, encoding="utf-8")
    print(text)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.five_tasks",
        description="Compare the methods on all five tasks.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--records", type=Path, required=True, help="folder of the record sets, named like the studies")
    parser.add_argument("--workdir", type=Path, required=True, help="folder of the sweeps and of five_tasks.md")
    parser.add_argument("--studies", help=f"some of {','.join(study.name for study in STUDIES)}; all if not given")
    parser.add_argument("--steps", type=int, default=200, help="of every run, at most")
    parser.add_argument("--seeds", type=int, help="of every method, at most; more go on from the same folder")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with its share of the cores")
    return parser


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
