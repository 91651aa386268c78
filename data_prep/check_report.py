"""What `data_prep.check` found, as tables, JSON, a picture and a page."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bihf_jax.figures import COLOURS, new_figure, save_figure
from bihf_jax.page.document import escape, html_document
from data_prep.facts import MISSING, SplitFacts
from data_prep.leaks import NEAR_IDENTITY, Overlap, count_repeats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Rows of cells; the first row is the head, the first cell of a row its name.
Table = Sequence[Sequence[str]]

QUANTILES = (0, 10, 50, 90, 100)
# Classes that are drawn, the most frequent ones.
_MAX_CLASSES = 30


def split_table(facts: Mapping[str, SplitFacts]) -> Table:
    """One column a split."""
    columns = [_column(of_split, facts) for of_split in facts.values()]
    return [["", *facts], *([name, *(column[name] for column in columns)] for name in columns[0])]


def _column(facts: SplitFacts, all_facts: Mapping[str, SplitFacts]) -> dict[str, str]:
    repeats, elsewhere = count_repeats(facts.rows)
    lengths = np.percentile(facts.lengths, QUANTILES).astype(int) if facts.rows else []
    residues = facts.missing["residues"]
    unit = facts.records.labels.unit
    column = {
        "records": f"{len(facts.records):,}",
        "damaged": f"{len(facts.damaged):,}",
        "groups": f"{len({row.group for row in facts.rows}):,}",
        "chains": f"{facts.chains:,}",
        **{words: _share(facts.missing[name], residues) for name, words in MISSING.items()},
        "ligand atoms": f"{facts.ligand_atoms:,}",
        f"residues a record ({', '.join(f'{quantile} %' for quantile in QUANTILES)})": " ".join(map(str, lengths)),
        "records with a label": f"{sum(row.labelled for row in facts.rows):,}",
        f"{unit}s with a label": f"{facts.labels.number:,}",
        "labels": str(facts.labels),
        "records with the chains of an earlier one": f"{repeats:,}",
        "of those, in another group": f"{elsewhere:,}",
    }
    column["residues"] = f"{residues:,}"
    first = next(iter(all_facts.values()))
    if len(facts.labels.times) > 1:
        column["classes that the first split lacks"] = str(((facts.labels.times > 0) & (first.labels.times == 0)).sum())
    return column


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / max(total, 1):.2%})"


def overlap_table(overlaps: Sequence[Overlap], identity: float) -> Table:
    """One row for each two splits; each column counts records of the first split that have such a record among the
    second."""
    head = ["records of", "among", "records", "same structure", "same sequence", f"{NEAR_IDENTITY:.0%} identical"]
    head += [f"{identity:.0%} identical", "labels leak", "equal labels there"]
    rows = [
        [
            overlap.split,
            overlap.among,
            f"{overlap.records:,}",
            f"{overlap.same_structure:,}",
            f"{overlap.same_sequence:,}",
            f"{overlap.near:,}",
            "not searched" if overlap.not_searched else _share(len(overlap.relatives), overlap.records),
            _share(overlap.label_leaks, overlap.records),
            "" if overlap.equal_labels is None else f"{overlap.equal_labels:.1%}",
        ]
        for overlap in overlaps
    ]
    return [head, *rows]


def to_markdown(table: Table) -> str:
    """The table with its columns in line, so that it is read as text, too."""
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def to_json(facts: Mapping[str, SplitFacts], overlaps: Sequence[Overlap]) -> dict[str, Any]:
    """Splits by name and the overlaps, with every pair of relatives."""
    return {
        "splits": {name: _split_json(of_split) for name, of_split in facts.items()},
        "overlaps": [
            {
                "split": overlap.split,
                "among": overlap.among,
                "records": overlap.records,
                "same_structure": overlap.same_structure,
                "same_sequence": overlap.same_sequence,
                "near_identical": overlap.near,
                "related": len(overlap.relatives),
                "label_leaks": overlap.label_leaks,
                "equal_labels": overlap.equal_labels,
                "not_searched": overlap.not_searched,
                "relatives": [dataclasses.asdict(relative) for relative in overlap.relatives],
            }
            for overlap in overlaps
        ],
    }


def _split_json(facts: SplitFacts) -> dict[str, Any]:
    repeats, elsewhere = count_repeats(facts.rows)
    labels = facts.records.labels
    return {
        "records": len(facts.records),
        "damaged": facts.damaged,
        "groups": len({row.group for row in facts.rows}),
        "chains": facts.chains,
        "missing": facts.missing,
        "lengths": np.bincount(facts.lengths).nonzero()[0].tolist(),
        "records_of_length": (counts := np.bincount(facts.lengths))[counts > 0].tolist(),
        "labels": facts.labels.number,
        "times": dict(zip(labels.names, facts.labels.times.tolist(), strict=False)),
        "repeated_chains": repeats,
        "repeated_chains_in_another_group": elsewhere,
    }


# ---------------------------------------------------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------------------------------------------------


def picture(facts: Mapping[str, SplitFacts], overlaps: Sequence[Overlap], path: Path) -> None:
    """Lengths, missing atoms, labels and relatives, a colour a split; writes a PNG."""
    figure = new_figure(11.0, 7.5)
    (lengths, missing), (labels, relatives) = figure.subplots(2, 2)
    facts = {name: of_split for name, of_split in facts.items() if of_split.rows}
    _draw_histograms(lengths, {name: of_split.lengths for name, of_split in facts.items()}, "residues of a record")
    _draw_missing(missing, facts)
    _draw_labels(labels, facts)
    _draw_relatives(relatives, [overlap for overlap in overlaps if overlap.split in facts])  # whole splits
    save_figure(figure, path)


def _draw_histograms(axes: "Axes", values: Mapping[str, np.ndarray], name: str) -> None:
    """Share of each split over one range of values; the colours are those of the splits in order."""
    values = {split: numbers for split, numbers in values.items() if len(numbers)}
    bins = np.histogram_bin_edges(np.concatenate([*values.values(), np.zeros(0)]), bins=30) if values else [0, 1]
    for colour, (split, numbers) in zip(COLOURS, values.items(), strict=False):
        weights = np.full(len(numbers), 1 / len(numbers))
        axes.hist(numbers, bins, weights=weights, histtype="step", linewidth=1.6, color=colour, label=split)
    axes.set(xlabel=name, ylabel="share of the split")
    if values:
        axes.legend(frameon=False)


def _draw_missing(axes: "Axes", facts: Mapping[str, SplitFacts]) -> None:
    kinds = [name for name in MISSING if name != "residues"]
    for place, (colour, (split, of_split)) in enumerate(zip(COLOURS, facts.items(), strict=False)):
        shares = [100 * of_split.missing[kind] / max(of_split.missing["residues"], 1) for kind in kinds]
        axes.bar(np.arange(len(kinds)) + 0.26 * (place - 1), shares, width=0.24, color=colour, label=split)
    axes.set_xticks(range(len(kinds)), ["no coordinates", "main chain\nincomplete", "side chain\nincomplete"])
    axes.set(ylabel="residues, %")


def _draw_labels(axes: "Axes", facts: Mapping[str, SplitFacts]) -> None:
    """Values that are numbers as histograms, classes as shares of the labels, the most frequent first."""
    first = next(iter(facts.values()), None)
    if first is None or not any(of_split.labels.number for of_split in facts.values()):
        axes.text(0.5, 0.5, "no label", ha="center", va="center", transform=axes.transAxes)
        return
    labels = first.records.labels
    if labels.type == "regression":
        values = {name: np.concatenate(of_split.labels.values) for name, of_split in facts.items()}
        _draw_histograms(axes, values, labels.names[0])
        return
    total = sum(of_split.labels.times for of_split in facts.values())
    order = np.argsort(-total, kind="stable")[:_MAX_CLASSES]
    for place, (colour, of_split) in enumerate(zip(COLOURS, facts.values(), strict=False)):
        shares = 100 * of_split.labels.times[order] / max(of_split.labels.number, 1)
        axes.bar(np.arange(len(order)) + 0.26 * (place - 1), shares, width=0.24, color=colour)
    axes.set_xticks(range(len(order)), [labels.names[index] for index in order], rotation=90 if len(order) > 4 else 0)
    left_out = f", the {_MAX_CLASSES} most frequent of {len(total)} classes" if len(total) > _MAX_CLASSES else ""
    axes.set(ylabel=f"{labels.unit}s with a label, %", xlabel=f"label{left_out}")


def _draw_relatives(axes: "Axes", overlaps: Sequence[Overlap]) -> None:
    bins = np.linspace(0, 100, 21)
    for colour, overlap in zip(COLOURS, overlaps, strict=False):
        identities = [100 * relative.identity for relative in overlap.relatives]
        share = len(identities) / max(overlap.records, 1)
        label = f"{overlap.split} in {overlap.among}: {share:.1%}"
        axes.hist(identities, bins, histtype="step", linewidth=1.6, color=colour, label=label)
    axes.set(xlabel="identity to the nearest relative, %", ylabel="records", xlim=(0, 102))
    if overlaps:
        axes.legend(frameon=False, title="records with a relative")


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------


def page(title: str, tables: Mapping[str, Table], notes: Sequence[str], png: bytes) -> str:
    """The tables, the picture and the notes as one HTML file that loads nothing.

    Args:
      title: text.
      tables: by their headings.
      notes: paragraphs of text.
      png: the picture.
    """
    parts = [f"<header><h1>{escape(title)}</h1></header>", "<main>"]
    parts += [_section(heading, _table_html(table)) for heading, table in tables.items()]
    image = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{_ALT}">'
    parts += [_section("Lengths, missing atoms, labels, relatives", image)]
    parts += [_section("Notes", "".join(f"<p>{escape(note)}</p>" for note in notes)), "</main>"]
    return html_document(title, "\n".join(parts), styles=["common.css", "check.css"], scripts=[])


_ALT = "Histograms of lengths, missing atoms and labels by split, and of the identity to the nearest relative"


def _section(heading: str, content: str) -> str:
    return f'<section class="panel"><h2>{escape(heading)}</h2><div class="wide">{content}</div></section>'


def _table_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table[0])
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>\n'
        for name, *cells in table[1:]
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>"
