"""The page that takes a structure: what it gives, and what it refuses, each with a message and a status."""

import asyncio
import gzip
import json
import re

import pytest

pytest.importorskip("starlette", reason="the page needs it: pip install -e '.[serve]'")
from starlette.testclient import TestClient

import bihf_jax
from bihf_jax.serving import app as app_module
from bihf_jax.serving.app import BODY_TYPE, make_app
from bihf_jax.serving.uploads import Limits, read_body
from tests.data.complexes import phenol_lines
from tests.data_prep.structures import chain_lines
from tests.inference.runs import make_run
from tests.inference.structures import AFFINITY, SAMPLE, made, odd_text
from tests.page.made import Document

LIMITS = Limits(body_bytes=300_000, unpacked_bytes=1_000_000)
ODD = odd_text().encode()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return bihf_jax.load(make_run(tmp_path_factory.mktemp("served")), max_slots=400)


@pytest.fixture(scope="module")
def client(predictor):
    with TestClient(make_app(predictor, limits=LIMITS), base_url="http://127.0.0.1:8000") as client:
        yield client


def post(client, path, data, name="odd.pdb", chains=(), ligand="", **headers):
    query = [("name", name), *(("chain", chain) for chain in chains), ("ligand", ligand)]
    headers = {"content-type": BODY_TYPE, **{key.replace("_", "-"): value for key, value in headers.items()}}
    return client.post(path, params=query, content=data, headers=headers)


def test_the_form(client):
    """The page with the form has a policy of its own, and may ask its own server alone."""
    response = client.get("/")
    assert response.status_code == 200
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', response.text)
    assert "default-src 'none'" in policy
    assert policy.endswith("connect-src 'self'")
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    ids = {attributes.get("id") for _, attributes in Document(response.text).elements}
    assert {"file", "text", "predict", "chains"} <= ids


def test_a_structure_and_its_page(client, predictor):
    """Its chains, then the page of the scores of those that are named: the same page as from Python."""
    compressed = (SAMPLE / "1fc2.pdb.gz").read_bytes()
    found = post(client, "/chains", compressed, "1fc2.pdb.gz").json()["chains"]
    assert [chain for chain, _ in found] == ["C", "D"]
    answer = post(client, "/predict", compressed, "1fc2.pdb.gz", chains=["C"])
    assert answer.status_code == 200, answer.text
    page = client.get(answer.json()["page"])
    assert page.headers["content-type"].startswith("text/html")
    (data,) = re.findall(r'id="page-data">(.*?)</script>', page.text)
    assert json.loads(data)["chains"] == ["C"]
    protein = bihf_jax.protein.Protein.from_bytes(compressed, name="1fc2.pdb.gz", chains=["C"])
    assert page.text == predictor.predict(protein).page()


def test_a_ligand_of_the_structure(tmp_path_factory):
    """Of a model that needs one: the form asks for it; a name is looked up in the structure and never opened."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    pytest.importorskip("biotite", reason="needs biotite: pip install 'bihf_jax[components]'")
    model = bihf_jax.load(make_run(tmp_path_factory.mktemp("lba"), task=AFFINITY, ligands=True))
    data = "\n".join([*chain_lines("ACDEFGHIKL"), *phenol_lines(), "END", ""]).encode()
    with TestClient(make_app(model, limits=LIMITS), base_url="http://127.0.0.1:8000") as client:
        assert '"needsLigand":true' in client.get("/").text.replace(" ", "")
        assert post(client, "/chains", data).json() == {"chains": [["A", 10]], "ligands": ["IPH:A:301"]}
        assert client.get(post(client, "/predict", data, ligand="IPH:A:301").json()["page"]).status_code == 200
        for name, message in (("", "trained on proteins with a ligand"), ("/etc/x.sdf", "no ligand is called '/etc/x")):
            refused = post(client, "/predict", data, ligand=name)
            assert (refused.status_code, message in refused.json()["error"]) == (400, True)


def test_text_that_is_pasted(client):
    assert post(client, "/predict", ODD, name="").status_code == 200


def test_markup_in_names_stays_text(client):
    """A file's name cannot open an element in the page."""
    name = '"><script>alert(1)</script>.pdb'
    answer = post(client, "/predict", ODD, name)
    page = client.get(answer.json()["page"]).text
    assert "<script>alert" not in page
    assert "script&gt;.pdb" in page  # after the last slash
    assert "alert(1)" not in post(client, "/chains", b"nothing", name).text


def test_a_path_is_not_opened(client):
    """A name that is the path of a file here is only a name."""
    path = SAMPLE / "1fc2.pdb.gz"
    response = post(client, "/predict", b"nothing", str(path))
    assert response.status_code == 400
    assert str(path.parent) not in response.text


@pytest.mark.parametrize(
    ("data", "name", "status", "message"),
    [
        (b"", "a.pdb", 400, "the file is empty"),
        (b"hello", "a.pdb", 400, "a.pdb: no PDB content"),
        (b"x" * 300_001, "a.pdb", 413, "larger than 0.3 MB"),
        (gzip.compress(b"\0" * 5_000_000), "a.pdb.gz", 400, "more than 1,000,000 bytes (decompressed)"),
    ],
)
def test_what_is_refused(client, data, name, status, message):
    response = post(client, "/predict", data, name)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_a_structure_that_is_too_long(client):
    response = post(client, "/predict", made(450).to_pdb().encode(), "long.pdb")
    assert response.status_code == 400
    assert "at most 400 are taken" in response.json()["error"]


def test_time_for_reading(predictor):
    with TestClient(make_app(predictor, limits=Limits(parse_seconds=0.01)), base_url="http://localhost") as client:
        response = post(client, "/predict", ODD)
    assert response.status_code == 408
    assert response.json()["error"] == "odd.pdb: reading it takes longer than 0.01 s"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_other_names_of_the_server_are_refused(client, host):
    """A site that has its own name resolve to this machine reaches nothing."""
    for response in (client.get("/", headers={"host": host}), post(client, "/predict", ODD, host=host)):
        assert response.status_code == 400
        assert response.text == "Invalid host header"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        ({"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"}, 200),
    ],
)
def test_requests_of_other_sites_are_refused(client, headers, status):
    """Also those that a browser sends without asking: forms, and scripts with a simple type."""
    assert post(client, "/chains", ODD, **headers).status_code == status


def test_pages_of_long_ago_are_gone(predictor, monkeypatch):
    """So that memory does not run out; nobody guesses the name of a page."""
    monkeypatch.setattr(app_module, "PAGES_KEPT", 1)
    with TestClient(make_app(predictor, limits=LIMITS), base_url="http://localhost") as client:
        first, second = (post(client, "/predict", ODD).json()["page"] for _ in range(2))
        assert client.get(second).status_code == 200
        assert client.get(first).status_code == 404
        assert "Predict again" in client.get("/pages/x").text


def test_too_many_wait(predictor):
    with TestClient(make_app(predictor, limits=LIMITS), base_url="http://localhost") as client:
        service = client.app.routes[1].endpoint.__self__
        service._waiting = LIMITS.waiting
        response = post(client, "/chains", ODD)
        assert (response.status_code, "8 structures are waiting" in response.text) == (503, True)
        service._waiting = 0
        assert post(client, "/chains", ODD).status_code == 200


class Slow:
    """A request whose body comes in pieces, without a word of its length."""

    def __init__(self, pieces, pause=0.0):
        self.headers = {}
        self.pieces, self.pause, self.taken = pieces, pause, 0

    async def stream(self):
        for piece in self.pieces:
            await asyncio.sleep(self.pause)
            self.taken += 1
            yield piece


def test_the_size_is_counted_while_it_comes_in():
    """A body that does not say its length is not read beyond the limit."""
    request = Slow([b"x" * 100_000] * 50)
    with pytest.raises(app_module.UploadError, match="larger than") as refused:
        asyncio.run(read_body(request, LIMITS))
    assert (refused.value.status, request.taken) == (413, 4)


def test_a_body_that_does_not_arrive():
    with pytest.raises(app_module.UploadError, match=r"did not arrive within 0\.05 s") as refused:
        asyncio.run(read_body(Slow([b"x"], pause=5), Limits(upload_seconds=0.05)))
    assert refused.value.status == 408
