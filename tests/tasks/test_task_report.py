"""The report and the baselines of tasks: numbers of the metrics, paired differences, and what a trivial rule knows."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from bihf_jax.data.labels import Labels
from bihf_jax.tasks import comparison, make_task, metrics, plots, report, task_baselines, task_report
from bihf_jax.tasks.reports import report_of
from bihf_jax.tasks.tables import table_of
from tests.data.examples import random_example
from tests.data.record_sets import LABELS, rich_example
from tests.tasks.test_protein_predictions import TASKS, task_of

KINDS = list(TASKS)


def examples_of(kind, first, count):
    return [rich_example(number, kind) for number in range(first, first + count)]


def contestants(kind, count=40):
    """A model that knows the label up to noise, and the fitted baselines, on the same proteins."""
    task, test = task_of(kind), examples_of(kind, 100, count)
    rng = np.random.default_rng(0)
    width = len(LABELS[kind].names)
    known = [
        np.eye(width)[int(example.protein_label[0])] if kind == "multiclass" else example.protein_label
        for example in test
    ]
    noise = rng.normal(0, 0.15, (count, width))
    model = np.clip(known + noise, 0, 1) if kind != "regression" else known + noise
    fitted = task_baselines.fit_baselines(task, examples_of(kind, 0, 60))
    tables = {name: table_of(task, test, [b.score(example) for example in test]) for name, b in fitted.items()}
    return task, {"model": table_of(task, test, model.astype(np.float32)), **tables}


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_holds_the_metrics_of_each_contestant(kind, tmp_path):
    """Values are the task's metrics; the model is ahead of the constant, and the interval says so; JSON has no NaN."""
    task, tables = contestants(kind)
    scores = task_report.build_scores(task, {"test": tables}, num_resamples=100)
    entry = scores["splits"]["test"]
    for name, table in tables.items():
        for metric, value in task.metrics(table.labelled()).items():
            assert entry["scores"][name][metric]["value"] == value
    difference = next(pair for pair in entry["differences"] if pair["second"] == "constant")[task.selection_metric]
    assert difference["low"] > 0
    assert difference["share_above_zero"] > 0.95
    report.write_scores(scores, tmp_path / "scores.json")
    assert report_of(scores) is task_report
    for text in (task_report.score_table(scores), task_report.markdown_table(scores)):
        assert "model - constant" in text
        assert metrics.title(task.selection_metric) in text
        assert "40 labelled proteins of 8 groups" in text
        assert "Only 8 groups" in text


def test_the_constant_has_no_correlation_and_says_why():
    task, tables = contestants("regression")
    entry = task_report.build_scores(task, {"test": tables}, num_resamples=20)["splits"]["test"]
    assert entry["scores"]["constant"]["pearson"]["value"] is None
    assert "one value only" in entry["scores"]["constant"]["pearson"]["reason"]
    assert entry["scores"]["constant"]["r2"]["value"] == pytest.approx(0, abs=0.1)


def test_targets_that_cannot_be_ranked_are_counted():
    task, tables = contestants("quality", count=12)  # 8 targets: four with two models, four with one
    notes = task_report.build_scores(task, {"test": tables}, num_resamples=20)["splits"]["test"]["notes"]
    assert notes == ["8 of 8 groups have no correlation: fewer than 3 models."]


def test_a_split_without_labels_is_named():
    task, tables = contestants("regression")
    empty = {name: dataclasses.replace(t, label_mask=np.zeros_like(t.label_mask)) for name, t in tables.items()}
    scores = task_report.build_scores(task, {"test": empty}, num_resamples=20)
    assert "Not scored: no labelled proteins." in task_report.score_table(scores)
    json.dumps(scores, allow_nan=False)
    with pytest.raises(ValueError, match="one of them must be 'model'"):
        task_report.build_scores(task, {"test": {"constant": tables["constant"]}})


def test_baselines_are_those_of_scikit_learn():
    """Ridge on the standardised features; the constant is the weighted mean; the majority class is called."""
    training = [
        dataclasses.replace(example, weight=1.0 + number % 3)
        for number, example in enumerate(examples_of("regression", 0, 30))
    ]
    fitted = task_baselines.fit_baselines(task_of("regression"), training)
    x = np.stack([task_baselines.protein_features(example) for example in training])
    y = np.array([example.protein_label[0] for example in training])
    weight = np.array([example.weight for example in training])
    assert fitted["constant"].score(training[0]) == pytest.approx(np.average(y, weights=weight))
    scaler = StandardScaler().fit(x)
    ridge = Ridge().fit(scaler.transform(x), y, sample_weight=weight)
    test = rich_example(77, "regression")
    expected = ridge.predict(scaler.transform(task_baselines.protein_features(test)[None]))
    assert fitted["composition"].score(test) == pytest.approx(expected, rel=1e-5)

    classes = [
        dataclasses.replace(example, protein_label=np.array([2 if number < 20 else 0], np.float32))
        for number, example in enumerate(training)
    ]
    fitted = task_baselines.fit_baselines(task_of("multiclass"), classes)
    assert fitted["constant"].score(test).argmax() == 2
    assert fitted["composition"].score(test)[1] == 0  # a class that training lacks
    assert fitted["composition"].score(test).sum() == pytest.approx(1)
    unlabelled = [dataclasses.replace(e, protein_label=np.zeros(0, np.float32)) for e in training]
    with pytest.raises(ValueError, match="no label of positive weight"):
        task_baselines.fit_baselines(task_of("regression"), unlabelled)


def test_features_of_a_protein():
    """Shares of types add up to one; the last four are log length, chains, share resolved and mean burial."""
    example = random_example(3, chain_lengths=(12, 20))
    features = task_baselines.protein_features(example)
    assert features.shape == (25,)
    assert features[:21].sum() <= 1
    assert features[21] == pytest.approx(np.log((example.tokens > 3).sum()), abs=0.3)
    assert features[22] == 2


def test_residue_types_are_a_baseline_of_residues():
    """Each type gets the mean of its labels; one that training lacks the mean of all."""
    task = make_task("custom", {"labels": Labels("residue", "regression", ("x",)).to_metadata()})
    examples = [random_example(seed) for seed in range(4)]
    examples = [dataclasses.replace(e, label=(e.tokens * e.label_mask).astype(np.float32)) for e in examples]
    fitted = task_baselines.fit_baselines(task, examples)
    scored = fitted["residue_type"].score(examples[0])
    assert scored.shape == (examples[0].num_slots, 1)
    mask = examples[0].label_mask
    np.testing.assert_allclose(scored[mask, 0], examples[0].tokens[mask], rtol=1e-6)
    assert fitted["constant"].score(examples[0]).shape == scored.shape


def test_methods_are_compared_by_the_metric_of_the_task(tmp_path):
    """The comparison takes the task's selection metric, for proteins as for residues, and can be drawn."""
    task, tables = contestants("regression")
    runs = {
        "ours": [comparison.Run(seed, 0.8, tables["model"], 60.0, 10) for seed in (0, 1)],
        "composition": [comparison.Run(0, 0.1, tables["composition"], 0.0, 0)],
    }
    compared = comparison.compare(runs, ["composition"], task=task, num_resamples=50)
    assert compared.metric == "r2"
    assert compared.rows[0].values[0] == task.metrics(tables["model"].labelled())["r2"]
    assert compared.rows[0].difference.low > 0
    assert "R² [95 %]" in comparison.markdown(compared)
    plots.plot_comparison(compared, {"constant": 0.0}, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 3000
