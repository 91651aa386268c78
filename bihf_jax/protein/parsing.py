"""Structure files (.pdb, .ent, .cif, each also .gz) -> the arrays of a `Protein`.

The rules, in one place:

* **Model**: the first one of the file unless another is asked for by its number. An assembly is made of this model.
* **Chains** carry their author id (the one in publications); the mmCIF label id is kept beside it. A chain is a
  protein if its polymer has at least `MIN_CHAIN_RESIDUES` amino acids, and more of them than of anything else. DNA and
  RNA are left out and counted.
* **Residues** are the amino acids of the polymer, ATOM or HETATM; in PDB files that is every ATOM record, also after
  a TER inside the chain, and what a peptide bond ties to them, wherever in the file it stands. Modified ones become
  their parent (`residue_constants.residue_type_of`; else the one that the file's MODRES or
  `_pdbx_struct_mod_residue` names); a component of the polymer that no table knows is X if it has N, CA and C atoms.
  What is neither this, nor water, nor nucleic acid is a ligand (`bihf_jax.protein.ligands.Ligands`): also caps (ACE,
  NH2), free amino acids and sugars. Waters are left out and counted.
* **Unresolved residues**: where the file gives the full sequence of a chain (SEQRES, `_entity_poly_seq`), each of
  its amino acids has a slot, without atoms where the file has none. None is invented otherwise. mmCIF says itself
  which residue is which; in PDB files REMARK 465 does where it fits SEQRES, else the residues are aligned. A full
  sequence that contradicts the atoms is not used, and the chain named in the report.
* **Numbers**: author residue number and insertion code. Those of unresolved residues come from
  `_pdbx_poly_seq_scheme` or REMARK 465. Where the file gives none, the count goes on from the residue before (back
  from the first residue at the start of a chain) and the insertion code is `MADE_UP_NUMBER`.
* **Alternate locations**: of each position, the conformer with the highest occupancy, ties by label, then by order
  in the file; two residue names at one position (microheterogeneity) are decided by the same rule. An atom that this
  conformer lacks is taken from the next best.
* **Atoms**: the heavy atoms that the residue type has (`residue_constants.RESIDUE_ATOMS`). Hydrogens, atoms without
  coordinates, and atoms outside that list (such as the phosphate of SEP) are left out and counted; of ligands, only
  hydrogens and atoms without coordinates. A B factor that is no finite number is 0; one left blank is 20 (gemmi's).
* **Old PDB files** with the entry id and a serial number (or another label) in columns 73-80 are read up to column 72;
  the element then follows from the atom name.
* **Damage** that shows is an error. A text file cut between two records does not show it: `ParseReport.ends_early`.
* **Limits** keep time and memory in bounds whatever a file says: `MAX_BYTES`, `MAX_RESIDUES`, `MAX_ALIGNMENT`. An atom
  further out than `MAX_COORDINATE` has no coordinates.
"""

import collections
import contextlib
import dataclasses
import heapq
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

from bihf_jax.protein import residue_constants
from bihf_jax.protein.ligands import Ligands
from bihf_jax.protein.report import ParseReport

# Decompressed size up to which a file is read: ten times the mmCIF file of a human ribosome.
MAX_BYTES = 256 * 2**20
# Residues, unresolved ones and copies of an assembly counted: three times the largest structure of the PDB.
MAX_RESIDUES = 1_000_000
# Residues of a chain times residues of its full sequence: aligning the two takes time and memory in proportion.
MAX_ALIGNMENT = 200_000_000
# Å between C and the next N up to which there is a bond (it is 1.33 long; low-resolution models stretch it).
MAX_PEPTIDE_BOND = 2.0
# Å in x, y and z from the origin, far beyond any structure: squares of it stay exact enough, and no number overflows.
MAX_COORDINATE = 1e6
# A lone amino acid marked as polymer is a ligand; two linked ones are the shortest peptide.
MIN_CHAIN_RESIDUES = 2
# Insertion code of residues whose author number is not in the file.
MADE_UP_NUMBER = "?"
# Names that simulation programs give to water, beside those of the PDB.
_MORE_WATERS = frozenset(("SOL", "SPC", "TIP", "TIP3", "TP3"))

_FORMATS = {".pdb": "PDB", ".ent": "PDB", ".cif": "mmCIF"}
_ENDING = re.compile(r"(?<=.)\.(pdb|ent|cif)(\.gz)?$", re.IGNORECASE)
_GZIP_MAGIC = b"\x1f\x8b"


class StructureError(ValueError):
    """A structure that cannot be used; the message names the file, what is wrong and, where there is one, the fix."""


# --------------------------------------------------------------------------------------------------------------------
# Bytes
# --------------------------------------------------------------------------------------------------------------------


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a file, decompressed if its name ends in .gz; `StructureError` where that is impossible."""
    if not path.is_file():
        raise StructureError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    size = path.stat().st_size
    if size == 0:
        raise StructureError(f"{path.name}: the file is empty")
    if size > max_bytes:
        raise StructureError(_too_large(path, max_bytes))
    return unpack(path, path.read_bytes(), max_bytes)


def unpack(path: Path, data: bytes, max_bytes: int) -> bytes:
    """The content of a file that holds `data`, decompressed if the name of `path` ends in .gz; nothing is opened."""
    compressed = data.startswith(_GZIP_MAGIC)
    if path.name.lower().endswith(".gz"):
        if not compressed:
            raise StructureError(f"{path.name}: the content is not gzip; rename it to '{path.name[:-3]}'?")
        data = _decompress(path, data, max_bytes)
    elif compressed:
        raise StructureError(f"{path.name}: the content is gzip; rename it to '{path.name}.gz'")
    elif len(data) > max_bytes:
        raise StructureError(_too_large(path, max_bytes))
    _refuse_no_text(path, data)
    return data


def text_as_file(text: str, name: str, max_bytes: int) -> tuple[Path, bytes]:
    """The path and the content that a file with this text would have; `StructureError` where it is no structure."""
    data = text.encode("utf-8", errors="replace")
    if len(data) > max_bytes:
        raise StructureError(_too_large(Path(name), max_bytes))
    _refuse_no_text(Path(name), data)
    file_format = _format_of_content(data)
    if file_format is None:
        raise StructureError(f"{name}: neither PDB nor mmCIF text: no coordinate record and no data block in it")
    return Path(name + {"PDB": ".pdb", "mmCIF": ".cif"}[file_format]), data


def _refuse_no_text(path: Path, data: bytes) -> None:
    if not data.strip():
        raise StructureError(f"{path.name}: the file is empty")
    if num_nul := data.count(b"\0"):
        raise StructureError(f"{path.name}: {num_nul} NUL bytes: binary or damaged; expected PDB or mmCIF text")


def _decompress(path: Path, data: bytes, max_bytes: int) -> bytes:
    """All members of a gzip file, never more than `max_bytes` of them in memory."""
    parts, room = [], max_bytes
    while data.startswith(_GZIP_MAGIC):
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(data, room + 1))
        except zlib.error as error:
            raise StructureError(f"{path.name}: corrupt gzip data ({error}); fetch the file again") from error
        room -= len(parts[-1])
        if room < 0:
            raise StructureError(_too_large(path, max_bytes))
        if not member.eof:
            raise StructureError(f"{path.name}: truncated gzip data; fetch the file again")
        data = member.unused_data
    if data.strip(b"\0"):
        raise StructureError(f"{path.name}: {len(data)} bytes that are not gzip after the end of the gzip data")
    return b"".join(parts)


def _too_large(path: Path, max_bytes: int) -> str:
    return f"{path.name}: more than {max_bytes:,} bytes (decompressed); raise max_bytes if that is meant"


def format_of_name(path: Path) -> str:
    """ "PDB" or "mmCIF" by the ending of the name; `StructureError` where it is neither's."""
    _, ending = split_ending(path.name)
    if not ending:
        endings = ", ".join(_FORMATS)
        raise StructureError(f"{path.name}: unknown file ending; known: {endings}, each also with .gz")
    return _FORMATS[ending.lower().removesuffix(".gz")]


def split_ending(name: str) -> tuple[str, str]:
    """("1abc", ".cif.gz") of "1abc.cif.gz"; the ending is empty where it is not one of a structure file."""
    match = _ENDING.search(name)
    return (name[: match.start()], match.group()) if match else (name, "")


def _format_of(path: Path, data: bytes) -> str:
    """ "PDB" or "mmCIF" by the name's ending; an error if the content is the other, or neither."""
    expected, found = format_of_name(path), _format_of_content(data)
    if found != expected:
        what = f"the content is {found}" if found else f"no {expected} content (no coordinate record)"
        raise StructureError(f"{path.name}: {what}, but the ending says {expected}; wrong ending or damaged file")
    return expected


def _format_of_content(data: bytes) -> str | None:
    """ "PDB" or "mmCIF"; None where it looks like neither."""
    if re.match(rb"(\s|#[^\n]*\n)*data_", data, re.IGNORECASE):
        return "mmCIF"
    return "PDB" if re.search(rb"^(ATOM  |HETATM)", data, re.MULTILINE) else None


# --------------------------------------------------------------------------------------------------------------------
# Text -> gemmi
# --------------------------------------------------------------------------------------------------------------------


class _Missing(NamedTuple):
    """An unresolved residue of REMARK 465."""

    model: int  # 0: of all
    name: str
    number: int
    code: str


@dataclasses.dataclass(frozen=True)
class _Source:
    """A file as gemmi read it, and what it says about residues without coordinates."""

    structure: gemmi.Structure
    missing: dict[str, list[_Missing]]  # PDB: author chain id -> REMARK 465, in order
    scheme: dict[str, dict[int, tuple[int, str]]]  # mmCIF: label chain id -> position -> author number and code
    old_columns: bool = False
    ends_early: bool = False
    other_blocks: int = 0  # mmCIF: data blocks with coordinates beside the one that is read


def _read_pdb(path: Path, data: bytes) -> _Source:
    _refuse_cut_pdb(path, data)
    old_columns = _has_old_columns(data)
    try:
        structure = _gemmi_pdb(data, 72 if old_columns else 0)
    except RuntimeError as error:
        if "charge" not in str(error):
            raise
        # Columns 79-80 hold neither blanks nor a charge: another label of the old days, such as "0057 N83".
        old_columns = True
        structure = _gemmi_pdb(data, 72)
    ends_early = re.search(rb"^END\s*\Z", data[-2000:], re.MULTILINE) is None
    return _Source(structure, _remark_465(structure.raw_remarks), {}, old_columns=old_columns, ends_early=ends_early)


def _gemmi_pdb(data: bytes, max_line_length: int) -> gemmi.Structure:
    # Split at TER: gemmi would take a chain that begins again under the same id for repeated atoms of the first.
    return gemmi.read_pdb_string(data, max_line_length=max_line_length, split_chain_on_ter=True)


def _refuse_cut_pdb(path: Path, data: bytes) -> None:
    """An error where the file certainly ends too early: inside a coordinate record or an open MODEL."""
    *before, last = [
        line.rstrip() for line in data[-2000:].splitlines() if line.startswith((b"ATOM  ", b"HETATM"))
    ] or [b""]
    is_open = not data.endswith((b"\n", b"\r")) and data.rstrip().endswith(last)
    if is_open and last and len(last) < min(map(len, before), default=54):
        text = last.decode("latin-1")
        raise StructureError(f"{path.name}: truncated: the last line ends inside an atom record: {text!r}")
    if (b"\n" + data).rfind(b"\nMODEL ") > (b"\n" + data).rfind(b"\nEND"):
        raise StructureError(f"{path.name}: truncated: the last MODEL has neither ENDMDL nor END")


def _has_old_columns(data: bytes) -> bool:
    """Do the atom records carry the entry id in columns 73-76 and a serial number in 77-80 (PDB format before 1996)?

    Later files have a segment id there, which can look like an entry id, and then the element and its charge: letters,
    and a digit with a sign. So it takes the same entry id on all records and a bare number on one of them.
    """
    first = _FIRST_ATOM.search(data)
    if first is None or not _ENTRY_ID.match(first.group(1)):
        return False
    entry = first.group(1)[:4]
    texts = _ATOM_COLUMNS_73.findall(data)
    return all(text.startswith(entry) for text in texts) and any(_BARE_NUMBER.fullmatch(text[4:8]) for text in texts)


_FIRST_ATOM = re.compile(rb"^(?:ATOM  |HETATM).{66}(.{0,8})", re.MULTILINE)
_ATOM_COLUMNS_73 = re.compile(rb"^(?:ATOM  |HETATM).{66}([^\r\n]*)", re.MULTILINE)
_ENTRY_ID = re.compile(rb"[0-9][0-9A-Z]{3}")
_BARE_NUMBER = re.compile(rb" *[0-9]+ *")


def _remark_465(remarks: Iterable[str]) -> dict[str, list[_Missing]]:
    missing = collections.defaultdict(list)
    for remark in remarks:
        if match := _REMARK_465.match(remark):
            model, name, chain, number, code = match.groups()
            missing[chain.strip()].append(_Missing(int(model or 0), name, int(number), code or " "))
    return dict(missing)


_REMARK_465 = re.compile(r"REMARK 465 +(?:(\d+) +)?([A-Z0-9]{1,3}) (.) +(-?\d+)([A-Za-z]?) *$")


_NUMBER = re.compile(r"-?\d+")


def _read_mmcif(path: Path, data: bytes) -> _Source:
    document = gemmi.cif.read_string(data)
    blocks = [block for block in document if block.find_values("_atom_site.Cartn_x")]
    if not blocks:
        raise StructureError(f"{path.name}: no coordinates (_atom_site) in it")
    structure = gemmi.make_structure_from_block(blocks[0])
    scheme = collections.defaultdict(dict)
    table = blocks[0].find("_pdbx_poly_seq_scheme.", ["asym_id", "seq_id", "pdb_seq_num", "?pdb_ins_code"])
    has_codes = len(table) > 0 and table.has_column(3)
    for row in table:
        number = row.str(2)
        if _NUMBER.fullmatch(number):
            code = row.str(3) if has_codes else ""
            scheme[row.str(0)][int(row.str(1))] = (int(number), code or " ")
    return _Source(structure, {}, dict(scheme), ends_early=not data.endswith(b"\n"), other_blocks=len(blocks) - 1)


# --------------------------------------------------------------------------------------------------------------------
# gemmi -> arrays
# --------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Position:
    """One position of a chain that has coordinates: a residue, or several that compete for the place."""

    number: int
    code: str
    label: int | None  # position in the full sequence, 1-based
    residues: list[int]  # indices into the residues of the model
    names: list[str]
    chosen: int = 0  # which of the residues is kept


@dataclasses.dataclass
class _Slot:
    """One residue of the sequence."""

    name: str
    number: int | None  # author number; None until it is known
    code: str
    label: int
    residue: int | None  # index into the residues of the model; None: unresolved


@dataclasses.dataclass
class _Chain:
    name: str
    subchain: str
    positions: list[_Position]


class Copy(NamedTuple):
    """One copy that an assembly makes of some chains: x -> rotation @ x + translation."""

    chains: frozenset[str]  # author ids (PDB)
    subchains: frozenset[str]  # label ids (mmCIF)
    rotation: np.ndarray  # [3, 3]
    translation: np.ndarray  # [3] Å


@dataclasses.dataclass(frozen=True)
class FileContents:
    """What there is to choose from in a structure file."""

    models: tuple[int, ...]  # numbers of the models, as the file gives them
    chains: tuple[str, ...]  # author ids of the first model's chains, also those without protein
    assemblies: tuple[str, ...]  # names of the biological assemblies


def file_contents(path: str | Path, max_bytes: int = MAX_BYTES) -> FileContents:
    """Models, chains and assemblies of a structure file, for the arguments of `Protein.from_file`.

    Raises:
      StructureError: as `Protein.from_file`, where the file cannot be read at all.
    """
    path = Path(path)
    structure = _read_source(path, read_bytes(path, max_bytes))[0].structure
    _refuse_empty(path, structure)
    with _names_as_text(path):
        return FileContents(
            models=tuple(model.num for model in structure),
            chains=tuple(dict.fromkeys(chain.name for chain in structure[0])),
            assemblies=tuple(assembly.name for assembly in structure.assemblies),
        )


def read_structure(
    path: Path,
    data: bytes,
    *,
    model: int | None = None,
    assembly: str | None = None,
    chains: Sequence[str] | None = None,
) -> tuple[dict[str, object], list[Copy]]:
    """The fields of `Protein`, by name, from the content of a structure file; and the copies that make the assembly.

    Only the name of `path` is used. `Protein.from_file` documents the arguments.
    """
    source, file_format = _read_source(path, data)
    with _names_as_text(path):
        copies = [] if assembly is None else _copies_of(path, source.structure, assembly)
        return _read_chains(path, source, file_format, model, chains), copies


@contextlib.contextmanager
def _names_as_text(path: Path) -> Iterator[None]:
    """`StructureError` for a name that is not UTF-8, which gemmi finds when it is asked for."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise StructureError(f"{path.name}: a name in it is not text: {error.object!r}; damaged file?") from error


def _read_source(path: Path, data: bytes) -> tuple[_Source, str]:
    """The file as gemmi reads it, and its format."""
    file_format = _format_of(path, data)
    try:
        return (_read_pdb if file_format == "PDB" else _read_mmcif)(path, data), file_format
    except StructureError:
        raise
    except (RuntimeError, ValueError, IndexError, OverflowError) as error:  # what gemmi raises on bad text
        reason = str(error).split("\n")[0]
        raise StructureError(f"{path.name}: damaged or truncated {file_format} file: {reason}") from error


def _copies_of(path: Path, structure: gemmi.Structure, name: str) -> list[Copy]:
    names = [assembly.name for assembly in structure.assemblies]
    if name not in names:
        raise StructureError(f"{path.name}: no assembly {name!r}; assemblies: {', '.join(names) or 'none'}")
    copies = []
    for generator in structure.assemblies[names.index(name)].generators:
        for operator in generator.operators:
            rotation, translation = operator.transform.mat.tolist(), operator.transform.vec.tolist()
            chains, subchains = frozenset(generator.chains), frozenset(generator.subchains)
            copies.append(Copy(chains, subchains, np.array(rotation), np.array(translation)))
    return copies


def _read_chains(
    path: Path, source: _Source, file_format: str, model: int | None, chains: Sequence[str] | None
) -> dict[str, object]:
    """Bring the structure into one form (one model, asked chains, polymers marked), then read its arrays."""
    structure = source.structure
    _refuse_empty(path, structure)
    tally = _Tally()
    tally.models, tally.assemblies = len(structure), tuple(assembly.name for assembly in structure.assemblies)
    tally.file_atoms = sum(entry.count_atom_sites() for entry in structure)
    _keep_model(path, structure, model)
    tally.other_model_atoms = tally.file_atoms - structure[0].count_atom_sites()
    structure.merge_chain_parts()
    if chains is not None:
        _keep_chains(path, structure, chains)
        tally.unasked_chain_atoms = tally.file_atoms - tally.other_model_atoms - structure[0].count_atom_sites()
    structure.add_entity_types()
    if file_format == "PDB" or not any(entity.full_sequence for entity in structure.entities):
        for chain in structure[0]:
            _restore_polymer(chain)
        structure.assign_subchains(force=True)
    structure.setup_entities()
    _refuse_long(path, structure)
    structure.assign_label_seq_id()
    return _build_fields(path, source, tally)


def _refuse_empty(path: Path, structure: gemmi.Structure) -> None:
    if len(structure) == 0 or not any(len(chain) for entry in structure for chain in entry):
        raise StructureError(f"{path.name}: no atoms in it")


def _refuse_long(path: Path, structure: gemmi.Structure) -> None:
    """An error where the full sequences ask for more residues, or for a longer alignment, than the limits."""
    lengths = {span.subchain_id(): len(span) for span in structure[0].subchains()}
    total = 0
    for entity in structure.entities:
        length = len(entity.full_sequence)
        observed = [lengths[subchain] for subchain in entity.subchains if subchain in lengths]
        total += sum(max(length, number) for number in observed)
        if length * max(observed, default=0) > MAX_ALIGNMENT:
            sizes = f"{max(observed)} residues with atoms and a full sequence of {length}"
            raise StructureError(f"{path.name}: a chain has {sizes}, more than can be aligned; split the chain")
    if total > MAX_RESIDUES:
        raise StructureError(f"{path.name}: {total:,} residues; at most {MAX_RESIDUES:,} are read; select chains")


def _keep_model(path: Path, structure: gemmi.Structure, model: int | None) -> None:
    """Delete all models but the one asked for (the first if None)."""
    numbers = [entry.num for entry in structure]
    if model is not None and model not in numbers:
        raise StructureError(f"{path.name}: no model {model}; models: {', '.join(map(str, numbers))}")
    kept = 0 if model is None else numbers.index(model)
    for index in reversed(range(len(numbers))):
        if index != kept:
            del structure[index]


def _restore_polymer(chain: gemmi.Chain) -> None:
    """Mark and order the polymer of a chain whose file does not say which residues belong to it.

    gemmi goes by TER, which some programs write at each gap, and else by the first hetero residue, which some write
    after the chain. So ATOM records of amino acids are polymer, and HETATM ones where a peptide bond ties them to it.
    """
    residues = list(chain)
    polymer = [
        residue.entity_type == gemmi.EntityType.Polymer
        or (residue.het_flag == "A" and (_is_tabulated(residue) or _has_backbone(residue)))
        for residue in residues
    ]
    order = [index for index, is_polymer in enumerate(polymer) if is_polymer]
    loose = [index for index, is_polymer in enumerate(polymer) if not is_polymer and _has_backbone(residues[index])]
    if order and loose:
        _insert_bonded(residues, order, loose)
    if not order or all(residues[index].entity_type == gemmi.EntityType.Polymer for index in order):
        return
    members = set(order)
    order += [index for index in range(len(residues)) if index not in members]
    copies = [residues[index].clone() for index in order]
    for _ in range(len(residues)):
        del chain[0]
    for index, copy in zip(order, copies, strict=True):
        if index in members:
            copy.entity_type = gemmi.EntityType.Polymer
        elif copy.entity_type in (gemmi.EntityType.Polymer, gemmi.EntityType.Unknown):
            copy.entity_type = gemmi.EntityType.NonPolymer
        chain.add_residue(copy)


def _is_tabulated(residue: gemmi.Residue) -> bool:
    return residue_constants.residue_type_of(residue.name) is not None


def _has_backbone(residue: gemmi.Residue) -> bool:
    """Has it the three atoms that make a component of unknown name an amino acid?"""
    return all(name in residue for name in ("N", "CA", "C"))


def _insert_bonded(residues: list[gemmi.Residue], order: list[int], loose: list[int]) -> None:
    """Put the loose residues that peptide bonds tie to the polymer, also through each other, into its order."""
    n_atoms, c_atoms = (np.array([_atom_position(residue, name) for residue in residues]) for name in ("N", "C"))

    def bonded(c: np.ndarray, n: np.ndarray) -> np.ndarray:
        return np.flatnonzero(np.linalg.norm(c - n, axis=1) <= MAX_PEPTIDE_BOND)

    members = collections.deque(order)  # those whose loose neighbours are not yet looked for
    remaining = np.array(loose)
    while members and len(remaining):
        member = members.popleft()
        after = bonded(c_atoms[member], n_atoms[remaining])
        before = bonded(c_atoms[remaining], n_atoms[member])
        place = order.index(member)
        # Competing ones keep the order of the file: the last is inserted first.
        for index in remaining[after][::-1]:
            order.insert(place + 1, int(index))
        for index in remaining[np.setdiff1d(before, after)][::-1]:
            order.insert(place, int(index))
        found = np.union1d(before, after)
        members.extend(remaining[found].tolist())
        remaining = np.delete(remaining, found)


def _atom_position(residue: gemmi.Residue, name: str) -> list[float]:
    """[3] Å of the first atom of this name; not a number where there is none."""
    return residue[name][0].pos.tolist() if name in residue else [np.nan] * 3


def _keep_chains(path: Path, structure: gemmi.Structure, chains: Sequence[str]) -> None:
    names = list(dict.fromkeys(chain.name for chain in structure[0]))
    check_chain_ids(chains, names, path.name)
    for name in names:
        if name not in chains:
            structure[0].remove_chain(name)


def check_chain_ids(wanted: Sequence[str], available: Sequence[str], source: str) -> None:
    """`StructureError` unless every wanted chain id is available; `source` names the structure in the message."""
    if isinstance(wanted, str):
        raise StructureError(f"{source}: chains must be a list of ids such as ['A', 'B'], got the string {wanted!r}")
    if len(wanted) == 0:
        raise StructureError(f"{source}: no chain asked for; chains: {', '.join(available)}")
    for chain in wanted:
        if chain not in available:
            raise StructureError(f"{source}: no chain {chain!r}; chains: {', '.join(available)}")


def _build_fields(path: Path, source: _Source, tally: "_Tally") -> dict[str, object]:
    structure = source.structure
    parents = {entry.res_id.name: entry.parent_comp_id for entry in structure.mod_residues}
    found = _sort_residues(structure[0], parents, path.name)
    if not found.chains:
        others = ", ".join(dict.fromkeys(chain.name for chain in structure[0]))
        raise StructureError(f"{path.name}: no protein in it (chains without protein: {others})")
    atoms = _Atoms.of(structure, found.sizes)
    entities = {subchain: entity for entity in structure.entities for subchain in entity.subchains}
    slots: list[list[_Slot]] = []
    for chain in found.chains:
        for position in chain.positions:
            if len(position.residues) > 1:
                _choose_residue(position, atoms, tally)
        slots.append(_slots_of(chain, entities.get(chain.subchain), source, parents, tally))
    flat = [slot for chain_slots in slots for slot in chain_slots]
    names = [slot.name for slot in flat]
    counts = collections.Counter(names)
    type_of = {name: _type_of(name, parents) for name in counts}
    types = np.array([type_of[name] for name in names], dtype=np.int8)
    tally.modified.update({name: n for name, n in counts.items() if name not in residue_constants.RESIDUE_NAMES})
    arrays = atoms.to_arrays([slot.residue for slot in flat], names, types, tally)
    ligands = _read_ligands(found.ligands, atoms, tally).by_chain([chain.name for chain in found.chains])
    codes = [slot.code for slot in flat]
    _refuse_odd_text(
        path, {text for chain in found.chains for text in (chain.name, chain.subchain)}.union(codes), ligands
    )
    _count_left_out(structure[0], found, ligands, atoms, tally)
    tally.unresolved = int((~arrays["atom_mask"].any(axis=1)).sum())
    tally.repeated_numbers = len(flat) - len({(chain, slot.number, slot.code) for chain, slot in _numbered(slots)})
    tally.sequences_without_atoms = _count_sequences_without_atoms(structure, parents)
    tally.old_columns, tally.ends_early = source.old_columns, source.ends_early
    tally.other_blocks = source.other_blocks
    return {
        "residue_type": types,
        **arrays,
        "chain_index": np.repeat(np.arange(len(slots), dtype=np.int32), [len(entry) for entry in slots]),
        "chain_ids": tuple(chain.name for chain in found.chains),
        "label_chain_ids": tuple(chain.subchain for chain in found.chains),
        "residue_number": _to_int32(path, [slot.number for slot in flat]),
        "label_residue_number": np.array([slot.label for slot in flat], dtype=np.int32),
        "insertion_code": np.array(codes, dtype="<U1"),
        "ligands": ligands,
        "source": path.name,
        "report": tally.report(),
    }


def _count_left_out(model: gemmi.Model, found: "_Residues", ligands: Ligands, atoms: "_Atoms", tally: "_Tally") -> None:
    kept = {chain.name for chain in found.chains} | set(ligands.chain_ids.tolist())
    tally.chains_left_out = tuple(dict.fromkeys(chain.name for chain in model if chain.name not in kept))
    tally.waters, tally.water_atoms = len(found.waters), atoms.count(found.waters)
    tally.nucleotides = collections.Counter(name for name, _ in found.nucleotides)
    tally.nucleotide_atoms = atoms.count(index for _, index in found.nucleotides)


def _to_int32(path: Path, numbers: list[int]) -> np.ndarray:
    """[n] int32 residue numbers."""
    try:
        return np.array(numbers, dtype=np.int32)
    except OverflowError as error:
        widest = max(numbers, key=abs)
        raise StructureError(
            f"{path.name}: residue number {widest}; it must fit into 32 bits; damaged file?"
        ) from error


def _refuse_odd_text(path: Path, texts: Iterable[str], ligands: Ligands) -> None:
    """An error where an id or a name is not printable ASCII, which both formats demand."""
    arrays = (ligands.names, ligands.chain_ids, ligands.label_chain_ids, ligands.insertion_code, ligands.atom_names)
    for text in {*texts, *(text for array in arrays for text in array.tolist())}:
        if not (text.isascii() and (text.isprintable() or not text)):
            raise StructureError(f"{path.name}: {text!r} as an id or a name; it must be printable ASCII; damaged file?")


def _numbered(slots: list[list[_Slot]]) -> Iterable[tuple[int, _Slot]]:
    return ((chain, slot) for chain, chain_slots in enumerate(slots) for slot in chain_slots)


def _count_sequences_without_atoms(structure: gemmi.Structure, parents: dict[str, str]) -> int:
    present = {span.subchain_id() for span in structure[0].subchains()}
    return sum(
        not present.intersection(entity.subchains)
        and sum(_is_amino_acid(gemmi.Entity.first_mon(item), parents) for item in entity.full_sequence)
        >= MIN_CHAIN_RESIDUES
        for entity in structure.entities
    )


class _Tally:
    """Counts on their way into a `ParseReport`, under the names of its fields."""

    def __init__(self):
        for field in dataclasses.fields(ParseReport):
            if field.default is dataclasses.MISSING:
                setattr(self, field.name, collections.Counter())
            else:
                setattr(self, field.name, field.default)

    def report(self) -> ParseReport:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(ParseReport)}
        return ParseReport(**{k: dict(v) if isinstance(v, collections.Counter) else v for k, v in values.items()})


def _type_of(name: str, parents: dict[str, str]) -> int:
    """Residue type of a component of a protein chain, by our tables, else by the file's own statement, else X."""
    residue_type = residue_constants.residue_type_of(name)
    if residue_type is None and name in parents:
        residue_type = residue_constants.residue_type_of(parents[name])
    return residue_constants.UNKNOWN_RESIDUE if residue_type is None else residue_type


def _is_amino_acid(name: str, parents: dict[str, str]) -> bool:
    is_known = residue_constants.residue_type_of(name) is not None
    return is_known or (name in parents and residue_constants.residue_type_of(parents[name]) is not None)


class _Ligand(NamedTuple):
    """A ligand of the file: its chain, its residue, and the index of that among the residues of the model."""

    chain: str
    subchain: str
    residue: gemmi.Residue
    index: int


@dataclasses.dataclass
class _Residues:
    """The residues of a model, sorted by what they are. Indices count the residues of the model."""

    chains: list[_Chain] = dataclasses.field(default_factory=list)  # the protein
    ligands: list[_Ligand] = dataclasses.field(default_factory=list)
    waters: list[int] = dataclasses.field(default_factory=list)
    nucleotides: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # names and indices
    sizes: list[int] = dataclasses.field(default_factory=list)  # atoms of every residue


_OfPolymer = tuple[int, str, gemmi.Residue]  # index, name, residue


def _sort_residues(model: gemmi.Model, parents: dict[str, str], source: str) -> _Residues:
    found, index = _Residues(), 0
    for chain in model:
        polymers: dict[str, list[_OfPolymer]] = {}
        last = None
        for residue in chain:
            seqid, name = residue.seqid, residue.name
            if last == (name, seqid):
                found.sizes[-1] += len(residue)  # gemmi splits a residue where the segment id changes within it
                continue
            if seqid.num is None:
                raise StructureError(f"{source}: a residue {name} without a number; damaged file?")
            if residue.entity_type == gemmi.EntityType.Polymer:
                polymers.setdefault(residue.subchain, []).append((index, name, residue))
            elif residue.is_water() or name in _MORE_WATERS:
                found.waters.append(index)
            else:
                found.ligands.append(_Ligand(chain.name, residue.subchain, residue, index))
            found.sizes.append(len(residue))
            index += 1
            last = (name, seqid)
        for subchain, residues in polymers.items():
            _sort_polymer(chain.name, subchain, residues, parents, found)
    return found


def _sort_polymer(
    chain: str,
    subchain: str,
    residues: list[_OfPolymer],
    parents: dict[str, str],
    found: _Residues,
) -> None:
    """A polymer into `found`: as a protein chain, its other components as ligands, or as nucleic acid, or as ligands.

    Residues that compete for a place (same number) share a position.
    """
    is_amino_acid = {name: _is_amino_acid(name, parents) for name in {name for _, name, _ in residues}}
    amino = [is_amino_acid[name] for _, name, _ in residues]
    others: list[_OfPolymer] = []
    if sum(amino) >= MIN_CHAIN_RESIDUES and 2 * sum(amino) > len(residues):
        positions: list[_Position] = []
        for (index, name, residue), is_amino in zip(residues, amino, strict=True):
            if not is_amino and not _has_backbone(residue):
                others.append((index, name, residue))
                continue
            seqid = residue.seqid
            number, code = seqid.num, seqid.icode
            if positions and (positions[-1].number, positions[-1].code) == (number, code):
                positions[-1].residues.append(index)
                positions[-1].names.append(name)
            else:
                positions.append(_Position(number, code, residue.label_seq, [index], [name]))
        found.chains.append(_Chain(chain, subchain, positions))
    else:
        nucleic = [gemmi.find_tabulated_residue(name).is_nucleic_acid() for _, name, _ in residues]
        if 2 * sum(nucleic) >= len(residues) > 1:
            found.nucleotides.extend((name, index) for index, name, _ in residues)
        else:
            others = residues
    # Components of a polymer share its id; as ligands they need their own.
    found.ligands.extend(
        _Ligand(chain, f"{subchain}_{count}", residue, index)
        for count, (index, _, residue) in enumerate(others, start=1)
    )


# --------------------------------------------------------------------------------------------------------------------
# Atoms
# --------------------------------------------------------------------------------------------------------------------

_DEUTERIUM = 119  # gemmi's number for D in its list of elements


def flat_atoms(structure: gemmi.Structure) -> gemmi.FlatStructure:
    """The atoms of a structure as arrays; without the names of chains and residues where gemmi finds some too long."""
    try:
        return gemmi.FlatStructure(structure)
    except RuntimeError:
        anonymous = structure.clone()
        for chain in (chain for model in anonymous for chain in model):
            chain.name = ""
            for residue in chain:
                residue.name = residue.subchain = ""
        return gemmi.FlatStructure(anonymous)


@dataclasses.dataclass
class _Atoms:
    """All atoms of the model as flat arrays, residue after residue."""

    name: np.ndarray  # [n] bytes
    element: np.ndarray  # [n] int8 atomic number
    is_hydrogen: np.ndarray  # [n] bool
    position: np.ndarray  # [n, 3] float64 Å
    occupancy: np.ndarray  # [n] float32
    b_factor: np.ndarray  # [n] float32
    altloc: np.ndarray  # [n] int8, ASCII, 0 where none
    start: list[int]  # [residues + 1] first atom of each residue
    has_altloc: np.ndarray  # [residues] bool

    @classmethod
    def of(cls, structure: gemmi.Structure, sizes: list[int]) -> "_Atoms":
        flat = flat_atoms(structure)
        element = np.array(flat.elements).astype(np.int8)
        start = [0, *itertools.accumulate(sizes)]
        altloc = np.array(flat.altlocs)
        has_altloc = np.zeros(len(sizes), dtype=bool)
        has_altloc[np.searchsorted(start, np.flatnonzero(altloc), side="right") - 1] = True
        return cls(
            name=np.ascontiguousarray(flat.atom_names).view("S8").ravel(),
            element=element,
            is_hydrogen=np.isin(element, (1, _DEUTERIUM)),
            position=np.array(flat.pos),
            occupancy=np.array(flat.occ),
            b_factor=np.array(flat.b_iso),
            altloc=altloc,
            start=start,
            has_altloc=has_altloc,
        )

    def rows(self, residue: int) -> range:
        return range(self.start[residue], self.start[residue + 1])

    def conformer_ranks(self, residue: int) -> list[tuple[float, int]]:
        """(-highest occupancy, label) of the conformers of a residue, best first."""
        best: dict[int, float] = {}
        for row in self.rows(residue):
            label = int(self.altloc[row])
            best[label] = max(best.get(label, -1.0), float(self.occupancy[row]))
        return sorted((-occupancy, label) for label, occupancy in best.items())

    def chosen_rows(self, residue: int) -> list[int]:
        """One row for each atom name of a residue: of the best conformer, else of the next best that has it."""
        labels = [label for _, label in self.conformer_ranks(residue)]
        named = [label for label in labels if label]
        preference = {0: 0, **{label: rank for rank, label in enumerate(named)}}
        chosen: dict[bytes, int] = {}
        for row in sorted(
            self.rows(residue), key=lambda row: (preference[int(self.altloc[row])], -self.occupancy[row])
        ):
            chosen.setdefault(bytes(self.name[row]), row)
        return sorted(chosen.values())

    def count(self, residues: Iterable[int]) -> int:
        """Atoms of these residues."""
        return sum(len(self.rows(residue)) for residue in residues)

    def heavy_rows(self, residues: Sequence[int | None], tally: _Tally) -> tuple[np.ndarray, np.ndarray]:
        """Heavy atoms with coordinates, of the kept conformers: [n] rows, and [n] which of `residues` has each."""
        rows, places, sizes = [], [], []
        start, has_altloc = self.start, self.has_altloc.tolist()
        for place, residue in enumerate(residues):
            if residue is None:
                continue
            if has_altloc[residue]:
                chosen = self.chosen_rows(residue)
                tally.altloc_atoms += len(self.rows(residue)) - len(chosen)
            else:
                chosen = range(start[residue], start[residue + 1])
            rows.extend(chosen)
            places.append(place)
            sizes.append(len(chosen))
        row = np.array(rows, dtype=np.int64)
        place = np.repeat(np.array(places, dtype=np.int64), sizes)
        hydrogen = self.is_hydrogen[row]
        tally.hydrogen_atoms += int(hydrogen.sum())
        placed = (np.abs(self.position[row]) <= MAX_COORDINATE).all(axis=1)  # False for NaN, too
        tally.unplaced_atoms += int((~placed & ~hydrogen).sum())
        return row[placed & ~hydrogen], place[placed & ~hydrogen]

    def finite_b_factors(self, row: np.ndarray, tally: _Tally) -> np.ndarray:
        """[n] float32 Å² of these rows, 0 where the file gives no number."""
        finite = np.isfinite(self.b_factor[row])
        tally.unknown_b_factors += int((~finite).sum())
        return np.where(finite, self.b_factor[row], np.float32(0))

    def to_arrays(
        self, residues: list[int | None], names: list[str], types: np.ndarray, tally: _Tally
    ) -> dict[str, np.ndarray]:
        """`atom_positions`, `atom_mask` and `b_factors` of slots that take the atoms of the given residues."""
        row, slot = self.heavy_rows(residues, tally)
        atom = self._atom_index(row, slot, names)
        known = (atom >= 0) & residue_constants.ATOM_ALLOWED[types[slot], atom]
        for bad_slot, bad_row in zip(slot[~known], row[~known], strict=True):
            tally.other_atoms[f"{names[bad_slot]}:{self.name[bad_row].decode()}"] += 1
        row, slot, atom = row[known], slot[known], atom[known]

        _, first = np.unique(slot * residue_constants.NUM_ATOMS + atom, return_index=True)
        tally.repeated_atoms += len(row) - len(first)
        row, slot, atom = row[first], slot[first], atom[first]

        shape = (len(residues), residue_constants.NUM_ATOMS)
        positions, mask = np.zeros((*shape, 3), dtype=np.float32), np.zeros(shape, dtype=bool)
        b_factors = np.zeros(shape, dtype=np.float32)
        positions[slot, atom] = self.position[row]
        mask[slot, atom] = True
        b_factors[slot, atom] = self.finite_b_factors(row, tally)
        return {"atom_positions": positions, "atom_mask": mask, "b_factors": b_factors}

    def _atom_index(self, row: np.ndarray, slot: np.ndarray, names: list[str]) -> np.ndarray:
        """Index into `ATOM_NAMES` of each row's atom, -1 where it is none of them."""
        # Eight bytes as one integer: sorts many times as fast as text.
        unique, inverse = np.unique(self.name[row].view(np.uint64), return_inverse=True)
        decoded = [name.decode("latin-1") for name in unique.view("S8")]
        index = np.array([residue_constants.ATOM_INDEX.get(name, -1) for name in decoded], dtype=np.int64)[inverse]
        aliased = np.array([name in _ALIASED_ATOMS for name in decoded], dtype=bool)[inverse]
        for at in np.flatnonzero(aliased):
            atom = self.name[row[at]].decode("latin-1")
            for residue_name in (names[slot[at]], "*"):
                if (residue_name, atom) in residue_constants.ATOM_ALIASES:
                    index[at] = residue_constants.ATOM_INDEX[residue_constants.ATOM_ALIASES[residue_name, atom]]
        return index


_ALIASED_ATOMS = frozenset(atom for _, atom in residue_constants.ATOM_ALIASES)


def _choose_residue(position: _Position, atoms: _Atoms, tally: _Tally) -> None:
    """Of several residues at one position keep the one with the best conformer (first in the file if equal)."""
    tally.microheterogeneities += 1
    position.chosen = min(range(len(position.residues)), key=lambda i: atoms.conformer_ranks(position.residues[i])[0])
    tally.altloc_atoms += atoms.count(residue for i, residue in enumerate(position.residues) if i != position.chosen)


# --------------------------------------------------------------------------------------------------------------------
# Ligands
# --------------------------------------------------------------------------------------------------------------------


def _read_ligands(found: list[_Ligand], atoms: _Atoms, tally: _Tally) -> Ligands:
    """The ligands in the order of the file, without those that have no heavy atom with coordinates."""
    kept = _choose_ligands(found, atoms, tally)
    row, place = atoms.heavy_rows([ligand.index for ligand in kept], tally)
    present, molecule = np.unique(place, return_inverse=True)
    tally.empty_ligands += len(kept) - len(present)
    kept = [kept[index] for index in present]
    tally.ligands.update(ligand.residue.name for ligand in kept)
    return Ligands(
        names=np.array([ligand.residue.name for ligand in kept], dtype="U"),
        chain_ids=np.array([ligand.chain for ligand in kept], dtype="U"),
        label_chain_ids=np.array([ligand.subchain for ligand in kept], dtype="U"),
        residue_number=np.array([ligand.residue.seqid.num for ligand in kept], dtype=np.int32),
        insertion_code=np.array([ligand.residue.seqid.icode for ligand in kept], dtype="<U1"),
        elements=atoms.element[row],
        atom_names=np.array([name.decode("ascii") for name in atoms.name[row].tolist()], dtype="U"),
        atom_positions=atoms.position[row].astype(np.float32),
        b_factors=atoms.finite_b_factors(row, tally),
        molecule_index=molecule.astype(np.int32),
    )


def _choose_ligands(found: list[_Ligand], atoms: _Atoms, tally: _Tally) -> list[_Ligand]:
    """Of ligands that are alternatives of each other (one number, altloc labels) keep the one that residues would."""
    groups: list[list[_Ligand]] = []
    for ligand in found:
        previous = groups[-1][-1] if groups else None
        if (
            previous is not None
            and (previous.chain, previous.residue.seqid) == (ligand.chain, ligand.residue.seqid)
            and atoms.has_altloc[previous.index]
            and atoms.has_altloc[ligand.index]
        ):
            groups[-1].append(ligand)
        else:
            groups.append([ligand])
    kept = []
    for group in groups:
        position = _Position(0, " ", None, [ligand.index for ligand in group], [])
        if len(group) > 1:
            _choose_residue(position, atoms, tally)
        kept.append(group[position.chosen])
    return kept


# --------------------------------------------------------------------------------------------------------------------
# Full sequence
# --------------------------------------------------------------------------------------------------------------------


def _slots_of(
    chain: _Chain, entity: gemmi.Entity | None, source: _Source, parents: dict[str, str], tally: _Tally
) -> list[_Slot]:
    """The residues of a chain: those of its full sequence where the file gives a fitting one, else the observed."""
    observed = [
        _Slot(
            position.names[position.chosen], position.number, position.code, label, position.residues[position.chosen]
        )
        for label, position in enumerate(chain.positions, start=1)
    ]
    full_sequence = [] if entity is None else entity.full_sequence
    if not full_sequence:
        tally.no_full_sequence += (chain.name,)
        return observed
    # Caps and the like keep their number in the full sequence but get no slot.
    # Item -> its names, several where it is microheterogeneous.
    names_of = {item: item.split(",") for item in set(full_sequence)}
    amino = {item for item in names_of if _is_amino_acid(gemmi.Entity.first_mon(item), parents)}
    sequence = {label: names_of[item] for label, item in enumerate(full_sequence, start=1) if item in amino}
    models = (0, source.structure[0].num)
    listed = source.missing.get(chain.name, [])
    missing = [entry for entry in listed if entry.model in models and _is_amino_acid(entry.name, parents)]
    by_label = _merge_by_number(chain, missing, sequence, parents) or _place_by_label(
        chain, sequence, len(full_sequence), parents
    )
    if by_label is None:
        tally.sequence_conflicts += (chain.name,)
        return observed
    slots = []
    for label in sorted(sequence.keys() | by_label.keys()):
        if label in by_label:
            slots.append(observed[by_label[label]])
            slots[-1].label = label
        else:
            slots.append(_Slot(sequence[label][0], None, " ", label, None))
    _number_unresolved(slots, missing, source.scheme.get(chain.subchain, {}))
    tally.made_up_numbers += _count_on(slots)
    return slots


def _fits(position: _Position, names: list[str] | None, parents: dict[str, str]) -> bool:
    """May an observed position be this item of the full sequence (names: several where it is microheterogeneous)?

    A component of the polymer that is no known amino acid has no item (None): nothing contradicts it.
    """
    if names is not None and position.names[0] in names:
        return True
    if names is None:
        return not any(_is_amino_acid(name, parents) for name in position.names)
    types = {_type_of(name, parents) for name in names}
    return any(name in names or _type_of(name, parents) in types for name in position.names)


def _merge_by_number(
    chain: _Chain, missing: list[_Missing], sequence: dict[int, list[str]], parents: dict[str, str]
) -> dict[int, int] | None:
    """Position in the full sequence -> observed position, by sorting REMARK 465 in among the observed residues.

    This needs no alignment, so it is right where a gap could lie at several places. None where the result is not
    exactly the full sequence: no REMARK 465, or residue numbers that do not rise along the chain.
    """
    if not missing or len(missing) + len(chain.positions) != len(sequence):
        return None
    seen = [((position.number, position.code), index) for index, position in enumerate(chain.positions)]
    unseen = [((entry.number, entry.code), entry) for entry in missing]
    merged = heapq.merge(seen, unseen, key=lambda item: item[0])
    placed = {}
    for (label, names), (_, item) in zip(sequence.items(), merged, strict=True):
        if isinstance(item, _Missing):
            if item.name not in names:
                return None
        elif _fits(chain.positions[item], names, parents):
            placed[label] = item
        else:
            return None
    return placed


def _place_by_label(
    chain: _Chain, sequence: dict[int, list[str]], length: int, parents: dict[str, str]
) -> dict[int, int] | None:
    """Position in the full sequence -> observed position, by the label number of the file or of gemmi's alignment.

    None if an observed residue has no such number, if they do not rise along the chain from 1 to its `length`, or if
    one of them is another amino acid in the full sequence.
    """
    placed: dict[int, int] = {}
    last = 0
    for index, position in enumerate(chain.positions):
        label = position.label
        if label is None or not last < label <= length or not _fits(position, sequence.get(label), parents):
            return None
        placed[label] = index
        last = label
    return placed


def _number_unresolved(slots: list[_Slot], missing: list[_Missing], scheme: dict[int, tuple[int, str]]) -> None:
    """Give unresolved slots the author numbers that the file states, where it does."""
    unresolved = [slot for slot in slots if slot.residue is None]
    for slot in unresolved:
        if slot.label in scheme:
            slot.number, slot.code = scheme[slot.label]
    if [slot.name for slot in unresolved] == [entry.name for entry in missing]:
        for slot, entry in zip(unresolved, missing, strict=True):
            slot.number, slot.code = entry.number, entry.code


def _count_on(slots: list[_Slot]) -> int:
    """Number the slots that have no number yet, as the module docstring says; returns how many they were."""
    unnumbered = [slot for slot in slots if slot.number is None]
    if not unnumbered:
        return 0
    first = next(index for index, slot in enumerate(slots) if slot.number is not None)
    for before in range(first - 1, -1, -1):
        slots[before].number, slots[before].code = slots[before + 1].number - 1, MADE_UP_NUMBER
    taken = {slot.number for slot in slots if slot.code == MADE_UP_NUMBER}
    for previous, slot in zip(slots[first:], slots[first + 1 :], strict=False):
        if slot.number is None:
            slot.number, slot.code = previous.number + 1, MADE_UP_NUMBER
            while slot.number in taken:
                slot.number += 1
            taken.add(slot.number)
    return len(unnumbered)
