"""The `Protein` type: its checks, selection and concatenation."""

import dataclasses

import gemmi
import numpy as np
import pytest

from bihf_jax.protein import Protein, StructureError, file_contents, residue_constants
from bihf_jax.protein import protein as protein_module
from tests.protein.compare import assert_same
from tests.protein.conftest import SAMPLE
from tests.protein.synthetic import Atom, chain_of, pdb_text


@pytest.fixture
def protein(write, complex_text) -> Protein:
    """Chains A, B and C of 20, 20 and 10 residues."""
    return Protein.from_file(write(complex_text))


def test_fields_have_the_documented_types(protein):
    """Shapes and dtypes are those of the docstring; masked atoms are zero."""
    assert protein.num_residues == 50
    shapes = {
        "residue_type": ((50,), "int8"),
        "atom_positions": ((50, 37, 3), "float32"),
        "atom_mask": ((50, 37), "bool"),
        "chain_index": ((50,), "int32"),
        "residue_number": ((50,), "int32"),
        "label_residue_number": ((50,), "int32"),
        "insertion_code": ((50,), "<U1"),
        "b_factors": ((50, 37), "float32"),
    }
    for name, (shape, dtype) in shapes.items():
        array = getattr(protein, name)
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype)), name
    assert (protein.atom_positions[~protein.atom_mask] == 0).all()
    assert (protein.b_factors[protein.atom_mask] == 10).all()
    assert (protein.source, protein.chain_ids) == ("made.pdb", ("A", "B", "C"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b_factors": np.zeros((3, 37), np.float32)}, r"b_factors must be float32 of shape \(50, 37\)"),
        ({"residue_number": np.zeros(50)}, "residue_number must be int32"),
        ({"chain_ids": ("A", "B")}, "one length, got 2 and 3"),
        ({"chain_index": np.zeros(50, np.int32)}, "must use every chain"),
        ({"chain_index": np.repeat(np.int32([0, 2, 1]), [20, 20, 10])}, "must be contiguous"),
    ],
)
def test_inconsistent_fields_are_refused(protein, changes, message):
    """Wrong lengths, dtypes and chain indices are errors that name the field and the source."""
    with pytest.raises(ValueError, match=message) as error:
        dataclasses.replace(protein, **changes)
    assert "made.pdb" in str(error.value)


def test_select_chains(protein):
    """A selection holds the rows of its chains in file order, and an unknown id lists the chains."""
    some = protein.select_chains(["C", "A"])
    assert some.chain_ids == ("A", "C")
    assert some.sequence() == (protein.sequence()[0], protein.sequence()[2])
    rows = protein.chain_index != 1
    np.testing.assert_array_equal(some.atom_positions, protein.atom_positions[rows])
    np.testing.assert_array_equal(some.chain_index, np.repeat([0, 1], [20, 10]))
    with pytest.raises(StructureError, match=r"made.pdb: no chain 'X'; chains: A, B, C"):
        protein.select_chains(["X"])


def test_concatenate_undoes_selection(protein):
    """The chains selected one by one and put together are the protein again."""
    whole = Protein.concatenate([protein.select_chains([chain]) for chain in protein.chain_ids])
    assert_same(whole, protein)


def test_concatenate_of_two_files(protein):
    """Sources are joined, equal chain ids kept apart, and nothing to concatenate is an error."""
    both = Protein.concatenate([protein, dataclasses.replace(protein, source="other.pdb")])
    assert both.source == "made.pdb+other.pdb"
    assert both.chain_ids == ("A", "B", "C", "A", "B", "C")
    assert both.sequence() == protein.sequence() * 2
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Protein.concatenate([])


# --------------------------------------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------------------------------------


def _set(array: np.ndarray, index: object, value: object) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"residue_type": _set(p.residue_type, 0, 21)}, "residue_type must be an index"),
        (lambda p: {"atom_mask": _set(p.atom_mask, (7, 18), True)}, "only atoms that the residue type has.*index 7,"),
        (lambda p: {"atom_positions": _set(p.atom_positions, (0, 1), np.nan)}, "atom_positions must be finite"),
        (lambda p: {"atom_positions": _set(p.atom_positions, (0, 18), 1)}, "0 where atom_mask is False"),
        (
            lambda p: {"b_factors": _set(p.b_factors, (49, 1), np.inf)},
            "b_factors must be finite.*7 of chain 'C'",
        ),
        (lambda p: {"label_residue_number": _set(p.label_residue_number, 20, 0)}, "must rise along each chain.*'B'"),
        (lambda p: {"label_residue_number": _set(p.label_residue_number, 3, 3)}, "must rise along each chain"),
        (lambda p: {"insertion_code": _set(p.insertion_code, 5, "é")}, "insertion_code must be one printable"),
        (lambda p: {"insertion_code": _set(p.insertion_code, 5, "?")}, "'\\?' at unresolved residues only"),
        (lambda p: {"chain_ids": ("A", "B", "\n")}, "chain id '.*' must be printable"),
    ],
)
def test_validate_names_what_does_not_hold(protein, change, message):
    """A protein from a file is valid; each broken rule is an error that names the field and the place."""
    protein.validate()
    with pytest.raises(ValueError, match=message) as error:
        dataclasses.replace(protein, **change(protein)).validate()
    assert str(error.value).startswith("made.pdb: ")


# --------------------------------------------------------------------------------------------------------------------
# Models and assemblies
# --------------------------------------------------------------------------------------------------------------------

_CA = residue_constants.ATOM_INDEX["CA"]


def test_models_of_a_real_ensemble():
    """Each model of an NMR entry is the one that gemmi reads under this number; a missing one lists what there is."""
    path = SAMPLE / "parser" / "1A1P.pdb.gz"
    contents = file_contents(path)
    assert contents.models == tuple(range(1, 22))
    assert (contents.chains, contents.assemblies) == (("A",), ("1",))
    structure = gemmi.read_structure(str(path))
    for number in (1, 2, 21):
        expected = [residue["CA"][0].pos.tolist() for residue in structure[number - 1]["A"] if "CA" in residue]
        model = Protein.from_file(path, model=number)
        np.testing.assert_allclose(model.atom_positions[model.atom_mask[:, _CA], _CA], expected, atol=1e-4)
    with pytest.raises(StructureError, match=r"no model 22; models: 1, 2, .*, 21"):
        Protein.from_file(path, model=22)


@pytest.mark.parametrize("name", ["1A8O.pdb.gz", "1A8O.cif.gz"])
def test_a_real_assembly(name):
    """The dimer of 1A8O: the atoms that gemmi's own assembly has, the copy named A-2, sequence and report kept."""
    path = SAMPLE / "parser" / name
    alone, dimer = Protein.from_file(path), Protein.from_file(path, assembly="1")
    assert dimer.chain_ids == ("A", "A-2")
    assert dimer.label_chain_ids == (alone.label_chain_ids[0], alone.label_chain_ids[0] + "-2")
    assert dimer.sequence() == alone.sequence() * 2
    assert (dimer.source, dimer.report) == (alone.source, alone.report)
    np.testing.assert_array_equal(dimer.atom_positions[: alone.num_residues], alone.atom_positions)
    structure = gemmi.read_structure(str(path))
    model = gemmi.make_assembly(structure.assemblies[0], structure[0], gemmi.HowToNameCopiedChain.AddNumber)
    expected = [residue["CA"][0].pos.tolist() for chain in model for residue in chain if "CA" in residue]
    found = dimer.atom_positions[dimer.atom_mask[:, _CA], _CA]
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected), atol=2e-3)
    np.testing.assert_array_equal(dimer.select_chains(["A"]).atom_positions, alone.atom_positions)


def _assembly_text(operators: list[str], chains: str = "A") -> str:
    """PDB text of chains A and B, a zinc ion at the origin and a glycerol in A, with an assembly of these operators."""
    remark = f"REMARK 350 BIOMOLECULE: 1\nREMARK 350 APPLY THE FOLLOWING TO CHAINS: {chains}\n"
    for number, rows in enumerate(operators, start=1):
        for row, text in enumerate(rows.split(";"), start=1):
            values = "".join(f"{float(value):10.6f}" for value in text.split()[:3])
            remark += f"REMARK 350   BIOMT{row} {number:3d}{values}     {float(text.split()[3]):10.5f}\n"
    tail = [
        Atom("ZN", "ZN", "A", 201, (0, 0, 50), hetero=True, element="ZN"),
        Atom("C1", "GOL", "A", 202, (20, 20, 20), hetero=True),
    ]
    return remark + pdb_text(chain_of("ACDE"), chain_of("AC", "B", shift=(40.0, 0, 0)), tail=tail)


_IDENTITY, _TWOFOLD = "1 0 0 0;0 1 0 0;0 0 1 0", "-1 0 0 0;0 -1 0 0;0 0 1 0"


def test_ligands_of_an_assembly(write):
    """Ligands move with their chain; the ion on the axis is there once, and counted; chains not named stay away."""
    path = write(_assembly_text([_IDENTITY, _TWOFOLD]))
    protein = Protein.from_file(path, assembly="1")
    assert protein.chain_ids == ("A", "A-2")
    names = list(zip(protein.ligands.chain_ids.tolist(), protein.ligands.names.tolist(), strict=True))
    assert names == [("A", "ZN"), ("A", "GOL"), ("A-2", "GOL")]
    np.testing.assert_allclose(protein.ligands.atom_positions[2], [-20, -20, 20], atol=1e-4)
    np.testing.assert_allclose(protein.atom_positions[4:, :, :2], -protein.atom_positions[:4, :, :2], atol=1e-5)
    assert protein.report.coincident_ligands == 1
    protein.validate()
    assert_same(Protein.from_file(write(protein.to_mmcif(), "x.cif")), protein)
    with pytest.raises(StructureError, match=r"chain id 'A-2'.*write mmCIF"):
        protein.to_pdb()


def test_assemblies_that_cannot_be_made(write, monkeypatch):
    """A missing assembly lists what there is; one without the chains read, out of range, or too large is refused."""
    path = write(_assembly_text([_IDENTITY, _TWOFOLD]))
    with pytest.raises(StructureError, match=r"made.pdb: no assembly '2'; assemblies: 1"):
        Protein.from_file(path, assembly="2")
    with pytest.raises(StructureError, match=r"assembly '1' holds no protein chain of those read: B"):
        Protein.from_file(path, assembly="1", chains=["B"])
    monkeypatch.setattr(protein_module, "MAX_RESIDUES", 7)
    with pytest.raises(StructureError, match=r"assembly '1' has more than 7 residues; select chains"):
        Protein.from_file(path, assembly="1")
    plain = write(pdb_text(chain_of("ACDE")), "plain.pdb")
    assert file_contents(plain).assemblies == ()
    with pytest.raises(StructureError, match=r"plain.pdb: no assembly '1'; assemblies: none"):
        Protein.from_file(plain, assembly="1")


@pytest.mark.parametrize("ending", [".pdb", ".cif"])
def test_text_is_read_as_its_file(protein, tmp_path, ending):
    """The text of a file gives the same protein; its format is told by the content, its name is given."""
    protein.to_file(tmp_path / f"made{ending}")
    text = (tmp_path / f"made{ending}").read_text()
    from_text = Protein.from_text(text, name="made", chains=["B", "C"])
    assert_same(from_text, Protein.from_file(tmp_path / f"made{ending}", chains=["B", "C"]))
    assert from_text.source == f"made{ending}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "pasted: the file is empty"),
        ("REMARK nothing\n", "pasted: neither PDB nor mmCIF text"),
        ("ATOM  \0", "pasted: 1 NUL bytes"),
        ("ATOM  " * 100, "pasted: more than 500 bytes"),
        ("data_x\n#", r"pasted\.cif: no coordinates"),
    ],
)
def test_text_that_is_no_structure(text, message):
    with pytest.raises(StructureError, match=message):
        Protein.from_text(text, name="pasted", max_bytes=500)
