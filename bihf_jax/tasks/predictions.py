"""`Predictions`: every residue of a split with its score and, where it has one, its label; to and from CSV.

A task with several classes has one score a class (`score_names`); `ProteinPredictions` has those of whole proteins.

The table holds real residues only: special tokens (<cls>, <eos>) are left out. Unresolved residues stay, because the
model scores them from the sequence; they carry no label (`label_mask` False), so no metric sees them.
"""

import csv
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import Example
from bihf_jax.tasks.labelled import Labelled

# Columns of the CSV file. The first four name the residue; `label` is empty where the residue has none. With several
# scores there is a column "score:NAME" for each, in place of "score".
CSV_COLUMNS: tuple[str, ...] = (
    *("file", "chain", "residue_number", "insertion_code", "amino_acid"),
    *("score", "label", "weight", "record_id", "group"),
)
# A spreadsheet runs a cell that begins with one of these as a formula; such text gets an apostrophe in front, and so
# does text that begins with an apostrophe itself, so that reading back is exact.
_ESCAPED_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
_SPECIAL_TOKENS = np.array([token for token in range(len(alphabet.TOKENS)) if len(alphabet.TOKENS[token]) > 1])
_LETTERS = np.array([token if len(token) == 1 else "" for token in alphabet.TOKENS], dtype="<U1")


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """P records (proteins) with M residues in all, labelled or not.

    Raises:
      ValueError: a record id occurs twice, an array has another length than `record`, or `record` points outside P.
    """

    record_ids: tuple[str, ...]  # [P] unique
    sources: tuple[str, ...]  # [P] structure file(s) of the record
    groups: tuple[str, ...]  # [P] complex of the record; the unit of the bootstrap
    record: np.ndarray  # [M] int32 index into the three tuples above
    chain: np.ndarray  # [M] str, author chain id
    residue_number: np.ndarray  # [M] int32 author residue number
    insertion_code: np.ndarray  # [M] '<U1', ' ' where none
    amino_acid: np.ndarray  # [M] '<U1' one-letter code
    score: np.ndarray  # [M] float32, or [M, V] where `score_names` has V names
    label: np.ndarray  # [M] float32; 0 where masked
    label_mask: np.ndarray  # [M] bool
    weight: np.ndarray  # [M] float32 sample weight
    score_names: tuple[str, ...] = ()  # of several scores; empty where there is one

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.record_ids) or len(self.groups) != len(self.record_ids):
            raise ValueError(
                f"{len(self.record_ids)} record ids, {len(self.sources)} sources and {len(self.groups)} groups: "
                "give one of each per record"
            )
        refuse_duplicates(self.record_ids)
        for name in ("record", *_COLUMN_DTYPES):
            shape = getattr(self, name).shape
            several = (len(self.score_names),) if name == "score" and self.score_names else ()
            if shape != (expected := (len(self.record), *several)):
                raise ValueError(f"Predictions.{name} has shape {shape}; expected {expected} as `record`")
        if len(self.record) and not 0 <= self.record.min() <= self.record.max() < len(self.record_ids):
            raise ValueError(
                f"Predictions.record spans {self.record.min()}..{self.record.max()}; "
                f"with {len(self.record_ids)} records it must lie in 0..{len(self.record_ids) - 1}"
            )

    @property
    def num_residues(self) -> int:
        return len(self.record)

    @property
    def num_repeated_keys(self) -> int:
        """Residues whose (file, chain, residue number, insertion code) is already taken by an earlier residue.

        Such a key names no single residue. Author numbering allows it, above all for residues without coordinates.
        """
        sources = np.asarray(self.sources, dtype=str)[self.record] if self.num_residues else []
        keys = zip(sources, self.chain, self.residue_number, self.insertion_code, strict=True)
        return self.num_residues - len(set(keys))

    def labelled(self) -> Labelled:
        """The residues with a label, in order, as the metrics take them."""
        mask = self.label_mask
        _, group_of_record = np.unique(np.asarray(self.groups, dtype=str), return_inverse=True)
        groups = group_of_record.astype(np.int32)[self.record[mask]]
        return Labelled(self.label[mask], self.score[mask], self.weight[mask], groups)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes `CSV_COLUMNS`, one line a residue; UTF-8, comma, "\\n". The file appears whole or not at all.

        Numbers have nine significant digits, which is exact for float32. Text that a spreadsheet would run as a
        formula has an apostrophe in front. Chain ids are text ("NA", "1"): tell pandas so with
        ``pandas.read_csv(path, dtype={"chain": str}, keep_default_na=False)``.
        """
        path = pathlib.Path(path)
        part = path.with_name(path.name + ".part")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_columns(self.score_names))
            writer.writerows(self._rows())
        part.replace(path)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the CSV file as arrays [M], text as it is; `label` is a masked array."""
        scores = self.score.reshape(len(self.record), max(1, len(self.score_names)))
        of_record = {"file": self.sources, "record_id": self.record_ids, "group": self.groups}
        values = {name: np.asarray(texts, dtype=str)[self.record] for name, texts in of_record.items()}
        values |= {name: getattr(self, name) for name in ("chain", "residue_number", "amino_acid", "weight")}
        values["insertion_code"] = np.char.strip(self.insertion_code)
        values["label"] = np.ma.masked_array(self.label, ~self.label_mask)
        names = _columns(self.score_names)
        values |= dict(zip((name for name in names if name.startswith("score")), scores.T, strict=True))
        return {name: values[name] for name in names}

    def _rows(self) -> Iterable[tuple[str, ...]]:
        sources = [escape_cell(source) for source in self.sources]
        record_ids = [escape_cell(record_id) for record_id in self.record_ids]
        groups = [escape_cell(group) for group in self.groups]
        scores = self.score.reshape(len(self.record), max(1, len(self.score_names)))
        for i, record in enumerate(self.record.tolist()):
            yield (
                sources[record],
                escape_cell(str(self.chain[i])),
                str(int(self.residue_number[i])),
                escape_cell(str(self.insertion_code[i]).strip(" ")),
                escape_cell(str(self.amino_acid[i])),
                *(f"{score:.9g}" for score in scores[i]),
                f"{self.label[i]:.9g}" if self.label_mask[i] else "",
                f"{self.weight[i]:.9g}",
                record_ids[record],
                groups[record],
            )


def _columns(score_names: Sequence[str]) -> tuple[str, ...]:
    """Header of the CSV file."""
    place = CSV_COLUMNS.index("score")
    scores = tuple(f"score:{name}" for name in score_names) or ("score",)
    return (*CSV_COLUMNS[:place], *scores, *CSV_COLUMNS[place + 1 :])


def from_examples(
    examples: Iterable[Example], scores: Iterable[np.ndarray], score_names: Sequence[str] = ()
) -> Predictions:
    """The table of a split from its examples and their scores.

    Args:
      examples: the records; ids must be unique.
      scores: for each example float [n, V], the scores of each slot, or [n] for one; those at special tokens are
        ignored.
      score_names: of the V scores; one score needs none.

    Raises:
      ValueError: an id occurs twice, there are more or fewer score arrays than examples, an array has another length
        than its example, or a residue (labelled or not) has a score that is not finite.
    """
    score_names = tuple(score_names) if len(score_names) > 1 else ()
    records = [_residues(example, score, len(score_names)) for example, score in _pairs(examples, scores)]
    counts = [len(columns["score"]) for _, columns in records]
    record = np.repeat(np.arange(len(records), dtype=np.int32), counts)
    empty = {name: np.zeros(0, dtype) for name, dtype in _COLUMN_DTYPES.items()}
    if score_names:
        empty["score"] = np.zeros((0, len(score_names)), np.float32)
    columns = [columns for _, columns in records] or [empty]
    return Predictions(
        record_ids=tuple(example_id for (example_id, _, _), _ in records),
        sources=tuple(source for (_, source, _), _ in records),
        groups=tuple(group for (_, _, group), _ in records),
        record=record,
        **{name: np.concatenate([column[name] for column in columns]) for name in _COLUMN_DTYPES},
        score_names=score_names,
    )


def read_csv(path: str | os.PathLike[str]) -> Predictions:
    """Reads what `Predictions.write_csv` wrote; every value comes back exactly, columns may stand in any order.

    Raises:
      ValueError: a column is missing, a line has too few or too many cells or a number that is none, or two lines of
        one record name different files or groups. The message names the file and the line.
    """
    records: dict[str, tuple[str, str]] = {}  # record id -> (source, group), in order of appearance
    record_numbers: dict[str, int] = {}
    record: list[int] = []
    columns: dict[str, list] = {name: [] for name in _COLUMN_DTYPES}
    with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        score_names = tuple(name.removeprefix("score:") for name in header if name.startswith("score:"))
        missing = [name for name in _columns(score_names) if name not in header]
        if missing:
            raise ValueError(f"{path}: no column {missing}; a predictions file has {list(CSV_COLUMNS)}")
        for row in reader:
            try:
                record_id, origin = _read_row(row, columns, score_names)
                if records.setdefault(record_id, origin) != origin:
                    raise ValueError(
                        f"record {record_id!r} has file and group {origin}, but {records[record_id]} above"
                    )
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
            record.append(record_numbers.setdefault(record_id, len(record_numbers)))
    arrays = {name: np.array(values, dtype=_COLUMN_DTYPES[name]) for name, values in columns.items()}
    if score_names:
        arrays["score"] = arrays["score"].reshape(len(record), len(score_names))
    return Predictions(
        record_ids=tuple(records),
        sources=tuple(source for source, _ in records.values()),
        groups=tuple(group for _, group in records.values()),
        record=np.array(record, dtype=np.int32),
        **arrays,
        score_names=score_names,
    )


_COLUMN_DTYPES: dict[str, str] = {
    "chain": "str",
    "residue_number": "int32",
    "insertion_code": "<U1",
    "amino_acid": "<U1",
    "score": "float32",
    "label": "float32",
    "label_mask": "bool",
    "weight": "float32",
}


def _pairs(examples: Iterable[Example], scores: Iterable[np.ndarray]) -> Iterable[tuple[Example, np.ndarray]]:
    missing = object()  # `zip(strict=True)` would hide which ValueError is its own and which came from a reader
    for example, score in itertools.zip_longest(examples, scores, fillvalue=missing):
        if example is missing or score is missing:
            raise ValueError("examples and scores differ in number; give one score array per example, in order")
        yield example, score


def _residues(example: Example, score: np.ndarray, several: int) -> tuple[tuple[str, str, str], dict[str, np.ndarray]]:
    """((id, source, group), column name -> array over the residues of the example); `several` scores, 0 for one."""
    if not several and np.shape(score) == (example.num_slots, 1):
        score = np.asarray(score)[:, 0]
    if np.shape(score) != (example.num_slots, *([several] if several else [])):
        raise ValueError(
            f"scores of record {example.id!r} have shape {np.shape(score)}; it has {example.num_slots} slots, "
            f"so they must have shape ({example.num_slots},{f' {several}' if several else ''})"
        )
    residue = ~np.isin(example.tokens, _SPECIAL_TOKENS)
    score = np.asarray(score, dtype=np.float32)[residue]
    if not np.isfinite(score).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(score))} of {score.size} residues of record {example.id!r} have a score "
            "that is not finite; a score is needed for every residue"
        )
    mask = example.label_mask[residue]
    columns = {
        "chain": np.asarray(example.chain_ids, dtype=str)[example.chain_segment[residue].astype(int) - 1],
        "residue_number": example.residue_number[residue].astype(np.int32),
        "insertion_code": np.array([chr(code) for code in example.insertion_code[residue]], dtype="<U1"),
        "amino_acid": _LETTERS[example.tokens[residue]],
        "score": score,
        "label": np.where(mask, example.label[residue], 0).astype(np.float32),
        "label_mask": mask.astype(bool),
        "weight": np.full(len(score), example.weight, dtype=np.float32),
    }
    return (example.id, example.source, example.group), columns


def _read_row(
    row: dict[str, str | None], columns: dict[str, list], score_names: Sequence[str]
) -> tuple[str, tuple[str, str]]:
    """Appends the cells of one line to `columns`; returns its record id and (file, group)."""
    if None in row or None in row.values():
        wanted = len(_columns(score_names))
        raise ValueError(f"it has another number of cells than the header ({wanted} columns)")
    text = {name: unescape_cell(row[name]) for name in CSV_COLUMNS if name != "score"}
    columns["chain"].append(text["chain"])
    columns["residue_number"].append(int(text["residue_number"]))
    columns["insertion_code"].append(text["insertion_code"] or " ")
    columns["amino_acid"].append(text["amino_acid"])
    scores = [float(row[f"score:{name}"]) for name in score_names]
    columns["score"].append(scores or float(row["score"]))
    columns["label"].append(float(row["label"] or 0))
    columns["label_mask"].append(row["label"] != "")
    columns["weight"].append(float(row["weight"]))
    return text["record_id"], (text["file"], text["group"])


def refuse_duplicates(record_ids: Sequence[str]) -> None:
    """Raise ValueError where a record id is there twice."""
    seen: set[str] = set()
    repeated = sorted({record_id for record_id in record_ids if record_id in seen or seen.add(record_id)})
    if repeated:
        raise ValueError(
            f"{len(repeated)} record ids occur more than once, first {repeated[0]!r}; every record must be scored once "
            "(an evaluation that pads its last batch has to drop the repeats)"
        )


def escape_cell(text: str) -> str:
    """Text as it stands in a cell of a CSV file: never something that a spreadsheet would run."""
    return "'" + text if text.startswith(_ESCAPED_STARTS) else text


def unescape_cell(text: str) -> str:
    """The inverse of `escape_cell`."""
    return text.removeprefix("'")
