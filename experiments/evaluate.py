"""Scores a trained model: `python -m experiments.evaluate --workdir=DIR`.

Restores the best checkpoint and scores each split, beside two trivial baselines on the same residues: the positive
rate and a logistic regression on residue type and burial. Prints the table; writes `scores.json`, `scores.md`, a CSV of
predictions a split, and PNG pictures into the run's folder. A run of the task `mlm` has perplexity and recovery
instead, beside the unigram baseline, and no predictions. Several hosts share the scoring: docs/multihost.md.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from absl import app, flags

from bihf_jax.configuration import ConfigError
from bihf_jax.data.records import RecordError, RecordSet
from bihf_jax.pretrained import PretrainedError
from bihf_jax.tasks import MaskedLanguageModelling, baselines, metrics, mlm_report, plots, report
from bihf_jax.tasks.mlm import count_amino_acids, token_frequencies
from bihf_jax.tasks.predictions import Predictions, from_examples
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
    is_mlm = isinstance(model.config.make_task(), MaskedLanguageModelling)
    if is_mlm and controls:
        raise ConfigError("a run of task mlm has no labels to shuffle, so it has no controls; leave --controls out")
    splits = splits or (HELD_OUT if is_mlm else ("train", *HELD_OUT))
    sets = {split: RecordSet(records, split) for split in dict.fromkeys(["train", *splits])}
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
            _write_scores(workdir, scores, mlm_report)
        return scores
    fitted = baselines.fit_baselines(sets["train"])

    predictions: dict[str, dict[str, Predictions]] = {}
    for split in splits:
        examples = sets[split]
        predictions[split] = {name: from_examples(examples, m.score(examples)) for name, m in contestants.items()}
        for name, baseline in fitted.items():
            predictions[split][name] = from_examples(examples, baselines.score_examples(baseline, examples))
    scores = report.build_scores(predictions) | {"run": run}
    if hosts.this_host().index == 0:
        _write(workdir, scores, predictions)
    return scores


def _score_mlm(model: TrainedModel, sets: dict[str, RecordSet], splits: Sequence[str]) -> dict:
    frequencies = token_frequencies(count_amino_acids(sets["train"]))
    sums = {split: model.sums(sets[split]) for split in splits}
    return mlm_report.build_scores(sums, {split: sets[split].groups for split in splits}, frequencies)


def _write_scores(workdir: Path, scores: dict, of_task: ModuleType) -> None:
    """The numbers and their table, made by the report module of the task."""
    report.write_scores(scores, workdir / "scores.json")
    (workdir / "scores.md").write_text(of_task.markdown_table(scores) + "\n", encoding="utf-8")
    plots.plot_loss_curves(read_rows(workdir), workdir / "loss_curves.png", title=workdir.name)


def _write(workdir: Path, scores: dict, predictions: dict[str, dict[str, Predictions]]) -> None:
    _write_scores(workdir, scores, report)
    for split, contestants in predictions.items():
        contestants["model"].write_csv(workdir / f"predictions_{split}.csv")
        labelled = contestants["model"].labelled()
        if reason := metrics.undefined_reason(labelled.labels, labelled.weights):
            _LOGGER.warning("no precision-recall curve of the %s split: %s", split, reason)
            continue
        drawn = {name: p for name, p in contestants.items() if not name.startswith("control_")}  # one control is enough
        plots.plot_precision_recall(drawn, workdir / f"pr_curve_{split}.png", title=f"{split} split")


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
        is_mlm = scores.get("task") == MaskedLanguageModelling.name
        print((mlm_report if is_mlm else report).score_table(scores))
        more = "" if is_mlm else ", predictions_*.csv, pr_curve_*.png"
        print(f"\nwritten to {workdir}: scores.json, scores.md, loss_curves.png{more}")
    return 0


if __name__ == "__main__":
    logs.show_progress()
    app.run(main)
