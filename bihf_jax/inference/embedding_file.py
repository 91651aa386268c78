"""Embeddings of many proteins in one file, HDF5 or npz, which grows over runs and is never half written.

An entry is a group of arrays under the name of its protein: "per_residue" [N, C] float32, "pooled" [C] float32, "mask"
[N] bool, the residues ("chain", "residue_number", "insertion_code", "amino_acid", "has_structure", [N] each) and
"source" []. In npz the array's key is "NAME/per_residue"; in HDF5 /NAME is a group, and text is stored as UTF-8 bytes.
How the entries were made stands in "run" as JSON: an attribute of the HDF5 file, an array of the npz.
"""

import contextlib
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bihf_jax.configuration import differences
from bihf_jax.inference.embedding import Embedding
from bihf_jax.inference.outputs import whole_file

Entry = Mapping[str, np.ndarray]
_RUN = "run"


class EmbeddingFileError(ValueError):
    """A file of embeddings that cannot be written to; the message says why and what to do."""


class EmbeddingFile:
    """Adds entries to a file.

    What is added is kept in a folder beside it (`FILE.parts`) until `close` writes the whole file anew; a run that was
    killed finds it there again.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any], *, overwrite: bool = False):
        """Looks at what is there.

        Args:
          path: of the file, ending in .h5 or .npz.
          run: how the entries are made, values that JSON holds.
          overwrite: begin anew, whatever is there.

        Raises:
          EmbeddingFileError: another ending, h5py is not installed, or entries that were made in another way.
        """
        self.path, self._run = Path(path), json.loads(json.dumps(run))
        self._parts = self.path.with_name(self.path.name + ".parts")
        if self.path.suffix.lower() not in _WRITERS:
            raise EmbeddingFileError(f"{path}: the ending must be one of {', '.join(_WRITERS)}")
        if self.path.suffix.lower() == ".h5":
            _h5py(self.path)
        if overwrite:
            shutil.rmtree(self._parts, ignore_errors=True)
        self._names: set[str] = set()  # of the entries that stay
        if self.path.is_file() and not overwrite:
            with _opened(self.path) as reader:
                self._names = set(reader.names)
                self._check_run(reader.run, self.path)
        note = self._parts / "run.json"
        if note.is_file():
            self._check_run(json.loads(note.read_text(encoding="utf-8")), self._parts)
        self._parts.mkdir(parents=True, exist_ok=True)
        with whole_file(note) as part:
            part.write_text(json.dumps(self._run), encoding="utf-8")

    def _check_run(self, found: Mapping[str, Any], where: Path) -> None:
        changes = [f"{key} was {old!r}, is {new!r}" for key, old, new in differences(found, self._run)]
        if not changes:
            return
        raise EmbeddingFileError(
            f"{where} holds embeddings that were made in another way ({'; '.join(changes)}); give another file, or "
            "--overwrite"
        )

    def __contains__(self, name: str) -> bool:
        return name in self._names or self._part(name).is_file()

    def _part(self, name: str) -> Path:
        return self._parts / f"{name}.npz"

    def add(self, name: str, embedding: Embedding) -> None:
        """Keeps an entry; it is in the file after `close`."""
        path = self._part(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            np.savez(part, **_entry(embedding))

    def close(self) -> None:
        """Writes the file: the entries that it had, then those that were added, by name."""
        with whole_file(self.path) as path:
            _WRITERS[self.path.suffix.lower()](path, self._run, self._entries())
        shutil.rmtree(self._parts)

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        if self._names:
            yield from read_embeddings(self.path)
        for path in sorted(self._parts.rglob("*.npz")):
            name = path.relative_to(self._parts).as_posix().removesuffix(".npz")
            if name not in self._names and not path.name.startswith(".part-"):
                with np.load(path, allow_pickle=False) as arrays:
                    yield name, dict(arrays)


def read_embeddings(path: str | Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(name, arrays) of each entry of a file, one in memory at a time; text as str in both formats.

    Raises:
      EmbeddingFileError: a file of another form, or h5py is not installed.
    """
    with _opened(Path(path)) as reader:
        for name in reader.names:
            yield name, reader.entry(name)


def _entry(embedding: Embedding) -> dict[str, np.ndarray]:
    return {
        "per_residue": embedding.per_residue,
        "pooled": embedding.pooled,
        "mask": embedding.mask,
        **embedding.columns(),
        "source": np.array(embedding.protein.source),
    }


# ---------------------------------------------------------------------------------------------------------------------
# The two formats
# ---------------------------------------------------------------------------------------------------------------------


class _HDF5:
    """Reads an HDF5 file."""

    def __init__(self, path: Path):
        self._h5py = _h5py(path)
        self._file = self._h5py.File(path, "r")
        self.run: dict[str, Any] = json.loads(self._file.attrs.get(_RUN, "{}"))
        self.names: list[str] = []
        self._file.visititems(self._visit)

    def _visit(self, name: str, item: Any) -> None:
        if isinstance(item, self._h5py.Group) and "per_residue" in item:
            self.names.append(name)

    def entry(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an entry; a group in it is an entry of its own."""
        datasets = {key: item for key, item in self._file[name].items() if isinstance(item, self._h5py.Dataset)}
        arrays = {key: np.asarray(dataset[()]) for key, dataset in datasets.items()}
        return {
            key: np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array for key, array in arrays.items()
        }

    def close(self) -> None:
        self._file.close()


class _Npz:
    """Reads an npz file."""

    def __init__(self, path: Path):
        try:
            self._file = np.load(path, allow_pickle=False)
            self._keys: dict[str, list[str]] = {}
            for key in self._file.files:
                self._keys.setdefault(key.rpartition("/")[0], []).append(key)
        except (ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
            raise EmbeddingFileError(f"{path} is neither HDF5 nor npz ({error}); give another file") from error
        self.run: dict[str, Any] = json.loads(str(self._file[_RUN])) if _RUN in self._file.files else {}
        self.names = [name for name, keys in self._keys.items() if f"{name}/per_residue" in keys]

    def entry(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an entry."""
        return {key.rpartition("/")[2]: self._file[key] for key in self._keys[name]}

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_HDF5 | _Npz]:
    with open(path, "rb") as file:
        is_hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    with contextlib.closing((_HDF5 if is_hdf5 else _Npz)(path)) as reader:
        yield reader


def _write_hdf5(path: Path, run: Mapping[str, Any], entries: Iterable[tuple[str, Entry]]) -> None:
    with _h5py(path).File(path, "w") as file:
        file.attrs[_RUN] = json.dumps(run)
        for name, arrays in entries:
            group = file.require_group(name)
            for key, array in arrays.items():
                group[key] = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array


def _write_npz(path: Path, run: Mapping[str, Any], entries: Iterable[tuple[str, Entry]]) -> None:
    # np.savez would hold all of them in memory.
    with zipfile.ZipFile(path, "w") as file:

        def write(key: str, array: np.ndarray) -> None:
            with file.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)

        write(_RUN, np.array(json.dumps(run)))
        for name, arrays in entries:
            for key, array in arrays.items():
                write(f"{name}/{key}", array)


_WRITERS = {".h5": _write_hdf5, ".npz": _write_npz}


def _h5py(path: Path) -> Any:
    """The package, which is an extra."""
    try:
        import h5py
    except ImportError as error:
        raise EmbeddingFileError(f"{path}: HDF5 needs h5py: pip install 'bihf_jax[hdf5]'; or write .npz") from error
    return h5py
