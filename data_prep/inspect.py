"""One record of a set, to look at: `python -m data_prep.inspect RECORDS --split test --record 3`.

What a whole set holds says `data_prep.check`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, Example, schema
from bihf_jax.data.records import RecordSet, count_example, read_metadata
from bihf_jax.data.tfrecord import RecordError

_CA = BACKBONE_ATOMS.index("CA")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 1 where there is no such record, or it is damaged."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.inspect", description="Show a record.")
    parser.add_argument("directory", type=Path, help="a record set")
    parser.add_argument("--split", help="its split; the first one if absent")
    parser.add_argument("--record", type=int, default=0, help="its number in the split")
    args = parser.parse_args(argv)
    try:
        split = args.split or next(iter(read_metadata(args.directory)["splits"]))
        print(describe(RecordSet(args.directory, split)[args.record]))
    except (RecordError, IndexError) as error:
        print(f"data_prep.inspect: {error}", file=sys.stderr)
        return 1
    return 0


def describe(example: Example) -> str:
    """A page about one example: its ids, its sequences with the positive residues below, and its fields."""
    counts = count_example(example)
    lines = [f"{name}: {getattr(example, name)}" for name in ("id", "group", "source", "weight")]
    if len(example.protein_label):
        lines.append(f"protein_label: {example.protein_label.tolist()}")
    lines.append(", ".join(f"{value} {name}" for name, value in counts.items() if name != "records"))
    for number, chain in enumerate(example.chain_ids, start=1):
        slots = np.flatnonzero(example.chain_segment == number)[1:-1]
        lines.append(
            f"chain {chain!r}, residues {example.residue_number[slots[0]]} to {example.residue_number[slots[-1]]}"
        )
        sequence = "".join(alphabet.TOKENS[token] for token in example.tokens[slots])
        marks = "".join(_mark(example, slot) for slot in slots)
        for start in range(0, len(slots), 100):
            lines += [f"  {sequence[start : start + 100]}", f"  {marks[start : start + 100].rstrip()}"]
    lines.append("below a residue: * positive, ? no label, - no CA")
    for name, field in schema().items():
        if field.shape and field.dtype != "str":
            lines.append(f"{name}: {field.dtype} {getattr(example, name).shape}")
    return "\n".join(lines)


def _mark(example: Example, slot: int) -> str:
    if not example.backbone_mask[slot, _CA]:
        return "-"
    if not example.label_mask[slot]:
        return "?"
    return "*" if example.label[slot] > 0.5 else " "


if __name__ == "__main__":
    sys.exit(main())
