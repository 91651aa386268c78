"""DeepFRI's EC numbers."""

import numpy as np
import pytest

from data_prep.formats import deepfri
from data_prep.formats.text import FormatError
from tests.data_prep.formats.shared import renamed

NAME = "nrPDB-EC_2020.04"
ANNOTATIONS = (
    "### EC-numbers\n1.1.1.-\t2.7.1.1\t3.4.21.-\n### PDB-chain\tEC-numbers\n"
    "1ABC-A\t3.4.21.-,1.1.1.-\n2ABC-AAA\t2.7.1.1\n3ABC-B\t2.7.1.1\n4ABC-C\t1.1.1.-\n"
)


@pytest.fixture
def folder(tmp_path):
    """Three chains, one in each list, and one in none."""
    (tmp_path / f"{NAME}_annot.tsv").write_text(ANNOTATIONS)
    for split, id in (("train", "1ABC-A"), ("valid", "2ABC-AAA"), ("test", "3ABC-B")):
        (tmp_path / f"{NAME}_{split}.txt").write_text(f"{id}\n")
    (tmp_path / f"{NAME}_test.csv").write_text("PDB-chain,<30%,<40%,<50%,<70%,<95%\n3ABC-B,0,0,1,1,1\n")
    return tmp_path


def test_chains_have_their_numbers(folder):
    """Several EC numbers a chain, as rows of a matrix; long chain ids; chains of no list are named."""
    data = deepfri.read_deepfri(folder)
    assert data.terms == ("1.1.1.-", "2.7.1.1", "3.4.21.-")
    assert [(chain.id, chain.split, chain.labels) for chain in data.chains] == [
        ("1ABC-A", "train", (0, 2)),
        ("2ABC-AAA", "valid", (1,)),
        ("3ABC-B", "test", (1,)),
    ]
    assert (data.chains[1].pdb_id, data.chains[1].chain_id) == ("2ABC", "AAA")
    np.testing.assert_array_equal(data.targets(data.chains), [[1, 0, 1], [0, 1, 0], [0, 1, 0]])
    assert data.without_split == ("4ABC-C",)


def test_test_chains_by_identity(folder):
    """A test chain belongs to the thresholds that it keeps below to training; without the table that is an error."""
    data = deepfri.read_deepfri(folder)
    assert [len(data.test_below(identity)) for identity in deepfri.IDENTITIES] == [0, 0, 1, 1, 1]
    with pytest.raises(FormatError, match="identity 60"):
        data.test_below(60)
    (folder / f"{NAME}_test.csv").unlink()
    with pytest.raises(FormatError, match=r"1 test chains, such as 3ABC-B, have no line in nrPDB-EC_2020.04_test.csv"):
        deepfri.read_deepfri(folder).test_below(30)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("annot.tsv", ANNOTATIONS.replace("### PDB", "PDB"), "expected '### EC-numbers'"),
        ("annot.tsv", ANNOTATIONS.replace("2ABC-AAA\t2.7.1.1", "2ABC-AAA\t9.9.9.9"), "line 5: EC number '9.9.9.9'"),
        ("annot.tsv", ANNOTATIONS.replace("2ABC-AAA\t", "2ABC-AAA "), "line 5: expected 'PDB-CHAIN<tab>EC,EC,...'"),
        ("annot.tsv", ANNOTATIONS + "1ABC-A\t2.7.1.1\n", "line 8: a second line for chain 1ABC-A"),
        ("valid.txt", "9ABC-A\n", "line 1: chain 9ABC-A has no EC numbers"),
        ("valid.txt", "1ABC-A\n", "line 1: chain 1ABC-A is in split train already"),
        ("test.csv", "PDB-chain,<30%,<40%,<50%,<70%,<95%\n3ABC-B,0,0,2,1,1\n", "line 2: <50% is '2'"),
    ],
)
def test_what_is_not_in_the_format_is_named(folder, file, text, message):
    """The message has file, line and value."""
    (folder / f"{NAME}_{file}").write_text(text)
    with pytest.raises(FormatError, match=message):
        deepfri.read_deepfri(folder)


@pytest.mark.shared_data
def test_the_published_files_are_read_whole(shared_data, tmp_path):
    """538 EC numbers, the three lists as long as their files, and the test table by threshold."""
    data = deepfri.read_deepfri(renamed(tmp_path / "deepfri", shared_data / "React", "DeepFRI_*", "DeepFRI_"))
    assert len(data.terms) == 538
    assert {split: len(data.split(split)) for split in deepfri.SPLITS} == {"train": 15551, "valid": 1729, "test": 1919}
    assert len(data.without_split) == 2
    counts = [len(data.test_below(identity)) for identity in deepfri.IDENTITIES]
    assert counts == sorted(counts)
    assert counts[-1] == 1919
    assert data.targets(data.chains).any(axis=1).all()
