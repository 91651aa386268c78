"""Structure encoders by name, and the interface the fused encoder uses them through (docs/encoders.md).

A new encoder is one file with a config dataclass and a module, and one line here.
"""

from typing import ClassVar, Protocol, TypeVar

import jax

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.config import StructureConfig
from bihf_jax.models.gvp import GVPEncoder
from bihf_jax.models.mpnn import MPNNEncoder
from bihf_jax.models.pronet import ProNetEncoder

Array = jax.Array
State = TypeVar("State")


class StructureEncoder(Protocol[State]):
    """A Flax module, made with (config, stages, dtype), that reads a batch's geometry in stages.

    `config_class` holds its settings, and their `name` is its key in `STRUCTURE_ENCODERS`. `symmetry` says which
    motions of the protein leave `scalars` as they are: "SE(3)", rotations and translations, or "E(3)", mirror images
    too (a network of distances only). `inputs` are the fields of the batch that it may read, beside the masks of those
    fields, the segments, the neighbours and the structure mask. Scalars are zeros at slots without a structure.
    """

    config_class: ClassVar[type[StructureConfig]]
    symmetry: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]

    def embed(self, batch: ProteinBatch, row_id: Array | None) -> State:
        """Initial state; values at masked slots of the batch must not reach it. `row_id` as in `stage`."""

    def stage(self, stage: int, state: State, row_id: Array | None) -> State:
        """The state after the layers of `stage` (from 0); `row_id` [R] turns dropout and augmentation on."""

    def scalars(self, state: State) -> Array:
        """Invariant features [R, L, S] of the slots."""

    def add_scalars(self, state: State, update: Array) -> State:
        """The state with `update` [R, L, S] added to the invariant features."""


STRUCTURE_ENCODERS: dict[str, type] = {
    "gvp": GVPEncoder,
    "mpnn": MPNNEncoder,
    "pronet": ProNetEncoder,
}


def structure_encoder(name: str) -> type:
    """The encoder of that name.

    Raises:
      ValueError: there is none; lists the names.
    """
    if name not in STRUCTURE_ENCODERS:
        raise ValueError(
            f"structure encoder is {name!r}; allowed: {', '.join(STRUCTURE_ENCODERS)}. Use one of these names, or add "
            "your own to STRUCTURE_ENCODERS before the config is read."
        )
    return STRUCTURE_ENCODERS[name]
