"""`data_prep.build ppbs` and `bce` from ScanNet's label files."""

import numpy as np
import pytest

from data_prep.sources.scannet import Options, SiteEntry, read_entry
from tests.data_prep.sources.command import examples, metadata, report, run
from tests.data_prep.structures import chain_lines, random_sequence, write_pair, write_pdb

pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")


def label_lines(id, chain, sequence, positive=(3, 4), first_number=1):
    """Entry `id`: its residues, of which those of these numbers are positive."""
    rows = [
        f"{chain} {number} {letter} {int(number in positive)}"
        for number, letter in enumerate(sequence, start=first_number)
    ]
    return "\n".join([f">{id}", *rows, ""])


def write_labels(folder, splits):
    """``labels_SPLIT.txt`` of (id, chain, sequence) of each split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, entries in splits.items():
        (folder / f"labels_{split}.txt").write_text("".join(label_lines(*entry) for entry in entries))
    return folder


@pytest.fixture
def ppbs(tmp_path):
    """Six complexes of two chains, of which chain A has labels, in six official splits; one entry has no structure."""
    rng = np.random.default_rng(0)
    sequences = {f"{number}abc": (random_sequence(rng, 30), random_sequence(rng, 30)) for number in range(1, 7)}
    for pdb_id, pair in sequences.items():
        write_pair(tmp_path / "structures" / f"{pdb_id}.pdb", *pair)
    places = zip(sequences, ("train", "train", "validation_70", "test_70", "test_70", "test_none"), strict=True)
    splits = {}
    for pdb_id, split in places:
        splits.setdefault(split, []).append((f"{pdb_id}_0-A", "A", sequences[pdb_id][0]))
    splits["train"].append(("9abc_0-A", "A", "MKWYC"))
    folder = write_labels(tmp_path / "PPBS", splits)
    ids = [(entry[0], split) for split, entries in splits.items() for entry in entries]
    names = {
        "train": "Train",
        "validation_70": "Validation (70\\%)",
        "test_70": "Test (70\\%)",
        "test_none": "Test (none)",
    }
    rows = [f"{id},{names[split]},{0.25 + 0.05 * number}" for number, (id, split) in enumerate(ids)]
    (folder / "table.csv").write_text("\n".join(["PDB ID,Set,Sample weight", *rows]))
    return folder, tmp_path / "structures"


def test_the_official_split_and_its_parts(ppbs, tmp_path):
    """Train, validation and the union of the test sets; each test set is also to be read by its own name."""
    folder, structures = ppbs
    out = tmp_path / "out"
    assert run("ppbs", out, "--scannet", folder, "--structures", structures) == 0
    splits = {split: sorted(examples(out, split)) for split in metadata(out)["splits"]}
    assert splits == {
        "train": ["1abc_0-A", "2abc_0-A"],
        "validation": ["3abc_0-A"],
        "validation_70": ["3abc_0-A"],
        "test": ["4abc_0-A", "5abc_0-A", "6abc_0-A"],
        "test_70": ["4abc_0-A", "5abc_0-A"],
        "test_none": ["6abc_0-A"],
    }
    assert metadata(out)["subset_of"] == {"validation_70": "validation", "test_70": "test", "test_none": "test"}
    assert report(out)["without_structure"] == ["9abc_0-A"]
    example = examples(out)["2abc_0-A"]
    assert example.chain_ids == ("A",)
    assert example.residue_number[example.label == 1].tolist() == [3, 4]
    assert example.label_mask.sum() == 30
    assert example.weight == pytest.approx(0.30)


def test_another_split_can_stand_for_train(ppbs, tmp_path, capsys):
    """--train takes other official splits, which are then no part of validation, and says so in the metadata."""
    folder, structures = ppbs
    arguments = ("--scannet", folder, "--structures", structures)
    assert run("ppbs", tmp_path / "out", *arguments, "--train", "train,validation_70") == 0
    assert sorted(examples(tmp_path / "out", "train")) == ["1abc_0-A", "2abc_0-A", "3abc_0-A"]
    assert metadata(tmp_path / "out")["split_method"]["source"] == "ScanNet ppbs, train: train,validation_70"
    assert "validation: no record" in capsys.readouterr().out
    assert run("ppbs", tmp_path / "other", *arguments, "--train", "validation_none") == 1
    assert "no split 'validation_none'" in capsys.readouterr().err


def test_the_partner_changes_no_feature(ppbs, tmp_path):
    """Deleting the partner's atoms from the files gives the same records, byte for byte."""
    folder, structures = ppbs
    alone = tmp_path / "alone"
    for path in structures.iterdir():
        lines = [line for line in path.read_text().splitlines() if line[21:22] != "B"]
        (alone / path.name).parent.mkdir(exist_ok=True)
        (alone / path.name).write_text("\n".join([*lines, ""]))
    for name, source in (("with", structures), ("without", alone)):
        assert run("ppbs", tmp_path / name, "--scannet", folder, "--structures", source) == 0
    shards = sorted((tmp_path / "with").glob("records-*"))
    assert len(shards) == 3
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "without" / shard.name).read_bytes()


def test_labels_of_another_protein_are_refused(ppbs, tmp_path):
    """Where more labels than a tenth find no residue of their amino acid, the entry is left out with the reason."""
    folder, structures = ppbs
    write_pair(structures / "1abc.pdb", "G" * 30, "A" * 30)
    assert run("ppbs", tmp_path / "out", "--scannet", folder, "--structures", structures) == 0
    (problem,) = report(tmp_path / "out")["not_written"]
    assert (problem["item"], problem["what"]) == ("1abc_0-A", "labels_do_not_fit")
    assert "another amino acid" in problem["message"]
    assert "1abc_0-A" not in examples(tmp_path / "out")


def test_another_entry_is_matched_by_alignment(tmp_path):
    """A table says which chain of which file; shifted numbers are refused by number, and found by alignment."""
    sequence = random_sequence(np.random.default_rng(0), 30)
    write_pdb(tmp_path / "in" / "other.pdb", chain_lines(sequence, "C", first_number=101))
    folder = write_labels(tmp_path / "PPBS", {"train": [("1abc_0-A", "A", sequence)]})
    table = tmp_path / "table.csv"
    table.write_text("entry,label_chain,file,chain\n1abc_0-A,A,other.pdb,C\n")
    arguments = ("--scannet", folder, "--structures", tmp_path / "in", "--table", table)
    assert run("ppbs", tmp_path / "number", *arguments) == 1
    for match in ("alignment", "either"):
        assert run("ppbs", tmp_path / match, *arguments, "--match", match) == 0
        example = examples(tmp_path / match)["1abc_0-A"]
        assert example.residue_number[example.label == 1].tolist() == [103, 104]
        assert report(tmp_path / match)["counts"]["labels_matched"] == 30


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ((("A", "one.pdb", "A"), ("B", "two.pdb", "B")), "its chains lie in one.pdb and two.pdb"),
        ((("A", "one.pdb", "A"), ("A", "one.pdb", "A")), "it has copies of one chain"),
        ((("A", "one.pdb", "A"), ("B", "one.pdb", "A")), "its chains A, B are one chain of one.pdb"),
    ],
)
def test_chains_without_a_common_frame_are_refused(tmp_path, places, message):
    """Chains of several files, two copies of one chain, and two chains that are one: none has the entry's contacts."""
    from data_prep.formats.residues import MatchError, residue_labels

    entry = SiteEntry("x", "x", places, residue_labels([("A", 1, " ", "M", 1.0)]), 1.0)
    with pytest.raises(MatchError, match=message):
        read_entry(entry, Options(tmp_path, 1))


@pytest.fixture
def bce(tmp_path):
    """Three of five folds with four antigens each, the antibody in the file, and an ensemble of two models."""
    rng = np.random.default_rng(0)
    splits = {}
    for fold in (1, 2, 4):
        for number in range(4):
            pdb_id, sequence = f"{fold}ab{number}", random_sequence(rng, 30)
            write_pair(tmp_path / "structures" / f"{pdb_id}.pdb", sequence, random_sequence(rng, 30), chains="AH")
            splits.setdefault(f"fold{fold}", []).append((f"{pdb_id}_A", "A", sequence))
    splits["fold1"].append(splits["fold1"][0])
    return write_labels(tmp_path / "BCE", splits), tmp_path / "structures"


def test_one_command_cross_validates(bce, tmp_path, capsys):
    """A record set a fold: its entries are tested, those of the other folds are train and validation, none is lost."""
    folder, structures = bce
    out = tmp_path / "out"
    assert run("bce", out, "--scannet", folder, "--structures", structures) == 0
    assert sorted(path.name for path in out.iterdir()) == ["fold1", "fold2", "fold4", "report.json"]
    for fold in (1, 2, 4):
        mine = examples(out / f"fold{fold}")
        tested = examples(out / f"fold{fold}", "test")
        assert {id[0] for id in tested} == {str(fold)}
        assert {id[0] for id in mine if id not in tested} == {"1", "2", "4"} - {str(fold)}
        assert len(mine) == 13
        assert "1ab0_A.1" in mine
        assert examples(out / f"fold{fold}", "validation")
        assert all(example.chain_ids == ("A",) for example in mine.values())
    assert metadata(out / "fold1")["split_method"]["kind"] == "cross-validation"
    assert metadata(out / "fold1")["labels"]["names"] == ["epitope"]
    assert "share a sequence cluster with train" in capsys.readouterr().out
    assert run("bce", out, "--scannet", folder, "--structures", structures) == 1
    assert "fold1 holds a record set already" in capsys.readouterr().err


def test_one_fold_alone(bce, tmp_path, capsys):
    """--fold makes the one record set; a fold that is not there is refused with those that are."""
    folder, structures = bce
    arguments = ("--scannet", folder, "--structures", structures)
    assert run("bce", tmp_path / "out", *arguments, "--fold", 2) == 0
    assert {id[0] for id in examples(tmp_path / "out", "test")} == {"2"}
    assert run("bce", tmp_path / "none", *arguments, "--fold", 3) == 1
    assert "no record is of fold3; folds with records: fold1, fold2, fold4" in capsys.readouterr().err


def test_epitopes_of_ones_own_complexes(tmp_path, capsys):
    """bce of a list of complexes: the antigen gets a record with its contacts, the antibody none."""
    rng = np.random.default_rng(0)
    write_pair(tmp_path / "in" / "one.pdb", random_sequence(rng, 40), random_sequence(rng, 40), chains="GH")
    table = tmp_path / "complexes.csv"
    table.write_text("complex,partner,file,chains\none,antigen,one.pdb,G\none,antibody,one.pdb,H\n")
    arguments = ("--structures", tmp_path / "in", "--split", "1,0,0")
    assert run("bce", tmp_path / "out", *arguments, "--complexes", table) == 0
    ((id, example),) = examples(tmp_path / "out").items()
    assert (id, example.chain_ids) == ("one:antigen", ("G",))
    assert 0 < example.label.sum() < 40
    assert report(tmp_path / "out")["outcomes"] == {"written": 1, "unseen": 1}
    assert run("bce", tmp_path / "none", *arguments) == 1
    assert "bce needs --scannet FOLDER, or --complexes CSV" in capsys.readouterr().err
    assert run("bce", tmp_path / "none", *arguments, "--complexes", table, "--unseen", "Fab") == 1
    assert "--unseen Fab: no such partner" in capsys.readouterr().err


def test_labels_of_the_other_task_are_refused(bce, tmp_path, capsys):
    """Folds given to ppbs."""
    folder, structures = bce
    assert run("ppbs", tmp_path / "out", "--scannet", folder, "--structures", structures) == 1
    assert "holds labels of bce, not of ppbs" in capsys.readouterr().err


@pytest.mark.shared_data
def test_real_entries(shared_data, tmp_path):
    """Entries of the index find their residues, in their own PDB entry and in others; positives as it counts them."""
    rows = [line.split("\t") for line in (shared_data / "PPBS" / "index.tsv").read_text().splitlines()[1:]]
    places = {row[0]: row[5].split(":") for row in rows}
    whole = [id for id, place in places.items() if place[1].endswith(".pdb.gz") and float(place[3]) == 1]
    rows = [row for row in rows if row[0] in whole[::16]]
    table = tmp_path / "table.csv"
    lines = [f"{row[0]},{','.join(places[row[0]][:3])}\n" for row in rows]
    table.write_text("entry,label_chain,file,chain\n" + "".join(lines))
    arguments = ("--scannet", shared_data / "PPBS", "--structures", shared_data, "--table", table, "--match", "either")
    assert run("ppbs", tmp_path / "out", *arguments) == 0
    found = examples(tmp_path / "out")
    assert len(found) == len(rows) >= 5
    for row in rows:
        assert found[row[0]].label_mask.sum() == pytest.approx(int(row[3]), rel=0.05)
        assert found[row[0]].label.sum() == pytest.approx(int(row[4]), abs=2)
