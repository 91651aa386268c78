"""ATOM3D's LMDB data sets (Townshend et al. 2021, https://arxiv.org/abs/2012.04035): LBA and PSR.

An LMDB holds ``num_examples``, ``serialization_format``, ``id_to_idx``, and under "0", "1", ... gzip data of one entry:
JSON, in which a pandas frame is ``{"columns": [...], "index": [...], "data": [...]}``. An LMDB in another serialisation
(``pkl`` runs code when it is read; ``msgpack``) is refused by its name.

* **LBA**: ``atoms_protein``, ``atoms_pocket``, ``atoms_ligand`` and perhaps ``bonds``; ``scores.neglog_aff``;
* **PSR**: ``atoms``; ``scores`` with gdt_ts, gdt_ha, tm and rmsd; the id is the text ``('T0949', 'server_TS1')``.

Protein atoms become a `Protein` as those of a PDB file do: their frame is the columns of one. What a user downloads as
a split is a folder with the LMDBs ``data/train``, ``data/val``, ``data/test`` (`split_folders`), or lists of positions
in the LMDB of the raw data, ``indices/train_indices.txt`` (`read_indices`).
"""

import ast
import dataclasses
import functools
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from bihf_jax.data.molecules import Molecule, MoleculeError, from_rdkit
from bihf_jax.protein import Protein, StructureError
from data_prep.formats.text import FormatError, find_file, numbered_lines

SPLITS = ("train", "val", "test")

_BOND_ORDERS = {1.0: "SINGLE", 1.5: "AROMATIC", 2.0: "DOUBLE", 3.0: "TRIPLE"}
_ATOM_COLUMNS = ("chain", "hetero", "insertion_code", "residue", "resname", "altloc", "occupancy", "bfactor", "x", "y")
_ATOM_COLUMNS += ("z", "element", "fullname")


@dataclasses.dataclass(frozen=True)
class LbaEntry:
    """A protein with its ligand and affinity."""

    id: str  # PDB id
    protein: Protein
    pocket: Protein  # residues near the ligand
    ligand: Molecule
    pk: float  # -log10 of Kd or Ki in mol/l
    smiles: str


@dataclasses.dataclass(frozen=True)
class PsrEntry:
    """A model of a CASP target and how good it is."""

    target: str
    model: str
    protein: Protein
    scores: dict[str, float]  # gdt_ts, gdt_ha and tm in [0, 1], rmsd in Å; those that the entry has


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An entry that could not be read."""

    position: int
    id: str
    reason: str


class Database:
    """Random access to the entries of one LMDB folder; a context manager, as it holds the file open."""

    def __init__(self, folder: Path) -> None:
        """Open the LMDB; needs lmdb.

        Raises:
          FormatError: lmdb is not installed, no LMDB of ATOM3D in the folder, or another serialisation than JSON.
        """
        self.folder = Path(folder)
        try:
            import lmdb
        except ImportError as error:
            raise FormatError(f"{folder}: reading LMDB needs lmdb: pip install 'bihf_jax[formats]'") from error
        if not (self.folder / "data.mdb").is_file():
            raise FormatError(f"{folder}: no data.mdb in it; name the folder of one LMDB, such as data/train")
        try:
            self._environment = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False, max_readers=1)
        except lmdb.Error as error:
            raise FormatError(f"{folder}: not a readable LMDB ({error})") from error
        try:
            self.id_of = self._read_ids()
        except FormatError:
            self.close()
            raise

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._environment.close()

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.id_of)

    def _get(self, key: str) -> bytes:
        with self._environment.begin() as transaction:
            value = transaction.get(key.encode())
        if value is None:
            raise FormatError(f"{self.folder}: no key {key!r}; is it an LMDB of ATOM3D, and whole?")
        return value

    def _read_ids(self) -> tuple[str, ...]:
        """Id of each position."""
        serialisation = self._get("serialization_format").decode("utf-8", "replace")
        if serialisation != "json":
            why = "reading it would run code from the file" if serialisation == "pkl" else "only json is read"
            raise FormatError(
                f"{self.folder}: serialisation {serialisation!r}: {why}; write it with serialization_format='json'"
            )
        count = self._get("num_examples")
        if not count.isdigit():
            raise FormatError(f"{self.folder}: num_examples is {count!r}; it must be a number")
        position_of = _parse_json(f"{self.folder}, id_to_idx", self._get("id_to_idx"))
        ids = [""] * int(count)
        for id, position in position_of.items():
            if not (isinstance(position, int) and 0 <= position < len(ids)) or ids[position]:
                raise FormatError(
                    f"{self.folder}: id_to_idx puts {id!r} at {position}; {len(ids)} entries, one id each"
                )
            ids[position] = id
        # An id that an earlier entry has, too, is overwritten in id_to_idx.
        return tuple(id or str(position) for position, id in enumerate(ids))

    def item(self, position: int) -> dict[str, Any]:
        """The JSON of entry `position`, frames as dictionaries.

        Raises:
          FormatError: no such entry, or damaged data.
        """
        if not 0 <= position < len(self):
            raise FormatError(f"{self.folder}: no entry {position}; entries: 0 to {len(self) - 1}")
        where = f"{self.folder}, entry {position} ({self.id_of[position]})"
        try:
            text = gzip.decompress(self._get(str(position)))
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(f"{where}: damaged gzip data ({error})") from error
        return _parse_json(where, text)


def _parse_json(where: str, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise FormatError(f"{where}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise FormatError(f"{where}: a JSON object is expected, got {type(value).__name__}")
    return value


@functools.cache
def shared_database(folder: Path) -> Database:
    """The database of a folder, opened once in this process and kept open: opening it reads all ids.

    Raises:
      FormatError: as `Database`.
    """
    return Database(folder)


def read_lba(folder: Path) -> Iterator[LbaEntry | Refusal]:
    """Every entry of an LBA database, in order, read or refused; needs lmdb and RDKit.

    Raises:
      FormatError: the database cannot be opened.
    """
    yield from _read_all(folder, lba_entry)


def read_psr(folder: Path) -> Iterator[PsrEntry | Refusal]:
    """Every entry of a PSR database, in order, read or refused; needs lmdb.

    Raises:
      FormatError: the database cannot be opened.
    """
    yield from _read_all(folder, psr_entry)


def _read_all(folder: Path, read: Any) -> Iterator[Any]:
    with Database(folder) as database:
        for position, id in enumerate(database.id_of):
            try:
                yield read(database.item(position), id)
            except (FormatError, StructureError) as error:
                yield Refusal(position, id, str(error))


def lba_entry(item: Mapping[str, Any], id: str) -> LbaEntry:
    """The entry that the JSON `item` of a `Database` is; needs RDKit.

    Raises:
      FormatError: it lacks something, or its ligand cannot be read (`MoleculeError`).
      StructureError: no protein in it.
    """
    return LbaEntry(
        id=str(item.get("id", id)),
        protein=protein_of_frame(_frame(item, "atoms_protein"), f"{id}_protein.pdb"),
        pocket=protein_of_frame(_frame(item, "atoms_pocket"), f"{id}_pocket.pdb"),
        ligand=_ligand(item, id),
        pk=_score(_scores(item), "neglog_aff"),
        smiles=str(item.get("smiles") or ""),
    )


def psr_entry(item: Mapping[str, Any], id: str) -> PsrEntry:
    """The entry that the JSON `item` of a `Database` is.

    Raises:
      FormatError: it lacks something.
      StructureError: no protein in it.
    """
    target, model = target_and_model(str(item.get("id", id)))
    scores = _scores(item)
    return PsrEntry(
        target=target,
        model=model,
        protein=protein_of_frame(_frame(item, "atoms"), f"{target}_{model}.pdb"),
        scores={name: _score(scores, name) for name in ("gdt_ts", "gdt_ha", "tm", "rmsd") if name in scores}
        or {"gdt_ts": _score(scores, "gdt_ts")},
    )


def target_and_model(id: str) -> tuple[str, str]:
    """The two parts of "('T0949', 'server_TS1')".

    Raises:
      FormatError: another text.
    """
    try:
        parts = ast.literal_eval(id)
    except (ValueError, SyntaxError) as error:
        raise FormatError(f"id {id!r}; it must be \"('TARGET', 'MODEL')\"") from error
    if not (isinstance(parts, tuple) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise FormatError(f"id {id!r}; it must be \"('TARGET', 'MODEL')\"")
    return parts


def _scores(item: Mapping[str, Any]) -> dict[str, Any]:
    """The scores by name: a JSON object, or the series that pandas writes of one."""
    scores = item.get("scores")
    if isinstance(scores, dict) and {"index", "data"} <= scores.keys():
        return dict(zip(scores["index"], scores["data"], strict=True))
    if not isinstance(scores, dict):
        raise FormatError(f"scores is {scores!r}; it must be an object such as {{'neglog_aff': 6.4}}")
    return scores


def _score(scores: Mapping[str, Any], name: str) -> float:
    value = scores.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise FormatError(f"score {name} is {value!r}; it must be a finite number (scores: {', '.join(scores)})")
    return float(value)


def _frame(item: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    """Column -> values of a frame."""
    frame = item.get(name)
    if not isinstance(frame, dict) or not {"columns", "data"} <= frame.keys():
        raise FormatError(f"{name} is no frame with columns and data; keys of the entry: {', '.join(item)}")
    columns, rows = frame["columns"], frame["data"]
    if any(len(row) != len(columns) for row in rows):
        raise FormatError(f"{name}: rows of other lengths than its {len(columns)} columns")
    if not rows:
        raise FormatError(f"{name}: no row in it")
    return dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))


def _require_columns(frame: Mapping[str, Any], columns: Sequence[str], source: str) -> None:
    if missing := [column for column in columns if column not in frame]:
        raise FormatError(f"{source}: no column {', '.join(missing)} in its frame; columns: {', '.join(frame)}")


def protein_of_frame(frame: Mapping[str, Sequence[Any]], source: str) -> Protein:
    """The protein of a frame of atoms, by the rules of `bihf_jax.protein.parsing` for PDB files.

    Args:
      frame: column -> values; the columns are those of Biopython's atoms.
      source: name for it, that ends in .pdb.

    Raises:
      FormatError: a column is missing, or a value does not fit the columns of a PDB file.
      StructureError: no protein in it.
    """
    _require_columns(frame, _ATOM_COLUMNS, source)
    models = frame.get("model") or [1] * len(frame["x"])
    lines, model_before = [], None
    for row, (model, *values) in enumerate(zip(models, *(frame[column] for column in _ATOM_COLUMNS), strict=True)):
        if model != model_before:
            lines += [*(["ENDMDL"] if row else []), f"MODEL     {model:4d}"]
            model_before = model
        lines.append(_pdb_line(f"{source}, atom {row}", row, dict(zip(_ATOM_COLUMNS, values, strict=True))))
    return Protein.from_text("\n".join([*lines, "ENDMDL", "END", ""]), name=source.removesuffix(".pdb"))


def _pdb_line(where: str, row: int, atom: Mapping[str, Any]) -> str:
    """One atom as the line of a PDB file that it was."""
    chain, code, altloc = (str(atom[name] or " ") for name in ("chain", "insertion_code", "altloc"))
    x, y, z = (np.nan if atom[axis] is None else float(atom[axis]) for axis in "xyz")
    # Biopython has no occupancy where the column is blank; pandas writes what is not a number as null.
    occupancy = 1.0 if atom["occupancy"] is None else float(atom["occupancy"])
    b_factor = 0.0 if atom["bfactor"] is None else float(atom["bfactor"])
    record = "HETATM" if str(atom["hetero"] or " ").strip() else "ATOM  "
    line = (
        f"{record}{(row + 1) % 100000:5d} {atom['fullname']!s:<4s}{altloc}{atom['resname']!s:>3s} "
        f"{chain}{int(atom['residue']):4d}{code}   {x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{b_factor:6.2f}          "
        f"{str(atom['element'] or '').strip().upper():>2s}"
    )
    if len(line) != 78:
        raise FormatError(f"{where}: does not fit the columns of a PDB file: {dict(atom)}")
    return line


def _ligand(item: Mapping[str, Any], id: str) -> Molecule:
    """The ligand, with the bonds of the entry's frame, else those of its SMILES."""
    try:
        from rdkit import Chem
    except ImportError as error:
        raise MoleculeError(f"{id}: reading ligands needs RDKit: pip install 'bihf_jax[ligands]'") from error
    frame = _frame(item, "atoms_ligand")
    source = f"{id}_ligand"
    _require_columns(frame, ("element", "name", "x", "y", "z"), source)
    elements = [gemmi.Element(str(element)).atomic_number for element in frame["element"]]
    if 0 in elements:
        raise MoleculeError(f"{source}: unknown element {frame['element'][elements.index(0)]!r}")
    has_bonds = "bonds" in item
    rows = [row for row, element in enumerate(elements) if has_bonds or element != 1]
    molecule, conformer = Chem.RWMol(), Chem.Conformer(len(rows))
    for atom, row in enumerate(rows):
        molecule.AddAtom(Chem.Atom(elements[row]))
        conformer.SetAtomPosition(atom, [float(frame[axis][row]) for axis in "xyz"])
    molecule.AddConformer(conformer)
    if has_bonds:
        _add_bonds(molecule, _frame(item, "bonds"), frame, source)
    else:
        molecule = _bonds_of_smiles(molecule, str(item.get("smiles") or ""), source)
    names = [str(frame["name"][row]) for row in rows]
    return from_rdkit(molecule, name=str(item.get("id", id)), atom_names=names, source=source)


def _add_bonds(molecule: Any, bonds: Mapping[str, list[Any]], atoms: Mapping[str, list[Any]], source: str) -> None:
    from rdkit import Chem

    _require_columns(bonds, ("atom1", "atom2", "type"), f"{source}, bonds")
    _require_columns(atoms, ("serial_number",), source)
    row_of = {int(number): row for row, number in enumerate(atoms["serial_number"])}
    for first, second, order in zip(bonds["atom1"], bonds["atom2"], bonds["type"], strict=True):
        if order not in _BOND_ORDERS or int(first) not in row_of or int(second) not in row_of:
            raise MoleculeError(f"{source}: bond {first}-{second} of type {order}; types: 1, 1.5, 2, 3, of its atoms")
        kind = getattr(Chem.BondType, _BOND_ORDERS[order])
        molecule.AddBond(row_of[int(first)], row_of[int(second)], kind)
        if kind == Chem.BondType.AROMATIC:
            for atom in (row_of[int(first)], row_of[int(second)]):
                molecule.GetAtomWithIdx(atom).SetIsAromatic(True)


def _bonds_of_smiles(molecule: Any, smiles: str, source: str) -> Any:
    """Heavy atoms with the bonds and charges of the SMILES; which atom is which follows from the geometry."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import AllChem, rdDetermineBonds

    with rdBase.BlockLogs():
        template = Chem.MolFromSmiles(smiles) if smiles else None
        if template is None:
            raise MoleculeError(f"{source}: neither bonds nor a SMILES that RDKit reads ({smiles!r})")
        rdDetermineBonds.DetermineConnectivity(molecule)
        molecule.UpdatePropertyCache(strict=False)
        try:
            return AllChem.AssignBondOrdersFromTemplate(template, molecule)
        except ValueError as error:
            raise MoleculeError(f"{source}: its atoms do not fit the SMILES {smiles}") from error


# --------------------------------------------------------------------------------------------------------------------
# Splits
# --------------------------------------------------------------------------------------------------------------------


def split_folders(folder: Path) -> dict[str, Path]:
    """Split -> the folder of its LMDB, of a downloaded split such as ``split-by-sequence-identity-30``.

    Raises:
      FormatError: one of train, val and test is missing.
    """
    folder = Path(folder)
    root = folder / "data" if (folder / "data").is_dir() else folder
    found = {split: root / split for split in SPLITS if (root / split / "data.mdb").is_file()}
    if missing := [split for split in SPLITS if split not in found]:
        raise FormatError(f"{root}: no LMDB for {', '.join(missing)}; expected train, val and test, each with data.mdb")
    return found


def read_indices(folder: Path, num_entries: int) -> dict[str, tuple[int, ...]]:
    """Split -> positions in the LMDB of the raw data, of ``train_indices.txt`` and those of val and test.

    Raises:
      FormatError: a file is missing, a line that is no position of `num_entries` entries, or one that occurs twice.
    """
    folder = Path(folder)
    root = folder / "indices" if (folder / "indices").is_dir() else folder
    split_of: dict[int, str] = {}
    for split in SPLITS:
        path = find_file(root, f"{split}_indices.txt")
        if path is None:
            raise FormatError(f"{root}: no file {split}_indices.txt")
        for line, text in numbered_lines(path):
            if not text.isdecimal() or int(text) >= num_entries:
                raise FormatError(f"{path}, line {line}: {text!r}; it must be a position from 0 to {num_entries - 1}")
            if int(text) in split_of:
                raise FormatError(f"{path}, line {line}: entry {text} is in split {split_of[int(text)]} already")
            split_of[int(text)] = split
    return {split: tuple(position for position, mine in split_of.items() if mine == split) for split in SPLITS}
