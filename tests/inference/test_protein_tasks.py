"""Tasks of the whole protein: its value with an interval, the residues that mattered, and both in every file."""

import csv
import json

import jax
import numpy as np
import pytest

import bihf_jax
from bihf_jax.data.featurise import make_example, residue_slots
from bihf_jax.data.grid import make_grid
from bihf_jax.inference.folder import predict_files, write_index, write_summary
from bihf_jax.inference.inputs import find_targets
from bihf_jax.inference.programs import Wanted
from tests.inference.runs import make_run
from tests.inference.structures import made
from tests.page.made import Document

CLASSES = ("1.1", "2.7 & <kinases>", "3.4", "4.2", "5.3", "6.1", "7.1")
LABELS = {"unit": "protein", "type": "multiclass", "names": CLASSES}
WANTED = Wanted(attribution=True, dropout_samples=8)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """Of enzyme classes."""
    return bihf_jax.load(make_run(tmp_path_factory.mktemp("run"), task={"name": "ec", "labels": LABELS}))


@pytest.fixture(scope="module")
def prediction(predictor, odd):
    return predictor.predict(odd, **WANTED._asdict())


def test_the_value_has_an_interval(predictor, prediction, odd):
    """Each class; its samples scatter, and all is the same in company. The weights of the residues have one, too."""
    assert list(prediction.value) == list(prediction.value_low) == list(prediction.value_high) == list(CLASSES)
    assert sum(prediction.value.values()) == pytest.approx(1, abs=1e-5)
    for name, value in prediction.value.items():
        assert prediction.value_low[name] < value < prediction.value_high[name]
    assert prediction.score.sum() == pytest.approx(1, abs=1e-4)
    assert (prediction.low <= prediction.score).all()
    *_, packed = predictor.predict_many([made(40), odd], **WANTED._asdict())
    for ends in ("value", "value_low", "value_high"):
        assert getattr(packed, ends) == pytest.approx(dict(getattr(prediction, ends)), abs=1e-5)


def test_features_and_fusion_values_are_there_too(predictor, odd):
    """What the head keeps beside them is of no stage."""
    assert predictor.embed(odd, of="fused", stage=1).per_residue.shape[0] == len(predictor.predict(odd))
    assert {"stage1_gate_sequence", "stage2_gate_structure"} <= set(
        predictor.predict(odd, fusion_values=True).fusion_values
    )


def test_attribution_explains_the_highest_value(predictor, prediction, odd):
    """Against finite differences in the embedding of each residue type."""
    (member,) = predictor.members
    params = jax.tree.map(lambda leaf: np.asarray(leaf[0]), member.params)
    model = member.config.make_model()
    example = make_example(odd, id="odd", group="odd")
    grid = make_grid([[(0, example)]], length=64, neighbours=6, graphs=1)
    table = params["encoder"]["plm"]["embed_tokens"]["embedding"]
    apply = jax.jit(lambda params: predictor.task.scores(model.apply({"params": params}, grid))[0, 0])
    best = int(np.argmax(apply(params)))
    tokens = example.tokens[residue_slots(odd)]

    def value(token, scale):
        changed = table.copy()
        changed[token] *= scale
        params["encoder"]["plm"]["embed_tokens"]["embedding"] = changed
        return float(apply(params)[best])

    found = [prediction.attribution[tokens == token].sum() for token in np.unique(tokens)]
    slopes = [(value(token, 1.01) - value(token, 0.99)) / 0.02 for token in np.unique(tokens)]
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(found, slopes, atol=0.02 * np.abs(slopes).max())


def test_the_page_shows_the_highest_values_with_their_intervals(prediction):
    """Five of the seven, from the top, escaped; the others are counted; attribution is a track."""
    document = Document(prediction.page())
    shown = document.text_of("dt")
    assert shown == sorted(CLASSES, key=lambda name: -prediction.value[name])[:5]
    number, ends = (
        document.text_of("span", **{"class": "number"})[0],
        document.text_of("span", **{"class": "interval"})[0],
    )
    best = shown[0]
    assert float(number) == pytest.approx(prediction.value[best], rel=1e-3)
    assert ends == (
        f"[{prediction.value_low[best]:.4g}, {prediction.value_high[best]:.4g}] "
        "5th to 95th percentile of 8 dropout samples"
    )
    notes = " ".join(document.text_of("li"))
    assert "2 more values are not shown" in notes
    assert "weight of the residue (ec)" in notes
    layers = {layer["name"]: layer for layer in document.page_data()["layers"]}
    assert "adds to the highest value" in layers["attribution"]["description"]
    assert list(layers)[document.page_data()["firstLayer"]] == "attribution"


def test_every_file_has_the_value(predictor, odd, tmp_path):
    """NAME.json all of them; the summary and the index the highest, with its interval."""
    odd.to_file(tmp_path / "odd.pdb")
    outcomes = list(predict_files(predictor, find_targets(tmp_path).targets, tmp_path / "out", wanted=WANTED))
    about = json.loads((tmp_path / "out" / "odd.json").read_text())
    assert list(about["value"]) == list(CLASSES)
    best = max(about["value"], key=about["value"].get)
    with open(write_summary(outcomes, tmp_path / "out"), newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["highest_value"] == best
    for name in ("value", "value_low", "value_high"):
        assert float(row[name]) == pytest.approx(about[name][best], rel=1e-6)
    document = Document(write_index(outcomes, tmp_path / "out", predictor.description).read_text())
    assert best in document.text_of("td")
    numbers = [float(cell["data-value"]) for cell in document.of("td") if "data-value" in cell]
    assert numbers[:3] == [about[name][best] for name in ("value", "value_low", "value_high")]
