"""Which file holds which chain."""

import pytest

from bihf_jax.protein import StructureError
from data_prep.formats.text import FormatError
from data_prep.structure_files import FilesByName, check_file, list_files, read_protein, unused_files, without_ending
from tests.data_prep.structures import chain_lines, write_pdb


def test_files_are_listed_by_ending(tmp_path):
    """Structure files at any depth, compressed or not, others apart; hidden ones are passed over."""
    for name in ("a.pdb", "below/b.cif.gz", "below/c.ENT", "notes.txt", ".hidden/d.pdb", "T0949TS004_1", "e.hdf5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_files(tmp_path) == (["a.pdb", "below/b.cif.gz", "below/c.ENT"], ["T0949TS004_1", "e.hdf5", "notes.txt"])
    assert list_files(tmp_path, ("hdf5",), also=r"T\d+TS\d+_\d") == (
        ["T0949TS004_1", "e.hdf5"],
        ["a.pdb", "below/b.cif.gz", "below/c.ENT", "notes.txt"],
    )
    with pytest.raises(FileNotFoundError, match=r"no \.mol2 file \(also \.gz\) among 6"):
        list_files(tmp_path, ("mol2",))
    assert without_ending("below/b.cif.gz") == "below/b"
    assert unused_files(["a", "b"], ["c"], {"a"}) == {"b": "not_selected", "c": "not_a_structure"}


def test_chains_are_found_by_name():
    """Files of one chain come before files of entries; PDB ids go by any case, chain ids by their own."""
    found = FilesByName(["x/1ABC.pdb", "pdb2abc.ent.gz", "2abc_A.pdb", "2abc.a.cif", "3abc-AA.pdb"])
    assert found.of_chain("1abc", "A") == ("x/1ABC.pdb", False)
    assert found.of_chain("2ABC", "A") == ("2abc_A.pdb", True)
    assert found.of_chain("2abc", "a") == ("2abc.a.cif", True)
    assert found.of_chain("2abc", "B") == ("pdb2abc.ent.gz", False)
    assert found.of_chain("3abc", "AA") == ("3abc-AA.pdb", True)
    assert found.of_chain("3abc", "A") is None
    assert found.of_entry("9abc") is None


def test_two_files_of_one_name_are_refused():
    """Nobody can know which one is meant."""
    found = FilesByName(["1abc.pdb", "below/1abc.cif", "2abc.A.pdb", "2abc_A.pdb"])
    with pytest.raises(ValueError, match=r"1abc\.pdb and below/1abc\.cif could both be '1abc'"):
        found.of_chain("1abc", "A")
    with pytest.raises(ValueError, match=r"2abc\.A\.pdb and 2abc_A\.pdb could both be chain 'A' of 2abc"):
        found.of_chain("2abc", "A")


def test_receptors_in_pdbqt_are_read(tmp_path):
    """The same chains as of the PDB file; a chain that is not there is an error in both."""
    lines = [*chain_lines("MKWYC", "A"), *chain_lines("GAST", "B")]
    write_pdb(tmp_path / "a.pdb", lines)
    text = [f"{line[:66]:<70}{0.0:6.3f} {line[76:78].strip()}" for line in lines if line.startswith("ATOM")]
    (tmp_path / "a.pdbqt").write_text("\n".join([*text, ""]))
    for ending in ("pdb", "pdbqt"):
        assert read_protein(tmp_path / f"a.{ending}").sequence() == ("MKWYC", "GAST")
        assert read_protein(tmp_path / f"a.{ending}", ["B"]).sequence() == ("GAST",)
        with pytest.raises(StructureError, match="'C'"):
            read_protein(tmp_path / f"a.{ending}", ["C"])


def test_files_of_a_table_must_be_there(tmp_path):
    """The message begins with the line of the table."""
    (tmp_path / "a.pdb").touch()
    check_file(tmp_path, "a.pdb", "t.csv, line 2")
    with pytest.raises(FormatError, match=r"t.csv, line 2: 'b.pdb' is not a file below --structures"):
        check_file(tmp_path, "b.pdb", "t.csv, line 2")
