"""`Prediction`: its table, its text and its picture."""

import csv
import dataclasses

import numpy as np
import pytest
from matplotlib import image

from bihf_jax.inference import Prediction, pictures
from tests.inference.structures import ODD_NUMBERS


@pytest.fixture(scope="module")
def prediction(odd):
    score = np.linspace(0.1, 0.9, odd.num_residues).astype(np.float32)[::-1].copy()
    return Prediction(
        odd, "ppbs", ("no binding site", "binding site"), score, fusion_values={"stage1_gate_sequence": score / 2}
    )


def test_csv_holds_the_table_exactly(prediction, tmp_path):
    """One line a residue; floats read back to the bit, codes and numbers as they are."""
    prediction.write_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [
        "file",
        "chain",
        "residue_number",
        "insertion_code",
        "amino_acid",
        "has_structure",
        "score",
        "stage1_gate_sequence",
    ]
    assert list(rows[0]) == columns
    assert {row["file"] for row in rows} == {"odd.pdb"}
    np.testing.assert_array_equal(np.array([row["score"] for row in rows], np.float32), prediction.score)
    values = np.array([row["stage1_gate_sequence"] for row in rows], np.float32)
    np.testing.assert_array_equal(values, prediction.fusion_values["stage1_gate_sequence"])
    numbers = [row["residue_number"] + row["insertion_code"] for row in rows if row["chain"] == "A"]
    assert numbers == list(ODD_NUMBERS)
    assert sum(row["has_structure"] == "0" for row in rows) == 3


def test_names_that_a_spreadsheet_would_run_are_escaped(prediction, tmp_path):
    """The name of a file is text, whatever it begins with."""
    renamed = dataclasses.replace(prediction, protein=dataclasses.replace(prediction.protein, source="=cmd().pdb"))
    renamed.write_csv(tmp_path / "p.csv")
    assert "\n'=cmd().pdb,A" in (tmp_path / "p.csv").read_text()


def test_rows_and_columns_agree(prediction):
    """The rows are the columns, transposed."""
    columns, rows = prediction.columns(), list(prediction.rows())
    assert len(rows) == len(prediction) == 17
    for name in ("chain", "residue_number", "amino_acid", "has_structure"):
        assert [getattr(row, name) for row in rows] == columns[name].tolist()
    np.testing.assert_array_equal(np.float32([row.score for row in rows]), columns["score"])
    assert prediction.highest() == rows[0]


def test_text_names_the_highest_residue(prediction):
    text = str(prediction)
    assert text.startswith(
        "odd.pdb: 17 residues in chains A, B; score of binding site (ppbs): mean 0.500, highest 0.900"
    )
    assert text.endswith("at A25")


def test_a_notebook_shows_a_picture(prediction, tmp_path):
    """A PNG with bars in every chain's panel, and grey where there is no structure."""
    png = prediction._repr_png_()
    assert png.startswith(b"\x89PNG\r\n")
    prediction.picture(tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG\r\n")
    pixels = image.imread(tmp_path / "p.png")[..., :3]
    half = pixels.shape[0] // 2
    for panel in (pixels[:half], pixels[half:]):
        assert np.mean(np.abs(panel - [0, 0x72 / 255, 0xB2 / 255]).max(axis=-1) < 0.05) > 0.02
        assert np.mean(np.ptp(panel, axis=-1)[panel.mean(axis=-1) < 0.9] < 0.02) > 0.005


def test_many_chains_are_counted_in_the_title(tmp_path):
    """Of more chains than a picture holds the first are drawn; nothing fails."""
    count = 30
    columns = {
        "chain": np.array([f"c{i}" for i in range(count)]),
        "residue_number": np.arange(count),
        "insertion_code": np.full(count, " "),
        "has_structure": np.ones(count, bool),
        "score": np.zeros(count, np.float32),
    }
    pictures.plot_scores(columns, tmp_path / "p.png", "many")
    assert image.imread(tmp_path / "p.png").shape[0] < 3000


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (np.zeros(16, np.float32), r"score must be float32 \(17,\), got float32 \(16,\)"),
        (np.zeros(17), r"score must be float32 \(17,\), got float64"),
        (np.full(17, np.inf, np.float32), "17 of 17 values of score are not finite"),
    ],
)
def test_bad_arrays_are_refused(prediction, score, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(prediction, score=score)
