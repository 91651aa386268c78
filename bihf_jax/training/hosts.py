"""Several hosts train as one: they join, agree on what they run, and stop after the same step.

A host is one process with its devices. All hosts run the same command on a run folder that they share; each reads its
own rows of every step (`pipeline.Host`), and the first one, host 0, writes. A host that fails or is waited for in vain
is the matter of `supervisor`.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

import bihf_jax
from bihf_jax.configuration import differences
from bihf_jax.data.pipeline import Host
from bihf_jax.training import supervisor
from bihf_jax.training.step import AXIS

_MOST_DIFFERENCES = 10  # in one message
_LONGEST_SILENCE = 100  # seconds without a sign of life after which JAX itself takes a host for dead

T = TypeVar("T")


class HostsDifferError(RuntimeError):
    """The hosts do not run the same; the message names what differs, with the value on each side."""


def join(coordinator: str | None, num_hosts: int | None, host_index: int | None, *, timeout: int) -> None:
    """Connects this process with those of the other hosts. Before anything else is computed.

    Args:
      coordinator: HOST:PORT of host 0, reachable from all; None: JAX asks the cluster (TPU pod, SLURM, Open MPI), and
        so for the next two.
      num_hosts: how many there are.
      host_index: which this one is, from 0.
      timeout: seconds to wait for a host, here and at the end.

    Raises:
      HostsDifferError: the hosts have different numbers of devices.
    """
    where = f" at {coordinator}" if coordinator else ""
    supervisor.report(f"waiting for all {num_hosts or ''} hosts{where}".replace("  ", " "))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from the loop
    jax.distributed.initialize(
        coordinator,
        num_hosts,
        host_index,
        # The supervisor comes first, as it can say more.
        initialization_timeout=timeout + 30,
        heartbeat_timeout_seconds=min(timeout, _LONGEST_SILENCE),
        shutdown_timeout_seconds=timeout + 30,
    )
    supervisor.report_place(jax.process_index(), jax.process_count())
    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        counts = ", ".join(f"{count} on host {index}" for index, count in sorted(devices.items()))
        raise HostsDifferError(f"all hosts need the same number of devices, there are {counts}")
    # The first use of a collective connects the hosts, on CPU within 30 s or never. So it is used now, while they are
    # all here; at the first step one may load its program from a cache while another one compiles it for minutes.
    _sum_over_devices()(np.zeros(jax.local_device_count(), np.int32))
    multihost_utils.process_allgather(np.int32(0))


@functools.cache
def _sum_over_devices() -> Callable[[np.ndarray], jax.Array]:
    """[local devices] -> [local devices], each the sum over all devices of all hosts."""
    return jax.pmap(lambda value: jax.lax.psum(value, AXIS), axis_name=AXIS)


def this_host() -> Host:
    """The place of this process among the hosts; host 0 of 1 where none was joined."""
    return Host(jax.process_index(), jax.process_count(), jax.local_device_count())


def agree(what: str, values: Mapping[str, Any]) -> None:
    """Checks that all hosts have the same code and the same `values`; returns when all have called it.

    Args:
      what: is compared, for the supervisor.
      values: nested mappings of values that JSON holds. The same keys on all hosts, if the code is the same.

    Raises:
      HostsDifferError: on every host.
    """
    if jax.process_count() == 1:
        return
    supervisor.report(f"comparing {what} with the other hosts")
    texts = _gather_text(json.dumps({"code": _code(), **values}, sort_keys=True))
    first, *others = map(json.loads, texts)
    found = [
        f"{path} is {ours!r} on host 0, {theirs!r} on host {host}"
        for host, other in enumerate(others, start=1)
        for path, ours, theirs in differences(first, other)
    ]
    if found:
        shown, rest = found[:_MOST_DIFFERENCES], len(found) - _MOST_DIFFERENCES
        more = f"; and {rest} more" if rest > 0 else ""
        raise HostsDifferError(
            f"the hosts do not run the same: {'; '.join(shown)}{more}. Start the same command with the same code and "
            f"the same records on every host, with a --workdir that all of them share"
        )


def _gather_text(text: str) -> list[str]:
    """The text of every host, in their order."""
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(data))))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = data
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]


@functools.cache
def _code() -> dict[str, str]:
    """Versions of what computes, and a digest of this package's source."""
    digest = hashlib.sha256()
    folder = Path(bihf_jax.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return {"bihf_jax": bihf_jax.__version__, "source digest": digest.hexdigest()[:12], "jax": jax.__version__}


def digest(tree: Any) -> str:
    """Short digest of every bit of a tree of arrays."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        hashed.update(np.asarray(leaf).tobytes())
    return hashed.hexdigest()[:12]


def first_then_others(work: Callable[[], T]) -> T:
    """Runs `work` on host 0 and, when it is done there, on the others: for what the first one writes and all read."""
    if jax.process_count() == 1:
        return work()
    result = work() if jax.process_index() == 0 else None
    multihost_utils.sync_global_devices("the first host is done")
    return work() if jax.process_index() else result


class StopVote:
    """Makes the wish of any host to stop the decision of all, at the same step.

    Asked once a step by every host. Votes are summed over the devices behind the step and counted one step later, so
    that no host waits for the step that it has just begun.
    """

    def __init__(self, wished: Callable[[], bool]):
        """Takes the question whether this host wants to stop."""
        self._wished = wished
        self._sum = _sum_over_devices()
        self._last: jax.Array | None = None

    def __call__(self) -> bool:
        votes = np.full(jax.local_device_count(), self._wished(), np.int32)
        counted, self._last = self._last, self._sum(votes)
        return counted is not None and int(np.asarray(counted.addressable_data(0)).item()) > 0
