"""ScanNet's label files and table."""

import csv
import gzip
from collections import Counter

import pytest

from bihf_jax.protein import Protein
from data_prep.formats import scannet
from data_prep.formats.residues import MatchError, match_by_alignment, match_by_number
from data_prep.formats.text import FormatError

LABELS = ">1abc_0-A\nA -3 M 0\nA 60A W 1\n>2abc_0-B+1-B\nB 1 A 1\n"
TABLE = ',PDB ID,Length,Set,Sample weight\n0,1abc_0-A,2,"Test (70\\%)",0.5\n1,2abc_0-B+1-B,1,Test (70\\%),0.25\n'


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_entries_have_their_labels_and_weights(tmp_path):
    """Negative numbers, insertion codes, models and weights are read; official splits that are absent are named."""
    write(tmp_path, labels_test_70=LABELS)
    (tmp_path / "table.csv").write_text(TABLE)
    data = scannet.read_data_set(tmp_path)
    first, second = data.entries
    assert (first.id, first.split, first.weight, first.copy) == ("1abc_0-A", "test_70", 0.5, 0)
    assert (first.pdb_id, first.chains) == ("1abc", ((0, "A"),))
    assert first.labels.residue_number.tolist() == [-3, 60]
    assert first.labels.insertion_code.tolist() == [" ", "A"]
    assert first.labels.amino_acid.tolist() == ["M", "W"]
    assert first.labels.label.tolist() == [0.0, 1.0]
    assert (second.chains, second.weight) == (((0, "B"), (1, "B")), 0.25)
    assert (data.task, data.has_weights) == ("ppbs", True)
    assert set(data.missing) == set(scannet.PPBS_SPLITS) - {"test_70"}


def test_the_test_set_is_the_union_of_four(tmp_path):
    """`test` joins the test sets, `split` any splits; a split that is not there is an error that lists the others."""
    for number, split in enumerate(scannet.PPBS_TEST):
        write(tmp_path, **{f"labels_{split}": f">{number}abc_A\nA 1 M 0\n"})
    write(tmp_path, labels_train=">9abc_A\nA 1 M 1\n")
    data = scannet.read_data_set(tmp_path)
    assert [entry.pdb_id for entry in data.test()] == ["0abc", "1abc", "2abc", "3abc"]
    assert [entry.pdb_id for entry in data.split("train")] == ["9abc"]
    assert {entry.weight for entry in data.entries} == {1.0}
    assert not data.has_weights
    with pytest.raises(FormatError, match=r"no split 'validation_70' .*; splits: train, test_70"):
        data.split("validation_70")


def test_each_fold_is_left_out_once(tmp_path):
    """The training entries of a fold are those of the other four."""
    for number in range(1, 6):
        write(tmp_path, **{f"labels_fold{number}": f">{number}abc_AB\nA 1 M 0\nB 1 M 1\n"})
    data = scannet.read_data_set(tmp_path)
    assert (data.task, data.missing) == ("bce", ())
    for fold in scannet.BCE_FOLDS:
        training, test = data.leave_out(fold)
        assert {entry.split for entry in test} == {fold}
        assert {entry.split for entry in training} == set(scannet.BCE_FOLDS) - {fold}


def test_models_of_one_ensemble_are_copies(tmp_path):
    """An id that occurs twice gives two entries, told apart by `copy`; rows of the table that agree are one weight."""
    write(tmp_path, labels_fold1=">2kh2_A\nA 1 M 0\n>2kh2_A\nA 1 M 1\n")
    table = tmp_path / "table.csv"
    table.write_text("PDB ID,Set,Sample weight\n2kh2_A,Fold 1,0.1\n2kh2_A,Fold 1,0.1\n")
    entries = scannet.read_data_set(tmp_path).entries
    assert [(entry.copy, entry.weight, entry.labels.label[0]) for entry in entries] == [(0, 0.1, 0.0), (1, 0.1, 1.0)]
    table.write_text("PDB ID,Set,Sample weight\n2kh2_A,Fold 1,0.1\n2kh2_A,Fold 1,0.2\n")
    with pytest.raises(FormatError, match="line 3: 2kh2_A has another weight in an earlier line"):
        scannet.read_data_set(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">1abc_0-A\nA 1 M 2\n", "line 2: expected 'chain residue amino_acid 0|1', got 'A 1 M 2'"),
        (">1abc_0-A\nA 1 M\n", "line 2: expected"),
        ("A 1 M 0\n", "line 1: expected a line >id first"),
        (">1abc\nA 1 M 0\n", "line 1: entry '>1abc'; expected >PDB_CHAINS"),
        (">1abc_A\n>2abc_A\nA 1 M 0\n", "line 1: entry 1abc_A has no label"),
    ],
)
def test_lines_that_are_not_in_the_format_are_named(tmp_path, text, message):
    """The message has file, line and what is expected."""
    write(tmp_path, labels_fold1=text)
    with pytest.raises(FormatError) as error:
        scannet.read_data_set(tmp_path)
    assert f"labels_fold1.txt, {message}" in str(error.value)


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    """No label file, an unknown split, both data sets at once, a split twice: each is an error that says so."""
    with pytest.raises(FormatError, match=r"no file labels_SPLIT.txt .*; splits: train"):
        scannet.read_data_set(tmp_path)
    write(tmp_path, labels_fold1=LABELS)
    (tmp_path / "labels_fold1.subset.txt.gz").write_bytes(gzip.compress(LABELS.encode()))
    with pytest.raises(FormatError, match="are both of split fold1"):
        scannet.read_data_set(tmp_path)
    (tmp_path / "labels_fold1.subset.txt.gz").unlink()
    write(tmp_path, labels_train=LABELS)
    with pytest.raises(FormatError, match="are of two data sets"):
        scannet.read_data_set(tmp_path)
    write(tmp_path, labels_fold9=LABELS)
    with pytest.raises(FormatError, match="no split 'fold9'"):
        scannet.read_data_set(tmp_path)


def test_weights_must_be_those_of_the_entries(tmp_path):
    """An entry without a row, an unknown set and a weight that is none are errors; the table can be left aside."""
    write(tmp_path, labels_test_70=LABELS)
    table = tmp_path / "table.csv"
    for text, message in (
        (TABLE.replace("2abc", "3abc"), r"no row for 1 of 2 entries, such as 2abc_0-B\+1-B"),
        (TABLE.replace("Test", "Tset"), "line 2: unknown Set 'Tset"),
        (TABLE.replace("0.25", "-1"), "line 3: Sample weight -1.0; it must be positive"),
        (TABLE.replace("0.25", "x"), "line 3: Sample weight 'x' is not a number"),
        (TABLE.replace("Set", "Fold"), "column Set is missing"),
    ):
        table.write_text(text)
        with pytest.raises(FormatError, match=message):
            scannet.read_data_set(tmp_path)
        assert len(scannet.read_data_set(tmp_path, weights=False).entries) == 2


@pytest.mark.shared_data
def test_the_published_files_are_read_whole(shared_data):
    """Entries and labels of the real files as counted by lines; every BCE entry has the weight of its fold."""
    for folder, task, entries in (("PPBS", "ppbs", 230), ("BCE", "bce", 786)):
        data = scannet.read_data_set(shared_data / folder)
        files = (shared_data / folder).glob("labels_*")
        lines = [line for path in files for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        assert (data.task, len(data.entries)) == (task, entries)
        assert sum(len(entry.labels) for entry in data.entries) == len(lines) - entries
        positives = sum(entry.labels.label.sum() for entry in data.entries)
        assert positives == sum(line.endswith(" 1") and not line.startswith(">") for line in lines)
    assert data.has_weights
    assert all(0 < entry.weight <= 1 for entry in data.entries)


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["PPBS", "BCE"])
def test_labels_find_their_residues_in_real_structures(shared_data, folder):
    """Chains of the same entry are placed by number, all but a hundredth of their labels; others by alignment."""
    entries = {entry.id: entry for entry in scannet.read_data_set(shared_data / folder).entries}
    with (shared_data / folder / "index.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    counts: Counter[tuple[str, str]] = Counter()
    for kind, match_by in (("same_pdb", match_by_number), ("same_sequence", match_by_alignment)):
        places = [
            (row["key"], row["label_chain:struct_file:struct_chain:coverage"]) for row in rows if row["match"] == kind
        ]
        places = [place for place in places if place[1].count(":") == 3 and ".pdb.gz:" in place[1]]
        assert len(places) >= 40
        for key, place in places[:: len(places) // 10]:
            label_chain, path, chain, _ = place.split(":")
            protein = Protein.from_file(shared_data / path)
            try:
                match = match_by(entries[key].labels, protein, chains={label_chain: chain.strip()})
            except MatchError:
                counts[kind, "refused"] += 1
                continue
            counts[kind, "placed"] += 1
            counts[kind, "matched"] += match.matched
            counts[kind, "unmatched"] += match.missing + match.mismatched
            assert match.known.sum() == match.matched
    assert counts["same_pdb", "refused"] == 0
    assert counts["same_pdb", "unmatched"] <= 0.01 * counts["same_pdb", "matched"]
    assert counts["same_sequence", "refused"] <= 1
    assert counts["same_sequence", "unmatched"] <= 0.05 * counts["same_sequence", "matched"]
