"""Tests of `bihf_jax.models.config`."""

import pytest

from bihf_jax.models.config import (
    EncoderConfig,
    FusionConfig,
    GVPConfig,
    HeadConfig,
    LearningConfig,
    MPNNConfig,
    PLMConfig,
    ProNetConfig,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PLMConfig(width=30, heads=20), "PLMConfig.width is 30; allowed: multiples of 2 x heads = 40"),
        (lambda: PLMConfig(layers=0), "PLMConfig.layers is 0; allowed: 1 or more"),
        (lambda: PLMConfig(dropout=1.0), "PLMConfig.dropout is 1.0; allowed: 0 <= rate < 1"),
        (lambda: PLMConfig(trained_length=0), "PLMConfig.trained_length is 0; allowed: 1 or more"),
        (
            lambda: PLMConfig(remat=True, remat_keeps="all"),
            "PLMConfig.remat_keeps is 'all'; allowed: nothing, products",
        ),
        (
            lambda: PLMConfig(remat_keeps="products"),
            "PLMConfig.remat_keeps is 'products'; allowed: nothing, as remat is",
        ),
        (lambda: LearningConfig(mode="half"), "LearningConfig.mode is 'half'; allowed: full, lora, frozen"),
        (
            lambda: LearningConfig(mode="frozen", layer_decay=0.9),
            "LearningConfig.layer_decay is 0.9; allowed: 1.0, as mode 'frozen' does not read it. Leave it out, or set "
            "mode to full or lora",
        ),
        (lambda: LearningConfig(rank=4), "LearningConfig.rank is 4; allowed: 8, as mode 'full' does not read it"),
        (lambda: LearningConfig(rate_multiplier=0.0), "LearningConfig.rate_multiplier is 0.0; allowed: more than 0"),
        (lambda: LearningConfig(layer_decay=1.1), "LearningConfig.layer_decay is 1.1; allowed: 0 < layer_decay <= 1"),
        (lambda: LearningConfig(mode="lora", rank=0), "LearningConfig.rank is 0; allowed: 1 or more"),
        (lambda: LearningConfig(mode="lora", alpha=-1.0), "LearningConfig.alpha is -1.0; allowed: more than 0"),
        (
            lambda: LearningConfig(mode="lora", targets=("query",)),
            "LearningConfig.targets is .*query.*; allowed: q_proj, k_proj, v_proj, out_proj, fc1, fc2",
        ),
        (lambda: LearningConfig(mode="lora", targets=("fc1", "fc1")), "Name one or more, each once"),
        (lambda: LearningConfig(mode="lora", targets=()), "Name one or more, each once"),
        (lambda: GVPConfig(neighbours=64), "GVPConfig.neighbours is 64; allowed: 1 to 32"),
        (lambda: GVPConfig(message_gvps=4), "GVPConfig.message_gvps is 4; allowed: 1, 2, 3"),
        (lambda: GVPConfig(extra_distances=(("CB", "CD"),)), "allowed: pairs of N, CA, C, O, CB"),
        (lambda: GVPConfig(radius=0.0), "GVPConfig.radius is 0.0; allowed: more than 0 Å, or None"),
        (lambda: MPNNConfig(sequence_neighbours=-1), "MPNNConfig.sequence_neighbours is -1; allowed: 0 or more"),
        (lambda: MPNNConfig(width=0), "MPNNConfig.width is 0; allowed: 1 or more"),
        (lambda: ProNetConfig(level="atom"), "ProNetConfig.level is 'atom'; allowed: aminoacid, backbone, allatom"),
        (lambda: ProNetConfig(num_spherical=8), "ProNetConfig.num_spherical is 8; allowed: 1 to 7"),
        (lambda: ProNetConfig(radius=None), "ProNetConfig.radius is None; allowed: more than 0 Å"),
        (lambda: ProNetConfig(angle_noise=-1.0), "ProNetConfig.angle_noise is -1.0; allowed: 0 or more"),
        (lambda: FusionConfig(kind="mean"), "FusionConfig.kind is 'mean'; allowed: none, linear, local, global"),
        (
            lambda: FusionConfig(kind="global", width=30, heads=8),
            "FusionConfig.width is 30; allowed: multiples of heads",
        ),
        (lambda: FusionConfig(schedule="serial"), "FusionConfig.direction is 'both'; allowed: to_structure"),
        (
            lambda: FusionConfig(output="sequence", direction="to_structure"),
            "FusionConfig.direction is 'to_structure'; allowed: both, to_sequence",
        ),
        (lambda: FusionConfig.named("late"), "fusion method is 'late'; allowed: local, global, serial"),
        (lambda: EncoderConfig(stages=7), "EncoderConfig.stages is 7; allowed: 1 to 6"),
        (lambda: EncoderConfig(dtype="float16"), "EncoderConfig.dtype is 'float16'; allowed: float32, bfloat16"),
        (lambda: EncoderConfig(attention="flash"), "EncoderConfig.attention is 'flash'; allowed: auto"),
        (lambda: HeadConfig(num_outputs=0), "HeadConfig.num_outputs is 0"),
    ],
)
def test_bad_values_are_named(make, message):
    """Each error names the field, its value and what is allowed."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(("layers", "stages"), [(6, 3), (6, 4), (33, 4), (5, 5), (7, 1)])
def test_blocks_are_split_into_consecutive_groups(layers, stages):
    """Every pLM block is in exactly one stage, in order, and group sizes differ by at most one."""
    groups = EncoderConfig(plm=PLMConfig(layers=layers), stages=stages).plm_layers_of_stage
    assert [layer for group in groups for layer in group] == list(range(layers))
    assert len(groups) == stages
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


@pytest.mark.parametrize(
    ("method", "order"),
    [
        ("local", "S0 G0 X0 S1 G1 X1"),
        ("local_last_stage", "S0 G0 S1 G1 X1"),
        ("serial", "S0 S1 X0 G0 G1"),
        ("parallel", "S0 G0 S1 G1"),
        ("sequence_only", "S0 S1"),
        ("structure_only", "G0 G1"),
    ],
)
def test_what_runs_in_which_order(method, order):
    """S: part of the sequence side, G: of the structure side (graph), X: exchange; sides that nothing reads are out."""
    letters = {"sequence": "S", "structure": "G", "exchange": "X"}
    schedule = EncoderConfig(fusion=FusionConfig.named(method), stages=2).schedule
    assert " ".join(f"{letters[part]}{stage}" for part, stage in schedule) == order
