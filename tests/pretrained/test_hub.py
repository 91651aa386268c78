"""Models of the Hugging Face hub: fetched from a server that speaks as the hub does, then loaded from the cache."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from bihf_jax.pretrained import PretrainedError, hub, load_esm2
from tests.pretrained.files import SMALL, write_hugging_face
from tests.training.small_run import environment

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install -e '.[hub]'")

MODEL, COMMIT = "someone/esm2_small", "0123456789abcdef0123456789abcdef01234567"

_LOAD = """
import sys
from bihf_jax.pretrained import PretrainedError, load_esm2, save_esm2
for number, source in enumerate(sys.argv[2:]):
    try:
        model = load_esm2(source)
        save_esm2(model, f"{sys.argv[1]}/{number}")
        print("loaded", model.config)
    except PretrainedError as error:
        print("refused", " ".join(str(error).split()))
"""


def is_large(path):
    """Does the hub keep the file by its SHA-256? Small ones are in git."""
    return path.suffix in (".safetensors", ".bin")


def checksum(path):
    """What the hub says of a file, and its cache names it by."""
    content = path.read_bytes()
    if is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """The parts of the hub's interface that a download uses, for one model in `folder`."""

    folder: Path

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == f"/api/models/{MODEL}/revision/main":
            self._json({"id": MODEL, "modelId": MODEL, "sha": COMMIT, "siblings": [], "tags": []})
        elif path.startswith(f"/api/models/{MODEL}/tree/"):
            self._json([self._entry(file) for file in sorted(self.folder.iterdir())])
        elif path.startswith(f"/{MODEL}/resolve/{COMMIT}/"):
            file = self.folder / path.rsplit("/", 1)[1]
            etag = {"ETag": f'"{checksum(file)}"', "X-Repo-Commit": COMMIT}
            self._send(file.read_bytes(), 200, etag)
        else:
            self._send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _entry(self, file):
        size = file.stat().st_size
        entry = {"type": "file", "path": file.name, "size": size, "oid": checksum(file)}
        return entry | ({"lfs": {"oid": checksum(file), "size": size, "pointerSize": 1}} if is_large(file) else {})

    def _json(self, values):
        self._send(json.dumps(values).encode(), 200, {"Content-Type": "application/json"})

    def _send(self, content, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Stays silent."""


def load(out, *sources, **variables):
    """What a fresh process prints, that loads the sources one after the other and saves them into `out`."""
    out.mkdir()
    command = [sys.executable, "-c", _LOAD, out, *sources]
    variables |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        list(map(str, command)), env=environment(**variables), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_download_cache_checksum_and_offline(tmp_path):
    """A model is fetched once, then loaded without a network; a damaged cache and an absent model are named."""
    published = write_hugging_face(tmp_path / "published", shards=2)
    (published / "pytorch_model.bin").write_bytes(b"not fetched, as there are safetensors")
    (published / "tf_model.h5").write_bytes(b"not fetched")
    cache = tmp_path / "cache"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OneModel", (Hub,), {"folder": published}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online = {
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
    }
    try:
        printed = load(tmp_path / "first", MODEL, "someone/else", **online)
    finally:
        server.shutdown()
        server.server_close()
    assert printed[0] == f"loaded {SMALL}"
    assert "someone/else is neither a file nor a folder here, and the Hugging Face hub" in printed[1]
    fetched = {path.name for path in (cache / "models--someone--esm2_small" / "snapshots" / COMMIT).iterdir()}
    assert fetched == {path.name for path in published.iterdir()} - {"pytorch_model.bin", "tf_model.h5"}

    offline = online | {"HF_HUB_OFFLINE": "1"}
    (blob,) = (cache / "models--someone--esm2_small" / "blobs").glob(
        checksum(published / "model-00001-of-00002.safetensors")
    )
    printed = load(tmp_path / "second", MODEL, "someone/else", **offline)
    assert printed[0] == f"loaded {SMALL}"
    assert "copy the cache from a machine that has the model and set HF_HUB_OFFLINE=1" in printed[1]
    expected = load_esm2(published).params
    for run in ("first", "second"):
        params = load_esm2(tmp_path / run / "0").params
        assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))

    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(PretrainedError, match=r"model-00001-of-00002\.safetensors is damaged: its checksum is"):
        hub.verify(cache / "models--someone--esm2_small" / "snapshots" / COMMIT)


def test_checksums_of_large_and_small_files(tmp_path):
    """The cache's own layout: a changed file of git, or of large-file storage, is named; a file without one is not."""
    published = write_hugging_face(tmp_path / "published")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / COMMIT
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in published.iterdir():
        (blobs / checksum(file)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blobs / checksum(file))
    hub.verify(snapshot)
    for name in ("config.json", "model.safetensors"):
        stored = (snapshot / name).resolve()
        content = stored.read_bytes()
        stored.write_bytes(content + b" ")
        with pytest.raises(PretrainedError, match=f"{name} is damaged: its checksum is [0-9a-f]+, the hub's is"):
            hub.verify(snapshot)
        stored.write_bytes(content)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_bytes((published / "config.json").read_bytes())  # where links are not possible
    hub.verify(snapshot)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("facebook/esm2_t6_8M_UR50D", True),
        ("esm2_t6_8M_UR50D", False),
        ("/models/esm2", False),
        ("./models/esm2", False),
        ("a/b/c", False),
    ],
)
def test_what_is_a_hub_id(source, expected):
    """OWNER/NAME; paths are not."""
    assert hub.is_hub_id(source) is expected


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    """huggingface_hub is an extra; without it a hub id says so."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(PretrainedError, match=r"pip install 'bihf_jax\[hub\]'"):
        load_esm2("someone/esm2_small")
