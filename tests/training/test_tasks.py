"""Tasks of the whole protein and other labels, end to end on synthetic records: trained, scored, predicted."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import bihf_jax
from bihf_jax.configuration import ConfigError
from bihf_jax.data import alphabet
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import RecordSet
from bihf_jax.data.shuffled import ShuffledLabels
from bihf_jax.protein import Protein
from bihf_jax.tasks.protein_predictions import read_csv
from bihf_jax.training.config import experiment_config, load_config
from bihf_jax.training.loop import train
from experiments.evaluate import evaluate
from tests.data.examples import random_example
from tests.data.record_sets import LABELS, rich_records, write_records
from tests.training.small_run import REPOSITORY, logged, small_config

TASK_OF = {"binary": "custom", "multiclass": "ec", "multilabel": "ec", "regression": "lba", "quality": "mqa"}
PICTURES = {
    "binary": ["pr_curve"],
    "multiclass": ["confusion", "calibration"],
    "multilabel": ["pr_curve"],
    "regression": ["scatter"],
    "quality": ["scatter"],
}


def task_config(records, task, **training):
    """Sequence side only: it is quick to compile, and has what the labels depend on."""
    steps = {"steps": 60, "log_every": 20, "evaluate_every": 30, "checkpoint_every": 30} | training
    config = small_config(records, **steps)
    config.task = task
    config.data.lengths = (256,)
    config.encoder.fusion = {"name": "sequence_only", "width": 16, "heads": 2}
    config.training.optimizer = {"learning_rate": 2e-2, "warmup_steps": 5}
    return config


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASK_OF)
def test_a_run_learns_what_a_constant_cannot(kind, tmp_path):
    """Each type of label: trained by its task, the model is ahead of the constant by the selection metric; table, CSV
    and pictures are there; and the kept config needs the records no more."""
    records = rich_records(tmp_path / "records", kind)
    workdir = train(task_config(records, {"name": TASK_OF[kind]}), tmp_path / "run")
    scores = evaluate(workdir, ["validation", "test"])
    assert scores == json.loads((workdir / "scores.json").read_text())
    test = scores["splits"]["test"]
    assert set(test["scores"]) == {"model", "constant", "composition"}
    metric = scores["task"]["selection_metric"]
    model, constant = test["scores"]["model"][metric], test["scores"]["constant"][metric]
    assert model["value"] > constant["value"] + 0.15
    assert model["low"] <= model["value"] <= model["high"]
    assert test["labelled"] == 48
    assert test["groups"] == 8
    assert test["differences"][0]["second"] == "constant"
    for name in PICTURES[kind]:
        assert (workdir / f"{name}_test.png").stat().st_size > 5000
    table = read_csv(workdir / "predictions_test.csv", LABELS[kind])
    task = load_config(workdir).make_task()
    assert task.metrics(table.labelled())[metric] == pytest.approx(model["value"], abs=1e-6)
    assert metric in {key for row in logged(workdir) if row["kind"] == "eval" for key in row}
    shutil.rmtree(records)
    kept = load_config(workdir)
    assert kept.make_task() == task
    assert kept.head.unit == "protein"


@pytest.mark.slow
def test_residues_with_several_classes_and_values(tmp_path):
    """Residue labels that are not binary: the class (or value) of a residue type is learned."""
    for kind, labels in (
        ("multiclass", Labels("residue", "multiclass", ("low", "middle", "high"))),
        ("regression", Labels("residue", "regression", ("mass",))),
    ):
        examples = []
        for seed in range(40):
            example = random_example(seed, chain_lengths=(30,), id=f"p{seed}")
            value = (example.tokens - 4) // 7 if kind == "multiclass" else 3.0 * example.tokens
            label = np.where(example.label_mask, value, 0).astype(np.float32)
            examples.append(dataclasses.replace(example, label=label))
        splits = {"train": examples[:24], "validation": examples[24:32], "test": examples[32:]}
        records = write_records(tmp_path / kind / "records", splits, labels)
        workdir = train(task_config(records, {"name": "custom"}), tmp_path / kind / "run")
        test = evaluate(workdir, ["test"])["splits"]["test"]["scores"]
        metric = load_config(workdir).make_task().selection_metric
        assert test["model"][metric]["value"] > test["constant"][metric]["value"] + 0.3
        assert test["residue_type"][metric]["value"] > 0.95


@pytest.mark.slow
def test_predictions_of_proteins(tmp_path):
    """A predictor gives the classes' probabilities, and weights of the residues that add up to one."""
    records = rich_records(tmp_path / "records", "multiclass", train=24, rest=12)
    config = task_config(records, {"name": "ec"}, steps=20, evaluate_every=20)
    config.head.pooling = "attention"
    workdir = train(config, tmp_path / "run")
    structures = sorted((REPOSITORY / "data_prep" / "sample" / "structures").glob("*.pdb.gz"))[:2]
    proteins = [Protein.from_file(path) for path in structures]
    model = bihf_jax.load(workdir)
    for protein, prediction in zip(proteins, model.predict_many(proteins), strict=True):
        assert list(prediction.value) == list(LABELS["multiclass"].names)
        assert sum(prediction.value.values()) == pytest.approx(1, abs=1e-5)
        assert prediction.score.shape == (protein.num_residues,)
        assert prediction.score.sum() == pytest.approx(1, abs=1e-4)
        assert prediction.score.std() > 0
        alone = model.predict(protein)
        assert alone.value == pytest.approx(dict(prediction.value), abs=1e-5)
        assert "ec" in str(alone)


def test_settings_come_from_the_training_records(tmp_path):
    """Names, mean and scale, and class weights are those of the training labels, and are kept in the config."""
    records = rich_records(tmp_path / "a", "regression", train=20, rest=4)
    config = experiment_config(task_config(records, {"name": "lba"}))
    labels = np.concatenate([example.protein_label for example in RecordSet(records, "train")])
    assert config.make_task().mean == pytest.approx((labels.mean(),))
    assert config.make_task().scale == pytest.approx((labels.std(),))
    assert experiment_config(task_config(records, {"name": "lba", "mean": [6.0]})).make_task().mean == (6.0,)

    records = rich_records(tmp_path / "b", "multiclass", train=30, rest=4)
    task = experiment_config(task_config(records, {"name": "ec", "class_balance": 1.0})).make_task()
    classes = np.concatenate([example.protein_label for example in RecordSet(records, "train")]).astype(int)
    counts = np.bincount(classes, minlength=3)
    np.testing.assert_allclose(np.array(task.class_weights) * counts, counts.sum() / 3)
    assert experiment_config(task_config(records, {"name": "ec"})).make_task().class_weights == ()


def test_records_of_another_task_are_refused(tmp_path):
    """Labels that the task does not take are named, both sides, before anything is trained."""
    records = rich_records(tmp_path / "a", "regression", train=4, rest=2)
    with pytest.raises(ConfigError, match=r"task 'ec' takes protein multiclass or multilabel labels; .*regression"):
        experiment_config(task_config(records, {"name": "ec"}))
    with pytest.raises(ConfigError, match=r"task 'ppbs' predicts residue binary .*; .* protein regression"):
        train(task_config(records, {"name": "ppbs"}), tmp_path / "run")
    with pytest.raises(ConfigError, match="output 'sigmoid' is for labels from 0 to 1; those of training span"):
        experiment_config(task_config(records, {"name": "mqa"}))
    with pytest.raises(ConfigError, match=r"task 'ppbs' takes no labels: they are residue binary \(binding site\)"):
        experiment_config(task_config(records, {"name": "ppbs", "labels": {"unit": "residue"}}))


def test_shuffled_labels_of_proteins(tmp_path):
    """The control permutes the labels over the proteins, and touches nothing else."""
    records = RecordSet(rich_records(tmp_path / "a", "regression", train=40, rest=2), "train")
    shuffled = ShuffledLabels(records, seed=0)
    old, new = (np.array([side[i].protein_label[0] for i in range(40)]) for side in (records, shuffled))
    assert sorted(old) == sorted(new)
    assert (old != new).mean() > 0.5
    assert shuffled.labels == records.labels
    np.testing.assert_array_equal(records[3].tokens, shuffled[3].tokens)
    assert alphabet.CLS in shuffled[3].tokens


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    """Losses and validation of a run of proteins do not depend on the number of devices."""
    from tests.training.small_run import run_python

    records = rich_records(tmp_path / "records", "multilabel", train=40, rest=12)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.training.test_tasks import task_config\n"
        "from bihf_jax.training.loop import train\n"
        "config = task_config(Path(sys.argv[1]), {'name': 'ec'}, steps=6, log_every=1, evaluate_every=6)\n"
        "train(config, sys.argv[2])\n"
    )
    runs = []
    for devices in (1, 2):
        run_python(code, records, tmp_path / str(devices), devices=devices)
        runs.append(logged(tmp_path / str(devices)))
    assert len(runs[0]) == 7
    for one, two in zip(*runs, strict=True):
        assert one == pytest.approx(two, rel=1e-4)
