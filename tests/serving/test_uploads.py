"""What a browser sends: names are text, and reading is bounded in time, size and memory."""

import gzip

import pytest

pytest.importorskip("starlette", reason="the page needs it: pip install -e '.[serve]'")
from bihf_jax.configuration import ConfigError
from bihf_jax.serving import parse_worker, uploads
from bihf_jax.serving.uploads import Limits, UploadError, contents_of, file_name, parse
from tests.inference.structures import odd_text


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("1abc.cif.gz", "1abc.cif.gz"),
        ("../../etc/passwd.cif", "passwd.cif"),
        (r"C:\Users\me\1abc.pdb", "1abc.pdb"),
        ("a\0b\n\u202e.pdb", "a_b__.pdb"),
        ("", "pasted"),
        ("/", "pasted"),
        ("x" * 500 + ".pdb", "x" * 96 + ".pdb"),
        ("<b>.pdb", "<b>.pdb"),
    ],
)
def test_names_are_text(sent, shown):
    """Folders and what does not print go, markup is text like other text."""
    assert file_name(sent) == shown


@pytest.mark.parametrize("name", ["odd.pdb", "odd.pdb.gz", "odd.txt", "pasted"])
def test_a_structure_by_its_ending_or_its_content(name):
    data = odd_text().encode()
    protein = parse(gzip.compress(data) if name.endswith(".gz") else data, name, ["B"], Limits())
    assert protein.chain_ids == ("B",)
    assert protein.num_residues == 5


def test_the_chains_of_an_upload():
    found = contents_of(odd_text().encode(), "odd.pdb", None, Limits())
    assert found.chains == [("A", 12), ("B", 5)]
    assert found.ligands == []


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"hello", "a.pdb", r"a\.pdb: no PDB content"),
        (b"\x80\x00\xff", "pasted", "NUL bytes"),
        (odd_text().encode(), "a.cif", "the ending says mmCIF"),
        (odd_text().encode(), "a.pdb.gz", "not gzip"),
        (
            gzip.compress(b"\0" * 10_000_000),
            "bomb.pdb.gz",
            r"more than 1,000,000 bytes \(decompressed\)",
        ),
    ],
)
def test_what_is_no_structure(data, name, message):
    with pytest.raises(UploadError, match=message) as refused:
        contents_of(data, name, None, Limits(unpacked_bytes=1_000_000))
    assert refused.value.status == 400


def test_chains_that_are_not_there():
    with pytest.raises(UploadError, match="'Q'"):
        parse(odd_text().encode(), "odd.pdb", ["Q"], Limits())


def test_reading_that_takes_too_long_is_stopped():
    """The process that reads is killed when its time is up."""
    with pytest.raises(UploadError, match=r"odd\.pdb: reading it takes longer than 0\.01 s") as refused:
        contents_of(odd_text().encode(), "odd.pdb", None, Limits(parse_seconds=0.01))
    assert refused.value.status == 408


def test_a_reader_that_crashes(monkeypatch):
    """Is a message, whatever it did, and the server goes on."""
    monkeypatch.setattr(uploads.sys, "executable", "false")
    with pytest.raises(UploadError, match=r"odd\.pdb: reading it failed") as refused:
        contents_of(odd_text().encode(), "odd.pdb", None, Limits())
    assert refused.value.status == 400


def test_the_reader_limits_itself(monkeypatch):
    """Memory and processor time of its process."""
    resource = pytest.importorskip("resource")
    limited = {}
    monkeypatch.setattr(resource, "setrlimit", limited.__setitem__)
    parse_worker._limit_resources(2.5)
    assert limited == {resource.RLIMIT_AS: (parse_worker.MEMORY,) * 2, resource.RLIMIT_CPU: (3, 3)}


def test_limits_that_cannot_work():
    with pytest.raises(ConfigError, match="parse_seconds is 0; it must be more than 0"):
        Limits(parse_seconds=0)
