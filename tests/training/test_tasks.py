"""Tasks of the whole protein and other labels, end to end on synthetic records: trained, scored, predicted."""

import dataclasses
import importlib
import json
import shutil

import jax
import numpy as np
import pytest

import bihf_jax
from bihf_jax.configuration import ConfigError
from bihf_jax.data import alphabet
from bihf_jax.data.grid import example_batch, make_grid, split_over_devices
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import RecordSet
from bihf_jax.data.shuffled import ShuffledLabels
from bihf_jax.protein import Protein
from bihf_jax.tasks.protein_predictions import read_csv
from bihf_jax.tasks.tables import table_of
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import experiment_config, load_config
from bihf_jax.training.evaluation import TrainedModel
from bihf_jax.training.loop import train
from bihf_jax.training.optimizer import make_optimizer
from bihf_jax.training.restore import restore_model
from experiments.evaluate import evaluate
from tests.data.examples import random_example
from tests.data.record_sets import LABELS, rich_example, rich_records, write_records
from tests.training.small_run import REPOSITORY, logged, run_python, small_config

TASK_OF = {"binary": "custom", "multiclass": "ec", "multilabel": "ec", "regression": "lba", "quality": "mqa"}
PICTURES = {
    "binary": ["pr_curve", "roc_curve", "calibration"],
    "multiclass": ["confusion", "calibration"],
    "multilabel": ["pr_curve", "roc_curve", "calibration"],
    "regression": ["scatter"],
    "quality": ["scatter"],
}


def task_config(records, task, **training):
    """Sequence side only: it is quick to compile, and has what the labels depend on."""
    steps = {"steps": 60, "log_every": 20, "evaluate_every": 60, "checkpoint_every": 60} | training
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
    scores = evaluate(workdir, ["test"])
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
def test_residues_with_several_classes(tmp_path):
    """Residue labels that are not binary: the class of a residue type is learned."""
    labels, examples = Labels("residue", "multiclass", ("low", "middle", "high")), []
    for seed in range(40):
        example = random_example(seed, chain_lengths=(30,), id=f"p{seed}")
        label = np.where(example.label_mask, (example.tokens - 4) // 7, 0).astype(np.float32)
        examples.append(dataclasses.replace(example, label=label))
    splits = {"train": examples[:24], "validation": examples[24:32], "test": examples[32:]}
    records = write_records(tmp_path / "records", splits, labels)
    workdir = train(task_config(records, {"name": "custom"}), tmp_path / "run")
    test = evaluate(workdir, ["test"])["splits"]["test"]["scores"]
    assert test["model"]["accuracy"]["value"] > test["constant"]["accuracy"]["value"] + 0.3
    assert test["residue_type"]["accuracy"]["value"] == 1


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
        assert "(ec)" in str(prediction)


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


@pytest.mark.parametrize("name", ["ec", "mqa", "lba", "custom"])
def test_shipped_configs_build(name, tmp_path):
    """Every document of a task of proteins, with its arguments, describes a task and a model of its records."""
    kind = {"ec": "multiclass", "mqa": "quality", "lba": "regression", "custom": "binary"}[name]
    records = rich_records(tmp_path / "records", kind, train=6, rest=2)
    document = importlib.import_module(f"configs.{name}")
    for arg in ("", ",fusion=global,gnn=pronet,pooling=attention,steps=50", ",gnn=mpnn,runlocal=True"):
        config = experiment_config(document.get_config(f"records={records}{arg}"))
        assert config.make_task().labels == LABELS[kind]
        assert config.make_model().head_config.unit == "protein"
        assert config.make_model().head_config.num_outputs == len(LABELS[kind].names)
        assert config.encoder.fusion.kind == ("global" if "global" in arg else "local")
        assert config.head.pooling == ("attention" if "attention" in arg else "mean")


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
def test_patience_ends_a_run_and_the_average_is_what_is_kept(tmp_path):
    """Without a better validation the run ends, and does not go on when it is started again; the best checkpoint is the
    moving average of the weights, which is what was validated."""
    records = rich_records(tmp_path / "records", "regression", train=24, rest=12)
    config = task_config(records, {"name": "lba"}, steps=60, evaluate_every=4, log_every=4, patience=2)
    config.training.optimizer = {"learning_rate": 0.3, "warmup_steps": 1, "average_decay": 0.9, "accumulate": 2}
    workdir = train(config, tmp_path / "run")
    rows = logged(workdir)
    scores = {row["step"]: row["r2"] for row in rows if row["kind"] == "eval"}
    best = max(scores, key=scores.get)
    assert max(scores) == best + 8 < 60
    assert logged(train(config, workdir)) == rows
    kept, last = (restore_model(workdir, which=which) for which in ("best", "last"))
    assert kept.step == best
    assert last.step == max(scores)
    model = TrainedModel.load(workdir)
    validation = RecordSet(records, "validation")
    task = kept.config.make_task()
    values = task.metrics(table_of(task, validation, model.score(validation)).labelled())
    assert values["r2"] == pytest.approx(scores[best], abs=1e-5)


def losses_on_devices(devices):
    """Sums of three steps with dropout, of unequal rows of proteins, on so many devices."""
    records = [rich_example(number, "multilabel") for number in range(9)]
    records[4] = dataclasses.replace(records[4], protein_label=np.zeros(0, np.float32))
    rows = [[(n, records[n]) for n in row] for row in ((0, 1, 2), (3,), (4,), (5, 6, 7, 8))]
    config = experiment_config(task_config("unused", {"name": "ec", "labels": LABELS["multilabel"].to_metadata()}))
    model, task, plm = config.make_model(), config.make_task(), config.encoder.plm
    optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
    grid = make_grid(rows, length=256, neighbours=6, graphs=24, protein_values=3)
    state = step_lib.init_state(model, optimizer, plm, example_batch(config.data.grid_shape()), seed=0)
    state = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * devices), state)
    some = jax.devices()[:devices]
    train_step = step_lib.pmap_train_step(model, task, optimizer, plm, seed=0, devices=some)
    for _ in range(3):
        state, metrics = train_step(state, split_over_devices(grid, devices))
        yield [float(leaf[0]) for leaf in jax.tree.leaves(metrics)]


@pytest.mark.slow
def test_two_devices_equal_one():
    """Losses and gradients of a task of proteins do not depend on the number of devices."""
    code = (
        "import json\n"
        "from tests.training.test_tasks import losses_on_devices\n"
        "print(json.dumps([list(losses_on_devices(devices)) for devices in (1, 2)]))\n"
    )
    one, two = np.array(json.loads(run_python(code, devices=2).splitlines()[-1]))
    np.testing.assert_allclose(one, two, rtol=2e-5)
    assert len(set(one[:, 0])) == 3  # they do change
