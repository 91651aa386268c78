"""Tests of `benchmarks.compile_report`: its arithmetic on small texts, and compiled steps where libtpu is installed."""

import dataclasses
import importlib.util
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compile_report
from benchmarks.compile_report import Case, Report
from bihf_jax.models import EncoderConfig, FusionConfig, GVPConfig, PLMConfig
from bihf_jax.models.config import FUSION_METHODS
from tests.training.small_run import REPOSITORY

CASE = Case("v5e:2x2", "8M", "local", "train", rows=1, length=256)
REPORT = Report(
    case=CASE,
    devices=4,
    parameters=10**7,
    argument_bytes=5 * 2**30,
    output_bytes=4 * 2**30,
    alias_bytes=4 * 2**30,
    temporary_bytes=2**30,
    code_bytes=0,
    flops=2e12,
    bytes_accessed=3e9,
    model_flops=1.97e12,
    collectives={"all-reduce": (2, 4000)},
    cycles=1.5e8,
    kernel_flops=0.0,
    roofline_seconds=0.05,
    compile_seconds=1.0,
)

HLO = """HloModule jit_step, is_scheduled=true

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  ROOT %fusion.1 = (s32[]{:T(128)}, f32[8]{0:T(128)}) fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"100"}
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  ROOT %compare = pred[]{:T(512)} fusion(%p.1), kind=kLoop, backend_config={"estimated_cycles":"5"}
}

ENTRY %main.7_spmd (a: f32[8]) -> f32[8] {
  %a = f32[8]{0:T(128)} parameter(0)
  %while.2 = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%a), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %ar = (f32[16,16]{1,0:T(8,128)}, /*index=1*/bf16[3]{0:T(128)}) all-reduce(%a, %a), channel_id=1
  %ags = (f32[2]{0:T(128)}, f32[8]{0:T(128)}) all-gather-start(%a), channel_id=2
  %agd = f32[8]{0:T(128)} all-gather-done(%ags)
  %splash_mha_fwd_segmented_residuals.1 = (f32[4,512,16]{2,1,0}, bf16[4,20,512,16]{3,2,1,0:T(8,128)(2,1)}) \
custom-call(%a, %a, %a, %a), custom_call_target="tpu_custom_call", operand_layout_constraints={s8[1,1,2]{2,1,0}, \
s8[1,1,2]{2,1,0}, bf16[4,20,512,16]{3,2,1,0}, bf16[4,20,1024,16]{3,2,1,0}, bf16[4,20,1024,16]{3,2,1,0}}
  ROOT %copy.3 = f32[8]{0:T(128)} copy(%a), backend_config={"estimated_cycles":"7"}
}
"""


def test_cycles_count_loops_by_their_trips():
    """Three trips of body and condition, and the operation after the loop."""
    assert compile_report.estimated_cycles(HLO) == 3 * (100 + 5) + 7


def test_collectives_are_counted_once_with_the_bytes_of_their_results():
    """A tuple counts all its arrays; an asynchronous collective only where it starts, without its operand."""
    assert compile_report.collectives(HLO) == {"all-reduce": (1, 16 * 16 * 4 + 3 * 2), "all-gather": (1, 8 * 4)}


def test_roofline_without_the_seconds_that_are_subtracted():
    """cost_analysis() says -1.9 s where two ConcatBitcast calls have no estimate; on v5p also asynchronous calls."""
    call = '  %c = f32[8] custom-call(%a), custom_call_target="{}"\n'
    text = HLO + call.format("ConcatBitcast") * 2
    assert compile_report.roofline_seconds(-1.9, text) == pytest.approx(0.1)
    text += call.format("PrepareAsyncCallStart") + call.format("PrepareAsyncCallDone")
    assert compile_report.roofline_seconds(-3.9, text) == pytest.approx(0.1)
    assert compile_report.roofline_seconds(None, text) is None


def test_attention_kernels_count_their_products():
    """The forward kernel multiplies twice a head, 16 channels padded to 128."""
    assert compile_report.attention_kernel_flops(HLO) == 2 * 2 * 4 * 20 * 512 * 1024 * 128


def test_product_flops_of_known_products():
    """A product inside jit and remat, a batched product, its transpose, four in a loop: 2 x m x n x k each."""

    def function(a, b):
        inner = jax.checkpoint(jax.jit(jnp.dot))(a, b)
        inner, _ = jax.lax.scan(lambda x, _: (x + a @ b, None), inner, length=4)
        return jnp.einsum("ij,kj->ik", inner, inner) + jnp.einsum("bij,bjk->bik", a[None] @ b, inner[None].mT).sum()

    shapes = jax.ShapeDtypeStruct((3, 5), jnp.float32), jax.ShapeDtypeStruct((5, 7), jnp.float32)
    expected = 2 * ((2 + 4) * 3 * 7 * 5 + 2 * 3 * 3 * 7)
    assert compile_report.product_flops(jax.make_jaxpr(function)(*shapes).jaxpr) == expected


def test_model_flops_of_the_plm_are_two_a_parameter_and_slot():
    """With hardly any structure side, a forward pass is 2 x the pLM's matrices a slot, and 4 L W of attention."""
    plm = PLMConfig(layers=6, width=320, heads=20)
    structure = GVPConfig(scalar_width=1, vector_width=1, neighbours=1, edge_scalar_width=1)
    encoder = EncoderConfig(plm=plm, structure=structure, fusion=FusionConfig(width=1), representation_width=1)
    grid = compile_report.empty_grid(2, 256, 1, 4)
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, grid))
    model = compile_report.TaskModel(encoder, compile_report.HeadConfig())
    params = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch, None)["params"], batch)
    by_hand = 2 * 256 * plm.layers * (2 * 12 * plm.width**2 + 4 * 256 * plm.width)
    assert compile_report.model_flops(encoder, params, batch) == pytest.approx(by_hand, rel=0.01)


def test_figures_of_a_report():
    """Donated outputs take no memory of their own, and utilisation is against the chip's published peak."""
    assert REPORT.memory == 6 * 2**30
    assert REPORT.seconds == pytest.approx(0.1, rel=0.01)  # 1.5e8 cycles at 1.5 GHz
    assert REPORT.roofline == 0.05
    assert REPORT.utilisation(0.1) == pytest.approx(0.1)  # 1.97e12 / (0.1 s x 197e12 / s)
    assert dataclasses.replace(REPORT, case=dataclasses.replace(CASE, topology="cpu")).seconds is None


def test_results_come_back_from_json(tmp_path):
    """A line of the results file is the report it was written from; the later of two lines of a case counts."""
    path = tmp_path / "results.jsonl"
    later = dataclasses.replace(REPORT, compile_seconds=2.0)
    path.write_text(REPORT.to_json() + "\n" + later.to_json() + "\n", encoding="utf-8")
    assert compile_report.read_results(path) == {CASE: later}


def test_cycles_by_part():
    """Loops by their trips, operations without a module apart; small parts of a report count as other."""
    step = 'metadata={op_name="jit(f)/transpose(jvp(TaskModel))/encoder/plm.blocks/layers_0/fc1/dot_general"}, '
    text = HLO.replace('backend_config={"estimated_cycles":"100"}', step + 'backend_config={"estimated_cycles":"100"}')
    parts = compile_report.cycles_of_parts(text)
    assert parts == {"plm backward": 300.0, "no module in the program": 22.0}
    rare = dataclasses.replace(REPORT, parts={**parts, "head forward": 1.0})
    header, _, row = compile_report.parts_table([REPORT, rare]).splitlines()[2:]
    assert header == "| chips | ESM-2 | method | million cycles | no module in the program | plm backward | other |"
    assert row == "| v5e:2x2 (4) | 8M | local | 0.0 | 6.8% | 92.9% | 0.3% |"


def test_the_table_goes_between_the_markers(tmp_path):
    """The rest of the document stays, writing twice is writing once, and a document without markers is named."""
    path = tmp_path / "tpu.md"
    path.write_text("before\n<!-- compile_report: begin -->\nold\n<!-- compile_report: end -->\nafter\n", "utf-8")
    for _ in range(2):
        compile_report.write_between_markers(path, compile_report.tables([REPORT]))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "cycles" not in text  # the report has no parts
    assert text.count("| v5e:2x2 (4) | 8M (10 M) | local | train | 6.00 |") == 1
    path.write_text("nothing", "utf-8")
    with pytest.raises(ValueError, match=r"tpu.md has no place for the tables; put '<!-- compile_report: begin -->'"):
        compile_report.write_between_markers(path, "")


def test_a_step_that_does_not_fit_is_marked():
    """17 GiB on a chip of 16."""
    large = dataclasses.replace(REPORT, temporary_bytes=12 * 2**30)
    assert "17.00 (does not fit)" in compile_report.table([large])


def smallest(fusion: str) -> EncoderConfig:
    """One pLM block and one graph layer, in bfloat16 with remat like the published sizes."""
    return EncoderConfig(
        plm=PLMConfig(layers=1, width=32, heads=2, remat=True),
        structure=GVPConfig(scalar_width=16, vector_width=4, neighbours=4, message_gvps=1, remat=True),
        fusion=FusionConfig.named(fusion, width=32, heads=2),
        stages=1,
        representation_width=32,
        dtype="bfloat16",
    )


def compile_smallest() -> None:
    """Compiles both steps of the smallest model with each fusion and prints the reports: the process of the test."""
    for fusion in FUSION_METHODS:
        for step in compile_report.STEPS:
            case = dataclasses.replace(CASE, fusion=fusion, step=step)
            print(compile_report.compile_case(case, smallest(fusion)).to_json(), flush=True)


@pytest.mark.tpu
@pytest.mark.slow
def test_every_fusion_compiles_for_a_tpu():
    """The pmapped training and scoring steps of each fusion compile for four v5e chips, with the attention kernel."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("compiling for TPUs needs libtpu: pip install -e '.[tpu]'")
    code = "from tests.benchmarks.test_compile_report import compile_smallest as run; run()"
    environment = {**os.environ, **compile_report.COMPILE_ONLY, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    reports = [Report.from_json(line) for line in done.stdout.splitlines() if line.startswith("{")]
    expected = list(itertools.product(FUSION_METHODS, compile_report.STEPS))
    assert [(report.case.fusion, report.case.step) for report in reports] == expected
    for report in reports:
        gradient_bytes = 4 * report.parameters
        summed = report.collectives["all-reduce"][1]
        assert report.devices == 4
        assert (report.kernel_flops > 0) == (report.case.fusion != "structure_only")
        assert report.roofline > 0
        assert 0 < report.utilisation(report.seconds) < 1
        if report.case.step == "train":
            # Each gradient is summed once; those of the last layer's vectors, which nobody reads, not at all.
            assert 0.95 * gradient_bytes < summed < gradient_bytes + 4096
            assert report.alias_bytes > 2.9 * gradient_bytes  # parameters and both moments are updated in place
        else:
            assert summed < 4096  # the sums of the loss
