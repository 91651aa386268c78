"""`data_prep.build lba`: PDBbind's folders, a table, and ATOM3D's LMDB."""

import importlib.util

import numpy as np
import pytest

from bihf_jax.data.ligand import BOND_TYPES, ELEMENTS, pocket_rows
from bihf_jax.protein import Protein
from data_prep.facts import check_example
from tests.data.test_molecules import ACETATE_SDF, pdbqt_text
from tests.data_prep.sources.command import examples, metadata, report, run
from tests.data_prep.structures import chain_lines, random_sequence, write_pdb

pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")

INDEX = """# PDB code, resolution, release year, -logKd/Ki, Kd/Ki, reference, ligand name
1abc  2.00  2007   2.00  Kd=10mM       // 1abc.pdf (ACT)
2abc  2.00  2007   6.00  Ki=1uM        // 2abc.pdf (ACT)
3abc  2.00  2007   9.00  Ki<1nM        // 3abc.pdf (ACT)
4abc  2.00  2007   9.00  IC50=1nM      // 4abc.pdf (ACT)
5abc  2.00  2007   9.00  Ki=1nM        // 5abc.pdf (ACT)
this is no entry
"""


@pytest.fixture
def pdbbind(tmp_path):
    """Four complexes with a ligand at the start of the chain, one protein without ligand, and the INDEX file."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pdbbind"
    for id in ("1abc", "2abc", "3abc", "4abc"):
        write_pdb(folder / id / f"{id}_protein.pdb", chain_lines(random_sequence(rng, 40)))
        (folder / id / f"{id}_ligand.sdf").write_text(ACETATE_SDF)
    write_pdb(folder / "6abc" / "6abc_protein.pdb", chain_lines(random_sequence(rng, 40)))
    (tmp_path / "INDEX").write_text(INDEX)
    return folder, tmp_path / "INDEX"


def test_the_layout_of_pdbbind(pdbbind, tmp_path):
    """Exact Kd and Ki are labels; what is not taken, lacks a file or cannot be read is in the report, each by name."""
    folder, index = pdbbind
    arguments = ("--structures", folder, "--index", index, "--split", "1,0,0", "--no-ligand")
    assert run("lba", tmp_path / "out", *arguments) == 0
    labels = {id: one.protein_label.tolist() for id, one in examples(tmp_path / "out").items()}
    assert labels == {"1abc": [2.0], "2abc": [6.0]}
    about = metadata(tmp_path / "out")
    assert about["labels"] == {"unit": "protein", "type": "regression", "names": ["-log10 K (mol/l)"]}
    assert about["source"]["ligand_in_records"] is False
    told = report(tmp_path / "out")
    assert told["affinities_not_taken"] == {"3abc": "Ki <", "4abc": "IC50 ="}
    assert told["incomplete"] == {"6abc": "no ligand file"}
    assert told["without_structure"] == ["5abc"]
    assert [refusal["line"] for refusal in told["index_lines_refused"]] == [7]
    assert told["files"]["6abc/6abc_protein.pdb"] == {"not_selected": 1}


def test_bounds_and_other_kinds_are_taken_when_asked(pdbbind, tmp_path):
    """--bounds takes "<", --kinds takes IC50."""
    folder, index = pdbbind
    arguments = ("--structures", folder, "--index", index, "--split", "1,0,0", "--no-ligand")
    assert run("lba", tmp_path / "out", *arguments, "--bounds", "--kinds", "Kd,Ki,IC50") == 0
    assert sorted(examples(tmp_path / "out")) == ["1abc", "2abc", "3abc", "4abc"]


def test_the_pocket_is_what_lies_near_the_ligand(pdbbind, tmp_path):
    """With --pocket the record has the residues near the ligand, as they are in the whole record."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    folder, index = pdbbind
    arguments = ("--structures", folder, "--index", index, "--split", "1,0,0", "--no-ligand")
    assert run("lba", tmp_path / "whole", *arguments) == 0
    pocket = ("--pocket", 9, "--min-residues", 2)
    assert run("lba", tmp_path / "out", *arguments, *pocket) == 0
    whole, near = examples(tmp_path / "whole")["1abc"], examples(tmp_path / "out")["1abc"]
    protein = Protein.from_file(folder / "1abc" / "1abc_protein.pdb")
    atoms = np.array([[float(x) for x in line.split()[:3]] for line in ACETATE_SDF.splitlines()[4:11]])[:4]  # heavy
    distances = np.linalg.norm(protein.atom_positions[:, :, None] - atoms, axis=-1).min(axis=-1)
    expected = np.flatnonzero((np.where(protein.atom_mask, distances, np.inf) <= 9).any(axis=1))
    assert near.residue_number[1:-1].tolist() == (expected + 1).tolist()
    assert 2 <= len(expected) < 20
    np.testing.assert_array_equal(near.backbone[1:-1], whole.backbone[1:-1][expected])
    assert near.protein_label.tolist() == whole.protein_label.tolist()


def test_the_ligand_is_in_the_record(pdbbind, tmp_path):
    """Its heavy atoms and bonds stand behind the chain, in place, and the pocket has them too; --no-ligand leaves them
    out."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    folder, index = pdbbind
    arguments = ("--structures", folder, "--index", index, "--split", "1,0,0")
    for name, more in (("whole", ()), ("near", ("--pocket", 9, "--min-residues", 2)), ("alone", ("--no-ligand",))):
        assert run("lba", tmp_path / name, *arguments, *more) == 0
    for name in ("whole", "near"):
        example = examples(tmp_path / name)["1abc"]
        assert [ELEMENTS[atom] for atom in example.ligand_atoms[:, 0]] == ["C", "C", "O", "O"]
        assert example.ligand_bonds[:, :2].tolist() == [[0, 1], [1, 2], [1, 3]]
        assert [BOND_TYPES[kind] for kind in example.ligand_bonds[:, 2]] == ["single", "double", "single"]
        atoms = [[float(x) for x in line.split()[:3]] for line in ACETATE_SDF.splitlines()[4:8]]
        np.testing.assert_allclose(example.backbone[-4:, 1], atoms, atol=1e-4)
        check_example(example)
        assert metadata(tmp_path / name)["source"]["ligand_in_records"] is True
        assert report(tmp_path / name)["counts"] == {"ligand_atoms": 8, "ligands_with_remarks": 0}
    assert examples(tmp_path / "alone")["1abc"].ligand_atoms.shape == (0, 5)


def test_without_its_readers_the_command_says_so_at_once(pdbbind, tmp_path, monkeypatch, capsys):
    """Where RDKit is not installed nothing is read; the message has the fix and the way without."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rdkit" else find(name))
    folder, index = pdbbind
    assert run("lba", tmp_path / "out", "--structures", folder, "--index", index) == 1
    message = capsys.readouterr().err
    assert "rdkit, not installed here: pip install 'bihf_jax[ligands]'" in message
    assert "--no-ligand" in message
    assert not (tmp_path / "out").exists()


def test_pocket_rows_count_the_cutoff_itself():
    """A residue whose nearest atom lies exactly at the cutoff is in; those beyond are not, masked atoms never."""
    lines = "\n".join([*chain_lines("AAAA"), "END", ""])
    protein = Protein.from_text(lines)
    far = np.array([[-50.0, 0.0, 0.0]])
    nearest = np.linalg.norm(protein.atom_positions[0][protein.atom_mask[0]] - far, axis=-1).min()
    assert pocket_rows(protein, far, float(nearest)).tolist() == [True, False, False, False]
    assert not pocket_rows(protein, far, float(nearest) - 0.01).any()


def test_a_table_of_files(tmp_path):
    """Protein and ligand in PDBQT, the split of the table; a ligand far away gives no pocket."""
    rng = np.random.default_rng(0)
    for id, shift in (("a", 0.0), ("b", 500.0)):
        lines = chain_lines(random_sequence(rng, 30))
        text = [f"{line[:66]:<70}{0.0:6.3f} {line[76:78].strip()}" for line in lines if line.startswith("ATOM")]
        (tmp_path / f"{id}_receptor.pdbqt").write_text("\n".join([*text, ""]))
        (tmp_path / f"{id}_ligand.pdbqt").write_text(pdbqt_text([("C", shift, 0.0, 0.0), ("O", shift + 1.2, 0.0, 0.0)]))
    table = tmp_path / "table.csv"
    rows = [f"{id},{id}_receptor.pdbqt,{id}_ligand.pdbqt,{pk},train" for id, pk in (("a", 5.5), ("b", 6.5))]
    table.write_text("\n".join(["id,protein,ligand,pk,split", *rows]))
    arguments = ("--structures", tmp_path, "--table", table, "--no-ligand", "--pocket", 8, "--min-residues", 1)
    assert run("lba", tmp_path / "out", *arguments) == 0
    assert {id: one.protein_label.tolist() for id, one in examples(tmp_path / "out", "train").items()} == {"a": [5.5]}
    assert report(tmp_path / "out")["outcomes"] == {"written": 1, "no_pocket": 1}
    assert metadata(tmp_path / "out")["split_method"]["source"] == "table table.csv"


def test_lmdb_of_atom3d(tmp_path):
    """Label and split are those of the databases; the pocket is by our cutoff; a bad entry costs itself alone."""
    pytest.importorskip("lmdb", reason="needs lmdb: pip install 'bihf_jax[formats]'")
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    from tests.data_prep.formats.test_atom3d import BONDS, LIGAND, LIGAND_COLUMNS, frame, frame_of_pdb, write_lmdb

    rng = np.random.default_rng(0)
    for number, split in enumerate(("train", "val", "test")):
        path = tmp_path / f"{split}.pdb"
        write_pdb(path, chain_lines(random_sequence(rng, 30)))
        atoms = frame_of_pdb(path)
        item = {"id": f"{number}abc", "atoms_protein": atoms, "atoms_pocket": atoms, "smiles": "CC(=O)[O-]"}
        item |= {"atoms_ligand": frame(LIGAND_COLUMNS, LIGAND), "bonds": frame(["atom1", "atom2", "type"], BONDS)}
        item |= {"scores": {"neglog_aff": 4.5 + number}}
        bad = item | {"id": f"{number}bad", "scores": None}
        write_lmdb(tmp_path / "lba" / "data" / split, [item, bad])
    assert run("lba", tmp_path / "out", "--atom3d", tmp_path / "lba") == 0
    for number, split in enumerate(("train", "validation", "test")):
        found = examples(tmp_path / "out", split)
        assert {id: one.protein_label.tolist() for id, one in found.items()} == {f"{number}abc": [4.5 + number]}
    problems = {problem["item"]: problem["message"] for problem in report(tmp_path / "out")["not_written"]}
    assert set(problems) == {"0bad", "1bad", "2bad"}
    assert "scores is None" in problems["0bad"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pocket", "0"], "--pocket is 0.0; it must be positive"),
        (["--kinds", "Ka"], "--kinds Ka; kinds: Kd, Ki, IC50"),
        (["--table", "1abc,none.pdb,1abc/1abc_ligand.sdf,5"], "line 2: 'none.pdb' is not a file"),
        (["--table", "1abc,1abc/1abc_protein.pdb,1abc/1abc_ligand.sdf,"], "line 2: pk ''; it must be a number"),
        (["--table", "1abc,1abc/1abc_protein.pdb,1abc/1abc_ligand.sdf,5,dev"], "line 2: split 'dev'; splits: train"),
    ],
)
def test_what_cannot_be_meant_is_refused(pdbbind, tmp_path, arguments, message, capsys):
    """Tables and settings are refused by line and name before anything is written."""
    folder, index = pdbbind
    if arguments[0] == "--table":
        (tmp_path / "table.csv").write_text(f"id,protein,ligand,pk,split\n{arguments[1]}\n")
        arguments = ["--table", tmp_path / "table.csv"]
    else:
        arguments = ["--index", index, *arguments]
    assert run("lba", tmp_path / "out", "--structures", folder, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.shared_data
def test_real_complexes(shared_data, tmp_path):
    """Ten of the core set: the affinity of the index; the pocket is a part of the protein of a size as pockets have."""
    rows = [line.split("\t") for line in (shared_data / "LBA" / "core2013_index.tsv").read_text().splitlines()[1:]]
    rows = [row for row in rows if row[1]][::18]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["id,protein,ligand,pk", *(",".join((row[0], *row[3:5], row[1])) for row in rows)]))
    arguments = ("--structures", shared_data, "--table", table, "--pocket", 8, "--split", "1,0,0", "--no-ligand")
    assert run("lba", tmp_path / "out", *arguments) == 0
    found = examples(tmp_path / "out")
    assert len(found) == len(rows) >= 9
    for row in rows:
        assert found[row[0]].protein_label == pytest.approx([float(row[1])])
        assert 20 <= found[row[0]].num_slots <= 120
