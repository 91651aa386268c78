"""The table of predictions in a task's unit: `Predictions` of residues or `ProteinPredictions`."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np

from bihf_jax.data.example import Example
from bihf_jax.tasks import predictions, protein_predictions
from bihf_jax.tasks.predictions import Predictions
from bihf_jax.tasks.protein_predictions import ProteinPredictions
from bihf_jax.tasks.task import Task

Table = Predictions | ProteinPredictions


def table_of(task: Task, examples: Iterable[Example], scores: Iterable[np.ndarray]) -> Table:
    """The table of a split from its examples and the scores of each: [slots, V], or [1, V] of a protein."""
    if task.unit == "protein":
        return protein_predictions.from_examples(examples, scores, task.labels)
    return predictions.from_examples(examples, scores, task.labels.names)


def read_table(task: Task, path: str | os.PathLike[str]) -> Table:
    """What `write_csv` of a table wrote."""
    return protein_predictions.read_csv(path, task.labels) if task.unit == "protein" else predictions.read_csv(path)


def write_parquet(table: Table, path: str | os.PathLike[str]) -> None:
    """Writes the columns of `write_csv` as Parquet: numbers with their types, a missing label as null, text as it is.

    The file appears whole or not at all.

    Raises:
      ModuleNotFoundError: pyarrow is not installed (the extra "parquet").
    """
    import pyarrow
    from pyarrow import parquet

    def column(values: np.ndarray) -> pyarrow.Array:
        mask = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None
        data = np.ma.getdata(values)
        # Text as Python objects: not every release of Arrow takes NumPy's.
        return pyarrow.array(data.astype(object) if data.dtype.kind == "U" else data, mask=mask)

    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    parquet.write_table(pyarrow.table({name: column(values) for name, values in table.columns().items()}), part)
    part.replace(path)


def check_same_items(first: Table, second: Table, names: tuple[str, str]) -> None:
    """Raise ValueError where two tables are not of the same items with the same labels; `names` say whose they are."""
    for field in ("record_ids", "groups", "record", "residue_number", "label", "label_mask", "weight"):
        if hasattr(first, field) and not np.array_equal(getattr(first, field), getattr(second, field)):
            raise ValueError(
                f"{names[0]} and {names[1]} were scored on different residues or proteins: they differ in {field!r}; "
                "score the same records in one order"
            )
