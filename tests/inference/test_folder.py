"""Many structures: bad ones are told and stop nothing, finished ones are kept."""

import csv
import dataclasses
import json
import os

import numpy as np
import pytest

from bihf_jax.inference import folder
from bihf_jax.inference.embedding import MissingFeaturesError
from bihf_jax.inference.embedding_file import EmbeddingFileError, read_embeddings
from bihf_jax.inference.folder import embed_files, predict_files, write_index, write_summary
from bihf_jax.inference.inputs import InputError, find_targets
from bihf_jax.inference.programs import Wanted
from bihf_jax.protein import Protein
from tests.inference.structures import made
from tests.inference.stub import StubPredictor
from tests.page.made import Document


@pytest.fixture
def predictor():
    return StubPredictor()


@pytest.fixture
def structures(odd, tmp_path):
    """A folder with three good structures and two bad ones."""
    folder = tmp_path / "structures"
    (folder / "sub").mkdir(parents=True)
    odd.to_file(folder / "odd.pdb")
    made(20).to_file(folder / "made.cif")
    made(30, seed=1).to_file(folder / "sub" / "made.pdb.gz")
    (folder / "empty.pdb").write_text("")
    (folder / "damaged.cif").write_text("data_x\nloop_\n_atom_site.id\n")
    return folder


def statuses(outcomes):
    return {outcome.target.name: outcome.status for outcome in outcomes}


FUSION_VALUES = Wanted(fusion_values=True)
ALL = {"odd": "written", "made": "written", "sub/made": "written", "empty": "failed", "damaged": "failed"}


def test_bad_files_are_told_and_stop_nothing(predictor, structures, tmp_path):
    """Each structure has an outcome; the bad ones the reason; the others the files, and their line in the summary."""
    targets, output = find_targets(structures).targets, tmp_path / "out"
    outcomes = list(predict_files(predictor, targets, output))
    assert statuses(outcomes) == ALL
    messages = {outcome.target.name: outcome.message for outcome in outcomes}
    assert "empty.pdb: the file is empty" in messages["empty"]
    assert "damaged.cif" in messages["damaged"]
    written = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    endings = (".csv", ".pdb", ".cif", ".cxc", ".pml", ".html", ".json")
    assert written == {f"{name}{ending}" for name in ("odd", "made", "sub/made") for ending in endings}
    with open(write_summary(outcomes, output), newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert list(rows) == sorted(ALL)
    assert rows["odd"]["residues"] == "17"
    assert rows["odd"]["without_structure"] == "3"
    assert rows["odd"]["chains"] == "A+B"
    assert rows["empty"]["message"] == messages["empty"]
    with open(output / "odd.csv", newline="") as file:
        scores = np.float32([row["score"] for row in csv.DictReader(file)])
    assert np.float32(rows["odd"]["highest_score"]) == scores.max()


def test_finished_ones_are_kept(predictor, structures, tmp_path):
    """A run that was killed after the first result goes on with the others; what is finished is not touched."""
    targets, output = find_targets(structures).targets, tmp_path / "out"
    begun = predict_files(predictor, targets, output)
    first = next(outcome for outcome in begun if outcome.status == "written").target.name
    begun.close()
    (output / "sub").mkdir(exist_ok=True)
    (output / "sub" / "made.json").unlink(missing_ok=True)  # it may have begun, and what has begun is finished
    kept = {path.stem for path in output.glob("*.json")}
    assert first in kept
    times = {path: os.stat(path).st_mtime_ns for path in output.rglob("*")}
    (output / "sub" / "made.csv").write_text("left by the kill, without its json")
    before = predictor.given
    again = list(predict_files(predictor, targets, output))
    assert predictor.given == before + len(targets) - len(kept)
    assert statuses(again) == {**ALL, **dict.fromkeys(kept, "kept")}
    untouched = [path for path in times if path.parent == output and path.is_file()]
    assert all(os.stat(path).st_mtime_ns == times[path] for path in untouched)
    assert (output / "sub" / "made.csv").read_text().startswith("file,chain")
    assert [outcome.about["residues"] for outcome in again if outcome.status == "kept"]
    assert set(statuses(predict_files(predictor, targets, output)).values()) == {"kept", "failed"}


def test_what_cannot_be_written_stops_the_command(predictor, structures, tmp_path, monkeypatch):
    """A full disk is no fault of a structure: the error reaches the caller, and what is finished stays."""
    targets, output, write = find_targets(structures).targets, tmp_path / "out", folder.write_prediction

    def full(result, output, name, *more, **settings):
        if name == "odd":
            raise OSError(28, "No space left on device")
        return write(result, output, name, *more, **settings)

    monkeypatch.setattr(folder, "write_prediction", full)
    with pytest.raises(OSError, match="No space left"):
        list(predict_files(predictor, targets, output))
    assert (output / "made.json").exists()


def test_results_of_another_model_or_setting_are_not_mixed(predictor, structures, tmp_path):
    """The difference is named, and nothing is done; with `overwrite` all is done again."""
    targets, output = find_targets(structures).targets, tmp_path / "out"
    list(predict_files(predictor, targets, output))
    with pytest.raises(
        InputError, match=r"made in another way \(made: model was '\w+', is '\w+'\); give another --output"
    ):
        predict_files(StubPredictor("other"), targets, output)
    with pytest.raises(InputError, match="fusion_values was False, is True"):
        predict_files(predictor, targets, output, wanted=FUSION_VALUES)
    (structures / "made.cif").write_text("data_broken since")
    outcomes = list(predict_files(predictor, targets, output, wanted=FUSION_VALUES, overwrite=True))
    assert statuses(outcomes) == {**ALL, "made": "failed"}
    assert not list(output.glob("made.*"))
    assert "stage1_gate_sequence" in (output / "odd.csv").read_text().splitlines()[0]
    assert json.loads((output / "odd.json").read_text())["run"]["fusion_values"] is True


def test_inputs_are_never_replaced(predictor, structures):
    """The folder of the inputs as the output: refused before anything is written."""
    targets = find_targets(structures).targets
    with pytest.raises(InputError, match=r"damaged\.cif would be written, but is an input"):
        predict_files(predictor, targets, structures, overwrite=True)


def test_what_could_not_be_written_is_told(predictor, odd, tmp_path):
    """A structure that PDB cannot hold is done, with a note."""
    dataclasses.replace(odd, chain_ids=("AA", "B")).to_file(tmp_path / "odd.cif")
    (outcome,) = predict_files(predictor, find_targets(tmp_path / "odd.cif").targets, tmp_path / "out")
    assert outcome.status == "written"
    assert outcome.message.startswith("no .pdb: ")


def test_the_page_of_the_folder_links_to_every_page(predictor, structures, tmp_path):
    """Each link is a file that was written; what failed is there by name with its reason."""
    output = tmp_path / "out"
    outcomes = list(predict_files(predictor, find_targets(structures).targets, output))
    document = Document(write_index(outcomes, output, "a stub").read_text())
    links = [element["href"] for element in document.of("a")]
    assert links == ["./made.html", "./odd.html", "./sub/made.html"]
    assert all((output / link).is_file() for link in links)
    with open(output / "odd.csv", newline="") as file:
        scores = np.float32([row["score"] for row in csv.DictReader(file)])
    highest = [float(cell["data-value"]) for cell in document.of("td") if "data-value" in cell][4 + 3]
    assert np.float32(highest) == scores.max()
    told = "\n".join(text for _, _, text in document.texts)
    for outcome in outcomes:
        assert outcome.status == "written" or (str(outcome.target.path) in told and outcome.message in told)


def test_pages_can_be_left_out(predictor, structures, tmp_path):
    """No page then, and results with and without are not mixed."""
    targets, output = find_targets(structures).targets, tmp_path / "out"
    assert statuses(predict_files(predictor, targets, output, html=False)) == ALL
    assert not list(output.rglob("*.html"))
    with pytest.raises(InputError, match="html was False, is True"):
        predict_files(predictor, targets, output)


def test_no_structure_takes_the_name_of_a_file_about_all(predictor, tmp_path):
    """Structures called index and summary do not meet `index.html` and `summary.csv`."""
    for name in ("index.pdb", "Summary.cif"):
        made(9).to_file(tmp_path / name)
    (tmp_path / "sub").mkdir()
    made(9).to_file(tmp_path / "sub" / "index.pdb")
    assert {target.name for target in find_targets(tmp_path).targets} == {"index_", "Summary_", "sub/index"}


@pytest.mark.parametrize("name", ["out.h5", "out.npz"])
def test_embeddings_of_a_folder(predictor, structures, tmp_path, name):
    """The file has an entry for each good structure; a second run keeps them and adds what is new."""
    output = tmp_path / name
    outcomes = list(embed_files(predictor, find_targets(structures).targets, output))
    assert statuses(outcomes) == ALL
    entries = dict(read_embeddings(output))
    assert set(entries) == {"odd", "made", "sub/made"}
    embedding = predictor.embed(Protein.from_file(structures / "odd.pdb"))
    np.testing.assert_array_equal(entries["odd"]["per_residue"], embedding.per_residue)
    np.testing.assert_array_equal(entries["odd"]["insertion_code"], embedding.columns()["insertion_code"])
    made(25, seed=5).to_file(structures / "new.pdb")
    (structures / "odd.pdb").unlink()
    outcomes = list(embed_files(predictor, find_targets(structures).targets, output))
    kept = {"made": "kept", "sub/made": "kept", "empty": "failed", "damaged": "failed"}
    assert statuses(outcomes) == {"new": "written", **kept}
    again = dict(read_embeddings(output))
    assert set(again) == {*entries, "new"}
    np.testing.assert_array_equal(again["odd"]["per_residue"], entries["odd"]["per_residue"])
    with pytest.raises(EmbeddingFileError, match="of was 'fused', is 'sequence'"):
        embed_files(predictor, find_targets(structures).targets, output, of="sequence")
    with pytest.raises(MissingFeaturesError, match="no fused of stage 3"):
        embed_files(predictor, find_targets(structures).targets, tmp_path / "new.npz", stage=3)
    assert not list(tmp_path.glob("new*"))


def test_embeddings_of_a_killed_run_are_found_again(predictor, structures, tmp_path):
    """What was embedded before the kill is not embedded again."""
    targets, output = find_targets(structures).targets, tmp_path / "out.npz"
    begun = embed_files(predictor, targets, output)
    first = next(outcome for outcome in begun if outcome.status == "written").target.name
    begun.close()
    assert not output.exists()
    assert statuses(embed_files(predictor, targets, output)) == {**ALL, first: "kept"}
    assert set(dict(read_embeddings(output))) == {"odd", "made", "sub/made"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "structures"]
