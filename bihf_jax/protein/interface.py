"""Which residues of a partner touch another partner: labels of the binding-site tasks."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from bihf_jax.protein.protein import Protein, StructureError

# Å between heavy atoms; 98 % of the residues it calls positive are positive in ScanNet's labels.
INTERFACE_CUTOFF = 4.0


def split_partners(protein: Protein, groups: Sequence[Sequence[str]]) -> list[Protein]:
    """One protein for each group of author chain ids, such as [["H", "L"], ["A"]]: antibody against antigen.

    Chains in no group are left out.

    Raises:
      StructureError: a chain does not exist, or stands in two groups.
    """
    named = [chain for group in groups for chain in group]
    for chain in named:
        if named.count(chain) > 1:
            raise StructureError(
                f"{protein.source}: chain {chain!r} stands in {named.count(chain)} partners; one is allowed"
            )
    return [protein.select_chains(group) for group in groups]


def interface_labels(partners: Sequence[Protein], cutoff: float = INTERFACE_CUTOFF) -> list[np.ndarray]:
    """Is a residue in contact with another partner of the complex?

    A residue is positive if one of its heavy atoms lies within `cutoff` (inclusive, in float32 coordinates as read) of
    a heavy atom of another partner. Contacts inside a partner, also between its chains, do not count. Heavy atoms are
    those of `residue_constants.ATOM_NAMES`: ligands and the extra atoms of modified residues are not seen.

    Args:
      partners: two or more, in one frame; they may come from several files.
      cutoff: Å, above 0.

    Returns:
      For each partner [N_i] bool; False at residues without coordinates, which no loss should count.
    """
    if len(partners) < 2:
        raise ValueError(f"an interface needs at least two partners, got {len(partners)}")
    if not cutoff > 0:
        raise ValueError(f"cutoff must be above 0 Å, got {cutoff}")
    atoms = [partner.atom_positions[partner.atom_mask].astype(np.float64) for partner in partners]
    # The distance of two float32 coordinates read from "%.3f" text is off by up to some 1e-5 Å: a pair at exactly
    # the cutoff in the file is inside.
    reach = cutoff + 1e-4
    labels = []
    for i, partner in enumerate(partners):
        others = np.concatenate([atoms[j] for j in range(len(partners)) if j != i])
        label = np.zeros(partner.num_residues, dtype=bool)
        if len(others) and len(atoms[i]):
            distance, _ = cKDTree(others).query(atoms[i], distance_upper_bound=reach)
            residue, _ = np.nonzero(partner.atom_mask)
            label[residue[np.isfinite(distance)]] = True
        labels.append(label)
    return labels
