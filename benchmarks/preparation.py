"""Structures a second of one core, from gzipped PDB files to written records; beside graphein and ATOM3D.

    python -m benchmarks.preparation FOLDER [--python graphein=PYTHON] [--python atom3d=PYTHON]

takes the files below FOLDER (.pdb.gz) that have 250 to 350 residues. Contestants are processes that take turns, each
with the Python that has its library (their requirements exclude each other): ours is `data_prep.build`, whole. Times
are CPU seconds, so that neighbours disturb little; the first round of each, which imports and fills caches, is not
counted. A library that is absent is named and left out.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.preparation import PREPARE
from bihf_jax.protein import Protein, StructureError

_WORKER = Path(__file__).parent / "peers" / "preparation.py"


class Contestant:
    """A process that prepares the files whenever it is asked to."""

    def __init__(self, name: str, python: str, files: Path, folder: Path, log: Any) -> None:
        """Starts it; `missing` says why it cannot take part, and is empty where it can."""
        self.name = name
        self._process = subprocess.Popen(
            [python, str(_WORKER), name, str(files), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Ours finds this project from here; the others' Python need not have it.
            env=None if name != "ours" else _with_this_project(),
        )
        answer = self._process.stdout.readline()
        self.missing = json.loads(answer).get("missing", "") if answer else "it ended before it began; see the log"

    def prepare(self) -> dict[str, float]:
        """CPU seconds by stage, of one preparation of all files.

        Raises:
          RuntimeError: it failed; its log says why.
        """
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} failed")
        return json.loads(answer)

    def stop(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def _with_this_project() -> dict[str, str]:
    path = [str(_WORKER.parents[2]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def choose_files(folder: Path, low: int, high: int, most: int) -> tuple[list[Path], float]:
    """Gzipped PDB files below a folder that have so many residues, up to `most`, and their mean number of residues.

    Raises:
      FileNotFoundError: there is none.
    """
    chosen, residues = [], []
    for path in sorted(folder.rglob("*.pdb.gz")):
        try:
            number = Protein.from_file(path).num_residues
        except StructureError:
            continue  # not a structure that a contestant could be timed on
        if low <= number <= high:
            chosen.append(path.resolve())
            residues.append(number)
        if len(chosen) == most:
            break
    if not chosen:
        raise FileNotFoundError(f"{folder}: no .pdb.gz file with {low} to {high} residues")
    return chosen, float(np.mean(residues))


def measure(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Name -> CPU seconds by stage of each round; the contestants take turns, and their first round is left out."""
    times: dict[str, list[dict[str, float]]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            seconds = contestant.prepare()
            if number:
                times[contestant.name].append(seconds)
    return times


def table(times: dict[str, list[dict[str, float]]], files: int) -> Iterator[str]:
    """Lines of the Markdown table: structures a second, and how many times faster our whole build is."""
    yield "| | structures/s of a core, median [min, max] | whole build is faster by |"
    yield "|---|---|---|"
    whole = np.array([seconds["all"] for seconds in times["ours"]])
    for name, of_rounds in times.items():
        for stage in of_rounds[0]:
            seconds = np.array([of_round[stage] for of_round in of_rounds])
            rate = f"{files / np.median(seconds):,.1f} [{files / seconds.max():,.1f}, {files / seconds.min():,.1f}]"
            ratio = "" if name == "ours" else f"{np.median(seconds / whole):.1f} times"
            yield f"| {name}: {stage} | {rate} | {ratio} |"


def main() -> None:
    """Parses arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with .pdb.gz files at any depth")
    parser.add_argument("--residues", default="250-350", help="of a structure")
    parser.add_argument("--files", type=int, default=60, help="at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON", help="that has a library")
    parser.add_argument("--contestants", default=",".join(PREPARE), help="beside ours")
    arguments = parser.parse_args()
    python_of = dict(pair.split("=", 1) for pair in arguments.python)
    names = list(dict.fromkeys(["ours", *arguments.contestants.split(",")]))
    if unknown := ({*names, *python_of} - PREPARE.keys()):
        parser.error(f"there is no contestant {', '.join(sorted(unknown))}; there are {', '.join(PREPARE)}")
    low, high = map(int, arguments.residues.split("-"))
    files, residues = choose_files(arguments.folder, low, high, arguments.files)
    with tempfile.TemporaryDirectory() as folder, open(Path(folder, "log"), "w+", encoding="utf-8") as log:
        Path(folder, "files.json").write_text(json.dumps(list(map(str, files))), "utf-8")
        started = [
            Contestant(name, python_of.get(name, sys.executable), Path(folder, "files.json"), Path(folder), log)
            for name in names
        ]
        try:
            for contestant in started:
                if contestant.missing:
                    print(f"{contestant.name} is left out: {contestant.missing}", file=sys.stderr)
            times = measure([contestant for contestant in started if not contestant.missing], arguments.rounds)
        except RuntimeError:
            log.seek(0)
            sys.exit(log.read())
        finally:
            for contestant in started:
                contestant.stop()
    print(f"{len(files)} files of {residues:.0f} residues on average, {arguments.rounds} rounds\n")
    print("\n".join(table(times, len(files))))


if __name__ == "__main__":
    main()
