"""The document: complete in itself, closed to the network, and data cannot leave its element."""

import base64
import hashlib
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bihf_jax.page import document, folder_page, structure_page
from tests.page.made import HOSTILE, Document, small_page
from tests.page.test_folder import small_folder


@pytest.fixture(scope="module", params=["structure", "folder"])
def html(request):
    return structure_page(small_page()) if request.param == "structure" else folder_page(small_folder())


@settings(deadline=None)
@given(st.text())
@example(HOSTILE)
@example("\ud800")
@example("\u2028 ]]> <!-- <script>")
def test_any_text_comes_back_from_data_and_markup(text):
    """The data block gives back the same JSON, escaped text the same text, and neither opens an element."""
    parsed = Document(f"<p>{document.escape(text)}</p>{document.data_block('data', {'text': text})}")
    assert [tag for tag, _ in parsed.elements] == ["p", "script"]
    assert json.loads("".join(parsed.text_of("script"))) == {"text": text}
    shown = text.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(parsed.text_of("p")).replace("\r\n", "\n").replace("\r", "\n") == shown


def test_numbers_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        document.data_block("data", [float("nan")])


def test_nothing_is_loaded(html):
    """No element names a place to load from, and no style sheet does."""
    parsed = Document(html)
    for tag, attributes in parsed.elements:
        assert not {"src", "srcset", "poster", "action", "formaction", "background", "data"} & set(attributes), tag
        assert not re.match(r"(?i)\s*(https?:)?//", attributes.get("href") or ""), attributes
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
    assert parsed.of("link") == [{"rel": "icon", "href": "data:,"}]
    for style in parsed.text_of("style"):
        assert not re.search(r"(?i)url\(|@import|https?:", style)
    for name in ("structure.js", "folder.js"):
        assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(|WebSocket", document.asset(name))


def test_the_policy_allows_exactly_the_scripts_and_styles_of_the_document(html):
    """Hashes of the policy are those of the texts as a browser sees them, and it allows no network."""
    parsed = Document(html)
    (policy,) = [meta["content"] for meta in parsed.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    directives = {words[0]: words[1:] for words in map(str.split, policy.split(";"))}
    assert directives.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    for name in ("default-src", "base-uri", "form-action"):
        assert directives[name] == ["'none'"]
    assert directives["img-src"] == ["data:"]
    scripts = [text for tag, attributes, text in parsed.texts if tag == "script" and "type" not in attributes]
    for name, texts in (("script-src", scripts), ("style-src", parsed.text_of("style"))):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert directives[name] == [f"'sha256-{digest}'" for digest in digests]


def test_no_script_or_style_can_end_its_element_early():
    """A `</script` inside a script, or a line end that browsers change, would break the page or its hash."""
    for name in ("3Dmol-min.js", "structure.js", "folder.js", "common.css", "structure.css", "folder.css"):
        assert not re.search(r"(?i)</script|</style|<!--|\r|\0", document.asset(name)), name


def test_the_embedded_library_is_the_one_that_its_origin_names():
    """3Dmol-min.js is unchanged, and its licence is in every page that carries it."""
    digest = hashlib.sha256(document.asset("3Dmol-min.js").encode()).hexdigest()
    assert f"| `3Dmol-min.js` | `{digest}` |" in document.asset("ORIGIN.md")
    licences = document.asset("3Dmol-LICENSES.txt")
    assert "University of Pittsburgh" in licences
    assert licences in "".join(Document(structure_page(small_page())).text_of("pre"))
