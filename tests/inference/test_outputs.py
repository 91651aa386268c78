"""The files of a prediction: they read back, and none is ever half there."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from bihf_jax.inference import Prediction
from bihf_jax.inference.outputs import read_about, remove_results, whole_file, write_prediction
from bihf_jax.protein import Protein

RUN = {"model": "abc", "step": 7}


@pytest.fixture
def prediction(odd):
    score = np.random.default_rng(0).random(odd.num_residues).astype(np.float32)
    return Prediction(odd, "ppbs", ("no binding site", "binding site"), score)


def test_structures_read_back_with_the_score(prediction, tmp_path):
    """Both files are the same protein, unresolved residues too, with the score of the residue at each of its atoms."""
    write_prediction(prediction, tmp_path, "odd", RUN)
    for ending, tolerance in ((".pdb", 0.00501), (".cif", 0)):
        protein = Protein.from_file(tmp_path / f"odd{ending}")
        for name in ("residue_type", "residue_number", "insertion_code", "chain_index", "atom_mask"):
            np.testing.assert_array_equal(getattr(protein, name), getattr(prediction.protein, name), err_msg=name)
        expected = np.where(protein.atom_mask, prediction.score[:, None], 0)
        np.testing.assert_allclose(protein.b_factors, expected, rtol=0, atol=tolerance)


def test_all_files_and_nothing_else(prediction, tmp_path):
    """Seven files, in the folder that the name says; the last one tells what was read and how the scores were made."""
    about = write_prediction(prediction, tmp_path, "sub/my.odd", RUN)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"sub/my.odd{ending}" for ending in (".cif", ".csv", ".cxc", ".html", ".json", ".pdb", ".pml")]
    assert about == json.loads((tmp_path / "sub" / "my.odd.json").read_text())
    assert about == read_about(tmp_path, "sub/my.odd")
    assert (about["residues"], about["without_structure"], about["chains"]) == (17, 3, ["A", "B"])
    assert about["run"] == RUN
    assert about["not_written"] == {}
    assert about["highest_score"] == pytest.approx(prediction.score.max())
    assert about["report"]["unresolved"] == 2


def test_parquet_holds_the_table_of_the_csv(prediction, tmp_path):
    """The same columns and rows, with types; a later run without it leaves none behind."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'bihf_jax[parquet]'")
    write_prediction(prediction, tmp_path, "odd", RUN, parquet=True)
    table = parquet.read_table(tmp_path / "odd.parquet").to_pydict()
    with open(tmp_path / "odd.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(table) == list(rows[0])
    for name in ("file", "chain", "insertion_code", "amino_acid"):
        assert table[name] == [row[name] for row in rows], name
    assert table["residue_number"] == [int(row["residue_number"]) for row in rows]
    assert table["has_structure"] == [row["has_structure"] == "1" for row in rows]
    np.testing.assert_array_equal(np.float32(table["score"]), prediction.score)
    write_prediction(prediction, tmp_path, "odd", RUN)
    assert not (tmp_path / "odd.parquet").exists()


def test_scripts_open_the_structure_and_colour_its_scores(prediction, tmp_path):
    """ChimeraX and PyMOL get the file, the column and the range from 0 to the highest score."""
    write_prediction(prediction, tmp_path, "odd", RUN)
    high = f"{prediction.score.max():.6g}"
    chimerax = (tmp_path / "odd.cxc").read_text().splitlines()
    assert "open odd.cif" in chimerax
    assert f"color byattribute bfactor #1 & protein palette white:orange:red range 0,{high} target abcs" in chimerax
    pymol = (tmp_path / "odd.pml").read_text().splitlines()
    assert "load odd.cif, scored" in pymol
    assert f"spectrum b, white orange red, scored and polymer, minimum=0, maximum={high}" in pymol


def test_what_pdb_cannot_hold_is_left_out_with_the_reason(prediction, tmp_path):
    """A chain id of two letters: mmCIF is written, PDB is not, and a PDB file of an earlier run is gone."""
    write_prediction(prediction, tmp_path, "odd", RUN)
    protein = dataclasses.replace(prediction.protein, chain_ids=("AA", "B"))
    about = write_prediction(dataclasses.replace(prediction, protein=protein), tmp_path, "odd", RUN)
    assert list(about["not_written"]) == [".pdb"]
    assert "'AA'" in about["not_written"][".pdb"]
    assert not (tmp_path / "odd.pdb").exists()
    assert Protein.from_file(tmp_path / "odd.cif").chain_ids == ("AA", "B")


def test_no_structure_file_at_all(prediction, tmp_path):
    """Where neither format can say the protein, the table is there and the scripts are not."""
    doubled = Protein.concatenate([prediction.protein, prediction.protein])
    twice = Prediction(doubled, "ppbs", prediction.label_names, np.tile(prediction.score, 2))
    about = write_prediction(twice, tmp_path, "odd", RUN)
    assert list(about["not_written"]) == [".pdb", ".cif", ".cxc", ".pml", ".html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.csv", "odd.json"]


def test_a_file_is_whole_or_as_it_was(tmp_path):
    """What fails on the way leaves the old file, and nothing beside it."""
    path = tmp_path / "file.csv"
    path.write_text("old")

    def write_half():
        with whole_file(path) as part:
            part.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_half()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file.csv", "old")]


def test_only_what_was_written_here_is_removed(prediction, tmp_path):
    """Files of that name that are somebody else's stay."""
    (tmp_path / "odd.pdb").write_text("mine")
    remove_results(tmp_path, "odd")
    assert (tmp_path / "odd.pdb").exists()
    (tmp_path / "odd.json").write_text('{"mine": 1}')
    assert read_about(tmp_path, "odd") is None
    write_prediction(prediction, tmp_path, "odd", RUN)
    remove_results(tmp_path, "odd")
    assert list(tmp_path.iterdir()) == []
