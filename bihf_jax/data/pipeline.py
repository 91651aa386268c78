"""From records to batches: the steps of a plan, read and packed ahead of the model by grain."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import grain
import numpy as np

from bihf_jax.data import grid as grid_lib
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import Example
from bihf_jax.data.labels import Labels
from bihf_jax.data.plan import GridShape, Schedule, Step, plan_once


class Records(Protocol):
    """Random access to the examples of a split; `records.RecordSet` is one."""

    slots: np.ndarray  # [records] slots of each record
    labels: Labels  # what the labels of the set are

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclasses.dataclass(frozen=True)
class Host:
    """Which part of a global step a host reads: an equal, consecutive share of its rows."""

    index: int
    count: int
    local_devices: int

    @property
    def global_devices(self) -> int:
        return self.count * self.local_devices

    def rows(self, step: Step) -> slice:
        share = len(step.rows) // self.count
        return slice(self.index * share, (self.index + 1) * share)


@dataclasses.dataclass(frozen=True)
class StepSource:
    """`source[step] -> ProteinBatch [device, row, length]` of one host; random access, so any step can come first."""

    records: Records
    schedule: Schedule | Sequence[tuple[int, Step]]
    num_steps: int
    shape: GridShape
    host: Host
    seed: int  # of the crops; with the epoch and the record it fixes each window

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> ProteinBatch:
        epoch, plan = self.schedule[step]
        mine = self.host.rows(plan)
        rows = [[(record, self._example(record, epoch, plan.length)) for record in row] for row in plan.rows[mine]]
        grid = grid_lib.make_grid(
            rows,
            length=plan.length,
            neighbours=self.shape.neighbours,
            graphs=self.shape.graphs_per_row,
            protein_values=self.records.labels.num_values,
            first_row_id=mine.start,
        )
        return grid_lib.split_over_devices(grid, self.host.local_devices)

    def _example(self, record: int, epoch: int, length: int) -> Example:
        rng = np.random.default_rng((self.seed, epoch, record))
        return grid_lib.crop_example(self.records[record], length, rng)


def training_batches(
    records: Records,
    shape: GridShape,
    host: Host,
    *,
    seed: int,
    first_step: int,
    last_step: int,
    weights: np.ndarray | None = None,
) -> Iterator[ProteinBatch]:
    """Batches of the global steps first_step .. last_step - 1, read ahead in a background thread.

    `weights` [records] say how often each record comes in an epoch (`plan.draw_records`); without them, once.
    """
    shape.validate_devices(host.global_devices)
    schedule = Schedule(np.asarray(records.slots), shape, seed=seed, weights=weights)
    source = StepSource(records, schedule, last_step, shape, host, seed)
    return _read_ahead(source, first_step)


def evaluation_batches(records: Records, shape: GridShape, host: Host) -> tuple[int, Iterator[ProteinBatch]]:
    """(number of steps, batches) that hold every record once, whole, in a fixed order."""
    steps = [(0, step) for step in plan_once(records.slots, shape, host.global_devices)]
    return len(steps), _read_ahead(StepSource(records, steps, len(steps), shape, host, seed=0), 0)


def _read_ahead(source: StepSource, first_step: int) -> Iterator[ProteinBatch]:
    # One thread: packing a step takes a small part of a training step, and more threads would take the cores of the
    # model. The order of the steps does not depend on it.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(grain.MapDataset.source(source)[first_step:].to_iter_dataset(options))
