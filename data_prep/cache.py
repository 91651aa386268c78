"""Results of items on disk, so that a build that was killed goes on, and a set of any size fits into memory.

One file, ``items.tfrecord``, to which a finished item is appended at once: its key, what became of it, and its
serialised examples. The checksums of the TFRecord format tell a whole entry from one that a kill cut off; the latter
is cut away when the cache is opened again. Workers on other machines add whole files of such entries,
``chunk-*.tfrecord`` (`write_chunk`).

The key of an item is a digest of everything that its result follows from: its content, the settings of its task, size
and time of change of its files, and the versions of package, schema and cache. So a cache may be kept and used for
other splits, and nothing stale is ever taken from it.
"""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from bihf_jax.data import tfrecord
from bihf_jax.data.example import SCHEMA_VERSION
from bihf_jax.version import __version__

CACHE_FILE = "items.tfrecord"
CHUNK_FILES = "chunk-*.tfrecord"
UNFINISHED_CHUNK_FILES = "chunk-*"  # finished ones, too
LOCK_FILE = "lock"
CACHE_VERSION = 1


class CacheError(Exception):
    """The cache cannot be used; the message says why."""


class Place(NamedTuple):
    """Where an entry lies."""

    path: Path
    offset: int
    length: int


class Cache:
    """The results that a folder holds; a context manager, as it holds the file and a lock.

    Attributes:
      num_found: items that were there when it was opened.
      bytes_cut: bytes of an entry that was not whole, cut away when it was opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()  # for readers that are at home elsewhere
        self.num_found = self.bytes_cut = 0
        self._path = self.folder / CACHE_FILE
        self._lock = FileLock(self.folder / LOCK_FILE)
        self._places: dict[str, Place] = {}
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Cache":
        """Open the folder, made if absent.

        Raises:
          CacheError: another build uses it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise CacheError(
                f"{self.folder} is in use by another build; wait for it, or name another --cache"
            ) from error
        self._file = open(self._path, "ab")
        end = self._find_entries(self._path)
        self.bytes_cut = self._file.tell() - end
        self._file.truncate(end)
        self.find_chunks()
        self.num_found = len(self._places)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()

    def find_chunks(self) -> None:
        """Note what is in the files of `write_chunk`, also of those written since the cache was opened."""
        known = {place.path for place in self._places.values()}
        for path in sorted(self.folder.glob(CHUNK_FILES)):
            if path not in known:
                self._find_entries(path)

    def _find_entries(self, path: Path) -> int:
        """Note the place of every whole entry of a file; returns where the last one ends."""
        end = 0
        try:
            for offset, data in tfrecord.scan_records(path):
                self._places[_text(data, "key")] = Place(path, offset, len(data))
                end = offset + len(tfrecord.frame(b"")) + len(data)
        except tfrecord.RecordError:
            pass  # the rest was being written when the build was killed, and is read again; `bytes_cut` counts it
        return end

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, key: str, about: Mapping[str, Any], records: Sequence[bytes]) -> None:
        """Append an item: its key (`key_of`), what became of it, as JSON, and its serialised examples."""
        data = _entry(key, about, records)
        self._places[key] = Place(self._path, self._file.tell(), len(data))
        self._file.write(tfrecord.frame(data))
        self._file.flush()  # what the kernel has survives the end of this process

    def place(self, key: str) -> Place:
        """Where an item lies, for `read_entry` in another process."""
        return self._places[key]

    def read(self, key: str) -> tuple[dict[str, Any], list[bytes]]:
        """(what became of the item, its serialised examples)."""
        return read_entry(self._places[key])

    def records(self, key: str) -> list[bytes]:
        """The serialised examples of an item."""
        return self.read(key)[1]

    def remove(self) -> None:
        """Delete the files, and the folder where nothing else is in it; only after `__exit__`."""
        for path in (self._path, self.folder / LOCK_FILE, *self.folder.glob(UNFINISHED_CHUNK_FILES)):
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def read_entry(place: Place) -> tuple[dict[str, Any], list[bytes]]:
    """(what became of the item there, its serialised examples); needs no lock."""
    features = tfrecord.parse_example(tfrecord.read_record(place.path, place.offset, place.length, 0))
    return json.loads(bytes(features["about"][0])), [bytes(record) for record in features["records"]]


def write_chunk(folder: Path, entries: Iterable[tuple[str, Mapping[str, Any], Sequence[bytes]]]) -> None:
    """Add a file of entries, each as the arguments of `Cache.add`, to the cache in `folder`, which another may hold.

    The file appears whole or not at all, so that a worker that is killed, or runs twice, does no harm.
    """
    data = b"".join(tfrecord.frame(_entry(*entry)) for entry in entries)
    path = folder / CHUNK_FILES.replace("*", hashlib.sha256(data).hexdigest()[:32])
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def _entry(key: str, about: Mapping[str, Any], records: Sequence[bytes]) -> bytes:
    return tfrecord.serialize_example(
        {"key": [key.encode()], "about": [json.dumps(about).encode()], "records": list(records)}
    )


def _text(data: bytes, name: str) -> str:
    return str(tfrecord.parse_example(data)[name][0], "utf-8")


def key_of(root: Path, read: Callable, options: Any, item: Any) -> str:
    """Digest of all that the result of `read(item, options)` follows from."""
    states = [_state(root / file) for file in item.files]
    how = f"{read.__module__}.{read.__qualname__}"
    return digest((CACHE_VERSION, SCHEMA_VERSION, __version__, how, options, item, states))


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file, None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def digest(value: Any) -> str:
    """SHA-256 of plain values: numbers, text, paths, arrays, sequences, mappings and dataclasses of them.

    Raises:
      TypeError: a value of another type, of which nobody knows what belongs to its content.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        sha.update(f"array {value.dtype.str} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        sha.update(type(value).__qualname__.encode())
        _feed(sha, fields)
    elif isinstance(value, Mapping):
        _feed(sha, list(value.items()))
    elif isinstance(value, frozenset):
        _feed(sha, sorted(value))
    elif isinstance(value, list | tuple):
        sha.update(f"list {len(value)} ".encode())
        for element in value:
            _feed(sha, element)
    elif value is None or isinstance(value, bool | int | float | str | Path):
        text = str(value)
        sha.update(f"{type(value).__name__} {len(text)} {text} ".encode())
    else:
        raise TypeError(f"no digest of a {type(value).__name__}: {value!r}")
