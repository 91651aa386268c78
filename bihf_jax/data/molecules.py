"""`Molecule`: one ligand with its chemistry, read from sdf, mol2 or pdbqt.

`bihf_jax.protein.Ligands` is what a structure file says of its small molecules: atoms and coordinates. Here a chemical
file says more: bond types and charges, from which RDKit derives rings, aromaticity and hybridisation.

* **sdf, mol2**: as the file has them; a mol2 file must have all hydrogens, in sdf they may be implied. A neutral
  nitrogen with four bonds gets its charge of +1; where other valences are wrong they are left so. Both are noted in
  `Molecule.remarks`.
* **pdbqt** has neither bonds nor bond types. Open Babel finds them from the geometry, which needs all hydrogens: a file
  that has polar hydrogens only is refused. Charges of N, O, S and B follow from their bonds, and a sum that differs
  from that of the file's partial charges is noted.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bihf_jax.data import pdbqt
from bihf_jax.data.ligand import BOND_TYPES, HYBRIDISATIONS, Ligand
from bihf_jax.data.text_file import FormatError, read_text

ENDINGS = (".sdf", ".mol2", ".pdbqt")

# Elementary charges by which the sum of rounded partial charges may differ from the formal charge: Gasteiger charges
# of a phosphate add up to -1.5.
MAX_CHARGE_DIFFERENCE = 0.6


class MoleculeError(FormatError):
    """A ligand that cannot be read; the message names the file and what is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Molecule(Ligand):
    """One small molecule as its file has it: what records hold of a `Ligand`, and more. A atoms in its order."""

    name: str  # as the file calls it
    atom_names: np.ndarray  # [A] text; "" where the file has none
    num_hydrogens: np.ndarray  # [A] int8 hydrogens bound to the atom, in the file or implied by its valence
    remarks: tuple[str, ...] = ()  # what had to be mended or could not be verified

    _DTYPES: ClassVar[dict[str, str]] = Ligand._DTYPES | {"num_hydrogens": "int8"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.atom_names.shape != (self.num_atoms,) or self.atom_names.dtype.kind != "U":
            raise ValueError(f"{self.source}: atom_names must be text of shape {(self.num_atoms,)}")


def read_molecule(path: Path) -> Molecule:
    """Read a .sdf, .mol2 or .pdbqt file (also .gz) that holds one molecule.

    Needs RDKit, and for pdbqt Open Babel.

    Raises:
      MoleculeError: another ending, no or several molecules, no three-dimensional coordinates, chemistry that RDKit
        cannot make sense of, or RDKit or Open Babel is not installed.
    """
    path = Path(path)
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if ending not in ENDINGS:
        raise MoleculeError(f"{path}: unknown ending; known: {', '.join(ENDINGS)}, each also with .gz")
    try:
        return {".sdf": _read_sdf, ".mol2": _read_mol2, ".pdbqt": _read_pdbqt}[ending](path)
    except MoleculeError:
        raise
    except FormatError as error:
        raise MoleculeError(str(error)) from error


def _read_sdf(path: Path) -> Molecule:
    blocks = [block for block in read_text(path).split("$$$$") if block.strip()]
    block = _only_one(path, blocks)
    name = block.splitlines()[0].strip()
    return _parsed(path, block, "MolFromMolBlock", name)


def _read_mol2(path: Path) -> Molecule:
    blocks = ["@<TRIPOS>MOLECULE" + part for part in read_text(path).split("@<TRIPOS>MOLECULE")[1:]]
    block = _only_one(path, blocks)
    if re.search(r"^\s*\d+\s+\S+(\s+[-+.\dEe]+){3}\s+H\b", block, re.MULTILINE) is None:
        raise MoleculeError(
            f"{path}: no hydrogens in it; charges of a mol2 file follow from them: add them, or give sdf"
        )
    name = block.splitlines()[1].strip()
    return _parsed(path, block, "MolFromMol2Block", name)


def _only_one(path: Path, blocks: Sequence[str]) -> str:
    if len(blocks) != 1:
        raise MoleculeError(f"{path}: {len(blocks)} molecules; one is expected")
    return blocks[0]


def _parsed(path: Path, block: str, reader: str, name: str) -> Molecule:
    Chem, quiet = import_rdkit(path)
    with quiet():
        molecule = getattr(Chem, reader)(block, sanitize=False, removeHs=False)
    if molecule is None:
        raise MoleculeError(f"{path}: RDKit cannot parse it; damaged, or another format than its ending says")
    names = [atom.GetProp("_TriposAtomName") if atom.HasProp("_TriposAtomName") else "" for atom in molecule.GetAtoms()]
    return from_rdkit(molecule, name=name, atom_names=names, source=path.name)


def from_rdkit(
    molecule: Any, *, name: str, atom_names: Sequence[str], source: str, remarks: Iterable[str] = ()
) -> Molecule:
    """The arrays of an RDKit molecule with one conformer, that was not sanitised.

    Args:
      molecule: `rdkit.Chem.Mol`, with or without hydrogens.
      name: of the molecule.
      atom_names: one for each of its atoms, hydrogens included.
      source: name of the file.
      remarks: what is to be noted of it already.

    Raises:
      MoleculeError: no heavy atom, no three-dimensional coordinates, or no consistent chemistry.
    """
    molecule, mended = _sanitised(molecule, source)
    heavy = [atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() != 1]
    if not heavy:
        raise MoleculeError(f"{source}: no heavy atom in it")
    kept = [atom.GetIdx() for atom in heavy]
    index_of = {index: row for row, index in enumerate(kept)}
    bonds, bond_types = _bonds(molecule, index_of)
    return Molecule(
        name=name,
        elements=np.array([atom.GetAtomicNum() for atom in heavy], dtype=np.int8),
        atom_names=np.array([atom_names[index] for index in kept], dtype="U"),
        atom_positions=_positions(molecule, source)[kept],
        charges=np.array([atom.GetFormalCharge() for atom in heavy], dtype=np.int8),
        hybridisation=np.array([_index(HYBRIDISATIONS, atom.GetHybridization()) for atom in heavy], dtype=np.int8),
        aromatic=np.array([atom.GetIsAromatic() for atom in heavy], dtype=bool),
        in_ring=np.array([atom.IsInRing() for atom in heavy], dtype=bool),
        num_hydrogens=np.array([atom.GetTotalNumHs(includeNeighbors=True) for atom in heavy], dtype=np.int8),
        bonds=bonds,
        bond_types=bond_types,
        source=source,
        remarks=(*remarks, *mended),
    )


def import_rdkit(source: object) -> tuple[Any, Any]:
    """(rdkit.Chem, a context manager in which RDKit logs nothing)."""
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise MoleculeError(f"{source}: reading ligands needs RDKit: pip install 'bihf_jax[ligands]'") from error
    return Chem, rdBase.BlockLogs


def _sanitised(molecule: Any, source: str) -> tuple[Any, tuple[str, ...]]:
    """A copy with rings, aromaticity and hybridisation, and what had to be mended for it."""
    Chem, quiet = import_rdkit(source)
    checks = Chem.SanitizeFlags.SANITIZE_ALL
    charged = Chem.RWMol(molecule)
    nitrogens = [atom for atom in charged.GetAtoms() if _lacks_charge(atom)]
    for atom in nitrogens:
        atom.SetFormalCharge(1)
    note = (f"{len(nitrogens)} neutral nitrogens with four bonds: charged +1",) if nitrogens else ()
    wrong = (*note, "valences that RDKit does not allow are left as they are")
    reason = ""
    with quiet():
        for trial, flags, remarks in (
            (molecule, checks, ()),
            (charged, checks, note),
            (charged, checks ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES, wrong),
        ):
            trial = Chem.RWMol(trial)
            trial.UpdatePropertyCache(strict=False)
            try:
                Chem.SanitizeMol(trial, sanitizeOps=flags)
            except Chem.MolSanitizeException as error:
                reason = reason or str(error)
            else:
                return trial, remarks
    raise MoleculeError(f"{source}: RDKit can make no sense of its bonds: {reason}")


def _lacks_charge(atom: Any) -> bool:
    bonds = atom.GetBonds()
    if atom.GetAtomicNum() != 7 or atom.GetFormalCharge() != 0 or any(bond.GetIsAromatic() for bond in bonds):
        return False
    return sum(bond.GetBondTypeAsDouble() for bond in bonds) == 4


def _positions(molecule: Any, source: str) -> np.ndarray:
    """[atoms, 3] float32 Å."""
    if molecule.GetNumConformers() == 0:
        raise MoleculeError(f"{source}: no coordinates in it")
    positions = np.array(molecule.GetConformer().GetPositions(), dtype=np.float64)
    if not np.isfinite(positions).all():
        raise MoleculeError(f"{source}: coordinates that are not finite")
    if len(positions) > 3 and not positions[:, 2].any():
        raise MoleculeError(f"{source}: z is 0 throughout: a drawing; the coordinates in the complex are needed")
    return positions.astype(np.float32)


def _bonds(molecule: Any, index_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """([B, 2] int64, [B] int8) of the bonds between heavy atoms."""
    found = []
    for bond in molecule.GetBonds():
        ends = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        if all(end in index_of for end in ends):
            i, j = sorted(index_of[end] for end in ends)
            found.append((i, j, _index(BOND_TYPES, bond.GetBondType())))
    table = np.array(sorted(found), dtype=np.int64).reshape(-1, 3)
    return table[:, :2], table[:, 2].astype(np.int8)


def _index(names: Sequence[str], value: Any) -> int:
    name = str(value).lower()
    return names.index(name) if name in names else names.index("other")


# --------------------------------------------------------------------------------------------------------------------
# Bonds from geometry
# --------------------------------------------------------------------------------------------------------------------


def _read_pdbqt(path: Path) -> Molecule:
    atoms = pdbqt.read_atoms(path)
    molecule = with_bonds(atoms.elements, atoms.atom_positions, path.name)
    formal = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
    partial = float(atoms.partial_charges.sum())
    remarks = []
    if abs(formal - partial) > MAX_CHARGE_DIFFERENCE:
        remarks = [f"charges that follow from the bonds add up to {formal}, partial charges to {partial:.2f}"]
    name = re.sub(r"\.pdbqt(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    return from_rdkit(molecule, name=name, atom_names=atoms.atom_names.tolist(), source=path.name, remarks=remarks)


def with_bonds(elements: np.ndarray, positions: np.ndarray, source: str) -> Any:
    """An RDKit molecule, not sanitised, with the bonds that Open Babel finds from geometry, and charges to match.

    Args:
      elements: [A] atomic numbers, all hydrogens included.
      positions: [A, 3] Å.
      source: name of the file, for messages.

    Raises:
      MoleculeError: Open Babel is not installed, or hydrogens are missing.
    """
    Chem, quiet = import_rdkit(source)
    try:
        from openbabel import openbabel
    except ImportError as error:
        raise MoleculeError(f"{source}: bonds of a pdbqt need Open Babel: pip install 'bihf_jax[pdbqt]'") from error
    table = Chem.GetPeriodicTable()
    rows = [
        f"{table.GetElementSymbol(int(element))} {x:.4f} {y:.4f} {z:.4f}"
        for element, (x, y, z) in zip(elements, positions, strict=True)
    ]
    conversion, found = openbabel.OBConversion(), openbabel.OBMol()
    conversion.SetInAndOutFormats("xyz", "mol")
    if not conversion.ReadString(found, "\n".join([str(len(rows)), "", *rows, ""])):
        raise MoleculeError(f"{source}: Open Babel finds no bonds in it")
    with quiet():
        molecule = Chem.MolFromMolBlock(conversion.WriteString(found), sanitize=False, removeHs=False)
    if molecule is None or [atom.GetAtomicNum() for atom in molecule.GetAtoms()] != elements.tolist():
        raise MoleculeError(f"{source}: Open Babel does not give back the {len(rows)} atoms")
    for atom in molecule.GetAtoms():
        atom.SetNoImplicit(True)  # every hydrogen is there
        _double_oxygens(atom, Chem.BondType.DOUBLE)
    for atom in molecule.GetAtoms():
        atom.SetFormalCharge(_charge_of_bonds(atom))
    if lacking := [atom.GetIdx() for atom in molecule.GetAtoms() if _lacks_hydrogen(atom, positions)]:
        raise MoleculeError(
            f"{source}: {len(lacking)} carbons lack hydrogens by their geometry, the first is atom {lacking[0] + 1}; "
            "bonds can be found with all hydrogens only: give the ligand as sdf or mol2"
        )
    return molecule


def _order(atom: Any) -> int:
    """Sum of an atom's bond orders."""
    return round(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))


def _double_oxygens(atom: Any, double: Any) -> None:
    """Double bonds from P and S to oxygens at an end, up to the usual valence: PO3 is P(=O)([O-])[O-], SO2 S(=O)=O."""
    usual = {(15, 4): 5, (16, 3): 4, (16, 4): 6}.get((atom.GetAtomicNum(), atom.GetDegree()), 0)
    for bond in atom.GetBonds():
        other = bond.GetOtherAtom(atom)
        at_end = other.GetAtomicNum() == 8 and other.GetDegree() == 1
        if at_end and bond.GetBondTypeAsDouble() == 1 and _order(atom) < usual:
            bond.SetBondType(double)


def _charge_of_bonds(atom: Any) -> int:
    """The formal charge that an atom with all its hydrogens has by the sum of its bond orders."""
    order, element = _order(atom), atom.GetAtomicNum()
    if element == 7:
        return 0 if order == 5 else order - 3  # RDKit turns N(=O)=O into [N+](=O)[O-]
    if element == 8 or (element == 16 and order in (1, 3)):
        return order - 2
    return 3 - order if element == 5 else 0


def _lacks_hydrogen(atom: Any, positions: np.ndarray) -> bool:
    """Whether a carbon's neighbours leave room for a hydrogen: bent with two, a pyramid with three, long with one."""
    if atom.GetAtomicNum() != 6:
        return False
    toward = positions[[other.GetIdx() for other in atom.GetNeighbors()]] - positions[atom.GetIdx()]
    lengths = np.linalg.norm(toward, axis=1)
    if len(toward) == 1:
        return bool(lengths[0] > 1.3)  # Å; C≡N and C≡O are 1.15, a methyl group's bond 1.5
    units = toward / lengths[:, None]
    angles = np.degrees(np.arccos(np.clip((units @ units.T)[np.triu_indices(len(units), 1)], -1, 1)))
    return (len(toward) == 2 and angles[0] < 150) or (len(toward) == 3 and angles.sum() < 340)
