"""`Protein` -> `Example`: tokens, backbone, torsions and neighbour lists in slot layout."""

from collections.abc import Sequence

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, MAX_NEIGHBOURS, NO_INSERTION_CODE, Example
from bihf_jax.data.ligand import Ligand, with_ligand
from bihf_jax.protein import Protein, backbone, nearest_neighbours, torsions

_CA = BACKBONE_ATOMS.index("CA")


class OffsetOverflowError(ValueError):
    """A protein so large that the offset of a neighbour does not fit into a record."""


def make_example(
    partner: Protein,
    *,
    id: str,
    group: str,
    source: str | None = None,
    label: np.ndarray | None = None,
    label_mask: np.ndarray | None = None,
    protein_label: Sequence[float] | np.ndarray = (),
    weight: float = 1.0,
    ligand: Ligand | None = None,
) -> Example:
    """Lay one protein out in slots: each chain is ``<cls> residues <eos>``, and after them a slot each ligand atom.

    Neighbours are the `MAX_NEIGHBOURS` nearest residues by CA distance over all chains of `partner`; a ligand changes
    the lists of the residues that it touches (`ligand.with_ligand`), and no other feature of the protein. A residue
    without coordinates has a slot with its token, no structure, no neighbours and no label.

    Args:
      partner: what the model may see, and nothing else. N residues.
      id: unique in the record set.
      group: the complex.
      source: the structure file; `partner.source` if None.
      label: [N] numbers; None where there are no labels.
      label_mask: [N] bool, residues whose label counts; all with coordinates if None.
      protein_label: [P] numbers, see `labels.Labels`; empty where the protein as a whole has no label.
      weight: sample weight of the example.
      ligand: its small molecule, in the frame of `partner`.

    Raises:
      ValueError: `label` or `label_mask` is not [N], `protein_label` is not [P], or a label that counts is not finite.
      OffsetOverflowError: two neighbours lie more slots apart than an int16 offset can say.
    """
    num_atoms = 0 if ligand is None else ligand.num_atoms
    first_atom = partner.num_residues + 2 * len(partner.chain_ids)
    num_slots = first_atom + num_atoms
    slot = np.concatenate([residue_slots(partner), np.arange(first_atom, num_slots)])  # of residues, then atoms
    label, label_mask = _checked_labels(partner, id, label, label_mask)
    positions, position_mask = backbone(partner)
    angles, angle_mask = torsions(partner)

    def spread(values: np.ndarray, fill: int = 0) -> np.ndarray:
        """[N, ...] by residue, or [N + A, ...], -> [n, ...] by slot, `fill` at special tokens and atoms without."""
        slots = np.full((num_slots, *values.shape[1:]), fill, dtype=values.dtype)
        slots[slot[: len(values)]] = values
        return slots

    tokens = spread(alphabet.encode_residue_types(partner.residue_type), alphabet.EOS)
    chain_segment = _chain_segment(partner, num_atoms)
    tokens[np.diff(chain_segment, prepend=0) != 0] = alphabet.CLS
    tokens[first_atom:] = alphabet.PAD
    neighbours = nearest_neighbours(positions[:, _CA], position_mask[:, _CA], MAX_NEIGHBOURS)
    of_ligand = {}
    if ligand is not None:
        neighbours = with_ligand(neighbours, partner, position_mask[:, _CA], ligand)
        of_ligand = {"ligand_atoms": ligand.atom_fields(), "ligand_bonds": ligand.bond_fields()}
        positions = np.pad(positions, ((0, num_atoms), (0, 0), (0, 0)))
        position_mask = np.pad(position_mask, ((0, num_atoms), (0, 0)))
        positions[partner.num_residues :, _CA] = ligand.atom_positions
        position_mask[partner.num_residues :, _CA] = True
    return Example(
        id=id,
        source=partner.source if source is None else source,
        group=group,
        chain_ids=partner.chain_ids,
        tokens=tokens,
        chain_segment=chain_segment,
        residue_number=spread(partner.residue_number),
        insertion_code=spread(_ascii_codes(partner.insertion_code), NO_INSERTION_CODE),
        backbone=spread(positions),
        backbone_mask=spread(position_mask),
        torsions=spread(angles),
        torsion_mask=spread(angle_mask),
        neighbour_offset=spread(_offsets(neighbours, slot, id)),
        label=spread(label),
        label_mask=spread(label_mask),
        weight=float(weight),
        protein_label=_checked_protein_label(id, protein_label),
        **of_ligand,
    )


def residue_slots(partner: Protein) -> np.ndarray:
    """[N] int64 slot of each residue: one <cls> a chain before it, and one <eos> a chain that has ended."""
    return np.arange(partner.num_residues) + 2 * partner.chain_index.astype(np.int64) + 1


def _chain_segment(partner: Protein, num_atoms: int) -> np.ndarray:
    slots_of_chain = np.bincount(partner.chain_index, minlength=len(partner.chain_ids)) + 2
    slots_of_chain = np.concatenate([slots_of_chain, np.ones(num_atoms, np.int64)])
    return np.repeat(np.arange(1, len(slots_of_chain) + 1, dtype=np.int16), slots_of_chain)


def _ascii_codes(insertion_code: np.ndarray) -> np.ndarray:
    """[N] <U1 -> [N] uint8; residue ids are ASCII in both file formats."""
    return np.frombuffer(insertion_code.astype("S1").tobytes(), dtype=np.uint8)


def _offsets(neighbours: np.ndarray, slot: np.ndarray, id: str) -> np.ndarray:
    """Nodes [m, K], -1 where none -> int16 [m, K]: slot of the neighbour minus slot of the node; 0 where none."""
    offsets = np.where(neighbours >= 0, slot[neighbours] - slot[:, None], 0)
    limit = np.iinfo(np.int16).max
    if (farthest := int(np.abs(offsets).max(initial=0))) > limit:
        raise OffsetOverflowError(
            f"{id}: two neighbours lie {farthest} slots apart; offsets are int16, up to {limit}. Split the protein "
            "into partners of fewer chains"
        )
    return offsets.astype(np.int16)


def _checked_labels(
    partner: Protein, id: str, label: np.ndarray | None, label_mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """float32 [N] with 0 where masked, and bool [N]."""
    size = partner.num_residues
    for name, array in (("label", label), ("label_mask", label_mask)):
        if array is not None and np.shape(array) != (size,):
            raise ValueError(f"{id}: {name} has shape {np.shape(array)}; the protein has {size} residues")
    if label is None:
        return np.zeros(size, np.float32), np.zeros(size, bool)
    counts = partner.atom_mask.any(axis=1)
    if label_mask is not None:
        counts = counts & np.asarray(label_mask, dtype=bool)
    label = np.where(counts, label, 0).astype(np.float32)
    if not np.isfinite(label).all():
        raise ValueError(f"{id}: label of residue {int(np.argmin(np.isfinite(label)))} is not finite; mask it instead")
    return label, counts


def _checked_protein_label(id: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """float32 [P]."""
    values = np.asarray(values, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"{id}: protein_label is {values.tolist()}; it must be a list of finite numbers, empty for none"
        )
    return values
