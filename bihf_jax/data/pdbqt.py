"""PDBQT, AutoDock's format: a PDB file with a partial charge in columns 71-76 and an atom type in columns 78-79.

Receptors become a `Protein`. Of ligands this gives the atoms; `molecules` finds their bonds.
"""

import dataclasses
from pathlib import Path

import gemmi
import numpy as np

from bihf_jax.data.text_file import FormatError, read_text
from bihf_jax.protein import Protein

# Types of AutoDock 4 that are no element symbol: aromatic carbon, hydrogens that are donated, acceptors.
_ELEMENT_OF_TYPE = {
    **{"A": "C", "HD": "H", "HS": "H", "NA": "N", "NS": "N", "OA": "O", "OS": "O", "SA": "S"},
    **{"G": "C", "GA": "C", "J": "C", "Q": "C"},  # carbons at which a ring is opened
}


@dataclasses.dataclass(frozen=True)
class Atoms:
    """The atoms of a PDBQT file, hydrogens included. A atoms."""

    elements: np.ndarray  # [A] int8 atomic number
    atom_names: np.ndarray  # [A] text
    atom_positions: np.ndarray  # [A, 3] float32 Å
    partial_charges: np.ndarray  # [A] float32, elementary charges


def element_of_type(name: str) -> int | None:
    """Atomic number of an AutoDock atom type ("OA": 8), None if it is unknown. "CA" is calcium, "NA" a nitrogen."""
    element = gemmi.Element(_ELEMENT_OF_TYPE.get(name, name.capitalize()))
    return element.atomic_number or None


def read_atoms(path: Path) -> Atoms:
    """The atoms of a ligand or receptor (also .gz).

    Raises:
      FormatError: no atoms, several models, an unknown atom type, or columns without numbers.
    """
    rows = [_read_line(f"{path}, line {number}", line) for number, line in _atom_lines(path)]
    elements, names, positions, charges = zip(*rows, strict=True)
    return Atoms(
        elements=np.array(elements, dtype=np.int8),
        atom_names=np.array(names, dtype="U"),
        atom_positions=np.array(positions, dtype=np.float32),
        partial_charges=np.array(charges, dtype=np.float32),
    )


def read_protein(path: Path) -> Protein:
    """The protein of a receptor (also .gz), by the rules of `bihf_jax.protein.parsing` for PDB files.

    Raises:
      FormatError: as `read_atoms`.
      StructureError: no protein in it.
    """
    lines = []
    for number, line in _atom_lines(path):
        element, *_ = _read_line(f"{path}, line {number}", line)
        lines.append(f"{line[:66]:<66}          {gemmi.Element(element).name.upper():>2}")
    name = Path(path).name.removesuffix(".gz").removesuffix(".pdbqt")
    return Protein.from_text("\n".join([*lines, "END", ""]), name=name)


def _atom_lines(path: Path) -> list[tuple[int, str]]:
    numbered = list(enumerate(read_text(Path(path)).splitlines(), start=1))
    models = sum(line.startswith("MODEL") for _, line in numbered)
    if models > 1:
        raise FormatError(f"{path}: {models} models; one is expected, split the file (vina_split)")
    atoms = [(number, line) for number, line in numbered if line.startswith(("ATOM  ", "HETATM"))]
    if not atoms:
        raise FormatError(f"{path}: no ATOM or HETATM line in it")
    return atoms


def _read_line(where: str, line: str) -> tuple[int, str, tuple[float, ...], float]:
    """(atomic number, atom name, position, partial charge)."""
    kind = line[77:79].strip()
    element = element_of_type(kind)
    if element is None:
        raise FormatError(f"{where}: unknown atom type {kind!r} in columns 78-79; is it a PDBQT file?")
    try:
        position = tuple(float(line[start : start + 8]) for start in (30, 38, 46))
        charge = float(line[70:76])
    except ValueError as error:
        raise FormatError(f"{where}: {error}; columns 31-54 and 71-76 hold numbers") from error
    if not np.isfinite((*position, charge)).all():
        raise FormatError(f"{where}: a number that is not finite")
    return element, line[12:16].strip(), position, charge
