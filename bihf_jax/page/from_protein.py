"""`page_of`: a `Protein` and its scores as a `StructurePage`."""

from typing import Any

import numpy as np

from bihf_jax.page.structure import Residue, StructurePage
from bihf_jax.protein import Protein, StructureError, residue_constants


def page_of(
    protein: Protein, scores: np.ndarray | None = None, *, title: str | None = None, **page: Any
) -> StructurePage:
    """The page of a protein.

    The structure is written as PDB, or as mmCIF where PDB cannot hold it, with the scores in the B-factor column. What
    reading the file left out is added to the notes.

    Args:
      protein: with N residues.
      scores: [N] one a residue, NaN where there is none; None where the page shows no scores.
      title: the protein's source if None.
      **page: further fields of `StructurePage`, such as `score_name`, `threshold`, `tracks` (of N values), `values`.

    Raises:
      ValueError: scores of another shape, infinite ones, or what `StructurePage` refuses.
    """
    number = np.full(protein.num_residues, np.nan) if scores is None else np.asarray(scores, dtype=np.float64)
    if number.shape != (protein.num_residues,):
        wanted = f"({protein.num_residues},), one a residue"
        raise ValueError(f"{protein.source}: scores have shape {number.shape}; they must have shape {wanted}")
    missing = np.isnan(number)
    text, file_format, notes = _structure_of(protein, None if scores is None else np.where(missing, 0, number))
    if scores is not None and missing.any():
        notes.append(f"{missing.sum()} residues have no score; the B-factor column of the structure has 0 for them.")
    notes = [*page.pop("notes", ()), *notes, *(f"Reading the file: {line}" for line in str(protein.report).split("\n"))]
    return StructurePage(
        title=protein.source if title is None else title,
        structure=text,
        structure_format=file_format,
        residues=_residues_of(protein, number),
        notes=notes,
        **page,
    )


def _residues_of(protein: Protein, scores: np.ndarray) -> tuple[Residue, ...]:
    columns = (protein.chain_index, protein.residue_number, protein.insertion_code, protein.residue_type, scores)
    return tuple(
        Residue(protein.chain_ids[chain], number, code, residue_constants.RESIDUE_TYPES[letter], score)
        for chain, number, code, letter, score in zip(*(column.tolist() for column in columns), strict=True)
    )


def _structure_of(protein: Protein, values: np.ndarray | None) -> tuple[str, str, list[str]]:
    """Text, format, and the note why it is not PDB."""
    try:
        return protein.to_pdb(values), "PDB", []
    except StructureError as error:
        return protein.to_mmcif(values), "mmCIF", [f"The structure is mmCIF because PDB cannot hold it: {error}"]
