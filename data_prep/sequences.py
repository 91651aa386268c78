"""Sequences -> a record set, for pretraining the pLM.

    python -m data_prep.sequences --fasta FILE.fasta.gz --out DIR
    python -m data_prep.sequences --swissprot --out DIR

reads FASTA (plain or gzip) or fetches Swiss-Prot (`data_prep.swissprot`), clusters, holds whole clusters out for
validation and test, and writes TFRecord shards of tokens with an index. What became of every sequence is in
``OUT/report.json``. Exit code 0: a record set was written, 1: none, and why.

**What is read.** Letters of lower case count as upper case; a stop ``*`` at the end is dropped, J (leucine or
isoleucine) becomes X, and B, O, U, X and Z stay. A sequence with any other letter, such as the gaps of an alignment or
a stop inside, gets no record; nor does one shorter than ``--min-residues``, one without any of the 20 amino acids, or
one whose id an earlier one has. All is counted.

**Long sequences** are cut into windows of at most ``--max-residues``, as few and as equal as can be, each a record
``ID/first-last`` with ``<cls>`` and ``<eos>`` of its own. A residue near a cut sees one side only.

**Subsets.** ``--sample`` takes so many sequences at random, before they are clustered; those not drawn are counted, and
the only ones that the report does not list.

**Splits.** Clusters are drawn at random; each goes to test or validation as a whole if it still fits into that split's
share of the residues, and to training otherwise: a family larger than a whole held-out split is always in training.
Then held-out sequences that a search relates to a training sequence after all are left out (`splits`), and of each
cluster at most ``--per-cluster`` sequences, drawn at random, are kept.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bihf_jax.data import alphabet
from bihf_jax.data.example import Example, sequence_example
from bihf_jax.data.records import METADATA_FILE
from data_prep import splits
from data_prep.formats.fasta import FastaRecord, read_fasta
from data_prep.swissprot import PACKAGE, read_swissprot

REPORT_FILE = "report.json"
OUTCOMES = {
    "written": "has a record, or one a window",
    "too_short": "fewer residues than --min-residues",
    "letters": "letters that are no residue",
    "no_amino_acid": "none of the 20 amino acids in it",
    "repeated_id": "an earlier sequence has the same id",
    "not_drawn": "not among the --sample that was drawn",
    "related_to_training": "held out, but related to a training sequence",
    "over_per_cluster": "its cluster has more than --per-cluster sequences",
}
CHANGES = {
    "lower_case": "sequences with letters of lower case, read as upper case",
    "stop": "sequences with a stop at the end, dropped",
    "j": "sequences with J, read as X",
    "windowed": "sequences longer than --max-residues, cut into windows",
}
# How the few that are held out are searched in the many to train on: MMseqs2's own settings, as the most sensitive one
# takes days for them (`splits.nearest_among`).
SEARCH = {"sensitivity": 5.7, "max_hits": 300}
_FETCH = "fetch"  # value of --swissprot without a file
_CHAIN_ID = "A"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        build(args)
    except (ValueError, FileNotFoundError, FileExistsError, RuntimeError) as error:
        print(f"data_prep.sequences: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.sequences",
        description="Make a record set of sequences for pretraining.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fasta", type=Path, nargs="+", help="FASTA files, also .gz")
    source.add_argument(
        "--swissprot", nargs="?", const=_FETCH, metavar="DEB", help=f"the Debian package {PACKAGE}; fetched without DEB"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the record set; must hold none yet")
    parser.add_argument("--min-residues", type=int, default=30, help="shorter sequences get no record")
    parser.add_argument("--max-residues", type=int, default=1022, help="longer sequences are cut into windows")
    parser.add_argument("--sample", type=int, help="sequences drawn at random, before clustering; all if not given")
    parser.add_argument("--per-cluster", type=int, help="sequences kept of a cluster; all if not given")
    parser.add_argument("--split", default="0.99,0.005,0.005", help="shares of residues: train,validation,test")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn at random")
    parser.add_argument("--identity", type=float, default=0.3, help="sequences at least this identical are related")
    parser.add_argument(
        "--coverage", type=float, default=splits.COVERAGE, help="share of the shorter sequence that must be aligned"
    )
    parser.add_argument("--alignment", choices=splits.TOOLS, help="tool; mmseqs where installed if not given")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="threads of MMseqs2")
    parser.add_argument("--shards", type=int, help="files of each split; chosen by size if not given")
    return parser


@dataclasses.dataclass(frozen=True)
class Entry:
    """A sequence that can have a record."""

    id: str
    source: str  # name of its file
    sequence: str  # letters of `alphabet.SEQUENCE_LETTERS`


class Account:
    """What became of every sequence.

    Attributes:
      outcomes: of `OUTCOMES`, sequences each.
      changes: of `CHANGES`, sequences each.
      left_out: every sequence without a record, but for those not drawn.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.left_out: list[dict[str, Any]] = []

    def leave_out(self, what: str, id: str, source: str, **more: Any) -> None:
        """Counts a sequence that gets no record, and keeps why."""
        self.outcomes[what] += 1
        self.left_out.append({"what": what, "id": id, "source": source, **more})


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Makes the record set that the parsed command line asks for; returns its report.

    Raises:
      ValueError, FileNotFoundError, FileExistsError: a setting or a file is wrong, or nothing is left to write.
      RuntimeError: another program failed; the message has its words.
    """
    fractions = _check_settings(args)
    tool = splits.choose_tool(args.alignment)
    account = Account()
    records = _swissprot(args.swissprot) if args.swissprot else _fasta(args.fasta)
    entries = list(read_entries(tqdm(records, desc="reading", unit=" sequences", mininterval=5), account, args))
    if args.sample:
        entries = _drawn(entries, args.sample, args.seed, account)
    if not entries:
        raise ValueError(f"no sequence is left to write; what became of them: {dict(account.outcomes)}")
    known = [_known_letters(entry.sequence) for entry in entries]
    related = {"identity": args.identity, "coverage": args.coverage, "threads": args.workers}
    print(f"clustering {len(entries):,} sequences by {tool}", flush=True)
    cluster = splits.cluster_sequences(known, tool=tool, **related)
    split_of = draw_clusters(cluster, np.array([len(s) for s in known]), fractions, args.seed)
    kept = np.ones(len(entries), bool)
    if tool == "mmseqs":
        kept &= ~_related_to_training(known, split_of, related, entries, account)
    if args.per_cluster:
        kept &= _at_most(args.per_cluster, cluster, kept, args.seed, entries, account)
    numbers = {name: np.flatnonzero(kept & (split_of == i)) for i, name in enumerate(splits.SPLITS) if fractions[i] > 0}
    account.outcomes["written"] += int(kept.sum())
    windowed = [i for i in np.flatnonzero(kept) if len(entries[i].sequence) > args.max_residues]
    account.changes["windowed"] += len(windowed)
    method = {
        "tool": tool,
        "tool_version": splits.tool_version(tool),
        "identity": args.identity,
        "coverage_of_shorter": args.coverage,
        "fractions": fractions,
        "seed": args.seed,
        "sample": args.sample,
        "per_cluster": args.per_cluster,
        "clusters": int(cluster.max()) + 1,
        "largest_cluster": int((cluster == 0).sum()),
    }
    report = {
        "sequences": {what: account.outcomes[what] for what in OUTCOMES if account.outcomes[what]},
        "changes": {what: account.changes[what] for what in CHANGES if account.changes[what]},
        "split_method": method,
        "left_out": account.left_out,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    _print_report(report)
    _write(
        args, {name: Examples(entries, cluster, chosen, args.max_residues) for name, chosen in numbers.items()}, method
    )
    return report


def _check_settings(args: argparse.Namespace) -> list[float]:
    """The fractions; everything that can be wrong is checked before minutes of reading."""
    for name, least in (
        ("workers", 1),
        ("min_residues", 1),
        ("max_residues", 2),
        ("shards", 1),
        ("sample", 1),
        ("per_cluster", 1),
    ):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")
    if args.min_residues > args.max_residues:
        raise ValueError(f"--min-residues {args.min_residues} is more than --max-residues {args.max_residues}")
    if (args.out / METADATA_FILE).exists():
        raise FileExistsError(f"{args.out} holds a record set already; remove it or choose another --out")
    try:
        fractions = [float(fraction) for fraction in args.split.split(",")]
    except ValueError as error:
        raise ValueError(f"--split is {args.split!r}; it must be three numbers such as 0.99,0.005,0.005") from error
    splits.check_thresholds(fractions, args.identity, args.coverage)
    if missing := [name for name in ("tensorflow", "tensorflow_datasets") if not importlib.util.find_spec(name)]:
        raise ValueError(
            f"writing records needs {' and '.join(missing)}: pip install 'bihf_jax[prep]' (reading them does not)"
        )
    return fractions


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def _fasta(paths: Sequence[Path]) -> Iterator[tuple[str, FastaRecord]]:
    for path in paths:
        yield from ((path.name, record) for record in read_fasta(path))


def _swissprot(package: str) -> Iterator[tuple[str, FastaRecord]]:
    return ((PACKAGE, record) for record in read_swissprot(None if package == _FETCH else Path(package)))


def read_entries(
    records: Iterable[tuple[str, FastaRecord]], account: Account, args: argparse.Namespace
) -> Iterator[Entry]:
    """The sequences that can have a record, of (name of the file, record); the others go into `account`."""
    seen = set()
    for source, record in records:
        sequence = _cleaned(record.sequence, account)
        fault = ""
        if strange := set(sequence) - {*alphabet.SEQUENCE_LETTERS}:
            fault = "letters"
        elif len(sequence) < args.min_residues:
            fault = "too_short"
        elif not set(sequence) & {*alphabet.AMINO_ACIDS}:
            fault = "no_amino_acid"
        elif record.id in seen:
            fault = "repeated_id"
        if fault:
            more = {"letters": "".join(sorted(strange))} if strange else {}
            account.leave_out(fault, record.id, source, line=record.line, **more)
            continue
        seen.add(record.id)
        yield Entry(record.id, source, sequence)


def _cleaned(sequence: str, account: Account) -> str:
    """The sequence in upper case, without a stop at its end, J as X; what was changed is counted."""
    upper = sequence.upper()
    account.changes["lower_case"] += upper != sequence
    without_stop = upper.removesuffix("*")
    account.changes["stop"] += without_stop != upper
    cleaned = without_stop.replace("J", "X")
    account.changes["j"] += cleaned != without_stop
    return cleaned


def _drawn(entries: list[Entry], count: int, seed: int, account: Account) -> list[Entry]:
    """So many of the entries at random, in their order; the others are counted."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(entries))[:count])
    account.outcomes["not_drawn"] += len(entries) - len(drawn)
    return [entries[i] for i in drawn]


_KNOWN = str.maketrans("BUZO", "XXXX")


def _known_letters(sequence: str) -> str:
    """The sequence in the 20 amino acids and X, as it is aligned."""
    return sequence.translate(_KNOWN)


# ---------------------------------------------------------------------------------------------------------------------
# Splitting
# ---------------------------------------------------------------------------------------------------------------------


def draw_clusters(cluster: np.ndarray, residues: np.ndarray, fractions: Sequence[float], seed: int) -> np.ndarray:
    """[N] int64: the split of each sequence (index into `splits.SPLITS`), whole clusters each.

    Args:
      cluster: [N] number of each sequence's cluster, from 0.
      residues: [N] of each sequence.
      fractions: shares of all residues of train, validation and test.
      seed: of the order in which clusters are drawn.

    Raises:
      ValueError: a held-out split gets nothing, as every cluster is larger than its share.
    """
    size = np.bincount(cluster, weights=residues)
    split_of = np.zeros(len(size), np.int64)
    room = np.array(fractions) * residues.sum()
    held_out = [split for split in (2, 1) if fractions[split] > 0]
    for number in np.random.default_rng(seed).permutation(len(size)):
        for split in held_out:
            if size[number] <= room[split]:
                split_of[number] = split
                room[split] -= size[number]
                break
    if empty := [splits.SPLITS[split] for split in sorted(held_out) if not (split_of == split).any()]:
        raise ValueError(
            f"no cluster is small enough for {' and '.join(empty)}; the smallest has {size.min():.0f} of "
            f"{residues.sum()} residues. Give more sequences, or a larger --split"
        )
    if split_of.all():
        raise ValueError("every cluster was held out and none is left to train on; give a larger share of train")
    return split_of[cluster]


def _related_to_training(
    sequences: Sequence[str],
    split_of: np.ndarray,
    related: dict[str, Any],
    entries: Sequence[Entry],
    account: Account,
) -> np.ndarray:
    """[N] bool: held out, but related to a training sequence by a search; these go into `account`."""
    held_out = np.flatnonzero(split_of != 0)
    print(f"searching {len(held_out):,} held-out sequences in the training sequences", flush=True)
    training = [sequences[i] for i in np.flatnonzero(split_of == 0)]
    found = np.zeros(len(sequences), bool)
    nearest = splits.nearest_among([sequences[i] for i in held_out], training, **SEARCH, **related)
    found[held_out] = nearest.index >= 0
    for i in np.flatnonzero(found):
        account.leave_out("related_to_training", entries[i].id, entries[i].source)
    return found


def _at_most(
    most: int, cluster: np.ndarray, candidates: np.ndarray, seed: int, entries: Sequence[Entry], account: Account
) -> np.ndarray:
    """[N] bool: at most so many of the candidates [N] of each cluster; the other candidates go into `account`."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(candidates))
    order = order[np.argsort(cluster[order], kind="stable")]  # by cluster, within it at random
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    kept = np.zeros(len(cluster), bool)
    kept[order[place < most]] = True
    for i in np.flatnonzero(candidates & ~kept):
        account.leave_out("over_per_cluster", entries[i].id, entries[i].source)
    return kept


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


def windows(length: int, longest: int) -> list[range]:
    """Ranges that together are 0 .. length - 1, of at most `longest` each: as few and as equal as can be."""
    count = -(-length // longest)
    ends = [length * i // count for i in range(count + 1)]
    return [range(start, end) for start, end in itertools.pairwise(ends)]


class Examples(Sequence[Example]):
    """The records of a split, made when asked for. The group of a record is its cluster."""

    def __init__(self, entries: Sequence[Entry], cluster: np.ndarray, numbers: np.ndarray, max_residues: int) -> None:
        self._entries, self._cluster = entries, cluster
        self._windows = [(int(i), w) for i in numbers for w in windows(len(entries[i].sequence), max_residues)]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, number: int) -> Example:
        index, window = self._windows[number]
        entry = self._entries[index]
        whole = len(window) == len(entry.sequence)
        residues = alphabet.encode_sequence(entry.sequence[window.start : window.stop])
        return sequence_example(
            id=entry.id if whole else f"{entry.id}/{window.start + 1}-{window.stop}",
            source=entry.source,
            group=f"cluster_{self._cluster[index]}",
            chain_ids=(_CHAIN_ID,),
            tokens=np.concatenate([[alphabet.CLS], residues, [alphabet.EOS]]).astype(np.int8),
            weight=1.0,
        )


def _print_report(report: dict[str, Any]) -> None:
    for section, meanings in (("sequences", OUTCOMES), ("changes", CHANGES)):
        for what, count in report[section].items():
            print(f"  {count:9,d} {what}: {meanings[what]}")
    method = report["split_method"]
    print(f"{method['clusters']:,} clusters, the largest of {method['largest_cluster']:,} sequences", flush=True)


def _write(args: argparse.Namespace, examples: dict[str, Examples], method: dict[str, Any]) -> None:
    # Imported here: it loads TensorFlow, which is needed for nothing else.
    from data_prep import tfds_builder

    metadata = {
        "task": "mlm",
        "source": {
            "sequences": PACKAGE if args.swissprot else [path.name for path in args.fasta],
            "min_residues": args.min_residues,
            "max_residues": args.max_residues,
        },
        "split_method": method,
    }
    counts = tfds_builder.write_record_set(args.out, examples, metadata, args.shards, sequences_only=True)
    for name, count in counts.items():
        print(f"{name}: {count['records']:,} records of {count['groups']:,} clusters, {count['residues']:,} residues")
    print(f"written to {args.out}")


if __name__ == "__main__":
    sys.exit(main())
