"""`Prediction`: the scores of one structure, residue by residue, and of the protein where the task is of proteins."""

import csv
import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bihf_jax.data.ligand import Ligand
from bihf_jax.inference import pages, pictures
from bihf_jax.inference.residues import residue_columns
from bihf_jax.protein import Protein, StructureError, Written
from bihf_jax.tasks.predictions import escape_cell


class ResidueScore(NamedTuple):
    """One row of a prediction."""

    chain: str  # author id
    residue_number: int  # author's
    insertion_code: str  # "" where none, "?" where the number is not from the file
    amino_acid: str  # one letter
    has_structure: bool  # False: scored from the sequence alone
    score: float


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """One score for each of the N residues of a protein, those without coordinates too.

    In a notebook it shows itself as a picture of the scores along each chain.

    Raises:
      ValueError: an array is not [N] float32, a score is not finite, or an interval has one end.
    """

    protein: Protein  # what was scored, as read
    task: str
    label_names: tuple[str, ...]  # of the task
    # [N] float32; for classes the probability of the last label. Where the task is of proteins, the weight that the
    # residue had among all, which add up to 1 (with those of the ligand's atoms).
    score: np.ndarray
    low: np.ndarray | None = None  # [N] float32 ends of the interval around the score, where there is one
    high: np.ndarray | None = None
    # name -> number, where the task is of proteins: probability of each class (the positive one), or the values
    value: Mapping[str, float] = dataclasses.field(default_factory=dict)
    value_low: Mapping[str, float] = dataclasses.field(
        default_factory=dict
    )  # ends of the intervals, where there are some
    value_high: Mapping[str, float] = dataclasses.field(default_factory=dict)
    interval: str = ""  # what the intervals are, see `interval.describe`
    attribution: np.ndarray | None = None  # [N] float32, `attribution.gradient_times_embedding`
    fusion_values: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # column -> [N] float32
    threshold: float | None = None  # of the score, chosen on the validation split
    model: str = ""  # one line on what made the scores
    ligand: Ligand | None = None  # that the model saw beside the protein

    def __post_init__(self) -> None:
        shape = (self.protein.num_residues,)
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{self.protein.source}: an interval has two ends; give low and high, or none of them")
        if wrong := [name for name, value in self.value.items() if not np.isfinite(value)]:
            raise ValueError(f"{self.protein.source}: not finite: {', '.join(wrong)}; did the training diverge?")
        for name, values in self.residue_values().items():
            if values.shape != shape or values.dtype != np.float32:
                raise ValueError(
                    f"{self.protein.source}: {name} must be float32 {shape}, got {values.dtype} {values.shape}"
                )
            if wrong := np.count_nonzero(~np.isfinite(values)):
                raise ValueError(
                    f"{self.protein.source}: {wrong} of {values.size} values of {name} are not finite; did the "
                    "training diverge, or are coordinates out of range?"
                )

    def __len__(self) -> int:
        return self.protein.num_residues

    @property
    def score_name(self) -> str:
        """What the score is of, for people: "score of binding site (ppbs)", "weight of the residue (ec)"."""
        return (
            f"weight of the residue ({self.task})" if self.value else f"score of {self.label_names[-1]} ({self.task})"
        )

    @property
    def colour_range(self) -> tuple[float, float]:
        """Scores of the lowest and the highest colour: 0, or what is below, and the highest score of the structure."""
        low = min(float(self.score.min()), 0.0)
        return low, max(float(self.score.max()), low + 1e-6)

    def highest_values(self, number: int) -> list[str]:
        """Names of the highest values of the protein, so many at most; none where the task is of residues."""
        return sorted(self.value, key=lambda name: -self.value[name])[:number]

    def residue_values(self) -> dict[str, np.ndarray]:
        """What the model says of the residues, [N] float32 by column: "score", and what there is of the others.

        "score_low" and "score_high" are the ends of the interval, then come "attribution" and the fusion values.
        """
        columns = {"score": self.score, "score_low": self.low, "score_high": self.high}
        columns["attribution"] = self.attribution
        return {**{name: column for name, column in columns.items() if column is not None}, **self.fusion_values}

    def columns(self) -> dict[str, np.ndarray]:
        """The table as arrays of N, e.g. for `pandas.DataFrame`: the residues, then `residue_values`."""
        return {**residue_columns(self.protein), **self.residue_values()}

    def rows(self) -> Iterator[ResidueScore]:
        """The residues and their scores, row by row."""
        columns = {**residue_columns(self.protein), "score": self.score}
        for chain, number, code, *rest in zip(*(column.tolist() for column in columns.values()), strict=True):
            yield ResidueScore(chain, number, code.strip(" "), *rest)

    def highest(self) -> ResidueScore:
        """The row with the highest score; the first of equals."""
        best = int(self.score.argmax())
        return next(row for index, row in enumerate(self.rows()) if index == best)

    def write_csv(self, path: str | Path) -> None:
        """Writes `columns()` with the file in front, in the form of `tasks.predictions`; `has_structure` is 1 or 0."""
        columns = self.columns()
        source = escape_cell(self.protein.source)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", *columns])
            writer.writerows(zip([source] * len(self), *(_cells(column) for column in columns.values()), strict=True))

    def write_parquet(self, path: str | Path) -> None:
        """Writes the table of `write_csv` as Parquet: chain, amino acid and insertion code as text ("" where none),
        `has_structure` as bool, numbers in their own types.

        Raises:
          ImportError: pyarrow is not installed; says what to install.
        """
        pyarrow, parquet = import_pyarrow()
        columns = {name: column.tolist() for name, column in self.columns().items() if column.dtype.kind == "U"}
        columns = {name: [value.strip(" ") for value in column] for name, column in columns.items()}
        table = {"file": [self.protein.source] * len(self), **self.columns(), **columns}
        parquet.write_table(pyarrow.table(table), path)

    @functools.cached_property
    def structures(self) -> dict[str, Written | StructureError]:
        """The structure with the scores as B factors, as "PDB" and "mmCIF"; an error where a format cannot hold it."""
        return self.protein.written(self.score)

    def page(self) -> str:
        """One HTML file that works offline: structure, sequence, slider, and a track for each of `residue_values`.

        Raises:
          StructureError: neither PDB nor mmCIF can hold the structure.
        """
        return pages.prediction_page(self)

    def picture(self, path: str | Path) -> None:
        """Writes a PNG of the scores along each chain."""
        pictures.plot_scores(self.columns(), path, title=f"{self.protein.source}: {self.score_name}")

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        png = io.BytesIO()
        pictures.plot_scores(self.columns(), png, title=f"{self.protein.source}: {self.score_name}")
        return png.getvalue()

    def __str__(self) -> str:
        top = self.highest()
        chains = ", ".join(chain or "(blank)" for chain in self.protein.chain_ids)
        values = ", ".join(f"{name} {self.value[name]:.3f}" for name in self.highest_values(3))
        of_protein = f"{values} ({self.task}); " if values else ""
        return (
            f"{self.protein.source}: {len(self)} residues in chains {chains}; {of_protein}{self.score_name}: mean "
            f"{self.score.mean():.3f}, highest {top.score:.3f} at {top.chain}{top.residue_number}{top.insertion_code}"
        )


def import_pyarrow() -> tuple[Any, Any]:
    """(pyarrow, pyarrow.parquet), which are an extra; raises ImportError that says what to install."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'bihf_jax[parquet]'") from error
    return pyarrow, parquet


def _cells(column: np.ndarray) -> list[str]:
    """One column as text; numbers with nine significant digits, which is exact for float32."""
    if column.dtype == bool:
        return [str(int(value)) for value in column]
    if np.issubdtype(column.dtype, np.floating):
        return [f"{value:.9g}" for value in column.tolist()]
    if np.issubdtype(column.dtype, np.integer):
        return [str(value) for value in column.tolist()]
    return [escape_cell(value.strip(" ")) for value in column.tolist()]
