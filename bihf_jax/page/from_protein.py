"""`page_of`: a `Protein` and its scores as a `StructurePage`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bihf_jax.page.structure import Residue, StructurePage
from bihf_jax.protein import Protein, StructureError, Written, residue_constants


def page_of(
    protein: Protein,
    scores: np.ndarray | None = None,
    *,
    title: str | None = None,
    written: Mapping[str, Written | StructureError] | None = None,
    **page: Any,
) -> StructurePage:
    """The page of a protein.

    The structure is written as PDB, or as mmCIF where PDB cannot hold it, with the scores in the B-factor column. What
    reading the file left out is added to the notes.

    Args:
      protein: with N residues.
      scores: [N] one a residue, NaN where there is none; None where the page shows no scores.
      title: the protein's source if None.
      written: `protein.written(scores)`, 0 for no score, where it is there already.
      **page: further fields of `StructurePage`, such as `score_name`, `threshold`, `tracks` (of N values), `values`.

    Raises:
      ValueError: scores of another shape, infinite ones, or what `StructurePage` refuses.
      StructureError: neither PDB nor mmCIF can hold the protein.
    """
    number = np.full(protein.num_residues, np.nan) if scores is None else np.asarray(scores, dtype=np.float64)
    if number.shape != (protein.num_residues,):
        wanted = f"({protein.num_residues},), one a residue"
        raise ValueError(f"{protein.source}: scores have shape {number.shape}; they must have shape {wanted}")
    missing = np.isnan(number)
    if written is None:
        written = _written(protein, None if scores is None else np.where(missing, 0, number))
    file_format, notes = _format_of(written)
    structure = written[file_format]
    if isinstance(structure, StructureError):
        raise structure
    if scores is not None and missing.any():
        notes.append(f"{missing.sum()} residues have no score; the B-factor column of the structure has 0 for them.")
    notes = [*page.pop("notes", ()), *notes, *(f"Reading the file: {line}" for line in str(protein.report).split("\n"))]
    return StructurePage(
        title=protein.source if title is None else title,
        structure=structure.text,
        structure_format=file_format,
        protein=structure.protein,
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


def _written(protein: Protein, values: np.ndarray | None) -> Mapping[str, Written | StructureError]:
    """The protein as PDB; as mmCIF too where PDB cannot hold it."""
    written = protein.written(values, ["PDB"])
    return written if isinstance(written["PDB"], Written) else written | protein.written(values, ["mmCIF"])


def _format_of(written: Mapping[str, Written | StructureError]) -> tuple[str, list[str]]:
    """The format of the page's structure, and the note why it is not PDB."""
    if isinstance(written["PDB"], StructureError):
        return "mmCIF", [f"The structure is mmCIF because PDB cannot hold it: {written['PDB']}"]
    return "PDB", []
