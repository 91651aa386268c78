"""The plan: which records go into which row of which step, as a pure function of what every host already knows.

A plan depends on the slots of each record (from the index file), the seed, the epoch and the global batch, and on
nothing else: every host computes the same steps and reads its own rows of them. So all hosts take the same number of
steps, the position in the data is one integer (the global step), and neither prefetching nor the number of devices
changes what a step contains.
"""

import bisect
import dataclasses
import functools
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

Row = tuple[int, ...]  # indices of the records in one row, in placing order


@dataclasses.dataclass(frozen=True)
class Step:
    """One global step: all its rows have `length` slots; an empty row pads the last step of a bucket."""

    length: int
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class GridShape:
    """The static shapes of the residue grid.

    Attributes:
      rows: length bucket L -> rows of a global step (over all devices of all hosts).
      graphs_per_row: G, proteins that fit into one row at most.
      neighbours: K, neighbour slots of a residue.
    """

    rows: Mapping[int, int]
    graphs_per_row: int
    neighbours: int

    def __post_init__(self) -> None:
        if not self.rows or min(self.rows) < 4 or min(self.rows.values()) < 1:
            raise ValueError(
                f"rows must map length buckets (>= 4 slots) to rows per step (>= 1), got {dict(self.rows)}"
            )
        if self.graphs_per_row < 1 or self.neighbours < 1:
            raise ValueError(
                f"graphs_per_row and neighbours must be >= 1, got {self.graphs_per_row}, {self.neighbours}"
            )

    @property
    def buckets(self) -> tuple[int, ...]:
        """Length buckets, ascending."""
        return tuple(sorted(self.rows))

    @property
    def max_length(self) -> int:
        return max(self.rows)

    def validate_devices(self, num_devices: int) -> None:
        """Raises ValueError where a step's rows cannot be dealt evenly to the devices."""
        for length, rows in self.rows.items():
            if rows % num_devices:
                raise ValueError(
                    f"{rows} rows of {length} slots cannot be dealt evenly to {num_devices} devices; "
                    f"choose a number of rows that is a multiple of {num_devices}"
                )

    def for_evaluation(self, longest: int, num_devices: int) -> "GridShape":
        """The same grid with buckets doubled until `longest` slots fit, at about the same slots a step.

        Rows are rounded up to a multiple of `num_devices`.
        """
        rows = dict(self.rows)
        length, slots_per_step = self.max_length, self.max_length * self.rows[self.max_length]
        while length < longest:
            length *= 2
            rows[length] = max(1, slots_per_step // length)
        rows = {length: -(-count // num_devices) * num_devices for length, count in rows.items()}
        return dataclasses.replace(self, rows=rows)


class _OpenRows:
    """Rows that still have room, found by best fit: the fullest row that takes the record; the oldest of equals.

    `_room` is a bit set of the amounts of free slots that some open row has, so that one shift and one lowest-bit
    look-up replace a search through the rows.
    """

    def __init__(self, length: int, max_records: int):
        self.rows: list[list[int]] = []
        self._length, self._max_records = length, max_records
        self._by_room: dict[int, deque[int]] = {}
        self._room = 0

    def place(self, record: int, slots: int, *, may_open: bool) -> bool:
        """Puts a record into the best open row, or a new one if it `may_open`; says whether it was placed."""
        fitting = self._room >> slots
        if fitting:
            room = slots + (fitting & -fitting).bit_length() - 1
            row = self._by_room[room].popleft()
            if not self._by_room[room]:
                self._room ^= 1 << room
        elif may_open:
            room, row = self._length, len(self.rows)
            self.rows.append([])
        else:
            return False
        self.rows[row].append(record)
        room -= slots
        if len(self.rows[row]) < self._max_records and room > 0:
            self._by_room.setdefault(room, deque()).append(row)
            self._room |= 1 << room
        return True


def make_plan(slots: Sequence[int] | np.ndarray, shape: GridShape, *, seed: int | None, epoch: int = 0) -> list[Step]:
    """Plans one epoch: every record once.

    Args:
      slots: [records] slots of each record. A record longer than the largest bucket fills a row (it is cropped when
        it is placed).
      shape: the grid.
      seed: shuffles the records and then the steps, together with `epoch`; None keeps the order of the records.
      epoch: number of the pass over the data.

    Returns:
      Steps. Records longer than the second-largest bucket open rows of the largest one; shorter records fill these
      up first and then go to the smaller buckets. The last step of each bucket is completed with empty rows.
    """
    slots = np.minimum(np.asarray(slots, np.int64), shape.max_length)
    rng = None if seed is None else np.random.default_rng((seed, epoch))
    waiting = np.arange(len(slots)) if rng is None else rng.permutation(len(slots))
    steps: list[Step] = []
    for position in reversed(range(len(shape.buckets))):
        length = shape.buckets[position]
        shorter = shape.buckets[position - 1] if position else 0
        rows, waiting = _fill_rows(waiting, slots, length, shorter, shape.graphs_per_row)
        if rng is not None:
            # Best fit closes full rows first, so neighbouring rows are alike; shuffling them undoes that.
            rows = [rows[i] for i in rng.permutation(len(rows))]
        steps += _rows_to_steps(rows, length, shape.rows[length])
    if rng is not None:
        steps = [steps[i] for i in rng.permutation(len(steps))]
    return steps


def plan_once(slots: Sequence[int] | np.ndarray, shape: GridShape, num_devices: int) -> list[Step]:
    """Plans every record once, whole, in an order that depends on the slots alone.

    Args:
      slots: [records] slots of each record, at least one.
      shape: the grid; longer rows are added where a record needs them (`GridShape.for_evaluation`).
      num_devices: that the rows of a step are dealt to.
    """
    slots = np.asarray(slots)
    shape = shape.for_evaluation(int(slots.max()), num_devices)
    # Longest first packs best, and no order has to be kept: results are mapped back by record.
    order = np.argsort(-slots, kind="stable")
    return [_renumber(step, order) for step in make_plan(slots[order], shape, seed=None)]


def _renumber(step: Step, order: np.ndarray) -> Step:
    """A plan over reordered or drawn records, with the records' own numbers."""
    return Step(step.length, tuple(tuple(int(order[i]) for i in row) for row in step.rows))


def _fill_rows(
    records: np.ndarray, slots: np.ndarray, length: int, shorter: int, graphs_per_row: int
) -> tuple[list[Row], np.ndarray]:
    """Rows of one bucket, and the records left for the shorter buckets."""
    open_rows = _OpenRows(length, graphs_per_row)
    long_first = [*records[slots[records] > shorter], *records[slots[records] <= shorter]] if shorter else records
    left = [r for r in long_first if not open_rows.place(int(r), int(slots[r]), may_open=bool(slots[r] > shorter))]
    return [tuple(row) for row in open_rows.rows], np.asarray(left, np.int64)


def _rows_to_steps(rows: list[Row], length: int, rows_per_step: int) -> list[Step]:
    padded = rows + [()] * (-len(rows) % rows_per_step)
    return [Step(length, tuple(padded[i : i + rows_per_step])) for i in range(0, len(padded), rows_per_step)]


def fill(steps: Sequence[Step], slots: Sequence[int] | np.ndarray) -> float:
    """Share of the grid's slots that hold a record, empty rows included."""
    slots = np.asarray(slots)
    capacity = sum(step.length * len(step.rows) for step in steps)
    used = sum(min(int(slots[record]), step.length) for step in steps for row in step.rows for record in row)
    return used / capacity if capacity else 0.0


def draw_records(weights: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """As many records as there are, some several times and some not at all: [records] indices, a pure function.

    Args:
      weights: [records] >= 0 with mean 1. A record of weight w comes w times, rounded up or down at random (systematic
        sampling), so that no record is forgotten or repeated by chance alone.
      seed: of the run.
      epoch: number of the pass over the data.
    """
    rng = np.random.default_rng((seed, epoch, 1))  # not that of `make_plan`
    order = rng.permutation(len(weights))
    ends = np.cumsum(weights[order])
    ends[-1] = len(weights)  # of which the sum is off by rounding
    times = np.diff(np.floor(ends + rng.random()), prepend=0)
    return np.repeat(order, times.astype(np.int64))


class Schedule:
    """The endless sequence of training steps: `schedule[step]` is the plan of that global step.

    Epochs follow each other without a gap. Their lengths may differ by a step or two, as each is packed anew, so the
    start of an epoch is known once all earlier ones are planned; plans are cheap (about 2 microseconds a record).
    With `weights` an epoch holds what `draw_records` gives, else every record once.
    """

    def __init__(self, slots: np.ndarray, shape: GridShape, *, seed: int, weights: np.ndarray | None = None):
        if not len(slots):
            raise ValueError("cannot plan over a split without records")
        self._first_step = [0]  # of each epoch planned so far

        def plan(epoch: int) -> list[Step]:
            if weights is None:
                return make_plan(slots, shape, seed=seed, epoch=epoch)
            drawn = draw_records(weights, seed=seed, epoch=epoch)
            return [_renumber(step, drawn) for step in make_plan(slots[drawn], shape, seed=seed, epoch=epoch)]

        self._epoch_plan = functools.lru_cache(maxsize=2)(plan)

    def __getitem__(self, step: int) -> tuple[int, Step]:
        """(epoch, plan of the step)."""
        while self._first_step[-1] <= step:
            last = len(self._first_step) - 1
            self._first_step.append(self._first_step[-1] + len(self._epoch_plan(last)))
        epoch = bisect.bisect_right(self._first_step, step) - 1
        return epoch, self._epoch_plan(epoch)[step - self._first_step[epoch]]
