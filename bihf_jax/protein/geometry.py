"""Backbone, torsion angles and chain breaks of a `Protein`."""

import numpy as np

from bihf_jax.protein import residue_constants
from bihf_jax.protein.parsing import MAX_PEPTIDE_BOND
from bihf_jax.protein.protein import Protein

# Order of axis 1 of `backbone` and of `torsions`.
BACKBONE_ATOMS: tuple[str, ...] = ("N", "CA", "C", "O", "CB")
TORSIONS: tuple[str, ...] = ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4")

# Side-chain torsions whose last atom has a twin that only its name tells apart (OD1 and OD2, OE1 and OE2, CD1 and CD2).
TWIN_TORSIONS: dict[str, str] = {"D": "chi2", "E": "chi3", "F": "chi2", "Y": "chi2"}

_N, _CA, _C, _O, _CB = (residue_constants.ATOM_INDEX[name] for name in BACKBONE_ATOMS)


def _chi_table() -> tuple[np.ndarray, np.ndarray]:
    """[21, 4, 4] atoms of each chi angle by residue type, and [21, 4] which exist."""
    atoms = np.zeros((residue_constants.NUM_RESIDUE_TYPES, residue_constants.MAX_CHI, 4), dtype=np.int64)
    exists = np.zeros(atoms.shape[:2], dtype=bool)
    for index, letter in enumerate(residue_constants.RESIDUE_TYPES):
        for chi, names in enumerate(residue_constants.CHI_ATOMS[letter]):
            atoms[index, chi] = [residue_constants.ATOM_INDEX[name] for name in names]
            exists[index, chi] = True
    return atoms, exists


_CHI_ATOMS, _CHI_EXISTS = _chi_table()

# [21, 7] bool: has this torsion of this residue type a twin?
_HAS_TWIN = np.array(
    [[TWIN_TORSIONS.get(letter) == name for name in TORSIONS] for letter in residue_constants.RESIDUE_TYPES]
)


def backbone(protein: Protein) -> tuple[np.ndarray, np.ndarray]:
    """N, CA, C, O and CB of each residue.

    The CB of glycine, and of any residue that lacks it but has N, CA and C, is the ideal one: at CA, with the bond
    lengths and angles of an L-amino acid.

    Returns:
      positions [N, 5, 3] float32 Å, 0 where masked; mask [N, 5] bool.
    """
    atoms = [_N, _CA, _C, _O, _CB]
    positions, mask = protein.atom_positions[:, atoms], protein.atom_mask[:, atoms]
    ideal = ~mask[:, 4] & mask[:, :3].all(axis=1)
    positions[ideal, 4] = virtual_cb(*np.moveaxis(positions[ideal, :3], 1, 0))
    mask[ideal, 4] = True
    return positions, mask


def virtual_cb(n: np.ndarray, ca: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Ideal CB [..., 3] Å from N, CA and C [..., 3] Å.

    With b = CA - N, c = C - CA and a = b x c it is -0.58273431 a + 0.56802827 b - 0.54067466 c from CA (Dauparas et al.
    2022, ProteinMPNN; the coefficients fit an ideal alanine).
    """
    b, c = ca - n, c - ca
    return -0.58273431 * np.cross(b, c) + 0.56802827 * b - 0.54067466 * c + ca


def torsions(protein: Protein) -> tuple[np.ndarray, np.ndarray]:
    """Backbone and side-chain torsion angles, in radians from -pi to pi, with the sign of IUPAC-IUB 1970.

    phi is C(i-1) N CA C, psi is N CA C N(i+1), omega is CA(i-1) C(i-1) N CA: the peptide bond *before* the residue, as
    AlphaFold and Biopython do (near pi in trans). chi1-4 are those of `residue_constants.CHI_ATOMS`; of a torsion in
    `TWIN_TORSIONS` the value between -pi/2 and pi/2 is given, whichever of the twins the file calls the first. An angle
    is masked where an atom is missing or its bond to the previous or next residue is broken (`find_chain_breaks`).

    Returns:
      angles [N, 7] float32, 0 where masked; mask [N, 7] bool.
    """
    xyz, present = protein.atom_positions.astype(np.float64), protein.atom_mask
    num = protein.num_residues
    points = np.zeros((num, 7, 4, 3))
    mask = np.zeros((num, 7), dtype=bool)
    bonded = _bonded_to_next(protein)  # [N - 1]
    nca = present[:, [_N, _CA, _C]].all(axis=1)

    # phi and omega need the residue before, psi the one after; `bonded` vouches for the C and N of the bond itself.
    points[1:, 0] = np.stack([xyz[:-1, _C], xyz[1:, _N], xyz[1:, _CA], xyz[1:, _C]], axis=1)
    mask[1:, 0] = bonded & nca[1:]
    points[:-1, 1] = np.stack([xyz[:-1, _N], xyz[:-1, _CA], xyz[:-1, _C], xyz[1:, _N]], axis=1)
    mask[:-1, 1] = bonded & nca[:-1]
    points[1:, 2] = np.stack([xyz[:-1, _CA], xyz[:-1, _C], xyz[1:, _N], xyz[1:, _CA]], axis=1)
    mask[1:, 2] = bonded & present[:-1, _CA] & present[1:, _CA]

    chi = _CHI_ATOMS[protein.residue_type]  # [N, 4, 4]
    residue = np.arange(num)[:, None, None]
    points[:, 3:] = xyz[residue, chi]
    mask[:, 3:] = _CHI_EXISTS[protein.residue_type] & present[residue, chi].all(axis=2)

    angles = np.zeros((num, 7), dtype=np.float32)
    angles[mask] = dihedral(*np.moveaxis(points[mask], 1, 0))
    half_turns = np.where(_HAS_TWIN[protein.residue_type], np.round(angles / np.pi), 0.0)
    return angles - (np.pi * half_turns).astype(np.float32), mask


def dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Torsion angle about the bond b-c of points [..., 3], in radians; positive where d turns clockwise from a, seen
    along b to c. 0 where three of the points lie on a line."""
    ab, bc, cd = b - a, c - b, d - c
    left, right = np.cross(ab, bc), np.cross(bc, cd)
    y = (np.linalg.norm(bc, axis=-1, keepdims=True) * ab * right).sum(axis=-1)
    return np.arctan2(y, (left * right).sum(axis=-1))


def find_chain_breaks(protein: Protein) -> np.ndarray:
    """Indices i of residues that are not bonded to residue i + 1 although both are of one chain: [B] int64.

    There is a bond where C of i and N of i + 1 exist and lie within `MAX_PEPTIDE_BOND`. The caller decides what to do.
    """
    same_chain = np.diff(protein.chain_index) == 0
    return np.flatnonzero(same_chain & ~_bonded_to_next(protein))


def _bonded_to_next(protein: Protein) -> np.ndarray:
    """[N - 1] bool: is there a peptide bond from residue i to residue i + 1?"""
    c, n = protein.atom_positions[:-1, _C], protein.atom_positions[1:, _N]
    exists = protein.atom_mask[:-1, _C] & protein.atom_mask[1:, _N] & (np.diff(protein.chain_index) == 0)
    return exists & (np.linalg.norm(c - n, axis=-1) <= MAX_PEPTIDE_BOND)
