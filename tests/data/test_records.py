"""A record set: written through tensorflow-datasets, read without it, and every kind of damage named."""

import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bihf_jax.data import records as records_module
from bihf_jax.data.example import NOT_IN_SEQUENCES, SCHEMA_VERSION, schema
from bihf_jax.data.grid import crop_example
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import RecordError, RecordSet, decode_example, encode_example
from tests.data.examples import random_example

LENGTHS = {"train": 20, "test": 3}


def make_examples(split):
    return [
        random_example(seed, chain_lengths=(5 + seed, 30)[: 1 + seed % 2], id=f"{split}{seed}:ä")
        for seed in range(LENGTHS[split])
    ]


def assert_equal(first, second):
    """Every field equal, dtypes included, bit for bit."""
    for name, field in schema().items():
        a, b = getattr(first, name), getattr(second, name)
        if field.shape and field.dtype != "str":
            assert a.dtype == b.dtype == np.dtype(field.dtype), name
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == pytest.approx(b, rel=1e-7) if name == "weight" else a == b, name


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A record set of two splits, in three shards each, written through tensorflow-datasets."""
    pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")
    from data_prep import tfds_builder

    directory = tmp_path_factory.mktemp("records")
    tfds_builder.write_record_set(
        directory, {split: make_examples(split) for split in LENGTHS}, {"task": "ppbs", "source": "noise"}, shards=3
    )
    return directory


@pytest.fixture
def damaged(written, tmp_path):
    """A copy of the record set to damage."""
    return shutil.copytree(written, tmp_path / "copy")


def test_schema_is_the_example():
    """The schema names exactly the fields of `Example`, so writer, reader and type cannot drift apart."""
    assert set(schema()) == {field.name for field in dataclasses.fields(random_example(0))}


@pytest.mark.parametrize("seed", range(5))
def test_encode_and_decode_are_inverse(seed):
    """An example survives its own encoding bit for bit, chains of one residue included."""
    example = random_example(seed, chain_lengths=(1, 7, 12)[: 1 + seed % 3])
    assert_equal(decode_example(encode_example(example)), example)


def test_encode_refuses_what_the_schema_does_not_say():
    """A float64 backbone or one of another shape is refused by name instead of written."""
    example = random_example(0)
    with pytest.raises(ValueError, match="backbone is float64"):
        encode_example(dataclasses.replace(example, backbone=example.backbone.astype(np.float64)))
    with pytest.raises(ValueError, match="torsions is float32"):
        encode_example(dataclasses.replace(example, torsions=example.torsions[:, :3]))


def test_decode_refuses_other_records():
    """A record without our fields, and one whose fields disagree about the slots, are refused by name."""
    with pytest.raises(ValueError, match=r"lacks backbone, .*it has x"):
        decode_example(records_module.tfrecord.serialize_example({"x": [b"1"]}))
    example = random_example(0)
    short = dataclasses.replace(example, label=example.label[:-1])
    with pytest.raises(ValueError, match="label has 13 slots, tokens has 14"):
        decode_example(encode_example(short))


@pytest.mark.parametrize("split", LENGTHS)
def test_what_is_written_is_read(written, split):
    """Each example comes back equal, and the index agrees with it, without a record lost or doubled."""
    records = RecordSet(written, split)
    originals = {example.id: example for example in make_examples(split)}
    assert len(records) == len(originals) == LENGTHS[split]
    for number, example in enumerate(records):
        assert records.ids[number] == example.id
        assert records.groups[number] == example.group
        assert records.slots[number] == example.num_slots
        assert_equal(example, originals.pop(example.id))
    assert not originals
    assert records.slots.dtype == np.int32
    assert_equal(records[-1], records[len(records) - 1])


def test_tensorflow_datasets_reads_the_same(written):
    """`tfds.builder_from_directory` gives the values that `RecordSet` gives."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")
    dataset = tfds.as_numpy(tfds.builder_from_directory(written).as_dataset(split="train"))
    theirs = {row["id"].decode(): row for row in dataset}
    records = RecordSet(written, "train")
    assert len(theirs) == len(records)
    for example in records:
        row = theirs[example.id]
        for name, field in schema().items():
            if field.dtype == "str":
                values = [text.decode() for text in np.atleast_1d(row[name])]
                assert values == list(np.atleast_1d(getattr(example, name)))
            else:
                assert row[name].dtype == np.dtype(field.dtype)
                np.testing.assert_array_equal(row[name], np.asarray(getattr(example, name), field.dtype))


def test_the_numpy_parser_of_tensorflow_datasets_agrees(written):
    """Our wire-format parser finds the bytes that the generated protobuf parser finds."""
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.proto import tf_example_pb2

    shard = next(written.glob("records-train.tfrecord-*"))
    for _, data in records_module.tfrecord.scan_records(shard):
        message = tf_example_pb2.Example.FromString(data).features.feature
        ours = records_module.tfrecord.parse_example(data)
        assert ours.keys() == message.keys()
        for name, values in ours.items():
            theirs = message[name].float_list.value if name == "weight" else message[name].bytes_list.value
            assert [bytes(value) if name != "weight" else value for value in values] == list(theirs)


def test_metadata_counts_what_is_there(written):
    """The counts in the metadata are those of the examples, and the schema version is stated."""
    metadata = RecordSet(written, "train").metadata
    examples = make_examples("train")
    assert metadata["schema_version"] == SCHEMA_VERSION
    assert metadata["task"] == "ppbs"
    counts = metadata["splits"]["train"]
    assert counts == {
        "shards": 3,
        "records": len(examples),
        "groups": len(examples),
        "chains": sum(len(example.chain_ids) for example in examples),
        "residues": sum(int((example.residue_number > 0).sum()) for example in examples),
        "ligand_atoms": 0,
        "slots": sum(example.num_slots for example in examples),
        "labelled": sum(int(example.label_mask.sum()) for example in examples),
        "positives": sum(int(example.label.sum()) for example in examples),
        "labelled_proteins": 0,
    }
    assert metadata["labels"] == {"unit": "residue", "type": "binary", "names": ["positive"]}


def test_labels_of_proteins_are_written_and_read(tmp_path):
    """The label of each protein and what it is come back; a protein without one stays so; one that contradicts the
    metadata stops the writing and leaves no record set."""
    pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")
    from data_prep import tfds_builder

    labels = Labels("protein", "multilabel", ("a", "b"))
    examples = [
        dataclasses.replace(example, protein_label=np.array([number % 2, 1][: number // 2 * 2], np.float32))
        for number, example in enumerate(make_examples("test"))
    ]
    metadata = {"task": "custom", "labels": labels.to_metadata()}
    tfds_builder.write_record_set(tmp_path / "set", {"test": examples}, metadata)
    records = RecordSet(tmp_path / "set", "test")
    assert records.labels == labels
    assert records.metadata["splits"]["test"]["labelled_proteins"] == 1
    originals = {example.id: example for example in examples}
    for example in records:
        assert_equal(example, originals[example.id])
    with pytest.raises(RecordError, match="has a protein_label, and the labels of the set are of residues"):
        tfds_builder.write_record_set(tmp_path / "wrong", {"test": examples}, {"task": "ppbs"})
    assert list((tmp_path / "wrong").iterdir()) == []


@pytest.mark.parametrize(
    ("version", "added"),
    [(1, ["protein_label", "ligand_atoms", "ligand_bonds"]), (2, ["ligand_atoms", "ligand_bonds"])],
)
def test_a_set_of_an_older_version_is_read(damaged, version, added):
    """A set as it was written before a field was added: its examples have none of it; without labels in the metadata
    they are binary, of residues."""
    examples = {example.id: example for example in make_examples("test")}
    old = [records_module.tfrecord.parse_example(encode_example(example)) for example in examples.values()]
    for features in old:
        for name in added:
            del features[name]
    data = [records_module.tfrecord.serialize_example(features) for features in old]
    (damaged / "old").write_bytes(b"".join(map(records_module.tfrecord.frame, data)))
    length = np.array([len(record) for record in data])
    index = dict(np.load(damaged / records_module.index_file("test")))
    changes = {
        "schema_version": np.int32(version),
        "shard_names": np.array(["old"]),
        "shard_bytes": np.array([(length + 16).sum()]),
        "shard": np.zeros(len(data), np.int32),
        "offset": np.cumsum(length + 16) - (length + 16),
        "length": length,
        "slots": np.array([example.num_slots for example in examples.values()], np.int32),
        "ids": np.array(list(examples)),
        "groups": np.array([example.group for example in examples.values()]),
    }
    np.savez(damaged / records_module.index_file("test"), **(index | changes))
    path = damaged / records_module.METADATA_FILE
    metadata = json.loads(path.read_text()) | {"schema_version": version}
    del metadata["labels"]
    path.write_text(json.dumps(metadata))
    records = RecordSet(damaged, "test")
    assert records.labels == Labels()
    for example in records:
        assert example.protein_label.shape == (0,)
        assert example.ligand_atoms.shape == (0, 5)
        assert_equal(example, examples[example.id])


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    """Shards and index depend on the examples alone, not on the order in which they come."""
    from data_prep import tfds_builder

    again = tmp_path / "again"
    tfds_builder.write_record_set(
        again, {split: make_examples(split)[::-1] for split in LENGTHS}, {"task": "ppbs", "source": "noise"}, shards=3
    )
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in written.iterdir())
    for path in written.glob("records-*"):
        assert (again / path.name).read_bytes() == path.read_bytes()
    for split in LENGTHS:
        np.testing.assert_array_equal(RecordSet(again, split).ids, RecordSet(written, split).ids)


def test_a_finished_set_is_not_overwritten_and_an_empty_split_is_refused(written, tmp_path):
    """Writing refuses a directory that holds a record set, an empty split and zero shards."""
    from data_prep import tfds_builder

    with pytest.raises(FileExistsError, match="holds a record set already"):
        tfds_builder.write_record_set(written, {"train": make_examples("train")}, {"task": "ppbs"})
    with pytest.raises(ValueError, match="every split needs at least one example"):
        tfds_builder.write_record_set(tmp_path, {"train": make_examples("train"), "test": []}, {"task": "ppbs"})
    with pytest.raises(ValueError, match="shards is 0"):
        tfds_builder.write_record_set(tmp_path, {"train": make_examples("train")}, {"task": "ppbs"}, shards=0)


def test_an_interrupted_write_leaves_no_record_set(tmp_path):
    """When an example fails while it is written, the directory is left without shards and without metadata."""
    from data_prep import tfds_builder

    class Failing(list):
        def __iter__(self):
            yield self[0]
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        tfds_builder.write_record_set(tmp_path, {"train": Failing(make_examples("train"))}, {"task": "ppbs"})
    assert list(tmp_path.iterdir()) == []


def test_many_threads_and_a_pickled_copy_read_the_same(written):
    """Reads from eight threads and from an unpickled copy equal those of one thread."""
    records = RecordSet(written, "train")
    expected = [encode_example(example) for example in records]
    numbers = np.random.default_rng(0).integers(0, len(records), 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: encode_example(records[number]), numbers))
    assert got == [expected[number] for number in numbers]
    copy = pickle.loads(pickle.dumps(records))
    assert [encode_example(example) for example in copy] == expected


def test_it_is_a_grain_source(written):
    """`grain.MapDataset.source` reads it at random and in order."""
    grain = pytest.importorskip("grain")
    records = RecordSet(written, "train")
    dataset = grain.MapDataset.source(records).shuffle(seed=3).map(lambda example: example.id)
    assert sorted(dataset[number] for number in range(len(dataset))) == sorted(records.ids.tolist())


def test_reading_imports_neither_tensorflow_nor_torch(written):
    """A fresh process reads a record with neither TensorFlow, tensorflow-datasets nor PyTorch in sys.modules."""
    program = (
        "import sys; from bihf_jax.data.records import RecordSet;"
        f"print(RecordSet({str(written)!r}, 'train')[0].num_slots);"
        "print([name for name in ('tensorflow', 'tensorflow_datasets', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    slots, modules = run.stdout.split("\n", 1)
    assert int(slots) == RecordSet(written, "train")[0].num_slots
    assert modules.strip() == "[]"


@pytest.mark.parametrize("where", ["length", "length checksum", "data", "data checksum"])
@pytest.mark.parametrize("number", [0, 7, 19])
def test_a_flipped_bit_names_shard_and_record(damaged, number, where):
    """Damage to one record is named by shard and record, and the other records are still read."""
    records = RecordSet(damaged, "train")
    shard = damaged / records._shard_names[records._shard[number]]
    offset, length = int(records._offset[number]), int(records._length[number])
    position = {"length": 1, "length checksum": 9, "data": 12 + length // 2, "data checksum": 12 + length + 2}[where]
    content = bytearray(shard.read_bytes())
    content[offset + position] ^= 16
    shard.write_bytes(content)
    records = RecordSet(damaged, "train")
    with pytest.raises(RecordError, match=rf"record {number} of .*{shard.name}.*CRC32C"):
        records[number]
    for other in set(range(len(records))) - {number}:
        assert records[other].id == records.ids[other]


def test_a_truncated_and_a_missing_shard_are_named_at_once(damaged):
    """Before anything is read, a shard of another size and a missing one are named."""
    shard = sorted(damaged.glob("records-train*"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[:-5])
    with pytest.raises(RecordError, match=rf"{shard.name} has {len(content) - 5} bytes.*truncated"):
        RecordSet(damaged, "train")
    shard.write_bytes(content + b"more")
    with pytest.raises(RecordError, match="too long"):
        RecordSet(damaged, "train")
    shard.unlink()
    with pytest.raises(RecordError, match=rf"{shard.name} is missing"):
        RecordSet(damaged, "train")
    assert len(RecordSet(damaged, "test")) == LENGTHS["test"]


def test_an_index_of_another_set_is_found(damaged):
    """An index that disagrees with the metadata in length, or with a record in its id, is refused."""
    path = damaged / records_module.index_file("train")
    index = dict(np.load(path))
    ids = index["ids"].copy()
    ids[4] = "other"
    np.savez(path, **(index | {"ids": ids}))
    with pytest.raises(RecordError, match="the index says 'other'"):
        RecordSet(damaged, "train")[4]
    np.savez(
        path, **{name: value[:-1] if name in ("slots", "ids", "groups") else value for name, value in index.items()}
    )
    with pytest.raises(RecordError, match=r"lists 19 records, metadata.json says 20"):
        RecordSet(damaged, "train")
    path.write_bytes(b"no index")
    with pytest.raises(RecordError, match="is not an index file"):
        RecordSet(damaged, "train")
    path.unlink()
    with pytest.raises(RecordError, match="No such file"):
        RecordSet(damaged, "train")


@pytest.mark.parametrize("part", ["metadata", "index"])
def test_another_schema_version_names_both(damaged, part):
    """Metadata or index of another version is refused with both versions in the message."""
    if part == "metadata":
        path = damaged / records_module.METADATA_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    else:
        path = damaged / records_module.index_file("train")
        np.savez(path, **(dict(np.load(path)) | {"schema_version": np.int32(99)}))
    with pytest.raises(RecordError, match=r"schema version 99, this code reads versions 1, 2"):
        RecordSet(damaged, "train")


def test_unknown_split_and_no_set_are_named(written, tmp_path):
    """An unknown split lists the splits; a folder without a record set says so; a number outside is an IndexError."""
    with pytest.raises(RecordError, match=r"split 'dev' not in .*; splits: test, train"):
        RecordSet(written, "dev")
    with pytest.raises(RecordError, match="no finished record set"):
        RecordSet(tmp_path, "train")
    (tmp_path / records_module.METADATA_FILE).write_text("{")
    with pytest.raises(RecordError, match="is not JSON"):
        RecordSet(tmp_path, "train")
    for number in (20, -21):
        with pytest.raises(IndexError, match=rf"record {number} of split 'train', which has 20 records"):
            RecordSet(written, "train")[number]


def test_sequences_alone_come_back():
    """Records without structure: a fraction of the bytes, the same sequence, and what is absent is empty or follows."""
    whole = random_example(3, chain_lengths=(12, 7))
    data = encode_example(whole, sequences_only=True)
    assert len(data) < len(encode_example(whole)) / 20
    found = decode_example(data)
    same = schema(sequences_only=True).keys() | {"chain_segment", "residue_number", "insertion_code"}
    for name in same - {"weight"}:
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), err_msg=name)
    assert found.weight == pytest.approx(whole.weight, rel=1e-7)
    for name in NOT_IN_SEQUENCES:
        assert getattr(found, name).dtype == getattr(whole, name).dtype
        assert getattr(found, name).shape == getattr(whole, name).shape
    assert not any(
        getattr(found, name).any() for name in ("backbone_mask", "torsion_mask", "neighbour_offset", "label")
    )
    cropped = crop_example(found, 11, np.random.default_rng(0))
    assert cropped.num_slots <= 11
