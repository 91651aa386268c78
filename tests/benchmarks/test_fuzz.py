"""The fuzz command: its mutations, and that it notices what it looks for. A short run of it is here, too."""

import os
import random
from pathlib import Path

import pytest

from benchmarks import fuzz
from bihf_jax.protein import Protein
from tests.protein.conftest import SAMPLE

SMALL = [SAMPLE / "parser" / name for name in ("1A8O.pdb.gz", "1A8O.cif.gz", "1AS5.cif.gz", "disordered.pdb.gz")]


@pytest.mark.parametrize("mutation", fuzz.MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_each_mutation_changes_files_and_repeats(mutation):
    """It changes most files, is the same for the same seed, and is another for another seed."""
    data = fuzz._read_text(SMALL[1])
    results = [mutation(data, random.Random(seed)) for seed in range(12)]
    assert results == [mutation(data, random.Random(seed)) for seed in range(12)]
    assert sum(result != data for result in results) >= 6 or mutation is fuzz.change_records
    assert len(set(results)) > 1 or mutation is fuzz.change_records


def test_records_of_pdb_are_renamed():
    """`change_records` acts on PDB files."""
    data = fuzz._read_text(SMALL[0])
    assert any(fuzz.change_records(data, random.Random(seed)) != data for seed in range(40))


def test_mutated_files_end_as_a_protein_or_a_structure_error():
    """A few hundred mutations of small real files: no offender, and both ends occur."""
    worker = fuzz.Worker(seconds=20, megabytes=1024)
    outcomes = list(fuzz.run(SMALL, 300, 10**6, worker))
    assert [outcome for outcome in outcomes if outcome.is_offender] == []
    refused = sum(outcome.kind == "refused" for outcome in outcomes)
    assert 30 < refused < 270
    assert any(outcome.kind.startswith("protein, written as pdb") for outcome in outcomes)
    assert worker.peak_megabytes < 1024


def _misbehave(path: Path, seed: int, folder: Path) -> fuzz.Outcome:
    if seed == 1:
        os._exit(3)
    if seed == 2:
        while True:
            pass
    if seed == 3:
        try:
            bytearray(2 * 2**30)
        except MemoryError:
            return fuzz.Outcome(path, seed, "MemoryError", is_offender=True)
    return fuzz.Outcome(path, seed, "protein")


def test_crashes_hangs_and_memory_are_noticed(tmp_path):
    """A process that dies, never ends, or takes too much memory is an offender, and the next trial goes on."""
    worker = fuzz.Worker(seconds=1, megabytes=512, run_trial=_misbehave)
    outcomes = list(fuzz.run([tmp_path], 5, 0, worker))
    assert [outcome.kind for outcome in outcomes] == ["protein", "crash", "hang", "MemoryError", "protein"]
    assert "exit code 3" in outcomes[1].detail


def test_offenders_are_printed_with_a_command_that_repeats_them(monkeypatch, capsys, tmp_path):
    """An exception that is no StructureError makes the exit code 1; file and seed come with it."""

    class _InThisProcess(fuzz.Worker):
        def run(self, path: Path, seed: int) -> fuzz.Outcome:
            return fuzz.trial(path, seed, tmp_path)

    def fail(path: Path, **options) -> Protein:
        raise IndexError("gone")

    monkeypatch.setattr(fuzz, "Worker", _InThisProcess)
    monkeypatch.setattr(fuzz.Protein, "from_file", fail)
    arguments = [str(SMALL[0]), "--count", "2", "--seed", "7", "--keep", str(tmp_path / "kept")]
    assert fuzz.main(arguments) == 1
    printed = capsys.readouterr().out
    assert f"python -m benchmarks.fuzz {SMALL[0]} --seed 7 --count 1" in printed
    assert "IndexError: 'gone' at test_fuzz.py" in printed
    assert "2 offenders" in printed
    assert [path.name[:2] for path in sorted((tmp_path / "kept").iterdir())] == ["7_", "8_"]
