"""Scores of a model: hand-worked cases, properties, plain definitions, TM-align, and values that others computed."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihf_jax.protein import Protein, StructureError, assess, residue_constants
from bihf_jax.protein.quality import LDDT_THRESHOLDS, lddt, superposed_scores, tm_scale
from bihf_jax.protein.superposition import superpose
from tests.protein.conftest import SAMPLE
from tests.protein.traces import CA, moved, random_walk, renumbered, trace, with_ca, without_residues

NAMES = ("gdt_ts", "gdt_ha", "tm_score", "lddt")


def noisy(ca: np.ndarray, amplitude: float, seed: int = 0) -> np.ndarray:
    return ca + amplitude * np.random.default_rng(seed).normal(size=ca.shape)


def test_the_native_itself_is_perfect():
    """A real protein against itself, moved as a whole: every score 1, RMSD 0, every residue counted."""
    native = Protein.from_file(SAMPLE / "structures" / "1acb.pdb.gz")
    quality = assess(with_ca(native, moved(native.atom_positions[:, CA])), native)
    assert [getattr(quality, name) for name in NAMES] == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert quality.ca_rmsd < 1e-4
    np.testing.assert_array_equal(quality.residue_lddt_mask, native.atom_mask[:, CA])
    np.testing.assert_allclose(quality.residue_lddt, native.atom_mask[:, CA].astype(float))


def test_missing_residues_count_against_the_model():
    """A perfect model of 45 of 60 residues has GDT 0.75, lDDT of its share of distances, and TM-score 0.75."""
    native = trace(random_walk(60))
    missing = np.arange(40, 55)
    model = without_residues(native, missing)
    quality = assess(model, native)
    assert (quality.gdt_ts, quality.gdt_ha, quality.coverage) == (0.75, 0.75, 0.75)
    assert quality.tm_score == pytest.approx(0.75)
    assert quality.ca_rmsd < 1e-4
    ca = native.atom_positions[:, CA]
    near = np.triu(np.linalg.norm(ca[:, None] - ca, axis=-1) < 15, 1)
    kept = near.copy()
    kept[missing] = kept[:, missing] = False
    assert quality.lddt == pytest.approx(kept.sum() / near.sum())
    assert quality.num_native == 60


def test_residues_that_the_native_lacks_are_not_looked_at():
    """A model that is longer than the native is scored over the native, and its further residues are masked."""
    model = trace(random_walk(60))
    native = without_residues(model, np.arange(20, 30))
    quality = assess(model, native)
    assert [getattr(quality, name) for name in NAMES] == pytest.approx([1, 1, 1, 1], abs=1e-6)
    np.testing.assert_array_equal(~quality.residue_lddt_mask, np.isin(np.arange(60), np.arange(20, 30)))


def test_numbering_does_not_matter():
    """A model numbered otherwise has the scores of the same model numbered alike."""
    native = trace(random_walk(60))
    model = with_ca(native, noisy(random_walk(60), 1.0))
    assert assess(renumbered(model, 101), native).scores() == assess(model, native).scores()


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_body_in_the_wrong_place(share):
    """A share of the chain is right and the rest 100 Å away: GDT is the share, TM-score hardly more."""
    native = random_walk(80)
    model = native.copy()
    num_right = round(share * 80)
    model[num_right:] += [100.0, 0, 0]
    scores = superposed_scores(moved(model), native, 80)
    assert (scores["gdt_ts"], scores["gdt_ha"]) == (share, share)
    assert share <= scores["tm_score"] < share + 0.01


def test_shifted_residues_fall_below_one_cutoff_after_the_other():
    """40 residues fixed, 10 each shifted by 0.7, 1.5, 3 and 6 Å, half one way and half the other: GDT by hand."""
    native = random_walk(80)
    shift = np.zeros((80, 3))
    for row, size in zip(range(0, 80, 2), [0.7] * 10 + [1.5] * 10 + [3.0] * 10 + [6.0] * 10, strict=True):
        shift[row, row // 2 % 3] = size if row % 4 else -size
    scores = superposed_scores(moved(native + shift), native, 80)
    by_hand = [np.mean(np.linalg.norm(shift, axis=1) <= cutoff) for cutoff in (0.5, 1, 2, 4, 8)]
    # A superposition can do a little better than the one that lays the fixed residues on themselves.
    assert np.mean(by_hand[1:]) <= scores["gdt_ts"] <= np.mean(by_hand[1:]) + 0.02
    assert np.mean(by_hand[:-1]) <= scores["gdt_ha"] <= np.mean(by_hand[:-1]) + 0.03


def test_a_mirror_image_is_poor_but_for_lddt():
    """No rotation makes a mirror image of a real protein right; distances alone cannot tell it."""
    native = Protein.from_file(SAMPLE / "parser" / "5PTI.cif.gz")
    quality = assess(with_ca(native, native.atom_positions[:, CA] * [-1, 1, 1]), native)
    assert quality.gdt_ts < 0.5
    assert quality.tm_score < 0.4
    assert quality.lddt == pytest.approx(1, abs=1e-6)


@given(st.integers(0, 10**6), st.floats(0.2, 6.0), st.integers(8, 60))
@settings(max_examples=25, deadline=None)
def test_bounds_hold_for_any_model(seed, amplitude, num):
    """GDT-HA <= GDT-TS <= 1; all of them at least what the optimal superposition of all residues gives."""
    native = random_walk(num, seed)
    model = moved(noisy(native, amplitude, seed), seed)
    scores = superposed_scores(model, native, num)
    distance = np.linalg.norm(superpose(model, native).apply(model) - native, axis=1)
    floor = [np.mean([np.mean(distance <= cutoff) for cutoff in cutoffs]) for cutoffs in ((1, 2, 4, 8), (0.5, 1, 2, 4))]
    assert floor[1] <= scores["gdt_ha"] <= scores["gdt_ts"] <= 1
    assert floor[0] <= scores["gdt_ts"]
    assert np.mean(1 / (1 + (distance / tm_scale(num)) ** 2)) <= scores["tm_score"] + 1e-9 <= 1 + 1e-9


def test_scores_fall_as_the_noise_grows():
    """Along one direction of noise every score falls and the RMSD grows."""
    native = trace(random_walk(100))
    qualities = [assess(with_ca(native, noisy(random_walk(100), a)), native) for a in (0, 0.3, 0.6, 1.2, 2.4, 4.8, 9.6)]
    for name in NAMES:
        assert (np.diff([getattr(quality, name) for quality in qualities]) <= 1e-9).all(), name
    assert (np.diff([quality.ca_rmsd for quality in qualities]) > 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_no_superposition_of_any_three_residues_is_better(seed):
    """None of 3,000 superpositions of three residues, wherever in the chain, is ahead of what the search finds."""
    native = random_walk(60, seed)
    model = noisy(native, 1.5, seed)
    triples = np.random.default_rng(seed).random((3000, 60)).argsort(axis=1)[:, :3]
    weights = np.zeros((len(triples), 60))
    np.put_along_axis(weights, triples, 1.0, axis=1)
    distance = np.linalg.norm(superpose(model, native, weights).apply(model) - native, axis=-1)
    scores = superposed_scores(model, native, 60)
    assert scores["gdt_ts"] >= np.mean([(distance <= cutoff).mean(axis=1).max() for cutoff in (1, 2, 4, 8)])
    assert scores["tm_score"] >= (1 / (1 + (distance / tm_scale(60)) ** 2)).mean(axis=1).max()


@pytest.mark.parametrize(("num", "scale"), [(5, 0.5), (21, 0.5), (100, 3.6522), (300, 6.3602)])
def test_tm_scale(num, scale):
    """d0 by hand: 1.24 x 85^(1/3) - 1.8 = 3.6522 for 100 residues; 0.5 for short ones."""
    assert tm_scale(num) == pytest.approx(scale, abs=1e-3)


def _plain_lddt(model: np.ndarray, native: np.ndarray, present: np.ndarray) -> tuple[float, np.ndarray]:
    """The definition, pair by pair: of the whole and of each residue."""
    kept, of_residue = [], [[] for _ in native]
    for i in range(len(native)):
        for j in range(i):
            distance = np.linalg.norm(native[i] - native[j])
            if distance < 15:
                change = abs(np.linalg.norm(model[i] - model[j]) - distance)
                share = sum(change <= threshold for threshold in LDDT_THRESHOLDS) / 4
                share = share if present[i] and present[j] else 0.0
                kept.append(share)
                of_residue[i].append(share)
                of_residue[j].append(share)
    return np.mean(kept), np.array([np.mean(shares) if shares else np.nan for shares in of_residue])


@pytest.mark.parametrize("seed", range(3))
def test_lddt_equals_its_definition(seed):
    """The whole and each residue, with missing residues and one that is far from all others."""
    native = random_walk(50, seed)
    native[20] += 1000.0
    model, present = noisy(native, 1.0, seed), np.random.default_rng(seed).random(50) < 0.8
    score, of_residue, counted = lddt(model, native, present)
    expected, expected_of_residue = _plain_lddt(model, native, present)
    assert score == pytest.approx(expected)
    np.testing.assert_array_equal(counted, ~np.isnan(expected_of_residue))
    np.testing.assert_allclose(of_residue[counted], expected_of_residue[counted], atol=1e-6)
    assert (of_residue[20], counted[20]) == (0, False)


def test_lddt_by_hand():
    """Three residues on a line; one moved by 1.5 Å along it keeps one distance and half of the other two."""
    native = np.array([[0.0, 0, 0], [4, 0, 0], [8, 0, 0]])
    model = native + np.array([[0.0, 0, 0], [0, 0, 0], [1.5, 0, 0]])
    score, of_residue, _ = lddt(model, native, np.ones(3, bool))
    assert score == pytest.approx((1 + 0.5 + 0.5) / 3)
    np.testing.assert_allclose(of_residue, [0.75, 0.75, 0.5])


def test_lddt_sees_no_motion_of_domains():
    """Two domains that turn against each other keep their own distances: lDDT stays high where GDT falls."""
    native = np.concatenate([random_walk(60, 1), random_walk(60, 2) + 60])
    model = np.concatenate([native[:60], moved(native[60:])])
    scores = superposed_scores(model, native, 120)
    assert lddt(model, native, np.ones(120, bool))[0] > 0.95
    assert scores["gdt_ts"] < 0.6


def test_lddt_without_any_distance_is_an_error():
    """A native without two residues within 15 Å has no lDDT."""
    far = np.arange(5)[:, None] * np.array([20.0, 0, 0])
    with pytest.raises(ValueError, match="no two of 5 CA atoms"):
        lddt(far, far, np.ones(5, bool))


def test_strangers_are_refused():
    """A model that shares no residue with the native is an error that names both."""
    native = trace(random_walk(40))
    stranger = trace(random_walk(40), sequence="W" * 40)
    with pytest.raises(StructureError, match=r"share 0 residues with a CA, at least 3"):
        assess(stranger, native)
    with pytest.raises(ValueError, match="fewer than the 40 shared"):
        superposed_scores(random_walk(40), random_walk(40), 39)


def _tm_align(model: np.ndarray, native: np.ndarray) -> tuple[float, np.ndarray]:
    """TM-align's score normalised by the native, and the model [n, 3] as TM-align lays it on the native."""
    tmtools = pytest.importorskip("tmtools", reason="parity of the TM-score needs tmtools: pip install tmtools")
    sequence = "A" * len(model)
    result = tmtools.tm_align(model.astype(float), native.astype(float), sequence, sequence)
    return result.tm_norm_chain2, model @ result.u.T + result.t


@pytest.mark.parametrize("amplitude", [0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("name", ["structures/1acb.pdb.gz", "parser/5PTI.cif.gz", "structures/1jwh.pdb.gz"])
def test_tm_score_against_tm_align(name, amplitude):
    """TM-align's superposition is no better for the same residues, and its score close where it aligns them so.

    TM-align also chooses which residues belong together, so its own score can be higher, and grossly so only for models
    in which the right residues are far apart.
    """
    protein = Protein.from_file(SAMPLE / name)
    native = protein.atom_positions[protein.atom_mask[:, CA] & (protein.chain_index == 0), CA].astype(float)
    model = moved(noisy(native, amplitude, 1), 1)
    ours = superposed_scores(model, native, len(native))["tm_score"]
    theirs, laid = _tm_align(model, native)
    distance = np.linalg.norm(laid - native, axis=1)
    assert ours >= np.mean(1 / (1 + (distance / tm_scale(len(native))) ** 2)) - 1e-4
    if amplitude <= 1:
        assert ours == pytest.approx(theirs, abs=0.002)


@pytest.mark.shared_data
def test_scores_agree_with_those_that_come_with_the_decoys(shared_data):
    """On every 16th decoy of 1CTF the CA-RMSD is that of the index, and GDT-TS at least that of its search."""
    with open(shared_data / "MQA" / "index.tsv", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["set"] == "4state_1ctf"]
    rows = [row for row in rows if "a8359_r" not in row["model_file"]]  # a damaged file
    native = Protein.from_file(shared_data / rows[0]["native_file"])
    for row in rows[::16]:
        quality = assess(Protein.from_file(shared_data / row["model_file"]), native)
        assert quality.match.num_shared == int(row["n_aligned"])
        assert quality.ca_rmsd == pytest.approx(float(row["ca_rmsd_A"]), abs=0.001)
        assert -0.008 <= quality.gdt_ts - float(row["gdt_ts"]) <= 0.03


def test_unresolved_residues_of_the_native_do_not_count():
    """Residues of the native without a CA are no part of its length."""
    native = trace(random_walk(30))
    mask = native.atom_mask.copy()
    mask[:6] = False
    positions = np.where(mask[..., None], native.atom_positions, 0)
    unresolved = Protein(**{**vars(native), "atom_mask": mask, "atom_positions": positions})
    quality = assess(native, unresolved)
    assert (quality.num_native, quality.gdt_ts) == (24, 1)
    assert residue_constants.ATOM_NAMES[CA] == "CA"
