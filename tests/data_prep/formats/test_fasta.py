"""FASTA: what is read over, and every fault named with file and line."""

import gzip

import pytest

from data_prep.formats.fasta import FastaRecord, read_fasta
from data_prep.formats.text import FormatError

TWO = [FastaRecord("a", "MKVL", 1), FastaRecord("sp|P1|X", "ACDEF", 4)]


@pytest.mark.parametrize(
    "text",
    [
        b">a first\nMK\nVL\n>sp|P1|X second\nACDEF",
        b">a first\r\nMK\r\nVL\r\n>sp|P1|X second\r\nACDEF\r\n",
        b"\xef\xbb\xbf>a\n MK\nV L\t\n> sp|P1|X\nACDEF\n\n",
        b">a\xff\xfe\n",
    ],
    ids=["unix, no newline at the end", "windows", "byte-order mark and white space", "title of no encoding"],
)
@pytest.mark.parametrize("ending", ["fasta", "fa.gz"])
def test_records_and_their_lines(tmp_path, text, ending):
    """Line ends, blanks and the compression change nothing of ids, sequences and lines."""
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    found = list(read_fasta(path))
    assert found == TWO if text.endswith((b"F", b"\n\n", b"F\r\n")) else [r.sequence for r in found] == [""]


def test_comments_and_empty_sequences(tmp_path):
    """Lines of comment are read over; a title without sequence is a record of none, also the last one."""
    path = tmp_path / "x.fasta"
    path.write_text("; old form\n>a\n; more\n>b\nMK*\n>c\n", "utf-8")
    assert list(read_fasta(path)) == [FastaRecord("a", "", 2), FastaRecord("b", "MK*", 4), FastaRecord("c", "", 6)]


def test_an_empty_file_has_no_records(tmp_path):
    (tmp_path / "x.fasta").write_text("", "utf-8")
    assert list(read_fasta(tmp_path / "x.fasta")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\nMKVL\n>a\nMK\n", r"x\.fasta, line 2: 'MKVL' before the first title"),
        (b">a\nMK\n> \nMK\n", r"x\.fasta, line 3: a title without an id"),
    ],
)
def test_faults_name_file_and_line(tmp_path, text, message):
    (tmp_path / "x.fasta").write_bytes(text)
    with pytest.raises(FormatError, match=message):
        list(read_fasta(tmp_path / "x.fasta"))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-12], lambda data: b">a\nMK\n", lambda data: data[:40] + b"xxxx"]
)
def test_damaged_gzip_is_named(tmp_path, damage):
    """A truncated file, one that is not compressed, and one with other bytes inside."""
    (tmp_path / "x.fasta.gz").write_bytes(damage(gzip.compress(b">a\nMKVLAWDERTYKLMNP\n" * 50)))
    with pytest.raises(FormatError, match="damaged gzip data"):
        list(read_fasta(tmp_path / "x.fasta.gz"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"none\.fasta: no such file"):
        list(read_fasta(tmp_path / "none.fasta"))
