"""`structure_page`: one protein with its scores as one HTML file that works offline."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bihf_jax.page import colours
from bihf_jax.page.document import asset, data_block, escape, html_document
from bihf_jax.page.scene import ENDINGS, Scene, read, scene_of
from bihf_jax.protein import Protein, residue_constants

# Columns of the CSV file that the page offers; one for each track follows.
CSV_COLUMNS = ("chain", "residue_number", "insertion_code", "amino_acid", "score")
# Significant digits of the numbers in a page: exact for float32.
_DIGITS = 9
# Share of the residues that lie below the threshold where none is given.
_BELOW_THRESHOLD = 0.9


@dataclasses.dataclass(frozen=True)
class Residue:
    """One residue of the page."""

    chain: str  # author id, "" where the file leaves it blank
    number: int  # author residue number
    insertion_code: str  # "" or " " where none; "?" where the number is not from the file
    residue_type: str  # one letter, of `residue_constants.RESIDUE_TYPES`
    score: float | None = None  # None (or NaN) where there is none


@dataclasses.dataclass(frozen=True)
class Track:
    """Further values of the residues: labels, gate values of a fusion stage, a summary of attention."""

    name: str
    values: Sequence[float | None]  # one for each residue of the page; None (or NaN) where there is none
    low: float | None = None  # ends of the colour scale; the smallest and the largest value if None
    high: float | None = None
    categories: Sequence[str] = ()  # their names, if values are their indices; the first is the absence of a label
    description: str = ""  # what its values are, in one line, such as "0: sequence, 1: structure"
    shown: bool = True  # from the start, as a line under the residues; else where the reader asks for it


@dataclasses.dataclass(frozen=True)
class Value:
    """A prediction for the whole protein, such as a quality, an affinity, or the probability of a class."""

    name: str
    value: float
    low: float | None = None  # interval
    high: float | None = None
    interval: str = ""  # what the interval is, such as "90 % of 16 dropout samples"
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class StructurePage:
    """What a page shows, as plain data.

    Raises:
      ValueError: naming the part that is missing or contradicts another.
    """

    title: str
    structure: str  # text of the file, offered for download as it is: its B-factor column should hold the scores
    structure_format: str  # "PDB" or "mmCIF"
    residues: Sequence[Residue]  # in the order of the structure
    protein: Protein | None = None  # what `structure` reads as, where it has been read already
    score_name: str = "score"
    score_range: tuple[float, float] | None = None  # of the colour scale and the slider; smallest to largest if None
    threshold: float | None = None  # where the slider starts; above 90 % of the residues if None
    label_names: tuple[str, str] | None = None  # what a residue below, and at or above, the threshold is called
    tracks: Sequence[Track] = ()
    coloured_by: str | None = None  # name of the track that colours the page at first; if None the score
    values: Sequence[Value] = ()
    model: str = ""  # one line on what made the scores
    notes: Sequence[str] = ()  # what a reader must know, such as what was left out of the file

    def __post_init__(self) -> None:
        if self.structure_format not in ENDINGS:
            raise ValueError(f"structure_format {self.structure_format!r} is unknown; known: {', '.join(ENDINGS)}")
        if not self.residues:
            raise ValueError(f"page {self.title!r} has no residues")
        if self.label_names is not None and len(self.label_names) != 2:
            raise ValueError(f"label_names must be two names, below and above the threshold; got {self.label_names!r}")
        for residue in self.residues:
            if residue.residue_type not in residue_constants.RESIDUE_TYPE_INDEX:
                known = "".join(residue_constants.RESIDUE_TYPES)
                where = f"{residue.number} of chain {residue.chain!r}"
                raise ValueError(f"residue {where} has type {residue.residue_type!r}; known: {known}")
        taken = {*CSV_COLUMNS, self.score_name}
        for track in self.tracks:
            if track.name in taken:
                raise ValueError(f"the name {track.name!r} of a track is taken; taken: {', '.join(sorted(taken))}")
            taken.add(track.name)
            if len(track.values) != len(self.residues):
                raise ValueError(
                    f"track {track.name!r} has {len(track.values)} values for {len(self.residues)} residues"
                )
        if self.coloured_by is not None and self.coloured_by not in {track.name for track in self.tracks}:
            named = ", ".join(track.name for track in self.tracks) or "none"
            raise ValueError(f"coloured_by is {self.coloured_by!r}, which is no track; tracks: {named}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be finite, got {self.threshold}")


def structure_page(page: StructurePage) -> str:
    """The page as one HTML file.

    It holds the structure in 3D (3Dmol.js, Rego and Koes 2015) coloured by score, the sequence by chain with the
    scores, a threshold slider, a table of the highest residues, and downloads. It loads nothing, from anywhere.

    Raises:
      ValueError: a number is infinite, a range is empty, or the residues are not those of the structure.
      StructureError: the structure cannot be read.
    """
    rows = [(res.chain, res.number, _code(res), res.residue_type) for res in page.residues]
    protein = page.protein or read(page.structure, page.structure_format)
    scene = scene_of(protein, rows)
    title, model = escape(page.title), escape(page.model)
    body = "\n".join(
        [
            f"<header><h1>{title}</h1>" + (f'<p class="model">{model}</p>' if model else "") + "</header>",
            _values_html(page.values),
            asset("structure.html"),
            _notes_html([*page.notes, *_own_notes(page, scene)]),
            f"<footer><details><summary>3D view by 3Dmol.js: licences</summary><pre>"
            f"{escape(asset('3Dmol-LICENSES.txt'))}</pre></details></footer>",
            data_block("page-data", _data_of(page, scene)),
        ]
    )
    styles, scripts = ["common.css", "structure.css"], ["3Dmol-min.js", "structure.js"]
    return html_document(page.title, body, styles=styles, scripts=scripts)


def _data_of(page: StructurePage, scene: Scene) -> dict[str, Any]:
    """What `structure.js` reads."""
    layers = _layers_of(page)
    chains = _chains_of(page)
    scored = layers[0]["values"] if layers[0]["isScore"] else []
    return {
        "chains": list(chains),
        "residues": {
            "chain": [chains[residue.chain] for residue in page.residues],
            "number": [int(residue.number) for residue in page.residues],
            "code": [_code(residue) for residue in page.residues],
            "type": "".join(residue.residue_type for residue in page.residues),
            "resolved": [int(resolved) for resolved in scene.resolved],
        },
        "residueNames": dict(zip(residue_constants.RESIDUE_TYPES, residue_constants.RESIDUE_NAMES, strict=True)),
        "layers": layers,
        "firstLayer": _first_layer(page, layers),
        "threshold": _threshold_of(page, scored),
        "labelNames": list(page.label_names) if page.label_names is not None else None,
        "palette": list(colours.scale()),
        "scene": {"text": scene.text, "rowOfPlace": scene.row_of_place, "labels": scene.labels},
        "csvColumns": [*CSV_COLUMNS[: 5 if scored else 4], *(track.name for track in page.tracks)],
        "download": {
            "stem": _file_stem(page.title),
            "format": page.structure_format,
            "ending": ENDINGS[page.structure_format],
            "text": page.structure,
        },
    }


def _chains_of(page: StructurePage) -> dict[str, int]:
    """Chain id -> its number, in the order of appearance."""
    return {chain: number for number, chain in enumerate(dict.fromkeys(residue.chain for residue in page.residues))}


def _layers_of(page: StructurePage) -> list[dict[str, Any]]:
    """What the residues can be coloured by: the score if there is one, the tracks, the chain."""
    layers = []
    scores = [residue.score for residue in page.residues]
    if any(_number(score, page.score_name) is not None for score in scores):
        low, high = page.score_range if page.score_range is not None else (None, None)
        layers.append(_layer_of(Track(page.score_name, scores, low, high)) | {"isScore": True, "strip": False})
    layers += [_layer_of(track) for track in page.tracks]
    chains = _chains_of(page)
    names = [chain or "(blank)" for chain in chains]
    chain_track = Track("chain", [chains[residue.chain] for residue in page.residues], categories=names)
    chain_colours = colours.of_categories(len(names), first_is_absence=False)
    return [*layers, _layer_of(chain_track) | {"colours": chain_colours, "strip": False}]


def _first_layer(page: StructurePage, layers: Sequence[Mapping[str, Any]]) -> int:
    """Number of the layer that colours the page when it opens."""
    return next((number for number, layer in enumerate(layers) if layer["name"] == page.coloured_by), 0)


def _layer_of(track: Track) -> dict[str, Any]:
    values = [_number(value, f"track {track.name!r}") for value in track.values]
    layer = {"name": track.name, "description": track.description, "values": values}
    layer |= {"isScore": False, "strip": True, "shown": track.shown}  # strip: a line under the residues
    if not track.categories:
        low, high = _range_of(track, values)
        return layer | {"low": low, "high": high}
    known = range(len(track.categories))
    for value in values:
        if value is not None and value not in known:
            raise ValueError(f"track {track.name!r} has the value {value:g}, but {len(known)} categories")
    category_colours = colours.of_categories(len(known), first_is_absence=True)
    return layer | {"categories": list(track.categories), "colours": category_colours}


def _range_of(track: Track, values: Sequence[float | None]) -> tuple[float, float]:
    """The ends of the colour scale."""
    present = [value for value in values if value is not None] or [0.0]
    low = min(present) if track.low is None else _finite(track.low, f"low end of {track.name!r}")
    high = max(present) if track.high is None else _finite(track.high, f"high end of {track.name!r}")
    if track.low is None and track.high is None and low == high:
        return low - 0.5, high + 0.5
    if not low < high:
        raise ValueError(f"the range of {track.name!r} must rise, got {low:g} to {high:g}")
    return low, high


def _threshold_of(page: StructurePage, scores: Sequence[float | None]) -> float | None:
    present = sorted(score for score in scores if score is not None)
    if not present:
        return None
    if page.threshold is not None:
        return float(page.threshold)
    return present[min(math.ceil(_BELOW_THRESHOLD * len(present)), len(present) - 1)]


def _number(value: float | None, what: str) -> float | None:
    """The number as the page holds it; None for None and for NaN."""
    if value is None or math.isnan(value):
        return None
    return _finite(value, what)


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite, got {value}")
    return float(f"{value:.{_DIGITS}g}")


def _code(residue: Residue) -> str:
    return residue.insertion_code.strip()


def _file_stem(title: str) -> str:
    """A name for the downloads that every file system takes, without the ending of a structure file."""
    title = re.sub(r"\.(pdb|ent|cif)(\.gz)?$", "", title, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9.-]+", "_", title).strip("._-")[:80] or "protein"


def _own_notes(page: StructurePage, scene: Scene) -> list[str]:
    """What the page itself leaves out or cannot tell apart."""
    notes = []
    if scene.num_unlisted:
        notes.append(f"{scene.num_unlisted} residues of the structure have no score and no place in the sequence here.")
    unresolved = scene.resolved.count(False)
    if unresolved:
        notes.append(f"{unresolved} residues have no coordinates: they are in the sequence, not in the 3D view.")
    keys = [(residue.chain, residue.number, _code(residue)) for residue in page.residues]
    repeated = len(keys) - len(set(keys))
    if repeated:
        notes.append(f"{repeated} residues have the chain, number and insertion code of another residue.")
    return notes


def _values_html(values: Sequence[Value]) -> str:
    if not values:
        return ""
    items = []
    for value in values:
        number = f"{_finite(value.value, value.name):.4g}" + (f" {escape(value.unit)}" if value.unit else "")
        if (value.low is None) != (value.high is None):
            raise ValueError(f"value {value.name!r} has one end of an interval; give both or none")
        interval = ""
        if value.low is not None and value.high is not None:
            ends = f"[{_finite(value.low, value.name):.4g}, {_finite(value.high, value.name):.4g}]"
            interval = f'<span class="interval">{ends} {escape(value.interval)}</span>'
        items.append(f'<div><dt>{escape(value.name)}</dt><dd><span class="number">{number}</span>{interval}</dd></div>')
    return f'<dl class="values">{"".join(items)}</dl>'


def _notes_html(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<section class="panel notes"><h2>Notes</h2><ul>{items}</ul></section>'
