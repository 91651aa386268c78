"""`Ligands`: what is one, which atoms it has, its kinds and bonds."""

import gzip
import io

import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser

from bihf_jax.protein import Ligands, Protein
from tests.protein.compare import assert_same
from tests.protein.conftest import SAMPLE, sample_files
from tests.protein.synthetic import Atom, chain_of, mmcif_text, pdb_text


def _ligand(name: str, number: int, elements: str, at: float, chain: str = "A", **fields) -> list[Atom]:
    """A molecule whose atoms stand 1.5 Å apart along x, named by element and count."""
    return [
        Atom(f"{e}{i}", name, chain, number, (at + 1.5 * i, at, at), hetero=True, element=e, **fields)
        for i, e in enumerate(elements.split(), start=1)
    ]


def _molecules(ligands: Ligands) -> dict[tuple, dict[str, list[float]]]:
    """(chain, number, insertion code, name) -> atom name -> position."""
    found = {}
    for i in range(ligands.num_molecules):
        rows = ligands.molecule_index == i
        key = (ligands.chain_ids[i], int(ligands.residue_number[i]), ligands.insertion_code[i], ligands.names[i])
        found[key] = dict(zip(ligands.atom_names[rows].tolist(), ligands.atom_positions[rows].tolist(), strict=True))
    return found


def test_what_is_a_ligand_and_of_which_kind(write):
    """Ions, sugars, free amino acids, cofactors and caps are ligands; waters, hydrogens, DNA, MSE are not."""
    chain = chain_of("AMSA")
    for atom in chain:
        if atom.number == 2:
            atom.residue, atom.hetero = "MSE", True
    cap = [Atom("C", "ACE", "A", 0, (-1.3, 0, 0), hetero=True), Atom("O", "ACE", "A", 0, (-2, 1, 0), hetero=True)]
    dna = [Atom(f"{e}{i}", "DA", "D", n, (9.0 * n, i, 80)) for n in (1, 2, 3) for i, e in enumerate("PCO")]
    tail = [
        *(_ligand("ZN", 201, "Zn", 50) + _ligand("NAG", 202, "C C O H", 60) + _ligand("GLY", 203, "N C C O", 70)),
        *(_ligand("ATP", 204, "P O O", 80) + _ligand("CL", 205, "Cl", 90) + _ligand("HOH", 206, "O", 95)),
        *(_ligand("SOL", 207, "O", 99) + _ligand("GOL", 1, "C", 40, chain="L")),
    ]
    protein = Protein.from_file(write(pdb_text(cap + chain, dna, tail=tail)))
    assert dict(zip(protein.ligands.names.tolist(), protein.ligands.kinds(), strict=True)) == {
        **{"ACE": "small molecule", "ZN": "ion", "NAG": "glycan", "GLY": "amino acid", "ATP": "small molecule"},
        **{"CL": "ion", "GOL": "small molecule"},
    }
    assert protein.ligands.chain_ids.tolist() == ["A"] * 6 + ["L"]
    nag = protein.ligands.names.tolist().index("NAG")
    assert protein.ligands.elements[protein.ligands.molecule_index == nag].tolist() == [6, 6, 8]
    report = protein.report
    assert (report.waters, report.nucleotides, report.hydrogen_atoms) == (2, {"DA": 3}, 1)
    assert report.ligands == dict.fromkeys(protein.ligands.names.tolist(), 1)


@pytest.mark.parametrize("path", [p for p in sample_files() if p.parent.name == "parser"], ids=lambda p: p.name)
def test_same_atoms_as_biopython(path):
    """Each residue of Biopython that is no water, no nucleotide and in no protein chain is a ligand with its atoms."""
    protein = Protein.from_file(path)
    text = gzip.decompress(path.read_bytes()).decode()
    parser = MMCIFParser(QUIET=True) if ".cif" in path.name else PDBParser(QUIET=True)
    chains = [protein.chain_ids[chain].strip() for chain in protein.chain_index]
    residues = set(zip(chains, protein.residue_number.tolist(), protein.insertion_code.tolist(), strict=True))
    expected = {}
    for chain in next(iter(parser.get_structure("x", io.StringIO(text)))):
        for residue in chain:
            flag, number, code = residue.id
            is_left_out = flag == "W" or residue.resname.strip() in ("DOD", *protein.report.nucleotides)
            if is_left_out or (chain.id.strip(), number, code) in residues:
                continue
            atoms = {atom.name: atom.coord for atom in residue if atom.element not in ("H", "D")}
            expected[chain.id.strip(), number, code, residue.resname.strip()] = atoms
    found = _molecules(protein.ligands)
    assert found.keys() == expected.keys()
    for key, atoms in expected.items():
        assert found[key].keys() == atoms.keys()
        for name, position in atoms.items():
            np.testing.assert_allclose(found[key][name], position, atol=1e-4)


def test_the_best_conformer_of_a_ligand_is_kept(write):
    """Of two conformers, and of two components at one place, the one with the higher occupancy is kept."""
    low = _ligand("GOL", 301, "C O", 50, altloc="A", occupancy=0.3)
    high = _ligand("GOL", 301, "C O", 55, altloc="B", occupancy=0.7)
    first = _ligand("EDO", 302, "C C O", 70, altloc="A", occupancy=0.6)
    second = _ligand("SO4", 302, "S O", 75, altloc="B", occupancy=0.4)
    protein = Protein.from_file(write(pdb_text(chain_of("ACDE"), tail=low + high + first + second)))
    assert protein.ligands.names.tolist() == ["GOL", "EDO"]
    assert protein.ligands.atom_positions[:, 1].tolist() == [55, 55, 70, 70, 70]
    assert protein.report.altloc_atoms == 4


def test_ligands_without_atoms_are_counted(write):
    """A ligand of hydrogens only has no place in the arrays, and is counted."""
    protein = Protein.from_file(write(pdb_text(chain_of("ACDE"), tail=_ligand("XYZ", 9, "H H", 50))))
    assert protein.ligands.num_molecules == 0
    assert (protein.report.empty_ligands, protein.report.hydrogen_atoms) == (1, 2)


def test_caps_of_mmcif_have_a_label_id_of_their_own(write):
    """A cap, which mmCIF numbers as part of the polymer, is a ligand whose id is not the chain's."""
    cap = Atom("C", "ACE", "A", 0, (-1.3, 0, 0), hetero=True, label=1)
    chain = chain_of("ACDE")
    for atom in chain:
        atom.label += 1
    names = ["ACE", "ALA", "CYS", "ASP", "GLU"]
    protein = Protein.from_file(
        write(mmcif_text([cap, *chain], label_chains={"A": "B"}, sequences={"B": names}), "x.cif")
    )
    assert protein.ligands.names.tolist() == ["ACE"]
    assert protein.ligands.label_chain_ids.tolist() == ["B_1"]
    assert protein.label_residue_number.tolist() == [2, 3, 4, 5]
    again = Protein.from_file(write(protein.to_mmcif(), "y.cif"))
    assert_same(again, protein)


def test_bonds_follow_from_distances(write):
    """Sulfate has four bonds; metals, and atoms further apart than their radii allow, have none."""
    s = np.array([50.0, 50, 50])
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    sulfate = [Atom("S", "SO4", "A", 301, tuple(s), hetero=True)]
    sulfate += [Atom(f"O{i}", "SO4", "A", 301, tuple(s + 1.49 * c), hetero=True) for i, c in enumerate(corners, 1)]
    zinc = Atom("ZN", "ZN", "A", 302, (51.5, 50, 50), hetero=True, element="ZN")
    chain = _ligand("LIG", 303, "C C O", 80)
    ligands = Protein.from_file(write(pdb_text(chain_of("ACDE"), tail=[*sulfate, zinc, *chain]))).ligands
    assert ligands.bonds().tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [6, 7], [7, 8]]
    assert Ligands.none().bonds().shape == (0, 2)


def test_real_ligands_are_connected():
    """The inhibitor of 4CUP and that of 1HVR are one piece each, with as many bonds as rings and atoms demand."""
    for name, component in (("parser/4CUP.cif.gz", "ZYB"), ("structures/1hvr.pdb.gz", "XK2")):
        ligands = Protein.from_file(SAMPLE / name).ligands
        molecules = np.flatnonzero(ligands.names == component)
        assert len(molecules) >= 1, (name, ligands.names)
        one = ligands.take(molecules[:1])
        group = np.arange(one.num_atoms)
        for i, j in np.tile(one.bonds(), (one.num_atoms, 1)):
            group[[i, j]] = group[[i, j]].min()
        assert (group == 0).all()
        degree = np.bincount(one.bonds().ravel(), minlength=one.num_atoms)
        assert degree.max() <= 4


def test_selection_and_concatenation_take_the_ligands_along(write):
    """A chain takes what the file puts in it; the parts together are the protein again."""
    tail = _ligand("GOL", 301, "C O", 50) + _ligand("SO4", 301, "S O", 60, chain="B")
    protein = Protein.from_file(write(pdb_text(chain_of("ACDE"), chain_of("AC", "B", shift=(30, 0, 0)), tail=tail)))
    parts = [protein.select_chains([chain]) for chain in "AB"]
    assert [part.ligands.names.tolist() for part in parts] == [["GOL"], ["SO4"]]
    assert_same(Protein.concatenate(parts), protein)
    only = Protein.from_file(write(pdb_text(chain_of("ACDE"), tail=_ligand("GOL", 1, "C", 50, "L"))), chains=["A"])
    assert only.ligands.num_molecules == 0
    assert only.report.unasked_chain_atoms == 1


def test_inconsistent_arrays_are_refused(write):
    """Wrong dtypes, lengths and indices are errors that name the field."""
    whole = vars(Protein.from_file(write(pdb_text(chain_of("AC"), tail=_ligand("GOL", 1, "C O", 50)))).ligands)
    for changes, message in (
        ({"elements": np.array([6.0, 8.0])}, r"elements must be int8 of shape \(2,\)"),
        ({"atom_positions": np.zeros((2, 2), np.float32)}, r"atom_positions must be float32 of shape \(2, 3\)"),
        ({"names": np.array(["A", "B"])}, r"chain_ids must be text of shape \(2,\)"),
        ({"molecule_index": np.array([0, 1], np.int32)}, "must use every molecule"),
    ):
        with pytest.raises(ValueError, match=message):
            Ligands(**whole | changes)
    for changes, message in (
        ({"b_factors": np.array([np.nan, 0], np.float32)}, "x: ligands: b_factors must be finite"),
        ({"elements": np.array([6, 120], np.int8)}, "elements must be atomic numbers"),
        ({"names": np.array(["GÖL"])}, "names must be printable ASCII"),
    ):
        with pytest.raises(ValueError, match=message):
            Ligands(**whole | changes).validate("x")


def test_coincident_copies_are_found():
    """A molecule on another of its name counts once; a neighbour, and another component there, stay."""
    names, x = ["ZN", "ZN", "ZN", "MG"], [0.0, 0.1, 1.0, 0.0]
    ligands = Ligands(
        names=np.array(names),
        chain_ids=np.array(["A"] * 4),
        label_chain_ids=np.array(list("BCDE")),
        residue_number=np.arange(4, dtype=np.int32),
        insertion_code=np.array([" "] * 4),
        elements=np.array([30, 30, 30, 12], np.int8),
        atom_names=np.array(names),
        atom_positions=np.stack([x, np.zeros(4), np.zeros(4)], axis=1).astype(np.float32),
        b_factors=np.zeros(4, np.float32),
        molecule_index=np.arange(4, dtype=np.int32),
    )
    assert ligands.without_coincident().residue_number.tolist() == [0, 2, 3]
