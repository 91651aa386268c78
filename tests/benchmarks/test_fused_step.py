"""`benchmarks.fused_step`: its config documents are valid, and every module of a step belongs to a part."""

import pytest

from benchmarks import fused_step
from benchmarks.structure_speed import CASES, PLAIN
from bihf_jax.training.config import experiment_config
from bihf_jax.training.profile import StepProfile


@pytest.mark.parametrize("name", [*CASES, "mpnn"])
@pytest.mark.parametrize("fusion", fused_step.FUSIONS)
def test_config_has_the_encoder_of_the_case(name, fusion):
    """The document builds, with the structure encoder of the case as it is and the pLM of that size."""
    case = {**CASES, "mpnn": PLAIN}[name]
    config = experiment_config(fused_step.step_config(case, fused_step.PLM_NAMES["35M"], fusion, "records", rows=2))
    assert config.encoder.structure == case.config
    assert (config.encoder.plm.layers, config.encoder.plm.width) == (12, 480)
    assert (config.encoder.fusion.kind, config.encoder.stages) == (fusion, case.layers)
    assert config.data.rows == 2


def test_parts_add_up_to_the_whole():
    """Modules count for their part in both directions; what has no part is "other", and nothing is lost."""
    parts = {
        ("plm/fc1", "forward"): 1.0,
        ("plm/fc1", "backward"): 2.0,
        ("structure/messages", "backward"): 3.0,
        ("fusions/vote", "forward"): 0.5,
        ("merge_dense", "forward"): 0.5,
        ("head/logits", "forward"): 0.25,
        ("loss and gradient sum", ""): 0.25,
        ("optimizer", ""): 1.5,
        ("no module in the program", ""): 1.0,
    }
    shares = fused_step.by_part(StepProfile(steps=1, seconds=4.0, slots=2048, device="2 x cpu", parts=parts))
    seconds = {"pLM": 3, "structure": 3, "fusion": 0.5, "merge": 0.5, "head": 0.25, "loss": 0.25}
    assert shares == {part: value / 10 for part, value in (seconds | {"optimizer": 1.5, "other": 1}).items()}
