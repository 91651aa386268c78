"""BLAST's protein databases, written here byte by byte; and as `blastdbcmd` reads them, where it is installed."""

import shutil
import struct
import subprocess

import pytest

from data_prep.formats.blast import read_protein_database
from data_prep.formats.text import FormatError

RECORDS = [("P1|GO:1", "MKVLX"), ("Q2|" + "GO:0006200," * 30, "ACDEFGHIKLMNPQRSTVWYBZUOJ*-"), ("E3", "")]
LETTERS = "-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"  # NCBIstdaa, from the NCBI C++ toolkit's documentation


def header(title):
    """Blast-def-line-set in BER of indefinite length, as far as its title and what stands around it."""
    text = title.encode()
    length = bytes([len(text)]) if len(text) < 128 else b"\x82" + struct.pack(">H", len(text))
    return b"\x30\x80\x30\x80\xa0\x80\x1a" + length + text + b"\x00\x00\xa1\x80\x02\x01\x1a\x00\x00\x00\x00\x00\x00"


def write_database(path, records, version=4, kind=1):
    """The three files of a database."""
    headers = [header(title) for title, _ in records]
    coded = [bytes(LETTERS.index(letter) for letter in sequence) for _, sequence in records]
    header_offsets, sequence_offsets = [0], [1]
    for text, sequence in zip(headers, coded, strict=True):
        header_offsets.append(header_offsets[-1] + len(text))
        sequence_offsets.append(sequence_offsets[-1] + len(sequence) + 1)
    index = struct.pack(">ii", version, kind)
    for text in (b"a title", b"Jan 20, 2022"):
        index += struct.pack(">i", len(text)) + text
    index += struct.pack(">i", len(records)) + struct.pack("<q", sum(map(len, coded))) + struct.pack(">i", 27)
    index += struct.pack(f">{2 * len(header_offsets)}I", *header_offsets, *sequence_offsets)
    path.with_name(path.name + ".pin").write_bytes(index)
    path.with_name(path.name + ".phr").write_bytes(b"".join(headers))
    path.with_name(path.name + ".psq").write_bytes(b"\x00" + b"\x00".join(coded) + b"\x00")
    return path


def test_titles_and_sequences_come_back(tmp_path):
    """Every letter, a title longer than 127 bytes and an empty sequence."""
    assert list(read_protein_database(write_database(tmp_path / "db", RECORDS))) == RECORDS


@pytest.mark.skipif(not shutil.which("makeblastdb"), reason="ncbi-blast+ is not installed")
def test_a_database_of_blast_itself(tmp_path):
    """What makeblastdb writes is read as it was given."""
    records = [(f"P{i}", sequence) for i, sequence in enumerate(("MKVLX", "ACDEFGHIKLMNPQRSTVWYBZU"))]
    (tmp_path / "x.fasta").write_text("".join(f">{title}\n{sequence}\n" for title, sequence in records))
    command = ["makeblastdb", "-in", "x.fasta", "-dbtype", "prot", "-blastdb_version", "4", "-out", "db"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert list(read_protein_database(tmp_path / "db")) == records


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.with_name("db.psq").unlink(), r"db\.psq: no such file"),
        (lambda path: write_database(path, RECORDS, version=5), "version 5, kind 1; read are version 4"),
        (lambda path: write_database(path, RECORDS, kind=0), "version 4, kind 0; read are version 4"),
        (lambda path: path.with_name("db.pin").write_bytes(b"\x00\x00\x00\x04\x00\x00\x00\x01"), r"db\.pin: too short"),
        (lambda path: path.with_name("db.psq").write_bytes(b"\x00\x01\x00"), "other sizes"),
    ],
)
def test_faults_are_named(tmp_path, damage, message):
    path = write_database(tmp_path / "db", RECORDS)
    damage(path)
    with pytest.raises(FormatError, match=message):
        list(read_protein_database(path))
