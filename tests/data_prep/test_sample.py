"""The embedded sample: what is in the repository, and the parts of the script that made it."""

import csv
import gzip
import hashlib
import re
from collections import defaultdict
from pathlib import Path

import gemmi
import numpy as np
import pytest

from bihf_jax.protein import Protein, interface_labels
from data_prep import make_sample
from data_prep.make_sample import COMPLEXES, PACKAGES, Entry, Package, SampleError, affinity_entries

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample"
STRUCTURES = sorted((SAMPLE / "structures").glob("*.gz"))
PARSER_FILES = sorted((SAMPLE / "parser").glob("*.gz"))
MAX_BYTES = 10 * 10**6


def read_complexes() -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    """Complex -> (partner, file, chains) as complexes.csv has them."""
    complexes = defaultdict(list)
    with open(SAMPLE / "complexes.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            complexes[row["complex"]].append((row["partner"], row["file"], tuple(row["chains"].split("+"))))
    return dict(complexes)


@pytest.fixture(scope="module")
def partners() -> dict[str, list[Protein]]:
    """Complex -> its partners."""
    structures = SAMPLE / "structures"
    return {
        name: [Protein.from_file(structures / file, chains=chains) for _, file, chains in rows]
        for name, rows in read_complexes().items()
    }


def test_size_is_bounded():
    """The whole sample stays within 10 MB, and every structure is compressed."""
    sizes = [path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(sizes) <= MAX_BYTES
    files = {path.name for folder in ("structures", "parser") for path in (SAMPLE / folder).iterdir()}
    assert files == {path.name for path in STRUCTURES + PARSER_FILES}


def test_there_are_enough_complexes_and_chains(partners):
    """There are at least 80 complexes and 40 chains of 20 residues, and no complex holds over 5 % of the residues."""
    residues = {name: sum(int(p.atom_mask.any(axis=1).sum()) for p in of) for name, of in partners.items()}
    chains = [
        np.sum(protein.chain_index[protein.atom_mask.any(axis=1)] == index)
        for of_complex in partners.values()
        for protein in of_complex
        for index in range(len(protein.chain_ids))
    ]
    assert len(partners) >= 80
    assert sum(length >= 20 for length in chains) >= 40
    assert max(residues.values()) <= 0.05 * sum(residues.values())


def test_csv_and_files_name_the_same_chains():
    """Each structure belongs to one complex, whose partners share out the chains of the file without overlap."""
    complexes = read_complexes()
    files = [{file for _, file, _ in rows} for rows in complexes.values()]
    assert all(len(of_complex) == 1 for of_complex in files)
    assert sorted(file for of_complex in files for file in of_complex) == [path.name for path in STRUCTURES]
    for rows in complexes.values():
        chains = [chain for _, _, of_partner in rows for chain in of_partner]
        whole = Protein.from_file(SAMPLE / "structures" / rows[0][1])
        assert sorted(chains) == sorted(whole.chain_ids), rows[0][1]
        assert all(partner == "+".join(of_partner) for partner, _, of_partner in rows)


def test_every_partner_is_useful(partners):
    """Each partner has at least 20 residues with coordinates and a residue in the interface."""
    for name, of_complex in partners.items():
        assert len(of_complex) >= 2, name
        for protein, label in zip(of_complex, interface_labels(of_complex), strict=True):
            assert protein.atom_mask.any(axis=1).sum() >= make_sample.MIN_RESIDUES, (name, protein.chain_ids)
            assert label.any(), (name, protein.chain_ids)


def test_no_complex_stands_twice(partners):
    """No two complexes have the same chain sequences."""
    sequences = [tuple(sorted(s for protein in of for s in protein.sequence())) for of in partners.values()]
    assert len(set(sequences)) == len(sequences)


def test_structures_hold_one_model_without_water_and_hydrogens(partners):
    """What the script takes out is out."""
    for of_complex in partners.values():
        for protein in of_complex:
            assert protein.report.models == 1
            assert protein.report.waters == 0
            assert protein.report.hydrogen_atoms == 0


def test_full_sequences_survive(partners):
    """The files keep SEQRES or `_entity_poly_seq`: 2XHE has unresolved residues, the affinity complexes have none."""
    unresolved = {name: sum(int((~p.atom_mask.any(axis=1)).sum()) for p in of) for name, of in partners.items()}
    assert unresolved["2XHE"] == 142
    assert all(unresolved[entry.id] == 0 for entry in affinity_entries())


@pytest.mark.parametrize("path", PARSER_FILES, ids=lambda path: path.name)
def test_parser_file_is_read(path):
    """Every raw file gives a protein."""
    assert Protein.from_file(path).atom_mask.any()


def test_parser_files_show_what_they_are_there_for():
    """The raw files hold each of the cases that the parser must handle."""
    proteins = {path.name: Protein.from_file(path) for path in PARSER_FILES}
    report = {name: protein.report for name, protein in proteins.items()}
    assert report["1A8O.pdb.gz"].modified == report["1A8O.cif.gz"].modified == {"MSE": 4}
    assert (proteins["4ZHL.cif.gz"].insertion_code != " ").any()
    assert (proteins["1TRM_A.pdb.gz"].insertion_code != " ").any()
    assert report["1CHO_E.pdb.gz"].old_columns
    assert report["1LCD.pdb.gz"].models == 3
    assert report["1LCD.pdb.gz"].chains_left_out
    assert report["3JQH.cif.gz"].unresolved > 0
    assert report["4CUP.cif.gz"].altloc_atoms > 0
    assert report["4CUP.cif.gz"].ligands
    assert report["3U7T.cif.gz"].microheterogeneities == report["pdb1ejg.pdb.gz"].microheterogeneities == 2


def test_origin_names_every_file_and_package():
    """ORIGIN.md has a line for every file and the pinned hash of every package."""
    text = (SAMPLE / "ORIGIN.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\S+\.gz) \|", text, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in STRUCTURES + PARSER_FILES)
    assert all(package.sha256 in text for package in PACKAGES.values())
    assert "CC0" in text


def test_sample_is_what_the_tables_say():
    """complexes.csv holds the entries of the script, no more and no less."""
    tables = {entry.id: list(entry.partners) for entry in (*COMPLEXES, *affinity_entries())}
    assert {name: [chains for _, _, chains in rows] for name, rows in read_complexes().items()} == tables


def test_gzip_files_carry_no_time():
    """The time field of each gzip header is zero, so that a second run gives the same bytes."""
    for path in STRUCTURES + PARSER_FILES:
        assert path.read_bytes()[4:8] == bytes(4), path.name


def _atom(serial: int, name: str, residue: str, chain: str, number: int, x: float, record: str = "ATOM  ") -> str:
    """A line of a PDB file."""
    element = name[0]
    return (
        f"{record}{serial:5d}  {name:<3s} {residue} {chain}{number:4d}    "
        f"{x:8.3f}{0.0:8.3f}{0.0:8.3f}{1.0:6.2f}{10.0:6.2f}          {element:>2s}"
    )


def test_joined_chains_are_split_at_their_first_residue_number():
    """The chains of a joined partner get their names back; water, hydrogens and later models go."""
    lines = [
        "HEADER    TEST",
        "MODEL        1",
        _atom(1, "CA", "GLY", "A", 1, 0.0),
        _atom(2, "H", "GLY", "A", 1, 0.5),
        _atom(3, "CA", "ALA", "A", 301, 3.8),
        _atom(4, "CA", "ALA", "A", 302, 7.6),
        _atom(5, "CA", "SER", "B", 301, 9.0),
        _atom(6, "O", "HOH", "B", 400, 9.0, "HETATM"),
        "ENDMDL",
        "MODEL        2",
        _atom(7, "CA", "GLY", "A", 1, 1.0),
        "ENDMDL",
    ]
    parts = {"A": (("L", None), ("H", 301)), "B": (("C", None),)}
    entry = Entry("TEST", "prodigy-prot", "TEST.pdb", (("L", "H"), ("C",)), parts=parts)
    name, content = make_sample.structure_file(entry, "\n".join(lines).encode())
    atoms = [line for line in content.decode().splitlines() if line.startswith(("ATOM", "HETATM"))]
    assert name == "test.pdb.gz"
    assert [line[21:26].split() for line in atoms] == [["L", "1"], ["H", "301"], ["H", "302"], ["C", "301"]]
    assert content.decode().splitlines()[0] == "HEADER    TEST"


def test_only_the_chains_of_the_partners_are_kept():
    """SEQRES, REMARK 465 and atoms of other chains go; the heading of REMARK 465 stays."""
    lines = [
        "REMARK 465   M RES C SSSEQI",
        "REMARK 465     ASN A   164",
        "REMARK 465     ASN C   165",
        "SEQRES   1 A    1  GLY",
        "SEQRES   1 C    1  GLY",
        _atom(1, "CA", "GLY", "A", 1, 0.0),
        _atom(2, "CA", "GLY", "C", 1, 0.0),
        _atom(3, "CA", "GLY", "B", 1, 0.0),
    ]
    entry = Entry("TEST", "prody", "TEST.pdb", (("A",), ("B",)))
    kept = make_sample.structure_file(entry, "\n".join(lines).encode())[1].decode().splitlines()
    assert kept == [lines[0], lines[1], lines[3], lines[5], lines[7], "END"]


def test_symmetry_mates_are_rigid_copies():
    """The second chain of 1A7G is the first one, rotated and moved: all distances inside the chains are equal."""
    content = gzip.decompress((SAMPLE / "structures" / "1a7g.cif.gz").read_bytes()).decode()
    model = gemmi.make_structure_from_block(gemmi.cif.read_string(content)[0])[0]
    first, second = (
        np.array([residue["CA"][0].pos.tolist() for residue in model[chain] if "CA" in residue]) for chain in "EA"
    )
    distances = [np.linalg.norm(ca[:, None] - ca[None], axis=-1) for ca in (first, second)]
    np.testing.assert_allclose(distances[0], distances[1], atol=3e-3)
    assert np.linalg.norm(first - second, axis=1).min() > 1


def test_changed_package_is_refused(tmp_path):
    """A package file with another hash than the pinned one is an error that names the file and both hashes."""
    (tmp_path / "a-1.tar.gz").write_bytes(b"other")
    package = Package("a", "1", "PyPI", "a-1.tar.gz", "0" * 64)
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(SampleError, match=f"a-1.tar.gz: SHA-256 is {found}, not {'0' * 64}"):
        make_sample.fetch(package, tmp_path)
