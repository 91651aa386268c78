"""Structure files and labels -> a record set, one command a task.

    python -m data_prep.build ppbs --structures DIR --out DIR

lists what the task's files hold (`data_prep.sources`), reads it in many processes, splits by the published split or by
sequence cluster, and writes TFRecord shards with an index. What became of every input is printed and written to
``OUT/report.json``. A build that was killed goes on from ``OUT/cache`` when the same command is given again. Exit code
0: a record set was written, 1: none, and why.
"""

import argparse
import importlib.util
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihf_jax.data.records import METADATA_FILE
from data_prep import label_summary, splits
from data_prep.cache import Cache, CacheError
from data_prep.pipeline import OUTCOMES, CachedExamples, Source, Summary, processes, read_all
from data_prep.sources import TASKS
from data_prep.splits import Split

if TYPE_CHECKING:
    from data_prep.beam_run import Runner

REPORT_FILE = "report.json"
CACHE_FOLDER = "cache"
# How the folders begin in which record sets are written; also that of `tfds_builder`.
_UNFINISHED = ".writing-"
# Problems that are printed; the report has all.
MAX_PRINTED = 10


class BuildError(Exception):
    """No record set can be made; the message says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        build(args)
    except (BuildError, CacheError, ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"data_prep.build: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep.build", description="Make a record set.")
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for name, task in TASKS.items():
        of_task = tasks.add_parser(
            name, help=task.help, description=task.help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        of_task.add_argument("--structures", type=Path, help="folder of .pdb, .ent, .cif files, also .gz")
        for add_arguments in task.add_arguments:
            add_arguments(of_task, name)
        _add_common_arguments(of_task)
    return parser


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for the record set; must hold none yet")
    parser.add_argument("--cache", type=Path, help="folder for what was read, kept; OUT/cache, then removed, if absent")
    parser.add_argument("--min-residues", type=int, default=20, help="shorter proteins get no record")
    parser.add_argument("--split", default="0.8,0.1,0.1", help="fractions of residues: train,validation,test")
    parser.add_argument("--split-file", type=Path, help="CSV group,split: a split of your own, instead of --split")
    parser.add_argument(
        "--resplit", action="store_true", help="split by sequence cluster also what comes with a split of its own"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides among clusters of one size; of synthetic decoys")
    parser.add_argument("--identity", type=float, default=splits.IDENTITY, help="chains so identical are related")
    parser.add_argument(
        "--coverage", type=float, default=splits.COVERAGE, help="share of the shorter chain that must be aligned"
    )
    parser.add_argument("--alignment", choices=splits.TOOLS, help="tool; mmseqs where installed if not given")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument(
        "--runner", help="of Apache Beam, such as DirectRunner or DataflowRunner, instead of processes of this machine"
    )
    parser.add_argument(
        "--runner-options", default="", help="flags of the runner, in one text: '--project=P --region=R'"
    )
    parser.add_argument("--shards", type=int, help="files of each split; chosen by size if not given")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Make the record set (a cross-validation: those) that the parsed command line asks for; returns the report.

    Raises:
      BuildError: nothing is left to write; the report is in `args.out` all the same.
      CacheError: another build uses the cache.
      ValueError, FileNotFoundError, FileExistsError: a setting or an input list is wrong; nothing was read.
    """
    fractions = _check_settings(args)
    source = TASKS[args.task].source(args)
    given = splits.read_split(args.split_file) if args.split_file else None
    args.out.mkdir(parents=True, exist_ok=True)
    cache = Cache(args.cache or args.out / CACHE_FOLDER)
    with cache:
        if cache.num_found or cache.bytes_cut:
            print(f"going on: {cache.num_found} items are in {cache.folder} ({cache.bytes_cut} bytes were cut off)")
        runner = _runner(args)
        report, summaries = read_all(source, cache, processes(args.workers) if runner is None else runner.read)
        _write_report(args.out, report)
        _print_counts(source, report)
        if not summaries:
            count = f"{len(source.items)} {source.nouns[1]}"
            raise BuildError(f"no record is left of {count}; reasons: {args.out / REPORT_FILE}")
        made = _splits(args, source, summaries, given, fractions)
        _remove_leftovers(args.out)
        # Folders of a cross-validation move to their place together, so that a killed build leaves none of them.
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=args.out) as scratch:
            for folder, split in made.items():
                out = Path(scratch, folder) if folder else args.out
                out.mkdir(exist_ok=True)
                _write_report(out, report | {"groups": _groups(summaries, split)})
                _write_records(args, out, source, cache, summaries, split, runner)
                print(f"written to {args.out / folder}")
            for folder in filter(None, made):
                Path(scratch, folder).rename(args.out / folder)
    if args.cache is None:
        cache.remove()
    return report


def _check_settings(args: argparse.Namespace) -> list[float]:
    """The fractions; everything that can be wrong is checked before hours of reading."""
    for name, least in (("workers", 1), ("min_residues", 1), ("shards", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
    if args.structures is None and not getattr(args, "atom3d", None):
        raise ValueError("--structures is missing: the folder of structure files")
    for taken in [args.out, *sorted(args.out.glob("fold*"))]:
        if (taken / METADATA_FILE).exists():
            raise FileExistsError(f"{taken} holds a record set already; remove it or choose another --out")
    ways = ["--resplit", "--split-file", "--fold"]
    if len(given := [way for way in ways if getattr(args, way[2:].replace("-", "_"), None)]) > 1:
        raise ValueError(f"{' and '.join(given)} are several answers to one question; give one of them")
    try:
        fractions = [float(fraction) for fraction in args.split.split(",")]
    except ValueError as error:
        raise ValueError(f"--split is {args.split!r}; it must be three numbers such as 0.8,0.1,0.1") from error
    splits.check_thresholds(fractions, args.identity, args.coverage)
    splits.choose_tool(args.alignment)
    if missing := [name for name in ("tensorflow", "tensorflow_datasets") if not importlib.util.find_spec(name)]:
        raise ValueError(
            f"writing records needs {' and '.join(missing)}: pip install 'bihf_jax[prep]' (reading them does not)"
        )
    if args.runner_options and not args.runner:
        raise ValueError(f"--runner-options {args.runner_options!r} are of a runner; give --runner, too")
    if args.runner and not importlib.util.find_spec("apache_beam"):
        raise ValueError(f"--runner {args.runner} needs Apache Beam: pip install 'bihf_jax[prep,beam]'")
    return fractions


def _runner(args: argparse.Namespace) -> "Runner | None":
    """The Beam runner that the command line names; None: processes of this machine."""
    if not args.runner:
        return None
    from data_prep.beam_run import Runner  # an extra of its own

    return Runner(args.runner, args.runner_options)


# ---------------------------------------------------------------------------------------------------------------------
# Splits
# ---------------------------------------------------------------------------------------------------------------------


def _splits(
    args: argparse.Namespace,
    source: Source,
    summaries: Mapping[str, Summary],
    given: Mapping[str, str] | None,
    fractions: Sequence[float],
) -> dict[str, Split]:
    """Folder below `--out` ("" for itself) -> the split of the record set there; several for a cross-validation."""
    chains = {name: summary.chains for name, summary in summaries.items()}
    sizes = {name: summary.residues for name, summary in summaries.items()}
    related = {
        "identity": args.identity,
        "coverage": args.coverage,
        "tool": args.alignment,
        "threads": args.workers,
    }
    if given is not None:
        return {"": splits.given_split(given, chains, source=f"file {args.split_file.name}", **related)}
    if source.split_of is not None and not args.resplit:
        return {"": splits.given_split(source.split_of, chains, source=source.split_name, **related)}
    if source.fold_of is not None and not args.resplit:
        there = sorted({source.fold_of[name] for name in summaries})
        folds = [f"fold{args.fold}"] if args.fold else there
        validation = fractions[1] / (fractions[0] + fractions[1])
        made = splits.fold_splits(
            source.fold_of, folds, chains, sizes, validation=validation, seed=args.seed, **related
        )
        return {"" if args.fold else fold: split for fold, split in made.items()}
    if not source.relatives_matter:
        return {"": splits.split_groups(chains, sizes, fractions=fractions, seed=args.seed)}
    return {
        "": splits.split_complexes(
            chains, sizes, fractions=fractions, seed=args.seed, classes_of=source.classes_of, **related
        )
    }


def _print_overlap(split: Split) -> None:
    """Say how many groups of a split that was not made here have relatives in train."""
    if "related_to_train" not in split.method:
        return
    if split.method["related_to_train"] is None:
        print("how many groups share a sequence cluster with train was not counted: so many chains need MMseqs2")
        return
    for name, count in split.method["related_to_train"].items():
        total = list(split.split_of.values()).count(name)
        print(f"{name}: {count} of {total} share a sequence cluster with train")


# ---------------------------------------------------------------------------------------------------------------------
# Reporting and writing
# ---------------------------------------------------------------------------------------------------------------------


def _remove_leftovers(out: Path) -> None:
    """Delete what a build that was killed while it wrote has left in `out`."""
    for leftover in out.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(leftover)


def _groups(summaries: Mapping[str, Summary], split: Split) -> dict[str, dict[str, Any]]:
    """Group -> where it lies, for the report."""
    return {
        name: {"split": split.split_of[name], "cluster": split.cluster_of.get(name), "records": len(summary.places)}
        for name, summary in summaries.items()
    }


def _write_report(out: Path, report: Mapping[str, Any]) -> None:
    (out / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def _print_counts(source: Source, report: Mapping[str, Any]) -> None:
    noun = source.nouns[0]
    print(f"{len(report['files'])} files, {sum(report['outcomes'].values())} {noun}:")
    outcomes = Counter(report["outcomes"])
    unused = Counter(what for of_file in report["files"].values() for what in of_file if what.startswith("not_"))
    for what, meaning in OUTCOMES.items():
        if outcomes[what]:
            print(f"  {outcomes[what]:7d} {noun} {what}: {meaning}")
        elif unused[what]:
            print(f"  {unused[what]:7d} files {what}: {meaning}")
    for problem in [problem for problem in report["not_written"] if problem["message"]][:MAX_PRINTED]:
        part = f", {problem['part']}" if problem["part"] else ""
        print(f"  {problem['item']}{part}: {problem['message']}")
    for name, value in {**report["counts"], **source.notes}.items():
        print(f"  {len(value) if isinstance(value, list | dict) else value:7d} {name.replace('_', ' ')}")


def _write_records(
    args: argparse.Namespace,
    out: Path,
    source: Source,
    cache: Cache,
    summaries: Mapping[str, Summary],
    split: Split,
    runner: "Runner | None",
) -> None:
    # Imported here: it loads TensorFlow, which the worker processes have no use for.
    from data_prep import tfds_builder

    places = defaultdict(list)
    for name, summary in summaries.items():
        places[split.split_of[name]] += summary.places
    examples = {name: CachedExamples(cache, places[name]) for name in splits.SPLITS if places[name]}
    published = source.split_of is not None and split.method.get("source") == source.split_name
    metadata = {
        "task": source.task,
        "labels": source.labels.to_metadata(),
        "source": source.about,
        "split_method": split.method,
    }
    counts = tfds_builder.write_record_set(
        out, examples, metadata, args.shards, subsets=source.subsets if published else {}, runner=runner
    )
    _print_overlap(split)
    for name, count in counts.items():
        records = f"{name}: {count['records']} records of {count['groups']} {source.nouns[1]}"
        phrase = f", {label_summary.summarise(source.labels, examples[name])}" if name in examples else ""
        print(f"{records}, {count['residues']} residues{phrase}")
    for name in splits.SPLITS:
        if name not in examples:
            print(f"{name}: no record")


if __name__ == "__main__":
    sys.exit(main())
