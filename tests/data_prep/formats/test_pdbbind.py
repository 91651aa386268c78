"""PDBbind's INDEX files and folders."""

import math
from collections import Counter

import pytest

from data_prep.formats import pdbbind
from data_prep.formats.text import FormatError

HEADER = "# PDB code, resolution, release year, -logKd/Ki, Kd/Ki, reference, ligand name\n"


@pytest.mark.parametrize("kind", pdbbind.KINDS)
@pytest.mark.parametrize("relation", pdbbind.RELATIONS)
@pytest.mark.parametrize(("unit", "pk"), [("M", 0), ("mM", 3), ("uM", 6), ("nM", 9), ("pM", 12), ("fM", 15)])
def test_every_unit_and_relation(kind, relation, unit, pk):
    """1 of a unit is its power of ten; only "=" is exact."""
    affinity = pdbbind.read_affinity(f"{kind}{relation}1{unit}")
    assert (affinity.kind, affinity.relation, affinity.is_exact) == (kind, relation, relation == "=")
    assert affinity.pk == pytest.approx(pk)
    assert pdbbind.read_affinity(f"{kind}{relation}2.5{unit}").pk == pytest.approx(pk - math.log10(2.5))


@pytest.mark.parametrize(
    "text", ["Kd=1", "Kd=uM", "Ka=1uM", "Kd==1uM", "Kd=1UM", "Kd=-1uM", "Kd=0nM", "1uM", "Kd=1 uM"]
)
def test_other_affinities_are_refused(text):
    """The message has the text, and what is allowed where the form is wrong."""
    with pytest.raises(FormatError, match=f"affinity '{text}'; it must be"):
        pdbbind.read_affinity(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # INDEX_refined_data.2019, INDEX_general_PL_data.2020
        (
            "2r58  2.00  2007   2.00  Kd=10mM       // 2r58.pdf (MLY)",
            {"id": "2r58", "resolution": 2.0, "year": 2007, "pk": 2.0, "reference": "2r58.pdf", "ligand": "MLY"},
        ),
        (
            "3fqa  2.35  2009   0.49  IC50=320mM    // 3fq7.pdf (GAB&PMP)",
            {"ligand": "GAB&PMP", "reference": "3fq7.pdf"},
        ),
        ("5mnn   .86  2018   3.84  Kd=143uM      // 5mng.pdf (MRZ)", {"resolution": 0.86, "pk": 3.84}),
        # INDEX_general_PL.2020 and 2020R1.lst have no -log10
        (
            "5tln  2.30  1982  Ki=0.43uM     // 5tln.pdf (BAN) incomplete ligand structure",
            {"pk": pytest.approx(6.3665, abs=1e-4), "remark": "incomplete ligand structure", "ligand": "BAN"},
        ),
        ("6rsa   NMR  1986  Ki=40uM       // 6rsa.pdf (UVC)", {"resolution": None, "ligand": "UVC", "cluster": None}),
        # CoreSet.dat of CASF-2016
        ("3ui7   2.28  2011  9.00  Ki=1nM   14", {"cluster": 14, "reference": "", "ligand": "", "pk": 9.0}),
    ],
)
def test_lines_of_the_index_files(line, expected):
    """Each form of the INDEX files, as distributed."""
    entry = pdbbind.read_entry(line)
    assert {name: getattr(entry, name) for name in expected} == expected


def test_every_line_is_accounted_for(tmp_path):
    """Entries, remarks, blank lines and refused lines with their reasons are all lines of the file."""
    path = tmp_path / "INDEX_refined_data.2019"
    path.write_text(
        HEADER
        + "2r58  2.00  2007   2.00  Kd=10mM       // 2r58.pdf (MLY)\n\n"
        + "3c2f  2.35  2008   3.00  Kd=10.1mM     // 3c2f.pdf (PRP)\n"
        + "1abc  2.35  2008   2.00  Kx=10mM       // 1abc.pdf (PRP)\n"
        + "something else\n"
        + "2R58  2.00  2007   2.00  Kd=10mM       // 2r58.pdf (MLY)\n"
    )
    index = pdbbind.read_index(path)
    assert [entry.id for entry in index.entries] == ["2r58"]
    assert (index.remarks, index.blank, index.lines) == (1, 1, 7)
    assert [(refusal.line, refusal.reason.split(";")[0]) for refusal in index.refused] == [
        (4, "Kd=10.1mM is a -log10 of 2.00, and the line says 3.00"),
        (5, "affinity 'Kx=10mM'"),
        (6, "expected 'ID RESOLUTION YEAR [-LOG10] AFFINITY [// REFERENCE (LIGAND)]'"),
        (7, "a second line for 2r58"),
    ]
    path.write_text(HEADER + "something else\n")
    with pytest.raises(FormatError, match="no entry of PDBbind in 1 lines; line 2: expected"):
        pdbbind.read_index(path)


def test_folders_are_listed_whole(tmp_path):
    """Complete complexes at any depth, what others lack, and all other files."""
    for name in (
        *("refined/1abc/1abc_protein.pdb", "refined/1abc/1abc_pocket.pdb", "refined/1abc/1abc_ligand.mol2"),
        *("refined/1abc/1abc_ligand.sdf", "other/2abc/2abc_protein.pdb.gz", "other/2abc/2abc_ligand.mol2"),
        *("other/3abc/3abc_protein.pdb", "other/4abc/4abc_ligand.sdf", "index/INDEX_refined_data.2019"),
        "other/2abc/2abc_protein.sdf",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = pdbbind.list_complexes(tmp_path)
    first, second = folder.complexes
    assert (first.id, first.protein.name, first.pocket.name) == ("1abc", "1abc_protein.pdb", "1abc_pocket.pdb")
    assert [path.name for path in first.ligands] == ["1abc_ligand.sdf", "1abc_ligand.mol2"]
    assert (second.id, second.pocket, len(second.ligands)) == ("2abc", None, 1)
    assert folder.incomplete == {"3abc": "no ligand file", "4abc": "no protein file"}
    assert [path.name for path in folder.other_files] == ["INDEX_refined_data.2019", "2abc_protein.sdf"]

    index_file = tmp_path / "INDEX"
    index_file.write_text("1abc  2.00  2007   2.00  Kd=10mM\n9abc  2.00  2007   2.00  Kd=10mM\n")
    joined, without_line, without_files = pdbbind.with_affinity(folder.complexes, pdbbind.read_index(index_file))
    assert [(files.id, entry.id) for files, entry in joined] == [("1abc", "1abc")]
    assert (without_line, without_files) == (("2abc",), ("9abc",))


def test_ambiguous_and_empty_folders_are_refused(tmp_path):
    """A part that is there twice, and a folder without a complex."""
    with pytest.raises(FormatError, match=r"no complex ID/ID_protein\.pdb with"):
        pdbbind.list_complexes(tmp_path)
    for name in ("1abc_protein.pdb", "1abc_protein.pdb.gz", "1abc_ligand.sdf"):
        (tmp_path / name).touch()
    with pytest.raises(FormatError, match=r"are both the protein\.pdb of 1abc"):
        pdbbind.list_complexes(tmp_path)


@pytest.mark.shared_data
def test_the_published_index_is_read_whole(shared_data):
    """All 4,852 complexes of the refined set of 2019, none refused; -log10 as published agrees with the affinity."""
    index = pdbbind.read_index(shared_data / "LBA" / "INDEX_refined_data.2019.gz")
    assert (len(index.entries), len(index.refused), index.remarks) == (4852, 0, 6)
    assert Counter(entry.affinity.kind for entry in index.entries) == {"Kd": 2464, "Ki": 2388}
    assert sum(not entry.affinity.is_exact for entry in index.entries) == 2
    assert max(abs(entry.pk - entry.affinity.pk) for entry in index.entries) <= pdbbind.MAX_DIFFERENCE
