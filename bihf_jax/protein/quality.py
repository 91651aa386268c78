"""How well a model agrees with the native structure: GDT-TS, GDT-HA, TM-score, CA-lDDT and CA-RMSD.

All look at CA atoms, of the residues that model and native share (`match_residues`). All but the RMSD are normalised by
the **native's** length (its residues with a CA): a residue that the model lacks counts as wrong, as in the official
programs; residues that the native lacks are not looked at. The definitions are in docs/quality.md.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.spatial import cKDTree

from bihf_jax.protein import residue_constants
from bihf_jax.protein.parsing import StructureError
from bihf_jax.protein.protein import Protein
from bihf_jax.protein.residue_matching import ResidueMatch, match_residues
from bihf_jax.protein.superposition import PointPairs, rmsd, search

# Å; Zemla 2003.
GDT_TS_CUTOFFS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
GDT_HA_CUTOFFS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
# Å; Mariani et al. 2013.
LDDT_RADIUS = 15.0
LDDT_THRESHOLDS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)

# Fewer shared residues can always be superposed.
MIN_SHARED = 3
# Å; limits of the radius that the search for the TM-score uses (Zhang and Skolnick 2004).
_TM_RADIUS_LIMITS = (4.5, 8.0)
_MAX_TM_STEPS = 100
_TM_PRECISION = 1e-6
_CA = residue_constants.ATOM_INDEX["CA"]


@dataclasses.dataclass(frozen=True)
class Quality:
    """Scores of one model. M = residues of the model, unresolved ones counted."""

    gdt_ts: float  # in [0, 1]
    gdt_ha: float  # in [0, 1]
    tm_score: float  # in (0, 1]
    lddt: float  # in [0, 1], of CA atoms
    ca_rmsd: float  # Å, over the shared residues, all superposed at once
    residue_lddt: np.ndarray  # [M] float32 in [0, 1], lDDT of each residue of the model; 0 where masked
    residue_lddt_mask: np.ndarray  # [M] bool: shared with the native, which has another residue within LDDT_RADIUS
    match: ResidueMatch
    num_native: int  # residues of the native with a CA

    @property
    def coverage(self) -> float:
        """Share of the native that the model has; a score over the shared residues alone is GDT / coverage."""
        return self.match.num_shared / self.num_native

    def scores(self) -> dict[str, float]:
        """The numbers by name, for a row of a table."""
        return {name: getattr(self, name) for name in ("gdt_ts", "gdt_ha", "tm_score", "lddt", "ca_rmsd")}


def assess(model: Protein, native: Protein, *, chains: Mapping[str, str] | None = None) -> Quality:
    """All scores of a model against the native structure.

    Args:
      model: any structure of (nearly) the same sequence, in any frame.
      native: what is right. To score against some of its chains, `select_chains` of them first.
      chains: native chain id -> model chain id; found by `match_residues` where None.

    Raises:
      StructureError: model and native share fewer than `MIN_SHARED` residues, or `chains` names one that is not there.
    """
    match = match_residues(model, native, chains=chains)
    if match.num_shared < MIN_SHARED:
        names = f"{model.source} and {native.source} share {match.num_shared} residues with a CA"
        raise StructureError(f"{names}, at least {MIN_SHARED} are needed; are they the same protein?")
    model_ca, native_ca = (protein.atom_positions[:, _CA].astype(np.float64) for protein in (model, native))
    resolved = np.flatnonzero(native.atom_mask[:, _CA])
    shared = model_ca[match.model_rows], native_ca[match.native_rows]
    scores = superposed_scores(*shared, num_native=len(resolved))

    present = np.isin(resolved, match.native_rows)
    placed = np.zeros((len(resolved), 3))
    placed[np.searchsorted(resolved, match.native_rows)] = shared[0]
    lddt_score, by_native, counted = lddt(placed, native_ca[resolved], present)
    residue_lddt, residue_lddt_mask = np.zeros(model.num_residues, np.float32), np.zeros(model.num_residues, bool)
    slot = np.searchsorted(resolved, match.native_rows)
    residue_lddt[match.model_rows] = by_native[slot]
    residue_lddt_mask[match.model_rows] = counted[slot]
    return Quality(
        **scores,
        lddt=lddt_score,
        ca_rmsd=rmsd(*shared),
        residue_lddt=residue_lddt,
        residue_lddt_mask=residue_lddt_mask,
        match=match,
        num_native=len(resolved),
    )


def superposed_scores(model_ca: np.ndarray, native_ca: np.ndarray, num_native: int) -> dict[str, float]:
    """GDT-TS, GDT-HA and TM-score by one search over superpositions (`superposition.search`).

    Each distance cutoff of GDT has a superposition of its own, the best that was found.

    Args:
      model_ca: [n, 3] Å, the shared residues in the order of the chain.
      native_ca: [n, 3] Å, the same residues of the native.
      num_native: what the scores are normalised by, at least n.

    Returns:
      gdt_ts, gdt_ha and tm_score, each in [0, 1].

    Raises:
      ValueError: arrays of other shapes, coordinates that are not finite, or fewer residues in the native than shared.
    """
    pairs = PointPairs(model_ca, native_ca)
    if num_native < len(pairs):
        raise ValueError(f"num_native is {num_native}, fewer than the {len(pairs)} shared residues")
    cutoffs = sorted({*GDT_TS_CUTOFFS, *GDT_HA_CUTOFFS})
    scale = tm_scale(num_native)
    radii = sorted({*cutoffs, float(np.clip(scale, *_TM_RADIUS_LIMITS))})
    within = dict.fromkeys(cutoffs, 0)
    best_of_batches = []
    for squared in search(pairs, radii):
        for cutoff in cutoffs:
            within[cutoff] = max(within[cutoff], int((squared <= cutoff**2).sum(axis=1).max()))
        best_of_batches.append(squared[np.argmax(_tm_sums(squared, scale))])
    return {
        "gdt_ts": _gdt(within, GDT_TS_CUTOFFS, num_native),
        "gdt_ha": _gdt(within, GDT_HA_CUTOFFS, num_native),
        "tm_score": _climb_tm(pairs, np.stack(best_of_batches), scale) / num_native,
    }


def tm_scale(num_native: int) -> float:
    """d0 of the TM-score in Å, from the length of the native: 1.24 (L - 15)^(1/3) - 1.8, at least 0.5."""
    return max(0.5, 1.24 * float(np.cbrt(num_native - 15)) - 1.8)


def lddt(model_ca: np.ndarray, native_ca: np.ndarray, present: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """CA-lDDT (Mariani et al. 2013): share of the native's distances below `LDDT_RADIUS` that the model keeps.

    A distance is kept to a threshold if model and native differ by at most that; the share is the mean over
    `LDDT_THRESHOLDS`. All pairs of residues count, neighbours and those of different chains included; a distance to a
    residue that the model lacks is not kept. Nothing is superposed. A mirror image has lDDT 1.

    Args:
      model_ca: [n, 3] Å, the native's residues in the model; the values where `present` is False are never used.
      native_ca: [n, 3] Å.
      present: [n] bool: the model has this residue.

    Returns:
      the score of the whole, over all pairs; that of each residue [n] float32, over its pairs, 0 where it has none; and
      [n] bool: it has any.

    Raises:
      ValueError: no two residues of the native are within the radius.
    """
    first, second = cKDTree(native_ca).query_pairs(LDDT_RADIUS, output_type="ndarray").reshape(-1, 2).T
    if not len(first):
        raise ValueError(f"lDDT is not defined: no two of {len(native_ca)} CA atoms of the native within 15 Å")
    native_distance = np.linalg.norm(native_ca[first] - native_ca[second], axis=1)
    model_distance = np.linalg.norm(model_ca[first] - model_ca[second], axis=1)
    change = np.where(present[first] & present[second], np.abs(model_distance - native_distance), np.inf)
    kept = (change[:, None] <= np.array(LDDT_THRESHOLDS)).mean(axis=1)
    num = len(native_ca)
    ends = np.concatenate([first, second])
    num_pairs = np.bincount(ends, minlength=num)
    kept_of_residue = np.bincount(ends, weights=np.tile(kept, 2), minlength=num)
    by_residue = kept_of_residue / np.maximum(num_pairs, 1)
    return float(kept.mean()), by_residue.astype(np.float32), num_pairs > 0


def _gdt(within: Mapping[float, int], cutoffs: Iterable[float], num_native: int) -> float:
    return float(np.mean([within[cutoff] for cutoff in cutoffs]) / num_native)


def _tm_sums(squared: np.ndarray, scale: float) -> np.ndarray:
    """Squared distances [B, n] Å² -> [B] sums of 1 / (1 + d² / d0²)."""
    return (1 / (1 + squared / scale**2)).sum(axis=1)


def _climb_tm(pairs: PointPairs, squared: np.ndarray, scale: float) -> float:
    """The largest sum of the TM-score that is reached uphill from squared distances [B, n].

    A term is convex in d², so its tangent at the present distances is a lower bound; to maximise the sum of tangents is
    to superpose with weights 1 / (1 + d² / d0²)². Each such step goes up.
    """
    best = _tm_sums(squared, scale).max()
    for _ in range(_MAX_TM_STEPS):
        squared = pairs.squared_distances((1 + squared / scale**2) ** -2.0)
        reached = _tm_sums(squared, scale).max()
        if reached - best < _TM_PRECISION * len(pairs):
            return float(max(best, reached))
        best = reached
    return float(best)
