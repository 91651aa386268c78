"""The cache of a build: what it holds, what changes a key, and that a killed build ends as one that was not."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import build
from data_prep.cache import CACHE_FILE, Cache, CacheError, digest, key_of, read_entry, write_chunk
from tests.conftest import REPOSITORY
from tests.data_prep.sources.command import examples, run, write_chains


def test_items_come_back(tmp_path):
    """What was added is there in the same process and in the next one."""
    with Cache(tmp_path / "cache") as cache:
        cache.add("a", {"residues": 3}, [b"one", b"two"])
        cache.add("b", {}, [])
        assert cache.read("a") == ({"residues": 3}, [b"one", b"two"])
    with Cache(tmp_path / "cache") as cache:
        assert (cache.num_found, cache.bytes_cut) == (2, 0)
        assert cache.read("a") == ({"residues": 3}, [b"one", b"two"])
        assert cache.read("b") == ({}, [])
        assert "c" not in cache


@pytest.mark.parametrize("lost", [1, 20, 40])
def test_an_entry_that_is_not_whole_is_cut_away(tmp_path, lost):
    """Whatever part of the last entry is missing, the others stay and the next one is added after them."""
    with Cache(tmp_path) as cache:
        cache.add("a", {}, [b"one"])
        end = (tmp_path / CACHE_FILE).stat().st_size
        cache.add("b", {}, [b"two"])
    size = (tmp_path / CACHE_FILE).stat().st_size
    os.truncate(tmp_path / CACHE_FILE, size - lost)
    with Cache(tmp_path) as cache:
        assert (cache.num_found, cache.bytes_cut) == (1, size - lost - end)
        cache.add("c", {}, [b"three"])
    with Cache(tmp_path) as cache:
        assert [cache.records(key) for key in "ac"] == [[b"one"], [b"three"]]
        assert "b" not in cache


def test_a_cache_has_one_user(tmp_path):
    """A second build is refused, not mixed in."""
    with Cache(tmp_path), pytest.raises(CacheError, match="in use by another build"), Cache(tmp_path):
        pass


def test_chunks_of_other_workers_are_found(tmp_path):
    """Also those written while the cache is open, and one that is not finished is not; all are removed in the end."""
    folder = tmp_path / "cache"
    folder.mkdir()
    write_chunk(folder, [("a", {"residues": 3}, [b"one"]), ("b", {}, [])])
    with Cache(folder) as cache:
        assert cache.num_found == 2
        write_chunk(folder, [("c", {}, [b"two"])])
        (folder / "chunk-0.unfinished").write_bytes(b"one")
        cache.find_chunks()
        assert cache.read("a") == ({"residues": 3}, [b"one"])
        assert cache.records("c") == read_entry(cache.place("c"))[1] == [b"two"]
    cache.remove()
    assert not folder.exists()


def test_removing_leaves_other_files_alone(tmp_path):
    """The folder goes where nothing else is in it."""
    for name, other in (("empty", None), ("full", "notes.txt")):
        with Cache(tmp_path / name) as cache:
            cache.add("a", {}, [])
        if other:
            (tmp_path / name / other).write_text("mine")
        cache.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


@dataclasses.dataclass(frozen=True)
class Made:
    """An item."""

    id: str
    values: np.ndarray
    files: tuple[str, ...] = ("a.txt",)


def test_the_key_follows_what_the_result_follows_from(tmp_path):
    """Equal content has one key; another id, array, setting, function or file another."""
    (tmp_path / "a.txt").write_text("one")
    base = key_of(tmp_path, run, {"cutoff": 4.0}, Made("x", np.arange(3)))
    assert key_of(tmp_path, run, {"cutoff": 4.0}, Made("x", np.arange(3))) == base
    others = [
        key_of(tmp_path, run, {"cutoff": 4.0}, Made("y", np.arange(3))),
        key_of(tmp_path, run, {"cutoff": 4.0}, Made("x", np.arange(3) + 1)),
        key_of(tmp_path, run, {"cutoff": 4.0}, Made("x", np.arange(3.0))),
        key_of(tmp_path, run, {"cutoff": 5.0}, Made("x", np.arange(3))),
        key_of(tmp_path, digest, {"cutoff": 4.0}, Made("x", np.arange(3))),
    ]
    (tmp_path / "a.txt").write_text("another")
    others.append(key_of(tmp_path, run, {"cutoff": 4.0}, Made("x", np.arange(3))))
    (tmp_path / "a.txt").unlink()
    others.append(key_of(tmp_path, run, {"cutoff": 4.0}, Made("x", np.arange(3))))
    assert len({base, *others}) == 1 + len(others)


def test_text_is_not_taken_for_its_neighbour():
    """Lengths are part of the digest: moving a letter from one text to the next is another content."""
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest([["a"], "b"]) != digest([["a", "b"]])
    assert digest(1) != digest("1")
    with pytest.raises(TypeError, match="no digest of a object"):
        digest(object())


# Ends the process, as a kill does, when four items are in the cache.
KILLED = """
import os, sys
from data_prep import build, cache

add = cache.Cache.add
def add_and_die(self, *arguments):
    add(self, *arguments)
    if len(self._places) == 4:
        os._exit(9)
cache.Cache.add = add_and_die
build.main(sys.argv[1:])
"""


@pytest.fixture
def inputs(tmp_path):
    """Ten chains with a label each, of which one cannot be read, and the arguments of their build."""
    pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")
    names = [f"p{number}" for number in range(10)]
    write_chains(tmp_path / "in", names)
    (tmp_path / "in" / "p1.pdb").write_text("ATOM nonsense\n")
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{name},{name[1]}\n" for name in names))
    labels = ("--labels", tmp_path / "labels.csv", "--kind", "protein", "--type", "regression")
    return ("--structures", tmp_path / "in", *labels, "--split", "0.6,0.2,0.2")


def files_of(out):
    """Name -> bytes of all files whose bytes do not hold the time (an npz does)."""
    return {path.name: path.read_bytes() for path in sorted(Path(out).iterdir()) if path.suffix != ".npz"}


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(inputs, tmp_path, capsys):
    """After a kill in the middle of the reading, the same command reads only the rest; all files are equal."""
    assert run("custom", tmp_path / "straight", *inputs) == 0
    arguments = ["custom", "--out", tmp_path / "killed", "--workers", 1, "--alignment", "biopython", *inputs]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert died.returncode == 9, died.stderr
    assert not (tmp_path / "killed" / "metadata.json").exists()
    capsys.readouterr()
    assert run("custom", tmp_path / "killed", *inputs) == 0
    assert "going on: 4 items" in capsys.readouterr().out
    straight, killed = files_of(tmp_path / "straight"), files_of(tmp_path / "killed")
    assert straight.keys() == killed.keys()
    for name, content in straight.items():
        assert killed[name] == content, name


def test_a_named_cache_is_kept_for_other_splits(inputs, tmp_path, monkeypatch):
    """With --cache nothing is read twice, not even for another record set; a changed file is."""
    cache = ("--cache", tmp_path / "kept")
    assert run("custom", tmp_path / "first", *inputs, *cache) == 0
    read = []

    def counted(items, *arguments):
        read.append([item.id for item in items])
        return real(items, *arguments)

    from data_prep import pipeline

    real = pipeline.run
    monkeypatch.setattr(pipeline, "run", counted)
    assert run("custom", tmp_path / "second", *inputs, *cache, "--seed", 1) == 0
    before = examples(tmp_path / "second")
    write_chains(tmp_path / "in", ["p1"], seed=5)
    assert run("custom", tmp_path / "third", *inputs, *cache) == 0
    assert read == [[], ["p1"]]
    assert examples(tmp_path / "third").keys() - before.keys() == {"p1"}
    assert build.REPORT_FILE in files_of(tmp_path / "second")
