"""DeepFRI's EC numbers: PDB chains with one or more of 538 EC numbers (Gligorijević et al. 2021).

https://doi.org/10.1038/s41467-021-23303-9. The files as the authors distribute them:

* ``nrPDB-EC_2020.04_annot.tsv``: ``### EC-numbers``, a line of all EC numbers, ``### PDB-chain EC-numbers``, then lines
  of a chain such as 4PR3-A and its EC numbers, joined by commas; columns are separated by tabs;
* ``nrPDB-EC_2020.04_train.txt``, ``_valid.txt``, ``_test.txt``: the official split, one chain a line;
* ``nrPDB-EC_2020.04_test.csv``: for each test chain, 1 where no training chain is as identical as 30, 40, 50, 70, 95 %.
"""

import dataclasses
from pathlib import Path

import numpy as np

from data_prep.formats.text import FormatError, find_file, numbered_lines, read_csv, require_file

SPLITS = ("train", "valid", "test")
IDENTITIES = (30, 40, 50, 70, 95)
_NAME = "nrPDB-EC_2020.04"


@dataclasses.dataclass(frozen=True)
class Chain:
    """One chain and its EC numbers."""

    id: str  # "4PR3-A"
    split: str
    labels: tuple[int, ...]  # indices into `DeepFri.terms`, rising
    below: tuple[int, ...] | None  # of `IDENTITIES`: the % that it keeps below to every training chain; None: no table

    @property
    def pdb_id(self) -> str:
        """ "4PR3" of "4PR3-A"."""
        return self.id.partition("-")[0]

    @property
    def chain_id(self) -> str:
        """ "A" of "4PR3-A"."""
        return self.id.partition("-")[2]


@dataclasses.dataclass(frozen=True)
class DeepFri:
    """The chains of the official split, in its order."""

    terms: tuple[str, ...]  # EC numbers; "4.2.1.-" stands for a whole group
    chains: tuple[Chain, ...]
    without_split: tuple[str, ...]  # ids that have EC numbers and are in no list of the split

    def split(self, name: str) -> tuple[Chain, ...]:
        """The chains of "train", "valid" or "test"."""
        if name not in SPLITS:
            raise FormatError(f"no split {name!r} in DeepFRI's EC numbers; splits: {', '.join(SPLITS)}")
        return tuple(chain for chain in self.chains if chain.split == name)

    def test_below(self, identity: int) -> tuple[Chain, ...]:
        """The test chains less than `identity` % identical to every training chain; one of `IDENTITIES`."""
        if identity not in IDENTITIES:
            raise FormatError(f"identity {identity}; DeepFRI's test table has {', '.join(map(str, IDENTITIES))} %")
        if missing := [chain.id for chain in self.split("test") if chain.below is None]:
            raise FormatError(f"{len(missing)} test chains, such as {missing[0]}, have no line in {_NAME}_test.csv")
        return tuple(chain for chain in self.split("test") if identity in chain.below)

    def targets(self, chains: tuple[Chain, ...]) -> np.ndarray:
        """[chains, terms] bool: which EC numbers each chain has."""
        targets = np.zeros((len(chains), len(self.terms)), dtype=bool)
        for row, chain in enumerate(chains):
            targets[row, list(chain.labels)] = True
        return targets


def read_deepfri(folder: Path) -> DeepFri:
    """Read the files of the folder (also .gz, also with a prefix); the table of identities may be absent.

    Raises:
      FormatError: a missing file, a line that is not in the format, an EC number that is not in the list, a chain
        named twice, in two splits, or in a split without EC numbers.
    """
    folder = Path(folder)
    annotations = require_file(folder, f"{_NAME}_annot.tsv")
    terms, labels_of = read_annotations(annotations)
    table = find_file(folder, f"{_NAME}_test.csv")
    below = read_identities(table) if table is not None else {}
    chains: dict[str, Chain] = {}
    for split in SPLITS:
        path = require_file(folder, f"{_NAME}_{split}.txt")
        for line, id in numbered_lines(path):
            if id in chains:
                raise FormatError(f"{path}, line {line}: chain {id} is in split {chains[id].split} already")
            if id not in labels_of:
                raise FormatError(f"{path}, line {line}: chain {id} has no EC numbers in {annotations.name}")
            chains[id] = Chain(id, split, labels_of[id], below.get(id))
    without_split = tuple(id for id in labels_of if id not in chains)
    return DeepFri(terms, tuple(chains.values()), without_split)


def read_annotations(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """(EC numbers, chain id -> indices of its EC numbers) of ``nrPDB-EC_2020.04_annot.tsv``.

    Raises:
      FormatError: a heading is missing, a chain has two lines, or an EC number that is not in the list.
    """
    lines = list(numbered_lines(path))
    headings = [text.split() for _, text in lines[:3:2]]
    if headings != [["###", "EC-numbers"], ["###", "PDB-chain", "EC-numbers"]]:
        raise FormatError(
            f"{path}: expected '### EC-numbers', the numbers, '### PDB-chain EC-numbers', then the chains"
        )
    terms = tuple(lines[1][1].split("\t"))
    index_of = {term: index for index, term in enumerate(terms)}
    labels_of: dict[str, tuple[int, ...]] = {}
    for line, text in lines[3:]:
        where = f"{path}, line {line}"
        id, tab, numbers = text.partition("\t")
        if not (tab and all(id.partition("-"))):
            raise FormatError(f"{where}: expected 'PDB-CHAIN<tab>EC,EC,...', got {text!r}")
        if unknown := [term for term in numbers.split(",") if term not in index_of]:
            raise FormatError(f"{where}: EC number {unknown[0]!r} of {id} is not among the {len(terms)} of line 2")
        if id in labels_of:
            raise FormatError(f"{where}: a second line for chain {id}")
        labels_of[id] = tuple(sorted({index_of[term] for term in numbers.split(",")}))
    return terms, labels_of


def read_identities(path: Path) -> dict[str, tuple[int, ...]]:
    """Test chain -> the identities (%) that it keeps below, of ``nrPDB-EC_2020.04_test.csv``.

    Raises:
      FormatError: a missing column, or a value that is not 0 or 1.
    """
    columns = [f"<{identity}%" for identity in IDENTITIES]
    below = {}
    for line, row in read_csv(path, ("PDB-chain", *columns)):
        if wrong := [column for column in columns if row[column] not in ("0", "1")]:
            raise FormatError(f"{path}, line {line}: {wrong[0]} is {row[wrong[0]]!r}; it must be 0 or 1")
        below[row["PDB-chain"]] = tuple(
            identity for identity, column in zip(IDENTITIES, columns, strict=True) if row[column] == "1"
        )
    return below
