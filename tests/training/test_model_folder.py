"""Model folders: what was written comes back exactly; what is missing, damaged or of another version is named."""

import json
import os
import pickle
import shutil

import jax
import numpy as np
import pytest

from bihf_jax.configuration import ConfigError
from bihf_jax.training.checkpoints import CheckpointError
from bihf_jax.training.model_folder import FORMS, describe, is_model_folder, write_about, write_params
from bihf_jax.training.restore import load_model, restore_model
from tests.inference.runs import STEP, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def originals(run, tmp_path_factory):
    """Form -> a folder of the run's model."""
    model = load_model(run)
    folders = {}
    for form in FORMS:
        folders[form] = tmp_path_factory.mktemp(form)
        about = describe(
            about=model.about,
            step=model.step,
            which="best",
            task=model.config.make_task(),
            training_data={"splits": {"train": {"fingerprint": "abc"}}},
            form=form,
        )
        write_about(folders[form], about)
        write_params(folders[form], model.params, form)
    return folders


@pytest.fixture(params=FORMS)
def folder(request, originals, tmp_path):
    """A copy to break."""
    return shutil.copytree(originals[request.param], tmp_path / "model")


def weights_of(folder):
    """The files that hold the parameters."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "config.json"]


def change_about(folder, **changes):
    """None removes."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def test_what_was_written_comes_back(run, folder):
    """Config, step and every parameter bit for bit, in its type."""
    original, again = restore_model(run), load_model(folder)
    assert again.step == STEP
    assert again.config == original.config
    assert jax.tree.map(lambda leaf: leaf.dtype, again.params) == jax.tree.map(lambda leaf: leaf.dtype, original.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, original.params)


def test_what_a_folder_says_of_itself(folder):
    """Task, labels, versions and data are there; no optimizer state, and no path of the machine."""
    about = json.loads((folder / "config.json").read_text())
    assert (about["task"], about["label_names"][-1], about["step"]) == ("ppbs", "binding site", STEP)
    assert about["training_data"]["splits"]["train"]["fingerprint"] == "abc"
    assert {"bihf_jax", "jax", "flax"} <= about["exported_with"].keys()
    assert is_model_folder(folder)
    assert not [path for path in folder.rglob("*") if "opt_state" in path.name]
    values = json.dumps(
        {"data": {"records": "/home/user/records"}, "encoder": {"plm": {"pretrained": "/home/user/w.pt"}}}
    )
    described = describe(
        about={**about, "config": json.loads(values)},
        step=1,
        which="best",
        task=load_model(folder).config.make_task(),
        training_data=None,
        form="orbax",
    )
    assert "/home" not in json.dumps(described)
    assert described["training_data"] == "unknown"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, r"has format_version 2, this is bihf_jax .*, which reads 1; it was exported with"),
        ({"alphabet": None, "step": None}, r"lacks alphabet, step; it was exported with"),
        ({"alphabet": ["<cls>", "A"]}, r"was trained with another alphabet: <cls> A; this version has"),
        ({"format": "stablehlo"}, r"an export in the form 'stablehlo', which runs without this package"),
    ],
)
def test_a_folder_of_another_kind_or_version(folder, changes, message):
    change_about(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_config_of_another_version(folder):
    """A setting that this version does not know is told with the version that wrote it."""
    values = json.loads((folder / "config.json").read_text())["config"]
    values["encoder"]["twists"] = 3
    change_about(folder, config=values, bihf_jax="9.9")
    with pytest.raises(
        ConfigError, match=r"no key 'twists'.* made with bihf_jax 9\.9, this is .*: install that version"
    ):
        load_model(folder)


def test_a_missing_part(folder):
    for path in weights_of(folder):
        path.unlink()
    for path in [path for path in folder.iterdir() if path.is_dir()]:
        shutil.rmtree(path)
    with pytest.raises(CheckpointError, match=r"(model\.safetensors|params) is missing; copy the exported model again"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no run: config\.json is missing"):
        load_model(folder)


def test_damaged_weights(folder):
    for path in weights_of(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"damaged"):
        load_model(folder)


def test_the_weights_of_another_model(folder):
    """Shapes that do not fit the config are listed."""
    values = json.loads((folder / "config.json").read_text())["config"]
    values["head"]["hidden_width"] = 17
    change_about(folder, config=values)
    with pytest.raises(CheckpointError, match=r"head/hidden/bias: \(16,\) in the checkpoint, \(17,\) in the model"):
        load_model(folder)


def test_an_export_is_no_run(folder):
    """It cannot be trained on or evaluated, and has one checkpoint."""
    with pytest.raises(ConfigError, match="holds an exported model and no run; give the --workdir of a training run"):
        restore_model(folder)
    with pytest.raises(CheckpointError, match=r"holds one checkpoint, the best of its run \(step 7\)"):
        load_model(folder, which="last")


def test_nothing_is_unpickled(folder, tmp_path, monkeypatch):
    """A folder loads with pickle out of order, and a pickle in place of any file is not executed."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    with monkeypatch.context() as patched:
        for name in ("load", "loads", "Unpickler"):
            patched.setattr(pickle, name, refuse)
        load_model(folder)

    trap = tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    refused = 0
    for path in [*weights_of(folder), folder / "config.json"]:
        content = path.read_bytes()
        path.write_bytes(pickle.dumps(Trap()))
        try:
            load_model(folder)
        except (CheckpointError, ConfigError):
            refused += 1
        path.write_bytes(content)
    assert refused >= 2  # Orbax has files that it does not need
    assert not trap.exists()
