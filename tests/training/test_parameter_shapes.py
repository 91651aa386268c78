"""Shapes of parameters that are kept from one start to the next: they save the building of the model, and no check."""

import json
import shutil

import jax
import numpy as np
import pytest

from bihf_jax.training import parameter_shapes as shapes_lib
from bihf_jax.training import restore
from bihf_jax.training.checkpoints import CheckpointError
from bihf_jax.training.restore import load_model
from tests.inference.runs import STEP, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
def folder(run, tmp_path):
    """What one start has kept."""
    load_model(run, shapes_folder=tmp_path)
    return tmp_path


def kept_file(folder):
    (path,) = folder.iterdir()
    return path


def test_what_is_kept_is_what_the_model_has(run, folder):
    """Names, shapes and types; a run of another config has a file of its own."""
    config = load_model(run).config
    kept, wanted = shapes_lib.kept_shapes(folder, config), shapes_lib.parameter_shapes(config)
    assert jax.tree.structure(kept) == jax.tree.structure(wanted)
    assert jax.tree.leaves(kept) == [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in jax.tree.leaves(wanted)]
    assert not list(folder.glob("*.[0-9]*"))  # nothing half written
    load_model(run.parent / shutil.copytree(run, run.parent / "copy").name, shapes_folder=folder)
    assert kept_file(folder)
    other = make_run(run.parent / "other", "global")
    load_model(other, shapes_folder=folder)
    assert len(list(folder.iterdir())) == 2


def test_the_second_start_builds_no_model(run, folder, monkeypatch):
    """And its parameters are the same."""
    expected = load_model(run).params

    def refuse(config):
        raise AssertionError("the model was built")

    monkeypatch.setattr(restore, "parameter_shapes", refuse)
    jax.tree.map(np.testing.assert_array_equal, load_model(run, shapes_folder=folder).params, expected)
    monkeypatch.setattr(shapes_lib, "_source_of_models", lambda: "changed since")
    with pytest.raises(AssertionError, match="the model was built"):
        load_model(run, shapes_folder=folder)


@pytest.mark.parametrize("content", [None, "{", "[[1]]", '[["head", [1], "float99"]]'])
def test_a_file_that_is_wrong_is_made_again(run, folder, content):
    """Out of date (None) or damaged, it refuses no checkpoint."""
    path = kept_file(folder)
    right = json.loads(path.read_text())
    path.write_text(content or json.dumps([[*right[0][:1], [3, 3, 3], "float32"], *right[1:]]))
    load_model(run, shapes_folder=folder)
    assert json.loads(path.read_text()) == right


def test_a_checkpoint_of_another_model_is_refused_all_the_same(run, folder, tmp_path):
    """The parameters of a model with another fusion in the place of the run's."""
    other = make_run(tmp_path / "other", "global") / "checkpoints" / "best" / str(STEP) / "params"
    broken = shutil.copytree(run, tmp_path / "broken")
    place = broken / "checkpoints" / "best" / str(STEP) / "params"
    shutil.rmtree(place)
    shutil.copytree(other, place)
    with pytest.raises(CheckpointError, match="holds another model than the config describes"):
        load_model(broken, shapes_folder=folder)


def test_a_folder_that_cannot_be_written_is_no_error(run, tmp_path):
    load_model(run, shapes_folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
