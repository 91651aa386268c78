"""One HTML document that needs nothing beside itself: styles, scripts and data stand in it, and it loads nothing.

A Content-Security-Policy forbids the network and every script and style that is not one of the document's own, by
their hashes: text of a file that got into the markup could not run, even if the escaping failed.
"""

import base64
import functools
import hashlib
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any


@functools.cache
def asset(name: str) -> str:
    """The text of a file of `bihf_jax/page/assets`."""
    return resources.files("bihf_jax.page").joinpath("assets", name).read_text(encoding="utf-8")


def escape(text: str) -> str:
    """Text as it stands in HTML, also in a quoted attribute; what UTF-8 cannot hold becomes "?"."""
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)


def data_block(element_id: str, data: Any) -> str:
    """A script element that holds data as JSON and does not run.

    Raises:
      ValueError: a number is not finite, which JSON cannot hold.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # with which text could leave the element
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{escape(element_id)}">{text}</script>'


def html_document(
    title: str, body: str, *, styles: Sequence[str], scripts: Sequence[str], asks_own_server: bool = False
) -> str:
    """The whole document.

    Args:
      title: text, escaped here.
      body: HTML, as it is; no inline styles or handlers, which the policy forbids.
      styles: names of the assets with the style sheets.
      scripts: names of the assets with the scripts, which run in this order at the end of the body.
      asks_own_server: the scripts may send requests to where the document came from.
    """
    style_texts, script_texts = [asset(name) for name in styles], [asset(name) for name in scripts]
    policy = (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'" + ("; connect-src 'self'" if asks_own_server else "")
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            '<link rel="icon" href="data:,">',  # else a browser asks the server for one
            *(f"<style>{text}</style>" for text in style_texts),
            "</head>",
            "<body>",
            body,
            *(f"<script>{text}</script>" for text in script_texts),
            "</body>",
            "</html>",
            "",
        ]
    )


def _hashes(names: Sequence[str]) -> str:
    """The texts of assets as sources of a Content-Security-Policy."""
    return " ".join(map(_hash, names)) or "'none'"


@functools.cache
def _hash(name: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()}'"
