"""`ProteinPredictions`: every protein of a split with its scores and, where it has one, its label; to and from CSV."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels
from bihf_jax.tasks.labelled import Labelled
from bihf_jax.tasks.predictions import escape_cell, refuse_duplicates, unescape_cell

_ID_COLUMNS = ("record_id", "file", "group")


@dataclasses.dataclass(frozen=True, eq=False)
class ProteinPredictions:
    """M proteins, labelled or not.

    Raises:
      ValueError: a record id occurs twice, an array has another shape, or a score is not finite.
    """

    labels: Labels  # what is predicted; P numbers of a label, V = len(labels.names) scores
    record_ids: tuple[str, ...]  # [M] unique
    sources: tuple[str, ...]  # [M] structure file(s)
    groups: tuple[str, ...]  # [M] complex or target; the unit of the bootstrap
    score: np.ndarray  # [M, V] float32: probability of the class or of each class, or the values
    label: np.ndarray  # [M, P] float32; 0 where masked
    label_mask: np.ndarray  # [M] bool
    weight: np.ndarray  # [M] float32 sample weight

    def __post_init__(self) -> None:
        size = len(self.record_ids)
        shapes = {
            **dict.fromkeys(("sources", "groups", "label_mask", "weight"), (size,)),
            "score": (size, len(self.labels.names)),
            "label": (size, self.labels.num_values),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"ProteinPredictions.{name} has shape {np.shape(getattr(self, name))}, not {shape}")
        refuse_duplicates(self.record_ids)
        if wrong := np.count_nonzero(~np.isfinite(self.score)):
            raise ValueError(f"{wrong} of {self.score.size} scores are not finite; every protein needs its scores")

    def __len__(self) -> int:
        return len(self.record_ids)

    def labelled(self) -> Labelled:
        """The proteins with a label, in order, as the metrics take them."""
        mask = self.label_mask
        _, group = np.unique(np.asarray(self.groups, dtype=str), return_inverse=True)
        return Labelled(
            _squeezed(self.label[mask]), _squeezed(self.score[mask]), self.weight[mask], group.astype(np.int32)[mask]
        )

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes one line a protein; UTF-8, comma, "\\n". The file appears whole or not at all.

        Columns: record_id, file, group; for classes `label_name` and `predicted_name`; `label:NAME` for each number of
        the label, empty where there is none; `score:NAME` for each score; weight. Numbers have nine significant digits,
        which is exact for float32. Text that a spreadsheet would run as a formula has an apostrophe in front.
        """
        path = pathlib.Path(path)
        part = path.with_name(path.name + ".part")
        multiclass = self.labels.type == "multiclass"
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            named = ("label_name", "predicted_name") if multiclass else ()
            writer.writerow(
                [*_ID_COLUMNS, *named, *_label_columns(self.labels), *_score_columns(self.labels), "weight"]
            )
            for number, ids in enumerate(zip(self.record_ids, self.sources, self.groups, strict=True)):
                has_label = bool(self.label_mask[number])
                writer.writerow(
                    [
                        *map(escape_cell, ids),
                        *(self._class_names(number, has_label) if multiclass else ()),
                        *(f"{value:.9g}" if has_label else "" for value in self.label[number]),
                        *(f"{value:.9g}" for value in self.score[number]),
                        f"{self.weight[number]:.9g}",
                    ]
                )
        part.replace(path)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the CSV file as arrays [M], text as it is; labels and their names are masked arrays."""
        values = {"record_id": self.record_ids, "file": self.sources, "group": self.groups}
        columns = {name: np.asarray(texts, dtype=str) for name, texts in values.items()}
        if self.labels.type == "multiclass":
            names = np.asarray(self.labels.names, dtype=str)
            columns["label_name"] = np.ma.masked_array(names[self.label[:, 0].astype(int)], ~self.label_mask)
            columns["predicted_name"] = names[self.score.argmax(axis=1)]
        for name, label in zip(_label_columns(self.labels), self.label.T, strict=True):
            columns[name] = np.ma.masked_array(label, ~self.label_mask)
        columns |= dict(zip(_score_columns(self.labels), self.score.T, strict=True))
        return {**columns, "weight": self.weight}

    def _class_names(self, number: int, has_label: bool) -> tuple[str, str]:
        names = self.labels.names
        label = escape_cell(names[int(self.label[number, 0])]) if has_label else ""
        return label, escape_cell(names[int(self.score[number].argmax())])


def from_examples(examples: Iterable[Example], scores: Iterable[np.ndarray], labels: Labels) -> ProteinPredictions:
    """The table of a split from its examples and the scores [V] or [1, V] of each.

    Raises:
      ValueError: more or fewer scores than examples, or as `ProteinPredictions`.
    """
    examples, scores = list(examples), [np.ravel(score) for score in scores]
    if len(examples) != len(scores):
        raise ValueError(
            f"{len(examples)} examples and {len(scores)} scores; give the scores of each example, in order"
        )
    mask = np.array([len(example.protein_label) > 0 for example in examples], dtype=bool)
    label = np.zeros((len(examples), labels.num_values), np.float32)
    for row in np.flatnonzero(mask):
        label[row] = examples[row].protein_label
    return ProteinPredictions(
        labels=labels,
        record_ids=tuple(example.id for example in examples),
        sources=tuple(example.source for example in examples),
        groups=tuple(example.group for example in examples),
        score=np.array(scores, np.float32).reshape(len(examples), len(labels.names)),
        label=label,
        label_mask=mask,
        weight=np.array([example.weight for example in examples], np.float32),
    )


def read_csv(path: str | os.PathLike[str], labels: Labels) -> ProteinPredictions:
    """Reads what `ProteinPredictions.write_csv` wrote; every number comes back exactly, columns may stand in any order.

    Raises:
      ValueError: a column is missing, or a line has too few or too many cells or a number that is none. The message
        names the file and the line.
    """
    label_columns, score_columns = _label_columns(labels), _score_columns(labels)
    wanted = (*_ID_COLUMNS, *label_columns, *score_columns, "weight")
    ids: list[tuple[str, ...]] = []
    numbers: dict[str, list] = {"score": [], "label": [], "label_mask": [], "weight": []}
    with pathlib.Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in wanted if name not in (reader.fieldnames or [])]:
            raise ValueError(f"{path}: no column {missing[:5]}; predictions of these labels have {wanted[:8]} ..")
        for row in reader:
            try:
                if None in row or None in row.values():
                    raise ValueError("it has another number of cells than the header")
                given = [row[name] for name in label_columns]
                numbers["score"].append([float(row[name]) for name in score_columns])
                numbers["label"].append([float(text or 0) for text in given])
                numbers["label_mask"].append(all(given))
                numbers["weight"].append(float(row["weight"]))
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
            ids.append(tuple(unescape_cell(row[name]) for name in _ID_COLUMNS))
    record_ids, sources, groups = zip(*ids, strict=True) if ids else ((), (), ())
    return ProteinPredictions(
        labels=labels,
        record_ids=record_ids,
        sources=sources,
        groups=groups,
        score=np.array(numbers["score"], np.float32).reshape(len(ids), len(labels.names)),
        label=np.array(numbers["label"], np.float32).reshape(len(ids), labels.num_values),
        label_mask=np.array(numbers["label_mask"], bool),
        weight=np.array(numbers["weight"], np.float32),
    )


def _label_columns(labels: Labels) -> tuple[str, ...]:
    names = ("class",) if labels.type == "multiclass" else labels.names
    return tuple(f"label:{name}" for name in names)


def _score_columns(labels: Labels) -> tuple[str, ...]:
    return tuple(f"score:{name}" for name in labels.names)


def _squeezed(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.shape[1] == 1 else values
