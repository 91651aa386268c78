"""One host of several runs its work in a process of its own, under a supervisor that outlives it.

A host that waits for another one cannot help itself: it sits in a collective for ever, or the runtime of JAX ends the
process on the spot, without a word to Python. So the work runs in a child process that reports what it is doing, and
the supervisor, which uses no JAX,

* ends a child that reported nothing for longer than the timeout,
* keeps `WORKDIR/hosts/INDEX.json` for the other hosts, and looks into theirs,
* says at the end what happened on each host, what is saved and what to run.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

# Exit status of a run that saved and stopped on a signal (128 + SIGTERM): a job that goes on after a full run must not
# take it for one.
STOPPED = 143
_CHANNEL = "BIHF_JAX_SUPERVISOR"  # environment variable: file descriptor of the channel to the supervisor
_LOOK_SECONDS = 0.5  # how often a supervisor looks for hosts that failed
_WRITE_SECONDS = 2.0  # how often it writes what its own host is doing
_GRACE_SECONDS = 10.0  # for a child to end by itself once another host has failed, so that a save can be finished


class _Channel:
    """The child's end: reports go out; when the supervisor is gone, so is the child."""

    def __init__(self, descriptor: int):
        self._socket = socket.socket(fileno=descriptor)
        threading.Thread(target=self._end_with_supervisor, daemon=True).start()

    def _end_with_supervisor(self) -> None:
        if not self._socket.recv(1):
            os._exit(1)

    def send(self, values: dict) -> None:
        # An OSError means that the supervisor is gone; the thread above is about to end this process.
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(values).encode() + b"\n")


_channel: _Channel | None = None


def supervised() -> bool:
    """Is this the child of a supervisor? From the first call on, it ends when the supervisor does."""
    global _channel
    descriptor = os.environ.pop(_CHANNEL, None)  # popped, as a process that the child starts is no such child
    if descriptor is not None:
        _channel = _Channel(int(descriptor))
    return _channel is not None


def report(doing: str) -> None:
    """Tells the supervisor, if there is one, what this process does from now on, for no longer than the timeout."""
    _send({"doing": doing})


def report_place(host: int, num_hosts: int) -> None:
    """Tells the supervisor which of how many hosts this is."""
    _send({"host": host, "num_hosts": num_hosts})


def report_failure(reason: str) -> None:
    """Tells the supervisor why this process is about to end."""
    _send({"failed": reason})


def _send(values: dict) -> None:
    if _channel is not None:
        _channel.send(values)


@dataclasses.dataclass
class _Status:
    """What one host says of itself, in its file.

    Attributes:
      doing: its last report.
      failed: why it ended; None while it runs and after a good end.
      ended: whether its process is gone.
      machine: name of the machine.
      process: id of the child.
      time: of the last report, seconds since 1970 by the clock of that host.
    """

    doing: str = "starting"
    failed: str | None = None
    ended: bool = False
    machine: str = dataclasses.field(default_factory=socket.gethostname)
    process: int = 0
    time: float = dataclasses.field(default_factory=time.time)

    def describe(self) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(self.time))
        if self.failed:
            what = f"failed at {self.doing!r}: {self.failed}"
        else:
            what = f"{'ended after' if self.ended else 'last report'} {self.doing!r}"
        return f"({self.machine}, process {self.process}) {when} {what}"


class _StatusFiles:
    """`WORKDIR/hosts/INDEX.json`, or `INDEX.failed.json` at the end: written by that host, read by all.

    To look for failures is to list one folder, so that many hosts can do it often on a network file system.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        # What lies there from an earlier start says nothing of this one.
        self._old_failures = set(self._list_failures())
        self._old = self._read()

    def begin(self, host: int) -> None:
        """Takes away what this host left from an earlier start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._failure_file(host).unlink(missing_ok=True)

    def write(self, host: int, status: _Status) -> None:
        scratch = self._folder / f"{host}.tmp"
        scratch.write_text(json.dumps(dataclasses.asdict(status)) + "\n", encoding="utf-8")
        os.replace(scratch, self._failure_file(host) if status.failed else self._folder / f"{host}.json")

    def failures(self) -> set[int]:
        """Hosts that have failed since this supervisor began."""
        listed = set(self._list_failures())
        self._old_failures &= listed
        return listed - self._old_failures

    def current(self) -> dict[int, _Status]:
        """Host -> status, of the hosts that wrote since this supervisor began."""
        return {host: status for host, status in self._read().items() if status != self._old.get(host)}

    def _failure_file(self, host: int) -> Path:
        return self._folder / f"{host}.failed.json"

    def _list_failures(self) -> list[int]:
        return [int(path.name.split(".")[0]) for path in self._folder.glob("*.failed.json")]

    def _read(self) -> dict[int, _Status]:
        statuses: dict[int, _Status] = {}
        for path in sorted(self._folder.glob("*.json"), key=lambda path: ".failed" in path.name):
            # A file can vanish or be replaced under a network file system; the next look finds it.
            with contextlib.suppress(OSError, ValueError, TypeError):
                statuses[int(path.name.split(".")[0])] = _Status(**json.loads(path.read_text(encoding="utf-8")))
        return statuses


class Supervisor:
    """Runs this process's own command line a second time as the child, and watches it."""

    def __init__(self, workdir: Path, *, host: int | None, num_hosts: int | None, timeout: float):
        """Reads what the hosts left there before.

        Args:
          workdir: of the run, a folder that all hosts share.
          host: index of this host; None: the child reports it.
          num_hosts: None: not known.
          timeout: seconds that the child may take between two reports.
        """
        self._workdir, self._host, self._num_hosts, self._timeout = workdir, host, num_hosts, timeout
        self._files = _StatusFiles(workdir / "hosts")
        self._status = _Status()
        self._next_write: float | None = None  # None: nothing is written yet

    def run(self) -> int:
        """Runs the child to its end and returns the exit status: 0, `STOPPED`, or 1 after an explanation."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                child = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env={**os.environ, _CHANNEL: str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                )
            self._status.process = child.pid
            with _forwarded_signals(child):
                cause = self._watch(child, ours)
                status = child.wait()
        self._status.ended = True
        if status not in (0, STOPPED) and self._status.failed is None:
            self._status.failed = cause or _describe_exit(status)
        self._write_status(now=math.inf)
        if self._status.failed is None:
            return status
        self._explain(cause or self._status.failed)
        return 1

    def _watch(self, child: subprocess.Popen, channel: socket.socket) -> str | None:
        """Returns when the child has ended or was ended, in that case with the reason."""
        last_report = time.monotonic()
        kill_at, cause = math.inf, None
        for reports in _incoming(channel):
            now = time.monotonic()
            if reports:
                last_report = now
                self._take(reports)
            self._write_status(now)
            failed = self._files.failures() - {self._host}
            if failed and cause is None:
                kill_at, cause = now + _GRACE_SECONDS, f"host {min(failed)} failed"
            if now - last_report > self._timeout:
                kill_at = now
                cause = f"it went no further for {self._timeout:g} s (--host_timeout)"
            if now >= kill_at:
                child.kill()
                return cause
        return cause

    def _take(self, reports: list[dict]) -> None:
        for line in reports:
            self._host = line.pop("host", self._host)
            self._num_hosts = line.pop("num_hosts", self._num_hosts)
            self._status = dataclasses.replace(self._status, **line, time=time.time())

    def _write_status(self, now: float) -> None:
        if self._host is None:
            return
        if self._next_write is None:
            self._files.begin(self._host)
        elif now < self._next_write:
            return
        self._next_write = now + _WRITE_SECONDS
        self._files.write(self._host, self._status)

    def _name(self) -> str:
        return "?" if self._host is None else str(self._host)

    def _explain(self, cause: str) -> None:
        """Says what happened, what is saved and what to do."""
        time.sleep(2 * _LOOK_SECONDS)  # a host that failed in the same moment has written by then
        others = self._files.current()
        lines = [f"host {self._name()} ends at {self._status.doing!r}: {cause}"]
        lines.append(f"  host {self._name()} {self._status.describe()}")
        indices = range(self._num_hosts) if self._num_hosts else sorted(others)
        for host in indices:
            if host == self._host:
                continue
            if host in others:
                lines.append(f"  host {host} {others[host].describe()}")
            else:
                lines.append(f"  host {host}: not a word since this host started; was it started with this --workdir?")
        lines.append(f"last checkpoint: {_last_checkpoint(self._workdir)}")
        lines.append("to go on: the same command again, on every host")
        _LOGGER.error("%s", "\n".join(lines))


def _incoming(channel: socket.socket) -> Iterator[list[dict]]:
    """The new reports, perhaps none, at every look; ends when the other end is closed."""
    rest = b""
    channel.settimeout(_LOOK_SECONDS)
    while True:
        lines: list[bytes] = []
        try:
            data = channel.recv(1 << 16)
        except TimeoutError:
            pass  # no report, and yet the caller must look at its clock
        else:
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
        yield [json.loads(line) for line in lines]


@contextlib.contextmanager
def _forwarded_signals(child: subprocess.Popen) -> Iterator[None]:
    """SIGTERM and SIGINT go to the child, which saves and stops with all hosts."""
    old = {s: signal.signal(s, lambda number, _: child.send_signal(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"the process ended with status {status}"
    name = signal.Signals(-status).name
    hints = {
        "SIGABRT": "; JAX does that when host 0, the coordinator, is gone, and says so above",
        "SIGKILL": "; by hand, by the job scheduler, or by the system for lack of memory",
    }
    return f"the process was ended by {name}{hints.get(name, '')}"


def _last_checkpoint(workdir: Path) -> Path | str:
    """The newest finished one; unfinished ones have longer names."""
    steps = [path for path in (workdir / "checkpoints" / "last").glob("*") if path.name.isdigit()]
    return max(steps, key=lambda path: int(path.name), default="none yet")
