"""The contestants of `benchmarks.esm2_speed` do the same work: ESM-2 here and in transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import esm2_speed
from bihf_jax.data.plan import GridShape, plan_once
from bihf_jax.models import ProteinLanguageModel
from bihf_jax.models.config import PLMConfig

SMALL = PLMConfig(layers=2, width=32, heads=2)


def chains(seed, lengths):
    rng = np.random.default_rng(seed)
    return [esm2_speed.random_chain(rng, residues) for residues in lengths]


def test_packed_and_padded_contestants_are_equal(capsys):
    """Every chain of a padded batch has the same features there as in its packed row, and the check counts them."""
    pytest.importorskip("transformers", reason="the other contestant is transformers' EsmModel")
    contestants = esm2_speed.make_contestants(SMALL)
    records = chains(0, (5, 30, 12, 9))
    plan = plan_once([len(x) for x in records], GridShape({40: 2}, 40, 1), num_devices=1)
    packed = list(esm2_speed.packed_batches(records, plan))
    (padded,) = esm2_speed.padded_batches(records, 1000)
    plm, params = ProteinLanguageModel(contestants.config), esm2_speed.on_devices(contestants.params, 1)
    esm2_speed.check_packing(plm, params, contestants.peer, packed, padded, devices=1)
    assert "4 chains, packed and padded" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="0 of 4 chains"):
        esm2_speed.check_packing(plm, params, contestants.peer, [], padded, devices=1)


def test_gradients_are_those_of_transformers():
    """The gradient of the same sum by every LayerNorm, dense bias and the token embedding is equal to 1e-4."""
    pytest.importorskip("transformers", reason="the other contestant is transformers' EsmModel")
    contestants = esm2_speed.make_contestants(SMALL)
    batch = next(esm2_speed.padded_batches(chains(1, (6, 11)), 1000))
    ours = our_gradient(contestants, batch)
    esm2_speed.peer_functions(contestants.peer, batch)[1]()
    theirs = {name: parameter.grad for name, parameter in contestants.peer.named_parameters()}
    for our_path, their_name in (
        (("embed_tokens", "embedding"), "embeddings.word_embeddings.weight"),
        (("layers_0", "self_attn_layer_norm", "scale"), "encoder.layer.0.attention.LayerNorm.weight"),
        (("layers_1", "self_attn", "v_proj", "bias"), "encoder.layer.1.attention.self.value.bias"),
        (("layers_1", "fc1", "bias"), "encoder.layer.1.intermediate.dense.bias"),
    ):
        mine = ours
        for part in our_path:
            mine = mine[part]
        other = theirs[their_name].numpy()
        used = np.arange(len(other)) != 1  # transformers holds the gradient of <pad> at 0
        np.testing.assert_allclose(np.asarray(mine)[used], other[used], atol=1e-4 * np.abs(other).max())


def our_gradient(contestants, batch):
    """The gradient of our contestant, of its one device."""
    params = esm2_speed.on_devices(contestants.params, 1)
    _, gradient = esm2_speed.our_functions(ProteinLanguageModel(contestants.config), params, batch, 1)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], gradient())


def test_padded_batches_hold_every_chain_once_within_their_slots():
    """In the order given; a chain longer than the budget is a batch of its own."""
    records = chains(2, (10, 20, 70, 5, 5, 5))
    batches = list(esm2_speed.padded_batches(records, 60))
    assert [batch.tokens.shape for batch in batches] == [(2, 22), (1, 72), (3, 7)]
    found = [tokens[segment > 0] for batch in batches for tokens, segment in zip(*batch_rows(batch), strict=True)]
    for one, other in zip(found, records, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [batch.residues for batch in batches] == [30, 70, 15]


def batch_rows(batch):
    return batch.tokens, batch.segment


def test_rates_are_totals_and_their_ratio():
    """Residues over seconds of all rounds, not a mean of rates."""
    line = esm2_speed.rates_line(*(np.asarray(x, float) for x in ([1, 3], [100, 300], [2, 2], [50, 50])))
    assert line == "100 | 25 | 4.00 [4.00, 4.00]"


def test_a_ratio_is_of_paired_rounds_and_a_compiler_that_fails_is_said():
    """Medians of the rates, median and spread of the ratios; without the compiled contestant "fails"."""
    times = {"ours": np.asarray([1.0, 2.0, 4.0]), "eager": np.asarray([2.0, 4.0, 8.0])}
    assert esm2_speed.equal_lengths_line("8M", 1000, times) == "| 8M | 500 | 250 | fails | 2.00 [2.00, 2.00] |  |"


def test_flops_of_a_token_count_the_products():
    """Projections and feed-forward layer of every block, and the two products of attention."""
    config = PLMConfig(layers=2, width=32, heads=2)
    block = 2 * (4 * 32 * 32 + 2 * 32 * 128)
    assert esm2_speed.flops_of_token(config, 10) == 2 * (block + 2 * 2 * 10 * 32)


def test_without_a_gpu_its_part_says_so(capsys):
    """It is skipped with a message, not silently."""
    if jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    esm2_speed.gpu("650M", (512,), rounds=1)
    assert "skipped: JAX runs on cpu here" in capsys.readouterr().out
