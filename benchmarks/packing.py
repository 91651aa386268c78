"""How full the residue grid is: packed rows against the padded batches that one would otherwise make.

    python -m benchmarks.packing RECORDS [RECORDS ...]

For each record set (all splits together): its records (partners) and its whole complexes (the records of a complex as
one protein), over one epoch in rows of 1,024 and 2,048 slots. As in training, what is longer than a row is cropped to
it and the last step is completed with empty rows. Beside it: shuffled batches of 8, each padded to its longest.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data.plan import GridShape, fill, make_plan
from bihf_jax.data.records import RecordSet, read_metadata

LENGTHS = (1024, 2048)
ROWS = (2, 4, 16)
SEEDS = range(5)


def packed_fill(slots: np.ndarray, length: int, rows: int, seed: int) -> float:
    """Fill of one epoch in steps of `rows` rows of `length` slots."""
    shape = GridShape({length: rows}, graphs_per_row=64, neighbours=1)
    return fill(make_plan(slots, shape, seed=seed), slots)


def padded_fill(slots: np.ndarray, seed: int, batch: int = 8) -> float:
    """Fill of shuffled batches of 8, each padded to its longest."""
    shuffled = np.random.default_rng(seed).permutation(slots)
    batches = [shuffled[i : i + batch] for i in range(0, len(shuffled), batch)]
    return float(slots.sum() / sum(len(b) * b.max() for b in batches))


def complex_slots(records: Sequence[RecordSet]) -> np.ndarray:
    """Slots of each whole complex."""
    groups = np.array([group for record_set in records for group in record_set.groups])
    slots = np.concatenate([record_set.slots for record_set in records])
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, weights=slots).astype(int)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", type=Path, nargs="+", help="record sets of data_prep.build")
    arguments = parser.parse_args()
    header = " ".join(f"{f'{rows} rows':>8}" for rows in ROWS)
    print(f"{'set':<24} {'proteins':>8} {'longest':>8} {'L':>6}  {header}  {'padded by 8':>12}")
    for directory in arguments.records:
        sets = [RecordSet(directory, split) for split in read_metadata(directory)["splits"]]
        partners = np.concatenate([record_set.slots for record_set in sets])
        for name, slots in (("partners", partners), ("complexes", complex_slots(sets))):
            padded = np.mean([padded_fill(slots, seed) for seed in SEEDS])
            for length in LENGTHS:
                packed = [np.mean([packed_fill(slots, length, rows, seed) for seed in SEEDS]) for rows in ROWS]
                columns = " ".join(f"{value:>8.3f}" for value in packed)
                title = f"{directory.name} {name}"
                print(f"{title:<24} {len(slots):>8} {slots.max():>8} {length:>6}  {columns}  {padded:>12.3f}")


if __name__ == "__main__":
    main()
