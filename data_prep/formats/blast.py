"""Protein databases of BLAST, version 4, as `formatdb` and `makeblastdb -blastdb_version 4` write them.

Of NAME there are three files (NCBI, "BLAST database format", ftp.ncbi.nlm.nih.gov/blast/documents/formatdb.html):

* ``NAME.pin``: big-endian counts, then for each record where its header and its sequence begin;
* ``NAME.psq``: residues in NCBIstdaa, a byte each, with a zero before, between and after the sequences;
* ``NAME.phr``: each header as BER of ASN.1's Blast-def-line-set, of which the title of the first line is read.

`blastdbcmd` of the package ncbi-blast+ reads them too; a test compares where it is installed.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep.formats.text import FormatError

# NCBIstdaa: the letter of each code.
_LETTERS = b"-ABCDEFGHIKLMNPQRSTVWXYZU*OJ"
_TO_ASCII = bytes(_LETTERS) + b"?" * (256 - len(_LETTERS))
_VISIBLE_STRING = 0x1A


def read_protein_database(path: Path) -> Iterator[tuple[str, str]]:
    """(title, sequence) of each record of the database `path` (its files are `path` with .pin, .psq and .phr).

    Raises:
      FormatError: a file is missing, or is not of such a database.
    """
    index, residues, headers = (_read(path, ending) for ending in (".pin", ".psq", ".phr"))
    header_ends, sequence_ends = _offsets(Path(f"{path}.pin"), index)
    if sequence_ends[-1] != len(residues) or header_ends[-1] != len(headers):
        raise FormatError(
            f"{path}: .pin speaks of other sizes than .psq and .phr have; they are of different databases"
        )
    letters = residues.translate(_TO_ASCII)
    for i in range(len(header_ends) - 1):
        header = headers[header_ends[i] : header_ends[i + 1]]
        # The byte before the next sequence is the zero between them.
        yield _title(path, i, header), letters[sequence_ends[i] : sequence_ends[i + 1] - 1].decode("ascii")


def _read(path: Path, ending: str) -> bytes:
    file = Path(f"{path}{ending}")
    if not file.is_file():
        raise FormatError(f"{file}: no such file; a protein database of BLAST has .pin, .psq and .phr")
    return file.read_bytes()


def _offsets(file: Path, index: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where headers and sequences begin: [records + 1] each, the last one is the end."""
    try:
        version, kind = struct.unpack_from(">ii", index)
        position = 8
        for _ in ("title", "date"):
            (length,) = struct.unpack_from(">i", index, position)
            position += 4 + length
        (records,) = struct.unpack_from(">i", index, position)
        # The number of residues (8 bytes) and the longest sequence (4) stand between.
        offsets = np.frombuffer(index, ">u4", 2 * (records + 1), position + 16).astype(np.int64)
    except (struct.error, ValueError) as error:
        raise FormatError(f"{file}: too short for a BLAST database ({error}); copy it again") from error
    if (version, kind) != (4, 1):
        raise FormatError(f"{file}: version {version}, kind {kind}; read are version 4 of proteins (kind 1)")
    return offsets[: records + 1], offsets[records + 1 :]


def _title(path: Path, record: int, header: bytes) -> str:
    """The first VisibleString of a header, which is the title of its first line."""
    start = header.find(_VISIBLE_STRING)
    if start < 0 or start + 1 >= len(header):
        raise FormatError(f"{path}.phr: the header of record {record} has no title; make the database with titles")
    length, start = header[start + 1], start + 2
    if length & 0x80:  # the length itself is so many bytes long
        length, start = int.from_bytes(header[start : start + length - 0x80], "big"), start + length - 0x80
    return header[start : start + length].decode("utf-8", errors="replace")
