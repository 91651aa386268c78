"""Two hosts on this machine, with two simulated devices each, are one run: the commands as a user gives them."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from bihf_jax.data.plan import make_plan
from bihf_jax.data.records import RecordSet
from bihf_jax.training.config import experiment_config
from experiments import multihost
from tests.training.small_run import environment, logged, small_config, write_config

# `python -m experiments.train` of a host that reads slowly.
_SLOW = """
import runpy, sys, time
from bihf_jax.data.pipeline import StepSource

read = StepSource.__getitem__

def slowly(source, step):
    time.sleep(0.2)
    return read(source, step)

StepSource.__getitem__ = slowly
runpy.run_module("experiments.train", run_name="__main__")
"""


# The same of a host that sees other records.
_OTHER_RECORDS = """
import runpy
from bihf_jax.data import records

records._fingerprint = lambda index, counts: "another set"
runpy.run_module("experiments.train", run_name="__main__")
"""


@dataclasses.dataclass(frozen=True)
class Second:
    """What the second host does otherwise than the first."""

    flags: tuple[str, ...] = ()
    code: str | None = None  # run in place of the module
    devices: int = 2


_SAME = Second()


class Hosts:
    """Both processes of one start, and what they print."""

    def __init__(self, command: list[str], workdir: Path, *, second: Second = _SAME):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.workdir = workdir
        self._logs = [workdir.with_name(f"{workdir.name}.{port}.{index}.log") for index in range(2)]
        self.processes = []
        for index, log in enumerate(self._logs):
            role = second if index else _SAME
            code = command if role.code is None else ["-c", role.code, *command[2:]]
            options = [f"--workdir={workdir}", f"--coordinator=127.0.0.1:{port}", "--num_hosts=2"]
            options += [f"--host_index={index}", "--host_timeout=1000", *role.flags]
            with open(log, "wb") as file:
                # A group of its own, so that a test can kill all that belongs to a host.
                process = subprocess.Popen(
                    [sys.executable, *code, *options],
                    env=environment(role.devices),
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            self.processes.append(process)

    def wait(self) -> list[int]:
        """Exit statuses; fails where a host hangs."""
        try:
            return [process.wait(timeout=1500) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            for process in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"a host hangs\n{self.said(0)}\n{self.said(1)}") from error

    def said(self, host: int) -> str:
        return self._logs[host].read_text(encoding="utf-8")

    def wait_for_checkpoint(self, after: int) -> None:
        """Returns when a checkpoint of a step > `after` is there, and steps are being taken."""
        deadline = time.monotonic() + 1500
        while time.monotonic() < deadline and all(process.poll() is None for process in self.processes):
            if last_checkpoint(self.workdir) > after:
                return
            time.sleep(0.02)
        raise AssertionError(f"no checkpoint after step {after}\n{self.said(0)}\n{self.said(1)}")

    def child(self, host: int) -> int:
        return json.loads((self.workdir / "hosts" / f"{host}.json").read_text())["process"]


def last_checkpoint(workdir: Path) -> int:
    return max((int(p.name) for p in (workdir / "checkpoints" / "last").glob("*") if p.name.isdigit()), default=0)


def train_command(config: Path) -> list[str]:
    return ["-m", "experiments.train", f"--config={config}"]


@pytest.fixture(scope="module")
def config(sample_records):
    """One length for training and scoring, so that there is little to compile; saves often."""
    config = small_config(sample_records, steps=30, log_every=3, evaluate_every=15, checkpoint_every=2)
    config.data.lengths = (1024,)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="module")
def config_file(config, folder):
    return write_config(config, folder / "config.py")


@pytest.fixture(scope="module")
def two_hosts(config_file, folder):
    """An uninterrupted run of two hosts: (workdir, the processes)."""
    hosts = Hosts(train_command(config_file), folder / "two")
    assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    return folder / "two", hosts


def run_alone(command: list[str]) -> str:
    """One process with the four devices."""
    done = subprocess.run(
        [sys.executable, *command],
        env=environment(devices=4),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_two_hosts_train_as_one_process(config, config_file, sample_records, two_hosts, folder):
    """The losses are those of one process with the same global batch, dropout on, unequal labels and empty rows.

    Only the order in which four numbers are summed differs, hence the tolerance: 1e-4 of each number.
    """
    assert config.encoder.plm.dropout > 0
    records = RecordSet(sample_records, "train")
    shape = experiment_config(config).data.grid_shape()
    steps = make_plan(records.slots, shape, seed=config.seed)
    assert any(() in step.rows for step in steps), "the records divide evenly: the test proves less than it says"
    labels = [[sum(records[r].label_mask.sum() for r in row) for row in step.rows] for step in steps]
    assert all(len(set(row)) > 1 for row in labels)

    run_alone([*train_command(config_file), f"--workdir={folder / 'one'}"])
    one, two = logged(folder / "one"), logged(two_hosts[0])
    assert [(row["step"], row["kind"]) for row in one] == [(row["step"], row["kind"]) for row in two]
    for ours, theirs in zip(one, two, strict=True):
        numbers = [name for name in ours if name != "kind"]
        np.testing.assert_allclose([ours[n] for n in numbers], [theirs[n] for n in numbers], rtol=1e-4)


@pytest.mark.slow
def test_first_host_writes_for_all(two_hosts):
    """One log, one set of checkpoints, one compilation on each host; the second host prints nothing of the progress."""
    workdir, hosts = two_hosts
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(row["compiles"] == 1 for row in rows if row["kind"] == "train")
    assert len({(row["step"], row["kind"]) for row in rows}) == len(rows)
    assert len(list((workdir / "tensorboard").iterdir())) == 1
    assert "step 30/30" in hosts.said(0)
    assert "step 30/30" not in hosts.said(1)


@pytest.mark.slow
def test_scores_are_those_of_one_process(two_hosts, folder):
    """The same checkpoint scored by two hosts and by one process: the same predictions, to the last digit printed."""
    scored = [folder / "scored_by_two", folder / "scored_by_one"]
    for copy in scored:
        shutil.copytree(two_hosts[0], copy)
    command = ["-m", "experiments.evaluate", "--splits=validation,test"]
    hosts = Hosts(command, scored[0])
    assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    assert "AUC-PR" in hosts.said(0)
    assert "AUC-PR" not in hosts.said(1)
    run_alone([*command, f"--workdir={scored[1]}"])
    two, one = (json.loads((copy / "scores.json").read_text()) for copy in scored)
    assert two["splits"] == one["splits"]
    for name in ("predictions_validation.csv", "predictions_test.csv"):
        assert (scored[0] / name).read_bytes() == (scored[1] / name).read_bytes()


@pytest.mark.slow
def test_killed_and_stopped_hosts_end_as_if_nothing_was(config_file, two_hosts, folder):
    """One start after the other: the coordinator dies; the other host dies; both die; one is told to stop; one is slow.

    The survivor always ends, with status 1, the checkpoint and the remedy. In the end the log is that of the
    uninterrupted run, bit for bit.
    """
    workdir = folder / "interrupted"
    for victim in (0, 1):
        hosts = Hosts(train_command(config_file), workdir)
        hosts.wait_for_checkpoint(last_checkpoint(workdir))
        os.kill(hosts.child(victim), signal.SIGKILL)
        assert hosts.wait() == [1, 1], hosts.said(0) + hosts.said(1)
        for host in range(2):
            assert f"host {host} ends at" in hosts.said(host)
            assert f"last checkpoint: {workdir}/checkpoints/last/{last_checkpoint(workdir)}\n" in hosts.said(host)
            assert "the same command again, on every host" in hosts.said(host)
        assert "ended by SIGKILL" in hosts.said(1 - victim)

    hosts = Hosts(train_command(config_file), workdir)
    hosts.wait_for_checkpoint(last_checkpoint(workdir))
    for process in hosts.processes:
        os.killpg(process.pid, signal.SIGKILL)
    hosts.wait()

    hosts = Hosts(train_command(config_file), workdir)
    hosts.wait_for_checkpoint(last_checkpoint(workdir))
    hosts.processes[1].send_signal(signal.SIGTERM)
    assert hosts.wait() == [143, 143], hosts.said(0) + hosts.said(1)
    assert "stopped by a signal after step" in hosts.said(0)
    assert last_checkpoint(workdir) < 30, "the run was over before it was stopped: the test proves less than it says"

    hosts = Hosts(train_command(config_file), workdir, second=Second(code=_SLOW))
    assert hosts.wait() == [0, 0], hosts.said(0) + hosts.said(1)
    assert logged(workdir) == logged(two_hosts[0])


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"flags": ("--config.training.steps=31",)}, "config.training.steps is 30 on host 0, 31 on host 1"),
        ({"code": _OTHER_RECORDS}, "records.train is '[0-9a-f]{12}' on host 0, 'another set' on host 1"),
        ({"devices": 1}, "all hosts need the same number of devices, there are 2 on host 0, 1 on host 1"),
    ],
)
def test_hosts_that_differ_are_told_apart(config_file, tmp_path, difference, message):
    """Both end before anything is trained or written, and name what differs with both values."""
    hosts = Hosts(train_command(config_file), tmp_path / "run", second=Second(**difference))
    assert hosts.wait() == [1, 1], hosts.said(0) + hosts.said(1)
    for host in range(2):
        assert re.search(message, hosts.said(host)), hosts.said(host)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hosts": 2}, "--num_hosts needs --coordinator too"),
        ({"multihost": True, "num_hosts": 2}, "--multihost finds the hosts itself; leave out --num_hosts"),
        ({"coordinator": "a:1", "num_hosts": 2, "host_index": 2}, "--host_index=2 is not among 2 hosts"),
        ({"coordinator": "a", "num_hosts": 2, "host_index": 0}, "--coordinator=a is not HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit(values, message, tmp_path):
    """Said before anything runs, with the fix."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**values), pytest.raises(app.UsageError, match=message):
        multihost.run(lambda: 0, tmp_path)
