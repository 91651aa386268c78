"""A user's CSV of labels."""

import numpy as np
import pytest

from data_prep.formats import custom
from data_prep.formats.text import FormatError

FILES = ["a.pdb", "set1/b.cif.gz", "set1/twin.pdb", "set2/twin.pdb"]


def read(tmp_path, text, kind="protein", type="binary"):
    (tmp_path / "labels.csv").write_text(text)
    return custom.read_labels(tmp_path / "labels.csv", kind, type, FILES)


@pytest.mark.parametrize(
    ("type", "texts", "classes", "values"),
    [
        ("binary", ("1", "0"), (), (1, 0)),
        ("regression", ("-1.5", "2e3"), (), (-1.5, 2000)),
        ("multiclass", ("kinase", "hydrolase"), ("hydrolase", "kinase"), (1, 0)),
        ("multilabel", ("x;y", ""), ("x", "y"), ([1, 1], [0, 0])),
        ("multilabel", ("y; z", "x"), ("x", "y", "z"), ([0, 1, 1], [1, 0, 0])),
    ],
)
def test_labels_of_proteins_by_type(tmp_path, type, texts, classes, values):
    """Numbers as they are; classes numbered in the order of their names; several names as 0 and 1 of each class."""
    labels = read(tmp_path, f"file,label\na,{texts[0]}\nset1/b.cif.gz,{texts[1]}\n", type=type)
    assert labels.classes == classes
    assert [label.file for label in labels.proteins] == ["a.pdb", "set1/b.cif.gz"]
    for label, value in zip(labels.proteins, values, strict=True):
        assert label.label.dtype == np.float32
        np.testing.assert_array_equal(label.label, value)
    assert labels.without_labels == ("set1/twin.pdb", "set2/twin.pdb")


def test_optional_columns_of_proteins(tmp_path):
    """Chains, group, split and weight are read; without them all chains, no group, no split, weight 1."""
    labels = read(tmp_path, "file,chains,label,split,group,weight\na,H+L,1,test,family1,0.5\na,A,0,,,\n")
    first, second = labels.proteins
    assert (first.chains, first.split, first.group, first.weight, first.line) == (("H", "L"), "test", "family1", 0.5, 2)
    assert (second.chains, second.split, second.group, second.weight) == (("A",), "", "", 1.0)


def test_labels_of_residues(tmp_path):
    """Residues by file, chain, number and insertion code; the amino acid where it is given."""
    text = "file,chain,residue_number,insertion_code,label,amino_acid\na,A,-3,,1,M\na,A,52,B,0,\nb,X,1,,1,\n"
    labels = read(tmp_path, text, kind="residue")
    assert set(labels.residues) == {"a.pdb", "set1/b.cif.gz"}
    residues = labels.residues["a.pdb"]
    assert residues.residue_number.tolist() == [-3, 52]
    assert residues.insertion_code.tolist() == [" ", "B"]
    assert residues.amino_acid.tolist() == ["M", ""]
    assert residues.label.tolist() == [1.0, 0.0]


def test_every_problem_is_named_with_its_line(tmp_path):
    """One error lists all that is wrong, not the first only."""
    text = "file,label,split,weight\nnowhere,1,,\ntwin,1,,\na,2,,\na,1,dev,\nb,1,,-1\nb,0,,x\n"
    with pytest.raises(custom.LabelsError) as error:
        read(tmp_path, text)
    path = tmp_path / "labels.csv"
    assert error.value.problems == (
        f"{path}, line 2: file 'nowhere' is not a structure file of the folder",
        f"{path}, line 3: several structure files are called 'twin'; give the path",
        f"{path}, line 4: label '2'; it must be 0 or 1",
        f"{path}, line 5: a.pdb has a label in line 4 already",
        f"{path}, line 5: split 'dev'; splits: train, validation, test",
        f"{path}, line 6: weight -1.0; it must be positive",
        f"{path}, line 7: set1/b.cif.gz has a label in line 6 already",
        f"{path}, line 7: weight 'x'; it must be a finite number",
    )


def test_problems_of_residues_are_named(tmp_path):
    """Numbers that are none, long insertion codes, names instead of letters, residues labelled twice."""
    header = "file,chain,residue_number,insertion_code,label,amino_acid\n"
    rows = "a,A,1x,,1,\na,A,1,,0.5,\na,A,1,,1,ALA\na,A,2,BB,1,\n"
    with pytest.raises(custom.LabelsError) as error:
        read(tmp_path, header + rows, kind="residue")
    assert [problem.split(", ", 1)[1] for problem in error.value.problems] == [
        "line 2: residue_number '1x'; it must be a whole number",
        "line 3: label '0.5'; it must be 0 or 1",
        "line 4: amino_acid 'ALA'; it must be a one-letter code, or empty",
        "line 4: residue A 1 of a.pdb has a label in line 3 already",
        "line 5: insertion_code 'BB'; it must be one letter, or empty",
    ]


def test_a_long_list_of_problems_is_counted(tmp_path):
    """The message lists the first twenty and counts the others; `problems` has all."""
    with pytest.raises(custom.LabelsError, match="and 29 more") as error:
        read(tmp_path, "file,label\n" + "nowhere,1\n" * 25)
    assert len(error.value.problems) == 50 - 1  # 25 unknown files, 24 of them named before


def test_settings_and_columns_are_checked(tmp_path):
    """Unknown kinds and types, several labels of a residue, absent columns and empty files are errors."""
    for kind, type in (("atom", "binary"), ("protein", "ordinal"), ("residue", "multilabel")):
        with pytest.raises(ValueError, match="kinds: protein, residue; types: binary"):
            read(tmp_path, "file,label\na,1\n", kind, type)
    with pytest.raises(FormatError, match="column chain, residue_number, insertion_code is missing"):
        read(tmp_path, "file,label\na,1\n", "residue")
    with pytest.raises(FormatError, match="no label in it"):
        read(tmp_path, "file,label\n")
    with pytest.raises(custom.LabelsError, match="line 2: label ''; it must be the name of a class"):
        read(tmp_path, "file,label\na,\n", type="multiclass")
