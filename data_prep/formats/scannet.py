"""ScanNet's data sets: protein-protein binding sites (PPBS) and B-cell epitopes (BCE), labelled residue by residue.

Tubiana, Schneidman-Duhovny and Wolfson 2022 (https://doi.org/10.1038/s41592-022-01490-7). A data set is a folder with

* ``labels_SPLIT.txt``: for each entry a line ``>1a2n_0-A``, then a line ``chain residue amino_acid label`` for each of
  its residues; the residue is a number, the label 0 or 1. Insertion codes are dropped: 60, 60A and 60B are three lines
  of residue 60, in the order of the chain (`residues.match_by_number` puts them so); one that is there is read;
* ``table.csv``: the weight of each entry, under ``PDB ID``, ``Set`` and ``Sample weight``.

PPBS has one training set, four validation and four test sets, by how near the nearest training protein is: ``70`` (70 %
identity and more), ``homology`` (a common superfamily), ``topology`` (a common fold), ``none``. BCE has five folds.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from data_prep.formats.residues import ResidueLabels, residue_labels
from data_prep.formats.text import FormatError, find_file, numbered_lines, read_csv

_NEARNESS = ("70", "homology", "topology", "none")
PPBS_VALIDATION = tuple(f"validation_{near}" for near in _NEARNESS)
PPBS_TEST = tuple(f"test_{near}" for near in _NEARNESS)
PPBS_SPLITS = ("train", *PPBS_VALIDATION, *PPBS_TEST)
BCE_FOLDS = tuple(f"fold{number}" for number in range(1, 6))
TASKS = {"ppbs": PPBS_SPLITS, "bce": BCE_FOLDS}

# A word between the split and .txt is a remark, as in labels_fold2.subset.txt.
_LABEL_FILE = re.compile(r"labels_(?P<split>\w+?)(\.[\w-]+)?\.txt(\.gz)?")
_LABEL_LINE = re.compile(r"(\S+) (-?\d+)([A-Za-z]?) ([A-Z]) ([01])")
_CHAINS = re.compile(r"(?P<entry>.+)_(?P<chains>[^_]+)")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One or more chains of a structure that are labelled together."""

    id: str  # as in the file: "1a2n_0-A", "3fku_AB"
    copy: int  # 0 for the first entry of this id in its split, 1 for the second (models of an NMR ensemble), ...
    split: str
    labels: ResidueLabels  # label 1: in a binding site or epitope
    weight: float  # of its residues in loss and scores; 1 where the data set has no table

    @property
    def pdb_id(self) -> str:
        """ "1a2n" of "1a2n_0-A"."""
        return _CHAINS.fullmatch(self.id)["entry"]

    @property
    def chains(self) -> tuple[tuple[int, str], ...]:
        """(model, chain) of each chain: ((0, "A"),) of "1a2n_0-A", ((0, "A"), (0, "B")) of "3fku_AB" or "x_0-A+0-B".

        The models of PPBS are those of the biological assembly's file: 1 is the second copy of a chain.
        """
        text = _CHAINS.fullmatch(self.id)["chains"]
        if "-" not in text:
            return tuple((0, chain) for chain in text)
        return tuple((int(model), chain) for model, chain in (part.split("-") for part in text.split("+")))


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The entries of all label files of a folder."""

    task: str  # "ppbs" or "bce"
    entries: tuple[Entry, ...]  # by split, in the order of `TASKS`, then as in the files
    missing: tuple[str, ...]  # official splits without a label file in the folder
    has_weights: bool  # whether the weights are those of a table

    def split(self, *names: str) -> tuple[Entry, ...]:
        """The entries of these official splits.

        Raises:
          FormatError: a split that the data set does not have.
        """
        for name in names:
            if name not in TASKS[self.task] or name in self.missing:
                there = ", ".join(split for split in TASKS[self.task] if split not in self.missing)
                raise FormatError(f"no split {name!r} in this {self.task} data set; splits: {there}")
        return tuple(entry for entry in self.entries if entry.split in names)

    def test(self) -> tuple[Entry, ...]:
        """The union of the PPBS test sets that are there."""
        return self.split(*(name for name in PPBS_TEST if name not in self.missing))

    def leave_out(self, fold: str) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
        """(training, test) entries of the BCE cross-validation: all other folds that are there, and this one."""
        others = [name for name in BCE_FOLDS if name != fold and name not in self.missing]
        return self.split(*others), self.split(fold)


def read_data_set(folder: Path, *, weights: bool = True) -> DataSet:
    """Read the label files of `folder`, and its ``table.csv`` where there is one.

    Args:
      folder: with the files of PPBS or of BCE; some splits may be absent.
      weights: whether to read the table.

    Raises:
      FormatError: no label file, an unknown split, splits of both data sets, a line that is not in the format, or a
        table without a row for some entry.
    """
    folder = Path(folder)
    files = _label_files(folder)
    task = "ppbs" if next(iter(files)) in PPBS_SPLITS else "bce"
    if mixed := [split for split in files if split not in TASKS[task]]:
        raise FormatError(f"{folder}: {mixed[0]} and {next(iter(files))} are of two data sets; give each a folder")
    entries = [entry for split in TASKS[task] if split in files for entry in read_labels(files[split], split)]
    table = find_file(folder, "table.csv") if weights else None
    if table is not None:
        entries = _weighted(entries, read_weights(table), table)
    missing = tuple(split for split in TASKS[task] if split not in files)
    return DataSet(task, tuple(entries), missing, has_weights=table is not None)


def _label_files(folder: Path) -> dict[str, Path]:
    """Split -> its label file."""
    if not folder.is_dir():
        raise FormatError(f"{folder}: no such directory")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _LABEL_FILE.fullmatch(path.name)
        if match is None:
            continue
        split = match["split"]
        if split not in (*PPBS_SPLITS, *BCE_FOLDS):
            raise FormatError(f"{path}: no split {split!r}; splits: {', '.join((*PPBS_SPLITS, *BCE_FOLDS))}")
        if split in files:
            raise FormatError(f"{files[split].name} and {path.name} are both of split {split}; keep one of them")
        files[split] = path
    if not files:
        raise FormatError(
            f"{folder}: no file labels_SPLIT.txt (also .gz); splits: {', '.join(PPBS_SPLITS + BCE_FOLDS)}"
        )
    return files


def read_labels(path: Path, split: str) -> list[Entry]:
    """The entries of one label file, of weight 1.

    Raises:
      FormatError: a line that is neither ``>id`` nor a label, or an entry without labels; the message names file and
        line.
    """
    rows: list[tuple[str, int, list]] = []  # (id, line, labels) of each entry
    for number, line in numbered_lines(path):
        if line.startswith(">"):
            if _CHAINS.fullmatch(line[1:]) is None:
                raise FormatError(f"{path}, line {number}: entry {line!r}; expected >PDB_CHAINS, such as >1a2n_0-A")
            rows.append((line[1:], number, []))
            continue
        match = _LABEL_LINE.fullmatch(line)
        if match is None or not rows:
            wanted = "'chain residue amino_acid 0|1'" if rows else "a line >id first"
            raise FormatError(f"{path}, line {number}: expected {wanted}, got {line!r}")
        chain, residue, code, amino_acid, label = match.groups()
        rows[-1][2].append((chain, int(residue), code or " ", amino_acid, float(label)))
    copies: Counter[str] = Counter()
    entries = []
    for id, number, labels in rows:
        if not labels:
            raise FormatError(f"{path}, line {number}: entry {id} has no label")
        entries.append(Entry(id, copies[id], split, residue_labels(labels), weight=1.0))
        copies[id] += 1
    return entries


def read_weights(path: Path) -> dict[tuple[str, str], float]:
    """(split, entry id) -> weight, of a ``table.csv``.

    An id may have several rows (ensembles of NMR models); they must agree.

    Raises:
      FormatError: a missing column, an unknown set, a weight that is not a positive number, or rows that contradict.
    """
    weights: dict[tuple[str, str], float] = {}
    for line, row in read_csv(path, ("PDB ID", "Set", "Sample weight")):
        where = f"{path}, line {line}"
        split = split_of_set(row["Set"])
        if split is None:
            raise FormatError(f"{where}: unknown Set {row['Set']!r}; known: Train, Validation (70\\%), Fold 1, ...")
        try:
            weight = float(row["Sample weight"])
        except ValueError as error:
            raise FormatError(f"{where}: Sample weight {row['Sample weight']!r} is not a number") from error
        if not 0 < weight < float("inf"):
            raise FormatError(f"{where}: Sample weight {weight}; it must be positive and finite")
        if weights.setdefault((split, row["PDB ID"]), weight) != weight:
            raise FormatError(f"{where}: {row['PDB ID']} has another weight in an earlier line")
    return weights


def split_of_set(name: str) -> str | None:
    r"""The split that a table calls "Validation (70\%)" (validation_70) or "Fold 1" (fold1); None of another name."""
    words = re.findall(r"[a-z]+|\d+", name.lower())
    split = "".join(words) if words[:1] == ["fold"] else "_".join(words)
    return split if split in (*PPBS_SPLITS, *BCE_FOLDS) else None


def _weighted(entries: list[Entry], weights: Mapping[tuple[str, str], float], table: Path) -> list[Entry]:
    without = [entry.id for entry in entries if (entry.split, entry.id) not in weights]
    if without:
        raise FormatError(
            f"{table}: no row for {len(without)} of {len(entries)} entries, such as {', '.join(without[:3])}; is it of "
            "another version? read_data_set(weights=False) gives each entry weight 1"
        )
    return [dataclasses.replace(entry, weight=weights[entry.split, entry.id]) for entry in entries]
