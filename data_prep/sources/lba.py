"""`lba`: proteins with a ligand and its affinity, as -log10 of Kd or Ki in mol/l.

From PDBbind's folders and INDEX file, from ATOM3D's LMDBs with their split, or from a table of protein and ligand
files. A record holds the protein, or the residues of it near the ligand (`--pocket`), and the atoms and bonds of the
ligand (`bihf_jax.data.ligand`), which RDKit reads; with `--no-ligand` the protein alone.
"""

import argparse
import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from bihf_jax.data import molecules, pdbqt
from bihf_jax.data.labels import Labels
from bihf_jax.data.ligand import pocket_rows
from bihf_jax.protein import Protein, take_residues
from data_prep.formats import atom3d, pdbbind
from data_prep.formats.text import FormatError, read_csv
from data_prep.pipeline import Outcome, Result, Source, add_record, chain_sequences
from data_prep.sources.mqa import ATOM3D_SPLITS
from data_prep.structure_files import ENDINGS, check_file, list_files, read_protein, unused_files

TABLE_COLUMNS = ("id", "protein", "ligand", "pk")
SPLITS = ("train", "validation", "test")
_ENDINGS = (*ENDINGS, "sdf", "mol2", "pdbqt")
_RDKIT = {"rdkit": "ligands"}  # module -> extra


@dataclasses.dataclass(frozen=True)
class BoundProtein:
    """A protein, its ligand and the affinity of the two."""

    id: str
    protein: str  # file
    ligands: tuple[str, ...]  # files of the one ligand: the first that can be read is taken
    pk: float  # -log10 of mol/l

    @property
    def group(self) -> str:
        return self.id

    @property
    def files(self) -> tuple[str, ...]:
        return (self.protein, *self.ligands)


@dataclasses.dataclass(frozen=True)
class LmdbEntry:
    """An entry of ATOM3D's LBA, at a position of an LMDB."""

    id: str
    database: str  # folder, relative to the root
    position: int

    @property
    def group(self) -> str:
        return self.id

    @property
    def files(self) -> tuple[str, ...]:
        return (f"{self.database}/data.mdb",)


@dataclasses.dataclass(frozen=True)
class Options:
    """How complexes become records."""

    root: Path
    min_residues: int
    pocket: float | None  # Å; None: the whole protein
    ligand: bool  # its atoms are in the record


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The flags of ligand binding affinity."""
    del task
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--index", type=Path, help="INDEX file of PDBbind; --structures holds ID/ID_protein.pdb, ...")
    which.add_argument("--table", type=Path, help=f"CSV {','.join(TABLE_COLUMNS)} of files, perhaps split")
    which.add_argument("--atom3d", type=Path, help="folder of ATOM3D's LBA with the LMDBs train, val and test")
    parser.add_argument("--pocket", type=float, help="only residues with an atom this close to the ligand, in Å")
    parser.add_argument("--no-ligand", action="store_true", help="the protein alone: no atoms of the ligand")
    parser.add_argument("--kinds", default="Kd,Ki", help=f"affinities of the INDEX file to take, of {pdbbind.KINDS}")
    parser.add_argument("--bounds", action="store_true", help="take affinities such as Ki<2nM by their number, too")


def source(args: argparse.Namespace) -> Source:
    """The complexes that the parsed command line asks for.

    Raises:
      ValueError, FileNotFoundError: a setting, a folder, the index or the table is wrong.
    """
    if args.pocket is not None and not args.pocket > 0:
        raise ValueError(f"--pocket is {args.pocket}; it must be positive (Å)")
    if args.atom3d:
        return _lmdb_source(args)
    files, others = list_files(args.structures, _ENDINGS)
    split_of, notes = None, {}
    if args.table:
        items, split_of = complexes_of_table(args.table, args.structures)
        how = f"table {args.table.name}"
    else:
        items, notes = complexes_of_pdbbind(args.structures, args.index, args.kinds.split(","), args.bounds)
        how = f"PDBbind {args.index.name}"
    endings = {Path(file.lower().removesuffix(".gz")).suffix for item in items for file in item.ligands}
    _check_installed(_needed(args, endings))
    used = {file for item in items for file in item.files}
    return Source(
        task="lba",
        root=args.structures,
        items=items,
        read=read_complex,
        options=Options(args.structures, args.min_residues, args.pocket, not args.no_ligand),
        labels=_LABELS,
        about=_about(args, args.structures, how),
        nouns=("complexes", "complexes"),
        other_files=unused_files(files, others, used),
        notes=notes,
        split_of=split_of,
        split_name=how if split_of else "",
    )


_LABELS = Labels("protein", "regression", ("-log10 K (mol/l)",))


def _about(args: argparse.Namespace, folder: Path, labels: str) -> dict[str, object]:
    return {
        "structures": folder.resolve().name,
        "labels": labels,
        "pocket": args.pocket,
        "ligand_in_records": not args.no_ligand,
        "min_residues": args.min_residues,
    }


def _needed(args: argparse.Namespace, endings: Iterable[str]) -> dict[str, str]:
    """Module -> extra of what reads ligand files of these endings."""
    if not args.no_ligand:
        return _RDKIT | ({"openbabel": "pdbqt"} if ".pdbqt" in endings else {})
    return _RDKIT if args.pocket is not None and {".sdf", ".mol2"} & set(endings) else {}


def _check_installed(needed: dict[str, str]) -> None:
    """Raise ValueError where a package is not installed: before hours of reading, not for each file."""
    if missing := {module: extra for module, extra in needed.items() if not importlib.util.find_spec(module)}:
        raise ValueError(
            f"the ligands are read with {' and '.join(missing)}, not installed here: "
            f"pip install 'bihf_jax[{','.join(missing.values())}]'. Proteins of files alone are read with --no-ligand"
        )


def _lmdb_source(args: argparse.Namespace) -> Source:
    _check_installed(_RDKIT)  # its entries are read whole, with their ligands
    items, split_of = [], {}
    for split, folder in atom3d.split_folders(args.atom3d).items():
        ids, relative = atom3d.shared_database(folder).id_of, folder.relative_to(args.atom3d).as_posix()
        items += [LmdbEntry(id, relative, position) for position, id in enumerate(ids)]
        split_of |= dict.fromkeys(ids, ATOM3D_SPLITS[split])
    return Source(
        task="lba",
        root=args.atom3d,
        items=items,
        read=read_lmdb_entry,
        options=Options(args.atom3d, args.min_residues, args.pocket, not args.no_ligand),
        labels=_LABELS,
        about=_about(args, args.atom3d, "ATOM3D LBA"),
        nouns=("complexes", "complexes"),
        split_of=split_of,
        split_name=f"ATOM3D LBA, {args.atom3d.resolve().name}",
    )


def complexes_of_pdbbind(
    folder: Path, index_file: Path, kinds: Sequence[str], bounds: bool
) -> tuple[list[BoundProtein], dict[str, object]]:
    """(complexes that have files and an affinity, notes of all others).

    Raises:
      ValueError: an unknown kind, or no complex is left.
    """
    if unknown := sorted(set(kinds) - set(pdbbind.KINDS)):
        raise ValueError(f"--kinds {','.join(unknown)}; kinds: {', '.join(pdbbind.KINDS)}")
    found, index = pdbbind.list_complexes(folder), pdbbind.read_index(index_file)
    joined, without_line, without_files = pdbbind.with_affinity(found.complexes, index)
    items, not_taken = [], {}
    for files, entry in joined:
        if entry.affinity.kind not in kinds or not (entry.affinity.is_exact or bounds):
            not_taken[files.id] = f"{entry.affinity.kind} {entry.affinity.relation}"
            continue
        protein, *ligands = (path.relative_to(folder).as_posix() for path in (files.protein, *files.ligands))
        items.append(BoundProtein(files.id, protein, tuple(ligands), entry.pk))
    if not items:
        raise ValueError(f"no complex of {folder} has an affinity of {', '.join(kinds)} in {index_file}")
    return items, {
        "index_lines_refused": [dataclasses.asdict(refusal) for refusal in index.refused],
        "affinities_not_taken": not_taken,
        "incomplete": found.incomplete,
        "without_affinity": list(without_line),
        "without_structure": list(without_files),
    }


def complexes_of_table(path: Path, folder: Path) -> tuple[list[BoundProtein], dict[str, str] | None]:
    """(complexes of a CSV id,protein,ligand,pk, their splits where it has that column).

    Raises:
      FormatError: a missing column or file, a pk that is no number, an unknown split, or splits for some rows only.
    """
    items, split_of = [], {}
    for line, row in read_csv(path, TABLE_COLUMNS, optional=("split",)):
        where = f"{path}, line {line}"
        for column in ("protein", "ligand"):
            check_file(folder, row[column], where)
        try:
            pk = float(row["pk"])
        except ValueError:
            pk = math.nan
        if not math.isfinite(pk):
            raise FormatError(
                f"{where}: pk {row['pk']!r}; it must be a number, -log10 of mol/l; leave out rows without"
            )
        if row["split"] not in ("", *SPLITS):
            raise FormatError(f"{where}: split {row['split']!r}; splits: {', '.join(SPLITS)}")
        items.append(BoundProtein(row["id"], row["protein"], (row["ligand"],), pk))
        if row["split"]:
            split_of[row["id"]] = row["split"]
    if not items:
        raise FormatError(f"{path}: no complex in it")
    if split_of and len(split_of) < len(items):
        raise FormatError(f"{path}: {len(items) - len(split_of)} of {len(items)} rows have no split; give all or none")
    return items, split_of or None


def read_complex(item: BoundProtein, options: Options) -> Result:
    """The record of a protein with its ligand."""
    protein = read_protein(options.root / item.protein)
    paths = [options.root / ligand for ligand in item.ligands]
    if options.ligand:
        ligand = first_readable(paths, molecules.read_molecule)
        return _result(item, protein, ligand.atom_positions, ligand, item.pk, options)
    near = None if options.pocket is None else first_readable(paths, _positions)
    return _result(item, protein, near, None, item.pk, options)


def read_lmdb_entry(item: LmdbEntry, options: Options) -> Result:
    """The record of an entry of ATOM3D's LBA."""
    database = atom3d.shared_database(options.root / item.database)
    entry = atom3d.lba_entry(database.item(item.position), database.id_of[item.position])
    ligand = entry.ligand if options.ligand else None
    return _result(item, entry.protein, entry.ligand.atom_positions, ligand, entry.pk, options)


def _result(
    item: BoundProtein | LmdbEntry,
    protein: Protein,
    near: np.ndarray | None,
    ligand: molecules.Molecule | None,
    pk: float,
    options: Options,
) -> Result:
    # Clusters go by the whole chains: pockets of unrelated proteins may look alike.
    result = Result(item.id, chains=chain_sequences(protein))
    if options.pocket is not None:
        rows = pocket_rows(protein, near, options.pocket)
        if not rows.any():
            result.outcomes.append(Outcome(item.id, "", item.files, "no_pocket"))
            return result
        protein = take_residues(protein, rows)
    add_record(result, item, protein, min_residues=options.min_residues, protein_label=[pk], ligand=ligand)
    if ligand is not None and result.records:
        result.counts = {"ligand_atoms": ligand.num_atoms, "ligands_with_remarks": int(bool(ligand.remarks))}
    return result


Read = TypeVar("Read")


def first_readable(paths: Sequence[Path], read: Callable[[Path], Read]) -> Read:
    """What `read` gives of the first of these files that it can read.

    Raises:
      FormatError: of none; the message has the reasons of all.
    """
    reasons = []
    for path in paths:
        try:
            return read(path)
        except FormatError as error:
            reasons.append(str(error))
    raise FormatError("; ".join(reasons))


def _positions(path: Path) -> np.ndarray:
    """[A, 3] Å heavy atoms of a ligand."""
    if path.name.lower().removesuffix(".gz").endswith(".pdbqt"):
        atoms = pdbqt.read_atoms(path)  # their places are enough: the bonds would need Open Babel
        return atoms.atom_positions[atoms.elements != 1]
    return molecules.read_molecule(path).atom_positions
