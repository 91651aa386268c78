"""The commands `experiments.export` and `experiments.serve`: what they say and exit with."""

import sys

import pytest

from experiments import export, serve
from tests.inference.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


def test_an_export(run, tmp_path, capsys):
    """It is compared on the embedded sample; the folder that is there then is not replaced."""
    command = [f"--checkpoint={run}", "--format=safetensors", f"--output={tmp_path / 'out'}", "--no-esm2"]
    assert export.main(command) == 0
    assert f"written and compared with the original: {tmp_path / 'out'}" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert export.main(command) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "nowhere"}, "nowhere holds no run: config.json is missing"),
        ({"structure": "nowhere.pdb"}, "nowhere.pdb: no such file"),
        ({"output": "no/such/out"}, "no/such is no folder; make it first"),
    ],
)
def test_what_cannot_be_exported(run, tmp_path, monkeypatch, caplog, changes, message):
    """Is told in one line, with exit code 1."""
    monkeypatch.chdir(tmp_path)
    values = {"checkpoint": run, "format": "orbax", "output": "out"} | changes
    assert export.main([f"--{name}={value}" for name, value in values.items()]) == 1
    assert message in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_serving_needs_its_extra(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert serve.main(["--checkpoint=anything"]) == 1
    assert "pip install 'bihf_jax[serve]'" in caplog.text


def test_what_cannot_be_served(run, caplog):
    pytest.importorskip("uvicorn", reason="the page needs it: pip install -e '.[serve]'")
    assert serve.main(["--checkpoint=nowhere"]) == 1
    assert "nowhere holds no run" in caplog.text
    assert serve.main([f"--checkpoint={run}", "--parse_seconds=0"]) == 1
    assert "parse_seconds is 0" in caplog.text
