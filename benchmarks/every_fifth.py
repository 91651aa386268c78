"""The naive split of Docking Benchmark 5.5, for comparison: every fifth complex is held out, relatives or not.

    python -m benchmarks.every_fifth STRUCTURES > every_fifth.csv
    python -m data_prep.build ppbs --structures STRUCTURES --layout db5 --split-file every_fifth.csv --out RECORDS

Of the complexes by id, the first of each five is tested; of each twenty, the second picks the checkpoint. The build
prints how many held-out complexes have a relative in training.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.sources import complexes
from data_prep.structure_files import list_files


def every_fifth(ids: Sequence[str]) -> dict[str, str]:
    """Complex id -> split, in the order of the ids."""
    return {
        complex_id: "test" if number % 5 == 0 else "validation" if number % 20 == 1 else "train"
        for number, complex_id in enumerate(sorted(ids))
    }


def main(arguments: Sequence[str]) -> int:
    """Prints the CSV; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m benchmarks.every_fifth STRUCTURES", file=sys.stderr)
        return 2
    files, _ = list_files(Path(arguments[0]))
    split_of = every_fifth([complex.id for complex in complexes.complexes_of_db5(files)])
    print("complex,split")
    for complex_id, split in split_of.items():
        print(f"{complex_id},{split}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
