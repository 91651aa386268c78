"""The pages in a headless Chromium, without a network: what is shown, and that the parts keep in step."""

import csv
import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageChops

from benchmarks import chromium
from bihf_jax.page import Residue, Track, colours, folder_page, page_of, structure_page
from bihf_jax.protein import Protein
from experiments import predict
from tests.inference.runs import make_run
from tests.inference.structures import made, odd_text
from tests.page.made import HOSTILE, HOSTILE_NAME, small_page, small_protein, small_scores
from tests.page.test_colours import COLOUR_MAP, DARKEST
from tests.page.test_folder import small_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.why_not() is not None, reason=chromium.why_not() or "everything is there"),
]

WIDE = {"width": 1000, "height": 700}
PHONE = {"width": 360, "height": 740}
# A machine without a graphics card, busy with other tests, draws slowly.
PATIENCE = 120_000  # ms
_GATES = np.linspace(-1, 1, 18).tolist()
_LABELS = [index % 3 % 2 for index in range(17)] + [None]
# Rows whose residue has coordinates.
_RESOLVED = [row for row in range(18) if row not in (13, 14)]


def _hostile_page():
    """The title, two chains and a compound are markup; the residue of one of the chains has no coordinates."""
    protein = small_protein()
    hostile = np.array([HOSTILE_NAME])
    ligands = dataclasses.replace(protein.ligands, names=hostile, chain_ids=hostile)
    protein = dataclasses.replace(protein, chain_ids=(HOSTILE_NAME, "B"), ligands=ligands)
    page = page_of(protein, small_scores(protein), title=HOSTILE)
    return dataclasses.replace(page, residues=(*page.residues, Residue(HOSTILE, 1, "", "W", 0.99)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the pages."""
    path = tmp_path_factory.mktemp("pages")
    tracks = [Track("gate", _GATES), Track("label", _LABELS, categories=("no", "yes"))]
    pages = {
        "small": structure_page(small_page(tracks=tracks, threshold=0.5)),
        "hostile": structure_page(_hostile_page()),
        "folder": folder_page(small_folder()),
    }
    for name, text in pages.items():
        (path / f"{name}.html").write_text(text, encoding="utf-8")
    return path


class Visit:
    """A page in a tab of its own, and what the browser said about it. The script `before` runs before the page's."""

    def __init__(self, browser, path: Path, viewport: dict[str, int], color_scheme: str = "light", before: str = ""):
        self.path = path
        self.context = browser.new_context(offline=True, viewport=viewport, color_scheme=color_scheme)
        self.context.set_default_timeout(PATIENCE)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.tab = self.context.new_page()
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.tab.on("dialog", lambda dialog: (self.complaints.append("a dialog opened"), dialog.dismiss()))
        self.context.add_init_script(before)
        self.tab.goto(path.as_uri())

    def rows_with(self, name: str) -> list[int]:
        """Rows whose cell in the sequence has this class."""
        return self.tab.eval_on_selector_all(f".residue.{name}", "cells => cells.map(cell => +cell.dataset.row)")

    def cell(self, row: int):
        return self.tab.locator(f"#residue-{row} .letter")

    def colours_of(self, selector: str, property: str = "backgroundColor") -> np.ndarray:
        """[n, 3] colours (0 to 255) of the elements."""
        script = f"elements => elements.map(element => getComputedStyle(element).{property})"
        texts = self.tab.eval_on_selector_all(selector, script)
        return np.array([[float(part) for part in re.findall(r"[\d.]+", text)[:3]] for text in texts])

    def wait_until(self, expression: str) -> None:
        """Asks until it is true; the policy of the page forbids Playwright's own way to wait for one."""
        for _ in range(PATIENCE // 100):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError(f"not within {PATIENCE / 1000:g} s: {expression}")

    def painted(self) -> None:
        """Waits until the 3D view has drawn what was asked for."""
        self.tab.evaluate("() => new Promise(requestAnimationFrame)")

    def scene(self) -> Image.Image:
        """A picture of the 3D view."""
        self.painted()
        return Image.open(io.BytesIO(self.tab.locator("#scene").screenshot())).convert("RGB")

    def download(self, name: str, to: Path) -> Path:
        """The file behind a button of this name."""
        with self.tab.expect_download() as download:
            self.tab.get_by_role("button", name=name).click()
        path = to / download.value.suggested_filename
        download.value.save_as(path)
        return path


@pytest.fixture(scope="module")
def browser():
    with chromium.open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def visit(browser, folder) -> Callable[..., Visit]:
    """`visit(name, viewport=WIDE, color_scheme="light") -> Visit` of a page of the folder."""
    visits = []

    def open_page(name: str, viewport: dict[str, int] = WIDE, color_scheme: str = "light") -> Visit:
        visits.append(Visit(browser, folder / f"{name}.html", viewport, color_scheme))
        return visits[-1]

    yield open_page
    for opened in visits:
        opened.context.close()


@pytest.fixture(scope="module")
def opened(visit) -> Visit:
    """The small page, opened once."""
    opened = visit("small")
    return opened


@pytest.fixture
def small(opened) -> Visit:
    """The small page with nothing chosen, nothing under the pointer, and the threshold at 0.5."""
    opened.tab.evaluate("() => { structurePage.hover(null); structurePage.select(null); scrollTo(0, 0); }")
    _set_threshold(opened, 0.5)
    opened.tab.mouse.move(1, 1)
    return opened


def _set_threshold(opened: Visit, value: float) -> None:
    script = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"
    opened.tab.eval_on_selector("#threshold", script, value)
    opened.painted()


def _csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _contrast(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Contrast ratio of WCAG 2 of colours [..., 3] from 0 to 255."""

    def luminance(colour):
        part = np.asarray(colour) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return linear @ np.array([0.2126, 0.7152, 0.0722])

    lighter, darker = np.maximum(luminance(first), luminance(second)), np.minimum(luminance(first), luminance(second))
    return (lighter + 0.05) / (darker + 0.05)


def _isolated_row(opened: Visit) -> tuple[int, dict[str, float]]:
    """The row whose CA atom is farthest from the atoms of other rows on the screen, and where it is."""
    script = """() => {
      const { viewer, atoms, rowOfAtom } = structurePage.view;
      const places = viewer.modelToScreen(atoms);
      return atoms.map((atom, index) => [rowOfAtom(atom), atom.atom === "CA", places[index].x, places[index].y]);
    }"""
    found = [(row, is_ca, np.array([x, y])) for row, is_ca, x, y in opened.tab.evaluate(script)]
    distance = {
        row: (min(np.linalg.norm(place - other) for other_row, _, other in found if other_row != row), place)
        for row, is_ca, place in found
        if is_ca and row is not None
    }
    row = max(distance, key=lambda row: distance[row][0])
    x, y = distance[row][1] - np.array(opened.tab.evaluate("[scrollX, scrollY]"))
    return row, {"x": float(x), "y": float(y)}


def test_it_renders_without_a_network(small):
    """The file asks for nothing but itself, nothing goes wrong, and the 3D view shows the structure."""
    assert small.requests == [small.path.as_uri()]
    assert small.complaints == []
    picture = np.asarray(small.scene()).reshape(-1, 3).astype(int)
    drawn = np.abs(picture - picture[0]).max(axis=1) > 40
    assert drawn.mean() > 0.01
    assert len(np.unique(picture[drawn] // 32, axis=0)) > 10


def test_the_policy_stops_loading_and_foreign_scripts(visit):
    """Whatever got into the page: no connection, no picture, no handler of injected markup."""
    opened = visit("folder")
    directives = opened.tab.evaluate("""async () => {
      const stopped = [];
      document.addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
      await fetch("http://127.0.0.1:9/").catch(() => null);
      const div = document.createElement("div");
      div.innerHTML = '<img src="http://127.0.0.1:9/x.png" onerror="window.hacked = 1">';
      document.body.append(div);
      await new Promise((done) => setTimeout(done, 200));
      return [...stopped, window.hacked ?? "not run"];
    }""")
    assert directives[0] == "connect-src"
    assert "img-src" in directives
    assert directives[-1] == "not run"


def test_colours_of_the_sequence_and_of_the_structure_are_those_of_the_scores(small, tmp_path):
    """From the CSV that the page offers, through matplotlib's colour map; no score is grey in both."""
    rows = _csv_rows(small.download("CSV of the residues", tmp_path))
    scores = [float(row["score"]) if row["score"] else None for row in rows]
    assert scores == [None if np.isnan(score) else pytest.approx(score) for score in small_scores(small_protein())]
    colour_map = matplotlib.colormaps[COLOUR_MAP]
    grey = small.colours_of(".residue .letter")[1]
    assert np.ptp(grey) < 20
    wanted = [
        grey if score is None else np.array(colour_map(DARKEST + (1 - DARKEST) * score)[:3]) * 255 for score in scores
    ]
    np.testing.assert_allclose(small.colours_of(".residue .letter"), wanted, atol=3)
    script = """() => structurePage.view.atoms.filter((atom) => !atom.hetflag).map((atom) =>
      [structurePage.view.rowOfAtom(atom), atom.style.cartoon.colorfunc(atom)])"""
    in_structure = small.tab.evaluate(script)
    assert sorted({row for row, _ in in_structure}) == _RESOLVED
    for row, colour in in_structure:
        parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        np.testing.assert_allclose(parts, wanted[row], atol=3)


def test_the_csv_holds_the_residues_and_the_tracks(small, tmp_path):
    """With insertion codes, categories by name, and nothing where there is no value."""
    protein = small_protein()
    rows = _csv_rows(small.download("CSV of the residues", tmp_path))
    assert [row["chain"] for row in rows] == [protein.chain_ids[chain] for chain in protein.chain_index]
    assert [int(row["residue_number"]) for row in rows] == protein.residue_number.tolist()
    assert [row["insertion_code"] for row in rows] == [code.strip() for code in protein.insertion_code]
    assert "".join(row["amino_acid"] for row in rows) == "".join(protein.sequence())
    assert [float(row["gate"]) for row in rows] == pytest.approx(_GATES)
    assert [row["label"] for row in rows] == ["" if label is None else ("no", "yes")[label] for label in _LABELS]


def test_the_structure_to_download_has_the_scores_as_b_factors(small, tmp_path):
    protein = small_protein()
    path = small.download("PDB, score as B factor", tmp_path)
    assert path.name == "small.pdb"
    downloaded = Protein.from_file(path)
    scores = np.nan_to_num(small_scores(protein))
    np.testing.assert_allclose(downloaded.b_factors, np.where(protein.atom_mask, scores[:, None], 0), atol=0.0051)


def test_the_picture_of_the_view_can_be_saved(small, tmp_path):
    path = small.download("PNG of the 3D view", tmp_path)
    assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 100


@pytest.mark.parametrize("keys", [["Home"], ["End"], ["PageUp"], ["ArrowLeft"] * 7, ["ArrowRight"] * 30])
def test_the_slider_marks_the_residues_above_it_in_both(small, keys):
    """By keyboard; in the structure the marked residues are sticks."""
    slider = small.tab.locator("#threshold")
    slider.focus()
    for key in keys:
        small.tab.keyboard.press(key)
    threshold = float(slider.input_value())
    assert threshold != 0.5
    above = [row for row, score in enumerate(small_scores(small_protein())) if score >= threshold]
    assert small.rows_with("marked") == above
    small.painted()
    script = """() => structurePage.view.atoms.filter((atom) => !atom.hetflag && atom.style.stick)
      .map(structurePage.view.rowOfAtom)"""
    assert sorted(set(small.tab.evaluate(script))) == [row for row in above if row in _RESOLVED]
    assert small.tab.locator("#marked-count").inner_text().startswith(f"{len(above)} of 18 residues are marked")


def test_pointing_at_the_sequence_shows_the_place_in_the_structure(small):
    """What changes in the 3D view is around the residue's CA atom."""
    row, place = _isolated_row(small)
    before = small.scene()
    small.cell(row).hover()
    assert small.rows_with("hovered") == [row]
    assert small.tab.locator("#readout").inner_text() == small.tab.get_attribute(f"#residue-{row}", "aria-label")
    left, top, right, bottom = ImageChops.difference(before, small.scene()).getbbox()
    corner = small.tab.locator("#scene").bounding_box()
    assert abs((left + right) / 2 + corner["x"] - place["x"]) < 12
    assert abs((top + bottom) / 2 + corner["y"] - place["y"]) < 12


def test_pointing_at_the_structure_shows_the_place_in_the_sequence(small):
    """And a click there chooses it; a second click lets it go."""
    row, place = _isolated_row(small)
    small.tab.mouse.move(place["x"] + 60, place["y"] + 60)
    small.tab.mouse.move(place["x"], place["y"])
    small.wait_until("structurePage.state.hovered !== null")
    assert small.rows_with("hovered") == [row]
    small.tab.mouse.click(place["x"], place["y"])
    assert small.rows_with("selected") == [row]
    small.tab.mouse.click(place["x"], place["y"])
    assert small.rows_with("selected") == []


def test_choosing_a_residue_in_the_sequence_chooses_it_everywhere(small):
    small.cell(5).click()
    assert small.rows_with("selected") == [5]
    assert small.tab.get_attribute("#residue-5", "aria-selected") == "true"
    assert small.tab.evaluate("structurePage.view.pointers.selected !== null")
    small.cell(7).click()
    assert small.rows_with("selected") == [7]
    small.cell(7).click()
    assert small.rows_with("selected") == []
    assert small.tab.evaluate("structurePage.view.pointers.selected === null")


def test_the_table_lists_the_highest_residues_and_chooses_them(small):
    scores = small_scores(small_protein())
    ranked = [row for row in np.argsort(-scores) if not np.isnan(scores[row])]
    lines = small.tab.locator("#top tbody tr")
    assert lines.count() == len(ranked)
    names = small.tab.evaluate(
        "rows => rows.map((row) => structurePage.data.residues.number[row])", list(map(int, ranked))
    )
    shown = [re.search(r"-?\d+", text)[0] for text in small.tab.locator("#top tbody button").all_inner_texts()]
    assert [int(number) for number in shown] == names
    small.tab.locator("#top tbody button").first.click()
    assert small.rows_with("selected") == [ranked[0]]


def test_the_keyboard_moves_along_the_sequence(small):
    small.tab.locator("#threshold").focus()
    while small.tab.evaluate("document.activeElement.className") != "track":
        small.tab.keyboard.press("Tab")
    for key, row in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("End", 9), ("ArrowLeft", 8), ("Home", 0)):
        small.tab.keyboard.press(key)
        assert small.rows_with("hovered") == [row]
        assert small.tab.evaluate("document.activeElement.getAttribute('aria-activedescendant')") == f"residue-{row}"
    small.tab.keyboard.press("Enter")
    assert small.rows_with("selected") == [0]
    small.tab.keyboard.press("Escape")
    assert small.rows_with("selected") == []


def test_gaps_and_residues_without_coordinates_are_shown(small):
    """A jump of the numbering, a number at each block, and the two unresolved residues."""
    assert small.rows_with("unresolved") == [13, 14]
    assert small.tab.locator(".jump").all_inner_texts() == ["… 5 …"]
    assert small.tab.locator(".ruler").all_inner_texts() == ["1", "11", "-2"]
    assert "no coordinates" in small.tab.get_attribute("#residue-13", "aria-label")
    assert "3A" in small.tab.get_attribute("#residue-3", "aria-label")


def test_residues_can_be_coloured_by_a_track(small):
    """In the sequence, the structure and the legend; a residue without a label is grey."""
    small.tab.select_option("#layer", label="label")
    small.painted()
    no, yes = (
        [int(code[start : start + 2], 16) for start in (1, 3, 5)]
        for code in colours.of_categories(2, first_is_absence=True)
    )
    shown = small.colours_of(".residue .letter")
    for label, colour in zip(_LABELS[:-1], shown[:-1], strict=True):
        np.testing.assert_array_equal(colour, [no, yes][label])
    assert shown[-1].tolist() not in (no, yes)
    assert small.tab.locator("#legend .swatches").first.inner_text().split() == ["no", "yes"]
    assert "no label" in small.tab.locator("#legend").inner_text()
    small.tab.select_option("#layer", label="score")


def test_without_webgl_the_rest_of_the_page_works(browser, folder, tmp_path):
    """Where a canvas gives no such context, a message says so; sequence, slider, links and downloads are there."""
    opened = Visit(browser, folder / "small.html", WIDE, before="HTMLCanvasElement.prototype.getContext = () => null")
    message = opened.tab.locator("#scene-message").inner_text()
    assert message.startswith("There is no 3D view here: this browser does not offer WebGL")
    assert "Switch on graphics (hardware) acceleration" in message
    assert opened.tab.evaluate("structurePage.view") is None
    _set_threshold(opened, 0.9)
    above = [row for row, score in enumerate(small_scores(small_protein())) if score >= 0.9]
    assert opened.rows_with("marked") == above
    opened.cell(4).click()
    assert opened.rows_with("selected") == [4]
    assert len(_csv_rows(opened.download("CSV of the residues", tmp_path))) == 18
    assert opened.tab.get_by_role("button", name="PNG").count() == 0
    assert not opened.tab.locator("#reset").is_visible()
    opened.context.close()


def test_hostile_names_are_shown_and_do_nothing(visit):
    """`</script><img onerror=...>` as title, chain id and compound name."""
    opened = visit("hostile")
    assert opened.tab.title() == HOSTILE
    assert opened.tab.locator("h1").inner_text() == HOSTILE
    chains = opened.tab.locator("#sequence h3").all_inner_texts()
    assert chains[0].startswith(f"Chain {HOSTILE_NAME}")
    assert chains[2].startswith(f"Chain {HOSTILE}")
    opened.cell(18).click()
    assert HOSTILE in opened.tab.locator("#readout").inner_text()
    assert HOSTILE in opened.tab.locator("#top").inner_text()
    ligand = opened.tab.evaluate("structurePage.data.scene.labels[18]")
    assert ligand.startswith(HOSTILE_NAME)
    opened.tab.evaluate("""() => {
      const atom = structurePage.view.atoms.find((atom) => atom.hetflag);
      atom.hover_callback(atom);
    }""")
    assert opened.tab.locator("#readout").inner_text() == ligand
    assert opened.tab.evaluate("[document.images.length, window.hacked ?? null]") == [0, None]
    assert opened.complaints == []
    assert opened.requests == [opened.path.as_uri()]


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["small", "folder"])
def test_a_phone_shows_the_page_without_scrolling_sideways_and_with_contrast(visit, name, color_scheme):
    """At 360 pixels; text has the contrast that WCAG 2 AA asks for, on every colour of the scale, too."""
    opened = visit(name, PHONE, color_scheme)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 360
    (panel,) = np.unique(opened.colours_of(".panel"), axis=0)
    assert (panel.mean() > 128) == (color_scheme == "light")
    for selector in (".panel h2", ".panel small, .model", ".panel p, .panel td", ".panel button, .panel a"):
        texts = opened.colours_of(selector, "color")
        if len(texts):
            assert _contrast(texts, panel).min() >= 4.5, selector
    if name == "small":
        letters = opened.colours_of(".residue .letter", "color")
        assert _contrast(letters, opened.colours_of(".residue .letter")).min() >= 4.5
        assert opened.tab.locator("#threshold").bounding_box()["width"] > 150


def test_the_folder_is_sorted_and_searched(visit):
    """Names by the numbers in them, numbers by value, what is missing last; failures stay in sight."""
    opened = visit("folder")
    names = opened.tab.locator("#entries tbody tr:visible th")

    def order() -> list[str]:
        return [{"9abc": "9", "10abc": "10"}.get(name, "hostile") for name in names.all_inner_texts()]

    def click(name: str) -> None:
        opened.tab.get_by_role("button", name=name).click()

    assert order() == ["9", "hostile", "10"]
    click("residues")
    assert order() == ["hostile", "9", "10"]
    assert opened.tab.locator("th[aria-sort=ascending]").inner_text().startswith("residues")
    click("residues")
    assert order() == ["10", "9", "hostile"]
    click("highest score")
    assert order() == ["hostile", "9", "10"]
    click("highest score")
    assert order() == ["9", "hostile", "10"]
    click("name")
    assert [name for name in order() if name != "hostile"] == ["9", "10"]
    opened.tab.locator("#search").fill("ABC 0.5")
    assert order() == ["9"]
    assert opened.tab.locator("#found").inner_text() == "1 of 3"
    opened.tab.locator("#search").fill("nothing")
    assert order() == []
    assert "bad <file>.pdb" in opened.tab.locator("#failed").inner_text()
    assert opened.complaints == []


@pytest.fixture(scope="module")
def predicted(tmp_path_factory) -> Path:
    """What `experiments.predict` wrote, with all that it can add, of two structures; a third is broken."""
    folder = tmp_path_factory.mktemp("predicted")
    structures = folder / "in"
    structures.mkdir()
    (structures / "odd.pdb").write_text(odd_text())
    made(40).to_file(structures / "made.cif")
    (structures / "broken.pdb").write_text("nothing")
    command = [f"--checkpoint={make_run(folder / 'run')}", f"--input={structures}", f"--output={folder / 'out'}"]
    assert predict.main([*command, "--fusion_values", "--attribution", "--dropout_samples=4"]) == 2
    return folder / "out"


@pytest.fixture(scope="module")
def of_odd(browser, predicted):
    """The page of the structure with gaps and insertion codes."""
    opened = Visit(browser, predicted / "odd.html", WIDE)
    yield opened
    opened.context.close()


def test_a_predicted_page_has_the_colours_of_the_csv_beside_it(of_odd, predicted):
    """Without a network; 0 is the lowest colour, the highest score of the structure the highest."""
    scores = np.array([float(row["score"]) for row in _csv_rows(predicted / "odd.csv")])
    places = np.rint(scores / scores.max() * 255).astype(int)
    wanted = [[int(colours.scale()[place][start : start + 2], 16) for start in (1, 3, 5)] for place in places]
    np.testing.assert_array_equal(of_odd.colours_of(".residue .letter"), wanted)
    assert of_odd.requests == [of_odd.path.as_uri()]
    assert of_odd.complaints == []


def test_a_predicted_page_offers_the_table_of_the_csv(of_odd, predicted, tmp_path):
    """The same residues and values, under the same names, for all columns that the model gave."""
    offered = _csv_rows(of_odd.download("CSV of the residues", tmp_path))
    written = _csv_rows(predicted / "odd.csv")
    values = [name for name in written[0] if name not in ("file", "has_structure")]
    assert list(offered[0]) == values
    assert {"score_low", "score_high", "attribution", "stage2_gate_sequence"} <= set(values)
    for name in values[:4]:
        assert [row[name] for row in offered] == [row[name] for row in written]
    for name in values[4:]:
        np.testing.assert_array_equal(
            *([np.float32(row[name]) for row in rows] for rows in (offered, written)), err_msg=name
        )


def test_each_track_of_a_predicted_page_is_explained_and_can_be_shown(of_odd, predicted):
    """A box and a line for each column; a track shown on request stands under the residues, in the table and texts."""
    lines = of_odd.tab.locator("#tracks li").all_inner_texts()
    names = [line.split()[0] for line in lines]
    assert names == list(_csv_rows(predicted / "odd.csv")[0])[7:]
    assert all(len(line.split()) > 5 for line in lines)
    name = "stage1_sequence_change"
    strips = of_odd.tab.locator(f"#residue-3 .strip:nth-of-type({names.index(name) + 2})")
    assert not strips.is_visible()
    assert name not in of_odd.tab.locator("#top thead").inner_text()
    of_odd.tab.get_by_role("checkbox", name=name).check()
    assert strips.is_visible()
    assert name in of_odd.tab.locator("#top thead").inner_text()
    assert name in of_odd.tab.get_attribute("#residue-3", "aria-label")
    of_odd.tab.get_by_role("checkbox", name=name).uncheck()
    assert not strips.is_visible()


def test_the_index_of_a_predicted_folder_leads_to_the_pages(browser, predicted):
    """A click on a name opens its page from disk; what failed is named."""
    opened = Visit(browser, predicted / "index.html", WIDE)
    assert "broken.pdb: no PDB content" in opened.tab.locator("#failed").inner_text()
    opened.tab.get_by_role("link", name="made").click()
    opened.tab.wait_for_url("**/made.html")
    assert opened.tab.locator("h1").inner_text() == "made.cif"
    assert opened.complaints == []
    opened.context.close()
