"""`ParseReport`: every atom of a file is accounted for."""

import gzip
import re

import pytest

from bihf_jax.protein import ParseReport, Protein
from tests.protein.conftest import sample_files
from tests.protein.synthetic import Atom, chain_of, pdb_text, seqres


@pytest.mark.parametrize("path", sample_files()[::4], ids=lambda path: path.name)
def test_every_atom_of_real_files_is_accounted_for(path):
    """Atoms of the file = atoms of the residues + of the ligands + left out, and they are the records of the text."""
    protein = Protein.from_file(path)
    kept = int(protein.atom_mask.sum()) + protein.ligands.num_atoms
    assert protein.report.file_atoms == kept + protein.report.left_out_atoms
    assert protein.report.file_atoms == len(re.findall(rb"(?m)^(?:ATOM |HETATM)", gzip.decompress(path.read_bytes())))


def _full_text() -> str:
    """Two models of chains A, B and D (DNA) with one of nearly everything that is left out."""
    atoms = chain_of("AMSA")
    for atom in atoms:
        if atom.number == 2:
            atom.residue, atom.hetero = "MSE", True
    extra = [
        Atom("H", "ALA", "A", 4, (1, 1, 1)),
        Atom("CA", "ALA", "A", 4, (9, 9, 9)),
        Atom("CB", "ALA", "A", 4, (8, 8, 8), altloc="B", occupancy=0.2),
        Atom("XX", "ALA", "A", 4, (7, 7, 7)),
    ]
    dna = [Atom(f"{e}{i}", "DA", "D", n, (9.0 * n, i, 80)) for n in (1, 2, 3) for i, e in enumerate("PCO")]
    tail = [Atom("O", "HOH", "A", 300 + i, (i, 50, 50), hetero=True) for i in (1, 2)]
    tail.append(Atom("ZN", "ZN", "A", 299, (60, 60, 60), hetero=True, element="ZN"))
    body = pdb_text(atoms + extra, chain_of("AC", "B", shift=(90, 0, 0)), dna, tail=tail, end="")
    models = "".join(f"MODEL     {m:4d}\n{body}ENDMDL\n" for m in (1, 2))
    return seqres("A", ["ALA", "MSE", "SER", "ALA", "TRP"]) + models + "END\n"


def test_each_reason_is_counted(write):
    """Models, chains not asked for, waters, nucleic acid, hydrogens, conformers, repeated and unknown atoms."""
    path = write(_full_text())
    whole = Protein.from_file(path).report
    assert (whole.models, whole.other_model_atoms * 2) == (2, whole.file_atoms)
    assert (whole.waters, whole.water_atoms, whole.nucleotides, whole.nucleotide_atoms) == (2, 2, {"DA": 3}, 9)
    assert (whole.hydrogen_atoms, whole.repeated_atoms, whole.altloc_atoms) == (1, 0, 2)
    assert whole.other_atoms == {"ALA:XX": 1}
    assert (whole.modified, whole.unresolved, whole.made_up_numbers) == ({"MSE": 1}, 1, 1)
    assert (whole.ligands, whole.chains_left_out, whole.no_full_sequence) == ({"ZN": 1}, ("D",), ("B",))
    some = Protein.from_file(path, chains=["B"]).report
    assert some.unasked_chain_atoms == whole.file_atoms // 2 - (some.file_atoms - some.left_out_atoms)


def test_the_report_prints_what_is_not_as_usual(write):
    """One line for each count that is not zero, and none for the others."""
    text = str(Protein.from_file(write(_full_text())).report)
    lines = text.splitlines()
    assert re.fullmatch(r"atoms in the file: \d+, of which \d+ are left out", lines[0])
    assert {"models: 2", "waters: 2", "nucleotides: DA 3", "ligands: ZN 1", "modified: MSE 1"} <= set(lines)
    assert not any(line.startswith(("repeated atoms", "old columns", "sequence conflicts")) for line in lines)
    assert str(ParseReport(old_columns=True, chains_left_out=("", "B"))).splitlines()[1:] == [
        *("chains left out: (blank), B", "old columns: yes")
    ]


def test_reports_of_several_files_add_up():
    """Counts are summed, names joined, flags kept."""
    one = ParseReport(waters=3, ligands={"GOL": 1}, no_full_sequence=("A",), ends_early=True)
    other = ParseReport(waters=4, ligands={"GOL": 2, "SO4": 1}, no_full_sequence=("B",))
    assert ParseReport.sum([one, other]) == ParseReport(
        models=2, waters=7, ligands={"GOL": 3, "SO4": 1}, no_full_sequence=("A", "B"), ends_early=True
    )
