"""`ec`: React of Hermosilla et al., one of 384 enzyme classes a chain; or DeepFRI's EC numbers, several a chain.

Structures are Hermosilla's HDF5 files (``data/4fae.B.hdf5``), or PDB and mmCIF files of chains (``4fae.B.pdb``) or of
whole entries (``4fae.cif``), of which the one chain is taken. Class numbers are those of the published list; with
`--level` they are the different first numbers of its EC numbers, in rising order.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data.labels import Labels
from bihf_jax.protein import Protein
from data_prep.formats import deepfri, hermosilla
from data_prep.formats.text import FormatError, read_csv
from data_prep.pipeline import Result, Source, Subset, add_record, chain_sequences
from data_prep.structure_files import ENDINGS, FilesByName, check_file, list_files, read_protein, unused_files

_ENDINGS = (*ENDINGS, "hdf5")
_SPLITS = {"training": "train", "train": "train", "validation": "validation", "valid": "validation"}
_SPLITS |= {"testing": "test", "test": "test"}
TABLE_COLUMNS = ("id", "file", "chain")


@dataclasses.dataclass(frozen=True)
class LabelledChain:
    """One chain, its file and its classes."""

    id: str  # as in the list: "4fae.B", "4PR3-A"
    file: str
    chain: str  # author id; "" takes the only chain of the file
    classes: tuple[int, ...]

    @property
    def group(self) -> str:
        return self.id  # the published splits put chains of one entry into several

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)


@dataclasses.dataclass(frozen=True)
class Options:
    """How chains become records."""

    structures: Path
    min_residues: int
    num_classes: int
    multilabel: bool


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The flags of the enzyme classes."""
    del task
    lists = parser.add_mutually_exclusive_group(required=True)
    lists.add_argument("--react", type=Path, help="folder of Hermosilla's chain_functions.txt, training.txt, ...")
    lists.add_argument("--deepfri", type=Path, help="folder of DeepFRI's nrPDB-EC_2020.04_annot.tsv, _train.txt, ...")
    parser.add_argument("--table", type=Path, help=f"CSV {','.join(TABLE_COLUMNS)}: where each chain is, else by name")
    parser.add_argument(
        "--level", type=int, choices=(1, 2, 3, 4), default=4, help="numbers of the EC number that count"
    )


def source(args: argparse.Namespace) -> Source:
    """The chains that the parsed command line asks for.

    Raises:
      ValueError, FileNotFoundError: a folder or a list is wrong, or no chain has a structure.
    """
    files, others = list_files(args.structures, _ENDINGS)
    names, classes_of, split_of, subsets = _lists(args)
    names, classes_of = at_level(names, classes_of, args.level)
    places = _places_of_table(args.table, args.structures) if args.table else _places_by_name(classes_of, files)
    items = [LabelledChain(id, *places[id], classes_of[id]) for id in split_of if id in places]
    without = [id for id in split_of if id not in places]
    if not items:
        raise ValueError(f"none of the {len(without)} chains, such as {without[0]}, has a file in {args.structures}")
    used = {item.file for item in items}
    multilabel = args.deepfri is not None
    name = "DeepFRI nrPDB-EC 2020.04" if multilabel else "React, Hermosilla et al. 2021"
    return Source(
        task="ec",
        root=args.structures,
        items=items,
        read=read_chain,
        options=Options(args.structures, args.min_residues, len(names), multilabel),
        labels=Labels("protein", "multilabel" if multilabel else "multiclass", names),
        about={
            "structures": args.structures.resolve().name,
            "labels": name,
            "ec_level": args.level,
            "chains_in_lists": len(split_of),
            "min_residues": args.min_residues,
        },
        nouns=("chains", "chains"),
        other_files=unused_files(files, others, used),
        notes={"without_structure": without},
        split_of=split_of,
        split_name=name,
        subsets=subsets,
        classes_of={item.id: frozenset(item.classes) for item in items},
    )


def _lists(
    args: argparse.Namespace,
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]], dict[str, str], dict[str, Subset]]:
    """(names, chain -> classes, chain -> split, subsets) of the published lists."""
    if args.react is not None:
        react = hermosilla.read_react(args.react)
        split_of = {chain.id: _SPLITS[chain.split] for chain in react.chains}
        return react.classes, {chain.id: (chain.label,) for chain in react.chains}, split_of, {}
    data = deepfri.read_deepfri(args.deepfri)
    split_of = {chain.id: _SPLITS[chain.split] for chain in data.chains}
    tested = [chain for chain in data.split("test") if chain.below is not None]
    below = {
        f"test_below_{identity}": Subset("test", frozenset(chain.id for chain in tested if identity in chain.below))
        for identity in deepfri.IDENTITIES
    }
    return data.terms, {chain.id: chain.labels for chain in data.chains}, split_of, below if tested else {}


def at_level(
    names: Sequence[str], classes_of: Mapping[str, tuple[int, ...]], level: int
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Names and classes by the first `level` numbers of the EC numbers; level 4 leaves all as it is.

    Raises:
      FormatError: a name that is no EC number.
    """
    if level == 4:
        return tuple(names), dict(classes_of)
    short = [".".join(name.split(".")[:level]) for name in names]
    if wrong := [name for name in names if not name.split(".")[0].isdecimal()]:
        raise FormatError(f"{wrong[0]!r} is no EC number such as 3.4.21.4, so it has no level {level}")
    kept = tuple(sorted(set(short), key=_by_number))
    index_of = {name: index for index, name in enumerate(kept)}
    coarse = {id: {index_of[short[number]] for number in classes} for id, classes in classes_of.items()}
    return kept, {id: tuple(sorted(classes)) for id, classes in coarse.items()}


def _by_number(name: str) -> list[tuple[int, str]]:
    """3.4.9 before 3.4.21, and "3.4.-" and "3.4.n1" after both."""
    return [(int(part), "") if part.isdecimal() else (10**9, part) for part in name.split(".")]


def _places_of_table(path: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Chain id -> (file, chain), of a CSV."""
    places = {}
    for line, row in read_csv(path, TABLE_COLUMNS):
        check_file(folder, row["file"], f"{path}, line {line}")
        if places.setdefault(row["id"], (row["file"], row["chain"])) != (row["file"], row["chain"]):
            raise FormatError(f"{path}, line {line}: {row['id']} has another file in an earlier line")
    return places


def _places_by_name(ids: Mapping[str, tuple[int, ...]], files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Chain id -> (file, chain), by the names of the files; the chain is "" in a file of it alone."""
    by_name = FilesByName(files, _ENDINGS)
    places = {}
    for id in ids:
        entry, chain = id[:4], id[5:]
        if found := by_name.of_chain(entry, chain):
            file, alone = found
            places[id] = (file, "" if alone else chain)
    return places


def read_chain(chain: LabelledChain, options: Options) -> Result:
    """The record of one chain."""
    protein = _read_protein(options.structures / chain.file, chain.chain)
    result = Result(chain.id, chains=chain_sequences(protein))
    label = np.array(chain.classes, dtype=np.float32)
    if options.multilabel:
        label = np.isin(np.arange(options.num_classes), chain.classes).astype(np.float32)
    add_record(result, chain, protein, min_residues=options.min_residues, protein_label=label)
    return result


def _read_protein(path: Path, chain: str) -> Protein:
    if path.suffix == ".hdf5":
        protein = hermosilla.read_hdf5(path)
        return protein.select_chains([chain]) if chain else protein
    protein = read_protein(path, [chain] if chain else None)
    if len(protein.chain_ids) > 1:
        raise FormatError(f"{path.name} is named like one chain and has {', '.join(protein.chain_ids)}; use a --table")
    return protein
