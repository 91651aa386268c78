"""Structure files below a folder, and which of them holds a chain that a published list names."""

import re
from collections import defaultdict
from collections.abc import Container, Sequence
from pathlib import Path

from bihf_jax.data import pdbqt
from bihf_jax.protein import Protein
from data_prep.formats.text import FormatError

ENDINGS = ("pdb", "ent", "cif")


def list_files(folder: Path, endings: Sequence[str] = ENDINGS, also: str | None = None) -> tuple[list[str], list[str]]:
    """(structure files, other files) below a directory, sorted, relative to it; hidden files are passed over.

    Args:
      folder: the directory.
      endings: of structure files; each may be followed by .gz.
      also: regular expression of names of structure files that have no ending.

    Raises:
      FileNotFoundError: no such directory, or no structure file in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--structures {folder}: no such directory")
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    pattern, no_ending = _pattern(endings), re.compile(also or "(?!)")
    chosen = [file for file in files if pattern.search(file) or no_ending.fullmatch(Path(file).name)]
    if not chosen:
        wanted = ", ".join(f".{ending}" for ending in endings)
        raise FileNotFoundError(f"--structures {folder}: no {wanted} file (also .gz) among {len(files)}")
    taken = set(chosen)
    return chosen, [file for file in files if file not in taken]


def without_ending(file: str, endings: Sequence[str] = ENDINGS) -> str:
    """``below/1abc`` of ``below/1abc.cif.gz``."""
    return _pattern(endings).sub("", file)


def _pattern(endings: Sequence[str]) -> re.Pattern[str]:
    return re.compile(rf"\.({'|'.join(endings)})(\.gz)?$", re.IGNORECASE)


def unused_files(files: Sequence[str], others: Sequence[str], used: Container[str]) -> dict[str, str]:
    """File -> its outcome, for what `list_files` found and no item reads."""
    outcomes = dict.fromkeys(files, "not_selected") | dict.fromkeys(others, "not_a_structure")
    return {file: what for file, what in outcomes.items() if file not in used}


def check_file(folder: Path, file: str, where: str) -> None:
    """Raise FormatError, beginning with `where`, if a table names a file that is not below `folder`."""
    if not (folder / file).is_file():
        raise FormatError(f"{where}: {file!r} is not a file below --structures")


def read_protein(path: Path, chains: Sequence[str] | None = None) -> Protein:
    """The chains (author ids; all if None) of a PDB, mmCIF or PDBQT file.

    Raises:
      StructureError, FormatError: it cannot be read, or has no such chain.
    """
    if not _pattern(("pdbqt",)).search(path.name):
        return Protein.from_file(path, chains=chains)
    protein = pdbqt.read_protein(path)
    return protein if chains is None else protein.select_chains(chains)


class FilesByName:
    """Finds the file of an entry, or of a chain of it, by name.

    A file of one chain is called ``4fae.B.pdb``, with a dot, a hyphen or an underscore; that of an entry ``4fae.cif``
    or ``pdb4fae.ent``. Chain ids are told apart by case, PDB ids are not.
    """

    def __init__(self, files: Sequence[str], endings: Sequence[str] = ENDINGS) -> None:
        self._files: dict[str, list[str]] = defaultdict(list)
        for file in files:
            name = without_ending(file, endings).rsplit("/", 1)[-1]
            if re.fullmatch("pdb[0-9][a-z0-9]{3}", name, re.IGNORECASE):
                name = name[3:]
            self._files[_key(name)].append(file)

    def of_entry(self, entry: str) -> str | None:
        """The file of a whole entry, None where there is none.

        Raises:
          ValueError: two files have that name.
        """
        found = self._files.get(_key(entry), [])
        if len(found) > 1:
            raise ValueError(
                f"{' and '.join(found)} could both be {entry!r}; keep one of them, or name it in a --table"
            )
        return found[0] if found else None

    def of_chain(self, entry: str, chain: str) -> tuple[str, bool] | None:
        """(file, whether it is of this chain alone), None where there is neither.

        Raises:
          ValueError: two files have one of these names.
        """
        names = [f"{entry}{separator}{chain}" for separator in ".-_"]
        if found := [file for name in names if (file := self.of_entry(name))]:
            if len(found) > 1:
                raise ValueError(f"{' and '.join(found)} could both be chain {chain!r} of {entry}; keep one of them")
            return found[0], True
        file = self.of_entry(entry)
        return None if file is None else (file, False)


def _key(name: str) -> str:
    """`name` with the PDB id that it starts with in lower case."""
    return name[:4].lower() + name[4:]
