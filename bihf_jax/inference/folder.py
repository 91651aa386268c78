"""Many structures at once: what becomes of each is told, and what is finished is not done again."""

import csv
import dataclasses
import functools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bihf_jax.configuration import differences
from bihf_jax.inference import pages
from bihf_jax.inference.embedding_file import EmbeddingFile
from bihf_jax.inference.inputs import InputError, Target
from bihf_jax.inference.outputs import read_about, remove_results, result_paths, whole_file, write_prediction
from bihf_jax.inference.prediction import Prediction, import_pyarrow
from bihf_jax.inference.predictor import Predictor
from bihf_jax.inference.programs import Wanted
from bihf_jax.tasks.predictions import escape_cell
from bihf_jax.version import __version__

SUMMARY_FILE, INDEX_FILE = "summary.csv", "index.html"
NOTHING_MORE = Wanted()
_MOST_UNWRITTEN = 32  # predictions that wait in memory for their files
_GIVES_WAY = 3  # how much nicer than the rest of the process the writing is
_SUMMARY_COLUMNS = (
    *("name", "file", "status", "residues", "without_structure", "chains"),
    *("highest_value", "value", "value_low", "value_high"),  # where the task is of proteins
    *("mean_score", "highest_score", "highest_residue", "message"),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one structure."""

    target: Target
    status: str  # "written", "kept" (finished before) or "failed"
    message: str = ""  # why it failed, or what of it could not be written
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of a prediction: what its NAME.json holds


def predict_files(
    predictor: Predictor,
    targets: Sequence[Target],
    output: Path,
    *,
    wanted: Wanted = NOTHING_MORE,
    html: bool = True,
    parquet: bool = False,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Predicts structures and writes the files of each (`outputs.write_prediction`) as soon as it is done.

    The files are written by a thread of its own, which leaves the processor to the model.

    Args:
      predictor: the model.
      targets: of `inputs.find_targets`.
      output: folder for the files.
      wanted: what to write beside the scores.
      html: also write a page of each.
      parquet: also write the table of each as Parquet.
      overwrite: do again what is finished.

    Returns:
      An outcome for each target: those finished before, then the others as they come, which depends on them alone.

    Raises:
      InputError: before anything is done: a file would replace an input, or the folder holds predictions that were
        made in another way, and `overwrite` is not set; or pyarrow is missing.
    """
    run = {**_made_by(predictor), "task": predictor.task.name, **wanted._asdict(), "html": html, "parquet": parquet}
    if parquet:
        _require_pyarrow()
    _refuse_replacing(targets, output)
    finished = {} if overwrite else _finished(targets, output, run)
    waiting = [target for target in targets if target.name not in finished]
    results = predictor.predict_as_ready((target.read for target in waiting), **wanted._asdict(), on_error="return")

    def outcomes() -> Iterator[Outcome]:
        for target in targets:
            if target.name in finished:
                yield _outcome(target, "kept", finished[target.name])
        write = functools.partial(_write, output=output, run=run, html=html, parquet=parquet)
        yield from _in_background(write, ((waiting[number], result) for number, result in results))

    return outcomes()


def _write(
    target: Target, result: Prediction | Exception, *, output: Path, run: Mapping[str, Any], html: bool, parquet: bool
) -> Outcome:
    """Writes what there is of one structure."""
    if isinstance(result, Exception):
        remove_results(output, target.name)  # of an earlier run
        return Outcome(target, "failed", _text(result))
    about = write_prediction(result, output, target.name, run, html=html, parquet=parquet)
    return _outcome(target, "written", about)


def _in_background(work: Callable[..., Outcome], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Outcome]:
    """`work` of each, in order, done by a thread while the next arguments come; what fails there is raised here.

    Whoever stops taking outcomes gets no more work done than what has begun.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="write", initializer=_give_way)
    under_way: deque[Future[Outcome]] = deque()
    try:
        for each in arguments:
            under_way.append(thread.submit(work, *each))
            while under_way and (under_way[0].done() or len(under_way) > _MOST_UNWRITTEN):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def _give_way() -> None:
    """Lets the other threads of the process go first: where a model computes on all cores, each of its steps waits for
    the slowest core. Linux alone has a priority for each thread."""
    if sys.platform == "linux":
        os.nice(_GIVES_WAY)


def embed_files(
    predictor: Predictor,
    targets: Sequence[Target],
    output: Path,
    *,
    of: str = "fused",
    stage: int | None = None,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Embeds structures into one file (`embedding_file`), which is written when all are done.

    Args:
      predictor: the model.
      targets: of `inputs.find_targets`.
      output: the file, .h5 or .npz. Entries of other structures in it stay.
      of: see `Predictor.embed`.
      stage: see `Predictor.embed`.
      overwrite: begin the file anew.

    Returns:
      An outcome for each target, as of `predict_files`.

    Raises:
      EmbeddingFileError: before anything is done: the file cannot be written, or holds embeddings that were made in
        another way.
      MissingFeaturesError: the model has no such features.
    """
    run = {**_made_by(predictor), "of": of, "stage": stage}
    predictor.check_features(of, stage)
    file = EmbeddingFile(output, run, overwrite=overwrite)
    waiting = [target for target in targets if target.name not in file]
    results = predictor.embed_many((target.read for target in waiting), of=of, stage=stage, on_error="return")

    def outcomes() -> Iterator[Outcome]:
        yield from (Outcome(target, "kept") for target in targets if target not in waiting)
        for target, result in zip(waiting, results, strict=True):
            if isinstance(result, Exception):
                yield Outcome(target, "failed", _text(result))
            else:
                file.add(target.name, result)
                yield Outcome(target, "written")
        file.close()

    return outcomes()


def write_summary(outcomes: Iterable[Outcome], output: Path) -> Path:
    """Writes `OUTPUT/summary.csv`, a line for each structure in the order of their names; returns its path."""
    output.mkdir(parents=True, exist_ok=True)
    with whole_file(output / SUMMARY_FILE) as path, open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_SUMMARY_COLUMNS)
        for outcome in _by_name(outcomes):
            cells = _summary(outcome)
            writer.writerow([escape_cell(str(cells.get(column, ""))) for column in _SUMMARY_COLUMNS])
    return output / SUMMARY_FILE


def _summary(outcome: Outcome) -> dict[str, Any]:
    cells = {"name": outcome.target.name, "file": outcome.target.path, "status": outcome.status}
    cells["message"] = outcome.message
    if about := outcome.about:
        cells |= {name: about[name] for name in ("residues", "without_structure")}
        cells |= {name: f"{about[name]:.9g}" for name in ("mean_score", "highest_score")}
        if best := about["highest_value"]:
            numbers = {name: about[name][best] for name in ("value", "value_low", "value_high") if about[name]}
            cells |= {"highest_value": best, **{name: f"{number:.9g}" for name, number in numbers.items()}}
        chain, number, code = about["highest_residue"]
        cells |= {"chains": "+".join(about["chains"]), "highest_residue": f"{chain}:{number}{code}"}
    return cells


def write_index(outcomes: Iterable[Outcome], output: Path, model: str) -> Path:
    """Writes `OUTPUT/index.html`, the list of the pages and of what failed; returns its path.

    Args:
      outcomes: of `predict_files`.
      output: folder of the results.
      model: one line on what made the scores.
    """
    listed = [(outcome.target.name, outcome.about, outcome.message) for outcome in _by_name(outcomes) if outcome.about]
    failed = [(str(outcome.target.path), outcome.message) for outcome in _by_name(outcomes) if not outcome.about]
    with whole_file(output / INDEX_FILE) as path:
        path.write_text(pages.index_page(output.resolve().name, listed, failed, model), encoding="utf-8")
    return output / INDEX_FILE


def _by_name(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: (outcome.target.name, str(outcome.target.path)))


def _made_by(predictor: Predictor) -> dict[str, Any]:
    steps = [member.step for member in predictor.members]
    return {"model": predictor.fingerprint, "steps": steps, "bihf_jax": __version__}


def _outcome(target: Target, status: str, about: Mapping[str, Any]) -> Outcome:
    message = "; ".join(f"no {ending}: {why}" for ending, why in about["not_written"].items())
    return Outcome(target, status, message, about)


def _text(error: Exception) -> str:
    """The message, with the kind of error where it is none that speaks for itself."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _finished(targets: Sequence[Target], output: Path, run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> what its NAME.json holds, for the targets that have one."""
    found = {target.name: about for target in targets if (about := read_about(output, target.name)) is not None}
    for name, about in found.items():
        if changes := [f"{key} was {old!r}, is {new!r}" for key, old, new in differences(about["run"], run)]:
            raise InputError(
                f"{output} holds predictions that were made in another way ({name}: {'; '.join(changes)}); give "
                "another --output, or --overwrite"
            )
    return found


def _require_pyarrow() -> None:
    try:
        import_pyarrow()
    except ImportError as error:
        raise InputError(f"{error}; or leave out --parquet: the CSV holds the same") from error


def _refuse_replacing(targets: Sequence[Target], output: Path) -> None:
    inputs = {target.path.resolve() for target in targets}
    for target in targets:
        for path in result_paths(output, target.name):
            if path.resolve() in inputs:
                raise InputError(f"{path} would be written, but is an input itself; give another --output")
