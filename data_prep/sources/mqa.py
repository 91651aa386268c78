"""`mqa`: models of proteins, each with its GDT-TS to the native structure.

Models come from a folder a target, from a table of files, from CASP with its official scores, from ATOM3D's PSR, or are
made by spoiling natives (`data_prep.decoys`); the latter say "synthetic" in their id, and are counted apart. The group
of a model is its target; targets whose sequences are related lie in one split.
"""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bihf_jax.data.labels import Labels
from bihf_jax.protein import Protein, assess
from data_prep import decoys
from data_prep.formats import atom3d, casp
from data_prep.formats.text import FormatError, read_csv, read_text
from data_prep.pipeline import Outcome, Result, Source, add_record, chain_sequences
from data_prep.structure_files import FilesByName, check_file, list_files, unused_files, without_ending

NATIVE = "native"
TABLE_COLUMNS = ("target", "model", "native")
# The second part of the ids of synthetic decoys begins so.
SYNTHETIC = "synthetic"
# Split of ATOM3D -> ours.
ATOM3D_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of a target, in a file."""

    target: str
    name: str
    file: str
    native: str = ""  # file; "" where the score is given
    gdt_ts: float | None = None  # official score, in [0, 1]; None: computed from model and native

    @property
    def id(self) -> str:
        return f"{self.target}:{self.name}"

    @property
    def group(self) -> str:
        return self.target

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file, self.native) if self.native else (self.file,)


@dataclasses.dataclass(frozen=True)
class Native:
    """A native structure to spoil."""

    target: str
    file: str

    @property
    def id(self) -> str:
        return f"{self.target}:{SYNTHETIC}"

    @property
    def group(self) -> str:
        return self.target

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,)


@dataclasses.dataclass(frozen=True)
class PsrModel:
    """A model at a position of an LMDB."""

    target: str
    database: str  # folder, relative to the root
    position: int
    entry: str

    @property
    def id(self) -> str:
        return f"{self.target}:{self.entry}"

    @property
    def group(self) -> str:
        return self.target

    @property
    def files(self) -> tuple[str, ...]:
        return (f"{self.database}/data.mdb",)


@dataclasses.dataclass(frozen=True)
class Options:
    """How models become records."""

    root: Path
    min_residues: int
    synthetic: int = 0  # decoys of each native
    seed: int = 0  # of the decoys


def add_arguments(parser: argparse.ArgumentParser, task: str) -> None:
    """The flags of model quality assessment."""
    del task
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--table", type=Path, help=f"CSV {','.join(TABLE_COLUMNS)} of files, perhaps gdt_ts in [0, 1]")
    which.add_argument("--casp", type=Path, help="GraphQA's table of official CASP13 scores; models are files by name")
    which.add_argument("--atom3d", type=Path, help="folder of ATOM3D's PSR with the LMDBs train, val and test")
    parser.add_argument("--synthetic", type=int, default=0, help="spoilt copies of each native to add, named synthetic")


def source(args: argparse.Namespace) -> Source:
    """The models that the parsed command line asks for.

    Raises:
      ValueError, FileNotFoundError: a setting, a folder or a table is wrong.
    """
    if args.synthetic < 0:
        raise ValueError(f"--synthetic is {args.synthetic}; it must be at least 0")
    if args.atom3d:
        return _psr_source(args)
    files, others = list_files(args.structures, also=casp.FILE_NAME if args.casp else None)
    notes = {}
    if args.table:
        items, how = models_of_table(args.table, args.structures), f"table {args.table.name}"
    elif args.casp:
        items, notes = models_of_casp(args.casp, files)
        how = "official CASP13 scores"
    else:
        items = models_of_folders(files, args.synthetic > 0)
        how = "a folder a target"
    if args.synthetic:
        items += _natives(items)
        items = [item for item in items if not (isinstance(item, Model) and item.file == item.native)]
    used = {file for item in items for file in item.files}
    return Source(
        task="mqa",
        root=args.structures,
        items=items,
        read=read_model,
        options=Options(args.structures, args.min_residues, args.synthetic, args.seed),
        labels=Labels("protein", "regression", ("gdt_ts",)),
        about={
            "structures": args.structures.resolve().name,
            "models": how,
            "labels": "official GDT-TS" if args.casp else "GDT-TS of bihf_jax.protein.assess, or of the table",
            "synthetic_decoys_of_each_native": args.synthetic,
            "min_residues": args.min_residues,
        },
        nouns=("models", "targets"),
        other_files=unused_files(files, others, used),
        notes=notes,
    )


def _psr_source(args: argparse.Namespace) -> Source:
    if args.synthetic:
        raise ValueError("--synthetic needs natives, which PSR does not have; leave one of the two out")
    items, split_of, refused = [], {}, []
    for split, folder in atom3d.split_folders(args.atom3d).items():
        relative = folder.relative_to(args.atom3d).as_posix()
        for position, id in enumerate(atom3d.shared_database(folder).id_of):
            try:
                target, name = atom3d.target_and_model(id)
            except FormatError as error:
                refused.append(f"{relative}, entry {position}: {error}")
                continue
            items.append(PsrModel(target, relative, position, name))
            if split_of.setdefault(target, ATOM3D_SPLITS[split]) != ATOM3D_SPLITS[split]:
                raise FormatError(f"{folder}: target {target} is in {split_of[target]}, too")
    return Source(
        task="mqa",
        root=args.atom3d,
        items=items,
        read=read_psr_model,
        options=Options(args.atom3d, args.min_residues),
        labels=Labels("protein", "regression", ("gdt_ts",)),
        about={"structures": args.atom3d.resolve().name, "labels": "ATOM3D PSR", "min_residues": args.min_residues},
        nouns=("models", "targets"),
        notes={"ids_refused": refused},
        split_of=split_of,
        split_name="ATOM3D PSR",
    )


def models_of_folders(files: Sequence[str], natives_alone: bool) -> list[Model]:
    """Models of ``TARGET/NAME.pdb`` with their native ``TARGET/native.pdb`` or ``TARGET/TARGET.pdb``.

    A file that lies in no folder is a target with no model but its native: allowed if `natives_alone`.

    Raises:
      ValueError: a target without a native, or with two.
    """
    of_target = defaultdict(list)
    for file in files:
        folder = file.rpartition("/")[0]
        of_target[folder or without_ending(file)].append(file)
    models = []
    for target, mine in of_target.items():
        name_of = {file: without_ending(file).rsplit("/", 1)[-1] for file in mine}
        natives = [file for file in mine if name_of[file] in (NATIVE, target.rsplit("/", 1)[-1])]
        if len(natives) != 1:
            raise ValueError(
                f"target {target!r} has {len(natives)} files called {NATIVE} or {target.rsplit('/', 1)[-1]} among "
                f"{len(mine)}; it needs one native: TARGET/native.pdb, or a --table"
            )
        if len(mine) == 1 and not natives_alone:
            raise ValueError(f"target {target!r} has no model beside its native; add models, or use --synthetic N")
        models += [Model(target, name_of[file], file, natives[0]) for file in mine]
    return models


def models_of_table(path: Path, folder: Path) -> list[Model]:
    """Models of a CSV target,model,native, perhaps with gdt_ts.

    Raises:
      FormatError: a missing column, a file that is not there, a score outside [0, 1], or neither native nor score.
    """
    models = []
    for line, row in read_csv(path, TABLE_COLUMNS, optional=("gdt_ts",)):
        where = f"{path}, line {line}"
        for column in ("model", "native"):
            if row[column]:
                check_file(folder, row[column], where)
        score = _score(where, row["gdt_ts"]) if row["gdt_ts"] else None
        if not row["target"] or not row["model"] or (score is None and not row["native"]):
            raise FormatError(f"{where}: target, model, and native or gdt_ts must not be empty")
        name = without_ending(row["model"]).rsplit("/", 1)[-1]
        models.append(Model(row["target"], name, row["model"], row["native"], score))
    if not models:
        raise FormatError(f"{path}: no model in it")
    return models


def _score(where: str, text: str) -> float:
    try:
        score = float(text)
    except ValueError as error:
        raise FormatError(f"{where}: gdt_ts {text!r} is not a number") from error
    if not 0 <= score <= 1:
        raise FormatError(f"{where}: gdt_ts {score}; it must lie in [0, 1] (official tables have percent)")
    return score


def models_of_casp(path: Path, files: Sequence[str]) -> tuple[list[Model], dict[str, object]]:
    """(models of GraphQA's table that have a file, notes for the report).

    Raises:
      ValueError: no model of the table has a file.
    """
    scores, no_whole_score = casp.of_whole_targets(casp.read_scores(path))
    by_name = FilesByName(files)
    models, without = [], []
    for score in scores:
        file = by_name.of_entry(score.file_name)
        if file is None:
            without.append(score.file_name)
        else:
            models.append(Model(score.target, score.file_name, file, gdt_ts=score.gdt_ts))
    if not models:
        raise ValueError(f"none of the {len(scores)} models of {path}, such as {without[0]}, is a structure file")
    return models, {"without_structure": without, "targets_without_score_of_the_whole": list(no_whole_score)}


def _natives(models: Sequence[Model]) -> list[Native]:
    """The natives of all targets.

    Raises:
      ValueError: a target without a native.
    """
    native_of: dict[str, str] = {}
    for model in models:
        if not model.native:
            raise ValueError(f"--synthetic needs the native of target {model.target}, which has none")
        native_of.setdefault(model.target, model.native)
    return [Native(target, file) for target, file in native_of.items()]


def read_model(item: Model | Native, options: Options) -> Result:
    """The record of a model, or those of the synthetic decoys of a native."""
    if isinstance(item, Native):
        return _spoil(item, options)
    if item.file == item.native:
        return Result(item.id, [Outcome(item.id, "", (item.file,), "native")])
    protein = _read_protein(options.root / item.file)
    native = Protein.from_file(options.root / item.native) if item.native else None
    gdt_ts = assess(protein, native).gdt_ts if item.gdt_ts is None else item.gdt_ts
    result = Result(item.id, chains=chain_sequences(native or protein))
    add_record(result, item, protein, min_residues=options.min_residues, files=(item.file,), protein_label=[gdt_ts])
    return result


def _read_protein(path: Path) -> Protein:
    """The protein of a file, which in CASP's archives has no ending."""
    if without_ending(path.name) != path.name:
        return Protein.from_file(path)
    return Protein.from_text(read_text(path), name=path.name)


def _spoil(item: Native, options: Options) -> Result:
    native = Protein.from_file(options.root / item.file)
    result = Result(item.id, chains=chain_sequences(native))
    for decoy in decoys.make_decoys(native, options.synthetic, options.seed):
        add_record(
            result,
            item,
            decoy.protein,
            min_residues=options.min_residues,
            part=f"{decoy.method}_{decoy.number:05d}",
            protein_label=[decoy.quality.gdt_ts],
        )
    result.counts = {"synthetic_decoys": len(result.records)}
    return result


def read_psr_model(item: PsrModel, options: Options) -> Result:
    """The record of an entry of PSR."""
    database = atom3d.shared_database(options.root / item.database)
    entry = atom3d.psr_entry(database.item(item.position), database.id_of[item.position])
    result = Result(item.id, chains=chain_sequences(entry.protein))
    label = [entry.scores["gdt_ts"]]
    add_record(result, item, entry.protein, min_residues=options.min_residues, protein_label=label)
    return result
