"""`ppbs` and `bce` of a user's own complexes: labels from the contacts of partners, or from a CSV.

Labels come from the complex, features from one partner alone.
"""

import argparse
import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data.labels import Labels
from bihf_jax.protein import INTERFACE_CUTOFF, Protein, StructureError, interface_labels, take_residues
from data_prep.formats.residues import rows_by_number
from data_prep.formats.text import read_csv
from data_prep.pipeline import Outcome, Result, Source, add_record
from data_prep.structure_files import list_files, unused_files, without_ending

# Name of the positive class, and the partners that make labels and get no record, by task.
POSITIVES = {"ppbs": "interface", "bce": "epitope"}
UNSEEN = {"ppbs": (), "bce": ("antibody",)}

_DB5_BOUND = re.compile(r"^(?P<complex>.+)_(?P<side>[lr])_b\.pdb(\.gz)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Part:
    """Chains of one structure file."""

    file: str  # relative to the structure directory, with forward slashes
    chains: tuple[str, ...] = ()  # author ids; all protein chains where empty


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """One line of the label file."""

    line: int
    chain: str
    residue_number: int
    insertion_code: str
    label: float


@dataclasses.dataclass(frozen=True)
class Complex:
    """What is read for one complex.

    Either `partners` names them, or `file` is one whole complex of which each protein chain is a partner.
    """

    id: str
    partners: tuple[tuple[str, tuple[Part, ...]], ...] = ()  # (name, parts)
    file: str | None = None
    labels: Mapping[str, Sequence[LabelRow]] | None = None  # by file; None takes the contacts between the partners

    @property
    def group(self) -> str:
        return self.id

    @property
    def files(self) -> tuple[str, ...]:
        if self.file is not None:
            return (self.file,)
        return tuple(dict.fromkeys(part.file for _, parts in self.partners for part in parts))


@dataclasses.dataclass(frozen=True)
class Options:
    """How complexes become records."""

    structures: Path
    cutoff: float = INTERFACE_CUTOFF  # Å
    min_residues: int = 20
    keep_copies: bool = False
    unseen: tuple[str, ...] = ()  # names of partners that make labels and get no record


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The flags of complexes; `task` is "ppbs" or "bce"."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--complexes", type=Path, help="CSV complex,partner,file,chains; chains joined by +")
    which.add_argument(
        "--layout",
        choices=("files", "db5"),
        default="files",
        help="files: each file is a complex, each chain a partner; db5: ID_l_b.pdb and ID_r_b.pdb are the partners",
    )
    parser.add_argument(
        "--labels", type=Path, help="CSV file,chain,residue_number,insertion_code,label instead of contacts"
    )
    parser.add_argument("--cutoff", type=float, default=INTERFACE_CUTOFF, help="atoms this close are in contact, in Å")
    parser.add_argument("--keep-copies", action="store_true", help="write identical partners of a complex each")
    parser.add_argument(
        "--unseen", default="+".join(UNSEEN[task]), help="partners that make labels and get no record; joined by +"
    )


def source(args: argparse.Namespace) -> Source:
    """The complexes that the parsed command line asks for.

    Raises:
      ValueError, FileNotFoundError: a setting, a folder or an input list is wrong.
    """
    if not args.cutoff > 0:
        raise ValueError(f"--cutoff is {args.cutoff}; it must be positive (Å)")
    files, others = list_files(args.structures)
    complexes = _listed(args, files)
    if args.labels:
        labels = read_labels(args.labels, files)
        complexes = [_with_labels(complex, labels) for complex in complexes]
    unseen = tuple(args.unseen.split("+")) if args.unseen else ()
    names = {name for complex in complexes for name, _ in complex.partners}
    if args.complexes and (unknown := sorted(set(unseen) - names)):
        raise ValueError(f"--unseen {'+'.join(unknown)}: no such partner in {args.complexes}; partners: {_some(names)}")
    used = {file for complex in complexes for file in complex.files}
    rule = f"heavy atom within {args.cutoff} Å of another partner"
    return Source(
        task=args.task,
        root=args.structures,
        items=complexes,
        read=read_complex,
        options=Options(args.structures, args.cutoff, args.min_residues, args.keep_copies, unseen),
        labels=Labels("residue", "binary", (POSITIVES[args.task],)),
        about={
            "structures": args.structures.resolve().name,
            "complexes": args.complexes.name if args.complexes else f"layout {args.layout}",
            "labels": f"file {args.labels.name}" if args.labels else rule,
            "min_residues": args.min_residues,
            "keep_copies": args.keep_copies,
            "unseen": list(unseen),
        },
        nouns=("partners", "complexes"),
        other_files=unused_files(files, others, used),
        notes={"labels_given": sum(map(len, labels.values()))} if args.labels else {},
    )


def _listed(args: argparse.Namespace, files: Sequence[str]) -> list[Complex]:
    if args.complexes:
        return complexes_of_csv(args.complexes, files)
    return complexes_of_db5(files) if args.layout == "db5" else complexes_of_files(files)


def _with_labels(complex: Complex, labels: Mapping[str, Sequence[LabelRow]]) -> Complex:
    return dataclasses.replace(complex, labels={file: labels[file] for file in complex.files if file in labels})


def _some(names: Iterable[str]) -> str:
    """The first of many names, for a message."""
    names = sorted(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


# ---------------------------------------------------------------------------------------------------------------------
# Which complexes there are
# ---------------------------------------------------------------------------------------------------------------------


def complexes_of_files(files: Sequence[str]) -> list[Complex]:
    """Layout `files`: each file is a complex, each of its protein chains a partner.

    Raises:
      ValueError: two files differ only in their ending, so they would have the same id.
    """
    file_of: dict[str, str] = {}
    for file in files:
        name = without_ending(file)
        if name in file_of:
            raise ValueError(f"{file_of[name]} and {file} would both be complex {name!r}; keep one of them")
        file_of[name] = file
    return [Complex(id=name, file=file) for name, file in file_of.items()]


def complexes_of_db5(files: Sequence[str]) -> list[Complex]:
    """Layout `db5`, Docking Benchmark 5.5: ``ID_l_b.pdb`` and ``ID_r_b.pdb`` are the bound partners of one complex.

    Raises:
      ValueError: a complex has one of the two files only.
    """
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for file in files:
        if match := _DB5_BOUND.match(file):
            side = match["side"].lower()
            if side in sides[match["complex"]]:
                raise ValueError(f"{sides[match['complex']][side]} and {file} are the same partner; keep one of them")
            sides[match["complex"]][side] = file
    if not sides:
        raise ValueError("no file is called ID_l_b.pdb or ID_r_b.pdb (also .gz); is --layout files meant?")
    for name, found in sides.items():
        if len(found) < 2:
            raise ValueError(f"{next(iter(found.values()))} has no counterpart: complex {name!r} needs _l_b and _r_b")
    return [
        Complex(id=name, partners=tuple((side, (Part(file),)) for side, file in sorted(found.items())))
        for name, found in sides.items()
    ]


def complexes_of_csv(path: Path, files: Iterable[str]) -> list[Complex]:
    """Complexes from a CSV with the columns complex, partner, file, chains.

    `chains` is joined by "+", empty for all; a partner with several lines has chains in several files.

    Raises:
      ValueError: a missing column, an empty name or a file that is not there; the message gives the line.
    """
    available = set(files)
    partners: dict[str, dict[str, list[Part]]] = defaultdict(lambda: defaultdict(list))
    for line, row in read_csv(path, ("complex", "partner", "file", "chains")):
        if not row["complex"] or not row["partner"]:
            raise ValueError(f"{path}, line {line}: complex and partner must not be empty")
        if row["file"] not in available:
            raise ValueError(f"{path}, line {line}: {row['file']!r} is not a structure file below --structures")
        chains = tuple(row["chains"].split("+")) if row["chains"] else ()
        partners[row["complex"]][row["partner"]].append(Part(row["file"], chains))
    if not partners:
        raise ValueError(f"{path}: no complex in it")
    return [
        Complex(id=name, partners=tuple((partner, tuple(parts)) for partner, parts in of_complex.items()))
        for name, of_complex in partners.items()
    ]


def read_labels(path: Path, files: Iterable[str]) -> dict[str, tuple[LabelRow, ...]]:
    """File -> its lines of a label CSV with the columns file, chain, residue_number, insertion_code, label.

    Raises:
      ValueError: a missing column, a file that is not there, a number that is none, a label that is not 0 or 1, or a
        residue named twice; the message gives the line.
    """
    available = set(files)
    rows: dict[str, dict[tuple[str, int, str], LabelRow]] = defaultdict(dict)
    for line, row in read_csv(path, ("file", "chain", "residue_number", "insertion_code", "label")):
        where = f"{path}, line {line}"
        if row["file"] not in available:
            raise ValueError(f"{where}: {row['file']!r} is not a structure file below --structures")
        try:
            number, label = int(row["residue_number"]), float(row["label"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}; residue_number is a whole number, label 0 or 1") from error
        if label not in (0, 1):
            raise ValueError(f"{where}: label {row['label']}; it must be 0 or 1")
        key = (row["chain"], number, row["insertion_code"] or " ")
        if key in rows[row["file"]]:
            raise ValueError(f"{where}: this residue has a label in line {rows[row['file']][key].line} already")
        rows[row["file"]][key] = LabelRow(line, *key, label)
    if not rows:
        raise ValueError(f"{path}: no label in it")
    return {file: tuple(of_file.values()) for file, of_file in rows.items()}


# ---------------------------------------------------------------------------------------------------------------------
# One complex
# ---------------------------------------------------------------------------------------------------------------------


class _LabelError(ValueError):
    """The label file does not fit the structure."""


@dataclasses.dataclass(frozen=True)
class _Partner:
    name: str
    files: tuple[str, ...]
    protein: Protein
    given: np.ndarray | None  # [N] labels of the label file, NaN where it has none; None without a label file


def read_complex(complex: Complex, options: Options) -> Result:
    """Read one complex and make the records of its partners; each partner has an `Outcome`."""
    result = Result(complex.id)
    partners = _read_partners(complex, options, result)
    if partners:
        _add_records(complex, partners, options, result)
    return result


def _read_partners(complex: Complex, options: Options, result: Result) -> list[_Partner]:
    """All partners, or none and the outcomes that say why."""
    parts_of = dict(complex.partners) if complex.file is None else {"": (Part(complex.file),)}
    partners, problems = [], {}
    for name, parts in parts_of.items():
        try:
            partners.append(_read_partner(name, parts, options, complex.labels))
        except StructureError as error:
            problems[name] = ("unreadable", str(error))
        except _LabelError as error:
            problems[name] = ("labels_do_not_fit", str(error))
    if problems:
        for name, parts in parts_of.items():
            files = tuple(dict.fromkeys(part.file for part in parts))
            what, message = problems.get(name, ("complex_incomplete", ""))
            result.outcomes.append(Outcome(complex.id, name, files, what, message))
        return []
    return partners if complex.file is None else _chains_as_partners(partners[0])


def _read_partner(
    name: str, parts: Sequence[Part], options: Options, labels: Mapping[str, Sequence[LabelRow]] | None
) -> _Partner:
    proteins, given = [], []
    for part in parts:
        protein = Protein.from_file(options.structures / part.file, chains=part.chains or None)
        proteins.append(protein)
        if labels is not None:
            given.append(_given_labels(protein, part, labels.get(part.file, ())))
    files = tuple(dict.fromkeys(part.file for part in parts))
    protein = proteins[0] if len(proteins) == 1 else Protein.concatenate(proteins)
    return _Partner(name, files, protein, np.concatenate(given) if labels is not None else None)


def _given_labels(protein: Protein, part: Part, rows: Sequence[LabelRow]) -> np.ndarray:
    """[N] label of each residue, NaN where no line names it."""
    given = np.full(protein.num_residues, np.nan)
    residues = rows_by_number(protein)
    for row in rows:
        if part.chains and row.chain not in part.chains:
            continue  # a line for another partner in the same file
        key = (row.chain, row.residue_number, row.insertion_code)
        if key not in residues:
            raise _LabelError(_unknown_residue(protein, part, row))
        given[residues[key]] = row.label
    return given


def _unknown_residue(protein: Protein, part: Part, row: LabelRow) -> str:
    residue = f"{row.chain} {row.residue_number}{row.insertion_code}".strip()
    start = f"label line {row.line}: no residue {residue!r} in {part.file}"
    if row.chain not in protein.chain_ids:
        return f"{start}; chains: {', '.join(protein.chain_ids)}"
    numbers = protein.residue_number[protein.chain_index == protein.chain_ids.index(row.chain)]
    return f"{start}; chain {row.chain!r} has residues {numbers.min()} to {numbers.max()} with gaps as in the file"


def _chains_as_partners(whole: _Partner) -> list[_Partner]:
    """Each chain of a file as a partner, named by its author id (and a number where two chains share one)."""
    partners = []
    times = Counter()
    for index, chain in enumerate(whole.protein.chain_ids):
        times[chain] += 1
        name = chain if times[chain] == 1 else f"{chain}.{times[chain]}"
        rows = whole.protein.chain_index == index
        given = None if whole.given is None else whole.given[rows]
        partners.append(_Partner(name, whole.files, take_residues(whole.protein, rows), given))
    return partners


def _add_records(complex: Complex, partners: Sequence[_Partner], options: Options, result: Result) -> None:
    sequences = [tuple(sorted(partner.protein.sequence())) for partner in partners]
    result.chains = tuple(sorted({chain for chains in sequences for chain in chains}))
    all_labels = _labels(partners, options.cutoff)
    seen = set()
    for partner, chains, label in zip(partners, sequences, all_labels, strict=True):
        what = _reason_to_leave_out(partner, label, options)
        if what is None and chains in seen and not options.keep_copies:
            what = "copy"
        if what is None:
            seen.add(chains)
            _add_record(complex, partner, label, options, result)
        else:
            result.outcomes.append(Outcome(complex.id, partner.name, partner.files, what))


def _labels(partners: Sequence[_Partner], cutoff: float) -> list[np.ndarray | None]:
    """[N] labels of each partner, NaN where unknown; None where a lone partner has no interface to label."""
    if partners[0].given is not None:
        return [partner.given for partner in partners]
    if len(partners) < 2:
        return [None]
    contacts = interface_labels([partner.protein for partner in partners], cutoff)
    return [contact.astype(np.float32) for contact in contacts]


def _reason_to_leave_out(partner: _Partner, label: np.ndarray | None, options: Options) -> str | None:
    if label is None:
        return "no_partner"
    if partner.name in options.unseen:
        return "unseen"
    if partner.protein.atom_mask.any(axis=1).sum() < options.min_residues:
        return "too_short"
    if partner.given is not None:
        return "no_labels" if np.isnan(label).all() else None
    return None if label.any() else "no_contact"


def _add_record(complex: Complex, partner: _Partner, label: np.ndarray, options: Options, result: Result) -> None:
    known = ~np.isnan(label)
    example = add_record(
        result,
        complex,
        partner.protein,
        min_residues=options.min_residues,
        part=partner.name,
        files=partner.files,
        label=np.where(known, label, 0),
        label_mask=known,
    )
    if example is not None and partner.given is not None:
        masked = known & ~partner.protein.atom_mask.any(axis=1)
        for name, number in (("labels_in_records", known.sum()), ("labels_without_coordinates", masked.sum())):
            result.counts[name] = result.counts.get(name, 0) + int(number)
