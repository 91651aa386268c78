"""`data_prep.build ec`: React and DeepFRI, from files in the authors' layout."""

import numpy as np
import pytest

from data_prep.sources import ec
from tests.data_prep.formats.test_hermosilla import arrays_of, write_hdf5
from tests.data_prep.sources.command import examples, metadata, report, run, write_chains
from tests.data_prep.structures import chain_lines, random_sequence, write_pdb

pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")

CLASSES = ("3.4.21.4", "1.1.1.1", "3.4.9.1")


def write_react(folder, split_of, class_of):
    """The five lists of Hermosilla et al."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unique_functions.txt").write_text("\n".join(CLASSES))
    (folder / "chain_functions.txt").write_text("".join(f"{id},{number}\n" for id, number in class_of.items()))
    for name in ("training", "validation", "testing"):
        (folder / f"{name}.txt").write_text("".join(f"{id}\n" for id, split in split_of.items() if split == name))
    return folder


@pytest.fixture
def react(tmp_path):
    """Five chains in the lists: one in HDF5, one in a file of its chain, two in files of entries, one without file."""
    rng = np.random.default_rng(0)
    structures = tmp_path / "structures"
    structures.mkdir()
    (structures / "data").mkdir()
    write_hdf5(structures / "data" / "4fae.B.hdf5", arrays_of(random_sequence(rng, 30)))
    write_pdb(structures / "3o9d_A.pdb", chain_lines(random_sequence(rng, 30)))
    two = [chain_lines(random_sequence(rng, 30), chain, start=(0, y, 0)) for chain, y in (("A", 0), ("C", 5))]
    write_pdb(structures / "pdb2RKG.ent", *two)
    write_pdb(structures / "1xyz.pdb", chain_lines(random_sequence(rng, 30), "Q"))
    class_of = {"4fae.B": 0, "3o9d.A": 1, "2rkg.C": 2, "1xyz.Q": 0, "9abc.A": 1}
    split_of = dict.fromkeys(["4fae.B", "1xyz.Q", "9abc.A"], "training")
    split_of |= {"3o9d.A": "validation", "2rkg.C": "testing"}
    return structures, write_react(tmp_path / "react", split_of, class_of)


def test_react_with_its_split(react, tmp_path):
    """Chains of HDF5, chain and entry files have their class and split; the chain without a file is in the report."""
    structures, lists = react
    assert run("ec", tmp_path / "out", "--react", lists, "--structures", structures) == 0
    found = {split: examples(tmp_path / "out", split) for split in ("train", "validation", "test")}
    classes = {split: {id: one.protein_label.tolist() for id, one in mine.items()} for split, mine in found.items()}
    assert classes == {
        "train": {"4fae.B": [0], "1xyz.Q": [0]},
        "validation": {"3o9d.A": [1]},
        "test": {"2rkg.C": [2]},
    }
    assert found["test"]["2rkg.C"].chain_ids == ("C",)
    about = metadata(tmp_path / "out")
    assert about["labels"] == {"unit": "protein", "type": "multiclass", "names": list(CLASSES)}
    assert about["split_method"]["source"] == "React, Hermosilla et al. 2021"
    assert report(tmp_path / "out")["without_structure"] == ["9abc.A"]


def test_a_coarser_level(react, tmp_path):
    """At level 1 the classes are the first numbers, in rising order."""
    structures, lists = react
    assert run("ec", tmp_path / "out", "--react", lists, "--structures", structures, "--level", 1) == 0
    assert metadata(tmp_path / "out")["labels"]["names"] == ["1", "3"]
    labels = {id: one.protein_label.tolist() for id, one in examples(tmp_path / "out").items()}
    assert labels == {"4fae.B": [1], "1xyz.Q": [1], "3o9d.A": [0], "2rkg.C": [1]}


def test_levels_are_ordered_by_number():
    """3.4.9 comes before 3.4.21, groups after numbers; several classes of a chain may become one."""
    names = ("3.4.21.4", "3.4.9.1", "3.4.-.-", "3.4.21.5")
    kept, classes_of = ec.at_level(names, {"x": (0, 2, 3)}, 3)
    assert kept == ("3.4.9", "3.4.21", "3.4.-")
    assert classes_of == {"x": (1, 2)}


def test_a_new_split_shares_its_classes(tmp_path):
    """With --resplit every class of validation and test is in train, and the metadata says how it was made."""
    ids = [f"{number}abc.A" for number in range(1, 10)] + [f"{number}xyz.A" for number in range(1, 10)]
    write_chains(tmp_path / "structures", ids)
    # Class 2 occurs once: it can only be trained.
    class_of = {id: number % 2 for number, id in enumerate(ids)} | {ids[7]: 2}
    lists = write_react(tmp_path / "react", dict.fromkeys(ids, "testing"), class_of)
    split = ("--resplit", "--split", "0.5,0.25,0.25")
    assert run("ec", tmp_path / "out", "--react", lists, "--structures", tmp_path / "structures", *split) == 0
    classes = {
        split: {int(one.protein_label[0]) for one in examples(tmp_path / "out", split).values()}
        for split in ("train", "validation", "test")
    }
    assert classes["train"] == {0, 1, 2}
    assert classes["validation"] <= {0, 1}
    assert classes["test"] <= {0, 1}
    method = metadata(tmp_path / "out")["split_method"]
    assert method["kind"] == "sequence clusters, each class in train"


def test_deepfri_has_several_numbers_a_chain(tmp_path):
    """Multilabel 0 and 1, official split, and the test chains by identity as parts of the test split."""
    name = "nrPDB-EC_2020.04"
    (tmp_path / f"{name}_annot.tsv").write_text(
        "### EC-numbers\n1.1.1.-\t2.7.1.1\t3.4.21.-\n### PDB-chain\tEC-numbers\n"
        "1ABC-A\t3.4.21.-,1.1.1.-\n2ABC-A\t2.7.1.1\n3ABC-A\t2.7.1.1\n4ABC-A\t1.1.1.-\n"
    )
    for split, ids in (("train", ["1ABC-A"]), ("valid", ["2ABC-A"]), ("test", ["3ABC-A", "4ABC-A"])):
        (tmp_path / f"{name}_{split}.txt").write_text("".join(f"{id}\n" for id in ids))
    rows = "3ABC-A,0,0,1,1,1\n4ABC-A,0,0,0,1,1\n"
    (tmp_path / f"{name}_test.csv").write_text(f"PDB-chain,<30%,<40%,<50%,<70%,<95%\n{rows}")
    write_chains(tmp_path / "structures", ["1abc", "2abc", "3abc", "4abc"])
    out = tmp_path / "out"
    assert run("ec", out, "--deepfri", tmp_path, "--structures", tmp_path / "structures") == 0
    assert examples(out, "train")["1ABC-A"].protein_label.tolist() == [1, 0, 1]
    assert metadata(out)["labels"]["type"] == "multilabel"
    assert set(examples(out, "test")) == set(examples(out, "test_below_70")) == {"3ABC-A", "4ABC-A"}
    assert set(examples(out, "test_below_50")) == {"3ABC-A"}
    assert metadata(out)["subset_of"] == {f"test_below_{identity}": "test" for identity in (50, 70, 95)}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,file,chain\n4fae.B,none.pdb,B\n", "line 2: 'none.pdb' is not a file below --structures"),
        ("id,file,chain\n0abc.B,1xyz.pdb,B\n", "none of the 5 chains, such as 4fae.B, has a file"),
        ("id,file,chain\n4fae.B,1xyz.pdb,Q\n4fae.B,1xyz.pdb,B\n", "line 3: 4fae.B has another file in an earlier line"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(react, tmp_path, table, message, capsys):
    """The message has line and value, and nothing is written."""
    structures, lists = react
    (tmp_path / "table.csv").write_text(table)
    arguments = ("--react", lists, "--structures", structures, "--table", tmp_path / "table.csv")
    assert run("ec", tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.shared_data
def test_real_chains_of_react(shared_data, tmp_path):
    """Chains of the index have the residues and the class that it says."""
    rows = [line.split("\t") for line in (shared_data / "React" / "index.tsv").read_text().splitlines()[1:]]
    rows = [row for row in rows if row[4].endswith(".pdb.gz")][::25]
    table = tmp_path / "table.csv"
    table.write_text("id,file,chain\n" + "".join(f"{row[0]},{row[4]},{row[5]}\n" for row in rows))
    arguments = ("--react", shared_data / "React", "--structures", shared_data, "--table", table)
    assert run("ec", tmp_path / "out", *arguments, "--resplit", "--split", "1,0,0") == 0
    found = examples(tmp_path / "out")
    assert len(found) == len(rows) == 8
    names = metadata(tmp_path / "out")["labels"]["names"]
    for row in rows:
        example = found[row[0]]
        assert (int(example.protein_label[0]), names[int(example.protein_label[0])]) == (int(row[3]), row[2])
        assert example.backbone_mask[:, 1].sum() == pytest.approx(int(row[6]), abs=3)
