"""Splits by sequence cluster of whole complexes, so that no test protein has a near relative in training.

Two chains are **related** if a local alignment of them

* has an expectation value of at most `MAX_EVALUE`,
* at least `identity` (30 %) identical residues among the aligned columns, and
* covers at least `coverage` (a half) of the shorter chain.

Half of the shorter chain, and not the usual 0.8, because two proteins that share one of two domains are near relatives
in that domain; on Docking Benchmark 5.5 it costs next to nothing (83 clusters of the 271 complexes, 86 at 0.8).

Complexes are joined by single linkage: one related pair of chains, whichever they are, and two complexes share a
cluster; a cluster lies in one split as a whole. All protein chains of a complex take part, also those that get no
record, because labels come from them.

Short chains have no alignment statistics: chains under `MIN_ALIGNED` (20) residues are never aligned, and a chain of
`MIN_CONTAINED` (8) to `MAX_CONTAINED` (29) residues is also related to every chain that contains it whole. Chains
under 8 residues (a few contacts of any protein) and chains without a single known residue relate nothing.

Tools: MMseqs2 where it is installed (Steinegger and Söding 2017; sensitivity 7.5, the setting for 30 % identity),
else Biopython's `PairwiseAligner` with BLOSUM62, gaps 11 + 1 and the expectation value of Karlin and Altschul (1990)
with BLAST's gapped parameters. The fallback aligns every pair: exact, and quadratic.

**Sequences by the hundred thousand** (`cluster_sequences`, for pretraining) are too many to align each with each.
MMseqs2's linclust (Steinegger and Söding 2018) compares only those that share k-mers, in linear time, and so misses
distant relatives; `nearest_among` finds those of the few that are held out, by the search above. Without MMseqs2,
up to `MAX_FALLBACK_CHAINS` sequences are clustered as chains are.
"""

import csv
import dataclasses
import itertools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bihf_jax.protein import residue_constants

SPLITS = ("train", "validation", "test")
TOOLS = ("mmseqs", "biopython")
IDENTITY = 0.3
COVERAGE = 0.5
MAX_EVALUE = 1e-3
SENSITIVITY = 7.5  # of MMseqs2's search
MIN_ALIGNED = 20
MIN_CONTAINED = 8
MAX_CONTAINED = 29
# Of so many chains the fallback aligns the pairs in minutes; of more it would take hours.
MAX_FALLBACK_CHAINS = 3000

# Gapped Karlin-Altschul parameters of BLOSUM62 with gap costs 11 + 1 (NCBI BLAST, blast_stat.c).
_LAMBDA, _K = 0.267, 0.041
_HIT_COLUMNS = "query,target,fident,qstart,qend,tstart,tend"  # of MMseqs2, as `_mmseqs_hits` reads them

Pair = tuple[int, int]
Hit = tuple[int, int, float]  # query, target, share of identical residues


@dataclasses.dataclass(frozen=True)
class Split:
    """Which group (complex, chain, target) lies where, and how that was decided.

    Attributes:
      split_of: group -> name of its split.
      cluster_of: group -> number of its cluster, 0 for the largest.
      method: tool, version and thresholds, for the metadata of a record set.
    """

    split_of: dict[str, str]
    cluster_of: dict[str, int]
    method: dict[str, Any]


def split_complexes(
    chains: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
    *,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    identity: float = IDENTITY,
    coverage: float = COVERAGE,
    tool: str | None = None,
    threads: int = 1,
    classes_of: Mapping[str, frozenset[int]] | None = None,
) -> Split:
    """Assign complexes to train, validation and test by cluster.

    Args:
      chains: complex id -> sequences (one-letter codes) of all its protein chains.
      sizes: complex id -> residues of its records, which `fractions` are fractions of.
      fractions: of train, validation and test; 0 leaves a split out.
      seed: decides among clusters of equal numbers of complexes.
      identity: least share of identical residues among aligned columns, in [0, 1].
      coverage: least share of the shorter chain in the alignment, in [0, 1].
      tool: "mmseqs" or "biopython"; None takes MMseqs2 where it is installed.
      threads: threads of MMseqs2.
      classes_of: complex id -> its classes; then every class of validation and test occurs in train, too.

    Raises:
      ValueError: fractions that do not sum to 1, thresholds outside [0, 1], an unknown tool, or fewer clusters than
        splits.
      FileNotFoundError: MMseqs2 is asked for and not installed.
    """
    check_thresholds(fractions, identity, coverage)
    tool = choose_tool(tool)
    clusters = cluster_complexes(chains, identity=identity, coverage=coverage, tool=tool, threads=threads)
    split_of = assign_clusters(clusters, sizes, fractions, seed, classes_of)
    method = {
        "kind": "sequence clusters" if classes_of is None else "sequence clusters, each class in train",
        "tool": tool,
        "tool_version": tool_version(tool),
        "identity": identity,
        "coverage_of_shorter": coverage,
        "max_evalue": MAX_EVALUE,
        "min_aligned_length": MIN_ALIGNED,
        "contained_lengths": [MIN_CONTAINED, MAX_CONTAINED],
        "fractions": list(fractions),
        "seed": seed,
        "clusters": len(clusters),
        "largest_cluster": max(map(len, clusters), default=0),
    }
    return Split(split_of=split_of, cluster_of=_number_of(clusters), method=method)


def split_groups(
    groups: Iterable[str], sizes: Mapping[str, int], *, fractions: Sequence[float], seed: int = 0
) -> Split:
    """Assign groups to train, validation and test at random, whether their sequences are related or not.

    Args:
      groups: names.
      sizes: group -> residues of its records, which `fractions` are fractions of.
      fractions: of train, validation and test; 0 leaves a split out.
      seed: decides their order.

    Raises:
      ValueError: fractions that do not sum to 1, or fewer groups than splits.
    """
    check_thresholds(fractions, IDENTITY, COVERAGE)
    clusters = [[group] for group in sorted(groups)]
    split_of = assign_clusters(clusters, sizes, fractions, seed)
    method = {"kind": "groups", "fractions": list(fractions), "seed": seed, "groups": len(clusters)}
    return Split(split_of=split_of, cluster_of=_number_of(clusters), method=method)


def fold_splits(
    fold_of: Mapping[str, str],
    folds: Iterable[str],
    chains: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
    *,
    validation: float,
    seed: int = 0,
    identity: float = IDENTITY,
    coverage: float = COVERAGE,
    tool: str | None = None,
    threads: int = 1,
) -> dict[str, Split]:
    """Cross-validation: each of `folds` is tested in turn; the others are train and validation, by sequence cluster.

    Args:
      fold_of: group -> its published fold; may name more groups than `chains`.
      folds: to test on.
      chains: as in `split_complexes`.
      sizes: as in `split_complexes`.
      validation: share of the residues of the other folds that picks the checkpoint.
      seed: as in `split_complexes`.
      identity: as in `split_complexes`.
      coverage: as in `split_complexes`.
      tool: as in `split_complexes`.
      threads: as in `split_complexes`.

    Raises:
      ValueError: a fold without records, or too few clusters in the others.
    """
    tool = choose_tool(tool)
    clusters = cluster_complexes(chains, identity=identity, coverage=coverage, tool=tool, threads=threads)
    cluster_of = _number_of(clusters)
    splits = {}
    for fold in folds:
        tested = {group for group in chains if fold_of[group] == fold}
        if not tested:
            there = ", ".join(sorted({fold_of[group] for group in chains}))
            raise ValueError(f"no record is of {fold}; folds with records: {there}")
        others = [[group for group in cluster if group not in tested] for cluster in clusters]
        split_of = assign_clusters(
            [cluster for cluster in others if cluster], sizes, (1 - validation, validation, 0), seed
        )
        split_of = dict(sorted((split_of | dict.fromkeys(tested, "test")).items()))
        method = {
            "kind": "cross-validation",
            "test": fold,
            "validation_share_of_other_folds": validation,
            **_overlap(split_of, cluster_of, tool, identity, coverage),
        }
        splits[fold] = Split(split_of=split_of, cluster_of=cluster_of, method=method)
    return splits


def _number_of(clusters: Sequence[Sequence[str]]) -> dict[str, int]:
    """Member -> number of its cluster."""
    return {member: number for number, cluster in enumerate(clusters) for member in cluster}


def _overlap(
    split_of: Mapping[str, str], cluster_of: Mapping[str, int], tool: str, identity: float, coverage: float
) -> dict[str, Any]:
    """How many groups of a split that was not made here share a cluster with train."""
    trained = {cluster_of[group] for group, split in split_of.items() if split == "train"}
    return {
        "tool": tool,
        "tool_version": tool_version(tool),
        "identity": identity,
        "coverage_of_shorter": coverage,
        "clusters": len(set(cluster_of.values())),
        "related_to_train": {
            name: sum(split == name and cluster_of[group] in trained for group, split in split_of.items())
            for name in SPLITS[1:]
        },
    }


def given_split(
    split_of: Mapping[str, str],
    chains: Mapping[str, Sequence[str]],
    *,
    identity: float = IDENTITY,
    coverage: float = COVERAGE,
    tool: str | None = None,
    threads: int = 1,
    source: str,
) -> Split:
    """A published split as it is, with the clusters counted that it tears apart.

    Args:
      split_of: complex id -> name of its split; may name more complexes than `chains`.
      chains: complex id -> sequences (one-letter codes) of all its protein chains.
      identity: as in `split_complexes`.
      coverage: as in `split_complexes`.
      tool: as in `split_complexes`.
      threads: as in `split_complexes`.
      source: where the split comes from, for the metadata.

    Raises:
      ValueError: a complex of `chains` without a split; thresholds outside [0, 1]; an unknown tool.
    """
    if missing := sorted(set(chains) - set(split_of)):
        raise ValueError(
            f"{source} has no line for {len(missing)} of {len(chains)} complexes: {', '.join(missing[:5])}; each "
            f"complex with records needs one of {', '.join(SPLITS)}"
        )
    tool = choose_tool(tool)
    split_of = {complex_id: split_of[complex_id] for complex_id in sorted(chains)}
    method: dict[str, Any] = {"kind": "given", "source": source}
    if tool == "biopython" and len({chain for of_one in chains.values() for chain in of_one}) > MAX_FALLBACK_CHAINS:
        method["related_to_train"] = None  # not known: MMseqs2 could say
        return Split(split_of=split_of, cluster_of={}, method=method)
    clusters = cluster_complexes(chains, identity=identity, coverage=coverage, tool=tool, threads=threads)
    cluster_of = _number_of(clusters)
    return Split(split_of, cluster_of, method | _overlap(split_of, cluster_of, tool, identity, coverage))


def read_split(path: Path) -> dict[str, str]:
    """Group -> split, of a CSV `complex,split` or `group,split`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: other columns, an unknown split or two lines for one complex; the message names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it must be a CSV with the columns complex,split")
    split_of: dict[str, str] = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = {"complex", "group"} & set(reader.fieldnames or ())
        if len(names) != 1 or "split" not in reader.fieldnames:
            raise ValueError(f"{path}: columns are {reader.fieldnames}; it must have complex,split or group,split")
        (name,) = names
        for row in reader:
            complex_id, split = (row[name] or "").strip(), (row["split"] or "").strip()
            if split not in SPLITS:
                raise ValueError(f"{path}, line {reader.line_num}: split {split!r}; splits: {', '.join(SPLITS)}")
            if complex_id in split_of:
                raise ValueError(f"{path}, line {reader.line_num}: a second line for {name} {complex_id!r}")
            split_of[complex_id] = split
    return split_of


def check_thresholds(fractions: Sequence[float], identity: float, coverage: float) -> None:
    """Raise ValueError, naming what is allowed, if one of them cannot be used."""
    for name, value in (("identity", identity), ("coverage", coverage)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must lie in [0, 1]")
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(
            f"split fractions are {', '.join(map(str, fractions))}; they must be three numbers, of {', '.join(SPLITS)}"
            ", none negative, with sum 1"
        )
    if fractions[0] == 0:
        raise ValueError("the fraction of train is 0; the largest cluster goes there, so it must be positive")


def choose_tool(tool: str | None) -> str:
    """`tool`, or the best that is installed where it is None.

    Raises:
      ValueError: an unknown tool.
      FileNotFoundError: MMseqs2 is asked for and not installed.
    """
    if tool is None:
        return "mmseqs" if shutil.which("mmseqs") else "biopython"
    if tool not in TOOLS:
        raise ValueError(f"alignment tool {tool!r}; tools: {', '.join(TOOLS)}")
    if tool == "mmseqs" and not shutil.which("mmseqs"):
        raise FileNotFoundError(
            "mmseqs is not on the PATH; install MMseqs2 (Debian package mmseqs2) or use --alignment biopython"
        )
    return tool


def tool_version(tool: str) -> str:
    """Version of `tool` as it prints it."""
    if tool == "mmseqs":
        return subprocess.run(["mmseqs", "version"], check=True, capture_output=True, text=True).stdout.strip()
    import Bio

    return Bio.__version__


def cluster_complexes(
    chains: Mapping[str, Sequence[str]], *, identity: float, coverage: float, tool: str, threads: int = 1
) -> list[list[str]]:
    """Clusters of complex ids, single linkage over related chains; most complexes first, then by first id.

    Raises:
      ValueError: a letter that is not in `residue_constants.RESIDUE_TYPES`.
    """
    unique = sorted({sequence for sequences in chains.values() for sequence in sequences})
    if strange := set().union(*unique) - set(residue_constants.RESIDUE_TYPES):
        raise ValueError(
            f"sequences hold {', '.join(sorted(strange))}; letters: {''.join(residue_constants.RESIDUE_TYPES)}"
        )
    number_of = {sequence: number for number, sequence in enumerate(unique)}
    forest = _Forest(len(unique))
    for sequences in chains.values():
        for first, second in itertools.pairwise(_relating(sequences)):
            forest.join(number_of[first], number_of[second])
    for first, second in related_pairs(unique, identity=identity, coverage=coverage, tool=tool, threads=threads):
        forest.join(first, second)
    members: dict[Any, list[str]] = {}
    for complex_id in sorted(chains):
        relating = _relating(chains[complex_id])
        # A complex of tiny peptides alone relates to nothing and is a cluster of its own.
        root = forest.root(number_of[relating[0]]) if relating else complex_id
        members.setdefault(root, []).append(complex_id)
    return sorted(members.values(), key=lambda cluster: (-len(cluster), cluster[0]))


def _relating(sequences: Iterable[str]) -> list[str]:
    return [sequence for sequence in sequences if relates(sequence)]


def relates(sequence: str) -> bool:
    """Whether a chain can relate complexes: long enough, and with known residues."""
    return len(sequence) >= MIN_CONTAINED and set(sequence) != {"X"}


def related_pairs(
    sequences: Sequence[str], *, identity: float, coverage: float, tool: str, threads: int = 1
) -> set[Pair]:
    """Pairs (i, j), i < j, of related chains among different `sequences`; the rule is in the module docstring."""
    aligned = [
        number for number, sequence in enumerate(sequences) if relates(sequence) and len(sequence) >= MIN_ALIGNED
    ]
    pairs = contained_pairs(sequences)
    if len(aligned) > 1:
        align = _mmseqs_pairs if tool == "mmseqs" else _biopython_pairs
        found = align([sequences[number] for number in aligned], identity, coverage, threads)
        pairs |= {(aligned[first], aligned[second]) for first, second in found}
    return pairs


def contained_pairs(sequences: Sequence[str]) -> set[Pair]:
    """Pairs of chains of which one, of 8 to 29 residues, occurs whole in the other."""
    # One text of all chains: the search for a peptide runs in C, once.
    starts = np.cumsum([0] + [len(sequence) + 1 for sequence in sequences])
    text = "\n".join(sequences)
    pairs = set()
    for number, sequence in enumerate(sequences):
        if not relates(sequence) or len(sequence) > MAX_CONTAINED:
            continue
        position = text.find(sequence)
        while position >= 0:
            other = int(np.searchsorted(starts, position, side="right")) - 1
            if other != number:
                pairs.add((min(number, other), max(number, other)))
            position = text.find(sequence, position + 1)
    return pairs


def cluster_sequences(
    sequences: Sequence[str], *, identity: float, coverage: float, tool: str, threads: int = 1
) -> np.ndarray:
    """[N] int64 number of each sequence's cluster, 0 for the largest; see the module docstring.

    Args:
      sequences: N sequences in the letters of `residue_constants.RESIDUE_TYPES`.
      identity: least share of identical residues, in [0, 1].
      coverage: least share of the shorter sequence that is aligned, in [0, 1].
      tool: "mmseqs" or "biopython".
      threads: threads of MMseqs2.

    Raises:
      ValueError: more than `MAX_FALLBACK_CHAINS` sequences for Biopython; other letters.
    """
    names = [str(number) for number in range(len(sequences))]
    if tool == "mmseqs":
        representative = _linclust(names, sequences, identity, coverage, threads)
    elif len(sequences) > MAX_FALLBACK_CHAINS:
        raise ValueError(
            f"{len(sequences)} sequences would take {math.comb(len(sequences), 2)} alignments; install MMseqs2 (Debian "
            f"package mmseqs2), or give at most {MAX_FALLBACK_CHAINS}"
        )
    else:
        chains = {name: (sequence,) for name, sequence in zip(names, sequences, strict=True)}
        clusters = cluster_complexes(chains, identity=identity, coverage=coverage, tool=tool)
        representative = np.empty(len(names), np.int64)
        for number, cluster in enumerate(clusters):
            representative[[int(name) for name in cluster]] = number
    _, number, size = np.unique(representative, return_inverse=True, return_counts=True)
    order = np.argsort(-size, kind="stable")
    return np.argsort(order)[number]


def _linclust(
    names: Sequence[str], sequences: Sequence[str], identity: float, coverage: float, threads: int
) -> np.ndarray:
    """[N] int64: number of the sequence that represents each one's cluster."""
    with tempfile.TemporaryDirectory(prefix="mmseqs-") as scratch:
        fasta = Path(scratch, "sequences.fasta")
        _write_fasta(fasta, names, sequences)
        # Coverage mode 1: of the member by its representative, the longest of the cluster. Four times as many k-mers
        # of each sequence as by default, for relatives as distant as 30 %.
        options = ["--min-seq-id", identity, "-c", coverage, "--cov-mode", 1, "-e", MAX_EVALUE]
        options += ["--kmer-per-seq", 80, "--threads", threads, "-v", 1]
        _mmseqs("easy-linclust", fasta, Path(scratch, "linclust"), Path(scratch, "work"), *options)
        pairs = np.loadtxt(Path(scratch, "linclust_cluster.tsv"), dtype=np.int64, ndmin=2)
    representative = np.empty(len(names), np.int64)
    representative[pairs[:, 1]] = pairs[:, 0]
    return representative


class TooManyPairsError(ValueError):
    """More sequences than Biopython can align each with each; MMseqs2 could."""


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The most identical relative of each of N sequences among M others.

    Attributes:
      identity: [N] float64, of the aligned residues, in [0, 1]; 0 where there is no relative.
      index: [N] int64, which of the others it is; -1 where there is none.
    """

    identity: np.ndarray
    index: np.ndarray


def equal_among(sequences: Sequence[str], others: Sequence[str]) -> Nearest:
    """Which of the others each sequence is equal to; chains too short to relate anything are not looked for."""
    place = {sequence: j for j, sequence in reversed(list(enumerate(others)))}
    index = np.array([place.get(sequence, -1) if relates(sequence) else -1 for sequence in sequences], np.int64)
    return Nearest((index >= 0).astype(np.float64), index)


def nearest_among(
    sequences: Sequence[str],
    others: Sequence[str],
    *,
    identity: float,
    coverage: float,
    tool: str = "mmseqs",
    threads: int = 1,
    sensitivity: float = SENSITIVITY,
    max_hits: int | None = None,
) -> Nearest:
    """The nearest relative of each sequence among others, by the rule of the module docstring.

    Args:
      sequences: N sequences.
      others: M sequences.
      identity: least share of identical residues among aligned columns, in [0, 1].
      coverage: least share of the shorter sequence that is aligned, in [0, 1].
      tool: "mmseqs" or "biopython", which aligns each with each.
      threads: threads of MMseqs2.
      sensitivity: of MMseqs2's search, 1 to 7.5.
      max_hits: that MMseqs2 aligns of each sequence; all if None.

    Raises:
      TooManyPairsError: more than those of `MAX_FALLBACK_CHAINS` chains, for Biopython.
    """
    nearest = equal_among(sequences, others)
    for first, second in _contained_among(sequences, others):
        _take_nearer(nearest, first, second, 1.0)
    # What has an equal among the others has no nearer relative.
    left = [i for i in np.flatnonzero(nearest.identity < 1).tolist() if _can_be_aligned(sequences[i])]
    right = [j for j, sequence in enumerate(others) if _can_be_aligned(sequence)]
    if left and right:
        queries, targets = [sequences[i] for i in left], [others[j] for j in right]
        if tool == "mmseqs":
            hits = _mmseqs_hits(queries, targets, coverage, threads, sensitivity, max_hits or max(300, len(targets)))
        else:
            hits = _biopython_hits(queries, targets, coverage)
        for first, second, found in hits:
            if found >= identity:
                _take_nearer(nearest, left[first], right[second], found)
    return nearest


def _take_nearer(nearest: Nearest, first: int, second: int, identity: float) -> None:
    if identity > nearest.identity[first]:
        nearest.identity[first], nearest.index[first] = identity, second


def _can_be_aligned(sequence: str) -> bool:
    return relates(sequence) and len(sequence) >= MIN_ALIGNED


def _contained_among(sequences: Sequence[str], others: Sequence[str]) -> Iterator[Pair]:
    """(i, j) of `contained_pairs` that are one of the sequences and one of the others."""
    for first, second in contained_pairs([*sequences, *others]):
        if first < len(sequences) <= second:
            yield first, second - len(sequences)


def _write_fasta(path: Path, names: Iterable[str], sequences: Iterable[str]) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f">{name}\n{sequence}\n" for name, sequence in zip(names, sequences, strict=True))


def _mmseqs(command: str, *arguments: Any) -> None:
    run = subprocess.run(["mmseqs", command, *map(str, arguments)], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"mmseqs {command} ended with code {run.returncode}: {run.stderr or run.stdout}")


def _mmseqs_hits(
    queries: Sequence[str],
    targets: Sequence[str],
    coverage: float,
    threads: int,
    sensitivity: float = SENSITIVITY,
    max_hits: int | None = None,
) -> Iterator[Hit]:
    with tempfile.TemporaryDirectory(prefix="mmseqs-") as scratch:
        query, target, hits = (Path(scratch, name) for name in ("query.fasta", "target.fasta", "hits.tsv"))
        _write_fasta(query, map(str, range(len(queries))), queries)
        _write_fasta(target, map(str, range(len(targets))), targets)
        options = ["-s", sensitivity, "-e", MAX_EVALUE, "--alignment-mode", 3, "--threads", threads, "-v", 1]
        # The prefilter keeps 300 hits a chain by default: too few for a large family, and a lost hit is a leak.
        options += ["--max-seqs", max_hits or max(300, len(targets)), "--format-output", _HIT_COLUMNS]
        _mmseqs("easy-search", query, target, hits, Path(scratch, "work"), *options)
        with open(hits, encoding="ascii") as lines:
            for line in lines:
                first, second, identical, *ends = line.split("\t")
                lengths = len(queries[int(first)]), len(targets[int(second)])
                spans = [int(ends[1]) - int(ends[0]) + 1, int(ends[3]) - int(ends[2]) + 1]
                if spans[lengths.index(min(lengths))] >= coverage * min(lengths):
                    yield int(first), int(second), float(identical)


def _mmseqs_pairs(sequences: Sequence[str], identity: float, coverage: float, threads: int) -> set[Pair]:
    hits = _mmseqs_hits(sequences, sequences, coverage, threads)
    return {(min(i, j), max(i, j)) for i, j, identical in hits if i != j and identical >= identity}


def _biopython_pairs(sequences: Sequence[str], identity: float, coverage: float, threads: int) -> set[Pair]:
    del threads
    aligner = _local_aligner()
    total = sum(map(len, sequences))
    forest = _Forest(len(sequences))
    pairs = set()
    count = math.comb(len(sequences), 2)
    for first, second in _progress(itertools.combinations(range(len(sequences)), 2), count):
        if forest.root(first) == forest.root(second):
            continue  # single linkage: nothing more to learn from this pair
        if _aligned_identity(aligner, sequences[first], sequences[second], total, coverage) >= identity:
            pairs.add((first, second))
            forest.join(first, second)
    return pairs


def _biopython_hits(queries: Sequence[str], targets: Sequence[str], coverage: float) -> Iterator[Hit]:
    count = len(queries) * len(targets)
    if count > (most := math.comb(MAX_FALLBACK_CHAINS, 2)):
        raise TooManyPairsError(
            f"{len(queries)} sequences against {len(targets)} are {count} alignments, Biopython is given at most "
            f"{most}; install MMseqs2 (Debian package mmseqs2)"
        )
    aligner = _local_aligner()
    total = sum(map(len, targets))
    for first, second in _progress(itertools.product(range(len(queries)), range(len(targets))), count):
        identical = _aligned_identity(aligner, queries[first], targets[second], total, coverage)
        if identical >= 0:
            yield first, second, identical


def _progress(pairs: Iterable[Pair], count: int) -> Iterable[Pair]:
    return tqdm(pairs, total=count, desc="aligning chains", unit=" pairs", disable=None)


def _local_aligner() -> Any:
    from Bio.Align import PairwiseAligner, substitution_matrices

    return PairwiseAligner(
        mode="local",
        substitution_matrix=substitution_matrices.load("BLOSUM62"),
        open_gap_score=-12,  # opening and first residue: 11 + 1
        extend_gap_score=-1,
    )


def _expectation(score: float, query_length: int, total_length: int) -> float:
    """Expected number of alignments of this score by chance (Karlin and Altschul 1990, equation 1)."""
    return _K * query_length * total_length * math.exp(-_LAMBDA * score)


def _aligned_identity(aligner: Any, first: str, second: str, total_length: int, coverage: float) -> float:
    """Share of identical residues among the aligned columns; -1 where the alignment is by chance or covers too little.

    A first sequence that is expected in a database of `total_length` residues is aligned by chance.
    """
    if _expectation(aligner.score(first, second), len(first), total_length) > MAX_EVALUE:
        return -1.0
    alignment = aligner.align(first, second)[0]
    counts = alignment.counts()
    columns = counts.identities + counts.mismatches + counts.gaps
    lengths = len(first), len(second)
    spans = [int(ends[-1] - ends[0]) for ends in alignment.coordinates]
    covers = spans[lengths.index(min(lengths))] >= coverage * min(lengths)
    return counts.identities / columns if covers else -1.0


def assign_clusters(
    clusters: Sequence[Sequence[str]],
    sizes: Mapping[str, int],
    fractions: Sequence[float],
    seed: int,
    classes_of: Mapping[str, frozenset[int]] | None = None,
) -> dict[str, str]:
    """Complex id -> split: every cluster, largest first, goes where most residues are missing.

    "Largest" counts complexes, and `seed` orders equals: single complexes are dealt out at random, not by length, so
    that a split does not hold all short proteins. The largest cluster goes to train. Where `classes_of` says which
    classes a complex has, so does every cluster with a class that train has not got yet.

    Raises:
      ValueError: fewer clusters than splits, or no cluster is left for a split as its classes must be in train.
    """
    wanted = [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    if len(clusters) < len(wanted):
        raise ValueError(
            f"{len(clusters)} clusters of related complexes cannot fill {len(wanted)} splits ({', '.join(wanted)}); "
            "add unrelated structures, or set the fraction of a split to 0"
        )
    order = np.random.default_rng(seed).permutation(len(clusters))
    order = sorted(order.tolist(), key=lambda number: -len(clusters[number]))  # a stable sort: equals stay shuffled
    total = sum(sizes[complex_id] for cluster in clusters for complex_id in cluster)
    missing = {split: fraction * total for split, fraction in zip(SPLITS, fractions, strict=True) if split in wanted}
    empty = list(wanted)
    trained: set[int] = set()
    split_of = {}
    for position, number in enumerate(order):
        left = len(order) - position
        # As many clusters left as empty splits: each of those must get one now.
        candidates = empty if left == len(empty) else wanted
        split = "train" if position == 0 else max(candidates, key=missing.__getitem__)
        if classes_of is not None:
            classes = frozenset().union(*(classes_of[complex_id] for complex_id in clusters[number]))
            split = split if classes <= trained else "train"
            trained |= classes if split == "train" else set()
        if split in empty:
            empty.remove(split)
        for complex_id in clusters[number]:
            split_of[complex_id] = split
            missing[split] -= sizes[complex_id]
    if empty:
        raise ValueError(
            f"no cluster is left for {', '.join(empty)}: each of {len(clusters)} has a class that train has not got "
            "from another; take fewer classes (--level), or set the fraction of a split to 0"
        )
    return split_of


class _Forest:
    """Disjoint sets of 0 .. size - 1."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]  # halve the path
            item = self._parent[item]
        return item

    def join(self, first: int, second: int) -> None:
        self._parent[self.root(first)] = self.root(second)
