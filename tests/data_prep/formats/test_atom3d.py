"""ATOM3D's LMDB data sets, written here as its own code writes them."""

import gzip
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from Bio.PDB import PDBParser
from Bio.PDB.Selection import unfold_entities

from bihf_jax.data.molecules import BOND_TYPES
from bihf_jax.protein import Protein
from data_prep.formats import atom3d
from data_prep.formats.text import FormatError
from tests.data_prep.structures import chain_lines, write_pdb

SAMPLE = Path(__file__).parents[3] / "data_prep" / "sample" / "structures"

lmdb = pytest.importorskip("lmdb", reason="needs lmdb: pip install 'bihf_jax[formats]'")

# Acetate near the origin: rows of `atoms_ligand`, and of `bonds`.
LIGAND_COLUMNS = [
    "ensemble",
    "chain",
    "hetero",
    "residue",
    "resname",
    "x",
    "y",
    "z",
    "element",
    "name",
    "serial_number",
]
ACETATE = [
    *(("C", 0.0, 0.0, 0.1), ("C", 1.52, 0.0, 0.0), ("O", 2.09, 1.12, 0.0), ("O", 2.09, -1.12, 0.0)),
    *(("H", -0.4, 1.02, 0.1), ("H", -0.4, -0.52, -0.78), ("H", -0.34, -0.5, 1.01)),
]
LIGAND = [
    ["lig", "LIG", "", 0, "LIG", x, y, z, element, f"{element}{number + 1}", number]
    for number, (element, x, y, z) in enumerate(ACETATE)
]
BONDS = [[0, 1, 1.0], [1, 2, 2.0], [1, 3, 1.0], [0, 4, 1.0], [0, 5, 1.0], [0, 6, 1.0]]


def frame(columns, rows):
    """What pandas writes of a frame with orient="split"."""
    return {"columns": columns, "index": list(range(len(rows))), "data": rows}


def frame_of_pdb(path):
    """The atoms of a PDB file as ATOM3D takes them from Biopython."""
    columns = [
        *("ensemble", "subunit", "structure", "model", "chain", "hetero", "insertion_code", "residue", "segid"),
        *("resname", "altloc", "occupancy", "bfactor", "x", "y", "z", "element", "name", "fullname", "serial_number"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = PDBParser(QUIET=True).get_structure(path.name, path)
    rows = []
    for atom in unfold_entities(structure, "A"):
        residue, chain = atom.get_parent(), atom.get_parent().get_parent()
        where = [path.name, 0, path.name, chain.get_parent().serial_num, chain.id, residue.id[0], residue.id[2]]
        numbers = [atom.altloc, atom.occupancy, atom.bfactor, *map(float, atom.coord)]
        tail = [atom.element, atom.name, atom.fullname, atom.serial_number]
        rows.append([*where, residue.id[1], residue.segid, residue.resname, *numbers, *tail])
    return frame(columns, rows)


def write_lmdb(folder, items, serialisation="json"):
    """A database of items, as `atom3d.datasets.make_lmdb_dataset` writes it."""
    write = {"json": lambda value: json.dumps(value).encode(), "pkl": pickle.dumps}[serialisation]
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for position, item in enumerate(items):
            transaction.put(str(position).encode(), gzip.compress(write(item), 6))
        transaction.put(b"num_examples", str(len(items)).encode())
        transaction.put(b"serialization_format", serialisation.encode())
        transaction.put(b"id_to_idx", write({item["id"]: position for position, item in enumerate(items)}))
    return folder


@pytest.fixture
def pdb_file(tmp_path):
    """Two chains; the second starts at a negative number."""
    path = tmp_path / "1abc_protein.pdb"
    write_pdb(path, chain_lines("MKWYCDEGHI", "A"), chain_lines("GASTVL", "B", start=(0, 30, 0), first_number=-2))
    return path


@pytest.fixture
def lba_item(pdb_file):
    """One entry of LBA."""
    atoms = frame_of_pdb(pdb_file)
    pocket = frame(atoms["columns"], [row for row in atoms["data"] if row[4] == "A"])
    item = {
        "atoms_protein": atoms,
        "atoms_pocket": pocket,
        "atoms_ligand": frame(LIGAND_COLUMNS, LIGAND),
        "bonds": frame(["atom1", "atom2", "type"], BONDS),
        "id": "1abc",
        "seq": ["MKWYCDEGHI", "GASTVL"],
        "smiles": "CC(=O)[O-]",
        "scores": {"neglog_aff": 6.4},
    }
    return item | {"types": {key: str(type(value)) for key, value in item.items()}}


def assert_same_protein(found, expected):
    assert (found.sequence(), found.chain_ids) == (expected.sequence(), expected.chain_ids)
    for name in ("residue_number", "insertion_code", "atom_mask", "atom_positions", "b_factors"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(found.ligands.names, expected.ligands.names)


def test_an_entry_of_lba(tmp_path, lba_item, pdb_file):
    """Protein and pocket are those of the PDB file, the ligand has its bonds, the affinity is the score."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    (entry,) = atom3d.read_lba(write_lmdb(tmp_path / "lba", [lba_item]))
    expected = Protein.from_file(pdb_file)
    assert (entry.id, entry.pk, entry.smiles) == ("1abc", 6.4, "CC(=O)[O-]")
    assert_same_protein(entry.protein, expected)
    assert_same_protein(entry.pocket, expected.select_chains(["A"]))
    assert entry.ligand.elements.tolist() == [6, 6, 8, 8]
    assert entry.ligand.atom_names.tolist() == ["C1", "C2", "O3", "O4"]
    assert [BOND_TYPES[kind] for kind in entry.ligand.bond_types] == ["single", "double", "single"]
    assert entry.ligand.num_hydrogens[0] == 3


def test_bonds_may_come_from_the_smiles(tmp_path, lba_item):
    """Without a frame of bonds, the SMILES gives bonds and charges; one of another molecule is refused."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    del lba_item["bonds"]
    other = lba_item | {"id": "2abc", "smiles": "c1ccccc1"}
    entry, refusal = atom3d.read_lba(write_lmdb(tmp_path / "lba", [lba_item, other]))
    assert sorted(BOND_TYPES[kind] for kind in entry.ligand.bond_types) == ["double", "single", "single"]
    assert sorted(entry.ligand.charges.tolist()) == [-1, 0, 0, 0]
    assert (refusal.position, refusal.id) == (1, "2abc")
    assert "do not fit the SMILES c1ccccc1" in refusal.reason


def test_an_entry_of_psr(tmp_path, pdb_file):
    """Target, model and scores, also where pandas wrote the scores as a series."""
    atoms = frame_of_pdb(pdb_file)
    scores = {"rmsd": 3.5, "tm": 0.6, "gdt_ts": 0.55, "gdt_ha": 0.4}
    series = {"name": "x", "index": list(scores), "data": list(scores.values())}
    items = [
        {"id": "('T0949', 'server_TS1')", "atoms": atoms, "scores": scores},
        {"id": "('T0949', 'server_TS2')", "atoms": atoms, "scores": series},
    ]
    first, second = atom3d.read_psr(write_lmdb(tmp_path / "psr", items))
    assert (first.target, first.model, second.model) == ("T0949", "server_TS1", "server_TS2")
    assert first.scores == second.scores == scores
    assert_same_protein(first.protein, Protein.from_file(pdb_file))


def test_a_frame_is_read_by_the_rules_of_pdb_files(tmp_path):
    """Insertion codes, MSE, waters, an ion and a second model: as in the file that the frame was made of."""
    lines = chain_lines("MAGW", "A", first_number=50)
    lines = [line.replace("A  51 ", "A  50A") for line in lines]
    lines = [line.replace("ATOM  ", "HETATM").replace("MET", "MSE") if "MET" in line else line for line in lines]
    hetero = [
        "HETATM   90 ZN    ZN A 201      10.000  10.000  10.000  1.00 10.00          ZN",
        "HETATM   91  O   HOH A 301      20.000  10.000  10.000  1.00 10.00           O",
    ]
    model = [*lines, *hetero, "ENDMDL"]
    path = tmp_path / "made.pdb"
    path.write_text("\n".join(["MODEL        1", *model, "MODEL        2", *model, "END", ""]))
    found = atom3d.protein_of_frame(_columns(frame_of_pdb(path)), "made.pdb")
    expected = Protein.from_file(path)
    assert_same_protein(found, expected)
    assert found.ligands.names.tolist() == ["ZN"]
    assert (found.report.models, found.report.waters) == (2, 1)
    assert found.report == expected.report


def _columns(made):
    return dict(zip(made["columns"], map(list, zip(*made["data"], strict=True)), strict=True))


@pytest.mark.parametrize("name", ["1a2k.pdb.gz", "1acb.pdb.gz"])
def test_frames_of_real_files(tmp_path, name):
    """A frame that Biopython makes of a PDB file gives the residues, atoms and ligands that the file gives."""
    path = tmp_path / name.removesuffix(".gz")
    path.write_bytes(gzip.decompress((SAMPLE / name).read_bytes()))
    found = atom3d.protein_of_frame(_columns(frame_of_pdb(path)), path.name)
    expected = Protein.from_file(path)
    observed = expected.atom_mask.any(axis=1)  # a frame has no full sequence
    assert found.chain_ids == expected.chain_ids
    np.testing.assert_array_equal(found.residue_type, expected.residue_type[observed])
    np.testing.assert_array_equal(found.residue_number, expected.residue_number[observed])
    np.testing.assert_array_equal(found.atom_positions, expected.atom_positions[observed])
    np.testing.assert_array_equal(found.ligands.names, expected.ligands.names)


def test_other_serialisations_are_refused_before_they_are_read(tmp_path):
    """A pickle is named and not loaded, and so is anything else that is not JSON."""
    ran = []

    class Trap:
        def __reduce__(self):
            return (ran.append, (1,))

    folder = write_lmdb(tmp_path / "pkl", [{"id": "x", "trap": Trap()}], "pkl")
    with pytest.raises(FormatError, match="serialisation 'pkl': reading it would run code from the file"):
        list(atom3d.read_lba(folder))
    assert ran == []
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"serialization_format", b"msgpack")
    with pytest.raises(FormatError, match="serialisation 'msgpack': only json is read"):
        atom3d.Database(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scores": None}, "scores is None; it must be an object"),
        ({"scores": {"neglog_aff": None}}, "score neglog_aff is None; it must be a finite number"),
        ({"atoms_protein": None}, "atoms_protein is no frame with columns and data"),
        ({"atoms_protein": frame(["x", "y"], [[1.0, 2.0]])}, "no column chain, hetero"),
        ({"atoms_pocket": frame(["x", "y"], [[1.0]])}, "atoms_pocket: rows of other lengths than its 2 columns"),
        ({"atoms_pocket": frame(["x", "y"], [])}, "atoms_pocket: no row in it"),
        ({"bonds": frame(["atom1", "atom2", "type"], [[0, 9, 1.0]])}, "bond 0-9 of type 1.0"),
    ],
)
def test_a_bad_entry_is_refused_and_the_next_is_read(tmp_path, lba_item, change, reason):
    """The refusal has position, id and reason."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    items = [lba_item | {"id": "bad"} | change, lba_item]
    refusal, entry = atom3d.read_lba(write_lmdb(tmp_path / "lba", items))
    assert (refusal.position, refusal.id) == (0, "bad")
    assert reason in refusal.reason
    assert entry.id == "1abc"


def test_damaged_databases_are_refused(tmp_path, lba_item):
    """No LMDB, no entry of that number, bytes that are not gzip or not JSON, an index that does not fit."""
    with pytest.raises(FormatError, match=r"no data\.mdb in it"):
        atom3d.Database(tmp_path)
    folder = write_lmdb(tmp_path / "lba", [lba_item])
    with atom3d.Database(folder) as database:
        assert len(database) == 1
        with pytest.raises(FormatError, match="no entry 1; entries: 0 to 0"):
            database.item(1)
    for value, message in ((b"text", "damaged gzip data"), (gzip.compress(b"["), "not JSON")):
        with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
            transaction.put(b"0", value)
        with atom3d.Database(folder) as database, pytest.raises(FormatError, match=rf"entry 0 \(1abc\): {message}"):
            database.item(0)
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"id_to_idx", b'{"1abc": 4}')
    with pytest.raises(FormatError, match="id_to_idx puts '1abc' at 4"):
        atom3d.Database(folder)


def test_ids_of_psr_are_text_and_no_code(tmp_path, pdb_file):
    """An id that is not a pair of texts is refused, and nothing of it is executed."""
    item = {"atoms": frame_of_pdb(pdb_file), "scores": {"gdt_ts": 0.5}}
    items = [item | {"id": id} for id in ("__import__('os')", "T0949")]
    refusals = list(atom3d.read_psr(write_lmdb(tmp_path / "psr", items)))
    assert all("it must be \"('TARGET', 'MODEL')\"" in refusal.reason for refusal in refusals)
    assert len(refusals) == 2


def test_splits(tmp_path, lba_item):
    """Folders of three LMDBs, and lists of positions; what is missing or twice is named."""
    root = tmp_path / "split-by-sequence-identity-30"
    for split in ("train", "val"):
        write_lmdb(root / "data" / split, [lba_item])
    with pytest.raises(FormatError, match="no LMDB for test"):
        atom3d.split_folders(root)
    write_lmdb(root / "data" / "test", [lba_item])
    assert atom3d.split_folders(root) == {split: root / "data" / split for split in ("train", "val", "test")}

    (root / "indices").mkdir()
    for split, text in (("train", "0\n2\n"), ("val", "1\n"), ("test", "3")):
        (root / "indices" / f"{split}_indices.txt").write_text(text)
    assert atom3d.read_indices(root, 4) == {"train": (0, 2), "val": (1,), "test": (3,)}
    with pytest.raises(FormatError, match=r"test_indices\.txt, line 1: '3'; it must be a position from 0 to 2"):
        atom3d.read_indices(root, 3)
    (root / "indices" / "test_indices.txt").write_text("3\n1\n")
    with pytest.raises(FormatError, match="line 2: entry 1 is in split val already"):
        atom3d.read_indices(root, 4)
