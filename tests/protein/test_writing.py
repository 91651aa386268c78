"""PDB and mmCIF text of a `Protein`: it reads back the same, by us, by gemmi and by Biopython, or is refused."""

import dataclasses
import gzip
import io

import gemmi
import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser
from Bio.PDB.parse_pdb_header import parse_pdb_header

from bihf_jax.protein import Ligands, Protein, StructureError, residue_constants, writing
from bihf_jax.protein.parsing import MADE_UP_NUMBER, MAX_COORDINATE
from tests.protein.compare import assert_same, differences
from tests.protein.conftest import sample_files
from tests.protein.synthetic import Atom, chain_of, mmcif_text, pdb_text, remark_465, seqres


def _read_back(write, protein: Protein, file_format: str, **options) -> Protein:
    name, text = (
        ("x.pdb", protein.to_pdb(**options)) if file_format == "PDB" else ("x.cif", protein.to_mmcif(**options))
    )
    return Protein.from_file(write(text, name))


def _assert_round_trip(write, protein: Protein, file_format: str) -> None:
    is_pdb = file_format == "PDB"
    assert_same(_read_back(write, protein, file_format), protein, decimals=is_pdb, labels=not is_pdb)


def random_protein(seed: int) -> Protein:
    """A valid protein such as a file could give: gaps, unknown residues, insertion codes, missing atoms, ligands."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 12, size=rng.integers(1, 4))
    num = int(sizes.sum())
    types = rng.integers(0, residue_constants.NUM_RESIDUE_TYPES, num).astype(np.int8)
    mask = residue_constants.ATOM_ALLOWED[types] & (rng.random((num, 37)) < rng.choice([0.3, 0.9, 1.0]))
    mask[rng.random(num) < 0.3] = False
    starts = np.cumsum(sizes) - sizes
    for start in starts:
        mask[start : start + 2, 1] = True  # two residues with atoms make a chain
    number = np.cumsum(rng.integers(0, 3, num)) - 5
    code = np.full(num, " ")
    for i in range(1, num):
        if number[i] == number[i - 1]:
            code[i] = "A" if code[i - 1] == " " else chr(ord(code[i - 1]) + 1)
    label = np.concatenate([np.cumsum(rng.choice([1, 1, 1, 2], size)) for size in sizes])
    positions = np.round(rng.normal(0, 30, (num, 37, 3)), 3) * mask[..., None]
    chain_ids = np.array(list("AbZ"))[: len(sizes)]
    molecules = 3
    elements = np.array([30, 6, 8, 7], dtype=np.int8)
    return Protein(
        residue_type=types,
        atom_positions=positions.astype(np.float32),
        atom_mask=mask,
        chain_index=np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
        chain_ids=tuple(chain_ids.tolist()),
        label_chain_ids=tuple("DEF"[: len(sizes)]),
        residue_number=number.astype(np.int32),
        label_residue_number=label.astype(np.int32),
        insertion_code=code.astype("<U1"),
        b_factors=(np.round(rng.uniform(0, 99, (num, 37)), 2) * mask).astype(np.float32),
        source="random",
        ligands=Ligands(
            names=np.array(["ZN", "GOL", "GLY"]),
            chain_ids=np.array([chain_ids[0], chain_ids[0], "L"]),
            label_chain_ids=np.array(["G", "H", "I"]),
            residue_number=np.arange(301, 301 + molecules, dtype=np.int32),
            insertion_code=np.array([" ", "A", " "]),
            elements=elements,
            atom_names=np.array(["ZN", "C1", "O1", "N"]),
            atom_positions=np.round(rng.normal(0, 30, (4, 3)), 3).astype(np.float32),
            b_factors=np.round(rng.uniform(0, 99, 4), 2).astype(np.float32),
            molecule_index=np.array([0, 1, 1, 2], dtype=np.int32),
        ),
    )


@pytest.mark.parametrize("file_format", ["PDB", "mmCIF"])
def test_random_proteins_read_back_the_same(write, file_format):
    """Whatever residues, gaps, codes, atoms and ligands a protein has, its file gives the same arrays."""
    for seed in range(40):
        protein = random_protein(seed)
        protein.validate()
        _assert_round_trip(write, protein, file_format)


def test_mmcif_holds_every_float32(write):
    """Coordinates and B factors with all their bits come back from mmCIF, from the tiniest to the largest."""
    protein = random_protein(0)
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.integers(-20, 20, protein.atom_positions.shape)
    values = (rng.normal(size=scale.shape) * scale * protein.atom_mask[..., None]).astype(np.float32)
    positions = np.clip(values, -MAX_COORDINATE, MAX_COORDINATE)  # beyond is refused, see below
    protein = dataclasses.replace(protein, atom_positions=positions, b_factors=values[..., 0])
    _assert_round_trip(write, protein, "mmCIF")


@pytest.mark.parametrize("file_format", ["PDB", "mmCIF"])
def test_real_structures_read_back_the_same(write, file_format):
    """A fifth of the embedded sample: arrays, ligands and unresolved residues come back; Biopython sees the same."""
    for path in sample_files()[::5]:
        protein = Protein.from_file(path)
        _assert_round_trip(write, protein, file_format)
        ending = {"PDB": ".pdb", "mmCIF": ".cif"}[file_format]
        written = write(protein.to_pdb() if file_format == "PDB" else protein.to_mmcif(), f"written{ending}")
        assert differences(written, protein) == [], path.name


def test_both_formats_at_once_are_the_same_texts():
    """What is made once for both changes neither; what one of them cannot hold, it says, and the other is written."""
    for seed in range(10):
        protein = random_protein(seed)
        values = np.random.default_rng(seed).normal(size=protein.num_residues).astype(np.float32)
        written = protein.written(values)
        assert written["PDB"].text == protein.to_pdb(values)
        assert written["mmCIF"].text == protein.to_mmcif(values)
        assert_same(written["mmCIF"].protein, Protein.from_text(protein.to_mmcif(values)))
        again = protein.written(values, ["mmCIF", "PDB"])
        assert {name: again[name].text for name in again} == {name: written[name].text for name in written}
    long = dataclasses.replace(protein, chain_ids=tuple(f"{chain}x" for chain in protein.chain_ids))
    written = long.written()
    assert isinstance(written["PDB"], StructureError)
    assert written["mmCIF"].text == long.to_mmcif()


def test_coordinates_are_written_as_their_shortest_decimal_form():
    """Also where three decimals are not exact, or say more than a float32 holds."""
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-12, 12, 5000)
    some = np.concatenate(
        [rng.normal(size=5000) * scale, np.round(rng.normal(0, 2000, 5000), 3), [0.0, -0.0, 4096.001]]
    )
    values = some.astype(np.float32)
    expected = [float(str(value)) for value in values]
    assert writing._decimal(values).tolist() == expected


def test_a_protein_written_twice_is_the_same_text(write, complex_text):
    """What is read back writes the same text again, in both formats."""
    protein = Protein.from_file(write(complex_text))
    again = Protein.from_file(write(protein.to_pdb(), protein.source))
    assert again.to_pdb() == protein.to_pdb()
    again = Protein.from_file(write(protein.to_mmcif(), "made.cif"))
    assert again.to_mmcif() == protein.to_mmcif()


def _with_gap() -> str:
    """PDB text of ACDEFGHI, residues 1, 4 and 5 unresolved and listed, a zinc ion in chain A."""
    missing = [("ALA", "A", 1, " "), ("GLU", "A", 4, " "), ("PHE", "A", 4, "A")]
    atoms = [atom for atom in chain_of("ACDEFGHI") if atom.number not in (1, 4, 5)]
    zinc = Atom("ZN", "ZN", "A", 201, (50, 50, 50), hetero=True, element="ZN")
    names = ["ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE"]
    return remark_465(missing) + seqres("A", names) + pdb_text(atoms, tail=[zinc])


def test_gemmi_reads_what_the_files_say(write):
    """Full sequence, label ids, positions in the full sequence, and numbers of unresolved residues, by gemmi."""
    protein = Protein.from_file(write(_with_gap()))
    protein = dataclasses.replace(protein, label_chain_ids=("Q",))
    sequence = ["ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE"]
    from_pdb = gemmi.read_pdb_string(protein.to_pdb())
    assert from_pdb.entities[0].full_sequence == sequence
    document = gemmi.cif.read_string(protein.to_mmcif())
    from_cif = gemmi.make_structure_from_block(document[0])
    assert from_cif.get_entity_of(from_cif[0].get_subchain("Q")).full_sequence == sequence
    residues = list(from_cif[0]["A"].get_polymer())
    assert [(residue.subchain, residue.label_seq) for residue in residues] == [("Q", i) for i in (2, 3, 6, 7, 8)]
    rows = document[0].find("_pdbx_poly_seq_scheme.", ["seq_id", "pdb_seq_num", "auth_seq_num", "pdb_ins_code"])
    assert [tuple(row) for row in rows][:5] == [
        *(("1", "1", "?", "."), ("2", "2", "2", "."), ("3", "3", "3", "."), ("4", "4", "?", "."), ("5", "4", "?", "A"))
    ]
    assert [(residue.name, residue.seqid.num) for residue in from_cif[0]["A"].get_ligands()] == [("ZN", 201)]


def test_biopython_reads_what_the_files_say(write):
    """Biopython finds residues, ligand and unresolved residues in both files."""
    protein = Protein.from_file(write(_with_gap()))
    from_pdb = PDBParser().get_structure("x", io.StringIO(protein.to_pdb()))
    from_cif = MMCIFParser().get_structure("x", io.StringIO(protein.to_mmcif()))
    for structure in (from_pdb, from_cif):
        ids = [residue.id for residue in structure[0]["A"]]
        assert ids == [*((" ", number, " ") for number in (2, 3, 6, 7, 8)), ("H_ZN", 201, " ")]
        assert structure[0]["A"][("H_ZN", 201, " ")]["ZN"].element == "ZN"
    missing = parse_pdb_header(io.StringIO(protein.to_pdb()))["missing_residues"]
    assert [(entry["res_name"], entry["ssseq"], entry["insertion"]) for entry in missing] == [
        *(("ALA", 1, None), ("GLU", 4, None), ("PHE", 4, "A"))
    ]


@pytest.mark.parametrize("file_format", ["PDB", "mmCIF"])
def test_values_stand_in_the_b_factor_column(write, file_format):
    """Each atom carries its residue's value, ligands 0; Biopython reads the same."""
    protein = Protein.from_file(write(_with_gap()))
    values = np.linspace(0, 1, protein.num_residues).round(2)
    found = _read_back(write, protein, file_format, values=values)
    expected = np.where(protein.atom_mask, values[:, None], 0)
    np.testing.assert_allclose(found.b_factors, expected, atol=1e-6)
    assert (found.ligands.b_factors == 0).all()
    if file_format == "PDB":
        structure = PDBParser().get_structure("x", io.StringIO(protein.to_pdb(values)))
    else:
        structure = MMCIFParser().get_structure("x", io.StringIO(protein.to_mmcif(values)))
    by_number = dict(zip(protein.residue_number.tolist(), values, strict=True))
    for residue in structure[0]["A"]:
        wanted = by_number.get(residue.id[1], 0.0)
        assert all(abs(atom.bfactor - wanted) < 1e-6 for atom in residue)


def test_bad_values_are_refused(write, complex_text):
    """A wrong number of values and one that is not finite are named."""
    protein = Protein.from_file(write(complex_text))
    with pytest.raises(ValueError, match=r"values has shape \(49,\); it must be \[50\]"):
        protein.to_pdb(np.zeros(49))
    with pytest.raises(ValueError, match=r"values must be finite.*index 3, number 4 of chain 'A'"):
        protein.to_mmcif(np.where(np.arange(50) == 3, np.nan, 0.0))


def _changed(protein: Protein, **changes) -> Protein:
    return dataclasses.replace(protein, **changes)


def _with_value(array: np.ndarray, index: tuple, value: float) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"chain_ids": ("A", "B2", "C")}, "chain id 'B2' has more than 1 characters"),
        (lambda p: {"chain_ids": ("A", "A", "C")}, "2 chains have the id 'A'"),
        (
            lambda p: {"residue_number": p.residue_number + np.int32(9990)},
            "residue number 10000 is not from",
        ),
        (lambda p: {"residue_number": p.residue_number - np.int32(1200)}, "residue number -1199 is not from -998"),
        (
            lambda p: {"atom_positions": _with_value(p.atom_positions, (0, 1, 2), 1e4)},
            "coordinate 10000.0 is not from -999.999 to 9999.999",
        ),
        (
            lambda p: {"b_factors": _with_value(p.b_factors, (0, 1), 1000)},
            "B-factor column 1000.0 is not from -99.99 to 999.99",
        ),
    ],
)
def test_what_pdb_cannot_hold_is_named_and_mmcif_holds_it(write, complex_text, change, message):
    """Each limit of the columns is an error that names the value and the fix; mmCIF has no such limit."""
    protein = Protein.from_file(write(complex_text))
    protein = _changed(protein, **change(protein))
    with pytest.raises(StructureError, match=message + r".*a PDB file cannot hold; write mmCIF \(.cif\)"):
        protein.to_pdb()
    _assert_round_trip(write, protein, "mmCIF")


def test_long_names_of_ligands_need_mmcif(write):
    """Component names of five letters, as new entries of the PDB have them, and long atom names."""
    protein = Protein.from_file(write(_with_gap()))
    for field, name, message in (("names", "A1ABC", "ligand name"), ("atom_names", "C1234", "atom name")):
        changed = _changed(protein, ligands=dataclasses.replace(protein.ligands, **{field: np.array([name])}))
        with pytest.raises(StructureError, match=message + ".*write mmCIF"):
            changed.to_pdb()
        _assert_round_trip(write, changed, "mmCIF")


def test_chain_ids_of_any_length_read_back_from_mmcif(write):
    """gemmi's arrays hold names of 7 letters; longer ids come back all the same."""
    protein = random_protein(3)
    names = tuple(f"chain-number-{number}" for number in range(len(protein.chain_ids)))
    _assert_round_trip(write, _changed(protein, chain_ids=names, label_chain_ids=names), "mmCIF")


def test_too_many_atoms_for_pdb(write, complex_text, monkeypatch):
    """More records than serial numbers is an error."""
    protein = Protein.from_file(write(complex_text))
    records = int(protein.atom_mask.sum()) + 3
    monkeypatch.setattr(writing, "_MAX_PDB_RECORDS", records)
    protein.to_pdb()
    monkeypatch.setattr(writing, "_MAX_PDB_RECORDS", records - 1)
    with pytest.raises(StructureError, match=f"{records} atoms are more than {records - 1}"):
        protein.to_pdb()


def test_label_ids_must_be_unique_in_mmcif(write, complex_text):
    """Two chains, or a chain and a ligand, with one label id are an error that names the fix."""
    protein = Protein.from_file(write(complex_text))
    with pytest.raises(StructureError, match=r"label chain id 'Axp' is not unique.*label_chain_ids=\.\.\."):
        Protein.concatenate([protein, protein]).to_mmcif()


def test_numbers_that_pdb_would_lose(write):
    """Unresolved residues of which only some have a number of the file: mmCIF says so, PDB is refused."""
    names = ["ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE"]
    atoms = [atom for atom in chain_of("ACDEFGHI") if atom.number not in (1, 8)]
    scheme = [("A", i, name, i + 20 if i == 1 else i, ".") for i, name in enumerate(names[:-1], start=1)]
    text = mmcif_text(atoms, label_chains={"A": "A"}, sequences={"A": names}, scheme=scheme)
    protein = Protein.from_file(write(text, "x.cif"))
    assert protein.insertion_code.tolist() == [*" " * 7, MADE_UP_NUMBER]
    assert protein.residue_number[0] == 21
    _assert_round_trip(write, protein, "mmCIF")
    with pytest.raises(StructureError, match=r"x.cif: PDB cannot say this protein: .* would read back differently"):
        protein.to_pdb()


def test_what_no_format_can_say_is_refused(write):
    """Two residues of one number, an id that gemmi leaves without quotes, atoms far away: errors say what to do."""
    text = pdb_text(chain_of("ACD", " "), chain_of("ACD", " ", seed=1, shift=(50.0, 0, 0)))
    protein = Protein.from_file(write(text))
    with pytest.raises(StructureError, match=r"2 residues of chain '' have the number 1: number them apart"):
        protein.to_mmcif()
    protein = _changed(Protein.from_file(write(_with_gap())), label_chain_ids=('"B',))
    with pytest.raises(StructureError, match=r"^made.pdb: mmCIF cannot say this protein: .*unterminated"):
        protein.to_mmcif()
    protein = Protein.from_file(write(_with_gap()))
    protein = _changed(protein, atom_positions=protein.atom_positions * np.float32(1e6))
    with pytest.raises(ValueError, match=r"^made.pdb: atom_positions must be at most 1,000,000 Å.* of chain 'A'"):
        protein.to_mmcif()


def test_differences_after_writing_are_found(write, complex_text):
    """The check that follows writing passes equal proteins, and names the field that differs."""
    protein = Protein.from_file(write(complex_text))
    writing.refuse_difference(protein, protein, "mmCIF")
    shift = protein.atom_mask[..., None].astype(np.float32)
    within = _changed(protein, atom_positions=protein.atom_positions + np.float32(0.0004) * shift)
    writing.refuse_difference(protein, within, "PDB")
    with pytest.raises(StructureError, match="mmCIF cannot say this protein: atom_positions would read"):
        writing.refuse_difference(protein, within, "mmCIF")
    beyond = _changed(protein, atom_positions=protein.atom_positions + np.float32(0.002) * shift)
    with pytest.raises(StructureError, match="atom_positions"):
        writing.refuse_difference(protein, beyond, "PDB")
    with pytest.raises(StructureError, match="insertion_code"):
        writing.refuse_difference(protein, _changed(protein, insertion_code=np.full(50, "B")), "PDB")


def test_every_ending_is_written(tmp_path, write, complex_text):
    """to_file goes by the ending, .gz is compressed to the same bytes each time, and another ending is an error."""
    protein = Protein.from_file(write(complex_text))
    for name in ("a.pdb", "a.ent", "a.cif", "a.pdb.gz", "A.CIF.GZ"):
        protein.to_file(tmp_path / name)
        is_cif = "cif" in name.lower()
        assert_same(Protein.from_file(tmp_path / name), protein, decimals=not is_cif, labels=is_cif)
        first = (tmp_path / name).read_bytes()
        protein.to_file(tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    assert gzip.decompress((tmp_path / "a.pdb.gz").read_bytes()).decode() == protein.to_pdb()
    with pytest.raises(StructureError, match=r"a.txt: unknown file ending; known: .pdb"):
        protein.to_file(tmp_path / "a.txt")


def test_invalid_proteins_are_not_written(write, complex_text):
    """A protein whose arrays contradict each other is an error of `validate`, not a file."""
    protein = Protein.from_file(write(complex_text))
    with pytest.raises(ValueError, match="atom_positions must be finite"):
        _changed(protein, atom_positions=_with_value(protein.atom_positions, (4, 1, 0), np.inf)).to_pdb()


@pytest.mark.shared_data
def test_shared_structures_read_back_the_same(write, shared_data):
    """Every sixtieth structure of the shared data, in both formats."""
    files = sorted(shared_data.glob("**/*.pdb.gz"))[::60]
    assert len(files) > 30
    for path in files:
        protein = Protein.from_file(path)
        for file_format in ("PDB", "mmCIF"):
            _assert_round_trip(write, protein, file_format)
