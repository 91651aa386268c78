"""FASTA files, plain or gzip: a stream of records that know their line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from data_prep.formats.text import FormatError


class FastaRecord(NamedTuple):
    """One record as the file has it."""

    id: str  # the title up to the first space
    sequence: str  # its lines joined, without white space; "" where there are none
    line: int  # of the title, from 1


def read_fasta(path: Path) -> Iterator[FastaRecord]:
    """The records of a file, in order; it is never in memory as a whole.

    Line ends of Windows, blank lines, lines that begin with ";" (comments of the old format) and a byte-order mark are
    read over.

    Raises:
      FormatError: no such file, damaged gzip data, text before the first title, or a title without an id; the message
        names the file and the line.
    """
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    gzipped = path.suffix.lower() == ".gz"
    # Titles are free text of any encoding, and of no use here but for the id; letters are checked by who takes them.
    opened = (gzip.open if gzipped else open)(path, "rt", encoding="utf-8-sig", errors="replace")
    with opened as file:
        try:
            yield from _records(path, file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise FormatError(f"{path}: damaged gzip data ({error}); fetch the file again") from error


def _records(path: Path, file: TextIO) -> Iterator[FastaRecord]:
    id, start, parts = "", 0, []
    for number, line in enumerate(file, start=1):
        line = line.strip()
        if line.startswith(">"):
            if start:
                yield FastaRecord(id, "".join(parts), start)
            words = line[1:].split(maxsplit=1)
            if not words:
                raise FormatError(f"{path}, line {number}: a title without an id; write >ID")
            id, start, parts = words[0], number, []
        elif line and not line.startswith(";"):
            if not start:
                raise FormatError(f"{path}, line {number}: {line[:40]!r} before the first title; FASTA begins with >ID")
            parts.append("".join(line.split()))
    if start:
        yield FastaRecord(id, "".join(parts), start)
