"""A run that is killed and started again is the run that was never killed."""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bihf_jax.training.loop import Interrupted, train
from tests.training.small_run import StopAfter, environment, logged, small_config, write_config

KILLS = 20


def start(config: Path, workdir: Path, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.train", f"--config={config}", f"--workdir={workdir}"]
    variables = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with open(workdir.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, env=environment(**variables), stdout=log, stderr=log)


def wait_for_first_line(workdir: Path, process: subprocess.Popen) -> None:
    """Returns when the process has begun to write (or ended), so that a kill hits the loop and its saves."""
    seen = len(logged(workdir)) if (workdir / "metrics.jsonl").exists() else 0
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        checkpoints = list((workdir / "checkpoints").glob("last/*"))
        if checkpoints or ((workdir / "metrics.jsonl").exists() and len(logged(workdir)) > seen):
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_twenty_times_equals_uninterrupted(sample_records, tmp_path):
    """SIGKILL at twenty random moments, some during a save: the same losses bit for bit, and no step twice."""
    config = small_config(sample_records, steps=120, log_every=4, evaluate_every=20, checkpoint_every=2)
    config_file = write_config(config, tmp_path / "config.py")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(config_file, straight, tmp_path / "cache").wait(timeout=300) == 0

    rng = random.Random(0)
    kills_during_save = 0
    for attempt in range(KILLS):
        process = start(config_file, killed, tmp_path / "cache")
        wait_for_first_line(killed, process)
        if attempt % 2:  # aim at a save: wait for its unfinished folder
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline and not saving(killed):
                time.sleep(0.0005)
        else:
            time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
        process.wait()
        kills_during_save += saving(killed)
    assert kills_during_save > 0, "no kill hit a save: the test proves less than it says"
    assert start(config_file, killed, tmp_path / "cache").wait(timeout=300) == 0

    assert logged(killed) == logged(straight)
    steps = [(row["step"], row["kind"]) for row in logged(killed)]
    assert len(set(steps)) == len(steps)


def saving(workdir: Path) -> bool:
    """Is a save unfinished on disk?"""
    return any((workdir / "checkpoints").glob("*/*.orbax-checkpoint-tmp*"))


@pytest.mark.slow
def test_sigterm_saves_and_exits(sample_records, tmp_path):
    """SIGTERM ends the process with status 143 after a save; the same command finishes the run as if nothing was."""
    config = small_config(sample_records, steps=400, log_every=7, evaluate_every=50, checkpoint_every=1000)
    config_file, workdir = write_config(config, tmp_path / "config.py"), tmp_path / "run"
    process = start(config_file, workdir, tmp_path / "cache")
    wait_for_first_line(workdir, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert "stopped by a signal after step" in workdir.with_suffix(".log").read_text()
    assert start(config_file, workdir, tmp_path / "cache").wait(timeout=300) == 0
    straight = tmp_path / "straight"
    assert start(config_file, straight, tmp_path / "cache").wait(timeout=300) == 0
    assert logged(workdir) == logged(straight)


def test_stop_between_log_lines_keeps_the_line(sample_records, tmp_path, monkeypatch):
    """A stop in the middle of a logging interval loses none of its steps: the line after the resume is the same."""
    config = small_config(sample_records)
    train(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr("bihf_jax.training.loop._stop_on_signal", lambda: contextlib.nullcontext(StopAfter(5)))
        with pytest.raises(Interrupted, match="after step 5"):
            train(config, tmp_path / "stopped")
    train(config, tmp_path / "stopped")
    assert logged(tmp_path / "stopped") == logged(tmp_path / "straight")


def test_best_lost_between_the_two_saves_is_made_good(sample_records, tmp_path):
    """Killed after the last checkpoint and before the best one of the same step: the resume adds the best."""
    config = small_config(sample_records)
    workdir = train(config, tmp_path / "run")
    best = next((workdir / "checkpoints" / "best").iterdir())
    last = {int(folder.name) for folder in (workdir / "checkpoints" / "last").iterdir()}
    if int(best.name) != max(last):
        pytest.skip(f"the best step {best.name} is not the last of {last}")
    shutil.rmtree(best)
    train(config, workdir)
    assert best.is_dir()


def test_finished_run_does_nothing(sample_records, tmp_path):
    """The command on a finished run trains no further step and changes no line."""
    config = small_config(sample_records)
    workdir = train(config, tmp_path / "run")
    before = (workdir / "metrics.jsonl").read_bytes()
    train(config, workdir)
    assert (workdir / "metrics.jsonl").read_bytes() == before
