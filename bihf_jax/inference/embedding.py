"""`Embedding`: what a model makes of each residue of a structure, and their mean."""

import dataclasses
from typing import Any

import numpy as np

from bihf_jax.inference.residues import residue_columns
from bihf_jax.models.encoder import EncoderOutput
from bihf_jax.protein import Protein

KINDS = ("fused", "sequence", "structure")


class MissingFeaturesError(ValueError):
    """A model that does not have what is asked for; the message lists what it has."""


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """Features of the N residues of a protein."""

    protein: Protein  # as read
    of: str  # one of `KINDS`
    stage: int | None  # from 1; None: what the encoder returns
    per_residue: np.ndarray  # [N, C] float32; 0 where masked
    mask: np.ndarray  # [N] bool: the residue has the side that this is of

    @property
    def pooled(self) -> np.ndarray:
        """[C] float32: the mean over the residues of the mask; 0 where there is none."""
        if not self.mask.any():
            return np.zeros(self.per_residue.shape[1], np.float32)
        return self.per_residue[self.mask].mean(axis=0, dtype=np.float64).astype(np.float32)

    def columns(self) -> dict[str, np.ndarray]:
        """The residues as arrays of N, in the order of `per_residue`."""
        return residue_columns(self.protein)


def choose_features(encoded: EncoderOutput, of: str, stage: int | None) -> Any:
    """The features [R, L, C] of every slot that an embedding is made of.

    Args:
      encoded: of the encoder.
      of: "sequence" and "structure" are the two sides, "fused" is both of them.
      stage: None: what the encoder returns, that is the sides after their last norm, and their merged representation.
        A number from 1: the sides at the end of that stage, with the update of the exchange after it, and for "fused"
        what the exchange made of both (`Fusion`: z), where that is one vector a slot.

    Raises:
      MissingFeaturesError: no such features in this model.
    """
    if of not in KINDS:
        raise MissingFeaturesError(f"of is {of!r}; allowed: {', '.join(KINDS)}")
    last = {"fused": encoded.representation, "sequence": encoded.sequence, "structure": encoded.structure}
    available = {(None, kind): features for kind, features in last.items() if features is not None}
    for name, features in encoded.intermediates.items():
        at, _, what = name.partition("/")  # the head's have no stage
        if what in KINDS:
            available[int(at.removeprefix("stage")), what] = features
    if (stage, of) not in available:
        names = [kind if number is None else f"{kind} of stage {number}" for number, kind in available]
        wanted = of if stage is None else f"{of} of stage {stage}"
        raise MissingFeaturesError(f"this model has no features {wanted}; it has: {', '.join(names)}")
    return available[stage, of]
