"""Compare the interface rule (`bihf_jax.protein.interface_labels`) with the labels that ScanNet publishes.

Takes the chains of ScanNet's binding-site set whose structure is of the same PDB entry and comes with other protein
chains, labels them by our rule, and prints the agreement chain by chain and in total. The other chains are those of the
same file and, in Docking Benchmark 5.5 (``1AVX_l_b.pdb.gz``, ``1AVX_r_b.pdb.gz``), of the file of the bound partner:

    python -m data_prep.check_interface_rule --ppbs ../shared/data/PPBS

ScanNet merges the interfaces of all assemblies it knows for a chain, so its labels should contain ours: `precision`
(share of our positives that are positive there) is the check of the rule, `recall` says how much other assemblies add.
Partner chains shorter than `MIN_PARTNER_RESIDUES` are not counted: ScanNet labels no contacts with peptides.
"""

import argparse
import csv
import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bihf_jax.protein import INTERFACE_CUTOFF, Protein, StructureError, interface_labels
from data_prep.formats.residues import ResidueLabels, match_by_number
from data_prep.formats.scannet import read_data_set

MIN_PARTNER_RESIDUES = 20


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Residues of one chain, or of several, by our label and ScanNet's."""

    name: str
    both: int  # positive by the rule and in ScanNet
    rule_only: int
    scannet_only: int
    neither: int
    unmatched: int = 0  # labels without a residue of that number and amino acid in the file: in no other count

    @property
    def residues(self) -> int:
        return self.both + self.rule_only + self.scannet_only + self.neither

    @property
    def agreement(self) -> float:
        return _ratio(self.both + self.neither, self.residues)

    @property
    def precision(self) -> float:
        return _ratio(self.both, self.both + self.rule_only)

    @property
    def recall(self) -> float:
        return _ratio(self.both, self.both + self.scannet_only)

    @property
    def is_exact(self) -> bool:
        return self.rule_only == self.scannet_only == 0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def compare(ppbs: Path, cutoff: float = INTERFACE_CUTOFF, *, one_file: bool = False) -> tuple[list[Agreement], Counter]:
    """Agreement of every chain that can be compared, and how many cannot, by reason.

    Args:
      ppbs: folder with ``index.tsv`` and ScanNet's ``labels_*.txt``; the files of the index are relative to its parent.
      cutoff: Å, of the rule.
      one_file: leave the file of the bound partner in Docking Benchmark 5.5 aside.
    """
    rows = list(_index_rows(ppbs / "index.tsv"))
    labels = {entry.id: entry.labels for entry in read_data_set(ppbs, weights=False).entries}
    results, skipped = [], Counter()
    for row in rows:
        if row["match"] != "same_pdb":
            skipped["structure is of another PDB entry"] += 1
            continue
        for part in row["chains"].split(";"):
            label_chain, file, chain, _ = part.split(":")
            try:
                protein = _with_partners(ppbs.parent / file, chain, one_file)
            except StructureError as error:
                skipped[str(error)] += 1
                continue
            if len(protein.chain_ids) < 2:
                skipped["no partner chain beside it"] += 1
                continue
            results.append(
                compare_chain(f"{row['key']}:{label_chain}", protein, chain, label_chain, labels[row["key"]], cutoff)
            )
    return results, skipped


def _with_partners(path: Path, chain: str, one_file: bool) -> Protein:
    """The chain and all partner chains that are long enough, from its file and that of the bound partner."""
    protein = Protein.from_file(path)
    bound = re.fullmatch(r"(.+)_([lr])_b\.pdb\.gz", path.name)
    if bound and not one_file:
        other_half = path.with_name(f"{bound[1]}_{'r' if bound[2] == 'l' else 'l'}_b.pdb.gz")
        protein = Protein.concatenate([protein, Protein.from_file(other_half)])
    long_enough = zip(protein.chain_ids, protein.sequence(), strict=True)
    return protein.select_chains(
        [name for name, seq in long_enough if name == chain or len(seq) >= MIN_PARTNER_RESIDUES]
    )


def _index_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            yield {**row, "chains": row["label_chain:struct_file:struct_chain:coverage"]}


def compare_chain(
    name: str, protein: Protein, chain: str, label_chain: str, labels: ResidueLabels, cutoff: float = INTERFACE_CUTOFF
) -> Agreement:
    """Agreement on one chain of `protein`, against all its other chains.

    Residues are matched by number and insertion code, and by amino acid, so that a shifted numbering cannot pass.
    """
    others = [other for other in protein.chain_ids if other != chain]
    partner = protein.select_chains([chain])
    rule, _ = interface_labels([partner, protein.select_chains(others)], cutoff)
    match = match_by_number(labels, partner, chains={label_chain: chain}, max_unmatched=1.0)  # counted, not refused
    seen = match.known & partner.atom_mask.any(axis=1)
    scannet = match.label > 0.5
    counts = [int((seen & both).sum()) for both in (rule & scannet, rule & ~scannet, ~rule & scannet, ~rule & ~scannet)]
    return Agreement(name, *counts, unmatched=match.missing + match.mismatched + match.unresolved)


def total(results: list[Agreement]) -> Agreement:
    """All chains together."""
    fields = [field.name for field in dataclasses.fields(Agreement) if field.name != "name"]
    return Agreement(
        "total", **{field: int(np.sum([getattr(result, field) for result in results])) for field in fields}
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where nothing could be compared."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ppbs", type=Path, required=True, help="folder with index.tsv and labels_*.txt (.gz)")
    parser.add_argument("--cutoff", type=float, default=INTERFACE_CUTOFF, help="Å (default %(default)s)")
    parser.add_argument("--one_file", action="store_true", help="leave the files of bound partners aside")
    flags = parser.parse_args(arguments)
    try:
        results, skipped = compare(flags.ppbs, flags.cutoff, one_file=flags.one_file)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for reason, count in skipped.items():
        print(f"left out: {count} chains: {reason}")
    if not results:
        print("error: no chain to compare", file=sys.stderr)
        return 1
    print("chain          residues unmatched  rule + ScanNet +  agree  prec. recall")
    for result in [*results, total(results)]:
        rule, scannet = result.both + result.rule_only, result.both + result.scannet_only
        print(
            f"{result.name:14} {result.residues:8d} {result.unmatched:9d} {rule:7d} {scannet:9d} "
            f"{result.agreement:6.3f} {result.precision:6.3f} {result.recall:6.3f}{'  exact' * result.is_exact}"
        )
    exact = sum(result.is_exact for result in results)
    print(
        f"{len(results)} chains, {exact} of them exact; rule: a heavy atom within {flags.cutoff} Å of another chain's"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
