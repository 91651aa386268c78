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

# The entry points, to be put after code that changes something.
_TRAIN, _EVALUATE = (
    f'import runpy\nrunpy.run_module("experiments.{name}", run_name="__main__")\n' for name in ("train", "evaluate")
)

# How hosts end and go on does not depend on the model; this one compiles in a second.
_PLAIN_MODEL = """
import flax.linen as nn
from bihf_jax.models.dropout import Dropout
from bihf_jax.training.config import ExperimentConfig

class PlainModel(nn.Module):
    @nn.compact
    def __call__(self, batch, row_id):
        return nn.Dense(1)(Dropout(0.1)(nn.Embed(64, 8)(batch.tokens), row_id))

ExperimentConfig.make_model = lambda config: PlainModel()
"""

_SLOW = """
import time
from bihf_jax.data.pipeline import StepSource

read = StepSource.__getitem__

def slowly(source, step):
    time.sleep(0.05)
    return read(source, step)

StepSource.__getitem__ = slowly
"""

_OTHER_RECORDS = """
from bihf_jax.data import records

records._fingerprint = lambda index, counts: "another set"
"""


@dataclasses.dataclass(frozen=True)
class Second:
    """What the second host does otherwise than the first."""

    flags: tuple[str, ...] = ()
    changes: str = ""  # code in front of the first host's
    devices: int = 2


_SAME = Second()
_LONG = 1500  # seconds after which a test gives up: a machine may be busy


class Hosts:
    """Both processes of one start, and what they print."""

    def __init__(self, code: str, arguments: list[str], workdir: Path, *, second: Second = _SAME):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.workdir = workdir
        self._logs = [workdir.with_name(f"{workdir.name}.{port}.{index}.log") for index in range(2)]
        self.processes = []
        for index, log in enumerate(self._logs):
            role = second if index else _SAME
            place = [f"--coordinator=127.0.0.1:{port}", "--num_hosts=2", f"--host_index={index}"]
            options = [f"--workdir={workdir}", *place, "--host_timeout=1000", *role.flags]
            with open(log, "wb") as file:
                # A group of its own, so that a test can kill all that belongs to a host.
                process = subprocess.Popen(
                    [sys.executable, "-c", role.changes + code, *arguments, *options],
                    env=environment(role.devices),
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            self.processes.append(process)

    def wait(self) -> list[int]:
        """Exit statuses; fails where a host hangs."""
        try:
            return [process.wait(timeout=_LONG) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            for process in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"a host hangs\n{self}") from error

    def said(self, host: int) -> str:
        return self._logs[host].read_text(encoding="utf-8")

    def __str__(self) -> str:
        return f"host 0:\n{self.said(0)}\nhost 1:\n{self.said(1)}"

    def wait_for_checkpoint(self, after: int) -> None:
        """Returns when a checkpoint of a step > `after` is there, so that steps are being taken."""
        deadline = time.monotonic() + _LONG
        while time.monotonic() < deadline and all(process.poll() is None for process in self.processes):
            if last_checkpoint(self.workdir) > after:
                return
            time.sleep(0.02)
        raise AssertionError(f"no checkpoint after step {after}\n{self}")

    def child(self, host: int) -> int:
        return json.loads((self.workdir / "hosts" / f"{host}.json").read_text())["process"]


def last_checkpoint(workdir: Path) -> int:
    return max((int(p.name) for p in (workdir / "checkpoints" / "last").glob("*") if p.name.isdigit()), default=0)


def run_alone(module: str, *arguments: str) -> None:
    """One process with the four devices."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment(devices=4), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def config(sample_records):
    """One length for training and scoring, so that there is little to compile."""
    config = small_config(sample_records)
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
    """An uninterrupted run of two hosts."""
    hosts = Hosts(_TRAIN, [f"--config={config_file}"], folder / "two")
    assert hosts.wait() == [0, 0], hosts
    return hosts


@pytest.mark.slow
def test_two_hosts_train_as_one_process(config, config_file, sample_records, two_hosts, folder):
    """The losses are those of one process with the same global batch, dropout on, unequal labels and empty rows.

    Only the order in which the sums of four devices are added differs, hence the tolerance: 1e-4 of each number.
    """
    assert config.encoder.plm.dropout > 0
    records = RecordSet(sample_records, "train")
    shape = experiment_config(config).data.grid_shape()
    steps = make_plan(records.slots, shape, seed=config.seed)
    assert any(() in step.rows for step in steps), "the records divide evenly: the test proves less than it says"
    labels = [[sum(records[r].label_mask.sum() for r in row) for row in step.rows] for step in steps]
    assert all(len(set(row)) > 1 for row in labels)

    run_alone("experiments.train", f"--config={config_file}", f"--workdir={folder / 'one'}")
    one, two = logged(folder / "one"), logged(two_hosts.workdir)
    assert [(row["step"], row["kind"]) for row in one] == [(row["step"], row["kind"]) for row in two]
    for ours, theirs in zip(one, two, strict=True):
        numbers = [name for name in ours if name != "kind"]
        np.testing.assert_allclose([ours[n] for n in numbers], [theirs[n] for n in numbers], rtol=1e-4)


@pytest.mark.slow
def test_first_host_writes_for_all(two_hosts):
    """One log, one compilation on each host; the second host prints nothing of the progress."""
    rows = [json.loads(line) for line in (two_hosts.workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(row["compiles"] == 1 for row in rows if row["kind"] == "train")
    assert len({(row["step"], row["kind"]) for row in rows}) == len(rows)
    assert len(list((two_hosts.workdir / "tensorboard").iterdir())) == 1
    assert "step 12/12" in two_hosts.said(0)
    assert "step 12/12" not in two_hosts.said(1)


@pytest.mark.slow
def test_scores_are_those_of_one_process(two_hosts, folder):
    """The same checkpoint scored by two hosts and by one process: the same predictions, to the last digit printed."""
    two, one = folder / "scored_by_two", folder / "scored_by_one"
    for copy in (two, one):
        shutil.copytree(two_hosts.workdir, copy)
    splits = "--splits=validation,test"
    hosts = Hosts(_EVALUATE, [splits], two)
    assert hosts.wait() == [0, 0], hosts
    assert "AUC-PR" in hosts.said(0)
    assert "AUC-PR" not in hosts.said(1)
    run_alone("experiments.evaluate", splits, f"--workdir={one}")
    of_two, of_one = (json.loads((copy / "scores.json").read_text()) for copy in (two, one))
    assert of_two["splits"] == of_one["splits"]
    for name in ("predictions_validation.csv", "predictions_test.csv"):
        assert (two / name).read_bytes() == (one / name).read_bytes()


@pytest.mark.slow
def test_killed_and_stopped_hosts_end_as_if_nothing_was(config, tmp_path):
    """One start after the other: the coordinator dies; the other host dies; both die; one is told to stop; one is slow.

    The survivor always ends, with status 1, the checkpoint and the remedy. In the end the log is that of the
    uninterrupted run, bit for bit.
    """
    config = config.copy_and_resolve_references()
    config.training.update(steps=300, log_every=7, evaluate_every=50, checkpoint_every=5)
    file = write_config(config, tmp_path / "config.py")
    workdir = tmp_path / "interrupted"

    def start(folder: Path = workdir, second: Second = _SAME) -> Hosts:
        return Hosts(_PLAIN_MODEL + _TRAIN, [f"--config={file}"], folder, second=second)

    def start_and_wait() -> Hosts:
        before, hosts = last_checkpoint(workdir), start()
        hosts.wait_for_checkpoint(before)
        return hosts

    straight = start(tmp_path / "straight")
    assert straight.wait() == [0, 0], straight

    for victim in (0, 1):
        hosts = start_and_wait()
        os.kill(hosts.child(victim), signal.SIGKILL)
        assert hosts.wait() == [1, 1], hosts
        for host in range(2):
            assert f"host {host} ends at" in hosts.said(host)
            assert f"last checkpoint: {workdir}/checkpoints/last/{last_checkpoint(workdir)}\n" in hosts.said(host)
            assert "the same command again, on every host" in hosts.said(host)
        assert "ended by SIGKILL" in hosts.said(1 - victim)

    hosts = start_and_wait()
    for process in hosts.processes:
        os.killpg(process.pid, signal.SIGKILL)
    hosts.wait()

    hosts = start_and_wait()
    hosts.processes[1].send_signal(signal.SIGTERM)
    assert hosts.wait() == [143, 143], hosts
    assert "stopped by a signal after step" in hosts.said(0)
    assert last_checkpoint(workdir) < 300, "the run was over before it was stopped: the test proves less than it says"

    hosts = start(second=Second(changes=_SLOW))
    assert hosts.wait() == [0, 0], hosts
    assert logged(workdir) == logged(straight.workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"flags": ("--config.training.steps=13",)}, "config.training.steps is 12 on host 0, 13 on host 1"),
        ({"changes": _OTHER_RECORDS}, "records.train is '[0-9a-f]{12}' on host 0, 'another set' on host 1"),
        ({"devices": 1}, "all hosts need the same number of devices, there are 2 on host 0, 1 on host 1"),
    ],
)
def test_hosts_that_differ_are_told_apart(config_file, tmp_path, difference, message):
    """Both end before anything is trained or written, and name what differs with both values."""
    hosts = Hosts(_TRAIN, [f"--config={config_file}"], tmp_path / "run", second=Second(**difference))
    assert hosts.wait() == [1, 1], hosts
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
