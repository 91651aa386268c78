"""The head of proteins: a pooling that sees each protein alone, wherever it stands."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.models import HeadConfig, TaskModel
from bihf_jax.models.heads import POOLING_WEIGHT, Head, pool, protein_softmax
from tests.models.batches import noise_where_masked, pack, quick_jit, random_protein, random_variables
from tests.models.test_encoder import small_config

PROTEINS = [random_protein(seed, lengths) for seed, lengths in enumerate([(9, 6), (7,), (12,), (5, 4)])]


def protein_model(method="local", pooling="attention"):
    return TaskModel(small_config(method), HeadConfig(num_outputs=3, unit="protein", pooling=pooling))


def run(model, variables, batch):
    """Logits [R, G, 3] and weights [R, L]."""
    apply = quick_jit(lambda b: model.apply(variables, b, None, method="logits_and_features"))
    logits, features = apply(batch)
    return np.asarray(logits), np.asarray(features.intermediates[POOLING_WEIGHT])


def test_softmax_and_pool_are_those_of_each_protein_alone():
    """Against NumPy, protein by protein, with votes that would overflow without the shift."""
    rng = np.random.default_rng(0)
    protein = np.array([[1, 1, 0, 2, 2, 2, 0, 0], [0, 1, 1, 1, 1, 0, 3, 3]])
    votes = rng.normal(size=(2, 8)).astype(np.float32) * 50 + np.where(protein == 2, 500, -300)
    x = rng.normal(size=(2, 8, 5)).astype(np.float32)
    x[protein == 0] = np.nan
    member = jnp.asarray(protein[..., None] == np.arange(1, 4))
    weight = np.asarray(protein_softmax(jnp.asarray(votes), member))
    pooled = np.asarray(pool(jnp.asarray(x), jnp.asarray(weight), member))
    assert not weight[protein == 0].any()
    for row in range(2):
        for number in (1, 2, 3):
            slots = protein[row] == number
            if not slots.any():
                assert not pooled[row, number - 1].any()
                continue
            power = np.exp(votes[row, slots].astype(np.float64) - votes[row, slots].max())
            np.testing.assert_allclose(weight[row, slots], power / power.sum(), atol=1e-5)
            expected = (power / power.sum()) @ x[row, slots]
            np.testing.assert_allclose(pooled[row, number - 1], expected, atol=1e-5)


def test_attention_starts_as_the_mean():
    """With the parameters of initialisation the weights of both poolings are 1 / residues."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 4)), jnp.float32)
    protein = jnp.array([[0, 1, 1, 1, 2, 0]])
    for pooling in ("mean", "attention"):
        head = Head(HeadConfig(unit="protein", pooling=pooling, hidden_width=8))
        variables = head.init(jax.random.key(0), x, protein, 2)
        _, seen = head.apply(variables, x, protein, 2)
        np.testing.assert_allclose(seen[POOLING_WEIGHT], [[0, 1 / 3, 1 / 3, 1 / 3, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_a_protein_has_its_logits_wherever_it_is_packed(pooling):
    """Alone in a row, behind padding, or among others in any order: the same logits, and weights that add up to one
    over its residues, none at special tokens; noise where nothing is changes nothing."""
    model = protein_model(pooling=pooling)
    batch = pack([[PROTEINS[0], PROTEINS[1], PROTEINS[3]], [PROTEINS[2]]], 64)
    variables = random_variables(model, batch)
    logits, weight = run(model, variables, batch)
    other = pack([[PROTEINS[2]], [PROTEINS[3], PROTEINS[1], PROTEINS[0]]], 64, offset=3)
    moved, _ = run(model, variables, other)
    np.testing.assert_allclose(logits[0, :3], moved[1, [2, 1, 0]], atol=2e-5)
    np.testing.assert_allclose(logits[1, 0], moved[0, 0], atol=2e-5)
    noisy, _ = run(model, variables, noise_where_masked(batch, seed=1))
    np.testing.assert_allclose(noisy[0, :3], logits[0, :3], atol=1e-6)
    segment, tokens = np.asarray(batch.protein_segment), np.asarray(batch.tokens)
    for number in (1, 2, 3):
        assert weight[0][segment[0] == number].sum() == pytest.approx(1, abs=1e-5)
    assert not weight[np.isin(tokens, (alphabet.CLS, alphabet.EOS, alphabet.PAD))].any()
    if pooling == "attention":
        assert weight[0][segment[0] == 1].max() > 2 * weight[0][(segment[0] == 1) & (weight[0] > 0)].min()
    assert np.isfinite(logits).all()


def test_a_structure_only_model_pools_resolved_residues():
    """A residue without coordinates has no weight where the structure alone speaks; a protein without any is finite."""
    model = protein_model("structure_only")
    nowhere = dataclasses.replace(PROTEINS[1], structure_mask=np.zeros(PROTEINS[1].slots, bool))
    nowhere = dataclasses.replace(nowhere, neighbour_mask=np.zeros_like(nowhere.neighbour_mask))
    batch = pack([[PROTEINS[0], nowhere]], 64)
    logits, weight = run(model, random_variables(model, batch), batch)
    assert not weight[~np.asarray(batch.structure_mask)].any()
    assert np.isfinite(logits).all()


def test_unknown_units_and_poolings_are_named():
    with pytest.raises(ValueError, match=r"HeadConfig\.pooling is 'max'; allowed: mean, attention"):
        HeadConfig(pooling="max")
    with pytest.raises(ValueError, match=r"HeadConfig\.unit is 'chain'; allowed: residue, protein"):
        HeadConfig(unit="chain")
