"""`Ligand`: a small molecule beside a protein, the words for its atoms and edges, and who is whose neighbour.

Its heavy atoms are nodes of the graph, in slots after those of the chains (`example.Example`).
"""

import dataclasses
from typing import ClassVar

import numpy as np
from scipy.spatial import cKDTree

from bihf_jax.protein import Protein

# Small integers of an atom stand for entries of these.
ELEMENTS = ("none", "other", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I")  # "none": no ligand atom
CHARGES = (-2, -1, 0, 1, 2)  # beyond these: the last
HYBRIDISATIONS = ("other", "s", "sp", "sp2", "sp3", "sp2d", "sp3d", "sp3d2")
BOND_TYPES = ("other", "single", "double", "triple", "aromatic")

# Last axis of `Example.ligand_atoms` and `ProteinBatch.ligand_atom`: name -> how many values it has.
ATOM_FIELDS: dict[str, int] = {
    "element": len(ELEMENTS),
    "charge": len(CHARGES),
    "hybridisation": len(HYBRIDISATIONS),
    "aromatic": 2,
    "ring": 2,
}
# What joins a slot and its neighbour, the values of `ProteinBatch.edge_type`: nothing (masked), two residues, a
# residue and a ligand atom, two atoms of a ligand without a bond, or with one of `BOND_TYPES`.
EDGE_TYPES = ("none", "residues", "contact", "atoms", *(f"{name} bond" for name in BOND_TYPES))
RESIDUES, CONTACT, ATOMS, FIRST_BOND = range(1, 5)

# Å from an atom of the ligand to the closest heavy atom of a residue within which the two are neighbours.
CONTACT_CUTOFF = 5.0
# Of the neighbours of a residue, those that are ligand atoms: without a limit a pocket would see no residues.
MAX_CONTACTS = 8

_ATOMIC_NUMBERS = {
    **{"B": 5, "C": 6, "N": 7, "O": 8, "F": 9, "Si": 14, "P": 15, "S": 16},
    **{"Cl": 17, "Se": 34, "Br": 35, "I": 53},
}
_ELEMENT_INDEX = np.full(128, ELEMENTS.index("other"), np.int8)
_ELEMENT_INDEX[list(_ATOMIC_NUMBERS.values())] = [ELEMENTS.index(name) for name in _ATOMIC_NUMBERS]

_TIE_STEP = 1e-3  # Å; as in `protein.neighbours`
_BOND_FIRST = 1e6  # Å, more than any distance: a bonded atom comes before all others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ligand:
    """The chemistry and the place of one small molecule. A heavy atoms, B bonds between them.

    Raises:
      ValueError: an array of another dtype or shape, an index that is no atom or of no list, or no finite place.
    """

    source: str  # name of the file, for messages
    elements: np.ndarray  # [A] int8 atomic number; 0 where the file does not say
    atom_positions: np.ndarray  # [A, 3] float32 Å
    charges: np.ndarray  # [A] int8 formal charge
    hybridisation: np.ndarray  # [A] int8 index into `HYBRIDISATIONS`
    aromatic: np.ndarray  # [A] bool
    in_ring: np.ndarray  # [A] bool
    bonds: np.ndarray  # [B, 2] int64 pairs of atoms i < j, in rising order
    bond_types: np.ndarray  # [B] int8 index into `BOND_TYPES`

    _DTYPES: ClassVar[dict[str, str]] = {
        **{"elements": "int8", "atom_positions": "float32", "charges": "int8", "hybridisation": "int8"},
        **{"aromatic": "bool", "in_ring": "bool", "bonds": "int64", "bond_types": "int8"},
    }

    def __post_init__(self) -> None:
        sizes = {"atom_positions": (self.num_atoms, 3), "bonds": (len(self.bonds), 2), "bond_types": (len(self.bonds),)}
        for name, dtype in self._DTYPES.items():
            array, shape = getattr(self, name), sizes.get(name, (self.num_atoms,))
            if array.shape != shape or array.dtype != dtype:
                wanted = f"{dtype} of shape {shape}"
                raise ValueError(f"{self.source}: {name} must be {wanted}, got {array.dtype} of shape {array.shape}")
        i, j = self.bonds.T
        if ((i < 0) | (i >= j) | (j >= self.num_atoms)).any():
            raise ValueError(f"{self.source}: bonds must be pairs i < j of the {self.num_atoms} atoms")
        for name, words in (("hybridisation", HYBRIDISATIONS), ("bond_types", BOND_TYPES)):
            array = getattr(self, name)
            if ((array < 0) | (array >= len(words))).any():
                raise ValueError(f"{self.source}: {name} must be 0 to {len(words) - 1}: an index of {', '.join(words)}")
        if not np.isfinite(self.atom_positions).all():
            raise ValueError(f"{self.source}: atom_positions must be finite; leave out atoms without coordinates")

    @property
    def num_atoms(self) -> int:
        """A."""
        return len(self.elements)

    def atom_fields(self) -> np.ndarray:
        """[A, 5] int8, `ATOM_FIELDS`."""
        charge = np.clip(self.charges, CHARGES[0], CHARGES[-1]) - CHARGES[0]
        # A negative number would count from the end of the table.
        element = _ELEMENT_INDEX[np.maximum(self.elements, 0)]
        columns = (element, charge, self.hybridisation, self.aromatic, self.in_ring)
        return np.stack([column.astype(np.int8) for column in columns], axis=-1)

    def bond_fields(self) -> np.ndarray:
        """[B, 3] int16: the two atoms, and the index into `BOND_TYPES`."""
        return np.concatenate([self.bonds, self.bond_types[:, None]], axis=1).astype(np.int16)


def with_ligand(neighbours: np.ndarray, protein: Protein, mask: np.ndarray, ligand: Ligand) -> np.ndarray:
    """Neighbour lists of a protein with its ligand. Nodes are the N residues, then the A atoms.

    A residue has the atoms in contact with it first, `MAX_CONTACTS` at most, then the residues that it had. An atom
    has those bonded to it first, then other atoms and the residues in contact with it. Of each kind the nearest come
    first; the distance of a residue and an atom is that to its closest heavy atom. Residues without a contact keep
    their list.

    Args:
      neighbours: [N, K] int32 residues, nearest first, -1 where there is none.
      protein: the residues.
      mask: [N] bool: the residue is a node.
      ligand: the atoms.

    Returns:
      [N + A, K] int32, -1 where there is none.
    """
    count, k = neighbours.shape
    contact = contact_distances(protein, mask, ligand)
    lists = np.concatenate([_nearest(contact, MAX_CONTACTS, first=count), neighbours], axis=1)
    gaps = np.argsort(lists < 0, axis=1, kind="stable")
    of_residues = np.take_along_axis(lists, gaps, axis=1)[:, :k]

    places = ligand.atom_positions.astype(np.float64)
    between = np.linalg.norm(places[:, None] - places[None], axis=-1)
    i, j = ligand.bonds.T
    between[i, j] -= _BOND_FIRST
    between[j, i] -= _BOND_FIRST
    np.fill_diagonal(between, np.inf)
    of_atoms = _nearest(np.concatenate([contact.T, between], axis=1), k)
    return np.concatenate([of_residues, of_atoms])


def contact_distances(protein: Protein, mask: np.ndarray, ligand: Ligand) -> np.ndarray:
    """[N, A] Å from the closest heavy atom of a residue to an atom of the ligand; inf beyond `CONTACT_CUTOFF`, and
    where `mask` [N] is off."""
    distances = np.full((protein.num_residues, ligand.num_atoms), np.inf)
    residue, atom = np.nonzero(protein.atom_mask & mask[:, None])
    tree = cKDTree(protein.atom_positions[residue, atom].astype(np.float64))
    near = tree.sparse_distance_matrix(
        cKDTree(ligand.atom_positions.astype(np.float64)), CONTACT_CUTOFF, output_type="ndarray"
    )
    np.minimum.at(distances, (residue[near["i"]], near["j"]), near["v"])
    return distances


def pocket_rows(protein: Protein, near: np.ndarray, cutoff: float) -> np.ndarray:
    """[N] bool: residues with an atom within `cutoff` Å of one of the positions `near` [A, 3]."""
    residue, _ = np.nonzero(protein.atom_mask)
    distance, _ = cKDTree(near).query(protein.atom_positions[protein.atom_mask], distance_upper_bound=cutoff + 1e-4)
    rows = np.zeros(protein.num_residues, dtype=bool)
    rows[residue[np.isfinite(distance)]] = True
    return rows


def _nearest(distances: np.ndarray, k: int, first: int = 0) -> np.ndarray:
    """[n, k] int32: columns of distances [n, m] counted from `first`, smallest first; -1 where inf or there is none."""
    steps = np.round(distances / _TIE_STEP)
    order = np.argsort(steps, axis=1, kind="stable")[:, :k]
    finite = np.isfinite(np.take_along_axis(distances, order, axis=1))
    nearest = np.full((len(distances), k), -1, np.int32)
    nearest[:, : order.shape[1]] = np.where(finite, order + first, -1)
    return nearest
