"""Scoring a split: every record once, over all devices of all hosts, gathered by record."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils

from bihf_jax.data.grid import values_by_protein, values_by_record
from bihf_jax.data.pipeline import Host, Records, evaluation_batches
from bihf_jax.data.plan import GridShape
from bihf_jax.tasks import Task
from bihf_jax.training import hosts, supervisor
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import ExperimentConfig
from bihf_jax.training.restore import restore_model


class Scorer:
    """Scores splits with one model; its compiled programs, one a grid shape, are kept between calls."""

    def __init__(self, model: nn.Module, task: Task, shape: GridShape, host: Host):
        self._task, self._shape, self._host = task, shape, host
        self.score_step = step_lib.pmap_score_step(model, task)

    def score(self, params: Any, records: Records) -> tuple[list[np.ndarray], float]:
        """Scores every record whole: none is cropped, longer rows are compiled where needed.

        Args:
          params: parameters with a leading device axis.
          records: a split.

        Returns:
          Scores per record, the same on every host: each [slots, V] float32 (also at special tokens), or [1, V] where
          the task is of proteins; mean loss.
        """
        of_proteins = self._task.unit == "protein"
        counts = np.ones(len(records), np.int64) if of_proteins else np.asarray(records.slots, np.int64)
        take_apart = values_by_protein if of_proteins else values_by_record
        ends = np.cumsum(counts)
        flat = np.zeros((int(ends[-1]), self._task.num_outputs), np.float32)
        loss = weight = 0.0
        steps, batches = evaluation_batches(records, self._shape, self._host)
        for step, batch in enumerate(batches, start=1):
            supervisor.report(f"scoring batch {step} of {steps} of a split")
            scores, sums = self.score_step(params, batch)
            for record, record_scores in take_apart(np.asarray(scores), batch):
                flat[ends[record] - counts[record] : ends[record]] = record_scores
            loss += float(sums.loss[0])
            weight += float(sums.weight[0])
        if self._host.count > 1:
            # Each record is on one host and zero on the others, so the sum gathers and drops nothing twice.
            flat = np.asarray(multihost_utils.process_allgather(flat)).sum(axis=0)
        return np.split(flat, ends[:-1]), loss / weight if weight else float("nan")


class TrainedModel:
    """A run's model with the parameters of a checkpoint (`params`, a copy on each local device), ready to score."""

    def __init__(self, config: ExperimentConfig, step: int, params: Any):
        """Puts parameters (numpy, one replica) on the local devices."""
        self.config, self.step = config, step
        self.params = step_lib.replicate(params)
        self._scorer = Scorer(config.make_model(), config.make_task(), config.data.grid_shape(), hosts.this_host())

    @classmethod
    def load(cls, workdir: str | Path, *, which: str = "best") -> "TrainedModel":
        """Restores a checkpoint of a run.

        Args:
          workdir: of the run.
          which: "best" or "last".

        Raises:
          ConfigError: no run there, or a config that this version cannot read.
          CheckpointError: no such checkpoint, or one that does not fit the run's config.
        """
        restored = restore_model(workdir, which=which)
        return cls(restored.config, restored.step, restored.params)

    @property
    def num_parameters(self) -> int:
        """Of one copy."""
        return sum(int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(self.params))

    def score(self, records: Records) -> list[np.ndarray]:
        """Scores per record, each [slots, V] float32, or [1, V] where the task is of proteins."""
        return self._scorer.score(self.params, records)[0]
