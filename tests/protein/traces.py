"""CA traces and small proteins for the tests of superposition and quality."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from bihf_jax.protein import Protein, residue_constants
from bihf_jax.protein.report import ParseReport

CA = residue_constants.ATOM_INDEX["CA"]


def random_walk(num: int, seed: int = 0) -> np.ndarray:
    """[num, 3] Å: steps of 3.8 Å in random directions that keep some of the last direction."""
    rng = np.random.default_rng(seed)
    direction, steps = np.array([1.0, 0, 0]), []
    for turn in rng.normal(size=(num, 3)):
        direction = direction + 0.8 * turn
        direction /= np.linalg.norm(direction)
        steps.append(3.8 * direction)
    return np.cumsum(steps, axis=0)


def moved(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Points [n, 3] after a random rotation and translation."""
    rng = np.random.default_rng(seed)
    return points @ Rotation.random(rng=rng).as_matrix().T + rng.normal(scale=30, size=3)


def trace(ca: np.ndarray, sequence: str | None = None, chain: str = "A", first_number: int = 1) -> Protein:
    """A protein of one chain with CA atoms only, at ca [n, 3] Å; of random sequence where none is given."""
    num = len(ca)
    types = np.random.default_rng(num).integers(0, 20, num)
    if sequence is not None:
        types = np.array([residue_constants.RESIDUE_TYPE_INDEX[letter] for letter in sequence])
    positions = np.zeros((num, residue_constants.NUM_ATOMS, 3), np.float32)
    positions[:, CA] = ca
    mask = np.zeros(positions.shape[:2], bool)
    mask[:, CA] = True
    return Protein(
        residue_type=types.astype(np.int8),
        atom_positions=positions,
        atom_mask=mask,
        chain_index=np.zeros(num, np.int32),
        chain_ids=(chain,),
        label_chain_ids=(chain,),
        residue_number=np.arange(first_number, first_number + num, dtype=np.int32),
        label_residue_number=np.arange(1, num + 1, dtype=np.int32),
        insertion_code=np.full(num, " "),
        b_factors=np.zeros(positions.shape[:2], np.float32),
        source="trace.pdb",
        report=ParseReport(),
    )


def with_ca(protein: Protein, ca: np.ndarray) -> Protein:
    """The protein with its CA atoms at ca [N, 3] Å."""
    positions = protein.atom_positions.copy()
    positions[:, CA] = ca
    return dataclasses.replace(protein, atom_positions=positions)


def without_residues(protein: Protein, rows: np.ndarray) -> Protein:
    """The protein of one chain without these rows."""
    kept = np.setdiff1d(np.arange(protein.num_residues), rows)
    names = ("residue_type", "atom_positions", "atom_mask", "chain_index", "residue_number", "label_residue_number")
    names += ("insertion_code", "b_factors")
    return dataclasses.replace(protein, **{name: getattr(protein, name)[kept] for name in names})


def renumbered(protein: Protein, first: int) -> Protein:
    """The protein of one chain numbered from `first` on without gaps."""
    numbers = np.arange(first, first + protein.num_residues, dtype=np.int32)
    return dataclasses.replace(protein, residue_number=numbers)


def renamed(protein: Protein, *ids: str) -> Protein:
    """The protein with these chain ids."""
    return dataclasses.replace(protein, chain_ids=ids, label_chain_ids=ids)
