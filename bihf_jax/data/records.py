"""`RecordSet`: random access to the examples of one split of a record set; reads no TensorFlow.

A record set is a directory that `data_prep.build` writes:

* ``records-SPLIT.tfrecord-0000i-of-0000n``: TFRecord shards, with the ``dataset_info.json`` and ``features.json`` of
  tensorflow-datasets, so that `tfds.builder_from_directory` reads it too;
* ``index-SPLIT.npz``: shard, byte offset, length, slots, id and group of every record, in the order of the shards;
  a part of a split that is scored by name (``test_70`` of ``test``) is an index into the shards of its split;
* ``metadata.json``: task, schema version, labels (`labels.Labels`), splits with their counts, source, how labels and
  splits were made;
* ``report.json``: what became of every input file.

**Encoding.** An array is one byte string, its little-endian C-order bytes (tensorflow-datasets' ``Encoding.BYTES``), so
that reading it is `np.frombuffer` without a copy. A set of sequences alone has the fields that follow from the tokens
left out of its records (`example.NOT_IN_SEQUENCES`). Strings are byte strings, the weight is a float_list. Measured on
the training split of Docking Benchmark 5.5 (median 228 slots, 41 kB a record), records per second of one core: decoding
raw bytes 12,000 (9,400 with the read and both checksums); zlib 3,500 at 0.61 of the size; native float and int64 lists
6,800, with a parser in C, at 1.6 times the size. A host must keep up with its accelerators, so raw bytes it is.
"""

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bihf_jax.data import tfrecord
from bihf_jax.data.example import (
    NOT_IN_SEQUENCES,
    READABLE_VERSIONS,
    SCHEMA_VERSION,
    Example,
    Field,
    schema,
    sequence_example,
)
from bihf_jax.data.labels import Labels
from bihf_jax.data.tfrecord import RecordError

METADATA_FILE = "metadata.json"
_SCHEMAS = {version: schema(version) for version in READABLE_VERSIONS}
_SCHEMA = _SCHEMAS[SCHEMA_VERSION]


def encode_example(example: Example, *, sequences_only: bool = False) -> bytes:
    """`example` as a serialised `tf.train.Example`, with the features that `data_prep.tfds_builder` writes.

    Args:
      example: what to write.
      sequences_only: leave out what `example.NOT_IN_SEQUENCES` names.

    Raises:
      ValueError: a field whose dtype or shape is not that of `schema()`.
    """
    return tfrecord.serialize_example(
        {
            name: _encode_field(name, field, getattr(example, name))
            for name, field in schema(sequences_only=sequences_only).items()
        }
    )


def _encode_field(name: str, field: Field, value: Any) -> Sequence[bytes] | np.ndarray:
    if field.dtype == "str":
        values = (value,) if field.shape == () else value
        return [text.encode("utf-8") for text in values]
    if field.shape == ():
        return np.array([value], dtype=field.dtype)
    _check_array(name, field, value)
    return [_little_endian(value).tobytes()]


def _check_array(name: str, field: Field, value: np.ndarray) -> None:
    matches = value.ndim == len(field.shape) and all(
        isinstance(want, str) or want == got for want, got in zip(field.shape, value.shape, strict=True)
    )
    if value.dtype != np.dtype(field.dtype) or not matches:
        raise ValueError(f"{name} is {value.dtype} {value.shape}; the schema says {field.dtype} {field.shape}")


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def decode_example(data: bytes, version: int = SCHEMA_VERSION) -> Example:
    """The inverse of `encode_example`. Arrays are read-only views of `data`.

    Raises:
      ValueError: `data` is not a record of schema version `version`.
    """
    features = tfrecord.parse_example(data)
    fields = _SCHEMAS[version]
    missing = fields.keys() - features.keys()
    sequences_only = missing == {*NOT_IN_SEQUENCES}
    if missing and not sequences_only:
        raise ValueError(f"the record lacks {', '.join(sorted(missing))}; it has {', '.join(sorted(features))}")
    values = {name: _decode_field(name, field, features[name]) for name, field in fields.items() if name not in missing}
    if sequences_only:
        return sequence_example(**values)
    example = Example(**values)
    for name, field in fields.items():
        if field.shape[:1] == ("slots",) and len(getattr(example, name)) != example.num_slots:
            raise ValueError(f"{name} has {len(getattr(example, name))} slots, tokens has {example.num_slots}")
    return example


def _decode_field(name: str, field: Field, values: list[memoryview] | np.ndarray) -> Any:
    if field.shape == () and len(values) != 1:
        raise ValueError(f"{name} has {len(values)} values; the schema says one")
    if field.dtype == "str":
        strings = tuple(str(value, "utf-8") for value in values)
        return strings[0] if field.shape == () else strings
    if field.shape == ():
        return float(values[0])
    if len(values) != 1 or isinstance(values, np.ndarray):
        raise ValueError(f"{name} is not one byte string")
    shape = [-1 if isinstance(size, str) else size for size in field.shape]
    try:
        return np.frombuffer(values[0], dtype=np.dtype(field.dtype).newbyteorder("<")).reshape(shape)
    except ValueError as error:
        raise ValueError(f"{name}: {len(values[0])} bytes are no {field.dtype} {field.shape}") from error


def index_file(split: str) -> str:
    """Name of the index file of `split`."""
    return f"index-{split}.npz"


def write_index(
    directory: Path,
    split: str,
    shard_names: Sequence[str],
    labels: Labels | None = None,
    groups_of_subset: Container[str] | None = None,
) -> dict[str, int]:
    """Read the shards of `split` in order (checksums included), write their index file and count what they hold.

    Args:
      directory: the record set.
      split: name of the split.
      shard_names: its shards.
      labels: what the labels have to be; binary labels of residues if None.
      groups_of_subset: only records of these groups: a part of a split under a name of its own; all if None.

    Returns:
      Counts of shards, records, groups, and what `count_example` counts.

    Raises:
      RecordError: a damaged record, labels that are not of `labels`, or two records with one id.
    """
    shard, offset, length, slots, ids, groups = [], [], [], [], [], []
    counts = Counter(shards=len(shard_names))
    for shard_number, name in enumerate(shard_names):
        for record_offset, data in tfrecord.scan_records(directory / name):
            example = decode_example(data)
            if groups_of_subset is not None and example.group not in groups_of_subset:
                continue
            _check_labels(labels or Labels(), example)
            shard.append(shard_number)
            offset.append(record_offset)
            length.append(len(data))
            slots.append(example.num_slots)
            ids.append(example.id)
            groups.append(example.group)
            counts.update(count_example(example))
    counts["groups"] = len(set(groups))
    if duplicates := sorted(name for name, times in Counter(ids).items() if times > 1):
        raise RecordError(f"split {split!r}: several records have the id {', '.join(duplicates[:5])}; ids must differ")
    np.savez_compressed(
        directory / index_file(split),
        schema_version=np.int32(SCHEMA_VERSION),
        shard_names=np.array(shard_names, dtype=np.str_),
        shard_bytes=np.array([(directory / name).stat().st_size for name in shard_names], dtype=np.int64),
        shard=np.array(shard, dtype=np.int32),
        offset=np.array(offset, dtype=np.int64),
        length=np.array(length, dtype=np.int64),
        slots=np.array(slots, dtype=np.int32),
        ids=np.array(ids, dtype=np.str_),
        groups=np.array(groups, dtype=np.str_),
    )
    return dict(counts)


def _check_labels(labels: Labels, example: Example) -> None:
    try:
        labels.check(example)
    except ValueError as error:
        raise RecordError(f"{error}. Mend the labels and write the set again") from error


def count_example(example: Example) -> dict[str, int]:
    """What one example holds: records (1), chains, residues, ligand atoms, slots, labelled residues, positives
    (label > 0.5) among them, and labelled proteins (0 or 1)."""
    chains = len(example.chain_ids)
    return {
        "records": 1,
        "chains": chains,
        "residues": example.first_atom - 2 * chains,
        "ligand_atoms": len(example.ligand_atoms),
        "slots": example.num_slots,
        "labelled": int(example.label_mask.sum()),
        "positives": int((example.label[example.label_mask] > 0.5).sum()),
        "labelled_proteins": int(len(example.protein_label) > 0),
    }


def read_metadata(directory: str | Path) -> dict[str, Any]:
    """The `metadata.json` of a record set.

    Raises:
      RecordError: it is missing, unreadable or of another schema version.
    """
    path = Path(directory) / METADATA_FILE
    try:
        metadata = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RecordError(
            f"{path}: {error.strerror}; {directory} is no finished record set. Make one with data_prep.build"
        ) from error
    except ValueError as error:
        raise RecordError(f"{path} is not JSON ({error}); copy it again or rebuild the set") from error
    _check_version(path, metadata.get("schema_version"))
    return metadata


def _read_labels(directory: Path, metadata: dict[str, Any]) -> Labels:
    try:
        return Labels.of_metadata(metadata)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{directory / METADATA_FILE}: {error}") from error


def _check_version(path: Path, version: Any) -> None:
    if version not in READABLE_VERSIONS:
        raise RecordError(
            f"{path} has schema version {version}, this code reads versions {', '.join(map(str, READABLE_VERSIONS))}; "
            "rebuild the set"
        )


class RecordSet:
    """The examples of one split, by number: a `grain` random access source.

    Safe to use from many threads and to pickle into worker processes: it holds the index and no open file. Each read
    checks the CRC32C of length and data.

    Attributes:
      directory: the record set.
      split: name of the split.
      metadata: the content of ``metadata.json``.
      labels: what the labels of the set are.
      slots: [len] int32, slots of each record, from the index.
      ids: [len] str, id of each record.
      groups: [len] str, complex of each record.
      fingerprint: digest of the index and the counts of the split: equal for equal sets, wherever they lie.
    """

    def __init__(self, directory: str | Path, split: str) -> None:
        """Read the index and compare it with the shards on disk.

        Raises:
          RecordError: no record set there, another schema version, an unknown split (the message lists the splits),
            or a shard that is missing or of another size than the index says.
        """
        self.directory = Path(directory)
        self.split = split
        self.metadata = read_metadata(directory)
        self.labels = _read_labels(self.directory, self.metadata)
        splits = self.metadata["splits"]
        if split not in splits:
            raise RecordError(f"split {split!r} not in {directory}; splits: {', '.join(sorted(splits))}")
        index = _read_index(self.directory / index_file(split))
        self._shard_names: list[str] = index["shard_names"].tolist()
        self._shard, self._offset, self._length = index["shard"], index["offset"], index["length"]
        self.slots: np.ndarray = index["slots"]
        self.ids: np.ndarray = index["ids"]
        self.groups: np.ndarray = index["groups"]
        self.fingerprint = _fingerprint(index, splits[split])
        if len(self) != splits[split]["records"]:
            raise RecordError(
                f"{self.directory / index_file(split)} lists {len(self)} records, {METADATA_FILE} says "
                f"{splits[split]['records']}; they are of different sets"
            )
        self._check_shards(index["shard_bytes"])

    def _check_shards(self, shard_bytes: np.ndarray) -> None:
        for name, expected in zip(self._shard_names, shard_bytes.tolist(), strict=True):
            path = self.directory / name
            if not path.is_file():
                raise RecordError(f"shard {path} is missing; copy it again or rebuild the set")
            if (size := path.stat().st_size) != expected:
                what = "truncated" if size < expected else "too long"
                raise RecordError(
                    f"shard {path} has {size} bytes, {index_file(self.split)} says {expected}: it is {what}, or the "
                    "index is of another set"
                )

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, number: int) -> Example:
        """Record `number` (0 .. len - 1; negative numbers count from the end).

        Raises:
          IndexError: `number` is outside the split.
          RecordError: the record on disk is damaged; the message names shard and record.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"record {number} of split {self.split!r}, which has {len(self)} records")
        number = int(number) % len(self)
        path = self.directory / self._shard_names[self._shard[number]]
        data = tfrecord.read_record(path, int(self._offset[number]), int(self._length[number]), number)
        try:
            example = decode_example(data, self.metadata["schema_version"])
        except ValueError as error:
            raise RecordError(f"record {number} of {path}: {error}") from error
        if example.id != self.ids[number] or example.num_slots != self.slots[number]:
            raise RecordError(
                f"record {number} of {path} is {example.id!r} with {example.num_slots} slots, the index says "
                f"{str(self.ids[number])!r} with {self.slots[number]}; the index is of another set"
            )
        return example

    def __iter__(self) -> Iterator[Example]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        return f"RecordSet({str(self.directory)!r}, {self.split!r}): {len(self)} records"


def _fingerprint(index: dict[str, np.ndarray], counts: dict[str, int]) -> str:
    digest = hashlib.sha256(json.dumps(counts, sort_keys=True).encode())
    for name in sorted(index):
        digest.update(name.encode() + _little_endian(np.ascontiguousarray(index[name])).tobytes())
    return digest.hexdigest()[:12]


def _read_index(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            index = dict(file)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}; copy it again or rebuild the set") from error
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise RecordError(f"{path} is not an index file ({error}); copy it again or rebuild the set") from error
    _check_version(path, int(index["schema_version"]) if "schema_version" in index else None)
    return index
