"""The flags with which several hosts run an entry point as one: docs/multihost.md."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from absl import app, flags

from bihf_jax.training import hosts, supervisor

_LOGGER = logging.getLogger("bihf_jax.hosts")
_MULTIHOST = flags.DEFINE_bool("multihost", False, "Several hosts that JAX finds itself: TPU pod, SLURM, Open MPI")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "Several hosts: HOST:PORT of host 0; the port is any free one")
_NUM_HOSTS = flags.DEFINE_integer("num_hosts", None, "How many hosts there are, with --coordinator", lower_bound=1)
_HOST_INDEX = flags.DEFINE_integer("host_index", None, "Which one this is, from 0, with --coordinator", lower_bound=0)
_HOST_TIMEOUT = flags.DEFINE_integer(
    "host_timeout",
    600,
    "Seconds after which a host that gets no further (other hosts missing, hung or too slow) ends with a message; "
    "longer than compiling a step takes",
    lower_bound=1,
)


def run(work: Callable[[], int], workdir: Path) -> None:
    """Exits with the status of `work`, run as one of the hosts that the flags name, or alone where they name none.

    Args:
      work: returns the exit status: 0, `supervisor.STOPPED`, or that of `fail`.
      workdir: of the run, for the messages.
    """
    if not _several_hosts():
        sys.exit(work())
    if not supervisor.supervised():
        place = {"host": _HOST_INDEX.value, "num_hosts": _NUM_HOSTS.value}
        sys.exit(supervisor.Supervisor(workdir, **place, timeout=_HOST_TIMEOUT.value).run())
    status = _work_as_host(work)
    if status in (0, supervisor.STOPPED):
        sys.exit(status)
    # An orderly exit would wait for the other hosts, and they for this one.
    logging.shutdown()
    os._exit(status)


def _work_as_host(work: Callable[[], int]) -> int:
    try:
        hosts.join(_COORDINATOR.value, _NUM_HOSTS.value, _HOST_INDEX.value, timeout=_HOST_TIMEOUT.value)
        if jax.process_index() > 0:
            logging.getLogger("bihf_jax").setLevel(logging.WARNING)  # the first host logs for all
        return work()
    except (hosts.HostsDifferError, jax.errors.JaxRuntimeError) as error:
        return fail(error)
    except Exception as error:
        _LOGGER.exception("unexpected")
        return fail(error)


def fail(error: Exception) -> int:
    """Logs an error that speaks for itself and returns the exit status."""
    supervisor.report_failure(f"{type(error).__name__}: {error}")
    _LOGGER.error("%s", error)
    return 1


def _several_hosts() -> bool:
    named = {"coordinator": _COORDINATOR.value, "num_hosts": _NUM_HOSTS.value, "host_index": _HOST_INDEX.value}
    given = [name for name, value in named.items() if value is not None]
    if _MULTIHOST.value and given:
        raise app.UsageError(f"--multihost finds the hosts itself; leave out --{given[0]}, or --multihost")
    if given and len(given) < len(named):
        missing = next(name for name in named if name not in given)
        raise app.UsageError(f"--{given[0]} needs --{missing} too; all three of --{', --'.join(named)} belong together")
    if given and _HOST_INDEX.value >= _NUM_HOSTS.value:
        raise app.UsageError(f"--host_index={_HOST_INDEX.value} is not among {_NUM_HOSTS.value} hosts, counted from 0")
    if given and not _COORDINATOR.value.rpartition(":")[2].isdigit():
        raise app.UsageError(f"--coordinator={_COORDINATOR.value} is not HOST:PORT, e.g. 10.0.0.1:8476")
    return bool(given) or _MULTIHOST.value
