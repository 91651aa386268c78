"""HTML pages of predictions: of one structure, and of a folder of them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bihf_jax.inference.fusion_values import fusion_track
from bihf_jax.page import FailedInput, FolderEntry, FolderPage, Track, Value, folder_page, page_of, structure_page

if TYPE_CHECKING:
    from bihf_jax.inference.prediction import Prediction

_INDEX_COLUMNS = ("residues", "without structure", "chains", "mean score", "highest score", "at", "notes")
_VALUE_COLUMNS = ("prediction", "value", "low", "high")  # before the others, where the task is of proteins
_MOST_VALUES = 5  # of a protein on its page


def prediction_page(prediction: "Prediction") -> str:
    """The page of a prediction as one HTML file: its tracks are the columns of the CSV beside the score.

    Raises:
      StructureError: neither PDB nor mmCIF can hold the structure.
    """
    names = prediction.label_names
    notes = [f"What is called score here is the {prediction.score_name}."]
    if prediction.value:
        notes.append(_weights_note(prediction))
    if (hidden := len(prediction.value) - _MOST_VALUES) > 0:
        notes.append(f"{hidden} more values are not shown: they are lower.")
    if prediction.threshold is not None:
        notes.append(f"The slider starts at {prediction.threshold:.3g}: chosen for the largest MCC on validation data.")
    columns = prediction.residue_values()
    page = page_of(
        prediction.protein,
        prediction.score,
        written=prediction.structures,
        score_range=prediction.colour_range,
        threshold=prediction.threshold,
        label_names=names if len(names) == 2 and not prediction.value else None,
        coloured_by="attribution" if prediction.value and "attribution" in columns else None,
        tracks=[_track(prediction, name, values) for name, values in columns.items() if name != "score"],
        values=[_value(prediction, name) for name in prediction.highest_values(_MOST_VALUES)],
        model=prediction.model,
        notes=notes,
    )
    return structure_page(page)


def index_page(
    title: str,
    predictions: Iterable[tuple[str, Mapping[str, Any], str]],
    failed: Iterable[tuple[str, str]],
    model: str,
) -> str:
    """The page of a folder of predictions.

    Args:
      title: of the page.
      predictions: (name, what its NAME.json holds, what of it could not be written) of each.
      failed: (input, reason) of each that was not scored.
      model: one line on what made the scores.
    """
    predictions = list(predictions)
    of_proteins = any(about["highest_value"] for _, about, _ in predictions)
    entries = []
    for name, about, message in predictions:
        chain, number, code = about["highest_residue"]
        best = about["highest_value"]
        value = (best, *(about[end].get(best) for end in ("value", "value_low", "value_high"))) if of_proteins else ()
        cells = (about["residues"], about["without_structure"], "+".join(about["chains"]))
        scores = (about["mean_score"], about["highest_score"], f"{chain}:{number}{code}")
        # Without a page, which the note explains, there still is the table.
        link = f"{name}.csv" if ".html" in about["not_written"] else f"{name}.html"
        entries.append(FolderEntry(name, link, (*value, *cells, *scores, message)))
    columns = (*(_VALUE_COLUMNS if of_proteins else ()), *_INDEX_COLUMNS)
    failures = [FailedInput(name, reason) for name, reason in failed]
    return folder_page(FolderPage(title, columns, entries, failures, model))


def _weights_note(prediction: "Prediction") -> str:
    note = "The weights of the residues, by which the model takes them together, add up to "
    if prediction.ligand is None:
        return f"{note}1."
    atoms = f"the {prediction.ligand.num_atoms} atoms of the ligand ({prediction.ligand.source})"
    return f"{note}{prediction.score.sum():.3g}; {atoms} have the rest of 1."


def _value(prediction: "Prediction", name: str) -> Value:
    low, high = prediction.value_low.get(name), prediction.value_high.get(name)
    return Value(name, prediction.value[name], low, high, interval=prediction.interval)


def _track(prediction: "Prediction", name: str, values: np.ndarray) -> Track:
    if name in ("score_low", "score_high"):
        low, high = prediction.colour_range  # the same colours as the score's
        return Track(name, values.tolist(), low=low, high=high, description=f"interval: {prediction.interval}")
    if name == "attribution":
        end = max(float(np.abs(values).max()), 1e-6)
        what = "the highest value" if prediction.value else "the sum of all scores"
        text = f"what this residue's type adds to {what}, to first order; below 0 it takes away"
        return Track(name, values.tolist(), low=-end, high=end, description=text)
    return fusion_track(name, values)
