"""Files of embeddings: both formats hold the same, whole, and only of one kind."""

import dataclasses
import sys

import numpy as np
import pytest

from bihf_jax.inference import Embedding
from bihf_jax.inference.embedding_file import EmbeddingFile, EmbeddingFileError, read_embeddings

RUN = {"model": "abc", "of": "fused", "stage": None}
FORMATS = pytest.mark.parametrize("name", ["out.h5", "out.npz"])


@pytest.fixture
def embedding(odd):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(odd.num_residues, 5)).astype(np.float32)
    return Embedding(odd, "fused", None, features, np.ones(odd.num_residues, bool))


@FORMATS
def test_entries_read_back(embedding, tmp_path, name):
    """Arrays come back exactly, text too; names with folders, and one that is the folder of another, are told apart."""
    nameless = dataclasses.replace(embedding, protein=dataclasses.replace(embedding.protein, chain_ids=("", "B")))
    with_file = EmbeddingFile(tmp_path / name, RUN)
    for key, value in (("a", embedding), ("a/b", nameless), ("run", embedding)):
        with_file.add(key, value)
    with_file.close()
    entries = dict(read_embeddings(tmp_path / name))
    assert set(entries) == {"a", "a/b", "run"}
    for key, value in (("a", embedding), ("a/b", nameless)):
        expected = {"per_residue": value.per_residue, "pooled": value.pooled, "mask": value.mask, **value.columns()}
        assert set(entries[key]) == {*expected, "source"}
        for column, array in expected.items():
            np.testing.assert_array_equal(entries[key][column], array, err_msg=column)
            assert entries[key][column].dtype.kind == array.dtype.kind
        assert str(entries[key]["source"]) == "odd.pdb"


@FORMATS
def test_a_file_grows_and_keeps_what_it_has(embedding, tmp_path, name):
    """A second run adds; the first run's entries stay; nothing but the file is left."""
    for key in ("first", "second"):
        file = EmbeddingFile(tmp_path / name, RUN)
        assert ("first" in file) == (key == "second")
        file.add(key, embedding)
        assert key in file
        file.close()
    assert [key for key, _ in read_embeddings(tmp_path / name)] == ["first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    file = EmbeddingFile(tmp_path / name, RUN, overwrite=True)
    assert "first" not in file
    file.close()
    assert list(read_embeddings(tmp_path / name)) == []


@FORMATS
def test_entries_of_another_kind_are_not_mixed(embedding, tmp_path, name):
    """Neither into the file nor into what a killed run left."""
    killed = EmbeddingFile(tmp_path / name, RUN)
    killed.add("a", embedding)
    with pytest.raises(EmbeddingFileError, match=r"parts holds embeddings .* \(stage was None, is 2\)"):
        EmbeddingFile(tmp_path / name, {**RUN, "stage": 2})
    killed.close()
    with pytest.raises(EmbeddingFileError, match=rf"{name} holds embeddings that .* \(model was 'abc', is 'x'\)"):
        EmbeddingFile(tmp_path / name, {**RUN, "model": "x"})
    assert "a" not in EmbeddingFile(tmp_path / name, {**RUN, "model": "x"}, overwrite=True)


def test_files_that_cannot_be_written_to(tmp_path, monkeypatch):
    """Another ending, somebody else's file, and HDF5 without its package: each says what to do."""
    with pytest.raises(EmbeddingFileError, match=r"the ending must be one of \.h5, \.npz"):
        EmbeddingFile(tmp_path / "out.csv", RUN)
    (tmp_path / "out.npz").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")  # a pickle, which is not run
    with pytest.raises(EmbeddingFileError, match="is neither HDF5 nor npz"):
        EmbeddingFile(tmp_path / "out.npz", RUN)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(EmbeddingFileError, match=r"pip install 'bihf_jax\[hdf5\]'; or write \.npz"):
        EmbeddingFile(tmp_path / "out.h5", RUN)
