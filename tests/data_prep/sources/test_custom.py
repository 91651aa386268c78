"""`data_prep.build custom`: a user's own labels."""

import numpy as np
import pytest

from data_prep import check, inspect
from tests.data_prep.sources.command import examples, metadata, report, run, write_chains
from tests.data_prep.structures import chain_lines, random_sequence, write_pair, write_pdb

pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")

NAMES = [f"p{number}" for number in range(6)]


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    """Six unrelated chains."""
    folder = tmp_path_factory.mktemp("structures")
    write_chains(folder, NAMES)
    return folder


def build(tmp_path, structures, csv, kind, type, *arguments):
    """The exit code, for a CSV with this text."""
    (tmp_path / "labels.csv").write_text(csv)
    fixed = ("--structures", structures, "--labels", tmp_path / "labels.csv", "--kind", kind, "--type", type)
    return run("custom", tmp_path / "out", *fixed, *arguments)


@pytest.mark.parametrize(
    ("type", "texts", "names", "values"),
    [
        ("binary", ("1", "0"), ["stable"], ([1], [0])),
        ("regression", ("-1.5", "20"), ["stable"], ([-1.5], [20])),
        ("multiclass", ("kinase", "hydrolase"), ["hydrolase", "kinase"], ([1], [0])),
        ("multilabel", ("x;y", ""), ["x", "y"], ([1, 1], [0, 0])),
    ],
)
def test_labels_of_proteins(tmp_path, structures, type, texts, names, values):
    """Each type of label is in the records as its metadata says."""
    csv = f"file,label,weight\np0,{texts[0]},0.5\np1,{texts[1]},\n"
    assert build(tmp_path, structures, csv, "protein", type, "--name", "stable", "--split", "1,0,0") == 0
    found = examples(tmp_path / "out")
    assert (found["p0"].protein_label.tolist(), found["p1"].protein_label.tolist()) == values
    assert (found["p0"].weight, found["p1"].weight) == (0.5, 1.0)
    assert metadata(tmp_path / "out")["labels"] == {"unit": "protein", "type": type, "names": names}
    assert report(tmp_path / "out")["files"]["p5.pdb"] == {"not_selected": 1}


@pytest.mark.parametrize(
    ("type", "texts", "names", "values"),
    [
        ("binary", ("1", "0"), ["label"], [1, 0]),
        ("regression", ("0.25", "-3"), ["label"], [0.25, -3]),
        ("multiclass", ("sheet", "helix"), ["helix", "sheet"], [1, 0]),
    ],
)
def test_labels_of_residues(tmp_path, structures, type, texts, names, values):
    """Residues that are named have their label, all others none."""
    columns = "file,chain,residue_number,insertion_code,label"
    csv = f"{columns}\np0,A,3,,{texts[0]}\np0,A,7,,{texts[1]}\n"
    assert build(tmp_path, structures, csv, "residue", type, "--split", "1,0,0") == 0
    ((id, example),) = examples(tmp_path / "out").items()
    assert id == "p0"
    assert example.residue_number[example.label_mask].tolist() == [3, 7]
    assert example.label[example.label_mask].tolist() == values
    assert metadata(tmp_path / "out")["labels"] == {"unit": "residue", "type": type, "names": names}
    assert report(tmp_path / "out")["counts"]["labels_matched"] == 2


def test_only_labelled_chains_are_seen(tmp_path):
    """Of a complex the chain with labels is the input, unless --all-chains asks for the others, too."""
    rng = np.random.default_rng(0)
    write_pair(tmp_path / "in" / "pair.pdb", random_sequence(rng, 30), random_sequence(rng, 30))
    csv = "file,chain,residue_number,insertion_code,label\npair,A,3,,1\n"
    assert build(tmp_path, tmp_path / "in", csv, "residue", "binary", "--split", "1,0,0") == 0
    assert examples(tmp_path / "out")["pair"].chain_ids == ("A",)
    (tmp_path / "second").mkdir()
    assert (
        build(tmp_path / "second", tmp_path / "in", csv, "residue", "binary", "--split", "1,0,0", "--all-chains") == 0
    )
    assert examples(tmp_path / "second" / "out")["pair"].chain_ids == ("A", "B")


def test_labels_that_are_not_of_the_structure_are_refused(tmp_path, structures):
    """Residues that are not there, or of another amino acid, refuse the file; the others are written."""
    columns = "file,chain,residue_number,insertion_code,label,amino_acid"
    csv = f"{columns}\np0,A,99,,1,\np1,A,3,,1,\np2,A,3,,1,O\n"
    assert build(tmp_path, structures, csv, "residue", "binary", "--split", "1,0,0") == 0
    assert list(examples(tmp_path / "out")) == ["p1"]
    problems = {problem["item"]: problem for problem in report(tmp_path / "out")["not_written"]}
    assert {name: problem["what"] for name, problem in problems.items()} == dict.fromkeys(
        ["p0", "p2"], "labels_do_not_fit"
    )
    assert "A 99" in problems["p0"]["message"]


def test_the_split_of_the_table(tmp_path, structures):
    """A column split is kept; the metadata names it."""
    splits = ("train", "train", "validation", "test", "test", "train")
    csv = "file,label,split\n" + "".join(f"{name},1,{split}\n" for name, split in zip(NAMES, splits, strict=True))
    assert build(tmp_path, structures, csv, "protein", "regression") == 0
    for split in ("train", "validation", "test"):
        assert set(examples(tmp_path / "out", split)) == {
            name for name, mine in zip(NAMES, splits, strict=True) if mine == split
        }
    assert metadata(tmp_path / "out")["split_method"]["source"] == "column split of labels.csv"


@pytest.mark.parametrize("split_by", ["cluster", "group"])
def test_groups_are_never_torn_apart(tmp_path, structures, split_by):
    """Rows of one group lie in one split, whether clusters are looked at or not."""
    csv = "file,label,group\n" + "".join(f"{name},1,g{number // 2}\n" for number, name in enumerate(NAMES))
    arguments = ("--split-by", split_by, "--split", "0.4,0.3,0.3")
    assert build(tmp_path, structures, csv, "protein", "regression", *arguments) == 0
    splits = [set(examples(tmp_path / "out", split)) for split in ("train", "validation", "test")]
    assert sorted(map(sorted, splits)) == [["p0", "p1"], ["p2", "p3"], ["p4", "p5"]]
    kind = {"cluster": "sequence clusters", "group": "groups"}[split_by]
    assert metadata(tmp_path / "out")["split_method"]["kind"] == kind


def test_relatives_stay_together_by_cluster_only(tmp_path):
    """Six copies of one chain are one cluster, so three splits cannot be made; by group they can."""
    sequence = random_sequence(np.random.default_rng(0), 40)
    for name in NAMES:
        write_pdb(tmp_path / "in" / f"{name}.pdb", chain_lines(sequence))
    csv = "file,label,group\n" + "".join(f"{name},1,{name}\n" for name in NAMES)
    assert build(tmp_path, tmp_path / "in", csv, "protein", "regression") == 1
    (tmp_path / "second").mkdir()
    by_group = ("--split-by", "group", "--split", "0.4,0.3,0.3")
    assert build(tmp_path / "second", tmp_path / "in", csv, "protein", "regression", *by_group) == 0
    assert [len(examples(tmp_path / "second" / "out", split)) for split in ("train", "validation", "test")] == [2, 2, 2]


@pytest.mark.parametrize(
    ("csv", "arguments", "message"),
    [
        ("file,label\np0,1\n", ["--split-by", "group"], "has no column group with a value"),
        ("file,label,split\np0,1,train\np1,1,\n", [], "line 3: no split, and other rows have one"),
        ("file,label,split,group\np0,1,train,g\np1,1,test,g\n", [], "line 3: group 'g' is in train and in test"),
        ("file,label\np9,1\n", [], "line 2: file 'p9' is not a structure file"),
        ("file,label\np0,1\n", ["--max-unmatched", "2"], "--max-unmatched is 2.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, structures, csv, arguments, message, capsys):
    """By line and name, before anything is written."""
    assert build(tmp_path, structures, csv, "protein", "binary", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_check_and_inspect_show_labels_of_proteins(tmp_path, structures, capsys):
    """The table says what the labels of each split are, a record what its own is."""
    csv = "file,label\np0,2\np1,4\n"
    assert build(tmp_path, structures, csv, "protein", "regression", "--split", "1,0,0") == 0
    assert check.main([str(tmp_path / "out"), "--alignment", "biopython"]) == 0
    assert "mean 3, SD 1, from 2 to 4" in capsys.readouterr().out
    assert inspect.main([str(tmp_path / "out"), "--split", "train", "--record", "0"]) == 0
    assert "protein_label: [" in capsys.readouterr().out
