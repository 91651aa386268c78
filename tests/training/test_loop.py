"""The whole loop on the embedded sample: what it writes, and how it stops."""

import io
import json
import logging
import math

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from bihf_jax.configuration import ConfigError
from bihf_jax.data.records import RecordError, RecordSet
from bihf_jax.data.shuffled import ShuffledLabels
from bihf_jax.data.tfrecord import scan_records
from bihf_jax.training.loop import NonFiniteLossError, train
from tests.training.small_run import logged, small_config


@pytest.fixture(scope="module")
def run(sample_records, tmp_path_factory):
    """(workdir, log text) of one small run."""
    workdir = tmp_path_factory.mktemp("loop") / "run"
    handler = logging.StreamHandler(stream := io.StringIO())
    logger = logging.getLogger("bihf_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        train(small_config(sample_records), workdir)
    finally:
        logger.removeHandler(handler)
    return workdir, stream.getvalue()


def test_metrics_file(run):
    """One object a logged step, in order, with finite numbers; one compilation over all batches."""
    rows = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kind"]) for row in rows] == [
        *((3, "train"), (6, "train"), (6, "eval"), (9, "train"), (12, "train"), (12, "eval"))
    ]
    for row in rows:
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
        if row["kind"] == "train":
            assert row["compiles"] == 1
            assert 0.3 < row["fill"] <= 1
    assert rows[0]["loss"] != rows[1]["loss"]


def test_start_up_summary(run):
    """The log says what is trained on what: devices, batch, fill, cropping, parameters."""
    for text in ("devices: 1", "4 rows x 512 slots", "fill of the first epoch", "cropped in training:", "encoder/plm"):
        assert text in run[1]
    assert "residues/s" in run[1]
    assert "compiles 1" in run[1]


def test_tensorboard_events(run):
    """The event files hold the losses that metrics.jsonl holds."""
    files = list((run[0] / "tensorboard").glob("events.out.tfevents.*"))
    assert len(files) == 1
    written = {}
    for _, data in scan_records(files[0]):
        event = event_pb2.Event.FromString(bytes(data))
        written |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
    for row in logged(run[0]):
        assert written[row["step"], f"{row['kind']}/loss"] == np.float32(row["loss"])


def test_two_runs_are_equal(run, sample_records, tmp_path):
    """The same config gives the same numbers to the last bit."""
    assert logged(train(small_config(sample_records), tmp_path / "again")) == logged(run[0])


def test_seed_changes_the_run(run, sample_records, tmp_path):
    """Another seed gives other losses."""
    config = small_config(sample_records)
    config.seed = 1
    assert logged(train(config, tmp_path / "other")) != logged(run[0])


def test_non_finite_loss_stops(run, sample_records, tmp_path):
    """A learning rate that blows up ends the run; the message names the step and the last good checkpoint."""
    config = small_config(sample_records, steps=40, checkpoint_every=1, log_every=2, evaluate_every=40)
    config.training.optimizer = {"learning_rate": 1e30, "warmup_steps": 2}
    with pytest.raises(NonFiniteLossError, match=r"step \d+: loss .*Last good checkpoint: .*/checkpoints/last/\d+\."):
        train(config, tmp_path / "run")
    for row in logged(tmp_path / "run"):
        assert math.isfinite(row["loss"])


def test_rows_that_devices_cannot_share(sample_records, tmp_path, monkeypatch):
    """Three devices and four rows: refused before data is read."""
    monkeypatch.setattr("bihf_jax.training.loop.jax.local_device_count", lambda: 3)
    with pytest.raises(
        ConfigError, match=r"config\.data\.rows: 4 rows of 512 slots cannot be dealt evenly to 3 devices"
    ):
        train(small_config(sample_records), tmp_path / "run")


def test_missing_records(tmp_path):
    """A folder without records is named."""
    with pytest.raises(RecordError, match="nowhere"):
        train(small_config(tmp_path / "nowhere"), tmp_path / "run")


def test_shuffled_labels_keep_everything_else(sample_records):
    """The control permutes labels over labelled residues: same count, same positives, same input."""
    records = RecordSet(sample_records, "train")
    shuffled = ShuffledLabels(records, seed=0)
    pairs = [(records[i], shuffled[i]) for i in range(len(records))]
    old, new = (
        np.concatenate([example.label[example.label_mask] for example in side]) for side in zip(*pairs, strict=True)
    )
    assert old.sum() == new.sum()
    assert len(old) == len(new)
    assert (old != new).mean() > 0.05
    assert abs(np.corrcoef(old, new)[0, 1]) < 0.1
    for before, after in pairs:
        assert not after.label[~after.label_mask].any()
        np.testing.assert_array_equal(before.tokens, after.tokens)
        np.testing.assert_array_equal(before.label_mask, after.label_mask)
    assert ShuffledLabels(records, seed=1)[0].label.tolist() != shuffled[0].label.tolist() or len(records) == 0
