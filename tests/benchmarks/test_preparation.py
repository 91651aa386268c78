"""`benchmarks.preparation`: which files are taken, what the table says, and that an absent library is no failure."""

import gzip
import importlib.util
import json
import subprocess
import sys

import pytest

from benchmarks import preparation
from tests.data_prep.structures import chain_lines


def write_gz(path, residues):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join([*chain_lines("A" * residues), "END", ""]).encode()))


def test_files_are_chosen_by_their_residues(tmp_path):
    """At any depth, in order, no more than asked for; what cannot be read is no file to time."""
    for name, residues in (("a", 20), ("below/b", 30), ("c", 31), ("d", 32), ("e", 40)):
        write_gz(tmp_path / f"{name}.pdb.gz", residues)
    (tmp_path / "broken.pdb.gz").write_bytes(b"no gzip")
    files, residues = preparation.choose_files(tmp_path, 30, 39, most=2)
    assert [path.name for path in files] == ["b.pdb.gz", "c.pdb.gz"]
    assert residues == 30.5
    with pytest.raises(FileNotFoundError, match="with 50 to 60 residues"):
        preparation.choose_files(tmp_path, 50, 60, most=2)


def test_the_table_has_rates_and_ratios():
    """60 structures in 0.5 s are 120 a second; the ratio is that of whole preparations in the same round."""
    times = {
        "ours": [{"parse": 0.4, "all": 0.5}, {"parse": 0.4, "all": 1.0}, {"parse": 0.4, "all": 0.5}],
        "other": [{"all": 5.0}, {"all": 6.0}, {"all": 5.0}],
    }
    lines = list(preparation.table(times, 60))
    assert lines[2:] == [
        "| ours: parse | 150.0 [150.0, 150.0] |  |",
        "| ours: all | 120.0 [60.0, 120.0] |  |",
        "| other: all | 12.0 [10.0, 12.0] | 10.0 times |",
    ]


@pytest.mark.skipif(importlib.util.find_spec("graphein") is not None, reason="graphein is installed")
def test_an_absent_library_is_named(tmp_path):
    """The contestant says what it misses instead of taking part."""
    (tmp_path / "files.json").write_text(json.dumps([]))
    contestant = preparation.Contestant(
        "graphein", sys.executable, tmp_path / "files.json", tmp_path, subprocess.DEVNULL
    )
    contestant.stop()
    assert "No module named 'graphein'" in contestant.missing
