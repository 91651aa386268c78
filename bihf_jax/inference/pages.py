"""HTML pages of predictions: of one structure, and of a folder of them."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bihf_jax.inference.fusion_values import fusion_track
from bihf_jax.page import FailedInput, FolderEntry, FolderPage, Track, folder_page, page_of, structure_page

if TYPE_CHECKING:
    from bihf_jax.inference.prediction import Prediction

_INDEX_COLUMNS = ("residues", "without structure", "chains", "mean score", "highest score", "at", "notes")


def prediction_page(prediction: "Prediction") -> str:
    """The page of a prediction as one HTML file: its tracks are the columns of the CSV beside the score.

    Raises:
      StructureError: neither PDB nor mmCIF can hold the structure.
    """
    names = prediction.label_names
    notes = [f"The score is of {names[-1]}, from 0 to 1; its colours go from 0 to the highest score of the structure."]
    if prediction.threshold is not None:
        notes.append(f"The slider starts at {prediction.threshold:.3g}: chosen for the largest MCC on validation data.")
    page = page_of(
        prediction.protein,
        prediction.score,
        score_range=prediction.colour_range,
        threshold=prediction.threshold,
        label_names=(names[0], names[-1]),
        tracks=[_track(prediction, name, values) for name, values in prediction.values().items() if name != "score"],
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
    entries = []
    for name, about, message in predictions:
        chain, number, code = about["highest_residue"]
        cells = (about["residues"], about["without_structure"], "+".join(about["chains"]))
        scores = (about["mean_score"], about["highest_score"], f"{chain}:{number}{code}")
        # Without a page, which the note explains, there still is the table.
        link = f"{name}.csv" if ".html" in about["not_written"] else f"{name}.html"
        entries.append(FolderEntry(name, link, (*cells, *scores, message)))
    failures = [FailedInput(name, reason) for name, reason in failed]
    return folder_page(FolderPage(title, _INDEX_COLUMNS, entries, failures, model))


def _track(prediction: "Prediction", name: str, values: np.ndarray) -> Track:
    if name in ("score_low", "score_high"):
        low, high = prediction.colour_range  # the same colours as the score's
        return Track(name, values.tolist(), low=low, high=high, description=f"interval: {prediction.interval}")
    if name == "attribution":
        end = max(float(np.abs(values).max()), 1e-6)
        text = "what this residue's type adds to the sum of all scores, to first order; below 0 it takes away"
        return Track(name, values.tolist(), low=-end, high=end, description=text)
    return fusion_track(name, values)
