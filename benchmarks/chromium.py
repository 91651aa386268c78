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
    from playwright.sync_api import Browser, BrowserType

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# WebGL is drawn by the processor: a machine without a screen has no graphics card that Chromium would use.
_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
_NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")


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
        browser = launch(playwright.chromium)
        try:
            yield browser
        finally:
            browser.close()


def launch(browser_type: "BrowserType", *, webgl: bool = True) -> "Browser":
    """A browser, which the caller closes; `browser.browser_type` of an open one launches another beside it."""
    arguments = list(_WEBGL if webgl else _NO_WEBGL)
    return browser_type.launch(executable_path=_program(), args=arguments, timeout=120_000)


def _program() -> str | None:
    names = (os.environ.get("CHROMIUM", ""), *_PROGRAMS)
    return next((path for path in map(shutil.which, names) if path), None)
