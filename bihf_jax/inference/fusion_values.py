"""What fusion did at each residue, in a few numbers a stage."""

import jax

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.models.attention import attention_summary
from bihf_jax.models.encoder import EncoderOutput
from bihf_jax.models.fusion import SlotMasks


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
        stage, what = name.split("/")
        if what in ("sequence_change", "structure_change"):
            columns[f"{stage}_{what}"] = value
        elif what == "gate":
            columns[f"{stage}_gate_sequence"], columns[f"{stage}_gate_structure"] = value[..., 0], value[..., 1]
        elif what == "query":
            summary = attention_summary(value, encoded.intermediates[f"{stage}/key"], slots)
            columns[f"{stage}_attention_entropy"] = summary.entropy
            columns[f"{stage}_attention_own"] = summary.own
    return dict(sorted(columns.items()))
