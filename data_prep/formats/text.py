"""Text files of published data sets: plain or gzip, found by their authors' name, read with line numbers."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from bihf_jax.data.text_file import FormatError, read_text

__all__ = ["FormatError", "find_file", "numbered_lines", "read_csv", "read_text", "require_file"]


def find_file(folder: Path, name: str) -> Path | None:
    """The file `name` of `folder`, None where there is none.

    It may be compressed (``training.txt.gz``) and carry a prefix that ends in "_" (``ProtFunct_training.txt.gz``).

    Raises:
      FormatError: no such folder, or several files that could be it.
    """
    if not folder.is_dir():
        raise FormatError(f"{folder}: no such directory")
    for names in ((name, f"{name}.gz"), (f"*_{name}", f"*_{name}.gz")):
        found = sorted(path for pattern in names for path in folder.glob(pattern))
        if len(found) > 1:
            raise FormatError(f"{folder}: {' and '.join(path.name for path in found)} could both be {name}; keep one")
        if found:
            return found[0]
    return None


def require_file(folder: Path, name: str) -> Path:
    """As `find_file`, but `FormatError` where there is none."""
    found = find_file(folder, name)
    if found is None:
        raise FormatError(f"{folder}: no file {name} (also .gz, also with a prefix such as data_{name})")
    return found


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line without the white space at its ends) of every line that is not blank."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def read_csv(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column -> text without the white space at its ends) of every row of a CSV file with a header.

    Args:
      path: the file, also .gz.
      columns: names that the header must have.
      optional: names that it may have; "" where it has not. Other columns are passed over.

    Raises:
      FormatError: the file cannot be read, a column is missing, or a row has more values than the header.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    header = reader.fieldnames or ()
    if missing := [column for column in columns if column not in header]:
        found = ", ".join(header) or "nothing"
        raise FormatError(f"{path}: column {', '.join(missing)} is missing; the first line has {found}")
    for row in reader:
        if None in row:
            raise FormatError(f"{path}, line {reader.line_num}: more values than the {len(header)} columns")
        yield reader.line_num, {column: (row.get(column) or "").strip() for column in (*columns, *optional)}
