"""`data_prep.check`: planted duplicates, leaks and damage are found, counted and reported, and nothing else is."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bihf_jax.data.featurise import make_example
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import METADATA_FILE, RecordSet, write_index
from bihf_jax.protein import Protein
from data_prep import check, splits
from data_prep.facts import Row, chain_sequences, check_example, count_missing
from data_prep.leaks import count_repeats
from tests.data.record_sets import LABELS, rich_records, write_records
from tests.data_prep.structures import chain_lines, random_sequence

TOOLS = [
    "biopython",
    pytest.param("mmseqs", marks=pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 is not installed")),
]
NUMBER = Labels("protein", "regression", ("affinity",))


def protein(sequence, seed=0):
    return Protein.from_text("\n".join([*chain_lines(sequence, seed=seed), "END", ""]))


def moved(given):
    """The same structure in another frame."""
    positions = given.atom_positions @ Rotation.random(random_state=3).as_matrix().T + 7.0
    positions = np.where(given.atom_mask[..., None], positions, 0).astype(np.float32)
    return dataclasses.replace(given, atom_positions=positions)


def mutated(rng, sequence, identity):
    changed = rng.choice(len(sequence), size=round(len(sequence) * (1 - identity)), replace=False)
    letters = list(sequence)
    for place in changed:
        letters[place] = rng.choice([letter for letter in "ACDEFGHIKLMNPQRSTVWY" if letter != letters[place]])
    return "".join(letters)


def example(given, name, label):
    return make_example(given, id=name, group=name, protein_label=label)


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """Two proteins to train on; held-out ones of every degree of relation to the first, and one of none."""
    rng = np.random.default_rng(0)
    first, second = random_sequence(rng, 120), random_sequence(rng, 90)
    train = [example(protein(first), "first", [1.0]), example(protein(second), "second", [2.0])]
    test = [
        example(moved(protein(first)), "same_structure", [1.0]),
        example(protein(first, seed=9), "same_sequence", [3.0]),
        example(protein(mutated(rng, first, 0.975)), "near", [1.0]),
        example(protein(mutated(rng, second, 0.975)), "near_unlabelled", []),
        example(protein(mutated(rng, first, 0.5)), "related", [1.0]),
        example(protein(random_sequence(rng, 100)), "unrelated", [1.0]),
    ]
    folder = tmp_path_factory.mktemp("leaking") / "records"
    return write_records(folder, {"train": train, "test": test}, NUMBER)


def run(records, out, *arguments, tool="biopython"):
    return check.main([str(x) for x in (records, "--out", out, "--alignment", tool, "--workers", 1, *arguments)])


def read_report(out):
    return json.loads((out / check.REPORT_FILE).read_text())


@pytest.mark.parametrize("tool", TOOLS)
def test_each_relation_is_counted_once_and_named(leaking, tmp_path, tool):
    """Same structure in another frame, same sequence, near-identical, related: each counts in its own column."""
    assert run(leaking, tmp_path, tool=tool) == 0
    (overlap,) = read_report(tmp_path)["overlaps"]
    assert (overlap["split"], overlap["among"], overlap["records"]) == ("test", "train", 6)
    names = ("same_structure", "same_sequence", "near_identical", "related", "label_leaks")
    assert [overlap[name] for name in names] == [1, 2, 4, 5, 3]
    relatives = {relative["id"]: relative for relative in overlap["relatives"]}
    assert {name: relative["other"] for name, relative in relatives.items()} == {
        **dict.fromkeys(("same_structure", "same_sequence", "near", "related"), "first"),
        "near_unlabelled": "second",
    }
    assert relatives["near"]["identity"] == pytest.approx(0.975, abs=0.01)
    assert relatives["related"]["identity"] == pytest.approx(0.5, abs=0.1)
    assert [relatives[name]["equal_labels"] for name in ("same_structure", "same_sequence", "near")] == [1, 0, 1]
    assert relatives["near_unlabelled"]["equal_labels"] is None
    assert overlap["equal_labels"] == pytest.approx(2 / 3)


def test_leaks_end_with_their_exit_code_only_where_asked(leaking, tmp_path, capsys):
    """5 of 6 held-out records have a relative."""
    assert run(leaking, tmp_path, "--fail-above", "0.84") == 0
    assert run(leaking, tmp_path, "--fail-above", "0.5") == check.LEAKS_EXIT_CODE
    assert "83.3% of test has a relative in train" in capsys.readouterr().err
    assert run(leaking, tmp_path, "--fail-above", "1.5") == 1
    assert "--fail-above is 1.5" in capsys.readouterr().err


def test_too_many_for_the_fallback_still_finds_equal_sequences(leaking, tmp_path, monkeypatch, capsys):
    """The report says that relatives were not looked for, and such a set does not pass."""
    monkeypatch.setattr(splits, "MAX_FALLBACK_CHAINS", 3)
    assert run(leaking, tmp_path, "--fail-above", "0.9") == check.LEAKS_EXIT_CODE
    (overlap,) = read_report(tmp_path)["overlaps"]
    assert "install MMseqs2" in overlap["not_searched"]
    assert (overlap["same_sequence"], overlap["related"]) == (2, 2)
    assert "not searched" in capsys.readouterr().out


def test_labels_of_residues_are_compared_one_by_one(tmp_path):
    """A quarter of the labels of a shared chain differ; masked residues do not count."""
    given = protein(random_sequence(np.random.default_rng(1), 40))
    label, mask = np.arange(40) % 2, np.arange(40) < 20
    other = np.where(np.arange(40) % 4 == 0, 1 - label, label)
    train = make_example(given, id="a", group="a", label=label, label_mask=mask)
    test = make_example(given, id="b", group="b", label=other)
    records = write_records(tmp_path / "records", {"train": [train], "test": [test]}, Labels())
    assert run(records, tmp_path) == 0
    (overlap,) = read_report(tmp_path)["overlaps"]
    assert overlap["equal_labels"] == pytest.approx(0.75)


def test_parts_of_a_split_have_rows_of_their_own(leaking, tmp_path, capsys):
    """A named part counts its own records, as the whole split does."""
    records = shutil.copytree(leaking, tmp_path / "records")
    metadata = json.loads((records / METADATA_FILE).read_text())
    shards = [path.name for path in records.glob("records-test*")]
    metadata["splits"]["test_near"] = write_index(records, "test_near", shards, NUMBER, {"near", "unrelated"})
    metadata["subset_of"] = {"test_near": "test"}
    (records / METADATA_FILE).write_text(json.dumps(metadata))
    assert run(records, tmp_path) == 0
    report = read_report(tmp_path)
    assert set(report["splits"]) == {"train", "test"}
    part = report["overlaps"][1]
    assert (part["split"], part["records"], part["related"], part["near_identical"]) == ("test_near", 2, 1, 1)


def test_missing_atoms_are_counted_by_what_they_are_missing_from():
    """Of five residues one has no atoms, one no C, one no CD; a glycine has no side chain to miss."""
    text = "\n".join(
        f"ATOM  {index:5d}  {name:<3s} {residue} A{number:4d}    {number * 3.8:8.3f}{place * 1.3:8.3f}{place % 2:8.3f}"
        f"  1.00 10.00          {name[0]:>2s}"
        for index, (number, residue, place, name) in enumerate(
            (number, residue, place, name)
            for number, (residue, names) in enumerate(
                [
                    ("GLY", "N CA C O"),
                    ("SER", "N CA C O CB OG"),
                    ("SER", "N CA O CB OG"),
                    ("GLN", "N CA C O CB CG NE2 OE1"),
                ],
                start=1,
            )
            for place, name in enumerate(names.split())
        )
    )
    sequence = "SEQRES   1 A    5  GLY SER SER GLN SER"
    given = example(Protein.from_text(f"{sequence}\n{text}\nTER\nEND\n"), "a", [])
    assert count_missing(given) == {"residues": 5, "no_coordinates": 1, "main_chain": 1, "side_chain": 1}
    assert chain_sequences(given) == ("GSSQS",)


def test_repeats_are_told_apart_by_group():
    """Models of one target have one sequence; the same sequence in another group is a duplicate."""
    rows = [("a", ("MK", "L")), ("a", ("L", "MK")), ("b", ("MK", "L")), ("b", ("MK",)), ("a", ("MK", "L"))]
    assert count_repeats([Row(0, "", group, chains, True) for group, chains in rows]) == (3, 1)


def test_damaged_records_are_named_and_the_rest_is_checked(leaking, tmp_path, capsys):
    """A flipped byte ends with exit code 1; the other records are still compared."""
    records = shutil.copytree(leaking, tmp_path / "records")
    shard = next(records.glob("records-test*"))
    content = bytearray(shard.read_bytes())
    content[200] ^= 1
    shard.write_bytes(content)
    assert run(records, tmp_path) == 1
    assert f"test, damaged: record 0 of {shard}" in capsys.readouterr().out
    report = read_report(tmp_path)
    assert len(report["splits"]["test"]["damaged"]) == 1
    assert report["overlaps"][0]["same_sequence"] == 1
    assert run(tmp_path / "nothing", tmp_path) == 1


def test_examples_that_contradict_themselves_are_found(leaking):
    """A neighbour outside the example, NaN, and a labelled special token are found although checksums agree."""
    given = RecordSet(leaking, "train")[0]
    check_example(given)
    offset, label_mask = given.neighbour_offset.copy(), given.label_mask.copy()
    offset[1, 0], label_mask[0] = -5, True
    faults = {
        "outside the example": {"neighbour_offset": offset},
        "NaN": {"torsions": np.full_like(given.torsions, np.nan)},
        "special token has a label": {"label_mask": label_mask},
    }
    for message, change in faults.items():
        with pytest.raises(ValueError, match=message):
            check_example(dataclasses.replace(given, **change))


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_type_are_drawn_and_counted(tmp_path, kind):
    """The page holds the picture and the tables, and loads nothing; classes are counted as the records have them."""
    records = rich_records(tmp_path / "records", kind, train=8, rest=4)
    assert run(records, tmp_path) == 0
    assert (tmp_path / check.PICTURE_FILE).read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / check.PAGE_FILE).read_text("utf-8")
    assert "data:image/png;base64," in text
    assert text.count("<table>") == 2
    assert "://" not in text
    split = read_report(tmp_path)["splits"]["train"]
    labels = np.concatenate([item.protein_label for item in RecordSet(records, "train")])
    assert split["labels"] == 8
    if kind in ("binary", "multilabel"):
        assert sum(split["times"].values()) == labels.sum()
    elif kind == "multiclass":
        assert list(split["times"].values()) == np.bincount(labels.astype(int), minlength=3).tolist()
