"""Opening and naming of text files."""

import gzip
import subprocess
import sys

import pytest

from data_prep.formats.text import FormatError, find_file, numbered_lines, read_csv, read_text, require_file


def test_a_file_is_found_by_its_name_compressed_or_with_a_prefix(tmp_path):
    """The exact name comes before a prefix; a prefix ends in "_"; nothing found is None, or an error that names it."""
    (tmp_path / "ProtFunct_training.txt.gz").touch()
    (tmp_path / "mytraining.txt").touch()
    assert find_file(tmp_path, "training.txt").name == "ProtFunct_training.txt.gz"
    (tmp_path / "training.txt").touch()
    assert find_file(tmp_path, "training.txt").name == "training.txt"
    assert find_file(tmp_path, "testing.txt") is None
    with pytest.raises(FormatError, match=r"no file testing\.txt"):
        require_file(tmp_path, "testing.txt")
    (tmp_path / "training.txt.gz").touch()
    with pytest.raises(FormatError, match=r"training\.txt and training\.txt\.gz could both be"):
        find_file(tmp_path, "training.txt")
    with pytest.raises(FormatError, match="no such directory"):
        find_file(tmp_path / "nowhere", "training.txt")


def test_lines_have_the_numbers_of_the_file(tmp_path):
    """Blank lines are passed over and counted; a byte-order mark and Windows line ends are not part of the text."""
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\ufeffone\r\n\r\n  two \r\n".encode()))
    assert list(numbered_lines(tmp_path / "a.txt.gz")) == [(1, "one"), (3, "two")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\x00", "not text in UTF-8"),
        ("a.txt.gz", b"plain", "damaged gzip data"),
        ("a.txt.gz", gzip.compress(b"x" * 1000)[:-9], "damaged gzip data"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path, name, content, message):
    """Binary data and gzip data that is cut or none at all are errors that name the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"{name}: {message}"):
        read_text(tmp_path / name)


def test_rows_of_a_csv_have_the_columns_asked_for(tmp_path):
    """Quoted commas, absent optional columns and rows that end early are read; what is missing or too much is named."""
    path = tmp_path / "a.csv"
    path.write_text('id,name,label\n1,"a, b", 2\n3\n')
    assert list(read_csv(path, ("id", "label"), optional=("weight",))) == [
        (2, {"id": "1", "label": "2", "weight": ""}),
        (3, {"id": "3", "label": "", "weight": ""}),
    ]
    with pytest.raises(FormatError, match=r"column split is missing; the first line has id, name, label"):
        list(read_csv(path, ("id", "split")))
    path.write_text("id,label\n1,2,3\n")
    with pytest.raises(FormatError, match="line 2: more values than the 2 columns"):
        list(read_csv(path, ("id",)))


def test_the_readers_load_neither_jax_nor_a_chemistry_library():
    """Importing every reader loads no JAX, no chemistry, HDF5 or LMDB library, which are extras or slow."""
    names = "atom3d casp custom deepfri hermosilla pdbbind residues scannet text"
    code = f"import sys\nfrom data_prep.formats import {', '.join(names.split())}\n"
    code += "from bihf_jax.data import components, molecules, pdbqt\n"
    code += "print(sorted({'jax', 'rdkit', 'h5py', 'lmdb', 'openbabel', 'biotite', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
