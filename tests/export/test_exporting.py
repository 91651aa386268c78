"""`export_model`: an export is the original, or is not there; programs run without this package."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import bihf_jax
from bihf_jax.data.featurise import residue_slots
from bihf_jax.export import ExportError, export_model, exporting
from bihf_jax.export.exporting import compare_outputs, read_scores
from bihf_jax.export.programs import model_inputs
from bihf_jax.models import ProteinLanguageModel
from bihf_jax.training.restore import load_model
from tests.inference.runs import STEP, make_run
from tests.inference.structures import odd_text
from tests.training.small_run import environment

# Runs a file as a program where only what it may need can be imported, and says what else was.
_ALONE = """
import runpy, sys
for name in ("bihf_jax", "flax", "orbax", "gemmi", "jraph"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


CLASSES = {"unit": "protein", "type": "multiclass", "names": ["hydrolase", "ligase", "lyase"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was evaluated and says its records."""
    run = make_run(tmp_path_factory.mktemp("exported"))
    (run / "records.json").write_text(json.dumps({"splits": {"train": {"fingerprint": "abcdef", "records": 12}}}))
    return run


@pytest.fixture(scope="module")
def structure(tmp_path_factory):
    path = tmp_path_factory.mktemp("structure") / "odd.pdb"
    path.write_text(odd_text())
    return path


def test_a_task_of_proteins(structure, tmp_path):
    """The value of the protein is among what is compared."""
    run = make_run(tmp_path / "run", task={"name": "ec", "labels": CLASSES})
    out = export_model(run, tmp_path / "out", "orbax", structure=structure)
    assert bihf_jax.load(out).predict(structure).value == bihf_jax.load(run).predict(structure).value
    assert "value" in (out / "README.md").read_text().partition("odd.pdb")[2]


@pytest.mark.parametrize("form", ["safetensors", "orbax"])
def test_what_loads_again(form, run, structure, tmp_path):
    """The export gives the original's scores, says its data, and can be exported again from."""
    out = export_model(run, tmp_path / form, form, structure=structure)
    expected, found = (bihf_jax.load(path).predict(structure).score for path in (run, out))
    np.testing.assert_array_equal(found, expected)
    card = (out / "README.md").read_text()
    assert "fingerprint `abcdef`; 12 records" in card
    assert "Not evaluated." in card
    assert f"best of its run, step {STEP}" in card
    assert (out / "esm2" / "model.safetensors").exists() == (form == "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [form]


def run_alone(folder, inputs, tmp_path):
    """Outputs of the folder's own program, in a process that cannot import this package."""
    np.savez(tmp_path / "inputs.npz", **inputs)
    command = [sys.executable, "-c", _ALONE, folder / "run.py", tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
    done = subprocess.run(list(map(str, command)), env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr
    return dict(np.load(tmp_path / "outputs.npz"))


@pytest.mark.slow
def test_stablehlo_runs_without_this_package(run, structure, tmp_path):
    """Programs for three platforms; the CPU's gives the scores of the original with jax and numpy alone."""
    out = export_model(run, tmp_path / "out", "stablehlo", structure=structure, lengths=(24, 32))
    names = [f"{platform}-{length}.bin" for platform in ("cpu", "cuda", "tpu") for length in (24, 32)]
    assert sorted(path.name for path in (out / "programs").iterdir()) == sorted(names)
    prediction = bihf_jax.load(run).predict(structure)
    inputs = model_inputs(out, prediction.protein)
    outputs = run_alone(out, inputs, tmp_path)
    assert len(outputs["score"]) == len(inputs["tokens"])
    np.testing.assert_allclose(outputs["score"][residue_slots(prediction.protein)], prediction.score, atol=1e-5)
    described = json.loads((out / "program.json").read_text())
    for name, about in described["inputs"].items():
        assert [len(inputs["tokens"]), *about["shape"][1:]] == list(inputs[name].shape)
        assert about["dtype"] == str(inputs[name].dtype)
    too_long = {name: np.repeat(values, 2, axis=0) for name, values in inputs.items()}
    assert "42 slots are too many: the longest program has 32" in run_alone(out, too_long, tmp_path)
    wrong = {**inputs, "tokens": inputs["tokens"].astype(np.int64)}
    assert "tokens must be int32 (21,), got int64 (21,)" in run_alone(out, wrong, tmp_path)
    for path in out.rglob("*"):
        assert not path.is_file() or path.read_bytes()[:2] != b"\x80\x04", f"{path} is a pickle"


@pytest.mark.slow
def test_a_program_of_a_task_of_proteins(structure, tmp_path):
    """Without this package it gives the value of each protein of a row, and the weights of the residues."""
    run = make_run(tmp_path / "run", task={"name": "ec", "labels": CLASSES})
    out = export_model(run, tmp_path / "out", "stablehlo", structure=structure, lengths=(48,), platforms=("cpu",))
    prediction = bihf_jax.load(run).predict(structure)
    one = model_inputs(out, prediction.protein)
    slots = len(one["tokens"])
    two = {name: np.concatenate([values, values]) for name, values in one.items()}
    for name in ("chain_segment", "protein_segment", "neighbours"):
        two[name][slots:] += slots if name == "neighbours" else one[name].max()
    outputs = run_alone(out, two, tmp_path)
    assert outputs["value"].shape == (2, 3)
    np.testing.assert_allclose(outputs["value"], [list(prediction.value.values())] * 2, atol=1e-5)
    np.testing.assert_allclose(outputs["score"][residue_slots(prediction.protein)], prediction.score, atol=1e-5)
    described = json.loads((out / "program.json").read_text())["outputs"]
    assert described["value"]["shape"] == ["proteins", 3]
    assert "hydrolase, ligase, lyase" in described["value"]["meaning"]


@pytest.mark.slow
def test_saved_model_runs_in_tensorflow(run, structure, tmp_path):
    """TensorFlow alone gives the scores of the original."""
    pytest.importorskip("tensorflow", reason="a SavedModel needs TensorFlow: pip install -e '.[prep]'")
    out = export_model(run, tmp_path / "out", "saved_model", structure=structure, lengths=(32,))
    prediction = bihf_jax.load(run).predict(structure)
    outputs = run_alone(out, model_inputs(out, prediction.protein), tmp_path)
    np.testing.assert_allclose(outputs["score"][residue_slots(prediction.protein)], prediction.score, atol=1e-5)


def test_an_export_that_differs_is_not_there(run, structure, tmp_path, monkeypatch):
    """Parameters that change on the way are found in the fresh process, and nothing is left."""
    honest = exporting.write_params

    def damaged(folder, params, form):
        head = {**params["head"], "logits": {"kernel": params["head"]["logits"]["kernel"] + 0.01, "bias": np.zeros(1)}}
        honest(folder, {**params, "head": head}, form)

    monkeypatch.setattr(exporting, "write_params", damaged)
    with pytest.raises(
        ExportError, match=r"other outputs than the original: score within .*; at most 1e-05 is allowed"
    ):
        export_model(run, tmp_path / "out", "safetensors", structure=structure, esm2=False)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_does_not_load_is_not_there(run, structure, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "write_params", lambda folder, params, form: None)
    with pytest.raises(ExportError, match=r"fails in a fresh process:(.|\n)*model\.safetensors is missing"):
        export_model(run, tmp_path / "out", "safetensors", structure=structure, esm2=False)
    assert list(tmp_path.iterdir()) == []


def test_differences_that_count():
    """Scores as they are, features relative to the largest; not-a-number and other shapes are differences."""
    expected = {"score": np.array([0.5, 0.1]), "representation": np.array([[1000.0], [1.0]])}
    near = {"score": np.array([0.5, 0.100001]), "representation": np.array([[1000.0], [1.005]])}
    assert compare_outputs(expected, near) == pytest.approx({"score": 1e-6, "representation": 5e-6})
    for name, value in (("score", [0.5, 0.10002]), ("representation", [[1000.0], [1.05]]), ("score", [0.5, np.nan])):
        with pytest.raises(ExportError, match="other outputs"):
            compare_outputs(expected, {**near, name: np.array(value)})
    with pytest.raises(ExportError, match=r"score of the export has shape \(1,\), of the original \(2,\)"):
        compare_outputs(expected, {**near, "score": np.array([0.5])})


@pytest.mark.parametrize(
    ("form", "settings", "message"),
    [
        ("onnx", {}, "format is 'onnx'; allowed: safetensors, orbax, stablehlo, saved_model"),
        ("stablehlo", {"lengths": (8,)}, "has 21 slots, the longest program 8: the export cannot be compared on it"),
        ("stablehlo", {"platforms": ("cpu", "metal")}, "platform 'metal' is unknown; known: cpu, cuda, tpu"),
        ("stablehlo", {"platforms": ("cuda",)}, "cpu must be among the platforms"),
    ],
)
def test_what_cannot_be_exported(run, structure, tmp_path, monkeypatch, form, settings, message):
    """Is told before anything is compared, and leaves nothing."""
    with pytest.raises(ExportError, match=message):
        export_model(run, tmp_path / "out", form, structure=structure, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_kept(run, structure, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ExportError, match="exists; give another --output, or remove it"):
        export_model(run, tmp_path / "kept", "orbax", structure=structure)
    assert (tmp_path / "kept").read_text() == "mine"


def test_scores_of_another_checkpoint_are_not_in_the_card(run, tmp_path, caplog):
    """Only what was measured of this checkpoint is its own; the paths of the run stay at home."""
    workdir, model = shutil.copytree(run, tmp_path / "run"), load_model(run)
    assert read_scores(workdir, model, "best") is None
    scores = {
        "run": {"step": STEP, "checkpoint": "best", "workdir": "/home/user/run", "records": "/data/set"},
        "splits": {},
    }
    (workdir / "scores.json").write_text(json.dumps(scores))
    assert read_scores(workdir, model, "best")["run"] == {**scores["run"], "workdir": "run", "records": "set"}
    scores["run"]["step"] = STEP + 1
    (workdir / "scores.json").write_text(json.dumps(scores))
    assert read_scores(workdir, model, "best") is None
    assert f"is of the best checkpoint of step {STEP + 1}, not of this one" in caplog.text


@pytest.mark.slow
def test_the_sequence_side_in_transformers(run, structure, tmp_path):
    """`esm2/` gives transformers the hidden states of the run's own pLM."""
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    out = export_model(run, tmp_path / "out", "safetensors", structure=structure)
    theirs = transformers.AutoModel.from_pretrained(out / "esm2", add_pooling_layer=False).eval()
    tokens = np.array([[0, *range(4, 24), 2]], np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens).long()).last_hidden_state.numpy()
    model = load_model(run)
    plm = ProteinLanguageModel(model.config.encoder.plm)
    found = plm.apply({"params": model.params["encoder"]["plm"]}, tokens, np.ones_like(tokens), tokens >= 0)
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5 * np.abs(expected).max())
