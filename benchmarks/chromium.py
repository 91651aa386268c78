"""A headless Chromium of this machine, to look at the HTML pages with. Nothing is downloaded.

apt-get install chromium  # or another build; the variable CHROMIUM names its program
pip install -e '.[browser]'
"""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# WebGL is drawn by the processor: a machine without a screen has no graphics card that Chromium would use.
_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def why_not() -> str | None:
    """What is missing for `open_browser`; None where nothing is."""
    if _program() is None:
        return f"needs Chromium, none of {', '.join(_PROGRAMS)} is installed (or set CHROMIUM to its program)"
    if importlib.util.find_spec("playwright") is None:
        return "needs Playwright: pip install -e '.[browser]'"
    return None


@contextlib.contextmanager
def open_browser() -> Iterator["Browser"]:
    """A Playwright browser, closed at the end.

    Raises:
      RuntimeError: Chromium or Playwright is missing; says which.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    from playwright.sync_api import sync_playwright  # an extra

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_program(), args=list(_WEBGL), timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()


def _program() -> str | None:
    names = (os.environ.get("CHROMIUM", ""), *_PROGRAMS)
    return next((path for path in map(shutil.which, names) if path), None)
