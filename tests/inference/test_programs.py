"""What predictions have beside their scores: attribution, dropout samples, several models."""

import jax
import numpy as np
import pytest

import bihf_jax
from bihf_jax.configuration import ConfigError
from bihf_jax.data.featurise import make_example, residue_slots
from bihf_jax.data.grid import make_grid
from bihf_jax.inference.embedding import MissingFeaturesError
from bihf_jax.inference.programs import _noise_of
from tests.inference.runs import STEP, make_run
from tests.inference.structures import made


def test_attribution_is_the_slope_of_the_sum_of_the_scores(predictor, odd):
    """Against finite differences: the embedding of a residue type is scaled, by its row of the table.

    Its slope is the sum over the residues of that type; all of it goes through the sequence side.
    """
    (member,) = predictor.members
    params = jax.tree.map(lambda leaf: np.asarray(leaf[0]), member.params)
    model = member.config.make_model()
    example = make_example(odd, id="odd", group="odd")
    grid = make_grid([[(0, example)]], length=64, neighbours=6, graphs=1)
    slots = residue_slots(odd)
    table = params["encoder"]["plm"]["embed_tokens"]["embedding"]
    apply = jax.jit(lambda params: model.apply({"params": params}, grid))

    def total(token, scale):
        changed = table.copy()
        changed[token] *= scale
        params["encoder"]["plm"]["embed_tokens"]["embedding"] = changed
        logits = np.asarray(apply(params)[0, slots, 0], np.float64)
        return (1 / (1 + np.exp(-logits))).sum()

    attribution = predictor.predict(odd, attribution=True).attribution
    tokens = example.tokens[slots]
    found = [attribution[tokens == token].sum() for token in np.unique(tokens)]
    slopes = [(total(token, 1.003) - total(token, 0.997)) / 0.006 for token in np.unique(tokens)]
    assert np.abs(slopes).max() > 0.01
    np.testing.assert_allclose(found, slopes, atol=3e-3 * np.abs(slopes).max())


def test_what_is_added_is_the_same_in_any_company(predictor, odd):
    """Attribution and dropout intervals do not depend on what a structure is predicted together with."""
    wanted = {"attribution": True, "dropout_samples": 4}
    alone = predictor.predict(odd, **wanted)
    *_, packed = predictor.predict_many([made(40), odd], **wanted)
    assert alone.values().keys() == {"score", "score_low", "score_high", "attribution"}
    for name, values in alone.values().items():
        np.testing.assert_allclose(packed.values()[name], values, atol=1e-5, err_msg=name)


def test_dropout_samples_scatter_around_the_score(predictor, odd):
    """The interval has a width and holds the mean, which is near the score without dropout; again, all is the same."""
    drawn, plain = predictor.predict(odd, dropout_samples=32), predictor.predict(odd)
    assert ((drawn.low <= drawn.score) & (drawn.score <= drawn.high)).all()
    spread = drawn.high - drawn.low
    assert spread.min() > 1e-4
    assert np.abs(drawn.score - plain.score).mean() < spread.mean() / 2
    assert drawn.interval == "5th to 95th percentile of 32 dropout samples"
    np.testing.assert_array_equal(predictor.predict(odd, dropout_samples=32).high, drawn.high)
    assert plain.low is None


def test_several_models_are_averaged(run, tmp_path, odd):
    """Scores and what fusion did are means over the models; their two scores are nearly the interval."""
    other = make_run(tmp_path / "other", seed=1)
    singles = [bihf_jax.load(path).predict(odd, fusion_values=True) for path in (run, other)]
    ensemble = bihf_jax.load([run, other])
    both = ensemble.predict(odd, fusion_values=True)
    assert ensemble.compiles == 1  # one architecture
    for name, values in both.values().items():
        if name not in ("score_low", "score_high"):
            expected = np.mean([single.values()[name] for single in singles], axis=0)
            np.testing.assert_allclose(values, expected, atol=1e-6, err_msg=name)
    low, high = np.sort([single.score for single in singles], axis=0)
    np.testing.assert_allclose(both.low, low + 0.05 * (high - low), atol=1e-6)
    np.testing.assert_allclose(both.high, high - 0.05 * (high - low), atol=1e-6)
    assert both.interval == "5th to 95th percentile of 2 models"
    assert both.model == f"ppbs, mean of 2 models: local fusion, step {STEP}; local fusion, step {STEP}"
    assert len({ensemble.fingerprint, *(member.fingerprint for member in ensemble.members)}) == 3


def test_models_of_other_architectures_work_together(run, tmp_path, odd):
    """Local and global fusion in one ensemble; what only one of them has is refused."""
    other = make_run(tmp_path / "global", "global")
    ensemble = bihf_jax.load([run, other])
    expected = [bihf_jax.load(path).predict(odd).score for path in (run, other)]
    np.testing.assert_allclose(ensemble.predict(odd).score, np.mean(expected, axis=0), atol=1e-6)
    with pytest.raises(MissingFeaturesError, match=r"exchange in different ways \(local fusion, .*; global fusion"):
        ensemble.predict("unread", fusion_values=True)
    with pytest.raises(MissingFeaturesError, match="those of 2 models have no axes in common; load one of them"):
        ensemble.embed("unread")


def test_what_a_model_cannot_give_is_refused(predictor, tmp_path):
    """Before a structure is read, with what to do."""
    structure_only = bihf_jax.load(make_run(tmp_path / "structure", "structure_only"))
    with pytest.raises(MissingFeaturesError, match=r"no attribution: .* runs only: structure"):
        structure_only.predict("unread", attribution=True)
    for number in (1, -2):
        with pytest.raises(ConfigError, match=f"dropout_samples is {number}; give 0 for none, or at least 2"):
            predictor.predict("unread", dropout_samples=number)
    with pytest.raises(ConfigError, match="no checkpoint is given"):
        bihf_jax.load([])


def test_a_model_without_dropout_has_no_samples(tmp_path):
    """All draws would be equal: told, instead of an interval of no width."""
    still = bihf_jax.load(make_run(tmp_path / "still", noise=False))
    (member,) = still.members
    assert not any(_noise_of((member.config.encoder, member.config.head)))
    with pytest.raises(MissingFeaturesError, match="trained without dropout, so all draws are equal; give several"):
        still.predict("unread", dropout_samples=4)
