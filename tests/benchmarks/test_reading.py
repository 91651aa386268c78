"""`benchmarks.reading`: its table divides what is to be divided."""

import types

import numpy as np

from benchmarks import reading


def test_the_table_compares_rows_not_samples():
    """The pipeline's samples have ten times the rows: in equal time it is ten times as fast."""
    contest = types.SimpleNamespace(
        rows_of_sample=lambda name: {reading.ALONE: 60, reading.REPEATED: 6, reading.REAL: 6}[name]
    )
    times = {
        reading.ALONE: np.array([2.0, 2.0]),
        reading.REPEATED: np.array([2.0, 2.0]),
        reading.REAL: np.array([4.0, 4.0]),
    }
    lines = reading.table(times, contest)
    assert lines[2:] == [
        f"| {reading.ALONE} | 30 [30, 30] | 10 [10, 10] |",
        f"| {reading.REPEATED} | 3 [3, 3] |  |",
        f"| {reading.REAL} | 1.5 [1.5, 1.5] | 0.5 [0.5, 0.5] |",
    ]
