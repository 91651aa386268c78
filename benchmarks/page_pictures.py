"""The pictures of docs/page.md: pages of three proteins of the embedded sample, as Chromium shows them.

    python -m benchmarks.page_pictures --out runs/pages [--pictures docs/pictures]

Writes the pages into --out and, where --pictures is given, a picture of each there. The scores are how buried each
residue is, a number that needs no model: its neighbours within 10 Å over the largest number in the protein.
"""

import argparse
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.chromium import open_browser
from bihf_jax.page import (
    FailedInput,
    FolderEntry,
    FolderPage,
    StructurePage,
    Track,
    folder_page,
    page_of,
    structure_page,
)
from bihf_jax.protein import Protein, backbone, burial, interface_labels, split_partners

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SAMPLE = Path(__file__).parents[1] / "data_prep" / "sample" / "structures"
QUALITY = 82  # of the WebP files
PATIENCE = 300_000  # ms: drawing without a graphics card is slow


@dataclasses.dataclass(frozen=True)
class Example:
    """A structure of the sample, and how its picture is taken."""

    name: str  # of the page and of the picture
    file: str
    title: str
    chains: Sequence[str] | None = None
    partners: Sequence[Sequence[str]] = ()  # whose contacts are the track "interface"
    width: int = 1240
    height: int = 860
    dark: bool = False
    chosen: int | None = None  # row of the residue that is chosen


EXAMPLES = (
    Example("page_small", "1fki.cif.gz", "FKBP12 with an inhibitor (1FKI, chain A)", chains=["A"], chosen=58),
    Example(
        *("page_complex", "1vfb.pdb.gz", "Antibody D1.3 on lysozyme (1VFB)"),
        partners=[["A", "B"], ["C"]],
        dark=True,
        chosen=260,
    ),
    Example("page_gaps", "6wg6.cif.gz", "A complex with unresolved residues (6WG6)"),
)


def example_page(example: Example) -> StructurePage:
    """The page of an example, scored by burial; residues without coordinates have no score."""
    protein = Protein.from_file(SAMPLE / example.file, chains=example.chains)
    positions, mask = backbone(protein)
    counts = burial(positions[:, 1], mask[:, 1])
    scores = np.where(mask[:, 1], counts / counts.max(), np.nan)
    return page_of(
        protein,
        scores,
        title=example.title,
        score_name="burial",
        score_range=(0, 1),
        label_names=("exposed", "buried"),
        threshold=0.7,
        tracks=_tracks(protein, example.partners),
        model="Not a model: neighbours within 10 Å of the CA atom, over the largest number in this structure.",
    )


def _tracks(protein: Protein, partners: Sequence[Sequence[str]]) -> list[Track]:
    b_factors = np.where(protein.atom_mask[:, 1], protein.b_factors[:, 1], np.nan)
    tracks = [Track("B factor", b_factors.tolist(), low=0, description="Å², of the CA atom")]
    if partners:
        contact = dict(zip(map(tuple, partners), interface_labels(split_partners(protein, partners)), strict=True))
        labels = np.concatenate([contact[tuple(group)] for group in partners]).astype(int).tolist()
        tracks.append(Track("interface", labels, categories=("no", "within 4 Å of the partner")))
    return tracks


def example_folder() -> FolderPage:
    """The page of the folder with the examples, and a file that failed."""
    entries = []
    for example in EXAMPLES:
        page = example_page(example)
        scores = [residue.score for residue in page.residues]
        cells = (len(scores), len({residue.chain for residue in page.residues}), float(np.nanmean(scores)))
        entries.append(FolderEntry(example.title, f"{example.name}.html", cells))
    failed = [FailedInput("broken.pdb.gz", "broken.pdb.gz: truncated gzip data; fetch the file again")]
    return FolderPage("Example folder", ["residues", "chains", "mean burial"], entries, failed)


def take_picture(browser: "Browser", page: Path, example: Example) -> bytes:
    """What Chromium shows of the upper part of a page, as WebP."""
    from PIL import Image  # comes with matplotlib

    scheme: Any = "dark" if example.dark else "light"
    size: Any = {"width": example.width, "height": example.height}
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    tab.goto(page.resolve().as_uri())
    if example.chosen is not None:
        tab.evaluate("row => window.structurePage.select(row)", example.chosen)
        tab.evaluate("window.scrollTo(0, 0)")
    tab.wait_for_timeout(1000)
    picture = Image.open(io.BytesIO(tab.screenshot()))
    context.close()
    out = io.BytesIO()
    picture.convert("RGB").save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Writes pages and pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the pages")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for example in EXAMPLES:
        text = structure_page(example_page(example))
        (options.out / f"{example.name}.html").write_text(text, encoding="utf-8")
        print(f"{example.name}.html: {len(text.encode()):,} bytes")
    (options.out / "index.html").write_text(folder_page(example_folder()), encoding="utf-8")
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        with open_browser() as browser:
            for example in EXAMPLES:
                picture = take_picture(browser, options.out / f"{example.name}.html", example)
                (options.pictures / f"{example.name}.webp").write_bytes(picture)
                print(f"{example.name}.webp: {len(picture):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
