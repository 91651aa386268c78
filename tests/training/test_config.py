"""Configs: every shipped one builds, and every mistake is named before anything runs."""

import importlib
import json

import pytest
from ml_collections import ConfigDict

from bihf_jax.configuration import ConfigError
from bihf_jax.models import LearningConfig
from bihf_jax.models.structure import STRUCTURE_ENCODERS
from bihf_jax.training.config import experiment_config, keep_config, load_config
from configs.common import parse_arg
from tests.training.small_run import small_config


@pytest.mark.parametrize("arg", ["", "fusion=global", "fusion=local,steps=50"])
@pytest.mark.parametrize("name", ["quickstart", "ppbs", "bce"])
def test_shipped_configs_build(name, arg):
    """Every config document, with its arguments, describes a model that can be made."""
    config = experiment_config(importlib.import_module(f"configs.{name}").get_config(arg))
    assert config.make_model() is not None
    assert config.encoder.fusion.kind == ("global" if "global" in arg else "local")


def changed(**values):
    config = small_config("records").to_dict()
    for path, value in values.items():
        *groups, name = path.split("__")
        group = config
        for key in groups:
            group = group[key]
        group[name] = value
    return config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training__stepz": 3}, "config.training has no key 'stepz'; its keys are: steps"),
        (
            {"encoder__fusion__kind": "both"},
            r"config.encoder.fusion: FusionConfig.kind is 'both'; allowed: none, linear, local",
        ),
        ({"task__name": "pbs"}, "unknown task 'pbs'; tasks are: ppbs"),
        ({"task__positive_weight": 0}, "positive_weight must be > 0, got 0"),
        ({"data__balanced_sampling": 2}, "balanced_sampling must be 0 to 1, got 2"),
        ({"data__rows": 0}, "config.data: rows must be >= 1, got 0"),
        ({"training__steps": 0}, "config.training: steps must be >= 1, got 0"),
        ({"training__optimizer__warmup_steps": 99}, r"warmup_steps \(99\) must be below steps \(12\)"),
        ({"encoder__structure__neighbours": 9}, "config.data.neighbours gives each residue 6"),
        (
            {"encoder__structure__name": "egnn"},
            "config.encoder.structure.name: structure encoder is 'egnn'; allowed: gvp",
        ),
        (
            {"encoder__structure__name": "mpnn"},
            "config.encoder.structure has no key 'message_gvps'; its keys are: name",
        ),
        ({"encoder__plm__name": "esm2_t6"}, "esm2_t6_8M_UR50D"),
        (
            {"encoder__plm": {"name": "esm2_t6_8M_UR50D", "remta": True}},
            "config.encoder.plm has no key 'remta'; its keys are: layers",
        ),
        (
            {"encoder__plm__learning": {"mode": "frozen", "rank": 4}},
            "config.encoder.plm.learning: LearningConfig.rank is 4; allowed: 8, as mode 'frozen' does not read it. "
            "Leave it out, or set mode to lora",
        ),
        (
            {"encoder__plm": {"name": "esm2_t6_8M_UR50D", "learning": {"lr": 0.1}}},
            "config.encoder.plm.learning has no key 'lr'; its keys are: mode, rate_multiplier",
        ),
        ({"encoder__plm__learning": "frozen"}, "config.encoder.plm.learning is a group of settings, got 'frozen'"),
        ({"encoder": {"fusion": {"name": "late"}}}, "config.encoder.fusion: fusion method is 'late'; allowed: local"),
        ({"encoder": 3}, "config.encoder is a group of settings, got 3"),
        ({"data": {"rows": 2}}, "config.data needs the key 'records'"),
    ],
)
def test_mistakes_are_named(values, message):
    """The message has the key's place, its value and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        experiment_config(changed(**values))


def test_published_size_by_name():
    """`encoder.plm.name` gives a published size; other keys change it."""
    changes = {"remat": True, "learning": {"mode": "lora", "targets": ["fc1"]}}
    plm = experiment_config(changed(encoder__plm={"name": "esm2_t12_35M_UR50D", **changes})).encoder.plm
    assert (plm.layers, plm.width, plm.heads, plm.remat) == (12, 480, 20, True)
    assert plm.learning == LearningConfig(mode="lora", targets=("fc1",))


@pytest.mark.parametrize("name", STRUCTURE_ENCODERS)
def test_structure_encoder_by_name(name):
    """`encoder.structure.name` chooses the encoder; the other keys are settings of its config."""
    config = experiment_config(changed(encoder__structure={"name": name, "neighbours": 5}))
    assert type(config.encoder.structure) is STRUCTURE_ENCODERS[name].config_class
    assert (config.encoder.structure.name, config.encoder.structure.neighbours) == (name, 5)


@pytest.mark.parametrize("structure", [{"neighbours": 6}, {"name": "mpnn", "neighbours": 6, "radius": 9.0}])
def test_kept_config_reads_back(tmp_path, structure):
    """The config in a run's folder is the config of the run."""
    structure |= {"extra_distances": [["N", "O"]]}
    learning = {"mode": "lora", "rank": 2, "targets": ["q_proj", "fc2"]}
    config = experiment_config(changed(encoder__structure=structure, encoder__plm__learning=learning))
    keep_config(config, tmp_path / "run", first_host=True)
    assert load_config(tmp_path / "run") == config
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["steps"] == 12


def test_another_config_in_the_same_folder_is_refused(tmp_path):
    """Going on with a changed config lists what changed."""
    keep_config(experiment_config(small_config("records")), tmp_path, first_host=True)
    with pytest.raises(ConfigError, match=r"config.training.steps was 12, is 13"):
        keep_config(experiment_config(small_config("records", steps=13)), tmp_path, first_host=True)


def test_a_setting_that_the_run_did_not_know_has_its_default(tmp_path):
    """A run whose kept config is older than a setting goes on with the default of it, and with no other value."""
    keep_config(experiment_config(small_config("records")), tmp_path, first_host=True)
    file = tmp_path / "config.json"
    kept = json.loads(file.read_text())
    del kept["encoder"]["plm"]["learning"]
    file.write_text(json.dumps(kept))
    keep_config(experiment_config(small_config("records")), tmp_path, first_host=True)
    frozen = experiment_config(changed(encoder__plm__learning={"mode": "frozen"}))
    with pytest.raises(ConfigError, match=r"config.encoder.plm.learning.mode was 'full', is 'frozen'"):
        keep_config(frozen, tmp_path, first_host=True)


def test_folder_without_a_run(tmp_path):
    """Evaluating a folder that holds no run says so."""
    with pytest.raises(ConfigError, match="holds no run"):
        load_config(tmp_path)


def test_config_arguments():
    """`a=1,b` sets a to 1 and b to True; unknown names and other types are refused."""
    assert parse_arg("a=1,b", a=0, b=False, c="x") == ConfigDict({"a": 1, "b": True, "c": "x"})
    below = parse_arg("task.x=0.5,task.y=word", a=0, task={})
    assert below == ConfigDict({"a": 0, "task": {"x": 0.5, "y": "word"}})
    with pytest.raises(ValueError, match=r"unknown config argument 'task.x'; allowed: a"):
        parse_arg("task.x=1", a=0)
    with pytest.raises(ValueError, match="unknown config argument 'd'; allowed: a, b"):
        parse_arg("d=1", a=0, b=False)
    with pytest.raises(ValueError, match="is not a int"):
        parse_arg("a=x", a=0)
