"""Scores a trained model: `python -m experiments.evaluate --workdir=DIR`.

Restores the best checkpoint and scores each split in the metrics of the task, beside two trivial baselines on the same
residues or proteins (`tasks.task_baselines`). Prints the table; writes `scores.json`, `scores.md`, the predictions of
each split as CSV (as Parquet, too, where pyarrow is installed) and PNG pictures into the run's folder. Several hosts
share the scoring: docs/multihost.md.
"""

import dataclasses
import importlib.util
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from bihf_jax.configuration import ConfigError
from bihf_jax.data.records import RecordError, RecordSet
from bihf_jax.pretrained import PretrainedError
from bihf_jax.tasks import (
    MaskedLanguageModelling,
    Task,
    check_labels,
    metrics,
    mlm_report,
    plots,
    report,
    task_baselines,
    task_report,
)
from bihf_jax.tasks.labelled import Labelled
from bihf_jax.tasks.mlm import count_amino_acids, token_frequencies
from bihf_jax.tasks.reports import report_of
from bihf_jax.tasks.tables import Table, table_of, write_parquet
from bihf_jax.training import hosts
from bihf_jax.training.checkpoints import CheckpointError
from bihf_jax.training.evaluation import TrainedModel
from bihf_jax.training.run_log import read_rows
from experiments import imports, logs, multihost

HELD_OUT = ("validation", "test")
_LOGGER = logging.getLogger("bihf_jax.evaluate")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run", required=True)
_SPLITS = flags.DEFINE_list("splits", None, "Splits to score; if not given all, for task mlm those held out")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint")
_RECORDS = flags.DEFINE_string("records", None, "Folder of the records, if not where the config says")
_CONTROLS = flags.DEFINE_list("controls", [], "Folders of runs with shuffled labels, scored on the same splits")


def evaluate(
    workdir: Path,
    splits: Sequence[str] | None = None,
    *,
    checkpoint: str = "best",
    records: str | None = None,
    controls: Sequence[Path] = (),
) -> dict:
    """Scores the run in `workdir` and writes its files there; of several hosts, the first one writes.

    Args:
      workdir: of the run.
      splits: to score; MCC needs the validation split among them for its threshold. None: all three, of a `mlm` run
        those held out.
      checkpoint: "best" or "last".
      records: folder of the records, if not where the run's config says.
      controls: folders of runs with shuffled labels. Their last checkpoint is scored, as the best one was picked by
        real labels.

    Returns:
      What `scores.json` holds, on every host.

    Raises:
      HostsDifferError: the hosts have different runs, checkpoints or records.
    """
    model = TrainedModel.load(workdir, which=checkpoint)
    records = records or model.config.data.records
    _LOGGER.info("%s checkpoint of step %d; records %s", checkpoint, model.step, records)
    contestants = {"model": model}
    for number, control in enumerate(controls, start=1):
        contestants["control" if number == 1 else f"control_{number}"] = TrainedModel.load(control, which="last")
    task = model.config.make_task()
    is_mlm = isinstance(task, MaskedLanguageModelling)
    if is_mlm and controls:
        raise ConfigError("a run of task mlm has no labels to shuffle, so it has no controls; leave --controls out")
    splits = splits or (HELD_OUT if is_mlm else ("train", *HELD_OUT))
    sets = {split: RecordSet(records, split) for split in dict.fromkeys(["train", *splits])}
    check_labels(task, sets["train"].labels, records)
    hosts.agree(
        "runs, checkpoints and records",
        {
            "config": {name: dataclasses.asdict(m.config) for name, m in contestants.items()},
            "checkpoint": {name: m.step for name, m in contestants.items()},
            "records": {split: examples.fingerprint for split, examples in sets.items()},
        },
    )
    run = {
        "workdir": str(workdir),
        "checkpoint": checkpoint,
        "step": model.step,
        "records": str(records),
        "parameters": model.num_parameters,
        "training_seconds": sum(row["seconds"] for row in read_rows(workdir) if row["kind"] == "train"),
    }
    if is_mlm:
        scores = _score_mlm(model, sets, splits) | {"run": run}
        if hosts.this_host().index == 0:
            _write_scores(workdir, scores, task.selection_metric)
        return scores
    fitted = task_baselines.fit_baselines(task, sets["train"])

    predictions: dict[str, dict[str, Table]] = {}
    for split in splits:
        examples = sets[split]
        predictions[split] = {name: table_of(task, examples, m.score(examples)) for name, m in contestants.items()}
        for name, baseline in fitted.items():
            scored = [baseline.score(example) for example in examples]
            predictions[split][name] = table_of(task, examples, scored)
    scores = report.build_scores(predictions) if _is_binary(task) else task_report.build_scores(task, predictions)
    scores["run"] = run
    if hosts.this_host().index == 0:
        _write(workdir, task, scores, predictions)
    return scores


def _is_binary(task: Task) -> bool:
    """Binary residues have a report of their own, with the threshold of a call."""
    return task.unit == "residue" and task.type == "binary"


def _score_mlm(model: TrainedModel, sets: dict[str, RecordSet], splits: Sequence[str]) -> dict:
    frequencies = token_frequencies(count_amino_acids(sets["train"]))
    sums = {split: model.sums(sets[split]) for split in splits}
    return mlm_report.build_scores(sums, {split: sets[split].groups for split in splits}, frequencies)


def _write_scores(workdir: Path, scores: dict, selection_metric: str) -> None:
    """The numbers, their table and the course of the training."""
    report.write_scores(scores, workdir / "scores.json")
    (workdir / "scores.md").write_text(report_of(scores).markdown_table(scores) + "\n", encoding="utf-8")
    rows = read_rows(workdir)
    plots.plot_loss_curves(rows, workdir / "loss_curves.png", title=workdir.name, metric=selection_metric)


def _write(workdir: Path, task: Task, scores: dict, predictions: dict[str, dict[str, Table]]) -> None:
    _write_scores(workdir, scores, task.selection_metric)
    with_parquet = importlib.util.find_spec("pyarrow") is not None
    if not with_parquet:
        _LOGGER.info("predictions as CSV only; Parquet needs pyarrow: pip install 'bihf_jax[parquet]'")
    for split, contestants in predictions.items():
        contestants["model"].write_csv(workdir / f"predictions_{split}.csv")
        if with_parquet:
            write_parquet(contestants["model"], workdir / f"predictions_{split}.parquet")
        _draw(workdir, task, split, {name: table.labelled() for name, table in contestants.items()})


def _draw(workdir: Path, task: Task, split: str, contestants: dict[str, Labelled]) -> None:
    """The pictures of one split that go with the type of its labels."""
    labels, scores, _, groups = contestants["model"]
    title = f"{split} split"
    if not len(labels):
        _LOGGER.warning("no picture of the %s split: it has no label", split)
    elif task.type == "multiclass":
        plots.plot_confusion(labels, scores, task.label_names, workdir / f"confusion_{split}.png", title)
        right = scores.argmax(axis=1) == labels
        plots.plot_calibration(scores.max(axis=1), right, workdir / f"calibration_{split}.png", title)
    elif task.type == "regression":
        first = [values if values.ndim == 1 else values[:, 0] for values in (labels, scores)]
        plots.plot_scatter(*first, groups, task.label_names[0], workdir / f"scatter_{split}.png", title)
    else:
        # One control is enough. Of several classes, every pair of protein and class is a point of the curve.
        drawn = {name: _flat(of) for name, of in contestants.items() if not name.startswith("control_")}
        if reason := metrics.undefined_reason(drawn["model"].labels, drawn["model"].weights):
            _LOGGER.warning("no curves of the %s split: %s", split, reason)
            return
        plots.plot_precision_recall(drawn, workdir / f"pr_curve_{split}.png", title)
        plots.plot_roc(drawn, workdir / f"roc_curve_{split}.png", title)
        model, names = drawn["model"], ("score", "share that is positive")
        plots.plot_calibration(model.scores, model.labels > 0.5, workdir / f"calibration_{split}.png", title, names)


def _flat(labelled: Labelled) -> Labelled:
    """Several classes as one."""
    size = labelled.labels.size // len(labelled.weights) if len(labelled.weights) else 1
    return Labelled(labelled.labels.ravel(), labelled.scores.ravel(), *(np.repeat(x, size) for x in labelled[2:]))


def main(argv: list[str]) -> None:
    """Parses flags and evaluates."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    multihost.run(_evaluate, Path(_WORKDIR.value))


def _evaluate() -> int:
    """The exit status."""
    workdir = Path(_WORKDIR.value)
    try:
        imports.load()
        scores = evaluate(
            workdir,
            _SPLITS.value,
            checkpoint=_CHECKPOINT.value,
            records=_RECORDS.value,
            controls=[Path(folder) for folder in _CONTROLS.value],
        )
    except (ConfigError, PretrainedError, RecordError, CheckpointError, json.JSONDecodeError) as error:
        return multihost.fail(error)
    if hosts.this_host().index == 0:
        print(report_of(scores).score_table(scores))
        print(f"\nwritten to {workdir}: scores.json, scores.md, pictures and, but for task mlm, predictions_*.csv")
    return 0


if __name__ == "__main__":
    logs.show_progress()
    app.run(main)
