"""`custom`: a user's own labels, a CSV for a folder of structures (`data_prep.formats.custom`).

**What the model sees.** Of labelled residues, the chains that have labels, or all of the file with `--all-chains`. Of
labelled proteins, all chains of the file, or those that the CSV names.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from bihf_jax.data.labels import Labels
from bihf_jax.protein import Protein
from data_prep.formats import custom
from data_prep.formats.residues import MAX_UNMATCHED, ResidueLabels, match_by_number
from data_prep.pipeline import Result, Source, add_record, chain_sequences
from data_prep.structure_files import list_files, without_ending

SPLIT_BY = ("cluster", "group")


@dataclasses.dataclass(frozen=True)
class LabelledProtein:
    """A structure, or some chains of it, with one label."""

    id: str
    group: str
    file: str
    chains: tuple[str, ...]  # author ids; all where empty
    label: tuple[float, ...]  # as `Example.protein_label`
    weight: float

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)


@dataclasses.dataclass(frozen=True)
class LabelledResidues:
    """A structure with a label for some of its residues."""

    file: str
    labels: ResidueLabels

    @property
    def id(self) -> str:
        return without_ending(self.file)

    @property
    def group(self) -> str:
        return self.id

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)


@dataclasses.dataclass(frozen=True)
class Options:
    """How structures become records."""

    structures: Path
    min_residues: int
    all_chains: bool = False
    max_unmatched: float = MAX_UNMATCHED


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The flags of a user's own labels."""
    del task
    parser.add_argument("--labels", type=Path, required=True, help="CSV file,label or file,chain,residue_number,...")
    parser.add_argument("--kind", choices=custom.KINDS, required=True, help="what a row of the CSV labels")
    parser.add_argument("--type", choices=custom.TYPES, required=True, help="what a label is")
    parser.add_argument("--name", default="label", help="name of the label, where it is binary or a number")
    parser.add_argument("--all-chains", action="store_true", help="show also chains without a labelled residue")
    parser.add_argument(
        "--max-unmatched", type=float, default=MAX_UNMATCHED, help="share of labels that may find no residue"
    )
    parser.add_argument(
        "--split-by", choices=SPLIT_BY, default="cluster", help="group: by the column group alone, relatives or not"
    )


def source(args: argparse.Namespace) -> Source:
    """The structures that the parsed command line asks for.

    Raises:
      ValueError, FileNotFoundError: a setting, the folder or the CSV is wrong.
    """
    if not 0 <= args.max_unmatched <= 1:
        raise ValueError(f"--max-unmatched is {args.max_unmatched}; it must lie in [0, 1]")
    files, others = list_files(args.structures)
    given = custom.read_labels(args.labels, args.kind, args.type, files)
    if args.split_by == "group" and not any(label.group for label in given.proteins):
        raise ValueError(f"--split-by group: {args.labels} has no column group with a value")
    if args.kind == "protein":
        items, read = [_labelled_protein(label) for label in given.proteins], read_protein
    else:
        items, read = [LabelledResidues(file, labels) for file, labels in given.residues.items()], read_residues
    split_of = _splits(given, args.labels)
    return Source(
        task="custom",
        root=args.structures,
        items=items,
        read=read,
        options=Options(args.structures, args.min_residues, args.all_chains, args.max_unmatched),
        labels=Labels(args.kind, args.type, given.classes or (args.name,)),
        about={
            "structures": args.structures.resolve().name,
            "labels": f"file {args.labels.name}",
            "all_chains": args.all_chains,
            "max_unmatched": args.max_unmatched,
            "min_residues": args.min_residues,
        },
        nouns=("proteins", "groups"),
        other_files=dict.fromkeys(given.without_labels, "not_selected") | dict.fromkeys(others, "not_a_structure"),
        split_of=split_of,
        split_name=f"column split of {args.labels.name}" if split_of else "",
        relatives_matter=args.split_by == "cluster",
    )


def _labelled_protein(label: custom.ProteinLabel) -> LabelledProtein:
    id = ":".join([without_ending(label.file), *(["+".join(label.chains)] if label.chains else [])])
    values = tuple(label.label.reshape(-1).tolist())
    return LabelledProtein(id, label.group or id, label.file, label.chains, values, label.weight)


def _splits(given: custom.Labels, path: Path) -> Mapping[str, str] | None:
    """Group -> split of the column `split`; None where it is empty throughout.

    Raises:
      ValueError: some rows only have a split, or a group is in two.
    """
    if not any(label.split for label in given.proteins):
        return None
    split_of: dict[str, str] = {}
    for label in given.proteins:
        group = _labelled_protein(label).group
        if not label.split:
            raise ValueError(f"{path}, line {label.line}: no split, and other rows have one; give all or none")
        if split_of.setdefault(group, label.split) != label.split:
            raise ValueError(f"{path}, line {label.line}: group {group!r} is in {split_of[group]} and in {label.split}")
    return split_of


def read_protein(item: LabelledProtein, options: Options) -> Result:
    """The record of one labelled protein."""
    protein = Protein.from_file(options.structures / item.file, chains=item.chains or None)
    result = Result(item.id, chains=chain_sequences(protein))
    add_record(result, item, protein, min_residues=options.min_residues, protein_label=item.label, weight=item.weight)
    return result


def read_residues(item: LabelledResidues, options: Options) -> Result:
    """The record of one structure with labelled residues."""
    labelled = list(dict.fromkeys(item.labels.chain_ids.tolist()))
    protein = Protein.from_file(options.structures / item.file, chains=None if options.all_chains else labelled)
    match = match_by_number(item.labels, protein, max_unmatched=options.max_unmatched)
    result = Result(item.id, chains=chain_sequences(protein))
    example = add_record(
        result, item, protein, min_residues=options.min_residues, label=match.label, label_mask=match.known
    )
    if example is not None:
        counts = ("matched", "missing", "mismatched", "unresolved")
        result.counts = {f"labels_{name}": getattr(match, name) for name in counts}
    return result
