"""Small pages, and the document of a page taken apart."""

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from bihf_jax.page import StructurePage, page_of
from bihf_jax.protein import Protein
from bihf_jax.protein.parsing import read_structure
from tests.protein.synthetic import Atom, chain_of, pdb_text

# Markup that would run; and what fits into a name of a structure (gemmi reads up to 7 letters).
HOSTILE = '</script><img src=x onerror="window.hacked=1"><!--\'&amp;'
HOSTILE_NAME = "<img>'"

# Numbers and insertion codes of chain A of `small_protein`.
NUMBERS = ("1", "2", "3", "3A", "4", "5", "11", "12", "13", "14")


def small_protein() -> Protein:
    """Chain A as `NUMBERS` say, chain B from -2 on with two residues (rows 13, 14) without coordinates, and a zinc."""
    a = chain_of("ACDEFGHIKL", "A", seed=1)
    for atom in a:
        number = NUMBERS[atom.number - 1]
        atom.number, atom.code = int(number.rstrip("A")), "A" if number.endswith("A") else " "
    b = chain_of("MNPQRSTV", "B", seed=2, first_number=-2, shift=(9.0, 5.0, 4.0))
    zinc = Atom("ZN", "ZN", "A", 201, (30.0, 30.0, 30.0), hetero=True, element="ZN")
    protein = protein_of(pdb_text(a, b, tail=[zinc]))
    kept = ~np.isin(np.arange(protein.num_residues), [13, 14])[:, None]
    return dataclasses.replace(
        protein,
        atom_mask=protein.atom_mask & kept,
        atom_positions=protein.atom_positions * kept[..., None],
        b_factors=protein.b_factors * kept,
    )


def protein_of(text: str) -> Protein:
    """The protein of a PDB text."""
    return Protein(**read_structure(Path("made.pdb"), text.encode())[0])


def small_scores(protein: Protein) -> np.ndarray:
    """[N] distinct scores in [0, 1], NaN at the second residue."""
    scores = np.random.default_rng(0).permutation(np.linspace(0.03, 0.97, protein.num_residues))
    scores[1] = np.nan
    return scores


def small_page(**more: Any) -> StructurePage:
    """The page of `small_protein`."""
    protein = small_protein()
    return page_of(protein, small_scores(protein), **({"title": "small", "score_range": (0, 1)} | more))


class Document(HTMLParser):
    """An HTML document as a parser of the standard library sees it."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []  # start tags, in order
        self.texts: list[tuple[str, dict[str, str | None], str]] = []  # text directly in each element that has some
        self._open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            self._open.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        opened, attributes, pieces = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"
        if pieces:
            self.texts.append((tag, attributes, "".join(pieces)))

    def handle_data(self, data):
        if self._open:
            self._open[-1][2].append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str, **attributes: str) -> list[str]:
        """Texts directly in elements of this name that have these attributes."""
        wanted = attributes.items()
        return [text for name, found, text in self.texts if name == tag and wanted <= found.items()]

    def page_data(self) -> dict[str, Any]:
        """What the script of the page reads."""
        (text,) = self.text_of("script", id="page-data")
        return json.loads(text)
