"""`ProteinBatch`: the residue grid, R rows of L slots into which proteins are packed.

Slot = node of the graph = token of the transformer, so the sequence and the structure side share one layout and
fusion is an elementwise operation. Values at a masked slot never matter.
"""

from typing import NamedTuple

import jax

Array = jax.Array


class ProteinBatch(NamedTuple):
    """Static shapes: R rows, L slots a row, K neighbour slots a residue, G graph (protein) slots a row, P
    numbers of a protein's label.

    The atoms of a ligand are slots of their protein behind its chains, without a sequence side; where an atom lies is
    in the place of the CA, and its other backbone atoms and its torsions are masked.

    Under `jax.pmap` every field has a leading device axis.
    """

    tokens: Array  # [R, L] int32, `alphabet.TOKENS`; PAD outside proteins
    chain_segment: Array  # [R, L] int32, chain of the slot, 1-based within the row, each ligand atom one; 0 is padding
    protein_segment: Array  # [R, L] int32, protein of the slot, 1-based within the row; 0 is padding
    sequence_mask: Array  # [R, L] bool: the slot holds a token (residue or special)
    structure_mask: Array  # [R, L] bool: the slot holds a residue with N, CA and C coordinates, or a ligand atom
    backbone: Array  # [R, L, 5, 3] float32 Å, N CA C O CB; 0 where masked
    backbone_mask: Array  # [R, L, 5] bool
    torsions: Array  # [R, L, 7] float32 radians, phi psi omega chi1-4; 0 where masked
    torsion_mask: Array  # [R, L, 7] bool
    neighbours: Array  # [R, L, K] int32 slot of the sender within the row, nearest first; the slot itself where masked
    neighbour_mask: Array  # [R, L, K] bool
    edge_type: Array  # [R, L, K] int8 what joins the two, `ligand.EDGE_TYPES`; 0 where masked
    ligand_atom: Array  # [R, L, 5] int8, `ligand.ATOM_FIELDS`; element 0 where the slot is no ligand atom
    label: Array  # [R, L] float32; 0 where masked
    label_mask: Array  # [R, L] bool: real label at a real slot
    weight: Array  # [R, L] float32 sample weight of the slot's example; 0 at padding
    protein_label: Array  # [R, G, P] float32, see `labels.Labels`; 0 where masked
    protein_label_mask: Array  # [R, G] bool: the protein has a label; one that was cropped keeps it
    protein_weight: Array  # [R, G] float32 sample weight of the example; 0 at unused graph slots
    record: Array  # [R, G] int32 index of the protein's record in its split; -1 at unused graph slots
    row_id: Array  # [R] int32 number of the row within the global step (dropout keys fold it in)
