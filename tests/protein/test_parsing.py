"""Structure files to arrays: the rules of `bihf_jax.protein.parsing`, one by one, on small made files."""

import gzip
import os
import random
import re

import gemmi
import numpy as np
import pytest

from bihf_jax.protein import FileContents, Protein, StructureError, file_contents, parsing, residue_constants
from bihf_jax.protein.parsing import MADE_UP_NUMBER
from tests.protein.compare import differences
from tests.protein.conftest import sample_files
from tests.protein.synthetic import Atom, chain_of, mmcif_text, pdb_text, remark_465, seqres

N, CA, C, CB = (residue_constants.ATOM_INDEX[name] for name in ("N", "CA", "C", "CB"))


def _numbers(protein: Protein) -> list[tuple[int, str]]:
    return list(zip(protein.residue_number.tolist(), protein.insertion_code.tolist(), strict=True))


def _observed(protein: Protein) -> list[bool]:
    return protein.atom_mask.any(axis=1).tolist()


def _without(text: str, numbers: list[int]) -> str:
    """PDB text without the ATOM records of these residue numbers."""
    return "".join(
        line for line in text.splitlines(keepends=True) if line[:4] != "ATOM" or int(line[22:26]) not in numbers
    )


# --------------------------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------------------------


def test_every_ending_reads_the_same(write, complex_text):
    """.pdb, .ent and .cif, plain and .gz, in any case, give the same arrays."""
    cif = gemmi.read_pdb_string(complex_text)
    cif.setup_entities()
    cif_text = cif.make_mmcif_document().as_string()
    reference = Protein.from_file(write(complex_text, "reference.pdb"))
    assert reference.sequence() == ("ACDEFGHIKLMNPQRSTVWY", "WYVTSRQPNMLKIHGFEDCA", "GGGSSSAAAG")
    for name in ("a.pdb", "a.ent", "a.cif", "A.PDB", "a.pdb.gz", "a.ent.gz", "a.cif.gz", "A.PDB.GZ", "a.Cif.Gz"):
        content = (cif_text if "cif" in name.lower() else complex_text).encode()
        protein = Protein.from_file(write(gzip.compress(content) if name.lower().endswith("gz") else content, name))
        assert protein.source == name
        for field in ("residue_type", "atom_positions", "atom_mask", "chain_index", "residue_number", "b_factors"):
            np.testing.assert_array_equal(getattr(protein, field), getattr(reference, field), err_msg=f"{name} {field}")
        assert protein.chain_ids == ("A", "B", "C")


def test_gzip_files_of_several_members_are_read_whole(write, complex_text):
    """Concatenated gzip members, as bgzip and cat write them, are one text."""
    half = complex_text.index("TER")
    content = gzip.compress(complex_text[:half].encode()) + gzip.compress(complex_text[half:].encode())
    assert Protein.from_file(write(content, "made.pdb.gz")).chain_ids == ("A", "B", "C")


CIF_TEXT = mmcif_text(chain_of("ACDEFG"), label_chains={"A": "A"})
PDB_TEXT = pdb_text(chain_of("ACDEFG"))
WATER_ONLY = pdb_text(tail=[Atom("O", "HOH", "A", 1, hetero=True)])
NOISE = random.Random(0).randbytes(3000)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pdb", b"", "the file is empty"),
        ("x.pdb", b" \n\n", "the file is empty"),
        ("x.pdb.gz", gzip.compress(b""), "the file is empty"),
        ("x.pdb", NOISE, "NUL bytes: binary or damaged"),
        ("x.cif", NOISE.replace(b"\0", b"\1"), "no mmCIF content"),
        ("x.txt", PDB_TEXT.encode(), r"unknown file ending; known: .pdb, .ent, .cif, each also with .gz"),
        ("x", PDB_TEXT.encode(), "unknown file ending"),
        ("x.pdb", CIF_TEXT.encode(), "the content is mmCIF, but the ending says PDB"),
        ("x.cif", PDB_TEXT.encode(), "the content is PDB, but the ending says mmCIF"),
        ("x.pdb", gzip.compress(PDB_TEXT.encode()), "the content is gzip; rename it to 'x.pdb.gz'"),
        ("x.pdb.gz", PDB_TEXT.encode(), "the content is not gzip; rename it to 'x.pdb'"),
        ("x.pdb.gz", gzip.compress(PDB_TEXT.encode())[:-20], "truncated gzip data"),
        ("x.pdb.gz", gzip.compress(PDB_TEXT.encode())[:100] + b"\xff" * 50, "gzip data"),
        ("x.pdb.gz", gzip.compress(PDB_TEXT.encode()) + b"more", "4 bytes that are not gzip after the end"),
        ("x.pdb", b"HEADER    ONLY A HEADER\nEND\n", "no PDB content"),
        ("x.cif", b"data_empty\n_cell.length_a 1.0\n", "no coordinates"),
        ("x.pdb", WATER_ONLY.encode(), "no protein in it"),
        (
            "x.pdb",
            PDB_TEXT[: PDB_TEXT.index("ASP") + 20].encode(),
            "truncated: the last line ends inside an atom record",
        ),
        ("x.pdb", ("MODEL        1\n" + PDB_TEXT[: PDB_TEXT.index("TER")]).encode(), "truncated: the last MODEL"),
        ("x.cif", CIF_TEXT[: CIF_TEXT.index("ASP") + 3].encode(), "damaged or truncated mmCIF"),
    ],
)
def test_bad_files_are_named(write, name, content, message):
    """Each kind of unusable file gives an error with the file's name and what is wrong."""
    with pytest.raises(StructureError, match=message) as error:
        Protein.from_file(write(content, name))
    assert str(error.value).startswith(name + ":")


def test_missing_files_and_folders_are_named(tmp_path):
    """A path that is nothing, or a folder, is named in full."""
    with pytest.raises(StructureError, match=r"nothing.pdb: no such file"):
        Protein.from_file(tmp_path / "nothing.pdb")
    (tmp_path / "folder.pdb").mkdir()
    with pytest.raises(StructureError, match=r"folder.pdb: not a file"):
        Protein.from_file(tmp_path / "folder.pdb")


def test_the_size_limit_bounds_what_is_unpacked(write):
    """A small file that unpacks to much is stopped at the limit; at the exact size it is read."""
    bomb = write(gzip.compress(PDB_TEXT.encode() + b" " * 50_000_000), "bomb.pdb.gz")
    assert bomb.stat().st_size < 100_000
    with pytest.raises(
        StructureError, match=r"bomb.pdb.gz: more than 1,000,000 bytes \(decompressed\); raise max_bytes"
    ):
        Protein.from_file(bomb, max_bytes=1_000_000)
    plain, packed = write(PDB_TEXT), write(gzip.compress(PDB_TEXT.encode()), "x.pdb.gz")
    for path in (plain, packed):
        assert Protein.from_file(path, max_bytes=len(PDB_TEXT)).num_residues == 6
        with pytest.raises(StructureError, match="more than"):
            Protein.from_file(path, max_bytes=len(PDB_TEXT) - 1)


@pytest.mark.parametrize("text", [PDB_TEXT, CIF_TEXT], ids=["pdb", "cif"])
def test_damage_gives_a_structure_or_a_structure_error(write, text):
    """Files cut at, or overwritten from, random places never raise anything but `StructureError`."""
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        data = bytearray(text.encode())
        at = rng.randrange(len(data))
        if rng.random() < 0.5:
            data = data[:at]
        else:
            data[at : at + rng.choice([1, 8, 200])] = rng.randbytes(rng.choice([1, 8, 200])).replace(b"\0", b"\xfe")
        path = write(bytes(data), "x.pdb" if text is PDB_TEXT else "x.cif")
        try:
            protein = Protein.from_file(path)
        except StructureError:
            refused += 1
        else:
            assert np.isfinite(protein.atom_positions).all()
    assert refused > 20


def test_files_that_end_early_are_reported(write):
    """What cannot be told from a complete file is read, and the missing end is in the report."""
    assert Protein.from_file(write(PDB_TEXT.removesuffix("END\n"))).report.ends_early
    assert not Protein.from_file(write(PDB_TEXT)).report.ends_early
    assert not Protein.from_file(write(CIF_TEXT, "x.cif")).report.ends_early


# --------------------------------------------------------------------------------------------------------------------
# Models and chains
# --------------------------------------------------------------------------------------------------------------------


def test_first_model_unless_asked(write):
    """The first model is read, another by its number, and a missing one lists those of the file."""
    bodies = [pdb_text(chain_of("ACDE", seed=seed), end="") for seed in (1, 2)]
    text = (
        "".join(f"MODEL     {number:4d}\n{body}ENDMDL\n" for number, body in zip((2, 5), bodies, strict=True)) + "END\n"
    )
    path = write(text)
    first, second = (Protein.from_file(write(body + "END\n", "one.pdb")) for body in bodies)
    np.testing.assert_array_equal(Protein.from_file(path).atom_positions, first.atom_positions)
    np.testing.assert_array_equal(Protein.from_file(path, model=5).atom_positions, second.atom_positions)
    assert Protein.from_file(path).report.models == 2
    with pytest.raises(StructureError, match=r"made.pdb: no model 1; models: 2, 5"):
        Protein.from_file(path, model=1)


def test_chains_asked_for(write, complex_text):
    """`chains` reads these chains only, as `select_chains` would; a missing one lists those of the file."""
    path = write(complex_text)
    some, whole = Protein.from_file(path, chains=["C", "A"]), Protein.from_file(path)
    assert some.chain_ids == ("A", "C")
    np.testing.assert_array_equal(some.atom_positions, whole.select_chains(["A", "C"]).atom_positions)
    with pytest.raises(StructureError, match=r"made.pdb: no chain 'D'; chains: A, B, C"):
        Protein.from_file(path, chains=["A", "D"])
    with pytest.raises(StructureError, match="no chain asked for"):
        Protein.from_file(path, chains=[])
    with pytest.raises(StructureError, match=r"must be a list of ids"):
        Protein.from_file(path, chains="AB")


def test_chains_without_protein_are_counted(write):
    """Nucleic acid is left out and named, lone small molecules are ligands; asked for alone they are no protein."""
    dna = [
        Atom(name, base, "D", number, (3.0 * number, index, 50.0))
        for number, base in enumerate(("DA", "DC", "DG", "DT"), start=1)
        for index, name in enumerate(("P", "O5'", "C5'", "C4'", "C3'", "O3'"))
    ]
    tail = [Atom("C1", "GOL", "L", 1, (60.0, 0, 0), hetero=True), Atom("O", "HOH", "A", 301, (9, 9, 9), hetero=True)]
    path = write(pdb_text(chain_of("ACDE"), dna, tail=tail))
    protein = Protein.from_file(path)
    assert protein.chain_ids == ("A",)
    assert protein.report.chains_left_out == ("D",)
    assert protein.report.nucleotides == {"DA": 1, "DC": 1, "DG": 1, "DT": 1}
    assert protein.report.ligands == {"GOL": 1}
    assert protein.report.waters == 1
    with pytest.raises(StructureError, match=r"no protein in it \(chains without protein: D\)"):
        Protein.from_file(path, chains=["D"])


def test_short_peptides_count_and_free_amino_acids_do_not(write):
    """Two linked residues are a chain; a single one, and a free glycine beside a chain, are ligands."""
    free = [Atom(name, "GLY", "A", 90, (40.0 + i, 0, 0), hetero=True) for i, name in enumerate(("N", "CA", "C", "O"))]
    lone = chain_of("G", "C", shift=(90.0, 0, 0))
    protein = Protein.from_file(
        write(pdb_text(chain_of("ACDE"), chain_of("AC", "B", shift=(70.0, 0, 0)), lone, tail=free))
    )
    assert protein.chain_ids == ("A", "B")
    assert protein.sequence() == ("ACDE", "AC")
    assert protein.report.ligands == {"GLY": 2}
    assert protein.report.chains_left_out == ()
    assert protein.ligands.kinds() == ("amino acid", "amino acid")


def test_blank_chain_ids_are_kept(write):
    """A file without chain ids has one chain named ""."""
    assert Protein.from_file(write(pdb_text(chain_of("ACDE", " ")))).chain_ids == ("",)


def test_ter_inside_a_chain_and_hetero_residues_after_it(write):
    """TER at a gap does not end the chain, and a modified residue written after the chain goes to its place."""
    atoms = chain_of("ACDEFM")
    for atom in atoms:
        if atom.number == 3:
            atom.residue, atom.hetero = "CSO", True
    before = [atom for atom in atoms if atom.number < 3]
    after = [atom for atom in atoms if atom.number > 3]
    modified = [atom for atom in atoms if atom.number == 3]
    protein = Protein.from_file(write(pdb_text(before, after, tail=modified)))
    assert protein.sequence() == ("ACCEFM",)
    assert protein.residue_number.tolist() == [1, 2, 3, 4, 5, 6]
    assert protein.report.modified == {"CSO": 1}


# --------------------------------------------------------------------------------------------------------------------
# Residues
# --------------------------------------------------------------------------------------------------------------------


def test_insertion_codes_are_kept(write):
    """Residues 2, 2A, 2B and 3 are four residues in the order of the file, in PDB and mmCIF."""
    atoms = chain_of("ACDEF")
    for atom in atoms:
        atom.number, atom.code = {1: (1, " "), 2: (2, " "), 3: (2, "A"), 4: (2, "B"), 5: (3, " ")}[atom.number]
    expected = [(1, " "), (2, " "), (2, "A"), (2, "B"), (3, " ")]
    for path in (write(pdb_text(atoms)), write(mmcif_text(atoms, label_chains={"A": "A"}), "x.cif")):
        protein = Protein.from_file(path)
        assert _numbers(protein) == expected
        assert protein.sequence() == ("ACDEF",)
        assert protein.label_residue_number.tolist() == [1, 2, 3, 4, 5]


def test_modified_residues_become_their_parent(write):
    """MSE is M with its selenium as SD; SEP is S without its phosphate; both are counted by name."""
    atoms = chain_of("AMSA")
    for atom in atoms:
        if atom.number == 2:
            atom.residue, atom.hetero = "MSE", True
            if atom.name == "SD":
                atom.name, atom.element = "SE", "SE"
        if atom.number == 3:
            atom.residue, atom.hetero = "SEP", True
    at = next(i for i, atom in enumerate(atoms) if atom.number == 4)
    atoms.insert(at, Atom("P", "SEP", "A", 3, (1.0, 2.0, 3.0), hetero=True))
    protein = Protein.from_file(write(pdb_text(atoms)))
    assert protein.sequence() == ("AMSA",)
    assert protein.atom_mask[1, residue_constants.ATOM_INDEX["SD"]]
    assert protein.report.modified == {"MSE": 1, "SEP": 1}
    assert protein.report.other_atoms == {"SEP:P": 1}


def test_unknown_components_of_the_polymer(write):
    """A component that no table knows is X, or the parent that MODRES names; caps have no slot."""
    atoms = chain_of("AGGA")
    for atom in atoms:
        if atom.number in (2, 3):
            atom.residue, atom.hetero = "ZZ" + str(atom.number), True
    cap = [Atom("C", "ACE", "A", 0, (-1.3, 0, 0), hetero=True), Atom("O", "ACE", "A", 0, (-2, 1, 0), hetero=True)]
    header = "MODRES 1ABC ZZ3 A    3  LYS  A LYSINE\n"
    protein = Protein.from_file(write(pdb_text(cap + atoms, header=header)))
    assert protein.sequence() == ("AXKA",)
    assert protein.report.modified == {"ZZ2": 1, "ZZ3": 1}
    assert protein.report.ligands == {"ACE": 1}


def test_hydrogens_and_unplaced_atoms_are_out(write):
    """Hydrogen and deuterium leave no trace but their count; atoms without coordinates are masked."""
    atoms = chain_of("AC")
    plain = Protein.from_file(write(pdb_text(atoms)))
    hydrogens = [
        Atom("H", "CYS", "A", 2, (1, 1, 1)),
        Atom("D", "CYS", "A", 2, (1, 2, 1)),
        Atom("1HB", "CYS", "A", 2, (1, 2, 3)),
    ]
    protein = Protein.from_file(write(pdb_text(atoms + hydrogens)))
    np.testing.assert_array_equal(protein.atom_mask, plain.atom_mask)
    assert protein.report.hydrogen_atoms == 3
    cif = mmcif_text(atoms, label_chains={"A": "A"})
    row = next(line for line in cif.splitlines() if " CB " in line)
    holes = cif.replace(row, row.replace(f"{atoms[4].xyz[0]:.3f}", "?", 1))
    protein = Protein.from_file(write(holes, "x.cif"))
    assert not protein.atom_mask[0, CB]
    assert protein.report.unplaced_atoms == 1
    assert (protein.atom_positions[~protein.atom_mask] == 0).all()


def test_names_of_simulation_programs_are_read(write):
    """CHARMM's OT1, OT2 and HSD and GROMACS' CD of isoleucine are O, OXT, H and CD1."""
    atoms = chain_of("HI")
    for atom in atoms:
        if atom.number == 1:
            atom.residue = "HSD"
        atom.name = {"CD1": "CD"}.get(atom.name, atom.name)
        if atom.number == 2 and atom.name == "O":
            atom.name = "OT1"
    atoms.append(Atom("OT2", "ILE", "A", 2, (3, 3, 3)))
    protein = Protein.from_file(write(pdb_text(atoms)))
    assert protein.sequence() == ("HI",)
    names = {residue_constants.ATOM_NAMES[i] for i in np.flatnonzero(protein.atom_mask[1])}
    assert names == {"N", "CA", "C", "O", "CB", "CG1", "CD1", "OXT"}
    assert not protein.report.other_atoms


# --------------------------------------------------------------------------------------------------------------------
# Alternate locations
# --------------------------------------------------------------------------------------------------------------------


def _with_altlocs(labels: list[tuple[str, float]], names: list[list[str]] | None = None) -> list[Atom]:
    """Chain ASA whose serine has these conformers, each shifted by 1 Å times its place in the list."""
    atoms = []
    for atom in chain_of("ASA"):
        if atom.number != 2:
            atoms.append(atom)
            continue
        for i, (label, occupancy) in enumerate(labels):
            if names is None or atom.name in names[i]:
                x, y, z = atom.xyz
                atoms.append(Atom(atom.name, "SER", "A", 2, (x + i, y, z), " ", label, occupancy, label=2))
    return atoms


def _shift(protein: Protein, plain: Protein) -> np.ndarray:
    """x shift of each atom of residue 2, in Å."""
    return np.round((protein.atom_positions - plain.atom_positions)[1, plain.atom_mask[1], 0], 2)


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        ([("A", 0.3), ("B", 0.7)], 1),
        ([("A", 0.7), ("B", 0.3)], 0),
        ([("B", 0.5), ("A", 0.5)], 1),
        ([("A", 0.5), ("B", 0.5)], 0),
        ([("A", 0.2), ("B", 0.3), ("C", 0.5)], 2),
    ],
)
@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_highest_occupancy_then_label(write, labels, kept, kind):
    """The conformer of highest occupancy is kept whole, of equal ones the first label, whatever their order."""
    plain = Protein.from_file(write(pdb_text(chain_of("ASA"))))
    atoms = _with_altlocs(labels)
    text = pdb_text(atoms) if kind == "pdb" else mmcif_text(atoms, label_chains={"A": "A"})
    protein = Protein.from_file(write(text, f"x.{kind}"))
    np.testing.assert_array_equal(_shift(protein, plain), kept)
    assert protein.report.altloc_atoms == (len(labels) - 1) * int(plain.atom_mask[1].sum())


def test_atoms_that_the_best_conformer_lacks(write):
    """An atom that only the other conformer has is taken from there, the rest from the best."""
    plain = Protein.from_file(write(pdb_text(chain_of("ASA"))))
    atoms = _with_altlocs([("A", 0.6), ("B", 0.4)], [["N", "CA", "C", "O"], ["N", "CA", "C", "O", "CB", "OG"]])
    protein = Protein.from_file(write(pdb_text(atoms)))
    expected = [1.0 if name in ("CB", "OG") else 0.0 for name in residue_constants.ATOM_NAMES]
    np.testing.assert_array_equal(_shift(protein, plain), np.array(expected)[plain.atom_mask[1]])


@pytest.mark.parametrize(("occupancies", "expected"), [((0.6, 0.4), "S"), ((0.4, 0.6), "T"), ((0.5, 0.5), "S")])
@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_microheterogeneity_follows_the_same_rule(write, occupancies, expected, interleaved, kind):
    """Of two residue names at one position the better occupied one is kept, ties by label; it is one slot."""
    atoms, second = [], []
    for atom in chain_of("ASA"):
        if atom.number == 2:
            atom.altloc, atom.occupancy = "A", occupancies[0]
            name = "OG1" if atom.name == "OG" else atom.name
            twin = Atom(name, "THR", "A", 2, tuple(np.array(atom.xyz) + 1), " ", "B", occupancies[1], label=2)
            atoms.append(atom)
            (atoms if interleaved else second).append(twin)
        else:
            atoms.extend(second)
            second = []
            atoms.append(atom)
    text = pdb_text(atoms, header=seqres("A", ["ALA", "SER", "ALA"]))
    if kind == "cif":
        text = mmcif_text(atoms, label_chains={"A": "A"}, sequences={"A": ["ALA", "SER", "ALA"]})
    protein = Protein.from_file(write(text, f"x.{kind}"))
    assert protein.sequence() == (f"A{expected}A",)
    assert protein.report.microheterogeneities == 1
    assert not protein.report.sequence_conflicts


def test_a_segment_id_that_changes_inside_a_residue(write):
    """A residue of which only some atoms carry a segment id is one residue with all its atoms."""
    atoms = chain_of("ACD")
    lines = [
        atom.pdb(i, f"{'SEG' if atom.number == 2 and atom.name in ('N', 'CA') else '':4}{atom.name[0]:>2}  ")
        for i, atom in enumerate(atoms, start=1)
    ]
    protein = Protein.from_file(write("\n".join(lines) + "\nEND\n"))
    np.testing.assert_array_equal(protein.atom_mask, Protein.from_file(write(pdb_text(atoms))).atom_mask)
    assert protein.report.microheterogeneities == 0


def test_repeated_residue_numbers_are_counted(write):
    """Two chains under one id and one numbering are one chain whose repeated numbers the report counts."""
    text = pdb_text(chain_of("ACD", " "), chain_of("ACD", " ", seed=1, shift=(50.0, 0, 0)))
    protein = Protein.from_file(write(text))
    assert protein.sequence() == ("ACDACD",)
    assert protein.report.repeated_numbers == 3


def test_repeated_atoms_keep_the_first(write):
    """An atom name that a residue has twice without a label is counted, and the first one kept."""
    atoms = chain_of("AC")
    extra = Atom("CA", "CYS", "A", 2, (99.0, 99.0, 99.0))
    plain = Protein.from_file(write(pdb_text(atoms)))
    protein = Protein.from_file(write(pdb_text([*atoms, extra])))
    np.testing.assert_array_equal(protein.atom_positions, plain.atom_positions)
    assert protein.report.repeated_atoms == 1


# --------------------------------------------------------------------------------------------------------------------
# Full sequences
# --------------------------------------------------------------------------------------------------------------------

NAMES = ["ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE"]
FULL = "ACDEFGHI"


def test_unresolved_residues_keep_a_slot_in_pdb_files(write):
    """SEQRES and REMARK 465: start, gap and end have masked slots with the numbers of the file."""
    text = _without(pdb_text(chain_of(FULL, first_number=11)), [11, 14, 15, 18])
    missing = [("ALA", "A", 11, " "), ("GLU", "A", 14, " "), ("PHE", "A", 15, " "), ("ILE", "A", 18, " ")]
    protein = Protein.from_file(write(remark_465(missing) + seqres("A", NAMES) + text))
    assert protein.sequence() == (FULL,)
    assert _observed(protein) == [False, True, True, False, False, True, True, False]
    assert _numbers(protein) == [(n, " ") for n in range(11, 19)]
    assert protein.label_residue_number.tolist() == list(range(1, 9))
    assert protein.report.unresolved == 4
    assert protein.report.made_up_numbers == 0


def test_remark_465_of_several_models(write):
    """In an NMR file, which lists the unresolved residues of each model, those of the model read are taken."""
    text = _without(pdb_text(chain_of(FULL), end=""), [1, 2])
    rows = "".join(f"REMARK 465   {m} {n} A     {i}\n" for m in (1, 2) for i, n in ((1, "ALA"), (2, "CYS")))
    models = "".join(f"MODEL     {m:4d}\n{text}ENDMDL\n" for m in (1, 2)) + "END\n"
    protein = Protein.from_file(write("REMARK 465   M RES C SSSEQI\n" + rows + seqres("A", NAMES) + models), model=2)
    assert protein.report.made_up_numbers == 0
    assert _numbers(protein)[:3] == [(1, " "), (2, " "), (3, " ")]


def test_none_is_invented_without_a_full_sequence(write):
    """Without SEQRES a gap in the numbers has no slots, and the report says that the sequence is not known."""
    protein = Protein.from_file(write(_without(PDB_TEXT, [3, 4])))
    assert protein.sequence() == ("ACFG",)
    assert protein.report.unresolved == 0
    assert protein.report.no_full_sequence == ("A",)


def test_numbers_that_the_file_does_not_give_are_marked(write):
    """Without REMARK 465 the count goes on from the residue before, and the insertion code says so."""
    text = _without(pdb_text(chain_of(FULL, first_number=11)), [11, 12, 15, 18])
    protein = Protein.from_file(write(seqres("A", NAMES) + text))
    made_up = MADE_UP_NUMBER
    assert [code for _, code in _numbers(protein)] == [made_up, made_up, " ", " ", made_up, " ", " ", made_up]
    assert protein.residue_number.tolist() == list(range(11, 19))
    assert protein.report.made_up_numbers == 4


def test_made_up_numbers_never_name_two_residues(write):
    """Where the numbers leave no room (insertions in the gap), every residue still has its own number and code."""
    atoms = [atom for atom in chain_of("ACDEFGHI") if atom.number not in (2, 3, 6, 7)]
    for atom in atoms:
        atom.number = {1: 10, 4: 11, 5: 12, 8: 13}[atom.number]
    protein = Protein.from_file(write(seqres("A", NAMES) + pdb_text(atoms)))
    assert protein.sequence() == (FULL,)
    assert len(set(_numbers(protein))) == 8


def test_remark_465_decides_where_a_gap_lies(write):
    """In a run of equal residues only REMARK 465 can say which one is unresolved; the alignment is not asked."""
    for gone in (2, 3, 4, 5):
        text = _without(pdb_text(chain_of("AGGGGA")), [gone])
        header = remark_465([("GLY", "A", gone, " ")]) + seqres("A", ["ALA", *["GLY"] * 4, "ALA"])
        protein = Protein.from_file(write(header + text))
        assert protein.residue_number.tolist() == [1, 2, 3, 4, 5, 6]
        assert protein.label_residue_number.tolist() == [1, 2, 3, 4, 5, 6]
        assert np.flatnonzero(~np.array(_observed(protein))).tolist() == [gone - 1]


def test_alignment_with_insertion_codes_mse_and_gaps(write):
    """Without REMARK 465 the residues are aligned with SEQRES, through an insertion, an MSE and a gap."""
    atoms = chain_of("ACMEFGHI")
    kept = []
    for atom in atoms:
        atom.number, atom.code = {4: (3, "A")}.get(atom.number, (atom.number - (atom.number > 4), " "))
        if atom.number == 3 and atom.code == " ":
            atom.residue, atom.hetero = "MSE", True
        if atom.number not in (4, 5):
            kept.append(atom)
    names = ["ALA", "CYS", "MSE", "GLU", "PHE", "GLY", "HIS", "ILE"]
    protein = Protein.from_file(write(seqres("A", names) + pdb_text(kept)))
    assert protein.sequence() == ("ACMEFGHI",)
    assert _observed(protein) == [True, True, True, True, False, False, True, True]
    assert _numbers(protein)[2:4] == [(3, " "), (3, "A")]
    assert protein.label_residue_number.tolist() == list(range(1, 9))


def test_full_sequences_that_contradict_the_atoms_are_not_used(write):
    """A SEQRES with another residue, or of another chain, gives the observed residues only, and the chain is named."""
    for names in (["ALA", "CYS", "TRP", "GLU", "PHE", "GLY"], ["TRP"] * 6, ["ALA", "CYS"]):
        protein = Protein.from_file(write(seqres("A", names) + PDB_TEXT))
        assert protein.sequence() == ("ACDEFG",)
        assert protein.report.sequence_conflicts == ("A",)
        assert protein.report.unresolved == 0


def test_caps_in_the_full_sequence_have_no_slot(write):
    """ACE and NH2 in SEQRES take a position in the count of the full sequence, and no slot."""
    text = pdb_text(chain_of("ACDE"), header=seqres("A", ["ACE", "ALA", "CYS", "ASP", "GLU", "NH2"]))
    protein = Protein.from_file(write(text))
    assert protein.sequence() == ("ACDE",)
    assert not protein.report.sequence_conflicts
    assert protein.label_residue_number.tolist() == [2, 3, 4, 5]


def test_sequences_without_atoms_are_counted(write):
    """A chain of SEQRES that has no atom at all is no chain, and is counted."""
    protein = Protein.from_file(write(seqres("A", NAMES[:6]) + seqres("B", NAMES) + PDB_TEXT))
    assert protein.chain_ids == ("A",)
    assert protein.report.sequences_without_atoms == 1


def test_mmcif_unresolved_residues_and_both_numberings(write):
    """mmCIF: the full sequence gives the slots, _pdbx_poly_seq_scheme the author numbers, and both ids are kept."""
    atoms = [atom for atom in chain_of(FULL, "H", first_number=101) if atom.number not in (101, 104, 105)]
    scheme = [("B", i, name, 100 + i, ".") for i, name in enumerate(NAMES, start=1)]
    scheme[4] = ("B", 5, "PHE", 104, "A")
    text = mmcif_text(atoms, label_chains={"H": "B"}, sequences={"B": NAMES}, scheme=scheme)
    protein = Protein.from_file(write(text, "x.cif"))
    assert protein.sequence() == (FULL,)
    assert (protein.chain_ids, protein.label_chain_ids) == (("H",), ("B",))
    assert _observed(protein) == [False, True, True, False, False, True, True, True]
    assert _numbers(protein) == [*((n, " ") for n in range(101, 105)), (104, "A"), *((n, " ") for n in range(106, 109))]
    assert protein.label_residue_number.tolist() == list(range(1, 9))
    assert protein.report.made_up_numbers == 0


def test_mmcif_without_scheme_marks_made_up_numbers(write):
    """A file with a full sequence and no author numbers for it gets counted-on, marked ones."""
    atoms = [atom for atom in chain_of(FULL) if atom.number not in (1, 4)]
    protein = Protein.from_file(write(mmcif_text(atoms, label_chains={"A": "A"}, sequences={"A": NAMES}), "x.cif"))
    assert protein.residue_number.tolist() == list(range(1, 9))
    assert protein.report.made_up_numbers == 2


# --------------------------------------------------------------------------------------------------------------------
# Old columns
# --------------------------------------------------------------------------------------------------------------------


def _old_text(first_serial: int) -> str:
    """PDB text with entry id and serial number in columns 73-80, as before 1996, header lines included."""
    lines = [f"{'SEQRES   1 A    6  ALA CYS ASP GLU PHE GLY':<72}1ABC  12"]
    lines += [atom.pdb(i, f"1ABC{i % 10000:4d}") for i, atom in enumerate(chain_of("ACDEFG"), start=first_serial)]
    return "\n".join([*lines, f"{'END':<72}1ABC 999"]) + "\n"


@pytest.mark.parametrize("first_serial", [1, 85, 990, 4300, 9990])
def test_old_columns_read_like_any_other(write, first_serial):
    """The text in columns 73-80 is no element and no charge, whatever the serial number; the atoms are the same."""
    plain = Protein.from_file(write(PDB_TEXT))
    protein = Protein.from_file(write(_old_text(first_serial), "old.pdb"))
    np.testing.assert_array_equal(protein.atom_positions, plain.atom_positions)
    np.testing.assert_array_equal(protein.atom_mask, plain.atom_mask)
    assert protein.report.old_columns
    assert not plain.report.old_columns


def test_other_labels_in_the_last_columns(write):
    """A label such as "0057 N83", which reads as nitrogen with charge 83, is left out too."""
    text = "\n".join(atom.pdb(i, f"0057 {atom.name[0]}{i + 50:02d}") for i, atom in enumerate(chain_of("ACDEFG"), 1))
    protein = Protein.from_file(write(text + "\nEND\n"))
    np.testing.assert_array_equal(protein.atom_mask, Protein.from_file(write(PDB_TEXT)).atom_mask)
    assert protein.report.old_columns


def test_segment_ids_are_not_old_columns(write):
    """A segment id that looks like an entry id, with elements and charges, leaves columns 77-80 as they are."""
    text = (
        "\n".join(atom.pdb(i, f"1ABC {atom.name[0]}1+") for i, atom in enumerate(chain_of("ACDEFG"), start=1))
        + "\nEND\n"
    )
    assert not Protein.from_file(write(text)).report.old_columns


@pytest.mark.shared_data
def test_all_old_files_of_docking_benchmark_are_read(shared_data):
    """Every file that gemmi refuses for its columns 73-80 is read by us, as an old one, with as many CA as it has."""
    refused = 0
    for path in sorted((shared_data / "common/equidock_public/data/benchmark5.5/structures").glob("*_b.pdb.gz")):
        data = gzip.decompress(path.read_bytes())
        try:
            gemmi.read_pdb_string(data)
        except RuntimeError:
            refused += 1
            protein = Protein.from_file(path)
            assert protein.report.old_columns
            assert protein.atom_mask[:, CA].sum() == len(re.findall(rb"^ATOM .{8}CA [ A]", data, re.M)), path.name
    assert refused >= 30


# --------------------------------------------------------------------------------------------------------------------
# Hostile files
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PDB_TEXT.replace("ASP A   3", "ASP A    "), "a residue ASP without a number"),
        (PDB_TEXT.replace("ASP A   3 ", "ASP A   3\1"), "must be printable ASCII"),
        (PDB_TEXT.replace(" A   ", " \1   "), "must be printable ASCII"),
        (pdb_text(chain_of("AC"), tail=[Atom("C\1", "LIG", "A", 9, hetero=True)]), "must be printable ASCII"),
        (
            remark_465([("ALA", "A", 99999999999, " ")])
            + seqres("A", ["ALA", "CYS", "ASP", "GLU", "PHE", "GLY"])
            + _without(PDB_TEXT, [1]),
            "residue number 99999999999; it must fit into 32 bits",
        ),
    ],
)
def test_damaged_ids_and_numbers_are_refused(write, text, message):
    """Numbers that are missing or too large, and ids that are not ASCII, are an error that says so."""
    with pytest.raises(StructureError, match=message):
        Protein.from_file(write(text))


@pytest.mark.parametrize("coordinate", ["1e39", "1e38", "-1.1e6"])
def test_numbers_that_are_none(write, coordinate):
    """Coordinates beyond all structures are unplaced, B factors beyond float32 are 0, and both are counted."""
    text = mmcif_text(chain_of("AC"), label_chains={"A": "A"})
    rows = [line for line in text.splitlines() if line.startswith("ATOM")]
    far = rows[1].replace(rows[1].split()[10], coordinate, 1)
    text = text.replace(rows[1], far).replace(rows[3], rows[3].replace(" 10.00 ", " 1e39 "))
    protein = Protein.from_file(write(text, "x.cif"))
    assert not protein.atom_mask[0, CA]
    assert (protein.report.unplaced_atoms, protein.report.unknown_b_factors) == (1, 1)
    protein.validate()


def test_a_label_number_beyond_the_full_sequence_is_a_conflict(write):
    """An unknown component numbered far beyond the sequence makes no million slots."""
    atoms = chain_of("ACDG")
    for atom in atoms:
        if atom.number == 4:
            atom.residue, atom.label = "ZZZ", 10**9
    text = mmcif_text(atoms, label_chains={"A": "A"}, sequences={"A": NAMES})
    protein = Protein.from_file(write(text, "x.cif"))
    assert protein.sequence() == ("ACDX",)
    assert protein.report.sequence_conflicts == ("A",)


def test_limits_on_residues_and_alignments(write, monkeypatch):
    """Full sequences of more residues than the limit, and alignments that would take too long, are refused."""
    path = write(seqres("A", ["ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "TRP"]) + PDB_TEXT)
    monkeypatch.setattr(parsing, "MAX_RESIDUES", 7)
    monkeypatch.setattr(parsing, "MAX_ALIGNMENT", 42)
    assert Protein.from_file(path).num_residues == 7
    monkeypatch.setattr(parsing, "MAX_RESIDUES", 6)
    with pytest.raises(StructureError, match=r"made.pdb: 7 residues; at most 6 are read; select chains"):
        Protein.from_file(path)
    monkeypatch.setattr(parsing, "MAX_ALIGNMENT", 41)
    with pytest.raises(StructureError, match=r"6 residues with atoms and a full sequence of 7, more than"):
        Protein.from_file(path)


def test_a_chain_of_hetero_records_is_restored(write):
    """Residues that HETATM records hold, in any order, are put where their peptide bonds say."""
    chain = chain_of("A" * 30)
    for atom in chain:
        atom.hetero = atom.number > 1
        atom.residue = "ALA" if atom.number == 1 else "CSO"
    by_residue = {number: [atom for atom in chain if atom.number == number] for number in range(1, 31)}
    order = list(range(2, 31))
    random.Random(0).shuffle(order)
    shuffled = [atom for number in (1, *order) for atom in by_residue[number]]
    protein = Protein.from_file(write(pdb_text(by_residue[1], tail=shuffled[len(by_residue[1]) :])))
    assert protein.residue_number.tolist() == list(range(1, 31))
    assert protein.ligands.num_molecules == 0


def test_contents_of_a_file(write, complex_text):
    """Models, chains and assemblies to choose from; a file that cannot be read is refused as for a protein."""
    assert file_contents(write(complex_text)) == FileContents(models=(1,), chains=("A", "B", "C"), assemblies=())
    with pytest.raises(StructureError, match="the file is empty"):
        file_contents(write("", "empty.pdb"))
    with pytest.raises(StructureError, match="a name in it is not text"):
        file_contents(write(complex_text.encode().replace(b" A ", b" \xff "), "odd.pdb"))


# --------------------------------------------------------------------------------------------------------------------
# The independent reader
# --------------------------------------------------------------------------------------------------------------------


def test_the_comparison_finds_differences(write, complex_text):
    """The comparison with Biopython is empty on an equal file and not on a moved atom, a lost residue, another type."""
    path = write(complex_text)
    protein = Protein.from_file(path)
    assert differences(path, protein) == []
    assert differences(write(complex_text.replace("GLY C   7", "GLY C   9"), "other.pdb"), protein)
    assert differences(write(_without(complex_text, [3]), "less.pdb"), protein)
    moved = complex_text.replace(f"{protein.atom_positions[0, CA, 0]:8.3f}", "  77.777", 1)
    assert differences(write(moved, "moved.pdb"), protein)
    assert differences(write(complex_text.replace("TRP A", "TYR A"), "type.pdb"), protein)


def test_same_as_biopython_on_the_sample():
    """Same chains, residues and coordinates as Biopython on every structure of the embedded sample."""
    files = sample_files()
    if not files:
        pytest.skip("the embedded sample is not there")
    found = {path.name: difference for path in files if (difference := differences(path, Protein.from_file(path)))}
    assert found == {}


def _shared_structures(shared_data) -> list:
    # One decoy lost a disk block (4,096 NUL bytes in the middle); it is refused, which a test below shows.
    return [path for path in sorted(shared_data.glob("**/*.pdb.gz")) if path.name != "1ctf.a8359_r.pdb.gz"]


def _assert_same_as_biopython(files: list) -> None:
    found = {path.name: difference for path in files if (difference := differences(path, Protein.from_file(path)))}
    assert found == {}


@pytest.mark.shared_data
def test_same_as_biopython_on_some_shared_structures(shared_data):
    """The same on every fifteenth structure of the shared data (all: BIHF_ALL_STRUCTURES=1, or the slow test)."""
    step = 1 if os.environ.get("BIHF_ALL_STRUCTURES") else 15
    _assert_same_as_biopython(_shared_structures(shared_data)[::step])


@pytest.mark.slow
@pytest.mark.shared_data
def test_same_as_biopython_on_all_shared_structures(shared_data):
    """The same on all 2,097 (about two minutes)."""
    files = _shared_structures(shared_data)
    assert len(files) > 2000
    _assert_same_as_biopython(files)


@pytest.mark.shared_data
def test_a_damaged_shared_file_is_refused(shared_data):
    """The decoy with a lost block in its middle is an error, not a shorter protein."""
    path = shared_data / "MQA/4state_1ctf/1ctf.a8359_r.pdb.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    with pytest.raises(StructureError, match="4096 NUL bytes"):
        Protein.from_file(path)
