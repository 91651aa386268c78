"""`data_prep.build` from files to a record set, and what `check` and `inspect` say of it: every file accounted for."""

import csv
import importlib.util
import json
import multiprocessing
import os
import shutil

import numpy as np
import pytest

from bihf_jax.data.records import RecordSet, decode_example
from data_prep import build, check, inspect, pipeline
from data_prep.sources import complexes
from data_prep.sources.complexes import Complex, LabelRow, Options, Part, read_complex
from tests.data_prep.structures import chain_lines, random_sequence, write_pair, write_pdb

pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")


def run_build(structures, out, *arguments, workers=1):
    """The exit code of the command, with one worker and the alignment tool that is always there."""
    fixed = ["ppbs", "--structures", structures, "--out", out, "--workers", workers, "--alignment", "biopython"]
    return build.main([str(argument) for argument in (*fixed, *arguments)])


def read_report(out):
    return json.loads((out / build.REPORT_FILE).read_text())


def read_examples(out):
    """Id -> example over all splits."""
    splits = json.loads((out / "metadata.json").read_text())["splits"]
    return {example.id: example for split in splits for example in RecordSet(out, split)}


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    """Six unrelated complexes and one of each kind of file that gives nothing."""
    folder = tmp_path_factory.mktemp("structures")
    rng = np.random.default_rng(0)
    for number in range(6):
        write_pair(folder / f"good{number}.pdb", random_sequence(rng, 40), random_sequence(rng, 50))
    same = random_sequence(rng, 40)
    write_pair(folder / "dimer.pdb", same, same)
    write_pair(folder / "peptide.pdb", random_sequence(rng, 45), random_sequence(rng, 12))
    write_pair(folder / "apart.pdb", random_sequence(rng, 40), random_sequence(rng, 40), gap=80.0)
    write_pdb(folder / "single.pdb", chain_lines(random_sequence(rng, 40)))
    (folder / "broken.pdb").write_text("ATOM  nonsense\n")
    (folder / "empty.cif").write_text("")
    (folder / "notes.txt").write_text("not a structure")
    (folder / "below").mkdir()
    write_pair(folder / "below" / "deep.pdb", random_sequence(rng, 40), random_sequence(rng, 40))
    return folder


@pytest.fixture(scope="module")
def built(structures, tmp_path_factory):
    """The record set of `structures`, read by two processes."""
    out = tmp_path_factory.mktemp("built")
    assert run_build(structures, out, "--split", "0.6,0.2,0.2", workers=2) == 0
    return out


def test_every_file_has_its_outcome(structures, built):
    """The report names each file below the folder once, with what became of its partners, and why."""
    report = read_report(built)
    written = {"written": 2}
    assert report["files"] == {
        **{f"good{number}.pdb": written for number in range(6)},
        "below/deep.pdb": written,
        "dimer.pdb": {"written": 1, "copy": 1},
        "peptide.pdb": {"written": 1, "too_short": 1},
        "apart.pdb": {"no_contact": 2},
        "single.pdb": {"no_partner": 1},
        "broken.pdb": {"unreadable": 1},
        "empty.cif": {"unreadable": 1},
        "notes.txt": {"not_a_structure": 1},
    }
    assert report["outcomes"]["written"] == len(read_examples(built)) == 16
    messages = {problem["item"]: problem["message"] for problem in report["not_written"]}
    assert "broken.pdb" in messages["broken"]
    assert "empty" in messages["empty"]


def test_the_labels_are_the_contacts(structures, built):
    """Labels equal an all-pairs search for heavy atoms within 4 Å of the other chain, in the file's own coordinates."""
    atoms = {"A": {}, "B": {}}
    for line in (structures / "good0.pdb").read_text().splitlines():
        if line.startswith("ATOM"):
            xyz = [float(line[start : start + 8]) for start in (30, 38, 46)]
            atoms[line[21]].setdefault(int(line[22:26]), []).append(xyz)
    examples = read_examples(built)
    for chain, other in ("AB", "BA"):
        others = np.array([xyz for residue in atoms[other].values() for xyz in residue])
        example = examples[f"good0:{chain}"]
        for number, residue in atoms[chain].items():
            slot = int(np.flatnonzero(example.residue_number == number)[0])
            distance = np.linalg.norm(np.array(residue)[:, None] - others[None], axis=-1).min()
            assert example.label_mask[slot]
            assert example.label[slot] == (distance <= 4.0)
        assert 0 < example.label.sum() < len(atoms[chain])


def test_a_short_partner_still_makes_labels(built):
    """The 12-residue peptide has no record, and the residues that it touches are positive."""
    examples = read_examples(built)
    assert "peptide:B" not in examples
    assert examples["peptide:A"].label.sum() >= 5


def test_groups_and_clusters_are_whole(built):
    """All records of a complex lie in one split, as the report says."""
    report = read_report(built)["groups"]
    for split in ("train", "validation", "test"):
        for example in RecordSet(built, split):
            assert report[example.group]["split"] == split
    assert sum(entry["records"] for entry in report.values()) == 16


def test_a_published_split_is_kept(structures, built, tmp_path, capsys):
    names = sorted(read_report(built)["groups"])
    wanted = {name: ("train", "validation", "test")[number % 3] for number, name in enumerate(names)}
    path = tmp_path / "split.csv"
    path.write_text("complex,split\n" + "".join(f"{name},{split}\n" for name, split in wanted.items()))
    assert run_build(structures, tmp_path / "out", "--split-file", path) == 0
    report = read_report(tmp_path / "out")["groups"]
    assert {name: entry["split"] for name, entry in report.items()} == wanted
    assert "test: 0 of 3 share a sequence cluster with train" in capsys.readouterr().out
    method = json.loads((tmp_path / "out" / "metadata.json").read_text())["split_method"]
    assert method["source"] == "file split.csv"


def test_the_number_of_workers_changes_nothing(structures, built, tmp_path):
    """One process in place of two gives the same files byte by byte."""
    assert run_build(structures, tmp_path / "out", "--split", "0.6,0.2,0.2") == 0
    names = sorted(path.name for path in built.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        if not name.endswith(".npz"):  # a zip file holds the time
            assert (tmp_path / "out" / name).read_bytes() == (built / name).read_bytes(), name


def test_copies_are_kept_when_asked(structures, tmp_path):
    """--keep-copies writes both chains of a homodimer."""
    (tmp_path / "in").mkdir()
    shutil.copy(structures / "dimer.pdb", tmp_path / "in")
    assert run_build(tmp_path / "in", tmp_path / "out", "--keep-copies", "--split", "1,0,0") == 0
    assert sorted(read_examples(tmp_path / "out")) == ["dimer:A", "dimer:B"]


def test_nothing_left_is_an_error_with_a_report(structures, tmp_path, capsys):
    """Where no partner gets a record the exit code is 1, the message points to the report, and the report is there."""
    (tmp_path / "in").mkdir()
    shutil.copy(structures / "single.pdb", tmp_path / "in")
    assert run_build(tmp_path / "in", tmp_path / "out") == 1
    assert "no record is left of 1 complexes" in capsys.readouterr().err
    assert read_report(tmp_path / "out")["outcomes"] == {"no_partner": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [build.CACHE_FOLDER, build.REPORT_FILE]


def write_csv(path, header, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_complexes_csv_makes_partners_of_chains_and_files(tmp_path):
    """Antibody H + L against antigen A, and a partner in two files: contacts inside a partner are no interface."""
    rng = np.random.default_rng(1)
    sequences = [random_sequence(rng, 40) for _ in range(3)]
    # H and L touch each other along their length; A touches only L.
    lines = [
        chain_lines(s, c, start=(0, 5 * i, 0), seed=i) for i, (s, c) in enumerate(zip(sequences, "HLA", strict=True))
    ]
    write_pdb(tmp_path / "in" / "whole.pdb", *lines)
    write_pdb(tmp_path / "in" / "heavy.pdb", lines[0])
    write_pdb(tmp_path / "in" / "rest.pdb", lines[1], lines[2])
    write_pdb(tmp_path / "in" / "unused.pdb", lines[1])
    table = write_csv(
        tmp_path / "complexes.csv",
        "complex,partner,file,chains",
        ("one", "antibody", "whole.pdb", "H+L"),
        ("one", "antigen", "whole.pdb", "A"),
        ("two", "antibody", "heavy.pdb", ""),
        ("two", "antibody", "rest.pdb", "L"),
        ("two", "antigen", "rest.pdb", "A"),
    )
    assert run_build(tmp_path / "in", tmp_path / "out", "--complexes", table, "--split", "1,0,0") == 0
    examples = read_examples(tmp_path / "out")
    assert sorted(examples) == ["one:antibody", "one:antigen", "two:antibody", "two:antigen"]
    one, two = examples["one:antibody"], examples["two:antibody"]
    assert (one.chain_ids, two.chain_ids) == (("H", "L"), ("H", "L"))
    assert (one.source, two.source) == ("whole.pdb", "heavy.pdb+rest.pdb")
    assert one.label[one.chain_segment == 1].sum() == 0
    assert one.label[one.chain_segment == 2].sum() > 0
    np.testing.assert_array_equal(one.label, two.label)
    np.testing.assert_array_equal(one.neighbour_offset, two.neighbour_offset)
    assert read_report(tmp_path / "out")["files"]["unused.pdb"] == {"not_selected": 1}


def test_db5_layout_pairs_the_bound_files(tmp_path):
    """ID_l_b and ID_r_b are the partners of ID; unbound files are counted as not selected."""
    rng = np.random.default_rng(2)
    for name in ("1AAA", "2BBB"):
        for side, start in (("l", 0), ("r", 5)):
            lines = chain_lines(random_sequence(rng, 40), start=(0, start, 0), seed=start)
            write_pdb(tmp_path / "in" / f"{name}_{side}_b.pdb", lines)
            write_pdb(tmp_path / "in" / f"{name}_{side}_u.pdb", lines)
    assert run_build(tmp_path / "in", tmp_path / "out", "--layout", "db5", "--split", "1,0,0") == 0
    assert sorted(read_examples(tmp_path / "out")) == ["1AAA:l", "1AAA:r", "2BBB:l", "2BBB:r"]
    assert read_report(tmp_path / "out")["files"]["1AAA_l_u.pdb"] == {"not_selected": 1}


def test_one_bad_partner_costs_its_complex_only(tmp_path):
    """In a complex of two files the unreadable one is named, the other is incomplete, other complexes are written."""
    rng = np.random.default_rng(3)
    for name in ("1AAA", "2BBB"):
        for side, start in (("l", 0), ("r", 5)):
            lines = chain_lines(random_sequence(rng, 40), start=(0, start, 0), seed=start)
            write_pdb(tmp_path / "in" / f"{name}_{side}_b.pdb", lines)
    (tmp_path / "in" / "2BBB_r_b.pdb").write_bytes(b"\x00\x01\x02" * 100)
    assert run_build(tmp_path / "in", tmp_path / "out", "--layout", "db5", "--split", "1,0,0") == 0
    files = read_report(tmp_path / "out")["files"]
    assert files["2BBB_r_b.pdb"] == {"unreadable": 1}
    assert files["2BBB_l_b.pdb"] == {"complex_incomplete": 1}
    assert sorted(read_examples(tmp_path / "out")) == ["1AAA:l", "1AAA:r"]


LABEL_COLUMNS = "file,chain,residue_number,insertion_code,label"


def test_given_labels_replace_contacts(structures, tmp_path):
    """Residues named in the label file carry its labels, all others are masked, partners without one are left out."""
    (tmp_path / "in").mkdir()
    shutil.copy(structures / "single.pdb", tmp_path / "in")
    shutil.copy(structures / "good0.pdb", tmp_path / "in")
    labels = write_csv(
        tmp_path / "labels.csv",
        LABEL_COLUMNS,
        ("single.pdb", "A", 3, "", 1),
        ("single.pdb", "A", 7, "", 0),
        ("good0.pdb", "B", 10, "", 1),
    )
    assert run_build(tmp_path / "in", tmp_path / "out", "--labels", labels, "--split", "1,0,0") == 0
    examples = read_examples(tmp_path / "out")
    assert sorted(examples) == ["good0:B", "single:A"]
    single = examples["single:A"]
    assert single.residue_number[single.label_mask].tolist() == [3, 7]
    assert single.label[single.label_mask].tolist() == [1, 0]
    report = read_report(tmp_path / "out")
    assert report["outcomes"]["no_labels"] == 1
    assert (report["labels_given"], report["counts"]) == (3, {"labels_in_records": 3, "labels_without_coordinates": 0})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("single.pdb", "A", 99, "", 1),
            r"label line 2: no residue 'A 99' in single.pdb; chain 'A' has residues 1 to 40",
        ),
        (("single.pdb", "A", 3, "C", 1), r"no residue 'A 3C'"),
        (("single.pdb", "Z", 3, "", 1), r"no residue 'Z 3' in single.pdb; chains: A"),
    ],
)
def test_labels_of_unknown_residues_are_refused(structures, tmp_path, row, message, capsys):
    """A label for a residue, insertion code or chain that the file lacks refuses the complex, with the line."""
    (tmp_path / "in").mkdir()
    shutil.copy(structures / "single.pdb", tmp_path / "in")
    labels = write_csv(tmp_path / "labels.csv", LABEL_COLUMNS, row)
    assert run_build(tmp_path / "in", tmp_path / "out", "--labels", labels) == 1
    (problem,) = read_report(tmp_path / "out")["not_written"]
    assert problem["what"] == "labels_do_not_fit"
    assert message in problem["message"]
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "file,chain,label\n",
            "column residue_number, insertion_code is missing; the first line has file, chain, label",
        ),
        (f"{LABEL_COLUMNS}\n", "no label in it"),
        (f"{LABEL_COLUMNS}\nother.pdb,A,1,,1\n", "line 2: 'other.pdb' is not a structure file"),
        (f"{LABEL_COLUMNS}\nsingle.pdb,A,one,,1\n", "line 2: invalid literal"),
        (f"{LABEL_COLUMNS}\nsingle.pdb,A,1,,2\n", "line 2: label 2; it must be 0 or 1"),
        (f"{LABEL_COLUMNS}\nsingle.pdb,A,1,,nan\n", "line 2: label nan; it must be 0 or 1"),
        (f"{LABEL_COLUMNS}\nsingle.pdb,A,1,,1\nsingle.pdb,A,1,,0\n", "line 3: this residue has a label in line 2"),
    ],
)
def test_bad_label_files_are_refused_before_reading(structures, tmp_path, content, message, capsys):
    """A label file that cannot be meant is refused with line and reason, and nothing is written."""
    (tmp_path / "labels.csv").write_text(content)
    assert run_build(structures, tmp_path / "out", "--labels", tmp_path / "labels.csv") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "0.8,0.1"], "three numbers"),
        (["--split", "a,b,c"], "three numbers"),
        (["--cutoff", "0"], "--cutoff is 0.0"),
        (["--identity", "30"], "identity is 30.0; it must lie in [0, 1]"),
        (["--workers", "0"], "--workers is 0"),
        (["--min-residues", "0"], "--min-residues is 0"),
        (["--shards", "0"], "--shards is 0"),
        (["--resplit", "--split-file", "split.csv"], "--resplit and --split-file are several answers"),
        (["--layout", "db5"], "is --layout files meant?"),
        (["--complexes", "absent.csv"], "absent.csv: no such file"),
        (["--structures", "absent"], "absent: no such directory"),
    ],
)
def test_bad_settings_are_refused_before_reading(structures, tmp_path, arguments, message, capsys):
    """A setting that cannot be meant is refused by name before any file is read."""
    assert run_build(structures, tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ambiguous_inputs_are_refused(tmp_path):
    """Two files of one id, half a DB5 pair and a complexes file that names no file are errors with the names."""
    with pytest.raises(ValueError, match=r"a.cif and a.pdb would both be complex 'a'"):
        complexes.complexes_of_files(["a.cif", "a.pdb"])
    with pytest.raises(ValueError, match=r"1AAA_l_b.pdb has no counterpart"):
        complexes.complexes_of_db5(["1AAA_l_b.pdb"])
    table = write_csv(tmp_path / "c.csv", "complex,partner,file,chains", ("x", "a", "other.pdb", "A"))
    with pytest.raises(ValueError, match=r"line 2: 'other.pdb' is not a structure file"):
        complexes.complexes_of_csv(table, ["a.pdb"])


def test_a_finished_set_is_not_overwritten(structures, built, capsys):
    """Building into a directory that holds a record set is refused."""
    assert run_build(structures, built) == 1
    assert "holds a record set already" in capsys.readouterr().err


class Killer(tuple):
    """Ends the process that unpickles it, as running out of memory would."""

    __slots__ = ()

    def __reduce__(self):
        return (os._exit, (1,))


def test_a_file_that_kills_its_process_is_named_and_the_others_are_read(structures):
    """When one complex takes its worker process down, it alone is lost and reported."""
    row = LabelRow(1, "A", 1, " ", 1.0)
    wanted = [Complex(f"good{n}", file=f"good{n}.pdb", labels={f"good{n}.pdb": (row,)}) for n in range(6)]
    wanted[2:2] = [Complex("killer", file="killer.pdb", labels={"killer.pdb": Killer()})]
    found = pipeline.run(wanted, read_complex, Options(structures), workers=2)
    results = {result.item: result for result in found}
    assert [outcome.what for outcome in results.pop("killer").outcomes] == ["worker_died"]
    assert sorted(results) == [f"good{number}" for number in range(6)]
    assert all(len(result.records) == 1 for result in results.values())
    assert not multiprocessing.active_children()


def test_an_unexpected_error_is_reported_with_its_complex(structures, monkeypatch):
    """An error that nobody foresaw becomes an outcome with type and message instead of ending the build."""
    monkeypatch.setattr(complexes, "interface_labels", lambda *_: 1 / 0)
    result = pipeline.read_item(read_complex, Complex("good0", file="good0.pdb"), Options(structures))
    assert [(outcome.what, outcome.message) for outcome in result.outcomes] == [
        ("failed", "ZeroDivisionError: division by zero")
    ]


def test_the_other_partner_enters_the_labels_only(structures):
    """A partner's record from the complex equals the record that its chain alone gives, but for the label."""
    labels = {"good0.pdb": (LabelRow(1, "A", 1, " ", 1.0),)}
    alone = Complex("good0", partners=(("A", (Part("good0.pdb", ("A",)),)),), labels=labels)
    paired = Complex("good0", partners=tuple((chain, (Part("good0.pdb", (chain,)),)) for chain in "AB"))
    (from_alone,) = read_complex(alone, Options(structures)).records
    from_pair, _ = read_complex(paired, Options(structures)).records
    first, second = map(decode_example, (from_alone, from_pair))
    assert first.label.sum() == 1 < second.label.sum()
    for name in (
        "tokens",
        "backbone",
        "backbone_mask",
        "torsions",
        "torsion_mask",
        "neighbour_offset",
        "chain_segment",
    ):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_runner_needs_beam(structures, tmp_path, monkeypatch, capsys):
    """What is missing, and how to get it, is said before anything is read."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "apache_beam" and find_spec(name))
    assert run_build(structures, tmp_path / "out", "--runner", "DirectRunner") == 1
    assert "pip install 'bihf_jax[prep,beam]'" in capsys.readouterr().err
    assert run_build(structures, tmp_path / "out", "--runner-options=--region=R") == 1
    assert "give --runner, too" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_check_counts_what_was_built(built, tmp_path, capsys):
    """The table has the counts of the report, and a split by cluster has no relatives."""
    arguments = [built, "--alignment", "biopython", "--out", tmp_path, "--fail-above", "0"]
    assert check.main([str(argument) for argument in arguments]) == 0
    splits = json.loads((tmp_path / check.REPORT_FILE).read_text())["splits"]
    assert sum(split["records"] for split in splits.values()) == 16
    assert sum(split["groups"] for split in splits.values()) == 9
    assert "same structure" in capsys.readouterr().out


def test_inspect_shows_a_record(built, capsys):
    """A record is shown with its ids, its sequence and one mark below each positive residue."""
    assert inspect.main([str(built), "--split", "train", "--record", "0"]) == 0
    out = capsys.readouterr().out
    example = RecordSet(built, "train")[0]
    assert f"id: {example.id}" in out
    assert sum(line.count("*") for line in out.splitlines() if line.startswith("  ")) == example.label.sum()


def test_inspect_without_a_record_is_an_error(built, tmp_path, capsys):
    assert inspect.main([str(built), "--record", "999"]) == 1
    assert "record 999 of split" in capsys.readouterr().err
    assert inspect.main([str(tmp_path)]) == 1


@pytest.mark.shared_data
def test_docking_benchmark_complexes(shared_data, tmp_path):
    """Real bound pairs give two records each, with a share of positives as a docking interface has."""
    folder = shared_data / "common/equidock_public/data/benchmark5.5/structures"
    (tmp_path / "in").mkdir()
    for name in ("1ACB", "1AVX", "1AHW"):
        for side in "lr":
            shutil.copy(folder / f"{name}_{side}_b.pdb.gz", tmp_path / "in")
    assert run_build(tmp_path / "in", tmp_path / "out", "--layout", "db5", "--split", "1,0,0") == 0
    counts = RecordSet(tmp_path / "out", "train").metadata["splits"]["train"]
    assert counts["records"] == 6
    assert 0.03 < counts["positives"] / counts["labelled"] < 0.2
