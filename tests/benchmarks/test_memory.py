"""Tests of `benchmarks.memory`: exact states, what fits, and results that are kept."""

import dataclasses
import itertools
import math

import jax
import pytest

from benchmarks import memory
from benchmarks.compile_report import Case, abstract_state
from benchmarks.memory import Need, StateMemory, state_of
from bihf_jax.training.memory import GIB, state_memory
from tests.benchmarks.test_compile_report import REPORT

CASE = Case("v5p:2x2x1", "8M", "local", "train", rows=4, length=1024, mode="full")
STATE = StateMemory(weights=4 * GIB, optimizer=8 * GIB, gradients=4 * GIB)


def test_the_state_of_a_deep_model_is_that_of_its_blocks():
    """From two small depths to the bit what the whole model's shapes say."""
    case = dataclasses.replace(CASE, mode="lora")
    encoder = case.encoder_config()
    state = abstract_state(dataclasses.replace(case, rows=1, length=128), encoder)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    assert state_of(case) == (count, state_memory(state, encoder.plm))


def test_modes_of_a_published_size():
    """650M: 4 + 4 + 8 bytes a weight where all learn; 2, and no more, of what is frozen."""
    case = dataclasses.replace(CASE, size="650M")
    (parameters, full), (_, frozen) = (state_of(dataclasses.replace(case, mode=m)) for m in ("full", "frozen"))
    assert 651e6 < parameters < 653e6
    assert full.total / parameters == pytest.approx(16, rel=0.01)
    assert frozen.total / parameters == pytest.approx(2, rel=0.02)


def test_what_fits():
    """By the compiled step where there is one; else only what the state, or a chip that is too small, excludes."""
    compiled, refused = Need(CASE, 20 * GIB, 1.0), Need(dataclasses.replace(CASE, topology="v5e:2x2"), None, 0.0)
    assert [memory.fits(card * GIB, compiled, STATE) for card in (16, 20, 32)] == ["no", "yes", "yes"]
    assert [memory.fits(card * GIB, refused, STATE) for card in (8, 16, 32)] == ["no", "no", "?"]
    assert [memory.fits(card * GIB, None, STATE) for card in (8, 16, 32)] == ["no", "no", "?"]


def test_results_come_back(tmp_path):
    """A line is the result it was written from, for whichever chip; no file is no result."""
    path = tmp_path / "memory.jsonl"
    assert memory.read_results(path) == {}
    needs = [Need(CASE, 5, 1.0), Need(dataclasses.replace(CASE, mode="lora", scan=True), None, 0.0)]
    path.write_text("".join(need.to_json() + "\n" for need in needs), encoding="utf-8")
    assert memory.read_results(path) == {memory.anywhere(need.case): need for need in needs}


def test_programs_of_the_compile_report_count(tmp_path):
    """Its training steps on TPUs, unless they are there already: those of scoring and of the CPU are not."""
    path, reports = tmp_path / "memory.jsonl", tmp_path / "tpu.jsonl"
    cases = [CASE, *(dataclasses.replace(CASE, **{k: v}) for k, v in (("step", "score"), ("size", "35M")))]
    cases += [dataclasses.replace(CASE, size="150M", topology="cpu")]
    lines = [dataclasses.replace(REPORT, case=case).to_json() for case in cases]
    reports.write_text("\n".join(lines) + "\n", encoding="utf-8")
    own = Need(dataclasses.replace(CASE, topology="v5e:2x2"), 7, 1.0)
    path.write_text(own.to_json() + "\n", encoding="utf-8")
    found = memory.read_results(path, reports)
    assert {case.size: need.total for case, need in found.items()} == {"8M": 7, "35M": REPORT.memory}


def test_the_table_says_what_is_compiled_and_what_not(monkeypatch):
    """Activations are what is left of the step beside the state."""
    monkeypatch.setattr(memory, "state_of", lambda case: (10**7, STATE))
    other = dataclasses.replace(CASE, rows=1, scan=True)
    need = Need(dataclasses.replace(CASE, topology="v5e:2x2"), 20 * GIB, 1.0)
    rows = memory.table([CASE, other], {memory.anywhere(CASE): need}).splitlines()[2:]
    state = "10 M | 4.00 | 8.00 | 4.00"
    assert rows[0] == f"| 8M | full | 4 x 1,024 | nothing | {state} | 4.00 | 20.00 | v5e | no | yes | yes |"
    assert rows[1] == f"| 8M | full | 1 x 1,024 | nothing, scan | {state} |  | over 16.00 |  | no | ? | ? |"


def test_cases_in_the_order_of_the_table():
    """Small sizes first, then by mode, then by the slots of the batch."""
    cases = [
        dataclasses.replace(CASE, size=size, mode=mode, rows=rows)
        for size, mode, rows in itertools.product(("650M", "8M"), ("full", "frozen"), (4, 1))
    ]
    found = [(case.size, case.mode, case.rows) for case in sorted(cases, key=memory._place)]
    assert found == list(itertools.product(("8M", "650M"), ("frozen", "full"), (1, 4)))


def test_batches_of_the_command_line():
    """Rows and slots; anything else is named with an example."""
    assert memory._batches("1x1024,4x512") == [(1, 1024), (4, 512)]
    with pytest.raises(memory.argparse.ArgumentTypeError, match=r"'4\*1024' is no list of ROWSxSLOTS"):
        memory._batches("4*1024")
