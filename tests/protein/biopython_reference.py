"""The independent reader: the same rules as `bihf_jax.protein.parsing`, over Biopython's parsers."""

import gzip
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from Bio.Data.PDBData import protein_letters_3to1_extended
from Bio.PDB import MMCIFParser, PDBParser

LETTERS = {**protein_letters_3to1_extended, "UNK": "X", "ASX": "X", "GLX": "X"}
Key = tuple[str, int, str]  # author chain id, residue number, insertion code


class ReferenceResidue(NamedTuple):
    name: str
    is_hetero: bool
    atoms: dict[str, np.ndarray]  # heavy atoms: name -> [3] Å


def read_reference(path: Path) -> dict[Key, ReferenceResidue]:
    """Residues of the first model that have an amino acid's name (Biopython's table) or N, CA and C, ligands too."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.lower().endswith(".gz") else data).decode()
    parser = MMCIFParser(QUIET=True) if ".cif" in path.name.lower() else PDBParser(QUIET=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = next(iter(parser.get_structure("reference", io.StringIO(text))))
    residues = {}
    for chain in model:
        for residue in chain:
            flag, number, code = residue.id
            candidates = residue.disordered_get_list() if residue.is_disordered() == 2 else [residue]
            chosen = min(candidates, key=lambda residue: _conformers(residue)[0])
            if chosen.resname.strip() in LETTERS or all(name in chosen for name in ("N", "CA", "C")):
                key = (chain.id.strip(), number, code)
                residues[key] = ReferenceResidue(chosen.resname.strip(), flag != " ", _atoms(chosen))
    return residues


def _all_atoms(residue) -> list:
    return [atom for atom in residue.get_unpacked_list() if atom.name.lstrip("0123456789")[0] not in "HD"]


def _conformers(residue) -> list[tuple[float, str]]:
    best: dict[str, float] = {}
    for atom in residue.get_unpacked_list():
        label = atom.altloc.strip()
        best[label] = max(best.get(label, -1.0), atom.occupancy or 0.0)
    return sorted((-occupancy, label) for label, occupancy in best.items()) or [(0.0, "")]


def _atoms(residue) -> dict[str, np.ndarray]:
    order = ["", *(label for _, label in _conformers(residue) if label)]
    chosen = {}
    for atom in _all_atoms(residue):
        label = atom.altloc.strip()
        rank = (max(order.index(label), 1), -(atom.occupancy or 0.0))
        if atom.name not in chosen or rank < chosen[atom.name][0]:
            chosen[atom.name] = (rank, atom.coord)
    return {name: coord for name, (_, coord) in chosen.items()}
