"""`scores.json` and the tables made from it."""

import dataclasses
import json

import numpy as np
import pytest

from bihf_jax.tasks import metrics, report
from tests.tasks.synthetic import make_predictions


def contestants(seed, **sizes):
    """A good model, a weaker baseline, a guess and the positive rate, on the same residues."""
    model = make_predictions(seed, **sizes)
    return {
        "model": model,
        "positive_rate": dataclasses.replace(model, score=np.full_like(model.score, 0.1)),
        "logistic_regression": make_predictions(seed, signal=0.7, score_seed=1, **sizes),
        "control": make_predictions(seed, signal=0.0, score_seed=2, **sizes),
    }


@pytest.fixture(scope="module")
def predictions():
    return {"validation": contestants(1, complexes=8), "test": contestants(2, complexes=20)}


@pytest.fixture(scope="module")
def scores(predictions):
    return report.build_scores(predictions, num_resamples=200)


def test_values_are_those_of_the_metrics(predictions, scores):
    """Counts and values of the test split are recomputed from the predictions, at the threshold of validation."""
    labels, values, weights, groups = predictions["test"]["model"].labelled()
    entry = scores["splits"]["test"]
    threshold = metrics.choose_threshold(*predictions["validation"]["model"].labelled()[:3])
    expected = metrics.residue_metrics(labels, values, weights, threshold)
    model = entry["scores"]["model"]
    assert {name: model[name]["value"] for name in metrics.METRICS} == expected
    assert (entry["residues"], entry["positives"]) == (labels.size, labels.sum())
    assert entry["residues"] + entry["unlabelled_residues"] == predictions["test"]["model"].num_residues
    assert (entry["proteins"], entry["complexes"]) == (40, len(np.unique(groups)))
    assert model["threshold"] == threshold
    assert model["threshold_source"] == "largest MCC on 'validation'"


def test_intervals_hold_the_values(scores):
    """Every interval of the model and the baselines is ordered and spans its value."""
    for split in scores["splits"].values():
        for contestant in split["scores"].values():
            for name in metrics.METRICS:
                value = contestant[name]
                assert value["low"] <= value["value"] <= value["high"]


def test_every_contestant_has_its_role_and_comparison(scores):
    """The model is compared with each other contestant, the control with the positive rate as well."""
    entry = scores["splits"]["test"]
    assert {name: score["role"] for name, score in entry["scores"].items()} == {
        "model": "model",
        "positive_rate": "baseline",
        "logistic_regression": "baseline",
        "control": "control",
    }
    pairs = {(pair["first"], pair["second"]): pair for pair in entry["differences"]}
    assert set(pairs) == {("model", name) for name in entry["scores"] if name != "model"} | {
        ("control", "positive_rate")
    }
    ahead = pairs["model", "positive_rate"]["auc_pr"]
    assert ahead["low"] > 0
    assert ahead["share_above_zero"] == 1
    guess = pairs["control", "positive_rate"]["roc_auc"]
    assert guess["low"] < 0 < guess["high"]


def test_several_controls(predictions):
    """Every "control_.." is a control, is compared with the positive rate, and the table warns of single ones."""
    split = predictions["test"]
    names = ("model", "positive_rate", "control", "control_2", "controlled")
    scores = report.build_scores({"test": dict.fromkeys(names, split["control"])}, num_resamples=20)
    entry = scores["splits"]["test"]
    assert [entry["scores"][name]["role"] for name in names] == ["model", "baseline", "control", "control", "baseline"]
    pairs = {(pair["first"], pair["second"]) for pair in entry["differences"]}
    assert {first for first, second in pairs if second == "positive_rate"} == {"model", "control", "control_2"}
    assert "A control is one draw" in report.score_table(scores)
    without = report.build_scores({"test": {"model": split["model"]}}, num_resamples=20)
    assert "A control is one draw" not in report.score_table(without)


def test_differences_are_paired(predictions, scores):
    """The interval of a difference is that of the differences within the same resamples, recomputed here."""
    entry = scores["splits"]["test"]
    resampled = [
        metrics.bootstrap(*predictions["test"][name].labelled(), entry["scores"][name]["threshold"], num_resamples=200)
        for name in ("model", "logistic_regression")
    ]
    pair = next(pair for pair in entry["differences"] if pair["second"] == "logistic_regression")
    for metric in ("auc_pr", "roc_auc", "mcc"):
        low, high = np.quantile(resampled[0][metric] - resampled[1][metric], [0.025, 0.975])
        assert (pair[metric]["low"], pair[metric]["high"]) == pytest.approx((low, high))


def test_json_round_trip(scores, tmp_path):
    """What is written is strict JSON and comes back unchanged, floats in full precision."""
    report.write_scores(scores, tmp_path / "scores.json")

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads((tmp_path / "scores.json").read_text(), parse_constant=refuse) == scores
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_the_same_seed_gives_the_same_report(predictions, scores):
    """Building again gives an equal structure; another seed moves an interval and no value."""
    assert report.build_scores(predictions, num_resamples=200) == scores
    other = report.build_scores(predictions, num_resamples=200, seed=1)
    first, second = (s["splits"]["test"]["scores"]["model"]["auc_pr"] for s in (scores, other))
    assert first["value"] == second["value"]
    assert first["low"] != second["low"]


def test_tables_hold_every_number(scores):
    """Both tables name each split, contestant and difference, and show value and interval with three digits."""
    for text in (report.score_table(scores), report.markdown_table(scores)):
        for split, entry in scores["splits"].items():
            assert f"{split}: {entry['residues']:,} labelled residues" in text
            for name, score in entry["scores"].items():
                assert name.replace("_", " ") in text
                value = score["auc_pr"]
                assert f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in text
            assert "model - logistic regression" in text


def test_text_table_is_aligned(scores):
    """In each row of a text table the first interval begins at the same position as in the header."""
    tables = [block.splitlines() for block in report.score_table(scores).split("\n\n") if "AUC-PR [95 %]" in block]
    assert len(tables) == 4
    for table in tables:
        start = table[0].index("AUC-PR")
        for line in table[1:]:
            assert line[start - 2 : start] == "  "
            assert line[start] != " "


def test_markdown_rows_have_one_width(scores):
    """Every row of a Markdown table has as many cells as its header."""
    for block in report.markdown_table(scores).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_notes_say_what_limits_the_numbers(scores):
    """Few complexes, and a threshold chosen on the split itself, are said under the table of that split only."""
    validation, test = report.score_table(scores).split("test:")
    assert "Only 8 complexes" in validation
    assert "MCC is too good here" in validation
    assert "complexes: the intervals" not in test
    assert "MCC is too good here" not in test
    assert "largest MCC on 'validation'" in test


def test_without_validation_the_threshold_is_the_default(predictions):
    """Without a validation split the threshold is 0.5, and the report says why."""
    scores = report.build_scores({"test": predictions["test"]}, num_resamples=20)
    model = scores["splits"]["test"]["scores"]["model"]
    assert model["threshold"] == 0.5
    assert "none could be chosen on 'validation': not scored there" in model["threshold_source"]
    assert "0.5 by default" in report.score_table(scores)


def test_one_class_and_no_labels_are_reported_not_hidden(predictions, tmp_path):
    """A split without positives has null scores with a reason, one without labels says so, and both can be written."""
    model = predictions["test"]["model"]
    negative = dataclasses.replace(model, label=np.zeros_like(model.label))
    unlabelled = dataclasses.replace(negative, label_mask=np.zeros_like(model.label_mask))
    splits = {"negative": {"model": negative, "control": negative}, "unlabelled": {"model": unlabelled}}
    scores = report.build_scores(splits, num_resamples=20)
    value = scores["splits"]["negative"]["scores"]["model"]["auc_pr"]
    assert value["value"] is None
    assert "no positive" in value["reason"]
    assert scores["splits"]["unlabelled"]["reason"] == "no labelled residues"
    report.write_scores(scores, tmp_path / "scores.json")
    for text in (report.score_table(scores), report.markdown_table(scores)):
        assert "n/a" in text
        assert "no positive among" in text
        assert "Not scored: no labelled residues." in text


def test_contestants_must_agree(predictions):
    """A split without a model, and contestants on other labels or records, are refused by name."""
    split = predictions["test"]
    with pytest.raises(ValueError, match="one of them must be 'model'"):
        report.build_scores({"test": {"control": split["control"]}})
    other = dataclasses.replace(split["control"], label=1 - split["control"].label)
    with pytest.raises(ValueError, match="'control' and 'model' differ in 'label'"):
        report.build_scores({"test": {**split, "control": other}})
    other = dataclasses.replace(split["control"], record_ids=split["control"].record_ids[::-1])
    with pytest.raises(ValueError, match="differ in their records"):
        report.build_scores({"test": {**split, "control": other}})
