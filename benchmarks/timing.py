"""Side by side: contestants alternate in one process, samples that another process disturbed are discarded."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

# A sample is discarded where other processes took more of the CPU than this while it ran.
MOST_FOREIGN_CORES = 0.2


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Paired times of a contestant and of the reference, in seconds.

    Attributes:
      ours, theirs: of the rounds that were kept.
      discarded: rounds in which another process was busy.
    """

    ours: np.ndarray
    theirs: np.ndarray
    discarded: int

    @property
    def ratio(self) -> tuple[float, float, float]:
        """How many times faster ours is: median, 10th and 90th percentile over the rounds."""
        return tuple(np.percentile(self.theirs / self.ours, [50, 10, 90]))


def foreign_cpu_seconds() -> float:
    """CPU seconds that all other processes of the machine have taken so far (Linux)."""
    ticks = [int(value) for value in Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]]
    busy = sum(ticks[:3]) + sum(ticks[5:8])  # user, nice, system; irq, softirq, steal: without idle and iowait
    own = os.times()
    return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system


def alternate(contestants: Mapping[str, Callable[[], object]], rounds: int, most_rounds: int) -> dict[str, np.ndarray]:
    """Times contestants in turns until `rounds` rounds were undisturbed.

    Args:
      contestants: name -> what is timed; it returns when its work is done.
      rounds: wanted.
      most_rounds: after so many in all it ends, whatever it has.

    Returns:
      Name -> seconds [rounds kept]; "discarded" -> the number of disturbed rounds [1].

    Raises:
      RuntimeError: every round was disturbed.
    """
    for run in contestants.values():
        run()  # compiles, and fills caches
    kept: dict[str, list[float]] = {name: [] for name in contestants}
    discarded = 0
    for _ in range(most_rounds):
        times, disturbed = {}, False
        for name, run in contestants.items():
            foreign, start = foreign_cpu_seconds(), time.perf_counter()
            run()
            times[name] = time.perf_counter() - start
            disturbed |= (foreign_cpu_seconds() - foreign) / times[name] > MOST_FOREIGN_CORES
        discarded += disturbed
        if not disturbed:
            for name, seconds in times.items():
                kept[name].append(seconds)
        if len(next(iter(kept.values()))) == rounds:
            break
    if not next(iter(kept.values())):
        raise RuntimeError(f"other processes were busy in all {most_rounds} rounds; measure on an idle machine")
    return {name: np.asarray(times) for name, times in kept.items()} | {"discarded": np.asarray([discarded])}


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 15, most_rounds: int = 60
) -> Comparison:
    """Times two contestants that do the same work; see `alternate`."""
    times = alternate({"ours": ours, "theirs": theirs}, rounds, most_rounds)
    return Comparison(times["ours"], times["theirs"], int(times["discarded"][0]))
