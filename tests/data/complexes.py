"""A made protein with a made ligand in contact with some of its residues."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bihf_jax.data.featurise import make_example
from bihf_jax.data.ligand import Ligand
from bihf_jax.protein import Protein
from tests.data_prep.structures import chain_lines, random_sequence


def made_protein(seed: int = 0, lengths: tuple[int, int] = (14, 10)) -> Protein:
    """Two strands beside each other along x, of residues with a backbone and a CB."""
    rng = np.random.default_rng(seed)
    strands = [
        chain_lines(random_sequence(rng, length), name, start=(0.0, 5.0 * number, 0.0), seed=seed + number)
        for number, (length, name) in enumerate(zip(lengths, "AB", strict=True))
    ]
    return Protein.from_text("\n".join([*strands[0], *strands[1], "END", ""]), name=f"made{seed}")


def made_ligand(seed: int = 0, place: tuple[float, float, float] = (12.0, 2.5, 3.5)) -> Ligand:
    """A phenyl ring 3.5 Å above the first strand with a tail of C, N+ and O-, slightly bent: nine atoms and bonds."""
    rng = np.random.default_rng(seed)
    turn = np.arange(6) * np.pi / 3
    ring = np.stack([1.4 * np.cos(turn), 1.4 * np.sin(turn), 0.3 * np.cos(2 * turn)], axis=1)
    tail = ring[0] + np.array([[1.5, 0.0, 0.0], [2.2, 0.5, 1.1], [3.3, 0.1, 1.6]])
    positions = np.array(place) + np.concatenate([ring, tail]) + rng.normal(scale=0.05, size=(9, 3))
    return Ligand(
        source=f"made{seed}.sdf",
        elements=np.array([6] * 7 + [7, 8], np.int8),
        atom_positions=positions.astype(np.float32),
        charges=np.array([0] * 7 + [1, -1], np.int8),
        hybridisation=np.array([3] * 6 + [4] * 3, np.int8),
        aromatic=np.array([True] * 6 + [False] * 3),
        in_ring=np.array([True] * 6 + [False] * 3),
        bonds=np.array([[0, 1], [0, 5], [0, 6], [1, 2], [2, 3], [3, 4], [4, 5], [6, 7], [7, 8]]),
        bond_types=np.array([4, 4, 1, 4, 4, 4, 4, 2, 1], np.int8),
    )


def permuted(ligand: Ligand, order: np.ndarray) -> Ligand:
    """The same molecule with its atom `order[i]` as atom i."""
    arrays = {
        name: getattr(ligand, name)[order]
        for name in ("elements", "atom_positions", "charges", "hybridisation", "aromatic", "in_ring")
    }
    bonds = np.sort(np.argsort(order)[ligand.bonds], axis=1)
    rising = np.lexsort(bonds.T[::-1])
    return dataclasses.replace(ligand, **arrays, bonds=bonds[rising], bond_types=ligand.bond_types[rising])


def made_complex(seed: int = 0, ligand: Ligand | None = None, **labels):
    """The example of `made_protein` with a ligand, `made_ligand` if None."""
    ligand = made_ligand(seed) if ligand is None else ligand
    return make_example(made_protein(seed), id=f"made{seed}", group=f"made{seed}", ligand=ligand, **labels)


# The heavy atoms of phenol, component IPH, and their places in Å.
PHENOL_ATOMS = ("C1", "C2", "C3", "C4", "C5", "C6", "O1")
_RING = ((1.39, 0.0), (0.695, 1.2038), (-0.695, 1.2038), (-1.39, 0.0), (-0.695, -1.2038), (0.695, -1.2038))


def phenol_lines(names: Sequence[str] = PHENOL_ATOMS, number: int = 301, component: str = "IPH") -> list[str]:
    """PDB lines of a phenol in chain A; `names` are those of its first atoms."""
    places = [*_RING, (2.75, 0.0)]
    rest = "   0.100  1.00 10.00"
    return [
        f"HETATM{serial:5d}  {name:<3} {component:>3} A{number:4d}    {x:8.3f}{y:8.3f}{rest}{name[0]:>12}"
        for serial, (name, (x, y)) in enumerate(zip(names, places, strict=False), start=900)
    ]
