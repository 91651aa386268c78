"""Scores of `bihf_jax.protein.assess` against those of a table, and against TM-align.

    python -m benchmarks.quality ../shared/data/MQA [--every 4]

The table is `index.tsv` (set, target, model_file, native_file, n_aligned, gdt_ts, ca_rmsd_A; files relative to the
folder above it), whose GDT-TS was computed by a superposition search of other authors, over the residues that its
alignment shares; ours is divided by the coverage for the comparison. Rows are compared where both share equally many
residues; the others are counted. Where tmtools is installed, TM-align lays each model on its native, and the TM-score
of the same residues under that superposition is set beside ours: ours should not be lower.
"""

import argparse
import csv
import dataclasses
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bihf_jax.protein import Protein, Quality, StructureError, assess, residue_constants
from bihf_jax.protein.quality import tm_scale

_CA = residue_constants.ATOM_INDEX["CA"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One row: ours minus the table's. None where the residues differ or TM-align is not asked."""

    same_residues: bool
    gdt_ts: float
    ca_rmsd: float  # Å
    tm_score: float | None  # ours minus that of TM-align's superposition


def compare(folder: Path, every: int = 1) -> tuple[dict[str, list[Difference]], Counter]:
    """Set -> differences of every so many rows of the table, and rows that could not be scored, by reason."""
    with open(folder / "index.tsv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[::every]
    differences, failed = defaultdict(list), Counter()
    for row in tqdm(rows, unit=" models", disable=None):
        try:
            model, native = (Protein.from_file(folder.parent / row[name]) for name in ("model_file", "native_file"))
            quality = assess(model, native)
        except StructureError as error:
            failed[str(error)] += 1
            continue
        differences[row["set"]].append(_difference(row, quality, model, native))
    return differences, failed


def _difference(row: dict[str, str], quality: Quality, model: Protein, native: Protein) -> Difference:
    theirs = tm_align_score(quality, model, native)
    return Difference(
        quality.match.num_shared == int(row["n_aligned"]),
        quality.gdt_ts / quality.coverage - float(row["gdt_ts"]),
        quality.ca_rmsd - float(row["ca_rmsd_A"]),
        None if theirs is None else quality.tm_score - theirs,
    )


def tm_align_score(quality: Quality, model: Protein, native: Protein) -> float | None:
    """TM-score of the shared residues under TM-align's superposition; None where tmtools is not installed."""
    try:
        import tmtools
    except ImportError:
        return None
    points = [
        protein.atom_positions[rows, _CA].astype(np.float64)
        for protein, rows in ((model, quality.match.model_rows), (native, quality.match.native_rows))
    ]
    sequence = "A" * len(points[0])
    result = tmtools.tm_align(*points, sequence, sequence)
    distance = np.linalg.norm(points[0] @ result.u.T + result.t - points[1], axis=1)
    return float((1 / (1 + (distance / tm_scale(quality.num_native)) ** 2)).sum() / quality.num_native)


def table(differences: dict[str, list[Difference]]) -> str:
    """One line a set and score: how many rows agree to the last digit of the table, mean, lowest and highest."""
    lines = [f"{'set':<16} {'score':<10} {'rows':>5} {'equal':>6} {'mean':>8} {'lowest':>8} {'highest':>8}"]
    for name, found in differences.items():
        same = [difference for difference in found if difference.same_residues]
        for score, digit in (("gdt_ts", 1e-4), ("ca_rmsd", 1e-3)):
            lines.append(_line(name, score, np.array([getattr(d, score) for d in same]), digit))
        tm = [difference.tm_score for difference in found if difference.tm_score is not None]
        if tm:
            lines.append(_line(name, "tm_score", np.array(tm), 1e-4))
        lines.append(f"{name:<16} {len(found) - len(same)} of {len(found)} rows share other residues than the table's")
    return "\n".join(lines)


def _line(name: str, score: str, values: np.ndarray, digit: float) -> str:
    if not len(values):
        return f"{name:<16} {score:<10} {0:>5}"
    equal = (np.abs(values) <= 0.501 * digit).mean()
    numbers = " ".join(f"{value:>+8.4f}" for value in (values.mean(), values.min(), values.max()))
    return f"{name:<16} {score:<10} {len(values):>5} {equal:>6.1%} {numbers}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where nothing could be compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with index.tsv")
    parser.add_argument("--every", type=int, default=1, help="score every so many rows (default all)")
    flags = parser.parse_args(argv)
    try:
        differences, failed = compare(flags.folder, flags.every)
    except OSError as error:
        print(f"benchmarks.quality: {error}", file=sys.stderr)
        return 1
    for reason, count in failed.items():
        print(f"not scored: {count}: {reason}")
    if not differences:
        print("benchmarks.quality: no row could be scored", file=sys.stderr)
        return 1
    print(table(differences))
    return 0


if __name__ == "__main__":
    sys.exit(main())
