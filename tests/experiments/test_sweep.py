"""`experiments.sweep`: finished runs are kept, a stopped sweep goes on, a failed run is named."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from bihf_jax.data.records import METADATA_FILE
from bihf_jax.models import FUSION_METHODS
from bihf_jax.pretrained import PretrainedError
from configs import ppbs
from experiments import sweep
from tests.training.small_run import REPOSITORY, environment

SMALL = """
from configs import common
from tests.training.small_run import small_config


def get_config(arg=None):
    arg = common.parse_arg(arg, fusion="local", records="", seed=0)
    config = small_config(arg.records)
    config.seed = arg.seed
    config.encoder.fusion = {"name": arg.fusion, "width": 16, "heads": 2}
    return config
"""


@pytest.fixture
def command(sample_records, tmp_path):
    config = tmp_path / "small.py"
    config.write_text(SMALL)
    return [
        *(sys.executable, "-m", "experiments.sweep", f"--config={config}", f"--config_args=records={sample_records}"),
        *(f"--workdir={tmp_path / 'sweep'}", "--methods=local,structure_only", "--seeds=0", "--jobs=2"),
    ]


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_and_keeps_what_is_finished(command, tmp_path):
    """SIGTERM in the first runs saves them; the same command finishes and compares; again, it runs nothing."""
    first = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log = tmp_path / "sweep" / "local" / "seed_0" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not log.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    output = first.communicate(timeout=300)[0]
    assert first.returncode == 143, output
    assert "the same command goes on" in output

    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["test"]
    methods = ["local", "structure_only", "positive_rate", "logistic_regression"]
    assert [row["method"] for row in compared["rows"]] == methods
    assert compared["rows"][0]["parameters"] > compared["rows"][1]["parameters"] > 0
    assert (tmp_path / "sweep" / "comparison_test.png").read_bytes().startswith(b"\x89PNG")
    assert "| structure only | 1 |" in done.stdout

    again = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 runs, 2 of them finished before" in again.stderr
    assert "seed 0 finished" not in again.stderr
    assert again.stdout == done.stdout


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, monkeypatch, caplog):
    """The order of the runs is by seed, each in its folder; a failure stops nothing and is named with its error."""
    plan = sweep.Plan(str(REPOSITORY / "configs" / "ppbs.py"), "", tmp_path, ("local", "global"), (0, 1))
    started = []

    def call(self, slot, command, log):
        started.append((command[-2:], log.parent.relative_to(tmp_path).as_posix()))
        (log.parent / "predictions_test.csv").touch()
        log.write_text("started\n12:00:00  config.encoder.plm: no pretrained weights at 'w'\n\n")
        return int("fusion=global,seed=0" in " ".join(command))

    monkeypatch.setattr(sweep.Sweep, "_call", call)
    finished = []
    failed = sweep.Sweep(plan).run(lambda: finished.append(True))
    assert list(map(str, failed)) == ["global seed 0"]
    assert "global seed 0 failed; see" in caplog.text
    assert "log.txt, which ends: 12:00:00  config.encoder.plm: no pretrained weights at 'w'\n" in caplog.text
    assert len(finished) == 3
    folders = list(dict.fromkeys(folder for _, folder in started))
    assert folders == ["local/seed_0", "global/seed_0", "local/seed_1", "global/seed_1"]
    assert [plan.is_finished(run) for run in plan.runs()] == [True, False, True, True]
    more = dataclasses.replace(plan, splits=("test", "test_none"))
    assert not any(more.is_finished(run) for run in more.runs())


def test_two_sweeps_in_one_folder_are_refused(tmp_path, caplog):
    """While one sweep holds the folder, another ends with the reason and starts nothing."""
    with FileLock(tmp_path / "lock"):
        arguments = [f"--config={REPOSITORY / 'configs' / 'ppbs.py'}", f"--workdir={tmp_path}"]
        assert sweep.main(arguments) == 1
    assert f"another sweep works in {tmp_path}" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_summary_that_cannot_be_made_ends_with_its_error(tmp_path, monkeypatch, caplog):
    """Weights or records that are gone when the finished runs are compared: one line and status 1, no traceback."""
    (tmp_path / "local" / "seed_0").mkdir(parents=True)
    for name in (sweep.FINISHED_FILE, "predictions_test.csv"):
        (tmp_path / "local" / "seed_0" / name).write_text("{}")

    def summarise(*_):
        raise PretrainedError("no pretrained weights at 'w'")

    monkeypatch.setattr(sweep, "summarise", summarise)
    monkeypatch.setattr(sweep.signal, "signal", lambda *_: None)
    config = REPOSITORY / "configs" / "ppbs.py"
    assert sweep.main([f"--config={config}", f"--workdir={tmp_path}", "--methods=local", "--seeds=0"]) == 1
    assert caplog.records[-1].getMessage() == "no pretrained weights at 'w'"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("local", "late")}, "--methods has late; methods: local, global"),
        ({"seeds": ()}, "must each name at least one"),
        ({"config": "configs/none.py"}, "configs/none.py does not exist"),
        ({"config_args": "records=x,seed=3"}, "--config_args sets seed"),
        ({"jobs": 0}, "--jobs is 0; it must be at least 1"),
        ({"encoders": ("gvp", "egnn")}, "--encoders has egnn; encoders: gvp, mpnn, pronet"),
        ({"encoders": ("gvp",), "config_args": "gnn=pronet"}, "--config_args sets gnn; the sweep does: use --encoders"),
        ({"folds": REPOSITORY}, "holds no record set fold1"),
        ({"overrides": ("--job=2",)}, "unknown arguments: --job=2; settings of all runs are --config.KEY=VALUE"),
    ],
)
def test_bad_plans_are_refused(tmp_path, changes, message):
    values = {"config": str(REPOSITORY / "configs" / "ppbs.py"), "config_args": "", "workdir": tmp_path}
    with pytest.raises(ValueError, match=message):
        sweep.Plan(**{**values, "methods": ("local",), "seeds": (0,), **changes})


def test_runs_are_variants_by_folds_by_seeds(tmp_path):
    """An encoder multiplies the methods that have a structure side; every fold has its records and folder."""
    for fold in ("fold2", "fold4"):
        (tmp_path / "bce" / fold).mkdir(parents=True)
        (tmp_path / "bce" / fold / METADATA_FILE).write_text("{}")
    plan = sweep.Plan(
        *(str(REPOSITORY / "configs" / "bce.py"), "steps=9", tmp_path, ("local", "sequence_only"), (3,)),
        encoders=("gvp", "mpnn"),
        folds=tmp_path / "bce",
    )
    found = {plan.folder(run).relative_to(tmp_path).as_posix(): plan.arguments(run) for run in plan.runs()}
    records = tmp_path / "bce"
    assert found == {
        "local-gvp/fold2/seed_3": f"fusion=local,seed=3,gnn=gvp,records={records / 'fold2'},steps=9",
        "local-gvp/fold4/seed_3": f"fusion=local,seed=3,gnn=gvp,records={records / 'fold4'},steps=9",
        "local-mpnn/fold2/seed_3": f"fusion=local,seed=3,gnn=mpnn,records={records / 'fold2'},steps=9",
        "local-mpnn/fold4/seed_3": f"fusion=local,seed=3,gnn=mpnn,records={records / 'fold4'},steps=9",
        "sequence_only/fold2/seed_3": f"fusion=sequence_only,seed=3,records={records / 'fold2'},steps=9",
        "sequence_only/fold4/seed_3": f"fusion=sequence_only,seed=3,records={records / 'fold4'},steps=9",
    }


@pytest.mark.parametrize("method", FUSION_METHODS)
def test_the_config_document_takes_every_method(method):
    assert ppbs.get_config(f"fusion={method}").encoder.fusion.name == method
