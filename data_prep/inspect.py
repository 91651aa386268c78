"""What a record set holds.

python -m data_prep.inspect DIR              a table of the splits
python -m data_prep.inspect DIR --verify     reads every record first and checks its checksums
python -m data_prep.inspect DIR --split test --record 3
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, Example, schema
from bihf_jax.data.records import RecordSet, count_example, read_metadata
from bihf_jax.data.tfrecord import RecordError
from data_prep import label_summary

QUANTILES = (0, 10, 50, 90, 100)
# What `count_example` calls the number of labels, by unit.
_LABELLED = {"residue": "labelled", "protein": "labelled_proteins"}
_CA = BACKBONE_ATOMS.index("CA")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 1 where the set is damaged."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.inspect", description="Show what a record set holds.")
    parser.add_argument("directory", type=Path, help="a record set")
    parser.add_argument("--split", help="only this split; the first one for --record")
    parser.add_argument("--record", type=int, help="print this record of the split")
    parser.add_argument("--verify", action="store_true", help="read every record, check checksums and content")
    args = parser.parse_args(argv)
    try:
        metadata = read_metadata(args.directory)
        splits = [args.split] if args.split else list(metadata["splits"])
        if args.record is not None:
            print(describe(RecordSet(args.directory, splits[0])[args.record]))
            return 0
        damaged = sum(verify(RecordSet(args.directory, split)) for split in splits) if args.verify else 0
        if not damaged:
            print(table({split: RecordSet(args.directory, split) for split in splits}))
            print(json.dumps({name: value for name, value in metadata.items() if name != "splits"}, indent=1))
    except (RecordError, IndexError) as error:
        print(f"data_prep.inspect: {error}", file=sys.stderr)
        return 1
    return 1 if damaged else 0


def verify(records: RecordSet) -> int:
    """Read every record of a split; prints each damaged one and returns how many there are."""
    damaged = 0
    for number in range(len(records)):
        try:
            check_example(records[number])
        except ValueError as error:
            damaged += 1
            print(f"{records.split}: {error}", file=sys.stderr)
    print(f"{records.split}: {len(records) - damaged} of {len(records)} records are sound")
    return damaged


def check_example(example: Example) -> None:
    """Raise ValueError where an example contradicts itself; checksums cannot see that."""
    slots = np.arange(example.num_slots)
    special = np.isin(example.tokens, (alphabet.CLS, alphabet.EOS))
    senders = slots[:, None] + example.neighbour_offset.astype(np.int64)
    has_neighbour = example.neighbour_offset != 0
    bonds = example.ligand_bonds[:, :2]
    faults = {
        "special tokens are not two a chain": special.sum() != 2 * len(example.chain_ids),
        "ligand atoms are not the last slots": (example.tokens == alphabet.PAD).tolist()
        != (slots >= example.first_atom).tolist(),
        "a ligand atom has no place": not example.backbone_mask[example.first_atom :, _CA].all(),
        "a bond is not of two atoms": ((bonds < 0) | (bonds >= len(example.ligand_atoms))).any(),
        "a special token has coordinates": example.backbone_mask[special].any(),
        "a special token has a label": example.label_mask[special].any(),
        "a neighbour lies outside the example": ((senders < 0) | (senders >= example.num_slots)).any(),
        "a neighbour has no CA": False,
        "an array holds NaN or infinity": not all(
            np.isfinite(getattr(example, name)).all() for name, field in schema().items() if field.dtype == "float32"
        ),
    }
    if not faults["a neighbour lies outside the example"]:
        faults["a neighbour has no CA"] = not example.backbone_mask[senders[has_neighbour], _CA].all()
    if found := [fault for fault, present in faults.items() if present]:
        raise ValueError(f"record {example.id!r}: {'; '.join(found)}")


def table(records: dict[str, RecordSet]) -> str:
    """One column a split; residues and chains are read from the records, lengths from the index."""
    columns = {split: _column(of_split) for split, of_split in records.items()}
    names = list(next(iter(columns.values())))
    rows = [["", *columns]] + [[name, *(column[name] for column in columns.values())] for name in names]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return "\n".join(lines)


def _column(records: RecordSet) -> dict[str, str]:
    names = ("chains", "residues", "ligand_atoms", "slots", "labelled", "labelled_proteins", "without_ca")
    counts = dict.fromkeys(names, 0)
    for example in records:
        for name, number in (count_example(example) | {"without_ca": _residues_without_ca(example)}).items():
            if name in counts:
                counts[name] += number
    lengths = np.percentile(records.slots, QUANTILES).astype(int)
    return {
        "shards": f"{records.metadata['splits'][records.split]['shards']:,}",
        "records": f"{len(records):,}",
        "groups": f"{len(set(records.groups.tolist())):,}",
        "chains": f"{counts['chains']:,}",
        "residues": f"{counts['residues']:,}",
        "residues without CA": f"{counts['without_ca']:,}",
        "ligand atoms": f"{counts['ligand_atoms']:,}",
        f"{records.labels.unit}s with a label": f"{counts[_LABELLED[records.labels.unit]]:,}",
        "labels": label_summary.summarise(records.labels, records),
        "slots": f"{counts['slots']:,}",
        f"slots a record ({', '.join(f'{quantile} %' for quantile in QUANTILES)})": " ".join(map(str, lengths)),
    }


def _residues_without_ca(example: Example) -> int:
    return int((example.is_residue & ~example.backbone_mask[:, _CA]).sum())


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
