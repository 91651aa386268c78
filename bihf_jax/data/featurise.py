"""`Protein` -> `Example`: tokens, backbone, torsions and neighbour lists in slot layout."""

from collections.abc import Sequence

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, MAX_NEIGHBOURS, Example
from bihf_jax.protein import Protein, backbone, nearest_neighbours, torsions

_CA = BACKBONE_ATOMS.index("CA")
_NO_INSERTION_CODE = ord(" ")


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
) -> Example:
    """Lay one protein out in slots: each chain is ``<cls> residues <eos>``.

    Neighbours are the `MAX_NEIGHBOURS` nearest residues by CA distance over all chains of `partner`. A residue
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

    Raises:
      ValueError: `label` or `label_mask` is not [N], `protein_label` is not [P], or a label that counts is not finite.
      OffsetOverflowError: two neighbours lie more slots apart than an int16 offset can say.
    """
    slot = residue_slots(partner)
    num_slots = partner.num_residues + 2 * len(partner.chain_ids)
    label, label_mask = _checked_labels(partner, id, label, label_mask)
    positions, position_mask = backbone(partner)
    angles, angle_mask = torsions(partner)

    def spread(values: np.ndarray, fill: int = 0) -> np.ndarray:
        """[N, ...] by residue -> [n, ...] by slot, `fill` at special tokens."""
        slots = np.full((num_slots, *values.shape[1:]), fill, dtype=values.dtype)
        slots[slot] = values
        return slots

    tokens = spread(alphabet.encode_residue_types(partner.residue_type), alphabet.EOS)
    chain_segment = _chain_segment(partner)
    tokens[np.diff(chain_segment, prepend=0) != 0] = alphabet.CLS
    return Example(
        id=id,
        source=partner.source if source is None else source,
        group=group,
        chain_ids=partner.chain_ids,
        tokens=tokens,
        chain_segment=chain_segment,
        residue_number=spread(partner.residue_number),
        insertion_code=spread(_ascii_codes(partner.insertion_code), _NO_INSERTION_CODE),
        backbone=spread(positions),
        backbone_mask=spread(position_mask),
        torsions=spread(angles),
        torsion_mask=spread(angle_mask),
        neighbour_offset=spread(_neighbour_offsets(positions[:, _CA], position_mask[:, _CA], slot, id)),
        label=spread(label),
        label_mask=spread(label_mask),
        weight=float(weight),
        protein_label=_checked_protein_label(id, protein_label),
    )


def residue_slots(partner: Protein) -> np.ndarray:
    """[N] int64 slot of each residue: one <cls> a chain before it, and one <eos> a chain that has ended."""
    return np.arange(partner.num_residues) + 2 * partner.chain_index.astype(np.int64) + 1


def _chain_segment(partner: Protein) -> np.ndarray:
    residues_of_chain = np.bincount(partner.chain_index, minlength=len(partner.chain_ids))
    return np.repeat(np.arange(1, len(residues_of_chain) + 1, dtype=np.int16), residues_of_chain + 2)


def _ascii_codes(insertion_code: np.ndarray) -> np.ndarray:
    """[N] <U1 -> [N] uint8; residue ids are ASCII in both file formats."""
    return np.frombuffer(insertion_code.astype("S1").tobytes(), dtype=np.uint8)


def _neighbour_offsets(ca: np.ndarray, ca_mask: np.ndarray, slot: np.ndarray, id: str) -> np.ndarray:
    """[N, MAX_NEIGHBOURS] int16: slot of the neighbour minus slot of the residue, nearest first; 0 where none."""
    neighbours = nearest_neighbours(ca, ca_mask, MAX_NEIGHBOURS)
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
