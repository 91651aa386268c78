"""`train`: from a config to a trained model in a folder; run again, it goes on where it stopped."""

import contextlib
import dataclasses
import functools
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bihf_jax.configuration import ConfigError
from bihf_jax.data.balance import balanced_weights
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.grid import example_batch
from bihf_jax.data.pipeline import Host, Records, training_batches
from bihf_jax.data.plan import GridShape, fill, make_plan
from bihf_jax.data.records import RecordSet, read_metadata
from bihf_jax.data.shuffled import ShuffledLabels
from bihf_jax.pretrained import with_pretrained_plm
from bihf_jax.tasks import Objective, check_labels
from bihf_jax.tasks.mlm import mlm_metrics
from bihf_jax.tasks.tables import table_of
from bihf_jax.training import hosts, learning, memory, supervisor
from bihf_jax.training import step as step_lib
from bihf_jax.training.checkpoints import Checkpoints, Progress
from bihf_jax.training.config import ExperimentConfig, TrainingConfig, experiment_config, keep_config
from bihf_jax.training.evaluation import Scorer, SumScorer, make_scorer
from bihf_jax.training.optimizer import learning_rate_schedule, make_optimizer
from bihf_jax.training.provenance import keep_records
from bihf_jax.training.run_log import NoLog, RunLog, parameter_table

_LOGGER = logging.getLogger(__name__)


class NonFiniteLossError(FloatingPointError):
    """The loss or its gradient became nan or infinite; the message names the step and the last good checkpoint."""


class Interrupted(Exception):
    """SIGTERM or SIGINT arrived; the state of `step` is saved."""

    def __init__(self, step: int):
        super().__init__(f"stopped by a signal after step {step}; the same command goes on from there")
        self.step = step


class _Interval:
    """The steps since the last line of the log.

    New steps wait as device arrays, so that the loop does not stop for each; `pending` holds those fetched as plain
    numbers, which travel with the checkpoint, so that a resumed run writes the same line.
    """

    def __init__(self, pending: list[list[float]]):
        self.pending = list(pending)
        self._waiting: list[tuple[int, step_lib.StepMetrics]] = []
        self.restart_clock()

    def restart_clock(self) -> None:
        """Time until now is not training time."""
        self._since, self._timed_steps = time.monotonic(), len(self.pending)

    def add(self, step: int, step_metrics: step_lib.StepMetrics) -> None:
        self._waiting.append((step, step_metrics))

    def drain(self, last_good: str) -> None:
        """Fetches the waiting numbers.

        Args:
          last_good: the newest checkpoint, for the message.

        Raises:
          NonFiniteLossError: names the first step that was not finite.
        """
        for step, step_metrics in self._waiting:
            numbers = [float(leaf[0]) for leaf in jax.tree.leaves(step_metrics)]
            loss_sum, weight, gradient_norm, *_ = numbers
            if not math.isfinite(loss_sum) or not math.isfinite(gradient_norm):
                raise NonFiniteLossError(
                    f"step {step}: loss {loss_sum / weight if weight else loss_sum}, gradient norm {gradient_norm}; "
                    f"nothing from this step on was saved. Last good checkpoint: {last_good}. Lower "
                    f"config.training.optimizer.learning_rate, or check the records with data_prep.check"
                )
            self.pending.append(numbers)
        self._waiting.clear()

    def take_summary(self) -> dict[str, float]:
        """Means over the pending steps, which then start anew."""
        loss, weight, gradient_norm, residues, slots = np.sum(np.asarray(self.pending, np.float64), axis=0)
        steps = len(self.pending)
        seconds = (time.monotonic() - self._since) * steps / max(steps - self._timed_steps, 1)
        self.pending = []
        self.restart_clock()
        return {
            "loss": float(loss / weight) if weight else 0.0,
            "gradient_norm": float(gradient_norm / steps),
            "fill": float(residues / slots),
            "residues": int(residues),
            "seconds": seconds,  # of these steps; extrapolated where the run was resumed or validated in between
        }


def train(config_values: Mapping[str, Any], workdir: str | Path) -> Path:
    """Trains, validates and checkpoints as the config says.

    Restoring, in order: (1) the run in `workdir` goes on from its last checkpoint; (2) otherwise the pLM starts from
    `config.encoder.plm.pretrained` where that is set, and the rest, or all, from random initialisation. The config is
    kept in `workdir`, and going on with another one is refused.

    Args:
      config_values: a config document, see `config.ExperimentConfig`.
      workdir: folder of the run; made if missing.

    Returns:
      `workdir`.

    Raises:
      ConfigError: before data or devices are touched.
      DoesNotFitError: the devices have too little memory.
      PretrainedError: pretrained weights that cannot be had, or of another model than the config's.
      NonFiniteLossError: see there.
      Interrupted: SIGTERM or SIGINT; the state is saved.
    """
    # ---- config -----------------------------------------------------------------------------------------------------
    workdir = Path(workdir)
    config = experiment_config(config_values, workdir)
    host = hosts.this_host()
    shape = config.data.grid_shape()
    try:
        shape.validate_devices(host.global_devices)
    except ValueError as error:
        raise ConfigError(f"config.data.rows: {error}") from error

    # ---- data -------------------------------------------------------------------------------------------------------
    train_records: Records = RecordSet(config.data.records, "train")
    validation_records = RecordSet(config.data.records, "validation")
    fingerprints = {records.split: records.fingerprint for records in (train_records, validation_records)}
    task = config.make_task()
    check_labels(task, train_records.labels, config.data.records)
    hosts.agree("configs and records", {"config": dataclasses.asdict(config), "records": fingerprints})
    config_dict = hosts.first_then_others(lambda: keep_config(config, workdir, first_host=host.index == 0))
    record_sets = (train_records, validation_records)
    hosts.first_then_others(lambda: keep_records(record_sets, workdir, first_host=host.index == 0))
    if config.data.shuffle_labels:
        train_records = ShuffledLabels(train_records, config.seed)
    weights = _sampling_weights(config, train_records)

    # ---- model and optimizer ----------------------------------------------------------------------------------------
    model = config.make_model()
    plm = config.encoder.plm
    optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
    init = functools.partial(step_lib.init_state, model, optimizer, plm, seed=config.seed)
    limit = memory.device_limit()
    if limit is not None:
        memory.check_state(memory.state_memory(jax.eval_shape(init, example_batch(shape)), plm), limit)
    # In the host's memory: a copy on the device, beside the one that learns, would take its room during the whole run.
    state = jax.tree.map(np.asarray, init(example_batch(shape)))
    state_memory = memory.state_memory(state, plm)
    _log_start(config, host, shape, train_records, weights, len(validation_records), state.params)
    _LOGGER.info("memory of a device: %s", memory.describe(state_memory, limit))

    # ---- restore ----------------------------------------------------------------------------------------------------
    scored_params = functools.partial(step_lib.scored_params, plm=plm)
    checkpoints = hosts.first_then_others(lambda: Checkpoints(workdir, config_dict, scored_params))
    progress = Progress()
    restored = checkpoints.restore(state)
    if restored is not None:
        state, progress = restored
        _LOGGER.info("resumed from step %d (best %s at %s)", state.step, progress.best_score, progress.best_step)
    elif plm.pretrained:
        state = state._replace(params=with_pretrained_plm(state.params, plm))
    elif plm.learning.freezes and "sequence" in config.encoder.sides:
        _LOGGER.warning("the pLM is frozen at random values: config.encoder.plm.pretrained is not set")
    if host.count > 1:
        hosts.agree("states", {"last checkpoint": int(state.step), "state digest": hosts.digest(state)})
    run_log = RunLog(workdir, int(state.step)) if host.index == 0 else NoLog()

    # ---- loop -------------------------------------------------------------------------------------------------------
    loop = _Loop(
        settings=config.training,
        task=task,
        train_step=step_lib.pmap_train_step(model, task, optimizer, plm, config.seed),
        scorer=make_scorer(config),
        validation_records=validation_records,
        scored_params=scored_params,
        checkpoints=checkpoints,
        run_log=run_log,
        fits=functools.partial(memory.check_program, memory=state_memory, limit=limit),
    )
    with contextlib.closing(run_log), contextlib.closing(checkpoints), _stop_on_signal() as stop_requested:
        first, last = int(state.step), config.training.steps
        steps = {"first_step": first, "last_step": last}
        batches = training_batches(train_records, shape, host, seed=config.seed, weights=weights, **steps)
        loop.run(state, progress, batches, hosts.StopVote(stop_requested) if host.count > 1 else stop_requested)
    return workdir


def _sampling_weights(config: ExperimentConfig, records: Records) -> np.ndarray | None:
    """How often each training record comes in an epoch; None where each comes once."""
    if not config.data.balanced_sampling:
        return None
    try:
        return balanced_weights(records, config.data.balanced_sampling)
    except ValueError as error:
        raise ConfigError(f"config.data.balanced_sampling is {config.data.balanced_sampling}: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Loop:
    """The parts that one step after the other goes through: train, log, validate, save."""

    settings: TrainingConfig
    task: Objective
    train_step: step_lib.CompiledStep
    scorer: Scorer | SumScorer
    validation_records: RecordSet
    scored_params: Callable[[step_lib.TrainState], Any]
    checkpoints: Checkpoints
    run_log: RunLog | NoLog
    fits: Callable[[jax.stages.Lowered], int | None]  # `memory.check_program`

    def run(
        self,
        state: step_lib.TrainState,
        progress: Progress,
        batches: Iterable[ProteinBatch],
        stop_requested: Callable[[], bool],
    ) -> None:
        """Takes the steps after `state.step`, one batch each, to the last one of the settings or of its patience."""
        settings = self.settings
        if self._has_ended(int(state.step), progress):
            return
        interval = _Interval(progress.pending)
        first_step = int(state.step)
        state = step_lib.replicate(state)
        checked: set[tuple[int, ...]] = set()
        for step, batch in zip(range(first_step + 1, settings.steps + 1), batches, strict=True):
            supervisor.report(f"step {step}")
            if batch.tokens.shape not in checked:
                self._check_memory(state, batch)
                checked.add(batch.tokens.shape)
            state, step_metrics = self.train_step(state, batch)
            interval.add(step, step_metrics)
            is_last, stopping = step == settings.steps, stop_requested()
            logging_now = is_last or step % settings.log_every == 0
            validating = is_last or step % settings.evaluate_every == 0
            saving = validating or stopping or step % settings.checkpoint_every == 0
            if logging_now or saving:
                interval.drain(self.checkpoints.describe_last())
            if logging_now:
                self._log(step, interval)
            if validating:
                progress = self._validate(step, self.scored_params(state), progress)
                interval.restart_clock()
            if saving:
                supervisor.report(f"saving step {step}")
                self.checkpoints.save(
                    step_lib.unreplicate(state), dataclasses.replace(progress, pending=interval.pending)
                )
            if validating and self._has_ended(step, progress):
                break
            if stopping and not is_last:
                raise Interrupted(step)
        best = f"best {self.task.selection_metric} {progress.best_score} at step {progress.best_step}"
        _LOGGER.info("done: %d steps; %s", int(step_lib.unreplicate(state.step)), best)

    def _check_memory(self, state: step_lib.TrainState, batch: ProteinBatch) -> None:
        """Compiles the step for this shape, which it would do anyway, and ends the run where it does not fit."""
        needed = self.fits(self.train_step.lower(state, batch))
        if needed is not None:
            rows, length = batch.tokens.shape[-2:]
            _LOGGER.info("a step of %d x %d slots a device needs %.2f GiB there", rows, length, needed / memory.GIB)

    def _has_ended(self, step: int, progress: Progress) -> bool:
        """Whether the patience has run out at a validation, before the last step."""
        settings = self.settings
        if not settings.patience or progress.best_step is None or step >= settings.steps:
            return False
        waited = (step - progress.best_step) // settings.evaluate_every
        if waited < settings.patience:
            return False
        _LOGGER.info("ends at step %d: no better validation in %d", step, waited)
        return True

    def _log(self, step: int, interval: "_Interval") -> None:
        schedule = learning_rate_schedule(self.settings.optimizer, self.settings.steps)
        line = interval.take_summary() | {
            "learning_rate": float(schedule(step - 1)),
            "compiles": self.train_step.compiles,
        }
        self.run_log.write(step, "train", line)
        _LOGGER.info(
            "step %d/%d  loss %.4f  gradient norm %.2f  learning rate %.2e  %.0f residues/s  fill %.3f  compiles %d",
            *(step, self.settings.steps, line["loss"], line["gradient_norm"], line["learning_rate"]),
            *(line["residues"] / line["seconds"], line["fill"], line["compiles"]),
        )

    def _validate(self, step: int, params: Any, progress: Progress) -> Progress:
        values = validate(self.scorer, params, self.validation_records, self.task)
        self.run_log.write(step, "eval", values)
        _LOGGER.info("step %d  validation: %s", step, "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
        score = values[self.task.selection_metric]
        if progress.best_score is not None and score <= progress.best_score:
            return progress
        return dataclasses.replace(progress, best_score=score, best_step=step)


def validate(scorer: Scorer | SumScorer, params: Any, records: RecordSet, task: Objective) -> dict[str, float]:
    """Loss and metrics of a split; those that are not defined are left out.

    Raises:
      ConfigError: the selection metric is not defined: no labels, or of one class or value only.
    """
    if isinstance(scorer, SumScorer):
        values = mlm_metrics(scorer.score(params, records))
        return {"loss": -values["log_likelihood"], **values}
    scores, loss = scorer.score(params, records)
    labelled = table_of(task, records, scores).labelled()
    values = task.metrics(labelled) if len(labelled.labels) else {}
    if values.get(task.selection_metric) is None:
        reason = task.undefined_reason(labelled)
        raise ConfigError(f"the split {records!r} has no {task.selection_metric}: {reason}; build a larger split")
    logged = {name: values[name] for name in task.logged or task.metric_names if values[name] is not None}
    return {"loss": loss, **logged}


def _log_start(
    config: ExperimentConfig,
    host: Host,
    shape: GridShape,
    records: Records,
    weights: np.ndarray | None,
    num_validation: int,
    params: Any,
) -> None:
    plan = make_plan(records.slots, shape, seed=config.seed)
    rows = ", ".join(f"{count} rows x {length} slots" for length, count in sorted(shape.rows.items()))
    cropped = int((np.asarray(records.slots) > shape.max_length).sum())
    devices = jax.local_devices()
    learn, rest = (
        sum(leaf.size for leaf in jax.tree.leaves(part)) for part in learning.split(params, config.encoder.plm)
    )
    lines = [
        f"devices: {host.global_devices} ({devices[0].device_kind}), {host.count} host(s)",
        f"global batch: {rows}; {config.data.rows // host.global_devices} row(s) a device; "
        f"{config.data.neighbours} neighbours, at most {config.data.graphs_per_row} proteins a row",
        f"training: {len(records)} records, {len(plan)} steps an epoch, "
        f"{config.training.steps} steps = {config.training.steps / len(plan):.1f} epochs; "
        f"fill of the first epoch {fill(plan, records.slots):.3f}",
        f"cropped in training: {cropped} records longer than {shape.max_length} slots",
        *(
            []
            if weights is None
            else [f"drawn in an epoch: each record {weights.min():.2g} to {weights.max():.2g} times"]
        ),
        *_about_ligands(config),
        f"validation: {num_validation} records",
        f"compute type: {config.encoder.dtype}",
        f"learning: {learn:,} of {learn + rest:,} parameters; mode of the pLM: {config.encoder.plm.learning.mode}",
        "parameters:",
        parameter_table(params),
    ]
    _LOGGER.info("\n%s", "\n".join(lines))


def _about_ligands(config: ExperimentConfig) -> list[str]:
    """A line on the ligands that the records hold and on those that the model sees; none where there are neither."""
    atoms = read_metadata(config.data.records)["splits"]["train"].get("ligand_atoms", 0)  # none before schema 3
    seen = config.encoder.structure.ligands
    if not atoms and not seen:
        return []
    sees = "sees them" if seen else "does not see them: set encoder.structure.ligands"
    return [f"ligands: {atoms:,} atoms in the training records; the model {sees}"]


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into a question that the loop asks between steps."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set  # signals reach the main thread only; whoever runs it decides there
        return
    old = {s: signal.signal(s, lambda *_: requested.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requested.is_set
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
