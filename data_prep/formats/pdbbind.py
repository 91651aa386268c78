"""PDBbind: measured affinities of protein-ligand complexes, and their structures (http://www.pdbbind.org.cn).

**INDEX files** (``INDEX_refined_data.2019``, ``INDEX_general_PL_data.2020``, ``INDEX_general_PL.2020R1.lst``,
``CoreSet.dat`` of CASF-2016): lines of "#" are remarks; the others are

    2r58  2.00  2007   2.00  Kd=10mM       // 2r58.pdf (MLY)

PDB id, resolution in Å or NMR, year of release, -log10 of the affinity in mol/l (some files leave it out), the
affinity, the reference, the ligand, and perhaps a remark such as "incomplete ligand structure". ``CoreSet.dat`` has
the number of the target's cluster instead of reference and ligand.

**Folders**: ``ID/ID_protein.pdb``, ``ID/ID_pocket.pdb``, ``ID/ID_ligand.sdf`` and ``ID/ID_ligand.mol2``, at any depth.

There is no split of its own: the core set is the usual test set, and the identity splits are those of ATOM3D.
"""

import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path

from bihf_jax.data.molecules import Molecule, MoleculeError, read_molecule
from data_prep.formats.text import FormatError, read_text

KINDS = ("Kd", "Ki", "IC50")
RELATIONS = ("=", "~", "<", ">", "<=", ">=")
UNITS = {"M": 1.0, "mM": 1e-3, "uM": 1e-6, "nM": 1e-9, "pM": 1e-12, "fM": 1e-15}  # mol/l

# The published -log10 has two decimals, of an affinity of three digits or so.
MAX_DIFFERENCE = 0.03

_AFFINITY = re.compile(r"(?P<kind>[A-Za-z0-9]+?)(?P<relation>[<>]=|[=~<>])(?P<value>\d+(\.\d+)?)(?P<unit>[a-zA-Z]+)")
_ENTRY = re.compile(
    r"(?P<id>[0-9][A-Za-z0-9]{3})\s+(?P<resolution>NMR|\d*\.?\d+)\s+(?P<year>\d{4})"
    r"(\s+(?P<pk>-?\d+(\.\d+)?))?\s+(?P<affinity>\S+)(\s+(?P<cluster>\d+))?"
    r"(\s*//\s*(?P<reference>\S+)?(\s*\((?P<ligand>[^)]*)\))?\s*(?P<remark>.*))?"
)
_COMPLEX_FILE = re.compile(
    r"(?P<id>[0-9][A-Za-z0-9]{3})_(?P<part>protein|pocket|ligand)\.(?P<ending>pdb|sdf|mol2)(\.gz)?"
)


@dataclasses.dataclass(frozen=True)
class Affinity:
    """One measured affinity: "Ki<=2nM"."""

    kind: str  # one of `KINDS`
    relation: str  # one of `RELATIONS`; "<" says that the value is an upper bound
    molar: float  # mol/l

    @property
    def pk(self) -> float:
        """-log10 of the value in mol/l."""
        return -math.log10(self.molar)

    @property
    def is_exact(self) -> bool:
        """Whether the value is measured, not a bound or an estimate."""
        return self.relation == "="


@dataclasses.dataclass(frozen=True)
class IndexEntry:
    """One line of an INDEX file."""

    id: str  # PDB id, in lower case
    resolution: float | None  # Å; None: NMR
    year: int
    affinity: Affinity
    pk: float  # as published to two decimals, where the file has it, else of the affinity
    reference: str  # "2r58.pdf"; "" where there is none
    ligand: str  # component name(s), "MLY", or "4-mer"; "" where there is none
    remark: str  # such as "incomplete ligand structure"
    cluster: int | None  # of the target, in CoreSet.dat
    line: int


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A line that was not read."""

    line: int
    text: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Index:
    """An INDEX file; every line is a remark, blank, an entry or refused."""

    entries: tuple[IndexEntry, ...]
    refused: tuple[Refusal, ...]
    remarks: int  # lines of "#"
    blank: int

    @property
    def lines(self) -> int:
        """All lines of the file."""
        return len(self.entries) + len(self.refused) + self.remarks + self.blank


def read_index(path: Path) -> Index:
    """Read an INDEX file (also .gz).

    A line is refused, with its reason, if it is not in the format, names an unknown kind or unit, has a published
    -log10 that its affinity contradicts by more than `MAX_DIFFERENCE`, or is a second one for its PDB id.

    Raises:
      FormatError: the file cannot be read, or no line of it is an entry.
    """
    entries: dict[str, IndexEntry] = {}
    refused: list[Refusal] = []
    remarks = blank = 0
    for line, text in enumerate(read_text(Path(path)).splitlines(), start=1):
        if not text.strip():
            blank += 1
        elif text.startswith("#"):
            remarks += 1
        else:
            try:
                entry = read_entry(text, line)
                if entry.id in entries:
                    raise FormatError(f"a second line for {entry.id}; the first is line {entries[entry.id].line}")
                entries[entry.id] = entry
            except FormatError as error:
                refused.append(Refusal(line, text.strip(), str(error)))
    if not entries:
        first = f"; line {refused[0].line}: {refused[0].reason}" if refused else ""
        raise FormatError(f"{path}: no entry of PDBbind in {len(refused)} lines{first}")
    return Index(tuple(entries.values()), tuple(refused), remarks, blank)


def read_entry(text: str, line: int = 1) -> IndexEntry:
    """One line of an INDEX file.

    Raises:
      FormatError: it is not in the format, or its two statements of the affinity differ.
    """
    match = _ENTRY.fullmatch(text.strip())
    if match is None:
        raise FormatError("expected 'ID RESOLUTION YEAR [-LOG10] AFFINITY [// REFERENCE (LIGAND)]'")
    affinity = read_affinity(match["affinity"])
    pk = affinity.pk if match["pk"] is None else float(match["pk"])
    if abs(pk - affinity.pk) > MAX_DIFFERENCE:
        raise FormatError(f"{match['affinity']} is a -log10 of {affinity.pk:.2f}, and the line says {pk:.2f}")
    return IndexEntry(
        id=match["id"].lower(),
        resolution=None if match["resolution"] == "NMR" else float(match["resolution"]),
        year=int(match["year"]),
        affinity=affinity,
        pk=pk,
        reference=match["reference"] or "",
        ligand=match["ligand"] or "",
        remark=match["remark"] or "",
        cluster=None if match["cluster"] is None else int(match["cluster"]),
        line=line,
    )


def read_affinity(text: str) -> Affinity:
    """ "Kd=10mM", "Ki<=2nM", "IC50~0.3uM".

    Raises:
      FormatError: another kind, relation or unit, or a value that is not positive.
    """
    match = _AFFINITY.fullmatch(text)
    if match is None or match["kind"] not in KINDS or match["unit"] not in UNITS:
        allowed = f"{' or '.join(KINDS)}, then one of {' '.join(RELATIONS)}, a number, and one of {' '.join(UNITS)}"
        raise FormatError(f"affinity {text!r}; it must be {allowed}")
    molar = float(match["value"]) * UNITS[match["unit"]]
    if molar <= 0:
        raise FormatError(f"affinity {text!r}; it must be positive")
    return Affinity(match["kind"], match["relation"], molar)


@dataclasses.dataclass(frozen=True)
class ComplexFiles:
    """The files of one complex."""

    id: str  # PDB id, in lower case
    protein: Path
    pocket: Path | None
    ligands: tuple[Path, ...]  # sdf before mol2; at least one

    def read_ligand(self) -> Molecule:
        """The ligand of the first file that RDKit can make sense of; `Molecule.source` says which it was.

        Raises:
          MoleculeError: of none; the message has the reasons of all.
        """
        reasons = []
        for path in self.ligands:
            try:
                return read_molecule(path)
            except MoleculeError as error:
                reasons.append(str(error))
        raise MoleculeError("; ".join(reasons))


@dataclasses.dataclass(frozen=True)
class Folder:
    """The complexes below a folder, and what is there of others."""

    complexes: tuple[ComplexFiles, ...]  # by id
    incomplete: dict[str, str]  # PDB id -> what it lacks
    other_files: tuple[Path, ...]  # not of a complex: indices, readme files


def list_complexes(folder: Path) -> Folder:
    """Find the complexes below `folder`; every file is in one of the three.

    Raises:
      FormatError: no such folder, no complex in it, or two files that are the same part of one complex.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FormatError(f"{folder}: no such directory")
    parts: dict[str, dict[str, Path]] = {}
    others = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        match = _COMPLEX_FILE.fullmatch(path.name)
        part = None if match is None else f"{match['part']}.{match['ending']}"
        if part not in ("protein.pdb", "pocket.pdb", "ligand.sdf", "ligand.mol2"):
            others.append(path)
            continue
        mine = parts.setdefault(match["id"].lower(), {})
        if part in mine:
            raise FormatError(f"{mine[part]} and {path} are both the {part} of {match['id']}; keep one of them")
        mine[part] = path
    complexes, incomplete = [], {}
    for id, mine in sorted(parts.items()):
        ligands = tuple(mine[part] for part in ("ligand.sdf", "ligand.mol2") if part in mine)
        lacks = [name for name, there in (("protein", "protein.pdb" in mine), ("ligand", bool(ligands))) if not there]
        if lacks:
            incomplete[id] = f"no {' and no '.join(lacks)} file"
        else:
            complexes.append(ComplexFiles(id, mine["protein.pdb"], mine.get("pocket.pdb"), ligands))
    if not complexes:
        raise FormatError(f"{folder}: no complex ID/ID_protein.pdb with ID/ID_ligand.sdf or .mol2 in it")
    return Folder(tuple(complexes), incomplete, tuple(others))


def with_affinity(
    complexes: Iterable[ComplexFiles], index: Index
) -> tuple[list[tuple[ComplexFiles, IndexEntry]], tuple[str, ...], tuple[str, ...]]:
    """(complexes with their line, ids of complexes without a line, ids of lines without a complex)."""
    entry_of = {entry.id: entry for entry in index.entries}
    complexes = list(complexes)
    joined = [(files, entry_of[files.id]) for files in complexes if files.id in entry_of]
    found = {files.id for files, _ in joined}
    without_line = tuple(files.id for files in complexes if files.id not in found)
    return joined, without_line, tuple(id for id in entry_of if id not in found)
