"""`ppbs` and `bce` as ScanNet distributes them: its label files, and a folder of structures.

The model sees the chains of an entry and nothing else of the structure file. Labels go to residues by number, verified
by amino acid, or by alignment (`data_prep.formats.residues`); where too many find no residue the entry is refused.
"""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from bihf_jax.data.labels import Labels
from bihf_jax.protein import Protein
from data_prep.formats import scannet
from data_prep.formats.residues import (
    MAX_UNMATCHED,
    Match,
    MatchError,
    ResidueLabels,
    match_by_alignment,
    match_by_number,
)
from data_prep.formats.text import FormatError, read_csv
from data_prep.pipeline import Result, Source, Subset, add_record, chain_sequences
from data_prep.sources.complexes import POSITIVES
from data_prep.structure_files import FilesByName, check_file, list_files, read_protein, unused_files

MATCHES = ("number", "alignment", "either")
TABLE_COLUMNS = ("entry", "label_chain", "file", "chain")


@dataclasses.dataclass(frozen=True)
class SiteEntry:
    """An entry and where its chains are."""

    id: str  # that of the entry, with its copy where an ensemble has several: "2kh2_A", "2kh2_A.1"
    group: str  # that of the entry
    places: tuple[tuple[str, str, str], ...]  # (chain of the labels, file, chain of the file)
    labels: ResidueLabels
    weight: float

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(file for _, file, _ in self.places))


@dataclasses.dataclass(frozen=True)
class Options:
    """How entries become records."""

    structures: Path
    min_residues: int
    match: str = "number"  # of `MATCHES`
    max_unmatched: float = MAX_UNMATCHED


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The flags of ScanNet's data sets; `task` is "ppbs" or "bce"."""
    parser.add_argument("--scannet", type=Path, help="folder of labels_SPLIT.txt and table.csv; labels come from there")
    parser.add_argument(
        "--table", type=Path, help=f"CSV {','.join(TABLE_COLUMNS)}: where the chains of an entry are, else by name"
    )
    parser.add_argument(
        "--match",
        choices=MATCHES,
        default="number",
        help="how labels find their residues; alignment: in another entry of the same protein; either: by number first",
    )
    parser.add_argument(
        "--max-unmatched", type=float, default=MAX_UNMATCHED, help="share of labels that may find no residue"
    )
    if task == "ppbs":
        parser.add_argument(
            "--train", default="train", help="official splits to train on, joined by comma, where train is not at hand"
        )
    else:
        parser.add_argument("--fold", type=int, choices=range(1, 6), help="test on this fold; else each in turn")


def source(args: argparse.Namespace) -> Source:
    """The entries that the parsed command line asks for.

    Raises:
      ValueError, FileNotFoundError: a setting, a folder or a list is wrong, or the labels are of the other task.
    """
    if not 0 <= args.max_unmatched <= 1:
        raise ValueError(f"--max-unmatched is {args.max_unmatched}; it must lie in [0, 1]")
    files, others = list_files(args.structures)
    data = scannet.read_data_set(args.scannet)
    if data.task != args.task:
        raise ValueError(f"{args.scannet} holds labels of {data.task}, not of {args.task}")
    places_of = _places_of_table(args.table, args.structures) if args.table else _places_by_name(data.entries, files)
    items, without = [], []
    for entry in data.entries:
        if places := places_of.get(entry.id):
            id = f"{entry.id}.{entry.copy}" if entry.copy else entry.id
            items.append(SiteEntry(id, entry.id, places, entry.labels, entry.weight))
        else:
            without.append(entry.id)
    if not items:
        raise ValueError(
            f"none of the {len(without)} entries, such as {without[0]}, has a structure in {args.structures}"
        )
    used = {file for item in items for file in item.files}
    official = _official_split(data, args.train.split(",")) if args.task == "ppbs" else None
    return Source(
        task=args.task,
        root=args.structures,
        items=items,
        read=read_entry,
        options=Options(args.structures, args.min_residues, args.match, args.max_unmatched),
        labels=Labels("residue", "binary", (POSITIVES[args.task],)),
        about={
            "structures": args.structures.resolve().name,
            "labels": f"ScanNet {data.task}",
            "official_splits_missing": list(data.missing),
            "sample_weights": data.has_weights,
            "match": args.match,
            "max_unmatched": args.max_unmatched,
            "min_residues": args.min_residues,
        },
        nouns=("entries", "entries"),
        other_files=unused_files(files, others, used),
        notes={"without_structure": without},
        split_of=official,
        split_name=f"ScanNet ppbs, train: {args.train}" if official else "",
        subsets=_subsets(data, official) if official else {},
        fold_of=_one_each(data.entries) if args.task == "bce" else None,
    )


def _places_of_table(path: Path, folder: Path) -> dict[str, tuple[tuple[str, str, str], ...]]:
    """Entry id -> its places, of a CSV."""
    places = defaultdict(list)
    for line, row in read_csv(path, TABLE_COLUMNS):
        check_file(folder, row["file"], f"{path}, line {line}")
        places[row["entry"]].append((row["label_chain"], row["file"], row["chain"]))
    return {entry: tuple(of_entry) for entry, of_entry in places.items()}


def _places_by_name(
    entries: Sequence[scannet.Entry], files: Sequence[str]
) -> dict[str, tuple[tuple[str, str, str], ...]]:
    """Entry id -> its places, in the files that are called like its PDB entry, or like its one chain."""
    by_name = FilesByName(files)
    places = {}
    for entry in entries:
        chains = [chain for _, chain in entry.chains]
        found = by_name.of_chain(entry.pdb_id, chains[0]) if len(chains) == 1 else None
        file = found[0] if found else by_name.of_entry(entry.pdb_id)
        if file is not None:
            places[entry.id] = tuple((chain, file, chain) for chain in chains)
    return places


def _one_each(entries: Sequence[scannet.Entry]) -> dict[str, str]:
    """Entry id -> official split or fold.

    Raises:
      FormatError: an entry in two of them.
    """
    split_of: dict[str, str] = {}
    for entry in entries:
        if split_of.setdefault(entry.id, entry.split) != entry.split:
            raise FormatError(f"entry {entry.id} is in {split_of[entry.id]} and in {entry.split}; keep one of them")
    return split_of


def _official_split(data: scannet.DataSet, train: Sequence[str]) -> dict[str, str]:
    """Entry id -> train, validation or test.

    Raises:
      FormatError: `train` names a split that is not there.
    """
    data.split(*[name for name in train if name != "train"])  # refuses what is not there, with a list of what is
    return {id: "train" if split in train else split.partition("_")[0] for id, split in _one_each(data.entries).items()}


def _subsets(data: scannet.DataSet, official: Mapping[str, str]) -> dict[str, Subset]:
    """The four validation and four test sets, as far as they are there and not trained on."""
    groups = defaultdict(set)
    for entry in data.entries:
        if "_" in entry.split and official[entry.id] != "train":
            groups[entry.split].add(entry.id)
    return {name: Subset(name.partition("_")[0], frozenset(mine)) for name, mine in groups.items()}


def read_entry(entry: SiteEntry, options: Options) -> Result:
    """The record of one entry."""
    chains = {label_chain: chain for label_chain, _, chain in entry.places}
    if len(entry.files) > 1:
        raise MatchError(f"its chains lie in {' and '.join(entry.files)}, which have no common frame")
    if len(chains) < len(entry.places):
        raise MatchError("it has copies of one chain, which the file of the asymmetric unit does not hold")
    if len(set(chains.values())) < len(chains):
        raise MatchError(f"its chains {', '.join(chains)} are one chain of {entry.files[0]}, whose contacts they lack")
    protein = read_protein(options.structures / entry.files[0], list(chains.values()))
    match = _match(entry.labels, protein, chains, options)
    result = Result(entry.id, chains=chain_sequences(protein))
    example = add_record(
        result,
        entry,
        protein,
        min_residues=options.min_residues,
        label=match.label,
        label_mask=match.known,
        weight=entry.weight,
    )
    if example is not None:
        counts = ("matched", "missing", "mismatched", "unresolved")
        result.counts = {f"labels_{name}": getattr(match, name) for name in counts}
    return result


def _match(labels: ResidueLabels, protein: Protein, chains: dict[str, str], options: Options) -> Match:
    settings = {"chains": chains, "max_unmatched": options.max_unmatched}
    if options.match != "alignment":
        try:
            return match_by_number(labels, protein, **settings)
        except MatchError:
            if options.match == "number":
                raise
    return match_by_alignment(labels, protein, **settings)
