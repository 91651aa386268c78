"""The page of a folder: every entry and every failure, as text, with links that stay below the page."""

import dataclasses

import numpy as np
import pytest

from bihf_jax.page import FailedInput, FolderEntry, FolderPage, folder_page
from tests.page.made import HOSTILE, Document


def small_folder() -> FolderPage:
    """Three entries and a failure; one name and one link are hostile, one number is missing."""
    return FolderPage(
        title="folder",
        columns=("residues", "highest score", "comment"),
        entries=(
            FolderEntry("9abc", "pages/9abc.html", (120, 0.5, "b")),
            FolderEntry(HOSTILE, "javascript:alert(1)", (15, np.float32(0.25), HOSTILE)),
            FolderEntry("10abc", "pages/a b#?%.html", (1000, float("nan"), "")),
        ),
        failed=(FailedInput("bad <file>.pdb", HOSTILE),),
        model="a model",
        notes=("a note & more",),
    )


def test_every_entry_and_failure_is_there_as_text():
    parsed = Document(folder_page(small_folder()))
    assert parsed.text_of("a") == ["9abc", HOSTILE, "10abc"]
    assert parsed.text_of("td") == [HOSTILE, "120", "0.5", "b", "15", "0.25", HOSTILE, "1000"]
    assert parsed.text_of("th", scope="row") == ["bad <file>.pdb"]
    assert "3 scored, 1 failed." in parsed.text_of("p")
    assert {"a model", "a note & more"} <= set(parsed.text_of("p"))
    assert "img" not in {tag for tag, _ in parsed.elements}


def test_numbers_carry_their_value_for_sorting():
    values = [cell["data-value"] for cell in Document(folder_page(small_folder())).of("td") if "data-value" in cell]
    assert values == ["120.0", "0.5", "15.0", "0.25", "1000.0"]


def test_links_are_relative_and_encoded():
    """No name is read as a scheme, a query or a fragment."""
    links = [link["href"] for link in Document(folder_page(small_folder())).of("a")]
    assert links == ["./pages/9abc.html", "./javascript%3Aalert%281%29", "./pages/a%20b%23%3F%25.html"]


@pytest.mark.parametrize(
    "link", ["", "/etc/passwd", "//host/page.html", "../secret.html", "a/../../b.html", "\\\\host"]
)
def test_a_link_that_leaves_the_folder_is_refused(link):
    with pytest.raises(ValueError, match="below the page's folder"):
        dataclasses.replace(small_folder(), columns=(), entries=(FolderEntry("x", link, ()),))


def test_an_entry_with_the_wrong_number_of_cells_is_refused():
    with pytest.raises(ValueError, match=r"'x' has 1 cells for the 3 columns"):
        dataclasses.replace(small_folder(), entries=(FolderEntry("x", "x.html", (1,)),))


def test_a_folder_in_which_all_failed_has_a_page():
    page = dataclasses.replace(small_folder(), entries=())
    assert "0 scored, 1 failed." in Document(folder_page(page)).text_of("p")
