"""Preparation on Apache Beam: the DirectRunner writes what the processes of this machine write."""

import pickle

import pytest

pytest.importorskip("apache_beam", reason="needs the beam extra")
pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")

from bihf_jax.data.records import encode_example
from data_prep import beam_run
from data_prep.build import REPORT_FILE
from data_prep.cache import CHUNK_FILES
from tests.data_prep.sources.command import examples, run, write_chains

BEAM = ("--runner", "DirectRunner")


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Nine chains with a label each, of which one cannot be read; workers take two at once."""
    monkeypatch.setattr(beam_run, "CHUNK", 2)
    names = [f"p{number}" for number in range(8)]
    write_chains(tmp_path / "in", names)
    (tmp_path / "in" / "broken.pdb").write_text("ATOM  nonsense\n")
    rows = [f"{name}.pdb,{number}\n" for number, name in enumerate([*names, "broken"])]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(rows))
    return [
        *("--structures", tmp_path / "in", "--labels", tmp_path / "labels.csv"),
        *("--kind", "protein", "--type", "regression", "--split", "0.6,0.2,0.2"),
    ]


def content(folder):
    """Name -> bytes of what a build has left; of shards the records, as protobuf may order their fields as it likes."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if ".tfrecord" not in path.name}
    return files | {name: encode_example(example) for name, example in examples(folder).items()}


def test_the_same_files_as_without_beam(arguments, tmp_path):
    """Records, indices (and so their order), metadata and report are equal, and nothing else is left."""
    assert run("custom", tmp_path / "plain", *arguments) == 0
    assert run("custom", tmp_path / "beam", *arguments, *BEAM) == 0
    plain, beam = content(tmp_path / "plain"), content(tmp_path / "beam")
    assert plain.keys() == beam.keys()
    assert [name for name in plain if plain[name] != beam[name]] == []
    assert b"broken.pdb" in beam[REPORT_FILE]


def test_what_the_workers_have_read_is_not_read_again(arguments, tmp_path, capsys):
    """Their chunks are part of the cache: a build without Beam goes on from them."""
    cache = tmp_path / "cache"
    assert run("custom", tmp_path / "first", *arguments, *BEAM, "--cache", cache) == 0
    assert len(list(cache.glob(CHUNK_FILES))) == 5
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    for chunk in sorted(cache.glob(CHUNK_FILES))[:2]:
        chunk.unlink()
    capsys.readouterr()
    assert run("custom", tmp_path / "second", *arguments, "--cache", cache) == 0
    found = int(capsys.readouterr().out.split("going on: ")[1].split()[0])
    assert found in (5, 6)  # of nine, in chunks of 2, 2, 2, 2 and 1
    assert content(tmp_path / "first") == content(tmp_path / "second")


def test_workers_that_write_elsewhere_are_named(arguments, tmp_path, monkeypatch, capsys):
    """Chunks that do not appear in the cache are an error that says what is wrong, not a set without them."""
    monkeypatch.setattr(beam_run, "write_chunk", lambda *_: None)
    assert run("custom", tmp_path / "out", *arguments, *BEAM) == 1
    assert "9 of 9 items are not in" in capsys.readouterr().err


def test_a_changed_job_is_not_unpickled(tmp_path):
    """A worker opens only what this run wrote."""
    beam_run.create(tmp_path, [("a", 1)])
    (path,) = tmp_path.iterdir()
    assert beam_run._job((str(path), path.name)) == ("a", 1)
    path.write_bytes(pickle.dumps(("b", 1)))
    with pytest.raises(RuntimeError, match="was changed"):
        beam_run._job((str(path), path.name))
