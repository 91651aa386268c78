"""The commands `experiments.predict` and `experiments.embed`: what they print, write and exit with."""

import pytest

from bihf_jax.inference.embedding_file import read_embeddings
from experiments import embed, predict
from tests.inference.runs import make_run
from tests.inference.structures import made


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def structures(tmp_path):
    """Three structures and a broken one."""
    folder = tmp_path / "structures"
    folder.mkdir()
    for length in (12, 20, 31):
        made(length).to_file(folder / f"made{length}.pdb")
    (folder / "broken.pdb").write_text("nothing")
    return folder


def test_predict(run, structures, tmp_path, capsys):
    """Good structures are written, the broken one is named and in the exit code; again, they are kept."""
    command = [f"--checkpoint={run}", f"--input={structures}", f"--output={tmp_path / 'out'}", "--fusion_values"]
    assert predict.main(command) == 2
    printed = capsys.readouterr().out
    assert f"3 done, 1 failed: {tmp_path / 'out' / 'index.html'}" in printed
    assert f"failed: {structures / 'broken.pdb'}: broken.pdb: no PDB content" in printed
    assert len(list((tmp_path / "out").iterdir())) == 3 * 7 + 2
    assert predict.main(command) == 2
    assert "3 kept from before, 1 failed" in capsys.readouterr().out
    (structures / "broken.pdb").unlink()
    assert predict.main(command) == 0
    one = structures / "made12.pdb"
    assert predict.main([f"--checkpoint={run}", f"--input={one}", f"--output={tmp_path / 'one'}", "--chains=A"]) == 0
    assert (tmp_path / "one" / "made12_A.csv").exists()


def test_embed(run, structures, tmp_path, capsys):
    """Embeddings and their map are written; the broken structure is named."""
    command = [f"--checkpoint={run}", f"--input={structures}", f"--output={tmp_path / 'e.npz'}"]
    assert embed.main([*command, f"--map={tmp_path / 'map.png'}"]) == 2
    assert "3 done, 1 failed" in capsys.readouterr().out
    assert [name for name, _ in read_embeddings(tmp_path / "e.npz")] == ["made12", "made20", "made31"]
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "nowhere"}, "nowhere: no such file or folder"),
        ({"checkpoint": "nowhere"}, "nowhere holds no run: config.json is missing"),
        ({"of": "structure", "stage": "9"}, "has no features structure of stage 9; it has: fused"),
        ({"output": "e.csv"}, "the ending must be one of .h5, .npz"),
    ],
)
def test_nothing_is_begun(run, structures, tmp_path, caplog, changes, message):
    """What cannot be used is told in one line, with exit code 1."""
    values = {"checkpoint": run, "input": structures, "output": tmp_path / "e.npz"} | changes
    assert embed.main([f"--{name}={value}" for name, value in values.items()]) == 1
    assert message in caplog.text
    assert not (tmp_path / "e.npz").exists()
