"""What fusion did at each residue, in a few numbers a stage."""

import dataclasses

import jax
import numpy as np

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.attention import attention_summary
from bihf_jax.models.encoder import EncoderOutput
from bihf_jax.models.fusion import SlotMasks
from bihf_jax.page import Track


def fusion_values(encoded: EncoderOutput, batch: ProteinBatch) -> dict[str, jax.Array]:
    """Column name -> [R, L] float32 for each stage N after which the sides exchange something.

    Every fusion has "stageN_sequence_change" and "stageN_structure_change": how long the update of the side was,
    relative to its features (0: the side was left as it was). Local fusion has "stageN_gate_sequence" and
    "stageN_gate_structure", the weights of the two sides (their sum is 1); global fusion the means over its heads of
    "stageN_attention_entropy" (nats; e to its power is the number of slots that a residue attends to) and
    "stageN_attention_own" (the weight on the residue itself).
    """
    slots = SlotMasks.of(batch).protein_slots
    columns: dict[str, jax.Array] = {}
    for name, value in encoded.intermediates.items():
        stage, _, what = name.partition("/")  # the head's have no stage
        if what in ("sequence_change", "structure_change"):
            columns[f"{stage}_{what}"] = value
        elif what == "gate":
            columns[f"{stage}_gate_sequence"], columns[f"{stage}_gate_structure"] = value[..., 0], value[..., 1]
        elif what == "query":
            summary = attention_summary(value, encoded.intermediates[f"{stage}/key"], slots)
            columns[f"{stage}_attention_entropy"] = summary.entropy
            columns[f"{stage}_attention_own"] = summary.own
    return dict(sorted(columns.items()))


@dataclasses.dataclass(frozen=True)
class _Meaning:
    """How a page shows a column, whose values begin at 0."""

    text: str  # what it says, in one line
    highest: float | None = None  # end of the colour scale; the largest value if None
    shown: bool = True  # from the start


_MEANINGS = {
    "gate_sequence": _Meaning("weight of the sequence in what both sides receive; the rest is the structure's", 1),
    "gate_structure": _Meaning("weight of the structure in what both sides receive", 1, shown=False),
    "attention_entropy": _Meaning("how widely this residue attends, in nats; e to its power counts residues"),
    "attention_own": _Meaning("attention of this residue to itself", shown=False),
    "sequence_change": _Meaning("length of the update of the sequence side, relative to its features", shown=False),
    "structure_change": _Meaning("length of the update of the structure side, relative to its features", shown=False),
}


def fusion_track(column: str, values: np.ndarray) -> Track:
    """A column of `fusion_values` as a page shows it, with the line that explains it.

    Args:
      column: its name, such as "stage1_gate_sequence".
      values: [N] float32.
    """
    stage, _, what = column.partition("_")
    meaning = _MEANINGS[what]
    high = max(float(values.max()), 1e-6) if meaning.highest is None else meaning.highest
    text = f"exchange after stage {stage.removeprefix('stage')}: {meaning.text}"
    return Track(column, values.tolist(), low=0, high=high, description=text, shown=meaning.shown)
