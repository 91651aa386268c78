"""Synthetic examples and predictions for the tests of `bihf_jax.tasks`."""

import numpy as np

from bihf_jax.data import alphabet, example
from bihf_jax.tasks.predictions import Predictions


def make_example(
    seed: int,
    *,
    chains: tuple[str, ...] = ("A",),
    residues: int = 40,
    record_id: str | None = None,
    group: str | None = None,
    weight: float = 1.0,
) -> example.Example:
    """A random-walk protein with random types, some unresolved residues, and labels that depend on type and burial."""
    generator = np.random.default_rng(seed)
    n = len(chains) * (residues + 2)
    is_residue = np.tile(np.array([False, *[True] * residues, False]), len(chains))
    types = generator.integers(0, 20, n)
    tokens = np.where(is_residue, alphabet.encode_residue_types(types), alphabet.EOS).astype(np.int8)
    tokens[:: residues + 2] = alphabet.CLS
    resolved = is_residue & (generator.random(n) > 0.1)
    ca = np.cumsum(generator.normal(0, 2.2, (n, 3)), axis=0)
    backbone = (ca[:, None] + generator.normal(0, 0.8, (n, 5, 3))) * resolved[:, None, None]
    buried = np.linalg.norm(ca - ca[resolved].mean(0), axis=1) < 6
    logit = -1.5 + 1.5 * (types < 6) - 1.0 * buried
    label = (generator.random(n) < 1 / (1 + np.exp(-logit))) & resolved
    return example.Example(
        id=record_id or f"protein{seed}",
        source=f"file{seed}.pdb",
        group=group or f"complex{seed}",
        chain_ids=chains,
        tokens=tokens,
        chain_segment=np.repeat(np.arange(1, len(chains) + 1), residues + 2).astype(np.int16),
        residue_number=(np.arange(n) * is_residue).astype(np.int32),
        insertion_code=np.full(n, 32, dtype=np.uint8),
        backbone=backbone.astype(np.float32),
        backbone_mask=np.repeat(resolved[:, None], 5, axis=1),
        torsions=np.zeros((n, 7), np.float32),
        torsion_mask=np.zeros((n, 7), bool),
        neighbour_offset=np.zeros((n, example.MAX_NEIGHBOURS), np.int16),
        label=label.astype(np.float32),
        label_mask=resolved,
        weight=weight,
    )


def make_predictions(
    seed: int, *, complexes: int = 12, residues: int = 60, signal: float = 1.5, spread: float = 0.5, score_seed: int = 0
) -> Predictions:
    """Two partners a complex; scores rise with the label by `signal`, and shift by `spread` from complex to complex.

    Labels depend on `seed` only, so that predictions of several contestants agree on them.
    """
    generator = np.random.default_rng(seed)
    proteins = 2 * complexes
    record = np.repeat(np.arange(proteins, dtype=np.int32), residues)
    size = record.size
    rate = generator.uniform(0.05, 0.25, proteins)
    label = (generator.random(size) < rate[record]).astype(np.float32)
    mask = generator.random(size) > 0.05
    scores = np.random.default_rng([seed, score_seed, 1])
    shift = scores.normal(0, spread, complexes)[record // 2]
    logit = scores.normal(0, 1, size) + signal * label + shift - 2
    return Predictions(
        record_ids=tuple(f"complex{i // 2}:{'AB'[i % 2]}" for i in range(proteins)),
        sources=tuple(f"complex{i // 2}.pdb" for i in range(proteins)),
        groups=tuple(f"complex{i // 2}" for i in range(proteins)),
        record=record,
        chain=np.array(["A", "B"])[record % 2],
        residue_number=np.tile(np.arange(residues, dtype=np.int32), proteins),
        insertion_code=np.full(size, " ", dtype="<U1"),
        amino_acid=generator.choice(list("ACDEFGHIKLMNPQRSTVWY"), size),
        score=(1 / (1 + np.exp(-logit))).astype(np.float32),
        label=label * mask,
        label_mask=mask,
        weight=np.ones(size, np.float32),
    )
