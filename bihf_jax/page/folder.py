"""`folder_page`: the list of many inputs, with links to their pages, and of those that failed."""

import dataclasses
import math
from collections.abc import Sequence
from urllib.parse import quote

from bihf_jax.page.document import escape, html_document

Cell = str | float | int | None


@dataclasses.dataclass(frozen=True)
class FolderEntry:
    """One input that was scored."""

    name: str
    link: str  # path of its page, from the folder of this page, such as "pages/1abc.html"; not yet percent-encoded
    cells: Sequence[Cell]  # one for each column of the page; None (or NaN) where there is no value


@dataclasses.dataclass(frozen=True)
class FailedInput:
    """One input that was not scored."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class FolderPage:
    """What the page of a folder shows, as plain data.

    Raises:
      ValueError: an entry has another number of cells than there are columns, or a link leaves the folder.
    """

    title: str
    columns: Sequence[str]  # names of the cells of each entry
    entries: Sequence[FolderEntry]
    failed: Sequence[FailedInput] = ()
    model: str = ""  # one line on what made the scores
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for entry in self.entries:
            if len(entry.cells) != len(self.columns):
                counts = f"{len(entry.cells)} cells for the {len(self.columns)} columns {list(self.columns)}"
                raise ValueError(f"entry {entry.name!r} has {counts}")
            if not entry.link or entry.link.startswith(("/", "\\")) or ".." in entry.link.split("/"):
                raise ValueError(f"entry {entry.name!r} links to {entry.link!r}; give a path below the page's folder")


def folder_page(page: FolderPage) -> str:
    """The page as one HTML file: a table to sort and search, and the failed inputs with their reasons."""
    title, model = escape(page.title), escape(page.model)
    parts = [
        f"<header><h1>{title}</h1>" + (f'<p class="model">{model}</p>' if model else ""),
        f"<p>{len(page.entries)} scored, {len(page.failed)} failed.</p></header>",
        "<main>",
        _failed_html(page.failed),
        _entries_html(page),
        "".join(f"<p>{escape(note)}</p>" for note in page.notes),
        "</main>",
    ]
    return html_document(page.title, "\n".join(parts), styles=["common.css", "folder.css"], scripts=["folder.js"])


def _entries_html(page: FolderPage) -> str:
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(name)}</button></th>'
        for name in ("name", *page.columns)
    )
    rows = "\n".join(
        f'<tr><th scope="row"><a href="{escape(_href(entry.link))}">{escape(entry.name)}</a></th>'
        + "".join(map(_cell_html, entry.cells))
        + "</tr>"
        for entry in page.entries
    )
    return (
        '<section class="panel"><h2>Proteins</h2>\n'
        '<p class="search" hidden><label for="search">Search</label> <input id="search" type="search"> '
        '<output id="found" for="search" aria-live="polite"></output></p>\n'
        f'<div class="wide"><table id="entries"><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
        "</div></section>"
    )


def _failed_html(failed: Sequence[FailedInput]) -> str:
    if not failed:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(entry.name)}</th><td>{escape(entry.reason)}</td></tr>' for entry in failed
    )
    head = '<thead><tr><th scope="col">input</th><th scope="col">reason</th></tr></thead>'
    return (
        f'<section class="panel failed"><h2>Failed: {len(failed)}</h2><div class="wide">'
        f'<table id="failed">{head}\n<tbody>\n{rows}\n</tbody></table></div></section>'
    )


def _href(link: str) -> str:
    """A relative reference that cannot be read as a scheme ("javascript:") or a host ("//host")."""
    return "./" + quote(link.encode("utf-8", "surrogateescape"))


def _cell_html(cell: Cell) -> str:
    """A table cell; numbers carry their value for sorting."""
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    if cell is None or math.isnan(cell):
        return "<td></td>"
    shown = str(cell) if isinstance(cell, int) else f"{cell:.4g}"
    return f'<td class="number" data-value="{float(cell)!r}">{shown}</td>'
