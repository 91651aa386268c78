"""Some residues of a `Protein`, as a `Protein`."""

import dataclasses

import numpy as np

from bihf_jax.protein.protein import Protein


def take_residues(protein: Protein, rows: np.ndarray) -> Protein:
    """The residues [N] bool of `protein`, with the chains that keep one; its ligands stay.

    `Protein.select_chains` goes by author id, which two chains of a file may share; this does not.
    """
    arrays = {
        field.name: getattr(protein, field.name)[rows]
        for field in dataclasses.fields(protein)
        if isinstance(getattr(protein, field.name), np.ndarray)
    }
    kept, arrays["chain_index"] = np.unique(arrays["chain_index"], return_inverse=True)
    arrays["chain_index"] = arrays["chain_index"].astype(np.int32)
    return dataclasses.replace(
        protein,
        **arrays,
        chain_ids=tuple(protein.chain_ids[index] for index in kept),
        label_chain_ids=tuple(protein.label_chain_ids[index] for index in kept),
    )
