"""A user's own labels: a CSV for a folder of structures.

**kind** ``protein``: one row a structure, columns ``file,label``, and perhaps ``chains`` (joined by "+"; all if empty),
``group`` (whatever must not be torn apart by a split), ``split`` (train, validation or test) and ``weight``.

**kind** ``residue``: one row a residue, columns ``file,chain,residue_number,insertion_code,label``, and perhaps
``amino_acid`` (one-letter code, verified where it is given). Residues without a row have no label.

``file`` is a structure file below the folder, by its path or, where that is unique, by its name without ending: "1abc"
for ``set1/1abc.cif.gz``. **type** says what a label is:

=============  =====================================================================
binary         0 or 1
multiclass     a name; classes are numbered in the order of the sorted names
multilabel     names joined by ";", none if empty
regression     a number
=============  =====================================================================
"""

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.formats.residues import ResidueLabels, residue_labels
from data_prep.formats.text import FormatError, read_csv

KINDS = ("protein", "residue")
TYPES = ("binary", "multiclass", "multilabel", "regression")
SPLITS = ("train", "validation", "test")

# Problems that one message lists; the rest is counted.
MAX_LISTED = 20

_ENDING = re.compile(r"\.(pdb|ent|cif)(\.gz)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ProteinLabel:
    """The label of one structure, or of some chains of it."""

    file: str  # relative to the folder
    chains: tuple[str, ...]  # author ids; all where empty
    label: np.ndarray  # float32: [] number or class; [classes] 0 or 1 for multilabel
    group: str  # "" where the CSV has none
    split: str  # "" where the CSV has none
    weight: float
    line: int


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of a CSV: `proteins` or `residues`, by kind; the other is empty."""

    kind: str  # of `KINDS`
    type: str  # of `TYPES`
    classes: tuple[str, ...]  # names of multiclass and multilabel, sorted; else empty
    proteins: tuple[ProteinLabel, ...]
    residues: dict[str, ResidueLabels]  # file -> its labels; `label` is the number or class
    without_labels: tuple[str, ...]  # structure files that the CSV does not name


class LabelsError(FormatError):
    """A CSV of labels with problems; `problems` has all of them, each with file and line."""

    def __init__(self, problems: Sequence[str]) -> None:
        """The message lists the first `MAX_LISTED`."""
        self.problems = tuple(problems)
        more = len(problems) - MAX_LISTED
        listed = [*problems[:MAX_LISTED], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join(listed))


def read_labels(path: Path, kind: str, type: str, files: Iterable[str]) -> Labels:
    """Read and check a CSV of labels (also .gz).

    Args:
      path: the CSV.
      kind: "protein" or "residue".
      type: "binary", "multiclass", "multilabel" (of proteins only) or "regression".
      files: structure files, relative to their folder (`data_prep.structure_files.list_files`).

    Raises:
      LabelsError: with every problem of the CSV: unknown files, labels that are not of the type, values that are none,
        residues or proteins labelled twice.
      FormatError: the file cannot be read, or lacks a column.
      ValueError: an unknown kind or type.
    """
    path, files = Path(path), list(files)
    if kind not in KINDS or type not in TYPES or (kind, type) == ("residue", "multilabel"):
        allowed = f"kinds: {', '.join(KINDS)}; types: {', '.join(TYPES)}, multilabel of proteins only"
        raise ValueError(f"labels of kind {kind!r} and type {type!r}; {allowed}")
    reading = _Reading(path, kind, type, _file_of_name(files))
    rows = list(_rows(path, kind))
    if not rows:
        raise FormatError(f"{path}: no label in it")
    reading.set_classes(row["label"] for _, row in rows)
    proteins, of_file = [], defaultdict(list)
    for line, row in rows:
        if kind == "protein":
            proteins.append(reading.protein(line, row))
        else:
            file, labelled = reading.residue(line, row)
            of_file[file].append(labelled)
    if reading.problems:
        raise LabelsError(reading.problems)
    residues = {file: residue_labels(labelled) for file, labelled in of_file.items()}
    named = {label.file for label in proteins} | set(residues)
    return Labels(
        kind, type, reading.classes, tuple(proteins), residues, tuple(file for file in files if file not in named)
    )


def _rows(path: Path, kind: str) -> Iterable[tuple[int, dict[str, str]]]:
    if kind == "protein":
        return read_csv(path, ("file", "label"), optional=("chains", "group", "split", "weight"))
    return read_csv(path, ("file", "chain", "residue_number", "insertion_code", "label"), optional=("amino_acid",))


def _file_of_name(files: Sequence[str]) -> Mapping[str, str | None]:
    """Path, and name without ending -> file; None where two files have that name."""
    stems = [_ENDING.sub("", file.rsplit("/", 1)[-1]) for file in files]
    times = Counter(stems)
    by_stem = {stem: file if times[stem] == 1 else None for stem, file in zip(stems, files, strict=True)}
    return by_stem | {file: file for file in files}


class _Reading:
    """The checks of one CSV; what is wrong is gathered in `problems`."""

    def __init__(self, path: Path, kind: str, type: str, file_of_name: Mapping[str, str | None]) -> None:
        self.path, self.kind, self.type, self.file_of_name = path, kind, type, file_of_name
        self.problems: list[str] = []
        self.classes: tuple[str, ...] = ()
        self.first_line: dict[tuple, int] = {}

    def problem(self, line: int, what: str) -> None:
        self.problems.append(f"{self.path}, line {line}: {what}")

    def set_classes(self, texts: Iterable[str]) -> None:
        """Take the names of all labels as classes, where the type has classes."""
        if self.type == "multiclass":
            self.classes = tuple(sorted({text for text in texts if text}))
        elif self.type == "multilabel":
            self.classes = tuple(sorted({name for text in texts for name in _names(text)}))

    def protein(self, line: int, row: Mapping[str, str]) -> ProteinLabel:
        file = self.file(line, row["file"])
        chains = tuple(row["chains"].split("+")) if row["chains"] else ()
        self.once(line, (file, chains), f"{file} {row['chains']}".strip())
        if row["split"] and row["split"] not in SPLITS:
            self.problem(line, f"split {row['split']!r}; splits: {', '.join(SPLITS)}")
        weight = self.number(line, "weight", row["weight"]) if row["weight"] else 1.0
        if weight <= 0:
            self.problem(line, f"weight {weight}; it must be positive")
        return ProteinLabel(file, chains, self.label(line, row["label"]), row["group"], row["split"], weight, line)

    def residue(self, line: int, row: Mapping[str, str]) -> tuple[str, tuple[str, int, str, str, float]]:
        file = self.file(line, row["file"])
        if re.fullmatch(r"-?\d{1,9}", row["residue_number"]) is None:
            self.problem(line, f"residue_number {row['residue_number']!r}; it must be a whole number")
            return file, (row["chain"], 0, " ", "", 0.0)
        if len(row["insertion_code"]) > 1:
            self.problem(line, f"insertion_code {row['insertion_code']!r}; it must be one letter, or empty")
        if re.fullmatch("[A-Z]?", row["amino_acid"]) is None:
            self.problem(line, f"amino_acid {row['amino_acid']!r}; it must be a one-letter code, or empty")
        key = (row["chain"], int(row["residue_number"]), row["insertion_code"][:1] or " ")
        self.once(line, (file, *key), f"residue {key[0]} {key[1]}{key[2]}".strip() + f" of {file}")
        return file, (*key, row["amino_acid"], float(self.label(line, row["label"])))

    def file(self, line: int, name: str) -> str:
        if name not in self.file_of_name:
            self.problem(line, f"file {name!r} is not a structure file of the folder")
        elif self.file_of_name[name] is None:
            self.problem(line, f"several structure files are called {name!r}; give the path")
        return self.file_of_name.get(name) or name

    def once(self, line: int, key: tuple, what: str) -> None:
        first = self.first_line.setdefault(key, line)
        if first != line:
            self.problem(line, f"{what} has a label in line {first} already")

    def number(self, line: int, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.problem(line, f"{name} {text!r}; it must be a finite number")
            return 1.0
        return value

    def label(self, line: int, text: str) -> np.ndarray:
        """[] or [classes] float32."""
        if self.type == "multilabel":
            names = _names(text)
            return np.array([name in names for name in self.classes], dtype=np.float32)
        if self.type == "regression":
            return np.array(self.number(line, "label", text), dtype=np.float32)
        allowed = self.classes if self.type == "multiclass" else ("0", "1")
        if text not in allowed:
            wanted = "it must be 0 or 1" if self.type == "binary" else "it must be the name of a class"
            self.problem(line, f"label {text!r}; {wanted}")
            return np.zeros((), dtype=np.float32)
        return np.array(allowed.index(text), dtype=np.float32)


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(";") if name.strip()}
