"""Methods side by side: the numbers are those of the metrics, and the pairing is by complex."""

import dataclasses
import json

import numpy as np
import pytest

from bihf_jax.tasks import comparison, metrics
from bihf_jax.tasks.comparison import Run, compare
from tests.tasks.synthetic import make_predictions


def runs_of(signal, count, *, validation, start=0):
    return [
        Run(seed, validation, make_predictions(5, signal=signal, score_seed=start + seed, complexes=20), 60.0, 1000)
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def runs():
    """Ours, the baseline that is best on validation, one that is better on test only, and one without seeds."""
    return {
        "ours": runs_of(2.0, 3, validation=0.5),
        "good": runs_of(1.0, 3, validation=0.4, start=10),
        "lucky": runs_of(1.5, 2, validation=0.3, start=20),
        "trivial": runs_of(0.3, 1, validation=0.1, start=30),
    }


@pytest.fixture(scope="module")
def compared(runs):
    return compare(runs, ["good", "lucky", "trivial"], num_resamples=200)


def test_values_and_spread_are_those_of_the_seeds(runs, compared):
    for row in compared.rows:
        expected = []
        for run in runs[row.method]:
            labels, scores, weights, _ = run.predictions.labelled()
            expected.append(metrics.residue_metrics(labels, scores, weights, 0.5)["auc_pr"])
        assert row.values == tuple(expected)
        assert row.interval.value == pytest.approx(np.mean(expected))
        assert row.interval.low < row.interval.value < row.interval.high
        assert row.spread == (pytest.approx(np.std(expected, ddof=1)) if len(expected) > 1 else None)


def test_the_best_baseline_is_chosen_on_validation(compared):
    """`lucky` is ahead on the reported split, and is not what the others are compared with."""
    rows = {row.method: row for row in compared.rows}
    assert compared.best_baseline == "good"
    assert rows["lucky"].interval.value > rows["good"].interval.value
    assert rows["good"].difference is None


def test_the_difference_is_paired(compared):
    """It is narrower than two independent intervals, and changes its sign with the order."""
    rows = {row.method: row for row in compared.rows}
    difference, ours, good = rows["ours"].difference, rows["ours"].interval, rows["good"].interval
    assert difference.value == pytest.approx(ours.value - good.value)
    assert difference.low > 0
    assert difference.share_above_zero == 1.0
    assert difference.high - difference.low < (ours.high - ours.low) + (good.high - good.low)
    assert rows["trivial"].difference.high < 0


def test_more_seeds_of_one_prediction_change_nothing(runs):
    """The mean over seeds of equal runs is the run."""
    single = compare({"ours": runs["ours"][:1], "good": runs["good"]}, ["good"], num_resamples=50).rows[0]
    same = [dataclasses.replace(runs["ours"][0], seed=seed) for seed in range(3)]
    triple = compare({"ours": same, "good": runs["good"]}, ["good"], num_resamples=50).rows[0]
    assert triple.interval.low == pytest.approx(single.interval.low)
    assert triple.difference.low == pytest.approx(single.difference.low)
    assert triple.spread == 0.0


def test_folds_are_averaged(runs):
    """A cross-validation: each seed's number is the mean over its folds, and the interval that of the mean."""
    folds = [make_predictions(5 + fold, signal=2.0, complexes=20) for fold in range(2)]
    weak = [make_predictions(5 + fold, signal=0.5, score_seed=9, complexes=20) for fold in range(2)]

    def runs_of_folds(tables):
        return [Run(seed, 0.5, table, 1.0, 1, f"fold{n}") for seed in (0, 1) for n, table in enumerate(tables)]

    several = {"ours": runs_of_folds(folds), "weak": runs_of_folds(weak)}
    row = compare(several, ["weak"], num_resamples=100).rows[0]
    alone = [
        compare({"a": [Run(0, 0.5, table, 1.0, 1)], "b": [Run(0, 0.5, table, 1.0, 1)]}, ["b"], num_resamples=100).rows[
            0
        ]
        for table in folds
    ]
    expected = np.mean([of.interval.value for of in alone])
    assert row.values == pytest.approx((expected, expected))
    assert row.seeds == (0, 1)
    assert row.metrics["roc_auc"].value == pytest.approx(np.mean([of.metrics["roc_auc"].value for of in alone]))
    width = row.interval.high - row.interval.low
    assert width < min(of.interval.high - of.interval.low for of in alone)
    with pytest.raises(ValueError, match=r"ours \(seed 1\) has no run of fold1"):
        compare({**several, "ours": several["ours"][:3]}, ["weak"])
    with pytest.raises(ValueError, match=r"ours \(seed 0\) has two runs of fold0"):
        compare({**several, "ours": several["ours"][:1] * 2}, ["weak"])


def test_tables_hold_every_method(compared):
    lines = comparison.markdown(compared).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["ours", "good", "lucky", "trivial"]
    assert "best baseline" in lines[3]
    assert "| method | AUC-PR [95 %] | ROC-AUC [95 %] | positive rate [95 %] |" in comparison.metrics_markdown(compared)
    values = json.loads(json.dumps(comparison.as_dict(compared), allow_nan=False))
    assert [row["method"] for row in values["rows"]] == ["ours", "good", "lucky", "trivial"]


def test_what_cannot_be_compared_is_named(runs):
    with pytest.raises(ValueError, match="none of the baselines parallel is among the methods ours"):
        compare({"ours": runs["ours"]}, ["parallel"])
    with pytest.raises(ValueError, match="no finished run of good"):
        compare({"ours": runs["ours"], "good": []}, ["good"])
    other = dataclasses.replace(runs["good"][0], predictions=make_predictions(6, complexes=20))
    with pytest.raises(ValueError, match=r"good \(seed 0\) and ours \(seed 0\) were scored on different residues"):
        compare({"ours": runs["ours"], "good": [other]}, ["good"])
