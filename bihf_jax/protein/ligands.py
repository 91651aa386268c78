"""`Ligands`: what a structure holds beside protein, water and nucleic acid."""

import dataclasses
from collections.abc import Sequence

import gemmi
import numpy as np
from scipy.spatial import cKDTree

from bihf_jax.protein import residue_constants

# Å by which a bond may be longer than the sum of the covalent radii (Cambridge Structural Database's rule).
BOND_TOLERANCE = 0.4

# Å within which the atoms of two molecules are the same: a molecule on a symmetry axis, and its copy in an assembly.
COINCIDENCE = 0.2

# Sugars that gemmi's table of common components does not call one.
_MORE_SUGARS = frozenset(
    (
        *("A2G", "AHR", "ARA", "BDP", "FCA", "FCB", "FRU", "FUL", "GCS", "GCU", "GTR", "IDR", "IDS", "MMA", "NGA"),
        *("RAM", "RIB", "RM4", "SGN", "XYP", "XYS"),
    )
)
# Elements that no ion of one atom consists of: such a ligand is a molecule of which one atom is resolved.
_NUM_ELEMENTS = 119
_NEVER_AN_ION = frozenset(gemmi.Element(name).atomic_number for name in ("X", "B", "C", "N", "O", "P", "S"))

_ARRAYS_OF_MOLECULES = ("names", "chain_ids", "label_chain_ids", "residue_number", "insertion_code")
_ARRAYS_OF_ATOMS = ("elements", "atom_names", "atom_positions", "b_factors", "molecule_index")
_DTYPES = {
    **{"residue_number": "int32", "insertion_code": "<U1", "elements": "int8", "atom_positions": "float32"},
    **{"b_factors": "float32", "molecule_index": "int32"},
}


@dataclasses.dataclass(frozen=True)
class Ligands:
    """The molecules of a structure that are neither protein, water nor nucleic acid. M molecules of A heavy atoms.

    A molecule is what the file calls one residue, so a glycan of three sugars is three. Modified residues of a protein
    chain (MSE, SEP) are residues of the `Protein`, not ligands. What is a ligand, by `kinds`:

    * ``ion``: one atom of a metal, a halogen, or another element that forms such ions (ZN, CL);
    * ``glycan``: a sugar, free or bound to the protein (NAG, MAN);
    * ``amino acid``: a free one, that is one which no peptide bond ties to a protein chain;
    * ``small molecule``: all others, such as cofactors (HEM), inhibitors, free nucleotides (ATP), what the crystal was
      grown in (SO4, GOL), and components of a protein's polymer that are no amino acid (the caps ACE and NH2).

    Of alternate locations the conformer with the highest occupancy is kept, as for residues. Chain ids are text of
    any length. Molecules stand by chain, those of protein chains first.
    """

    names: np.ndarray  # [M] text, name of the component
    chain_ids: np.ndarray  # [M] text, author id of the chain that the file puts it in
    label_chain_ids: np.ndarray  # [M] text, id in mmCIF; "A_1": a component of the polymer A
    residue_number: np.ndarray  # [M] int32 author number
    insertion_code: np.ndarray  # [M] <U1, " " where none
    elements: np.ndarray  # [A] int8 atomic number; 0 where the file does not say
    atom_names: np.ndarray  # [A] text, not always unique in a molecule
    atom_positions: np.ndarray  # [A, 3] float32 Å
    b_factors: np.ndarray  # [A] float32 Å²
    molecule_index: np.ndarray  # [A] int32 index of the molecule; never falls along the array

    def __post_init__(self):
        for names, length in ((_ARRAYS_OF_MOLECULES, self.num_molecules), (_ARRAYS_OF_ATOMS, self.num_atoms)):
            for name in names:
                array = getattr(self, name)
                shape = (length, 3) if name == "atom_positions" else (length,)
                right_type = array.dtype == _DTYPES[name] if name in _DTYPES else array.dtype.kind == "U"
                if array.shape != shape or not right_type:
                    wanted = f"{_DTYPES.get(name, 'text')} of shape {shape}"
                    raise ValueError(f"ligands: {name} must be {wanted}, got {array.dtype} of shape {array.shape}")
        if not np.array_equal(np.unique(self.molecule_index), np.arange(self.num_molecules)):
            raise ValueError("ligands: molecule_index must use every molecule and no other")
        if (np.diff(self.molecule_index) < 0).any():
            raise ValueError("ligands: the atoms of a molecule must be contiguous, in the order of the molecules")

    @classmethod
    def none(cls) -> "Ligands":
        """No molecule."""
        arrays = {name: np.zeros(0, dtype=_DTYPES.get(name, "<U1")) for name in _ARRAYS_OF_MOLECULES + _ARRAYS_OF_ATOMS}
        return cls(**arrays | {"atom_positions": np.zeros((0, 3), dtype=np.float32)})

    @classmethod
    def concatenate(cls, parts: Sequence["Ligands"]) -> "Ligands":
        """The molecules of several, one after another."""
        first = np.cumsum([0] + [part.num_molecules for part in parts])
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(cls)
        }
        arrays["molecule_index"] = np.concatenate(
            [part.molecule_index + start for part, start in zip(parts, first, strict=False)]
        ).astype(np.int32)
        return cls(**arrays)

    @property
    def num_molecules(self) -> int:
        """M."""
        return len(self.names)

    @property
    def num_atoms(self) -> int:
        """A, of all molecules."""
        return len(self.elements)

    def kinds(self) -> tuple[str, ...]:
        """ "ion", "glycan", "amino acid" or "small molecule" for each molecule, by its name and elements."""
        size = np.bincount(self.molecule_index, minlength=self.num_molecules)
        first = np.searchsorted(self.molecule_index, np.arange(self.num_molecules))
        return tuple(
            _kind_of(str(name), int(self.elements[atom]), int(atoms))
            for name, atom, atoms in zip(self.names, first, size, strict=True)
        )

    def bonds(self) -> np.ndarray:
        """Covalent bonds: [B, 2] int64 pairs of atoms i < j, in rising order, also between the sugars of a glycan.

        Files rarely state them, so they follow from geometry: two atoms that are no metal and of known element, not
        further apart than the sum of their covalent radii and `BOND_TOLERANCE`.
        """
        elements = [gemmi.Element(int(number)) for number in self.elements]
        radii = np.array([element.covalent_r for element in elements])
        bonding = np.flatnonzero([element.atomic_number > 0 and not element.is_metal for element in elements])
        if len(bonding) == 0:
            return np.zeros((0, 2), dtype=np.int64)
        tree = cKDTree(self.atom_positions[bonding])
        pairs = tree.query_pairs(2 * radii[bonding].max() + BOND_TOLERANCE, output_type="ndarray")
        pairs = np.sort(bonding[pairs], axis=1)
        distance = np.linalg.norm(self.atom_positions[pairs[:, 0]] - self.atom_positions[pairs[:, 1]], axis=1)
        pairs = pairs[distance <= radii[pairs].sum(axis=1) + BOND_TOLERANCE]
        return pairs[np.lexsort(pairs.T[::-1])]

    def take(self, molecules: np.ndarray) -> "Ligands":
        """The molecules at these indices [K] int64, in this order."""
        size = np.bincount(self.molecule_index, minlength=self.num_molecules)
        start = np.cumsum(size) - size
        atoms = np.concatenate([np.arange(start[i], start[i] + size[i]) for i in molecules] or [np.zeros(0, np.int64)])
        arrays = {name: getattr(self, name)[molecules] for name in _ARRAYS_OF_MOLECULES}
        arrays |= {name: getattr(self, name)[atoms] for name in _ARRAYS_OF_ATOMS}
        arrays["molecule_index"] = np.repeat(np.arange(len(molecules), dtype=np.int32), size[molecules])
        return Ligands(**arrays)

    def by_chain(self, chain_ids: Sequence[str]) -> "Ligands":
        """The same molecules, those of these chains first and in their order, then the others by chain."""
        order: dict[str, int] = {}
        for chain in (*chain_ids, *self.chain_ids.tolist()):
            order.setdefault(chain, len(order))
        return self.take(np.argsort([order[chain] for chain in self.chain_ids.tolist()], kind="stable"))

    def without_coincident(self) -> "Ligands":
        """Without molecules all of whose atoms lie within `COINCIDENCE` of those of an earlier one of the same name."""
        if self.num_molecules < 2:
            return self
        starts = np.searchsorted(self.molecule_index, np.arange(self.num_molecules))
        size = np.diff(np.append(starts, self.num_atoms))
        first_atoms = self.atom_positions[starts]
        dropped: set[int] = set()
        for i, j in sorted(cKDTree(first_atoms).query_pairs(COINCIDENCE)):
            if i in dropped or (self.names[i], size[i]) != (self.names[j], size[j]):
                continue
            here, there = (self.atom_positions[starts[k] : starts[k] + size[k]] for k in (i, j))
            if np.linalg.norm(here - there, axis=1).max() <= COINCIDENCE:
                dropped.add(j)
        return self.take(np.array([i for i in range(self.num_molecules) if i not in dropped], dtype=np.int64))

    def validate(self, source: str) -> None:
        """Check what is too slow to check on construction; `Protein.validate` calls this.

        Raises:
          ValueError: a position or B factor is not finite, an element does not exist, or a text is not printable
            ASCII. `source` names the structure in the message.
        """
        for name in ("atom_positions", "b_factors"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{source}: ligands: {name} must be finite")
        if ((self.elements < 0) | (self.elements >= _NUM_ELEMENTS)).any():
            raise ValueError(f"{source}: ligands: elements must be atomic numbers, 0 where unknown")
        for name in ("names", "chain_ids", "label_chain_ids", "insertion_code", "atom_names"):
            for text in np.unique(getattr(self, name)).tolist():
                if not (text.isascii() and (text.isprintable() or not text)):
                    raise ValueError(f"{source}: ligands: {name} must be printable ASCII, got {text!r}")


def _kind_of(name: str, element: int, num_atoms: int) -> str:
    kind = gemmi.find_tabulated_residue(name).kind
    if num_atoms == 1 and element not in _NEVER_AN_ION:
        return "ion"
    if kind in (gemmi.ResidueKind.PYR, gemmi.ResidueKind.KET) or name in _MORE_SUGARS:
        return "glycan"
    if residue_constants.residue_type_of(name) is not None:
        return "amino acid"
    return "small molecule"
