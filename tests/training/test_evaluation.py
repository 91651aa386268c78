"""Scoring: every record once, whole, whatever it is packed with; and the files of `experiments.evaluate`."""

import csv
import json

import jax
import matplotlib.image
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import bihf_jax
import experiments.evaluate as command
from bihf_jax.data.grid import make_grid
from bihf_jax.data.pipeline import Host, evaluation_batches
from bihf_jax.data.records import RecordSet
from bihf_jax.pretrained import PretrainedError
from bihf_jax.protein import Protein
from bihf_jax.training.checkpoints import CheckpointError
from bihf_jax.training.config import experiment_config
from bihf_jax.training.evaluation import TrainedModel
from bihf_jax.training.loop import train
from experiments.evaluate import evaluate
from tests.training.small_run import REPOSITORY, small_config

SAMPLE = REPOSITORY / "data_prep" / "sample"


@pytest.fixture(scope="module")
def workdir(sample_records, tmp_path_factory):
    return train(small_config(sample_records), tmp_path_factory.mktemp("evaluation") / "run")


@pytest.mark.parametrize(("hosts", "devices"), [(1, 1), (1, 4), (2, 2)])
def test_hosts_and_devices_share_the_records(sample_records, hosts, devices):
    """Over all hosts and devices each record of the split comes exactly once, in the same number of steps."""
    records = RecordSet(sample_records, "test")
    shape = experiment_config(small_config(sample_records)).data.grid_shape()
    seen, steps = [], set()
    for index in range(hosts):
        count, batches = evaluation_batches(records, shape, Host(index, hosts, devices))
        batches = list(batches)
        assert len(batches) == count
        steps.add(count)
        seen += [int(r) for batch in batches for r in batch.record.ravel() if r >= 0]
        assert all(batch.tokens.shape[0] == devices for batch in batches)
    assert sorted(seen) == list(range(len(records)))
    assert len(steps) == 1


def test_packed_scores_are_those_of_each_record_alone(workdir, sample_records):
    """A record scored in a packed row, in any bucket, scores as it does alone in a row of its own."""
    records = RecordSet(sample_records, "test")
    model = TrainedModel.load(workdir)
    scores = model.score(records)
    assert [len(s) for s in scores] == records.slots.tolist()
    config, task = model.config, model.config.make_task()
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[0], model.params)
    network = config.make_model()
    alone = jax.jit(lambda batch: task.scores(network.apply({"params": params}, batch, None)))
    fitting = [i for i in range(len(records)) if records.slots[i] <= 512][:6]
    longest = int(np.argmax(records.slots))
    for i in [*fitting, longest]:
        length = 512 if records.slots[i] <= 512 else 1024
        grid = make_grid([[(i, records[i])]], length=length, neighbours=6, graphs=24)
        np.testing.assert_allclose(scores[i], alone(grid)[0, : records.slots[i]], atol=1e-5)
    assert records.slots[longest] > 512  # a bucket that training did not have


def test_evaluate_writes_its_files(workdir, sample_records):
    """Scores, tables, one CSV row a residue, and pictures that show something."""
    scores = evaluate(workdir, ["validation", "test"], controls=[workdir, workdir])
    on_disk = json.loads((workdir / "scores.json").read_text())
    assert on_disk == json.loads(json.dumps(scores))
    test = scores["splits"]["test"]
    assert set(test["scores"]) == {"model", "control", "control_2", "positive_rate", "logistic_regression"}
    for entry in test["scores"].values():
        assert entry["auc_pr"]["low"] <= entry["auc_pr"]["value"] <= entry["auc_pr"]["high"]
    with open(workdir / "predictions_test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    residues = sum(int((example.tokens > 3).sum()) for example in RecordSet(sample_records, "test"))
    assert len(rows) == residues
    assert {"file", "chain", "residue_number", "insertion_code", "score"} <= set(rows[0])
    for name in ("pr_curve_test.png", "loss_curves.png"):
        image = matplotlib.image.imread(workdir / name)
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.02
    assert "AUC-PR" in (workdir / "scores.md").read_text()


def test_prediction_equals_evaluation(workdir, sample_records):
    """For the structure files of the test split, the predictor's scores are those of the CSV of the evaluation."""
    evaluate(workdir, ["test"])
    expected = {}
    with open(workdir / "predictions_test.csv", newline="") as file:
        for row in csv.DictReader(file):
            key = (row["chain"], int(row["residue_number"]), row["insertion_code"])
            expected.setdefault(row["record_id"], {})[key] = float(row["score"])
    with open(SAMPLE / "complexes.csv", newline="") as file:
        partners = {f"{row['complex']}:{row['partner']}": row for row in csv.DictReader(file)}
    chosen = sorted(expected)[::4]
    structures = [
        Protein.from_file(SAMPLE / "structures" / partners[name]["file"], chains=partners[name]["chains"].split("+"))
        for name in chosen
    ]
    predictions = bihf_jax.load(workdir).predict_many(structures)
    for name, prediction in zip(chosen, predictions, strict=True):
        scores = {row[:3]: row.score for row in prediction.rows()}
        assert scores.keys() == expected[name].keys()
        np.testing.assert_allclose([scores[key] for key in expected[name]], list(expected[name].values()), atol=1e-5)


def test_folder_without_checkpoints(workdir, tmp_path):
    """A run that never saved is named, with what to do."""
    (tmp_path / "config.json").write_bytes((workdir / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="has saved no checkpoint yet; train first"):
        TrainedModel.load(tmp_path)


def test_pretrained_errors_are_one_line_and_status_1(tmp_path, caplog, monkeypatch):
    """A model that needs pretrained weights which are gone."""

    def load(*_, **__):
        raise PretrainedError("no pretrained weights at 'nowhere'")

    monkeypatch.setattr(TrainedModel, "load", load)
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(workdir=str(tmp_path)):
        assert command._evaluate() == 1
    assert caplog.records[-1].getMessage() == "no pretrained weights at 'nowhere'"
