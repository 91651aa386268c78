"""Tests of `bihf_jax.models.windows`, and of the pLM and the encoder on chains that are longer than a window."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models.config import EncoderConfig, FusionConfig, MPNNConfig, PLMConfig
from bihf_jax.models.encoder import FusedEncoder
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.models.windows import chain_positions, chain_slots, make_windows
from tests.models.batches import pack, quick_jit, random_protein
from tests.models.chains import in_one_row, random_chains

TRAINED = 18  # residues: windows of 20 slots, pieces of 10
WINDOW, HALF = TRAINED + 2, (TRAINED + 2) // 2
CONFIG = PLMConfig(layers=2, width=16, heads=2, trained_length=TRAINED)
UNLIMITED = dataclasses.replace(CONFIG, trained_length=10_000)


@functools.cache
def params():
    """Of a pLM of two blocks."""
    return ProteinLanguageModel(CONFIG).init(jax.random.key(0), *in_one_row(random_chains(0, (4,)), 8))["params"]


@functools.cache
def compiled(config):
    """The compiled pLM: tokens, segments and mask [R, L] -> features [R, L, C]."""
    plm, variables = ProteinLanguageModel(config), {"params": params()}
    return quick_jit(lambda row: plm.apply(variables, *row))


def features(chains, length=64, offset=0, config=CONFIG):
    """Features of each chain [slots, C], in one row with the others."""
    row = compiled(config)(in_one_row(chains, length, offset))[0]
    return np.split(np.asarray(row)[offset : offset + sum(map(len, chains))], np.cumsum([len(c) for c in chains])[:-1])


def segments_of(*slots, length=64):
    """[1, length]: chains of so many slots, one after the other."""
    return jnp.asarray(np.pad(np.repeat(np.arange(1, len(slots) + 1), slots), (0, length - sum(slots)))[None])


def test_positions_restart_at_every_chain():
    """A position is the slot's offset in its chain, wherever the chain stands."""
    segment = jnp.asarray([[0, 1, 1, 1, 2, 2, 0, 3], [1, 1, 2, 2, 2, 0, 0, 0]])
    positions = chain_positions(segment)
    np.testing.assert_array_equal(positions, [[0, 0, 1, 2, 0, 1, 0, 0], [0, 1, 0, 1, 2, 0, 1, 2]])


def test_slots_of_each_chain():
    """Every slot knows how long its chain is; padding is none."""
    np.testing.assert_array_equal(chain_slots(jnp.asarray([[1, 1, 2, 3, 3, 3, 0]])), [[2, 2, 1, 3, 3, 3, 0]])


def test_rows_that_fit_into_a_window_have_one_set():
    """The pLM then has the program that it has without windows."""
    segment = segments_of(9, 5, length=WINDOW)
    windows = make_windows(segment, TRAINED)
    assert windows.segments == (segment,)
    assert windows.weight is None


@pytest.mark.parametrize("slots", [WINDOW + 1, WINDOW + HALF, 2 * WINDOW, 2 * WINDOW + 1, 57])
def test_windows_of_a_long_chain(slots):
    """Both sets divide the chain in order, no window is too long, and no weight is at the edge of a cut window."""
    windows = make_windows(segments_of(slots), TRAINED)
    even, odd = (np.asarray(segment)[0] for segment in windows.segments)
    weight = np.asarray(windows.weight)[0]
    assert bool(windows.needed)
    assert not even[slots:].any()
    assert not odd[slots:].any()
    covered = np.zeros(slots, int)
    for segment, of_set in ((even, weight), (odd, 1 - weight)):
        assert np.isin(np.diff(segment[:slots]), (0, 1)).all()
        for number in np.unique(segment[:slots]):
            (inside,) = np.nonzero(segment == number)
            assert len(inside) <= WINDOW
            covered[inside] += of_set[inside] > 0
            at_cut = [slot for slot in (inside[0], inside[-1]) if 0 < slot < slots - 1]
            assert (of_set[at_cut] <= 0.5 / HALF + 1e-6).all()
    # The weight of a set changes a little from slot to slot, and by no jump.
    assert np.abs(np.diff(weight[:slots])).max() <= 1 / HALF + 1e-6
    assert (weight >= 0).all()
    assert (weight <= 1).all()
    # A slot that two windows cover has the middle of one of them no farther than a piece away.
    assert covered.min() == 1
    assert covered.max() == 2
    assert (covered[:HALF] == 1).all()


def test_short_chains_are_one_window_of_full_weight():
    """In a row of any length, beside a long chain or without one."""
    for slots, needed in (((WINDOW, 5, WINDOW), False), ((WINDOW, 2 * WINDOW, 3), True)):
        segment = segments_of(*slots)
        windows = make_windows(segment, TRAINED)
        assert bool(windows.needed) == needed
        short = np.asarray(chain_slots(segment)) <= WINDOW
        assert (np.asarray(windows.weight)[short] == 1).all()
        first = np.asarray(windows.segments[0])
        for number in (1, len(slots)):
            assert len(np.unique(first[np.asarray(segment) == number])) == 1


def test_chains_up_to_the_limit_are_not_touched():
    """Bit for bit what the pLM without windows gives, alone or beside a long chain; the long chain is not that."""
    short, longest, long = random_chains(1, (7, TRAINED, TRAINED + 9))
    for chains in ([short, longest], [long, short], [short]):
        for chain, found, plain in zip(chains, features(chains), features(chains, config=UNLIMITED), strict=True):
            if chain is long:
                assert np.abs(found - plain).max() > 1e-3
            else:
                np.testing.assert_array_equal(found, plain)


def test_a_long_chain_is_the_weighted_mean_of_its_windows():
    """Each window as a chain of its own through the pLM without windows, put together by hand."""
    (chain,) = random_chains(2, (50,))  # 52 slots: 6 pieces, the last of 2
    starts = range(0, len(chain) - HALF, HALF)
    parts = [features([chain[start : start + WINDOW]], config=UNLIMITED)[0] for start in starts]
    total, mean = np.zeros(len(chain)), np.zeros((len(chain), CONFIG.width))
    for start, part in zip(starts, parts, strict=True):
        slots = np.arange(start, start + len(part))
        rising = np.ones(len(part)) if start == 0 else np.minimum((np.arange(len(part)) + 0.5) / HALF, 1)
        last = start + len(part) == len(chain)
        falling = np.ones(len(part)) if last else np.minimum((WINDOW - np.arange(len(part)) - 0.5) / HALF, 1)
        total[slots] += np.minimum(rising, falling)
        mean[slots] += np.minimum(rising, falling)[:, None] * part
    np.testing.assert_allclose(total, 1, atol=1e-6)
    np.testing.assert_allclose(features([chain])[0], mean, atol=2e-5)


def test_one_residue_over_the_limit_changes_little_where_the_window_is_the_same():
    """The first window of a chain that is one slot too long is all the rest of the chain."""
    (chain,) = random_chains(3, (TRAINED + 1,))
    over, whole = features([chain])[0], features([chain[:WINDOW]])[0]
    np.testing.assert_allclose(over[:HALF], whole[:HALF], atol=1e-5)
    # From there on the second window, which lacks the first half, comes in with a weight that grows from nothing.
    difference = np.abs(over[:WINDOW] - whole).max(axis=1)
    assert difference[HALF] < 0.1 * difference[HALF:].max() + 1e-5


def test_place_padding_and_company_of_a_long_chain_do_not_matter():
    """At another place of a longer row, and with others in it."""
    long, short, other = random_chains(4, (40, 6, 25))
    alone = features([long])[0]
    np.testing.assert_allclose(features([short, long, other], length=128, offset=7)[1], alone, atol=1e-5)


def test_gradients_of_long_chains():
    """The derivative along the parameters is that of finite differences."""
    plm, unscaled = ProteinLanguageModel(CONFIG), params()
    row = in_one_row(random_chains(5, (45, 6)), 64)
    probe = jnp.sin(jnp.arange(64 * CONFIG.width, dtype=jnp.float32)).reshape(1, 64, CONFIG.width)

    def loss(scale):
        scaled = jax.tree.map(lambda x: x * scale, unscaled)
        return jnp.sum(plm.apply({"params": scaled}, *row) * probe)

    value = quick_jit(loss)
    by_differences = (value(1.0 + 5e-3) - value(1.0 - 5e-3)) / 1e-2
    assert quick_jit(jax.grad(loss))(1.0) == pytest.approx(float(by_differences), rel=0.02)


def test_one_program_for_long_and_short_chains():
    """Whether a chain is divided is decided while the program runs: it is compiled once a shape."""
    plm, variables, traces = ProteinLanguageModel(CONFIG), {"params": params()}, []

    @quick_jit
    def run(row):
        traces.append(None)
        return plm.apply(variables, *row)

    for lengths in ((45,), (6, 6), (18, 18)):
        run(in_one_row(random_chains(6, lengths), 64))
    assert len(traces) == 1


def test_the_encoder_fuses_the_mean_of_the_windows():
    """A new encoder's sequence side is the pLM on windows, whatever the stages: the exchanges start at zero."""
    config = EncoderConfig(
        plm=CONFIG,
        structure=MPNNConfig(width=8, neighbours=4),
        fusion=FusionConfig.named("local", width=8),
        stages=2,
        representation_width=8,
    )
    batch = pack([[random_protein(7, (30, 8), degree=4)]], 64)
    encoder = FusedEncoder(config)
    variables = quick_jit(encoder.init)(jax.random.key(0), pack([[random_protein(7, (8,), degree=4)]], 16))
    output = quick_jit(encoder.apply)(variables, batch)
    plm = functools.partial(ProteinLanguageModel(CONFIG).apply, {"params": variables["params"]["plm"]})
    expected = quick_jit(plm)(batch.tokens, batch.chain_segment, batch.sequence_mask)
    mask = np.asarray(batch.sequence_mask)[..., None]
    np.testing.assert_allclose(output.sequence, np.where(mask, expected, 0), atol=1e-5)
