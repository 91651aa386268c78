"""Which files make up a complex, and how a complex becomes records: the part of `data_prep.build` that runs in workers.

Labels come from the complex, features from one partner alone.
"""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data.featurise import OffsetOverflowError, make_example
from bihf_jax.data.records import count_example, encode_example
from bihf_jax.protein import Protein, StructureError, interface_labels
from data_prep.formats.residues import rows_by_number
from data_prep.formats.text import read_csv

# What can become of a partner or a file; the keys are used in report.json.
OUTCOMES = {
    "written": "has a record",
    "copy": "same chain sequences as an earlier partner of its complex",
    "too_short": "fewer residues with coordinates than --min-residues; still a partner for the labels of others",
    "no_contact": "touches no other partner in this complex, which does not say that it binds nothing",
    "no_labels": "the label file has no line for it",
    "no_partner": "its complex has no other partner, so there is no interface to label",
    "unreadable": "not a readable protein structure",
    "complex_incomplete": "another partner of its complex could not be read",
    "labels_do_not_fit": "the label file names residues that the structure does not have",
    "too_large": "more slots between neighbours than a record can hold",
    "failed": "an unexpected error",
    "worker_died": "the worker process ended while it read this complex, twice",
    "not_selected": "a structure file that the layout or the complexes file does not use",
    "not_a_structure": "a file without a structure file ending",
}
_STRUCTURE_FILE = re.compile(r"\.(pdb|ent|cif)(\.gz)?$", re.IGNORECASE)
_DB5_BOUND = re.compile(r"^(?P<complex>.+)_(?P<side>[lr])_b\.pdb(\.gz)?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Part:
    """Chains of one structure file."""

    file: str  # relative to the structure directory, with forward slashes
    chains: tuple[str, ...] = ()  # author ids; all protein chains where empty


@dataclasses.dataclass(frozen=True)
class Complex:
    """What is read for one complex.

    Either `partners` names them, or `file` is one whole complex of which each protein chain is a partner.
    """

    id: str
    partners: tuple[tuple[str, tuple[Part, ...]], ...] = ()  # (name, parts)
    file: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        if self.file is not None:
            return (self.file,)
        return tuple(dict.fromkeys(part.file for _, parts in self.partners for part in parts))


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """One line of the label file."""

    line: int
    chain: str
    residue_number: int
    insertion_code: str
    label: float


@dataclasses.dataclass(frozen=True)
class Options:
    """How complexes become records."""

    structures: Path
    cutoff: float = 4.0  # Å
    min_residues: int = 20
    keep_copies: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one partner: `what` is a key of `OUTCOMES`."""

    complex: str
    partner: str
    files: tuple[str, ...]
    what: str
    message: str = ""


@dataclasses.dataclass
class Result:
    """What one complex gave."""

    complex: str
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    records: list[bytes] = dataclasses.field(default_factory=list)  # serialised examples
    residues: int = 0  # of the records
    chains: tuple[str, ...] = ()  # sequences of all protein chains, in the records or not
    labels_used: int = 0  # labels of the label file that lie in the records
    labels_without_coordinates: int = 0  # of those, how many are masked because the residue has no coordinates


# ---------------------------------------------------------------------------------------------------------------------
# Which complexes there are
# ---------------------------------------------------------------------------------------------------------------------


def list_files(structures: Path) -> tuple[list[str], list[str]]:
    """(structure files, other files) below a directory, sorted, relative to it; hidden files are passed over.

    Raises:
      FileNotFoundError: no such directory, or no structure file in it.
    """
    if not structures.is_dir():
        raise FileNotFoundError(f"--structures {structures}: no such directory")
    files = sorted(
        path.relative_to(structures).as_posix()
        for path in structures.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(structures).parts)
    )
    chosen = [file for file in files if _STRUCTURE_FILE.search(file)]
    if not chosen:
        raise FileNotFoundError(f"--structures {structures}: no .pdb, .ent or .cif file (also .gz) among {len(files)}")
    return chosen, [file for file in files if not _STRUCTURE_FILE.search(file)]


def complexes_of_files(files: Sequence[str]) -> list[Complex]:
    """Layout `files`: each file is a complex, each of its protein chains a partner.

    Raises:
      ValueError: two files differ only in their ending, so they would have the same id.
    """
    file_of: dict[str, str] = {}
    for file in files:
        name = _STRUCTURE_FILE.sub("", file)
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
      ValueError: a missing column, a file that is not there, a number that is none, a label outside [0, 1], or a
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
            raise ValueError(f"{where}: {error}; residue_number is a whole number, label a number") from error
        if not 0 <= label <= 1:
            raise ValueError(f"{where}: label {row['label']}; it must lie in [0, 1]")
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


def process_complex(
    complex: Complex, options: Options, labels: Mapping[str, Sequence[LabelRow]] | None = None
) -> Result:
    """Read one complex and make the records of its partners.

    Never raises for a bad input: every partner has an `Outcome`, so that one bad file costs its complex and no more.

    Args:
      complex: which files and chains.
      options: cutoff, minimum length, copies.
      labels: lines of the label file by structure file; None takes the contacts between the partners as labels.
    """
    result = Result(complex.id)
    try:
        partners = _read_partners(complex, options, labels, result)
        if partners:
            _add_records(complex, partners, options, result)
    except Exception as error:
        # Whatever went wrong is reported with the complex; the others must go on.
        result = Result(complex.id)
        result.outcomes = [Outcome(complex.id, "", complex.files, "failed", f"{type(error).__name__}: {error}")]
    return result


def _read_partners(
    complex: Complex, options: Options, labels: Mapping[str, Sequence[LabelRow]] | None, result: Result
) -> list[_Partner]:
    """All partners, or none and the outcomes that say why."""
    parts_of = dict(complex.partners) if complex.file is None else {"": (Part(complex.file),)}
    partners, problems = [], {}
    for name, parts in parts_of.items():
        try:
            partners.append(_read_partner(name, parts, options, labels))
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
        partners.append(_Partner(name, whole.files, _one_chain(whole.protein, index), given))
    return partners


def _one_chain(protein: Protein, index: int) -> Protein:
    """Chain number `index`: `select_chains` goes by author id, which two chains of a file may share."""
    rows = protein.chain_index == index
    arrays = {
        field.name: getattr(protein, field.name)[rows]
        for field in dataclasses.fields(protein)
        if isinstance(getattr(protein, field.name), np.ndarray)
    }
    arrays["chain_index"] = np.zeros_like(arrays["chain_index"])
    return dataclasses.replace(
        protein,
        **arrays,
        chain_ids=protein.chain_ids[index : index + 1],
        label_chain_ids=protein.label_chain_ids[index : index + 1],
    )


def _add_records(complex: Complex, partners: Sequence[_Partner], options: Options, result: Result) -> None:
    sequences = [tuple(sorted(partner.protein.sequence())) for partner in partners]
    result.chains = tuple(sorted({chain for chains in sequences for chain in chains}))
    all_labels = _labels(partners, options.cutoff)
    seen = set()
    for partner, chains, label in zip(partners, sequences, all_labels, strict=True):
        what, message = _reason_to_leave_out(partner, label, options), ""
        if what is None and chains in seen and not options.keep_copies:
            what = "copy"
        if what is None:
            seen.add(chains)
            what, message = _add_record(complex, partner, label, result)
        result.outcomes.append(Outcome(complex.id, partner.name, partner.files, what, message))


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
    if partner.protein.atom_mask.any(axis=1).sum() < options.min_residues:
        return "too_short"
    if partner.given is not None:
        return "no_labels" if np.isnan(label).all() else None
    return None if label.any() else "no_contact"


def _add_record(complex: Complex, partner: _Partner, label: np.ndarray, result: Result) -> tuple[str, str]:
    known = ~np.isnan(label)
    try:
        example = make_example(
            partner.protein,
            id=f"{complex.id}:{partner.name}",
            group=complex.id,
            source="+".join(partner.files),
            label=np.where(known, label, 0),
            label_mask=known,
        )
    except OffsetOverflowError as error:
        return "too_large", str(error)
    result.records.append(encode_example(example))
    result.residues += count_example(example)["residues"]
    if partner.given is not None:
        result.labels_used += int(known.sum())
        result.labels_without_coordinates += int((known & ~partner.protein.atom_mask.any(axis=1)).sum())
    return "written", ""
