"""The local page in a headless Chromium: a file goes in, the page of its scores comes out, and no policy is broken."""

import contextlib
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the page needs it: pip install -e '.[serve]'")
import uvicorn

import bihf_jax
from benchmarks import chromium
from bihf_jax.serving.app import make_app
from bihf_jax.serving.uploads import Limits
from tests.inference.runs import make_run
from tests.inference.structures import odd_text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.why_not() is not None, reason=chromium.why_not() or "everything is there"),
]
PATIENCE = 120_000  # ms


@contextlib.contextmanager
def serving(app):
    """The address of a server that runs while this is open."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_from_a_file_to_its_page(tmp_path):
    """Choose a file, mark a chain, predict, and see it; a file that is none, and pasted text that is too large."""
    predictor = bihf_jax.load(make_run(tmp_path / "run"))
    name = "<img src=x onerror=alert(1)>.pdb"
    (tmp_path / name).write_text(odd_text())
    (tmp_path / "none.pdb").write_text("nothing")
    complaints, failed = [], []
    limits = Limits(body_bytes=100_000)
    with serving(make_app(predictor, limits=limits)) as address, chromium.open_browser() as browser:
        tab = browser.new_page()
        tab.set_default_timeout(PATIENCE)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        tab.on("dialog", lambda dialog: (complaints.append("a dialog opened"), dialog.dismiss()))
        tab.on("response", lambda response: failed.append(response.status) if response.status >= 400 else None)
        tab.goto(address)
        tab.locator("#text").fill("x" * 100_001)
        tab.get_by_role("button", name="Use this text").click()
        assert "larger than 0.1 MB" in tab.locator("#status.error").inner_text()
        tab.locator("#file").set_input_files(tmp_path / name)
        tab.get_by_label("A: 12 residues").uncheck()
        assert tab.locator("#name").inner_text() == name
        assert complaints == failed == []
        tab.locator("#file").set_input_files(tmp_path / "none.pdb")
        tab.locator("#status.error").wait_for()
        assert "none.pdb: no PDB content" in tab.locator("#status").inner_text()
        assert failed == [400]
        complaints.clear()  # the browser writes of a status that it does not like
        tab.locator("#file").set_input_files(tmp_path / name)
        tab.get_by_label("A: 12 residues").uncheck()
        tab.get_by_role("button", name="Predict").click()
        tab.wait_for_url(f"{address}/pages/*")
        assert tab.locator("h1").inner_text() == name
        assert tab.locator(".residue").count() == 5  # of chain B
        assert complaints == []
