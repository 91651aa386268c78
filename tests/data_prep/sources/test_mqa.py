"""`data_prep.build mqa`: models and their quality, from folders, tables, CASP, PSR, and synthetic decoys."""

import numpy as np
import pytest

from bihf_jax.protein import Protein, assess
from tests.data_prep.sources.command import examples, metadata, report, run
from tests.data_prep.structures import chain_lines, random_sequence, write_pdb

pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")


@pytest.fixture
def targets(tmp_path):
    """Four targets with a native and two models each; the first target's native is called as its folder."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "decoys"
    for target in ("T1", "T2", "T3", "T4"):
        sequence = random_sequence(rng, 40)
        write_pdb(folder / target / ("T1.pdb" if target == "T1" else "native.pdb"), chain_lines(sequence, seed=1))
        for seed in (2, 3):
            lines = chain_lines(sequence, seed=seed)
            # The second half of the chain is elsewhere: about half of the native is right.
            moved = [
                _moved(line, 20.0 * seed) if line.startswith("ATOM") and int(line[22:26]) > 20 else line
                for line in lines
            ]
            write_pdb(folder / target / f"model{seed}.pdb", moved)
    return folder


def _moved(line, shift):
    if not line.startswith("ATOM") or int(line[22:26]) <= 20:
        return line
    return f"{line[:46]}{float(line[46:54]) + shift:8.3f}{line[54:]}"


def test_folders_of_decoys(targets, tmp_path):
    """Labels are the GDT-TS of our own scores; the native is no model; a target lies in one split as a whole."""
    out = tmp_path / "out"
    assert run("mqa", out, "--structures", targets, "--split", "0.5,0.25,0.25") == 0
    found = examples(out)
    assert sorted(found) == sorted(f"T{number}:model{seed}" for number in range(1, 5) for seed in (2, 3))
    assert metadata(out)["labels"] == {"unit": "protein", "type": "regression", "names": ["gdt_ts"]}
    quality = assess(Protein.from_file(targets / "T2" / "model3.pdb"), Protein.from_file(targets / "T2" / "native.pdb"))
    assert found["T2:model3"].protein_label == pytest.approx([quality.gdt_ts])
    assert 0.4 < quality.gdt_ts < 0.9
    assert report(out)["outcomes"] == {"written": 8, "native": 4}
    splits = [{one.group for one in examples(out, split).values()} for split in ("train", "validation", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 4


def test_official_scores_of_a_table_are_taken(targets, tmp_path):
    """A table names models and natives; gdt_ts of a row is not computed again, and needs no native."""
    table = tmp_path / "table.csv"
    table.write_text("target,model,native,gdt_ts\nT1,T1/model2.pdb,T1/T1.pdb,\nT9,T2/model2.pdb,,0.25\n")
    assert run("mqa", tmp_path / "out", "--structures", targets, "--table", table, "--split", "1,0,0") == 0
    found = examples(tmp_path / "out")
    assert sorted(found) == ["T1:model2", "T9:model2"]
    assert found["T9:model2"].protein_label == pytest.approx([0.25])
    assert report(tmp_path / "out")["files"]["T3/native.pdb"] == {"not_selected": 1}


def test_models_of_casp_are_found_by_name(tmp_path):
    """Files without ending, as in CASP's archives; scores in percent become shares; what has no file is counted."""
    (tmp_path / "models" / "T0949").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for model, ending in ((1, ""), (2, ".pdb")):
        lines = chain_lines(random_sequence(rng, 30))
        write_pdb(tmp_path / "models" / "T0949" / f"T0949TS004_{model}{ending}", lines)
    rows = ["T0949TS004_1-D1 53.10 0.42", "T0949TS004_2-D1 52.90 N/A", "T0949TS005_1-D1 10 0.1"]
    (tmp_path / "data-all.tsv").write_text("\n".join(rows))
    arguments = ("--structures", tmp_path / "models", "--casp", tmp_path / "data-all.tsv", "--split", "1,0,0")
    assert run("mqa", tmp_path / "out", *arguments) == 0
    labels = {id: one.protein_label[0] for id, one in examples(tmp_path / "out").items()}
    assert labels == {
        "T0949:T0949TS004_1": pytest.approx(0.531),
        "T0949:T0949TS004_2": pytest.approx(0.529),
    }
    assert report(tmp_path / "out")["without_structure"] == ["T0949TS005_1"]


def test_synthetic_decoys_say_so(targets, tmp_path):
    """Natives alone give N decoys each, whose ids, report and metadata say synthetic; real models stay beside them."""
    out = tmp_path / "out"
    assert run("mqa", out, "--structures", targets, "--synthetic", 3, "--split", "1,0,0") == 0
    found = examples(out)
    made = [id for id in found if ":synthetic:" in id]
    assert len(made) == 12
    assert len(found) == 20
    assert report(out)["counts"] == {"synthetic_decoys": 12}
    assert metadata(out)["source"]["synthetic_decoys_of_each_native"] == 3
    assert all(0 < found[id].protein_label[0] <= 1 for id in made)
    for group in ("T1", "T2"):
        mine = [found[id] for id in made if found[id].group == group]
        assert len({one.backbone.tobytes() for one in mine}) == 3


def test_psr_keeps_its_split(tmp_path):
    """LMDBs of ATOM3D: label, target as group and split are those of the database."""
    pytest.importorskip("lmdb", reason="needs lmdb: pip install 'bihf_jax[formats]'")
    from tests.data_prep.formats.test_atom3d import frame_of_pdb, write_lmdb

    rng = np.random.default_rng(0)
    for number, split in enumerate(("train", "val", "test")):
        path = tmp_path / f"{split}.pdb"
        write_pdb(path, chain_lines(random_sequence(rng, 30)))
        item = {"id": f"('T{number}', 'server_TS1')", "atoms": frame_of_pdb(path), "scores": {"gdt_ts": number / 4}}
        write_lmdb(tmp_path / "psr" / "data" / split, [item, item | {"id": "not a pair"}])
    assert run("mqa", tmp_path / "out", "--atom3d", tmp_path / "psr") == 0
    for number, split in enumerate(("train", "validation", "test")):
        ((id, example),) = examples(tmp_path / "out", split).items()
        assert (id, example.group) == (f"T{number}:server_TS1", f"T{number}")
        assert example.protein_label.tolist() == [number / 4]
    assert len(report(tmp_path / "out")["ids_refused"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--synthetic", "-1"], "--synthetic is -1"),
        (["--table", "T1,T1/none.pdb,,0.5"], "line 2: 'T1/none.pdb' is not a file below --structures"),
        (["--table", "T1,T1/model2.pdb,,"], "line 2: target, model, and native or gdt_ts must not be empty"),
        (["--table", "T1,T1/model2.pdb,,53"], "line 2: gdt_ts 53.0; it must lie in [0, 1]"),
        (["--table", "T1,T1/model2.pdb,,0.5", "--synthetic", "2"], "needs the native of target T1, which has none"),
    ],
)
def test_what_cannot_be_meant_is_refused(targets, tmp_path, arguments, message, capsys):
    """Tables and settings are refused by line and name before anything is written."""
    if "--table" in arguments:
        (tmp_path / "table.csv").write_text(f"target,model,native,gdt_ts\n{arguments[1]}\n")
        arguments = ["--table", tmp_path / "table.csv", *arguments[2:]]
    assert run("mqa", tmp_path / "out", "--structures", targets, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_target_without_a_native_is_refused(tmp_path, capsys):
    """The message names the target and how a native is found."""
    write_pdb(tmp_path / "in" / "T1" / "a.pdb", chain_lines("MKWYCDEGHI"))
    assert run("mqa", tmp_path / "out", "--structures", tmp_path / "in") == 1
    assert "target 'T1' has 0 files called native or T1 among 1; it needs one native" in capsys.readouterr().err


@pytest.mark.shared_data
def test_real_decoys(shared_data, tmp_path):
    """GDT-TS of every 90th decoy of 1CTF is that of the published table but for its search."""
    rows = [line.split("\t") for line in (shared_data / "MQA" / "index.tsv").read_text().splitlines()[1:]]
    rows = [row for row in rows if row[0] == "4state_1ctf" and row[2] != row[3]][::90]
    table = tmp_path / "table.csv"
    lines = [",".join((row[1], row[2].removeprefix("MQA/"), row[3].removeprefix("MQA/"))) for row in rows]
    table.write_text("\n".join(["target,model,native", *lines]))
    arguments = ("--structures", shared_data / "MQA", "--table", table, "--split", "1,0,0")
    assert run("mqa", tmp_path / "out", *arguments) == 0
    found = examples(tmp_path / "out")
    assert len(found) == len(rows) == 7
    for row in rows:
        name = row[2].rsplit("/", 1)[-1].removesuffix(".pdb.gz")
        assert found[f"1ctf:{name}"].protein_label[0] == pytest.approx(float(row[7]), abs=0.025)
