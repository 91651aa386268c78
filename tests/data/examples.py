"""Random examples for tests: the fields are consistent with each other, their values are noise."""

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.example import MAX_NEIGHBOURS, Example


def random_example(seed: int, chain_lengths: tuple[int, ...] = (12,), unresolved: float = 0.1, id: str = "") -> Example:
    """An example of chains with so many residues each; every residue has distinct values, some are unresolved."""
    rng = np.random.default_rng(seed)
    tokens, segment, number = [], [], []
    for chain, length in enumerate(chain_lengths):
        amino_acids = rng.integers(4, 24, size=length)
        tokens += [alphabet.CLS, *amino_acids, alphabet.EOS]
        segment += [chain + 1] * (length + 2)
        number += [0, *range(1, length + 1), 0]
    tokens, n = np.array(tokens, np.int8), len(tokens)
    residue = tokens > alphabet.UNK
    resolved = residue & (rng.random(n) >= unresolved)
    backbone_mask = np.repeat(resolved[:, None], 5, axis=1)
    torsion_mask = np.repeat(resolved[:, None], 7, axis=1)
    label_mask = resolved & (rng.random(n) < 0.9)
    positions = np.cumsum(rng.normal(size=(n, 1, 3)), axis=0) * 2 + rng.normal(size=(n, 5, 3))
    return Example(
        id=id or f"random{seed}",
        source=f"random{seed}.pdb",
        group=f"group{seed}",
        chain_ids=tuple("ABCDEFGH"[: len(chain_lengths)]),
        tokens=tokens,
        chain_segment=np.array(segment, np.int16),
        residue_number=np.array(number, np.int32),
        insertion_code=np.full(n, 32, np.uint8),
        backbone=np.where(backbone_mask[..., None], positions, 0).astype(np.float32),
        backbone_mask=backbone_mask,
        torsions=np.where(torsion_mask, rng.uniform(-np.pi, np.pi, (n, 7)), 0).astype(np.float32),
        torsion_mask=torsion_mask,
        neighbour_offset=_nearest_offsets(positions[:, 1], resolved),
        label=np.where(label_mask, rng.integers(0, 2, n), 0).astype(np.float32),
        label_mask=label_mask,
        weight=float(rng.uniform(0.5, 2.0)),
    )


def _nearest_offsets(positions: np.ndarray, resolved: np.ndarray) -> np.ndarray:
    """[n, MAX_NEIGHBOURS] int16 offsets to the nearest resolved slots, by all pairs."""
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    distance[:, ~resolved] = np.inf
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1)[:, :MAX_NEIGHBOURS]
    offset = order - np.arange(len(positions))[:, None]
    offset = np.where(np.isinf(np.take_along_axis(distance, order, axis=1)) | ~resolved[:, None], 0, offset)
    padding = np.zeros((len(positions), MAX_NEIGHBOURS - offset.shape[1]), offset.dtype)
    return np.concatenate([offset, padding], axis=1).astype(np.int16)
