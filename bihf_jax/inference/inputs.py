"""Which structures a command is asked to do: a file, a folder of files, or a list of files."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bihf_jax.inference.ligands import is_ligand_file, ligand_name
from bihf_jax.inference.predictor import WithLigand
from bihf_jax.protein import Protein
from bihf_jax.protein.parsing import split_ending

_LIST_ENDING = ".txt"
_RESERVED = ("index", "summary")  # files that are about all structures


class InputError(ValueError):
    """Inputs that cannot be had at all; the message names the path and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One structure to do."""

    path: Path
    name: str  # of its results: the path below the folder without ending, in letters that every system takes
    chains: tuple[str, ...] = ()  # author ids of the chains to read; all where empty
    ligand: str = ""  # its file, or its name in the structure, `ligands.LigandSource`; none where empty

    def read(self) -> Protein | WithLigand:
        """The protein, with its ligand where there is one; raises `StructureError` where it cannot be read."""
        protein = Protein.from_file(self.path, chains=self.chains or None)
        return WithLigand(protein, self.ligand) if self.ligand else protein


class Targets(NamedTuple):
    """What `find_targets` found."""

    targets: tuple[Target, ...]  # no two of one name
    clashes: tuple[tuple[Target, str], ...]  # whose name another one has already, and the message that says so
    passed_over: tuple[Path, ...]  # files of the folder that have no ending of a structure file


def find_targets(source: str | Path, chains: Sequence[str] = (), ligand: str = "") -> Targets:
    """The structures that `source` stands for.

    Args:
      source: a structure file (.pdb, .ent, .cif, each also .gz); a folder, searched with its subfolders except hidden
        ones; or a list, a .txt file with a path on each line, relative to the list, and after tabs, where wanted, the
        author ids of the chains to read, joined by "+", and the ligand: a file, relative to the list, or its name in
        the structure. Empty lines and those that begin with # are passed over.
      chains: author ids of the chains to read of each file, where the list says nothing else; all if empty.
      ligand: of each file, where the list says nothing else: a file, or its name in the structure; none if empty.

    Raises:
      InputError: no such file, or no structure in it.
    """
    source, chains = Path(source), tuple(chains)
    passed_over: list[Path] = []
    if source.is_dir():
        files = list(_files_below(source))
        passed_over = [path for path in files if not split_ending(path.name)[1]]
        structures = [path for path in files if split_ending(path.name)[1]]
        found = [_target(path, path.relative_to(source), chains, ligand) for path in structures]
        if not found:
            raise InputError(f"{source}: no .pdb, .ent or .cif file (also .gz) among {len(files)} files")
    elif source.name.lower().endswith(_LIST_ENDING):
        found = list(_targets_of_list(source, chains, ligand))
        if not found:
            raise InputError(f"{source}: no path in the list")
    elif split_ending(source.name)[1]:
        if not source.is_file():
            raise InputError(f"{source}: no such file")
        found = [_target(source, Path(source.name), chains, ligand)]
    else:
        what = "neither a folder, nor a structure file (.pdb, .ent, .cif, each also .gz), nor a list (.txt)"
        raise InputError(f"{source}: {what if source.exists() else 'no such file or folder'}")
    return Targets(*_unique(found), tuple(passed_over))


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _targets_of_list(path: Path, chains: tuple[str, ...], ligand: str) -> Iterator[Target]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or 'not text in UTF-8'}") from error
    for line in lines:
        if line.strip() and not line.startswith("#"):
            file, wanted, own, *more = [*map(str.strip, line.split("\t")), "", ""]
            if any(more):
                raise InputError(f"{path}: {line!r} has more than a path, chains and a ligand, separated by tabs")
            own = str(path.parent / own) if is_ligand_file(own) else own
            wanted = tuple(wanted.split("+")) if wanted else chains
            yield _target(path.parent / file, Path(Path(file).name), wanted, own or ligand)


def _target(path: Path, place: Path, chains: tuple[str, ...], ligand: str) -> Target:
    """The target of a file; `place` is where it lies below the folder."""
    parts = [*place.parts[:-1], split_ending(place.name)[0]]
    if chains:
        parts[-1] += "_" + "+".join(chains)
    if ligand:
        parts[-1] += "_" + ligand_name(ligand)
    # Names go into scripts and archives: no letter of theirs may mean anything there.
    name = "/".join(re.sub(r"[^A-Za-z0-9._+-]|^\.", "_", part) for part in parts)
    return Target(path, f"{name}_" if name.lower() in _RESERVED else name, chains, ligand)


def _unique(found: Iterable[Target]) -> tuple[tuple[Target, ...], tuple[tuple[Target, str], ...]]:
    """(targets of names of their own, the others with what is wrong)."""
    first: dict[str, Target] = {}
    clashes = []
    for target in found:
        other = first.setdefault(target.name, target)
        if other is not target:
            message = f"its results would have the name of those of {other.path}: {target.name}"
            clashes.append((target, f"{message}. Rename one of them, or give it a command and an output of its own"))
    return tuple(first.values()), tuple(clashes)
