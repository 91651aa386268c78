"""Structure files -> a record set.

    python -m data_prep.build ppbs --structures DIR --out DIR

reads every structure below ``--structures``, labels each residue by its contacts with the other partners of its
complex (or by ``--labels``), splits by sequence cluster of whole complexes and writes TFRecord shards with an index.
What became of every input file is printed and written to ``OUT/report.json``. Exit code 0: a record set was written,
1: none, and why.
"""

import argparse
import dataclasses
import importlib.util
import json
import multiprocessing
import sys
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bihf_jax.data import tfrecord
from bihf_jax.data.example import Example
from bihf_jax.data.records import METADATA_FILE, decode_example
from data_prep import complexes, splits
from data_prep.complexes import OUTCOMES, Complex, LabelRow, Options, Outcome, Result

REPORT_FILE = "report.json"
TASKS = ("ppbs",)

Labels = Mapping[str, Sequence[LabelRow]]


class BuildError(Exception):
    """No record set can be made; the message says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        build(args)
    except (BuildError, ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"data_prep.build: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.build",
        description="Make a record set from a folder of structure files.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("task", choices=TASKS, help="ppbs: protein-protein binding sites")
    parser.add_argument("--structures", type=Path, required=True, help="folder of .pdb, .ent, .cif files, also .gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the record set; must hold none yet")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--complexes", type=Path, help="CSV complex,partner,file,chains; chains joined by +")
    which.add_argument(
        "--layout",
        choices=("files", "db5"),
        default="files",
        help="files: each file is a complex, each chain a partner; db5: ID_l_b.pdb and ID_r_b.pdb are the partners",
    )
    parser.add_argument(
        "--labels", type=Path, help="CSV file,chain,residue_number,insertion_code,label instead of contacts"
    )
    parser.add_argument("--cutoff", type=float, default=4.0, help="heavy atoms this close are in contact, in Å")
    parser.add_argument("--min-residues", type=int, default=20, help="shorter partners get no record")
    parser.add_argument("--keep-copies", action="store_true", help="write identical partners of a complex each")
    parser.add_argument("--split", default="0.8,0.1,0.1", help="fractions of residues: train,validation,test")
    parser.add_argument("--split-file", type=Path, help="CSV complex,split: a published split, instead of --split")
    parser.add_argument("--seed", type=int, default=0, help="decides among clusters of one size")
    parser.add_argument("--identity", type=float, default=0.3, help="chains at least this identical are related")
    parser.add_argument(
        "--coverage", type=float, default=splits.COVERAGE, help="share of the shorter chain that must be aligned"
    )
    parser.add_argument("--alignment", choices=splits.TOOLS, help="tool; mmseqs where installed if not given")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--shards", type=int, help="files of each split; chosen by size if not given")
    return parser


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Make the record set that the parsed command line asks for; returns its report.

    Raises:
      BuildError: nothing is left to write; the report is in `args.out` all the same.
      ValueError, FileNotFoundError, FileExistsError: a setting or an input list is wrong; nothing was read.
    """
    fractions = _check_settings(args)
    files, others = complexes.list_files(args.structures)
    wanted = _complexes(args, files)
    labels = complexes.read_labels(args.labels, files) if args.labels else None
    given = splits.read_split(args.split_file) if args.split_file else None
    options = Options(args.structures, args.cutoff, args.min_residues, args.keep_copies)
    args.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".reading-", dir=args.out) as scratch,
        Spool(Path(scratch, "spool")) as spool,
    ):
        report, summaries = _read_all(wanted, options, labels, args.workers, spool)
        _account_for_files(report, files, others, wanted)
        _write_report(args.out, report)
        _print_counts(report)
        if not summaries:
            raise BuildError(f"no record is left of {len(wanted)} complexes; reasons: {args.out / REPORT_FILE}")
        split = _split(args, summaries, given, fractions)
        report["complexes"] = {
            name: {"split": split.split_of[name], "cluster": split.cluster_of[name], "records": len(summary.numbers)}
            for name, summary in sorted(summaries.items())
        }
        _write_report(args.out, report)
        _write_records(args, spool, summaries, split)
    return report


def _split(
    args: argparse.Namespace,
    summaries: Mapping[str, "Summary"],
    given: Mapping[str, str] | None,
    fractions: Sequence[float],
) -> splits.Split:
    """The split of `--split-file`, else one by sequence cluster."""
    chains = {name: summary.chains for name, summary in summaries.items()}
    related = {
        "identity": args.identity,
        "coverage": args.coverage,
        "tool": args.alignment,
        "threads": args.workers,
    }
    if given is None:
        sizes = {name: summary.residues for name, summary in summaries.items()}
        return splits.split_complexes(chains, sizes, fractions=fractions, seed=args.seed, **related)
    split = splits.given_split(given, chains, source=f"file {args.split_file.name}", **related)
    for name, count in split.method["related_to_train"].items():
        total = list(split.split_of.values()).count(name)
        print(f"{name}: {count} of {total} complexes share a sequence cluster with a training complex")
    return split


def _check_settings(args: argparse.Namespace) -> list[float]:
    """The fractions; everything that can be wrong is checked before hours of reading."""
    for name, least in (("workers", 1), ("min_residues", 1), ("shards", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
    if not args.cutoff > 0:
        raise ValueError(f"--cutoff is {args.cutoff}; it must be positive (Å)")
    if (args.out / METADATA_FILE).exists():
        raise FileExistsError(f"{args.out} holds a record set already; remove it or choose another --out")
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
    return fractions


def _complexes(args: argparse.Namespace, files: Sequence[str]) -> list[Complex]:
    if args.complexes:
        return complexes.complexes_of_csv(args.complexes, files)
    return complexes.complexes_of_db5(files) if args.layout == "db5" else complexes.complexes_of_files(files)


# ---------------------------------------------------------------------------------------------------------------------
# Reading, in many processes
# ---------------------------------------------------------------------------------------------------------------------


class Spool:
    """Serialised examples on disk between reading and writing, so that a set of any size fits into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115  closed by __exit__
        self._places: list[tuple[int, int]] = []

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, data: bytes) -> int:
        """Store one record; returns its number."""
        self._places.append((self._file.tell(), len(data)))
        self._file.write(tfrecord.frame(data))
        return len(self._places) - 1

    def read(self, number: int) -> Example:
        """Record `number`."""
        self._file.flush()
        offset, length = self._places[number]
        return decode_example(tfrecord.read_record(self._path, offset, length, number))


class SpooledExamples(Sequence[Example]):
    """Some records of a spool, read when asked for."""

    def __init__(self, spool: Spool, numbers: Sequence[int]) -> None:
        self._spool, self._numbers = spool, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Example:
        return self._spool.read(self._numbers[number])


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is kept in memory of a complex with records."""

    numbers: tuple[int, ...]  # of its records in the spool
    residues: int
    chains: tuple[str, ...]


def _read_all(
    wanted: Sequence[Complex], options: Options, labels: Labels | None, workers: int, spool: Spool
) -> tuple[dict[str, Any], dict[str, Summary]]:
    """The report and the complexes with records; the records are in `spool`."""
    counts: Counter[str] = Counter()
    files: dict[str, Counter[str]] = defaultdict(Counter)
    problems = []
    label_counts = Counter(lines=sum(map(len, labels.values()))) if labels is not None else None
    summaries = {}
    results = run(wanted, options, labels, workers)
    for result in tqdm(results, total=len(wanted), desc="reading", unit=" complexes", mininterval=1):
        for outcome in result.outcomes:
            counts[outcome.what] += 1
            for file in outcome.files:
                files[file][outcome.what] += 1
            if outcome.what != "written":
                problems.append(dataclasses.asdict(outcome))
        if label_counts is not None:
            label_counts["in_records"] += result.labels_used
            label_counts["without_coordinates"] += result.labels_without_coordinates
        if result.records:
            numbers = tuple(spool.add(data) for data in result.records)
            summaries[result.complex] = Summary(numbers, result.residues, result.chains)
    report = {
        "partners": {what: counts[what] for what in OUTCOMES if counts[what]},
        "files": {file: dict(what) for file, what in files.items()},
        "not_written": sorted(problems, key=lambda problem: (problem["complex"], problem["partner"])),
    }
    if label_counts is not None:
        report["labels"] = dict(label_counts)
    return report, summaries


def run(wanted: Sequence[Complex], options: Options, labels: Labels | None, workers: int) -> Iterator[Result]:
    """`process_complex` of every complex, in any order, over `workers` processes.

    A file that kills its process (out of memory, a crash in native code) takes down the whole pool; what was under
    way is then read again one by one, each in a process of its own, so that only the culprit is lost.
    """
    tasks = [(complex, options, _labels_of(complex, labels)) for complex in wanted]
    if workers == 1:
        yield from (complexes.process_complex(*task) for task in tasks)
        return
    # Not fork: threads (of a test runner, of TensorFlow) do not survive it.
    context = multiprocessing.get_context("spawn")
    waiting = deque(tasks)
    while waiting:
        under_way: dict[Future[Result], tuple] = {}
        try:
            with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context) as pool:
                while waiting or under_way:
                    while waiting and len(under_way) < 4 * workers:
                        future = pool.submit(complexes.process_complex, *waiting[0])
                        under_way[future] = waiting.popleft()
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del under_way[future]
                        yield result
        except BrokenProcessPool:
            for task in under_way.values():
                yield _run_alone(task, context)


def _run_alone(task: tuple, context: Any) -> Result:
    complex = task[0]
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(complexes.process_complex, *task).result()
    except BrokenProcessPool as error:
        return Result(complex.id, [Outcome(complex.id, "", complex.files, "worker_died", str(error))])


def _labels_of(complex: Complex, labels: Labels | None) -> Labels | None:
    if labels is None:
        return None
    return {file: labels[file] for file in complex.files if file in labels}


# ---------------------------------------------------------------------------------------------------------------------
# Reporting and writing
# ---------------------------------------------------------------------------------------------------------------------


def _account_for_files(
    report: dict[str, Any], files: Sequence[str], others: Sequence[str], wanted: Sequence[Complex]
) -> None:
    """Give the files that no complex uses their reason, and put all in order."""
    used = {file for complex in wanted for file in complex.files}
    unused = {file: {"not_selected": 1} for file in files if file not in used}
    unused |= {file: {"not_a_structure": 1} for file in others}
    report["files"] = dict(sorted((report["files"] | unused).items()))


def _write_report(out: Path, report: Mapping[str, Any]) -> None:
    (out / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def _print_counts(report: Mapping[str, Any]) -> None:
    print(f"{len(report['files'])} files, {sum(report['partners'].values())} partners:")
    partners = Counter(report["partners"])
    unused = Counter(what for of_file in report["files"].values() for what in of_file if what.startswith("not_"))
    for what, meaning in OUTCOMES.items():
        if partners[what]:
            print(f"  {partners[what]:7d} partners {what}: {meaning}")
        elif unused[what]:
            print(f"  {unused[what]:7d} files {what}: {meaning}")
    for problem in [problem for problem in report["not_written"] if problem["message"]][:10]:
        print(f"  complex {problem['complex']}, partner {problem['partner'] or '(all)'}: {problem['message']}")
    if labels := report.get("labels"):
        print(
            f"  {labels['lines']} labels given, {labels['in_records']} in records, of which "
            f"{labels['without_coordinates']} masked for want of coordinates"
        )


def _write_records(
    args: argparse.Namespace, spool: Spool, summaries: Mapping[str, Summary], split: splits.Split
) -> None:
    # Imported here: it loads TensorFlow, which the worker processes have no use for.
    from data_prep import tfds_builder

    numbers = defaultdict(list)
    for name in sorted(summaries):
        numbers[split.split_of[name]] += summaries[name].numbers
    labels = f"file {args.labels.name}" if args.labels else f"heavy atom within {args.cutoff} Å of another partner"
    metadata = {
        "task": args.task,
        "source": {
            "structures": args.structures.resolve().name,
            "complexes": args.complexes.name if args.complexes else f"layout {args.layout}",
            "labels": labels,
            "min_residues": args.min_residues,
            "keep_copies": args.keep_copies,
        },
        "split_method": split.method,
    }
    examples = {name: SpooledExamples(spool, numbers[name]) for name in splits.SPLITS if numbers[name]}
    counts = tfds_builder.write_record_set(args.out, examples, metadata, args.shards)
    for name, count in counts.items():
        print(
            f"{name}: {count['records']} records of {count['groups']} complexes, {count['residues']} residues, "
            f"{count['positives'] / max(count['labelled'], 1):.1%} positive"
        )
    print(f"written to {args.out}")


if __name__ == "__main__":
    sys.exit(main())
