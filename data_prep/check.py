"""Is a record set sound, and do its splits leak?

    python -m data_prep.check RECORDS

reads every record, checks its checksums and that it does not contradict itself, and counts what each split holds, what
atoms are missing, how its labels are spread, and what it has in common with the others: structures, sequences,
relatives (MMseqs2 where installed, else Biopython), labels of near-identical proteins. The tables are printed as
Markdown; RECORDS/check (or --out) gets check.json with every pair of relatives, check.png and the page index.html.

Exit code 0: sound; 1: a damaged record, or no record set; 3: more leaks than --fail-above allows.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bihf_jax.data.records import RecordSet, read_metadata
from bihf_jax.data.tfrecord import RecordError
from data_prep import splits
from data_prep.check_report import overlap_table, page, picture, split_table, to_json, to_markdown
from data_prep.facts import SplitFacts, read_facts
from data_prep.leaks import Overlap, compare

FOLDER = "check"
REPORT_FILE, PICTURE_FILE, PAGE_FILE = "check.json", "check.png", "index.html"
LEAKS_EXIT_CODE = 3


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        return check(args)
    except (RecordError, ValueError, FileNotFoundError) as error:
        print(f"data_prep.check: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.check",
        description="Check a record set: damage, missing atoms, labels, and what its splits have in common.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("records", type=Path, help="a record set (of a cross-validation: one of its folds)")
    parser.add_argument("--out", type=Path, help="folder of the report, RECORDS/check if absent; files are replaced")
    parser.add_argument("--identity", type=float, default=splits.IDENTITY, help="chains so identical are related")
    parser.add_argument(
        "--coverage", type=float, default=splits.COVERAGE, help="share of the shorter chain that must be aligned"
    )
    parser.add_argument("--alignment", choices=splits.TOOLS, help="tool; mmseqs where installed if absent")
    parser.add_argument(
        "--sensitivity", type=float, default=splits.SENSITIVITY, help="of MMseqs2, 1 to 7.5; less is many times faster"
    )
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="threads of MMseqs2")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="SHARE",
        help=f"exit code {LEAKS_EXIT_CODE} where a larger share of a split has a relative in an earlier split",
    )
    return parser


def check(args: argparse.Namespace) -> int:
    """Check what the parsed command line names; returns the exit code.

    Raises:
      RecordError: no record set, or one that does not fit its index.
      ValueError, FileNotFoundError: a setting is wrong, or its tool is missing; nothing was read.
    """
    splits.check_thresholds((1, 0, 0), args.identity, args.coverage)
    if args.fail_above is not None and not 0 <= args.fail_above <= 1:
        raise ValueError(f"--fail-above is {args.fail_above}; it must be a share, in [0, 1]")
    if not 1 <= args.sensitivity <= splits.SENSITIVITY:
        raise ValueError(f"--sensitivity is {args.sensitivity}; it must lie in [1, {splits.SENSITIVITY}]")
    tool = splits.choose_tool(args.alignment)
    metadata = read_metadata(args.records)
    parts = metadata.get("subset_of", {})
    whole = sorted(set(metadata["splits"]) - set(parts), key=splits.SPLITS.index)
    facts = {name: read_facts(RecordSet(args.records, name)) for name in whole}
    overlaps = _overlaps(args, tool, facts, parts)
    method = {
        "identity": args.identity,
        "coverage_of_shorter": args.coverage,
        "tool": tool,
        "tool_version": splits.tool_version(tool),
        "sensitivity": args.sensitivity if tool == "mmseqs" else None,
    }
    tables = {"Splits": split_table(facts), "In common": overlap_table(overlaps, args.identity)}
    notes = _notes(facts, overlaps, method)
    _write(args.out or args.records / FOLDER, metadata, facts, overlaps, method, tables, notes)
    print("\n\n".join([*map(to_markdown, tables.values()), *notes]))
    print(f"\nwritten to {args.out or args.records / FOLDER}")
    if any(of_split.damaged for of_split in facts.values()):
        return 1
    return LEAKS_EXIT_CODE if args.fail_above is not None and _leaks(overlaps, args.fail_above) else 0


def _overlaps(
    args: argparse.Namespace, tool: str, facts: Mapping[str, SplitFacts], parts: Mapping[str, str]
) -> list[Overlap]:
    """Each split among those before it, and the parts of it that have a name of their own."""
    overlaps = []
    for earlier, split in itertools.combinations(facts, 2):
        overlap = compare(
            facts[split],
            facts[earlier],
            identity=args.identity,
            coverage=args.coverage,
            tool=tool,
            threads=args.workers,
            sensitivity=args.sensitivity,
        )
        overlaps.append(overlap)
        for part in (part for part, whole in parts.items() if whole == split):
            ids = set(RecordSet(args.records, part).ids.tolist())
            overlaps.append(overlap.part(part, ids, len(ids)))
    return overlaps


def _notes(facts: Mapping[str, SplitFacts], overlaps: Sequence[Overlap], method: Mapping[str, Any]) -> list[str]:
    """What the tables do not say, a paragraph each."""
    notes = [
        f"Related: a local alignment with at least {method['identity']:.0%} identical residues over at least "
        f"{method['coverage_of_shorter']:.0%} of the shorter chain ({method['tool']} {method['tool_version']}). Chains "
        "that the model sees are compared, not those that only made labels."
    ]
    if reasons := dict.fromkeys(overlap.not_searched for overlap in overlaps if overlap.not_searched):
        notes += [f"Only equal sequences were looked for: {reason}." for reason in reasons]
    for name, of_split in facts.items():
        notes += [f"{name}, damaged: {message}" for message in of_split.damaged]
    return notes


def _leaks(overlaps: Sequence[Overlap], allowed: float) -> bool:
    """Whether a split has more relatives than allowed; says which on stderr. What is not known is not allowed."""
    found = False
    for overlap in overlaps:
        share = len(overlap.relatives) / max(overlap.records, 1)
        unknown = " (at least: only equal sequences were looked for)" if overlap.not_searched else ""
        if share > allowed or overlap.not_searched:
            found = True
            print(
                f"data_prep.check: {share:.1%} of {overlap.split} has a relative in {overlap.among}{unknown}; "
                f"--fail-above allows {allowed:.1%}",
                file=sys.stderr,
            )
    return found


def _write(
    out: Path,
    metadata: Mapping[str, Any],
    facts: Mapping[str, SplitFacts],
    overlaps: Sequence[Overlap],
    method: Mapping[str, Any],
    tables: Mapping[str, Sequence[Sequence[str]]],
    notes: Sequence[str],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "task": metadata["task"],
        "source": metadata.get("source"),
        "split_method": metadata.get("split_method"),
        "method": method,
        **to_json(facts, overlaps),
    }
    (out / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    picture(facts, overlaps, out / PICTURE_FILE)
    title = f"{metadata['task']}: {sum(len(of_split.rows) for of_split in facts.values()):,} records"
    (out / PAGE_FILE).write_text(page(title, tables, notes, (out / PICTURE_FILE).read_bytes()), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
