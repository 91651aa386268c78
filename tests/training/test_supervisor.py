"""Supervisors and their children, without JAX: whatever becomes of a child, its host ends and says why."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.small_run import environment

# A host whose child behaves as its third argument says.
_HOST = """
import logging, os, signal, sys, time
from pathlib import Path
from bihf_jax.training import supervisor

logging.basicConfig(format="%(message)s")
supervisor._GRACE_SECONDS = 1.0
workdir, host, behaviour, timeout = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
if not supervisor.supervised():
    sys.exit(supervisor.Supervisor(workdir, host=host, num_hosts=2, timeout=timeout).run())
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
supervisor.report("step 3")
if behaviour == "hang":
    time.sleep(600)
if behaviour == "abort":
    os.abort()
if behaviour == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "fail":
    supervisor.report_failure("RecordError: shard 7 is damaged")
    os._exit(1)
if behaviour == "slow":
    end = time.monotonic() + 1.3 * timeout
    while time.monotonic() < end:
        time.sleep(timeout / 20)
        supervisor.report("step 4")
if behaviour == "until stopped":
    for step in range(4, 6000):
        if stopping:
            sys.exit(supervisor.STOPPED)
        time.sleep(0.1)
        supervisor.report(f"step {step}")
"""


def start(workdir, host: int, behaviour: str, *, timeout: float = 100) -> subprocess.Popen:
    command = [sys.executable, "-c", _HOST, str(workdir), str(host), behaviour, str(timeout)]
    return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """(exit status, what it said); fails if it hangs."""
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def child_of(workdir, host: int) -> int:
    """Process id of the child, once the host has written it and it works."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            status = json.loads((workdir / "hosts" / f"{host}.json").read_text())
            if status["doing"].startswith("step"):
                return status["process"]
        time.sleep(0.02)
    raise AssertionError(f"host {host} wrote no status")


def test_a_hung_host_is_ended_and_says_all(tmp_path):
    """No report for the timeout: the message has the setting, each host's last word, the checkpoint and the remedy."""
    for name in ("9", "40", "50.orbax-checkpoint-tmp-1"):
        (tmp_path / "checkpoints" / "last" / name).mkdir(parents=True)
    status, said = finish(start(tmp_path, 0, "hang", timeout=3))
    assert status == 1
    assert "host 0 ends at 'step 3': it went no further for 3 s (--host_timeout)" in said
    assert "host 1: not a word since this host started" in said
    assert f"last checkpoint: {tmp_path}/checkpoints/last/40\n" in said
    assert "the same command again, on every host" in said


def test_a_slow_host_goes_on(tmp_path):
    """Reports within the timeout keep a host going, for longer than the timeout in all."""
    assert finish(start(tmp_path, 0, "slow", timeout=6))[0] == 0


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("fail", "RecordError: shard 7 is damaged"),
        ("kill", "the process was ended by SIGKILL; by hand, by the job scheduler, or by the system for lack of mem"),
        ("abort", "the process was ended by SIGABRT; JAX does that when host 0, the coordinator, is gone"),
    ],
)
def test_the_end_of_one_host_ends_the_other(tmp_path, behaviour, reason):
    """Host 0 waits for host 1, which ends: both end with status 1, and host 0 says what happened to host 1."""
    waiting = start(tmp_path, 0, "hang")
    child_of(tmp_path, 0)
    status, said = finish(start(tmp_path, 1, behaviour))
    assert status == 1
    assert f"host 1 ends at 'step 3': {reason}" in said
    status, said = finish(waiting)
    assert status == 1
    assert "host 0 ends at 'step 3': host 1 failed" in said
    assert f"failed at 'step 3': {reason}" in said


def test_failures_of_an_earlier_start_are_forgotten(tmp_path):
    """A host that failed last time does not end the others this time, before it is back as after."""
    assert finish(start(tmp_path, 1, "fail"))[0] == 1
    other = start(tmp_path, 0, "slow", timeout=6)
    child_of(tmp_path, 0)
    assert finish(start(tmp_path, 1, "slow", timeout=6))[0] == 0
    assert finish(other)[0] == 0


def test_a_signal_reaches_the_child(tmp_path):
    """SIGTERM to the host lets the child save and stop; that is no failure."""
    host = start(tmp_path, 0, "until stopped")
    child_of(tmp_path, 0)
    host.send_signal(signal.SIGTERM)
    status, said = finish(host)
    assert status == 143
    assert "ends at" not in said


def test_a_child_does_not_outlive_its_supervisor(tmp_path):
    """SIGKILL to the host's first process leaves no second one that holds the devices."""
    host = start(tmp_path, 0, "hang")
    child = child_of(tmp_path, 0)
    host.kill()
    # The child holds the pipe too: its end is the end of the file.
    finish(host)
    with contextlib.suppress(ProcessLookupError):
        for _ in range(100):  # the system may take a moment to clear it away
            os.kill(child, 0)
            time.sleep(0.1)
        pytest.fail(f"the child {child} is still there")
