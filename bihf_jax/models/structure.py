"""Structure encoders by name, and the interface the fused encoder uses them through.

A new encoder is one file with a config dataclass (which has a `name`) and a module, and one line here.
"""

from typing import ClassVar, Protocol, TypeVar

import jax

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.gvp import GVPEncoder

Array = jax.Array
State = TypeVar("State")


class StructureEncoder(Protocol[State]):
    """A Flax module, made with (config, stages, dtype), that reads a batch's geometry in stages.

    `symmetry` says which motions of the protein leave `scalars` as they are: "SE(3)", rotations and translations, or
    "E(3)", mirror images too (a network of distances only). Scalars are zeros at slots without a structure.
    """

    symmetry: ClassVar[str]

    def embed(self, batch: ProteinBatch) -> State:
        """Initial state; values at masked slots of the batch must not reach it."""

    def stage(self, stage: int, state: State, row_id: Array | None) -> State:
        """The state after the layers of `stage` (from 0); `row_id` [R] turns dropout on."""

    def scalars(self, state: State) -> Array:
        """Invariant features [R, L, S] of the slots."""

    def add_scalars(self, state: State, update: Array) -> State:
        """The state with `update` [R, L, S] added to the invariant features."""


STRUCTURE_ENCODERS: dict[str, type] = {
    "gvp": GVPEncoder,
}
