"""Folders of the real files under the names that their authors gave them."""

from pathlib import Path


def renamed(folder: Path, source: Path, pattern: str, strip: str = "") -> Path:
    """`folder` with links to the files of `source`, without `strip` at the start of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob(pattern)):
        (folder / path.name.removeprefix(strip)).symlink_to(path)
    return folder
