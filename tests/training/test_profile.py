"""`--profile`: the arithmetic of the table, and a real trace of a small run."""

import pytest

from bihf_jax.configuration import ConfigError
from bihf_jax.training import profile
from bihf_jax.training.profile import Interval
from tests.training.small_run import small_config


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("jit(f)/jvp(TaskModel)/encoder/plm.blocks/layers_0/fc1/dot_general", ("plm/fc1", "forward")),
        ("jit(f)/transpose(jvp(TaskModel))/encoder/plm.blocks/layers_3/fc1/dot_general", ("plm/fc1", "backward")),
        (
            "jit(f)/jvp(TaskModel)/encoder/fusions_1/fusions_1._updates/sequence_out/add",
            ("fusions/sequence_out", "forward"),
        ),
        (
            "jit(f)/jvp(TaskModel)/encoder/plm.blocks/layers_0/self_attn/while/body/closed_call/mul",
            ("plm/self_attn", "forward"),
        ),
        ("jit(f)/jvp(TaskModel)/head/logits/dot_general", ("head/logits", "forward")),
        ("jit(f)/jvp(TaskModel)/TaskModel.logits_and_features/head/hidden/add", ("head/hidden", "forward")),
        (
            "jit(f)/jvp(TaskModel)/TaskModel.logits_and_features/encoder/structure.stage/layers_0/messages/"
            "while/body/closed_call/checkpoint/dot_general",
            ("structure/messages", "forward"),
        ),
        ("jit(f)/sqrt", ("loss and gradient sum", "")),
        ("jit(f)/optimizer/sqrt", ("optimizer", "")),
        ("", ("no module in the program", "")),
    ],
)
def test_paths_become_modules(path, expected):
    assert profile.module_of(path) == expected


def test_a_loop_is_not_counted_twice():
    """A loop of 10 with operations of 3 and 4 inside has 3 of its own; another thread counts by itself."""
    first = [Interval("loop", 0.0, 10e9), Interval("a", 1e9, 3e9), Interval("b", 5e9, 4e9), Interval("a", 20e9, 2e9)]
    times = profile.self_times([first, [Interval("b", 2e9, 5e9)]])
    assert times == pytest.approx({"loop": 3.0, "a": 5.0, "b": 9.0})
    assert sum(times.values()) == pytest.approx(10 + 2 + 5)


@pytest.mark.slow
def test_a_real_step_is_taken_apart(sample_records, tmp_path):
    """The trace holds the model's modules in both directions, and hardly anything without a name."""
    result = profile.profile_training(small_config(sample_records), tmp_path, steps=2)
    modules = {module for module, _ in result.parts}
    assert {"structure/messages", "plm/self_attn", "head/hidden", "loss and gradient sum", "optimizer"} <= modules
    assert result.parts["structure/messages", "forward"] > 0
    assert result.parts["structure/messages", "backward"] > 0
    unnamed = result.parts.get(("no module in the program", ""), 0.0)
    assert unnamed < 0.3 * sum(result.parts.values())
    assert (tmp_path / "profile.md").read_text() == profile.markdown(result)
    assert list(tmp_path.glob("profile/**/*.trace.json.gz"))
    assert not (tmp_path / "checkpoints").exists()


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 steps cannot be profiled"):
        profile.profile_training({}, tmp_path, steps=0)
