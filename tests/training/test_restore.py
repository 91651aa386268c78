"""Reading a run: what is missing, damaged or of another version is named, and nothing in it is executed."""

import contextlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest

from bihf_jax.configuration import ConfigError
from bihf_jax.training import restore
from bihf_jax.training.checkpoints import CheckpointError, Checkpoints
from bihf_jax.training.restore import restore_model
from tests.inference.runs import STEP, make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("restore"))


@pytest.fixture
def run(original, tmp_path):
    """A copy to break."""
    return shutil.copytree(original, tmp_path / "run")


def about_file(run, which="best"):
    (path,) = (run / "checkpoints" / which / str(STEP) / "about").glob("metadata")
    return path


def change_about(run, **changes):
    path = about_file(run)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_best_and_last_are_restored(original):
    """Both checkpoints of the run give its config, step and parameters."""
    best, last = restore_model(original), restore_model(original, which="last")
    assert best.step == last.step == STEP
    assert best.config == last.config
    kernel = best.params["head"]["logits"]["kernel"]
    assert isinstance(kernel, np.ndarray)
    np.testing.assert_array_equal(kernel, last.params["head"]["logits"]["kernel"])


@pytest.mark.parametrize("part", ["params", "about"])
def test_a_missing_part_is_named(run, part):
    shutil.rmtree(run / "checkpoints" / "best" / str(STEP) / part)
    with pytest.raises(CheckpointError, match=rf"best/{STEP} lacks its part {part}; copy the run again, whole"):
        restore_model(run)
    restore_model(run, which="last")


def test_no_run_and_no_checkpoint(run, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere holds no run: config\.json is missing"):
        restore_model(tmp_path / "nowhere")
    shutil.rmtree(run / "checkpoints" / "best")
    with pytest.raises(CheckpointError, match=r"no 'best' checkpoint in .*checkpoints; train first"):
        restore_model(run)


@pytest.mark.parametrize("content", ["{", "[1]", "\x80"])
def test_a_config_that_is_none(run, content):
    (run / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.json (is not JSON|holds no config but list)"):
        restore_model(run)


def test_files_of_arrays_that_are_damaged(run):
    """Cut or missing array files are an error that names the checkpoint."""
    folder = run / "checkpoints" / "best" / str(STEP) / "params"
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=rf"checkpoint .*best/{STEP} cannot be read: .*copy the run again, whole"):
        restore_model(run)


def test_another_alphabet(run):
    change_about(run, alphabet=["<cls>", "A", "B"], bihf_jax="0.0.1")
    with pytest.raises(CheckpointError, match=r"another alphabet: <cls> A B; .* made with bihf_jax 0\.0\.1, this is"):
        restore_model(run)


def test_a_config_that_was_changed_since(run):
    """A setting that shapes do not show must be that of the training; one that is not of the model may change."""
    values = json.loads((run / "config.json").read_text())
    values["encoder"]["plm"]["token_dropout"] = False
    (run / "config.json").write_text(json.dumps(values))
    message = r"another config than config\.json has now \(config\.encoder\.plm\.token_dropout was True, is False\)"
    with pytest.raises(CheckpointError, match=message):
        restore_model(run)
    values["encoder"]["plm"]["token_dropout"] = True
    values["data"]["records"] = "moved"
    (run / "config.json").write_text(json.dumps(values))
    assert restore_model(run).config.data.records == "moved"


def test_another_version(run, monkeypatch):
    """What this version cannot read is told with the version that wrote it."""
    monkeypatch.setattr(restore, "__version__", "9.9")
    values = json.loads((run / "config.json").read_text())
    values["encoder"]["twists"] = 3
    (run / "config.json").write_text(json.dumps(values))
    change_about(run, config=values)
    with pytest.raises(
        ConfigError, match=r"no key 'twists'.* made with bihf_jax .*, this is 9\.9: install that version"
    ):
        restore_model(run)


def test_nothing_is_unpickled(original, run, tmp_path, monkeypatch):
    """A run loads with pickle out of order; a pickle in place of any file of a checkpoint is not executed."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    with monkeypatch.context() as patched:
        for name in ("load", "loads", "Unpickler"):
            patched.setattr(pickle, name, refuse)
        params = restore_model(original).params

    trap = tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {trap}",)

    poison = pickle.dumps(Trap())
    files = [path for path in (run / "checkpoints" / "best").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        path.write_bytes(poison)
        with contextlib.suppress(CheckpointError), contextlib.closing(Checkpoints(run)) as checkpoints:
            checkpoints.about()
            checkpoints.restore_params(params)
        path.write_bytes(content)
    (run / "config.json").write_bytes(poison)
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        restore_model(run)
    assert not trap.exists()
