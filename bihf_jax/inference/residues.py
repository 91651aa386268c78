"""Which residues a result is about, as the columns that name them in every file."""

import numpy as np

from bihf_jax.protein import Protein
from bihf_jax.protein.residue_constants import ATOM_INDEX, RESIDUE_TYPES

_STRUCTURE_ATOMS = [ATOM_INDEX[name] for name in ("N", "CA", "C")]


def residue_columns(protein: Protein) -> dict[str, np.ndarray]:
    """The residues of a protein, in order.

    Returns:
      [N] each: "chain" (str, author id), "residue_number" (int32, author's), "insertion_code" (<U1, " " where none, "?"
      where the number is not from the file), "amino_acid" (<U1) and "has_structure" (bool).
    """
    return {
        "chain": np.array(protein.chain_ids, dtype=str)[protein.chain_index],
        "residue_number": protein.residue_number,
        "insertion_code": protein.insertion_code,
        "amino_acid": np.array(RESIDUE_TYPES)[protein.residue_type],
        "has_structure": has_structure(protein),
    }


def has_structure(protein: Protein) -> np.ndarray:
    """[N] bool: N, CA and C have coordinates; the model knows the others by their sequence alone."""
    return protein.atom_mask[:, _STRUCTURE_ATOMS].all(axis=1)
