"""What a run writes down: `metrics.jsonl`, TensorBoard events, and the tables printed at start-up."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bihf_jax.training.event_file import EventFile

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Appends to `WORKDIR/metrics.jsonl` (one JSON object a line, floats in full precision) and TensorBoard files."""

    def __init__(self, workdir: Path, resumed_at: int):
        """Opens the log.

        Args:
          workdir: of the run.
          resumed_at: step of the restored checkpoint (0: none). Lines after it are taken away, as those steps are
            run again; so no step stands twice.
        """
        self._path = workdir / METRICS_FILE
        if self._path.exists():
            kept = [row for row in read_rows(workdir) if row["step"] <= resumed_at]
            scratch = self._path.with_suffix(".tmp")
            scratch.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            os.replace(scratch, self._path)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = EventFile(workdir / "tensorboard", first_step=resumed_at + 1 if resumed_at else 0)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Writes one line {"step", "kind", **values} and its numbers as TensorBoard scalars `kind/name`."""
        self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._file.flush()
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, int | float)}
        self._board.scalars(step, numbers)

    def close(self) -> None:
        self._file.close()
        self._board.close()


class NoLog:
    """The log of hosts other than the first."""

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Writes nothing: the first host writes for all."""

    def close(self) -> None:
        """Nothing is open."""


def read_rows(workdir: str | Path) -> Iterator[dict[str, Any]]:
    """Lines of `metrics.jsonl`; a last line that was cut off by a crash is left out."""
    lines = (Path(workdir) / METRICS_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    for line in lines:
        if line.endswith("\n"):
            yield json.loads(line)


def parameter_table(params: Any, depth: int = 2) -> str:
    """Parameters, megabytes and share of each module `depth` levels down, as aligned text."""
    counts: dict[str, int] = {}
    total_bytes = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = "/".join(str(key.key) for key in path[:-1][:depth])
        counts[name] = counts.get(name, 0) + int(np.prod(leaf.shape))
        total_bytes += leaf.nbytes
    total = sum(counts.values())
    width = max(len(name) for name in [*counts, "total"])
    lines = [f"{name:<{width}}  {count:>12,}  {count / total:>6.1%}" for name, count in sorted(counts.items())]
    return "\n".join([*lines, f"{'total':<{width}}  {total:>12,}  {total_bytes / 1e6:.1f} MB"])
