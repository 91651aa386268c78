"""Damaged files through the model: each ends as a prediction or as an error that names the file."""

from collections import Counter

import pytest

from benchmarks import fuzz, prediction_fuzz
from tests.protein.conftest import SAMPLE

SMALL = [SAMPLE / "parser" / name for name in ("1A8O.pdb.gz", "1A8O.cif.gz", "1AS5.cif.gz")]


def test_mutated_files_end_as_a_prediction_or_a_clear_error(run, tmp_path):
    """A few dozen mutations of small real files, one time in five with all files written; thousands: `benchmarks`."""
    outcomes = [prediction_fuzz.trial(run, SMALL[seed % len(SMALL)], seed, tmp_path) for seed in range(48)]
    assert [outcome for outcome in outcomes if outcome.is_offender] == []
    ends = Counter(outcome.kind.split(",")[0].split(":")[0] for outcome in outcomes)
    assert min(ends["prediction"], ends["refused"]) >= 6
    assert sum("written" in outcome.kind for outcome in outcomes) >= 3


@pytest.mark.parametrize("error", [KeyError("gone"), ValueError("does not name the file")])
def test_other_errors_are_noticed(run, tmp_path, monkeypatch, error):
    """An exception of another kind, or one that does not say which file, is an offender."""
    monkeypatch.setattr(prediction_fuzz.Predictor, "predict_many", lambda *_, **__: iter([error]))
    outcome = prediction_fuzz.trial(run, SMALL[0], 1, tmp_path)
    assert outcome.is_offender
    assert outcome.kind == type(error).__name__
    assert isinstance(outcome, fuzz.Outcome)
