"""Does the input pipeline keep up? Rows a second of it alone, and of the training step with it and without it.

    python -m benchmarks.reading RECORDS

The model is the fused one of 8 million parameters of `benchmarks.fused_step` (ESM-2 8M, GVP-GNN of the published size,
local fusion); a row has 1,024 slots. Contestants take turns in one process, rounds in which another process was busy
are discarded (`benchmarks.timing`):

* the pipeline alone: records are read from disk (the page cache holds them), checked, decoded, cropped and packed;
* training steps on one batch, again and again: what the model takes with nothing to wait for;
* training steps on the pipeline's batches, as `experiments.train` takes them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import timing
from benchmarks.fused_step import FUSIONS, PLM_NAMES, step_config
from benchmarks.structure_speed import CASES
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.grid import example_batch
from bihf_jax.data.pipeline import Host, training_batches
from bihf_jax.data.records import RecordSet
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import ExperimentConfig, experiment_config
from bihf_jax.training.optimizer import make_optimizer

ALONE, REPEATED, REAL = "the pipeline alone", "training step, one batch", "training step, the pipeline's batches"
# Pipeline steps in a sample of it alone, for each training step in the others: it is that much faster.
_ALONE_FACTOR = 10


class Contest:
    """The three contestants; each call goes on in the data where the last one ended.

    Attributes:
      config: of the experiment.
      rows: of a step.
    """

    def __init__(self, config: ExperimentConfig, steps: int) -> None:
        """Compiles nothing yet.

        Args:
          config: of the experiment; its records must exist.
          steps: training steps of a sample.
        """
        self.config, self._steps = config, steps
        self._shape = config.data.grid_shape()
        self.rows = sum(self._shape.rows.values())
        self._records = RecordSet(config.data.records, "train")
        model, task, plm = config.make_model(), config.make_task(), config.encoder.plm
        optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
        state = step_lib.init_state(model, optimizer, plm, example_batch(self._shape), config.seed)
        self._state = step_lib.replicate(state)
        self._train_step = step_lib.pmap_train_step(model, task, optimizer, plm, config.seed)
        self._alone, self._real = self._batches(), self._batches()
        self._batch = next(self._batches())

    def _batches(self) -> Iterator[ProteinBatch]:
        host = Host(jax.process_index(), jax.process_count(), jax.local_device_count())
        seed = self.config.seed
        return training_batches(self._records, self._shape, host, seed=seed, first_step=0, last_step=10**6)

    def contestants(self) -> dict[str, Callable[[], Any]]:
        """Name -> a sample, of `rows_of_sample` rows."""
        return {
            ALONE: lambda: [next(self._alone) for _ in range(_ALONE_FACTOR * self._steps)],
            REPEATED: lambda: self._train(self._batch for _ in range(self._steps)),
            REAL: lambda: self._train(next(self._real) for _ in range(self._steps)),
        }

    def rows_of_sample(self, name: str) -> int:
        """Rows that a sample of a contestant has."""
        return self.rows * self._steps * (_ALONE_FACTOR if name == ALONE else 1)

    def _train(self, batches: Iterator[ProteinBatch]) -> None:
        for batch in batches:
            self._state, _ = self._train_step(self._state, batch)
        jax.block_until_ready(self._state)


def table(times: dict[str, np.ndarray], contest: Contest) -> list[str]:
    """Lines of the Markdown table: rows a second, and each in terms of the step on one batch."""
    seconds = {name: times[name] / contest.rows_of_sample(name) for name in (ALONE, REPEATED, REAL)}  # of a row
    lines = ["| | rows/s, median [10 %, 90 %] | times the step on one batch |", "|---|---|---|"]
    for name, of_row in seconds.items():
        rate, low, high = np.percentile(1 / of_row, [50, 10, 90])
        ratio, ratio_low, ratio_high = np.percentile(seconds[REPEATED] / of_row, [50, 10, 90])
        times_step = "" if name == REPEATED else f"{ratio:.3g} [{ratio_low:.3g}, {ratio_high:.3g}]"
        lines.append(f"| {name} | {rate:.3g} [{low:.3g}, {high:.3g}] | {times_step} |")
    return lines


def main() -> None:
    """Parses arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", help="folder of binding-site records (data_prep.build ppbs)")
    parser.add_argument("--rows", type=int, default=2, help="rows of 1,024 slots in a step")
    parser.add_argument("--devices", type=int, default=2, help="simulated CPU devices that share the rows")
    parser.add_argument("--steps", type=int, default=3, help="training steps of a sample")
    parser.add_argument("--rounds", type=int, default=10, help="undisturbed rounds wanted")
    parser.add_argument("--busy", action="store_true", help="keep rounds that other processes disturbed")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)  # before the first use; of no account on a GPU
    if arguments.busy:
        timing.MOST_FOREIGN_CORES = float("inf")
    values = step_config(CASES["gvp"], PLM_NAMES["8M"], FUSIONS[0], arguments.records, arguments.rows)
    contest = Contest(experiment_config(values), arguments.steps)
    times = timing.alternate(contest.contestants(), arguments.rounds, 4 * arguments.rounds)
    kind = jax.local_devices()[0].device_kind
    print(f"{times['discarded'][0]} rounds discarded; {jax.local_device_count()} x {kind}", file=sys.stderr)
    print("\n".join(table(times, contest)))


if __name__ == "__main__":
    main()
