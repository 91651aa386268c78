"""Text files of chemistry and of published data sets, plain or gzip."""

import gzip
import zlib
from pathlib import Path


class FormatError(ValueError):
    """A file or entry that is not in the format it should be in; the message names the place, the value and the fix."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, decompressed if its name ends in .gz.

    Raises:
      FormatError: no such file, damaged gzip data, or no UTF-8.
    """
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    data = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(f"{path}: damaged gzip data ({error}); fetch the file again") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not text in UTF-8 ({error})") from error
