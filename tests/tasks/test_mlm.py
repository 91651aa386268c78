"""Masked-language modelling: what is drawn, the loss and the scores, against numpy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.data.example import sequence_example
from bihf_jax.data.grid import make_grid
from bihf_jax.tasks import MaskedLanguageModelling, make_task, mlm_report
from bihf_jax.tasks.mlm import COUNTS, count_amino_acids, mlm_metrics, token_frequencies, unigram_sums

TASK = MaskedLanguageModelling()
AMINO_ACIDS = np.array(alphabet.AMINO_ACID_TOKENS)


def sequence(seed, length, letters=alphabet.AMINO_ACIDS, weight=1.0):
    drawn = "".join(np.random.default_rng(seed).choice(list(letters), length))
    tokens = np.array([alphabet.CLS, *alphabet.encode_sequence(drawn), alphabet.EOS], np.int8)
    return sequence_example(id=f"s{seed}", source="x", group=f"g{seed}", chain_ids=("A",), tokens=tokens, weight=weight)


def batch_of(rows, length=512, graphs=8):
    """Rows of (record, example) as a batch."""
    return jax.tree.map(jnp.asarray, make_grid(rows, length=length, neighbours=1, graphs=graphs))


@pytest.fixture(scope="module")
def large():
    """(batch of 16,000 residues, the same prepared)."""
    batch = batch_of([[(i, sequence(i, 1000))] for i in range(16)], length=1002)
    return batch, jax.jit(TASK.prepare)(batch, jax.random.key(0))


def test_shares_are_those_of_esm2(large):
    """Of 16,000 residues 15 % are chosen: 80 % of these masked, 10 % another amino acid or by chance the same."""
    batch, prepared = large
    chosen, tokens = np.asarray(prepared.label_mask), np.asarray(prepared.tokens)
    residues = np.isin(batch.tokens, AMINO_ACIDS)
    count = chosen.sum()
    assert abs(count / residues.sum() - 0.15) < 4 * np.sqrt(0.15 * 0.85 / residues.sum())
    masked = (tokens == alphabet.MASK)[chosen].mean()
    changed = (np.isin(tokens, AMINO_ACIDS) & (tokens != batch.tokens))[chosen].mean()
    kept = (tokens == batch.tokens)[chosen].mean()
    for found, share in ((masked, 0.8), (changed, 0.1 * 19 / 20), (kept, 0.1 * 21 / 20)):
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / count)


def test_what_is_not_chosen_stays(large):
    """Outside the chosen slots no token changes; labels are the true tokens; special tokens are never chosen."""
    batch, prepared = large
    chosen = np.asarray(prepared.label_mask)
    np.testing.assert_array_equal(np.asarray(prepared.tokens)[~chosen], np.asarray(batch.tokens)[~chosen])
    np.testing.assert_array_equal(prepared.label, batch.tokens)
    assert np.isin(np.asarray(batch.tokens)[chosen], AMINO_ACIDS).all()


def test_replacements_are_all_amino_acids_alike(large):
    """Every amino acid replaces, none far more often than another."""
    batch, prepared = large
    replaced = np.asarray(prepared.tokens)[(prepared.tokens != batch.tokens) & (prepared.tokens != alphabet.MASK)]
    counts = np.bincount(replaced, minlength=33)[AMINO_ACIDS]
    assert counts.sum() == len(replaced)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 43.8  # chi squared of 19 degrees, p = 0.001


def test_letters_beyond_the_twenty_are_never_chosen():
    """There is nothing to learn in X, B, U, Z and O."""
    batch = batch_of([[(0, sequence(0, 400, "XBUZO"))]])
    prepared = TASK.prepare(batch, jax.random.key(0))
    assert not prepared.label_mask.any()
    np.testing.assert_array_equal(prepared.tokens, batch.tokens)


def test_the_same_key_and_record_draw_the_same():
    """Whatever the row, the neighbours and the number of rows; another key or record draws otherwise."""
    example, other = sequence(0, 200), sequence(1, 100)
    alone = TASK.prepare(batch_of([[(7, example)]]), jax.random.key(3))
    packed = TASK.prepare(batch_of([[(2, other)], [(4, other), (7, example)]]), jax.random.key(3))
    np.testing.assert_array_equal(alone.tokens[0, :202], packed.tokens[1, 102:304])
    np.testing.assert_array_equal(alone.label_mask[0, :202], packed.label_mask[1, 102:304])
    for record, key in ((7, 4), (8, 3)):
        drawn = TASK.prepare(batch_of([[(record, example)]]), jax.random.key(key))
        assert (drawn.label_mask != alone.label_mask).any()


def example_of_all():
    """(prepared batch of five weighted sequences in two rows, random logits)."""
    members = [sequence(i, 60 + 20 * i, weight=1.0 + i) for i in range(5)]
    batch = batch_of([[(0, members[0]), (1, members[1])], [(i, members[i]) for i in (2, 3, 4)]])
    logits = np.random.default_rng(0).normal(size=(2, 512, 33)).astype(np.float32)
    return TASK.prepare(batch, jax.random.key(1)), logits


def test_loss_is_the_cross_entropy_written_out():
    """In numpy, in float64: sum of weight x -log softmax over the chosen residues, and the sum of the weights."""
    batch, logits = example_of_all()
    expected = weights = 0.0
    for row, slot in zip(*np.nonzero(np.asarray(batch.label_mask)), strict=True):
        scores = logits[row, slot].astype(np.float64)
        weight = float(batch.weight[row, slot])
        expected += weight * (np.log(np.exp(scores).sum()) - scores[int(batch.label[row, slot])])
        weights += weight
    sums = TASK.loss(jnp.asarray(logits), batch)
    np.testing.assert_allclose([float(sums.loss), float(sums.weight)], [expected, weights], rtol=1e-5)


def test_sums_of_proteins_are_those_of_the_loss():
    """Together they are the loss; by protein the chosen residues and what was recovered, counted one by one."""
    batch, logits = example_of_all()
    sums = np.asarray(TASK.sums(jnp.asarray(logits), batch))
    total = TASK.loss(jnp.asarray(logits), batch)
    np.testing.assert_allclose(sums[..., 0].sum(), total.loss, rtol=1e-5)
    np.testing.assert_allclose(sums[..., COUNTS].sum(), total.weight, rtol=1e-5)
    assert sums[np.asarray(batch.record) < 0].sum() == 0
    for row, graph in ((0, 1), (1, 2)):
        mine = np.asarray(batch.label_mask[row] & (batch.protein_segment[row] == graph + 1))
        weight = float(batch.weight[row][mine][0])
        labels = np.asarray(batch.label[row])[mine].astype(int)
        guesses = AMINO_ACIDS[logits[row][mine][:, AMINO_ACIDS].argmax(axis=1)]
        counts = [weight * (labels == token).sum() for token in AMINO_ACIDS]
        np.testing.assert_allclose(sums[row, graph, COUNTS], counts, rtol=1e-6)
        np.testing.assert_allclose(sums[row, graph, 1], weight * (guesses == labels).sum(), rtol=1e-6)


def test_logits_of_other_slots_do_not_matter():
    """Infinite and missing numbers at slots that are not asked for leave loss and sums as they are."""
    batch, logits = example_of_all()
    noise = np.where(np.asarray(batch.label_mask)[..., None], logits, np.nan)
    for function in (TASK.loss, TASK.sums):
        for a, b in zip(
            jax.tree.leaves(function(jnp.asarray(logits), batch)),
            jax.tree.leaves(function(jnp.asarray(noise), batch)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def counted(**letters):
    """[22] sums of a protein with so many chosen residues of each letter, and no nats."""
    sums = np.zeros(22)
    for letter, count in letters.items():
        sums[2 + alphabet.AMINO_ACIDS.index(letter)] = count
    return sums


def test_unigram_baseline_by_hand():
    """Training has 59 L, 19 A and 1 of each other, smoothed to 60, 20 and 2 of 116.. : nats and recovery follow."""
    training = np.ones(20)
    training[alphabet.AMINO_ACIDS.index("L")], training[alphabet.AMINO_ACIDS.index("A")] = 59, 19
    frequencies = token_frequencies(training)
    assert frequencies.sum() == pytest.approx(1)
    of_letter = dict(zip(alphabet.AMINO_ACIDS, frequencies, strict=True))
    assert [of_letter[x] for x in "LAK"] == pytest.approx([60 / 116, 20 / 116, 2 / 116])
    found = mlm_metrics(unigram_sums(np.stack([counted(L=3), counted(A=1, K=2)]), frequencies))
    nats = -(3 * np.log(60 / 116) + np.log(20 / 116) + 2 * np.log(2 / 116)) / 6
    assert found["perplexity"] == pytest.approx(np.exp(nats))
    assert found["log_likelihood"] == pytest.approx(-nats)
    assert found["recovery"] == pytest.approx(3 / 6)  # it always says L


def test_amino_acids_are_counted_without_the_rest():
    """Special tokens and X do not count."""
    tokens = np.array([alphabet.CLS, *alphabet.encode_sequence("LLXAU"), alphabet.EOS], np.int8)
    example = sequence_example(id="a", source="", group="", chain_ids=("A",), tokens=tokens, weight=1.0)
    assert dict(zip(alphabet.AMINO_ACIDS, count_amino_acids([example, example]), strict=True)) == dict.fromkeys(
        alphabet.AMINO_ACIDS, 0
    ) | {"L": 4, "A": 2}


def test_report_resamples_clusters():
    """Intervals hold the values; two proteins of one cluster are drawn together; the model's lead is paired."""
    rng = np.random.default_rng(0)
    sums = np.zeros((40, 22))
    sums[:, 2:] = rng.integers(1, 9, (40, 20))
    sums[:, 0] = sums[:, 2:].sum(axis=1) * rng.normal(2.0, 0.1, 40)
    groups = np.repeat(np.arange(20), 2)
    frequencies = np.full(20, 0.05)
    scores = mlm_report.build_scores({"test": sums}, {"test": groups}, frequencies, num_resamples=200)
    entry = scores["splits"]["test"]
    assert (entry["proteins"], entry["clusters"], entry["residues"]) == (40, 20, int(sums[:, 2:].sum()))
    model, unigram = (entry["scores"][name]["perplexity"] for name in ("model", "unigram"))
    assert model["low"] < model["value"] < model["high"]
    assert unigram["value"] == pytest.approx(20) == unigram["low"]
    (difference,) = entry["differences"]
    assert difference["perplexity"]["value"] == pytest.approx(model["value"] - 20)
    assert difference["perplexity"]["share_above_zero"] == 0
    one_cluster = mlm_report.build_scores({"test": sums}, {"test": np.zeros(40)}, frequencies, num_resamples=20)
    assert "one cluster cannot be resampled" in one_cluster["splits"]["test"]["scores"]["model"]["perplexity"]["reason"]
    for table in (mlm_report.score_table(scores), mlm_report.markdown_table(scores)):
        assert f"{model['value']:.3f} [{model['low']:.3f}, {model['high']:.3f}]" in table
        assert "40 sequences in 20 clusters" in table


def test_settings_are_checked():
    for settings, message in (({"chosen": 0}, "chosen must lie"), ({"masked": 0.95}, "together at most 1")):
        with pytest.raises(ValueError, match=message):
            make_task("mlm", settings)
    with pytest.raises(ValueError, match="no residue was chosen"):
        mlm_metrics(np.zeros((3, 22)))
