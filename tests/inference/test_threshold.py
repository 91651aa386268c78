"""The threshold of a run's evaluation: of this checkpoint, chosen on data, or none."""

import json
import logging

import numpy as np
import pytest

import bihf_jax
from bihf_jax.inference.threshold import SCORES_FILE, validation_threshold
from bihf_jax.tasks import report
from tests.inference.runs import STEP, make_run
from tests.tasks.synthetic import make_predictions


def write_scores(folder, step, threshold_split="validation"):
    """`scores.json` as evaluation writes it."""
    predictions = {split: {"model": make_predictions(seed=seed)} for seed, split in enumerate(("validation", "test"))}
    scores = report.build_scores(predictions, threshold_split=threshold_split, num_resamples=2)
    scores["run"] = {"step": step}
    report.write_scores(scores, folder / SCORES_FILE)
    return scores["splits"]["test"]["scores"]["model"]["threshold"]


def test_the_threshold_is_that_of_the_report(tmp_path):
    """As the report has it, and only for the checkpoint that was evaluated."""
    expected = write_scores(tmp_path, step=STEP)
    assert validation_threshold(tmp_path, STEP) == expected
    assert validation_threshold(tmp_path, STEP + 1) is None
    write_scores(tmp_path, step=STEP, threshold_split="absent")  # a default, not chosen
    assert validation_threshold(tmp_path, STEP) is None


def test_other_tasks_have_none_and_miss_none(tmp_path, caplog):
    """Scores of classes or numbers hold no threshold, which is no damage."""
    scores = {"task": {"name": "lba"}, "run": {"step": STEP}, "splits": {"test": {"scores": {"model": {"r2": 1}}}}}
    (tmp_path / SCORES_FILE).write_text(json.dumps(scores))
    with caplog.at_level(logging.WARNING):
        assert validation_threshold(tmp_path, STEP) is None
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"run": {"step": 7}}', '{"run": {"step": 7}, "splits": {"a": 3}}'])
def test_a_damaged_file_is_told_and_gives_none(tmp_path, caplog, text):
    assert validation_threshold(tmp_path, STEP) is None
    (tmp_path / SCORES_FILE).write_text(text)
    with caplog.at_level(logging.WARNING):
        assert validation_threshold(tmp_path, STEP) is None
    assert "gives no threshold" in caplog.text


def test_predictions_carry_it(tmp_path, odd):
    """From the folder of the run to the page, where the slider starts; of several models the mean."""
    run = make_run(tmp_path / "run")
    expected = write_scores(run, step=STEP)
    prediction = bihf_jax.load(run).predict(odd)
    assert prediction.threshold == expected
    assert f"The slider starts at {expected:.3g}" in prediction.page()
    scores = json.loads((run / SCORES_FILE).read_text())
    other = make_run(tmp_path / "other")
    for split in scores["splits"].values():
        split["scores"]["model"]["threshold"] = 0.9
    report.write_scores(scores, other / SCORES_FILE)
    np.testing.assert_allclose(bihf_jax.load([run, other]).threshold, (expected + 0.9) / 2)
    (other / SCORES_FILE).unlink()
    assert bihf_jax.load([run, other]).threshold is None
