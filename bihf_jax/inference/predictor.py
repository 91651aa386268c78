"""`Predictor`: a trained model, or several, that take structures."""

import dataclasses
import functools
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import numpy as np

from bihf_jax.configuration import ConfigError
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import Example
from bihf_jax.data.featurise import make_example, residue_slots
from bihf_jax.data.grid import make_grid, split_over_devices, values_by_protein, values_by_record
from bihf_jax.data.ligand import Ligand
from bihf_jax.data.plan import GridShape, plan_once
from bihf_jax.inference import interval
from bihf_jax.inference.compilation_cache import use_compilation_cache
from bihf_jax.inference.embedding import Embedding, MissingFeaturesError
from bihf_jax.inference.ligands import LigandNeeds, LigandSource, bind
from bihf_jax.inference.prediction import Prediction
from bihf_jax.inference.programs import VALUE, Programs, Wanted
from bihf_jax.inference.residues import has_structure
from bihf_jax.inference.threshold import validation_threshold
from bihf_jax.protein import Protein
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import ExperimentConfig
from bihf_jax.training.provenance import training_data, training_pocket
from bihf_jax.training.restore import RestoredModel, load_model


class WithLigand(NamedTuple):
    """A structure and the ligand of it that the model sees."""

    structure: Protein | str | os.PathLike[str]
    ligand: LigandSource  # see `ligands.LigandSource`


# A protein, the path or the text of its file, one of these with a ligand, or a function that gives it, which is called
# when its turn comes.
Structure = Protein | str | os.PathLike[str] | WithLigand | Callable[[], Protein | WithLigand]
OnError = Literal["raise", "return"]
T = TypeVar("T")
# What a model computes of a batch: arrays [R, L, *] by name; `VALUE` is of graph slots, [R, G, *].
Run = Callable[[ProteinBatch], dict[str, jax.Array]]
# The same of one protein, [slots, *] or `VALUE` [*], an entry for each model.
Values = list[dict[str, np.ndarray]]

MAX_SLOTS = 16_384  # of a protein, unless `Predictor` is told otherwise
_ROWS_ON_ACCELERATORS = 8  # a CPU is busy with one row
_SHORTER_ROWS = 3  # lengths for a few proteins: the longest row of training, its half and its quarter
_WINDOW_ROWS = 32  # planned together at least: proteins of many lengths fill the rows well, and no memory runs out
_WINDOW_STEPS = 8
_FIRST_WINDOW_ROWS = 8  # enough to keep a CPU busy while the second window is read
_AHEAD = 8  # batches that the devices have to work on; the CPU's own queue is full at 32, and who adds waits
_FEWEST_SLOTS = 4  # of a row


class ProteinTooLongError(ValueError):
    """A protein of more slots than the predictor takes."""


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A structure in the form that the model takes."""

    protein: Protein
    ligand: Ligand | None
    example: Example


@dataclasses.dataclass
class _Window:
    """Structures that are planned together, by their number: those that are ready, and what is wrong with others."""

    ready: dict[int, _Ready] = dataclasses.field(default_factory=dict)
    errors: dict[int, Exception] = dataclasses.field(default_factory=dict)


class _UnderWay(NamedTuple):
    """A batch that the devices have, its structures by their number, and what each model will have computed."""

    batch: ProteinBatch
    ready: dict[int, _Ready]
    outputs: list[dict[str, jax.Array]] | Exception  # or what went wrong


@dataclasses.dataclass
class Member:
    """One trained model of a predictor."""

    config: ExperimentConfig  # of its run
    step: int  # of its checkpoint
    about: Mapping[str, Any]  # what the checkpoint says of itself: version, alphabet, config, best score
    threshold: float | None  # chosen on the run's validation split, where it was evaluated
    params: Any  # a copy on each local device
    programs: Programs

    @property
    def fingerprint(self) -> str:
        """Short digest of the run's config, the step and its validation score: other for another model."""
        named = {name: self.about.get(name) for name in ("config", "best_score")}
        return _digest([named, self.step])

    @property
    def description(self) -> str:
        """For people: "local fusion, step 700"."""
        return f"{self.config.encoder.fusion.kind} fusion, step {self.step}"


class Predictor:
    """Trained models that take structures and give predictions and embeddings, the same in any company.

    One model as a rule; the scores of several of one task are averaged (an ensemble).

    Proteins are packed into rows of a few lengths, so that a folder of any lengths compiles few programs: one for rows
    as long as in training, one for each doubling of that which a longer protein needs, and shorter ones for what fits
    into a single shorter row. All local devices share the rows.

    Attributes:
      members: the models. The first one's config says the lengths of the rows.
      task: what the scores are of.
      ligand_needs: what a structure has to come with.
    """

    def __init__(
        self,
        restored: Sequence[RestoredModel],
        thresholds: Sequence[float | None] = (),
        pockets: Sequence[float | None] = (),
        *,
        max_slots: int = MAX_SLOTS,
        rows: int | None = None,
    ):
        """Puts the parameters on the local devices; see `load`."""
        for name, value in (("max_slots", max_slots), ("rows", rows)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        self.members = _members(restored, thresholds or [None] * len(restored))
        self.task = self.members[0].programs.task
        atoms = [member.config.encoder.structure.ligands for member in self.members]
        self.ligand_needs = LigandNeeds.of_models(atoms, pockets or [None] * len(self.members))
        self.max_slots = max_slots
        self._devices = jax.local_device_count()
        self._rows = rows or (1 if jax.default_backend() == "cpu" else _ROWS_ON_ACCELERATORS)

    @classmethod
    def load(
        cls,
        path: str | Path | Sequence[str | Path],
        *,
        which: str = "best",
        max_slots: int = MAX_SLOTS,
        rows: int | None = None,
        compilation_cache: bool = True,
    ) -> "Predictor":
        """Reads a model from the folder of its run, the --workdir of `experiments.train`, or of its export.

        Args:
          path: of the folder; an export must be in a form that loads here (safetensors, orbax). Or of several models of
            one task, whose scores are averaged.
          which: checkpoint, "best" or "last".
          max_slots: of a protein (its residues, and two a chain); time and memory grow with it.
          rows: that a device takes at a time, each as long as the longest in training; None: 1 on a CPU, else 8.
          compilation_cache: keep compiled programs on disk (`compilation_cache.use_compilation_cache`), and the shapes
            of parameters.

        Raises:
          ConfigError: no run or exported model there, a config that this version cannot read, or models of several
            tasks or of pockets of several sizes.
          CheckpointError: no checkpoint, a part of it missing or damaged, or of another model or alphabet.
        """
        cache = use_compilation_cache() if compilation_cache else None
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        restored = [load_model(each, which=which, shapes_folder=cache) for each in paths]
        thresholds = [validation_threshold(each, found.step) for each, found in zip(paths, restored, strict=True)]
        pockets = [
            training_pocket(training_data(*each)) for each in zip(paths, (m.about for m in restored), strict=True)
        ]
        return cls(restored, thresholds, pockets, max_slots=max_slots, rows=rows)

    @property
    def fingerprint(self) -> str:
        """Short digest of the models: other for another model, or another set of them."""
        digests = [member.fingerprint for member in self.members]
        return digests[0] if len(digests) == 1 else _digest(digests)

    @property
    def description(self) -> str:
        """One line for people: "ppbs, local fusion, step 700"."""
        parts = [member.description for member in self.members]
        models = parts[0] if len(parts) == 1 else f"mean of {len(parts)} models: {'; '.join(parts)}"
        return f"{self.task.name}, {models}"

    @property
    def threshold(self) -> float | None:
        """The threshold chosen on the validation split, of several models the mean; None where one has none."""
        thresholds = [member.threshold for member in self.members]
        return None if None in thresholds else float(np.mean(thresholds))

    @property
    def has_attribution(self) -> bool:
        """Whether it can say how much each residue mattered: every model has a sequence side."""
        return all("sequence" in member.config.encoder.sides for member in self.members)

    @property
    def compiles(self) -> int:
        """Programs compiled so far."""
        return sum(programs.compiles for programs in {id(m.programs): m.programs for m in self.members}.values())

    def predict(
        self,
        structure: Structure,
        *,
        ligand: LigandSource | None = None,
        fusion_values: bool = False,
        attribution: bool = False,
        dropout_samples: int = 0,
    ) -> Prediction:
        """Scores one structure.

        Args:
          structure: a `Protein`, the path of a file, or the text of one. All its chains are one protein to the model.
          ligand: where the model was trained on proteins with one (`lba`): the path of a .sdf, .mol2 or .pdbqt file in
            the frame of the structure, the name of a ligand in the structure file itself ("STI", "STI:A:201"), or a
            `Ligand`. A model trained on pockets gets the residues near it, as in training.
          fusion_values: also what fusion did at each residue (`fusion_values.fusion_values`).
          attribution: also how much each residue mattered (`attribution.gradient_times_embedding`).
          dropout_samples: draw what is random in training so many times; the score is the mean of the draws and has an
            interval (`interval.summarise`). 0: no draws.

        Several models have an interval over their scores too; what fusion did, and which residues mattered, are means
        over them.

        Raises:
          StructureError: a file that cannot be read.
          MoleculeError: nor can the ligand.
          LigandError: a ligand is missing, or is not for this model or structure.
          ProteinTooLongError: more slots than `max_slots`.
          MissingFeaturesError: the model has nothing of the kind that is asked for.
          ConfigError: a number of samples that gives no interval.
        """
        wanted = Wanted(fusion_values, attribution, dropout_samples)
        return next(self.predict_many([_with_ligand(structure, ligand)], **wanted._asdict()))

    def predict_many(
        self,
        structures: Iterable[Structure],
        *,
        fusion_values: bool = False,
        attribution: bool = False,
        dropout_samples: int = 0,
        on_error: OnError = "raise",
    ) -> Iterator[Prediction | Exception]:
        """Scores structures, packed together; reads ahead.

        Args:
          structures: of any number; also functions that return a `Protein`, and each `WithLigand` where the model needs
            one.
          fusion_values: as in `predict`.
          attribution: as in `predict`.
          dropout_samples: as in `predict`.
          on_error: "raise", or "return" to give the exception in place of the prediction and go on.

        Returns:
          One result for each structure, in their order.
        """
        wanted = Wanted(fusion_values, attribution, dropout_samples)
        return _in_order(self.predict_as_ready(structures, **wanted._asdict(), on_error=on_error))

    def predict_as_ready(
        self,
        structures: Iterable[Structure],
        *,
        fusion_values: bool = False,
        attribution: bool = False,
        dropout_samples: int = 0,
        on_error: OnError = "raise",
    ) -> Iterator[tuple[int, Prediction | Exception]]:
        """The results of `predict_many` as soon as they are there, each with the number of its structure, from 0.

        Which comes first depends on the structures alone: those that were packed together come together.
        """
        if fusion_values and len({_exchanges(member) for member in self.members}) > 1:
            found = "; ".join(member.description for member in self.members)
            raise MissingFeaturesError(f"no fusion values: the models exchange in different ways ({found})")
        wanted = Wanted(fusion_values, attribution, dropout_samples)
        runs = [functools.partial(member.programs.scores(wanted), member.params) for member in self.members]

        def finish(ready: _Ready, values: Values) -> Prediction:
            slots = residue_slots(ready.protein)
            found = {name: [of_model[name] for of_model in values] for name in values[0]}
            samples = np.concatenate(found.pop("score"), axis=-1)[slots]  # [N, S]
            score, low, high = interval.summarise(samples)
            value = np.concatenate(found.pop(VALUE), axis=-1) if VALUE in found else np.zeros((0, 1))  # [V, S]
            # Of several models the means.
            columns = {name: np.mean(column, axis=0, dtype=np.float64)[slots] for name, column in found.items()}
            columns = {name: column.astype(np.float32) for name, column in columns.items()}
            return Prediction(
                ready.protein,
                self.task.name,
                self.task.label_names,
                score,
                low=low,
                high=high,
                **self._named(interval.summarise(value)),
                interval=interval.describe(len(values), dropout_samples),
                attribution=columns.pop("attribution", None),
                fusion_values=columns,
                threshold=self.threshold,
                model=self.description,
                ligand=ready.ligand,
            )

        return self._as_ready(structures, runs, finish, on_error, one_a_row=dropout_samples > 0)

    def embed(
        self,
        structure: Structure,
        *,
        ligand: LigandSource | None = None,
        of: str = "fused",
        stage: int | None = None,
    ) -> Embedding:
        """The features of one structure's residues.

        Args:
          structure: as in `predict`.
          ligand: as in `predict`.
          of: "sequence", "structure" or "fused".
          stage: a stage, from 1; None: what the encoder returns. See `embedding.choose_features`.

        Raises:
          MissingFeaturesError: the model has no such features, or there are several models; and as `predict`.
        """
        return next(self.embed_many([_with_ligand(structure, ligand)], of=of, stage=stage))

    def embed_many(
        self,
        structures: Iterable[Structure],
        *,
        of: str = "fused",
        stage: int | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[Embedding | Exception]:
        """The features of structures, packed together; in their order, see `predict_many` and `embed`."""
        self.check_features(of, stage)
        (member,) = self.members

        def finish(ready: _Ready, values: Values) -> Embedding:
            features = values[0]["features"][residue_slots(ready.protein)]
            mask = has_structure(ready.protein) if of == "structure" else np.ones(len(features), bool)
            return Embedding(ready.protein, of, stage, np.where(mask[:, None], features, 0), mask)

        run = functools.partial(member.programs.features(of, stage), member.params)
        return _in_order(self._as_ready(structures, [run], finish, on_error))

    def check_features(self, of: str, stage: int | None) -> None:
        """Raises MissingFeaturesError where the model has no such features, see `embed`; lists those that it has."""
        if len(self.members) > 1:
            raise MissingFeaturesError(
                f"no features: those of {len(self.members)} models have no axes in common; load one of them"
            )
        (member,) = self.members
        member.programs.check_features(member.params, of, stage)

    def _named(self, value: interval.Estimate) -> dict[str, dict[str, float]]:
        """Fields of `Prediction` for the values of a protein, [V] each; empty where the task is of residues."""
        ends = {"value": value.mean, "value_low": value.low, "value_high": value.high}
        return {
            field: dict(zip(self.task.score_names, numbers.tolist(), strict=True))
            for field, numbers in ends.items()
            if numbers is not None and len(numbers)
        }

    # -----------------------------------------------------------------------------------------------------------------
    # Structures -> batches -> results
    # -----------------------------------------------------------------------------------------------------------------

    def _as_ready(
        self,
        structures: Iterable[Structure],
        runs: Sequence[Run],
        finish: Callable[[_Ready, Values], T],
        on_error: OnError,
        *,
        one_a_row: bool = False,
    ) -> Iterator[tuple[int, T | Exception]]:
        """The number of each structure, and what `finish` makes of it and of what every run gives at its slots.

        They come batch after batch, and errors of reading as soon as they are known. The devices have `_AHEAD` batches
        to work on while the next structures are read, and while who takes the results writes them down.
        """
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {on_error!r}; allowed: raise, return")
        under_way: deque[_UnderWay] = deque()
        for window in self._windows(structures, on_error):
            yield from window.errors.items()
            for batch in self._batches(window.ready, one_a_row):
                under_way.append(_start(batch, window.ready, runs))
                if len(under_way) > _AHEAD:
                    yield from _finished(under_way.popleft(), finish, on_error)
        while under_way:
            yield from _finished(under_way.popleft(), finish, on_error)

    def _windows(self, structures: Iterable[Structure], on_error: OnError) -> Iterator[_Window]:
        """The structures, made ready, in groups that are planned together; a small one first, so that work begins."""
        grid = self._grid_shape()
        rows_of_step = grid.rows[grid.max_length]
        most = max(_WINDOW_ROWS, _WINDOW_STEPS * rows_of_step)
        rows = max(_FIRST_WINDOW_ROWS, rows_of_step)
        window, slots = _Window(), 0
        for number, structure in enumerate(structures):
            try:
                window.ready[number] = self._make_ready(structure)
                slots += window.ready[number].example.num_slots
            except Exception as error:
                if on_error == "raise":
                    raise
                window.errors[number] = error
            if slots >= rows * grid.max_length:
                yield window
                window, slots, rows = _Window(), 0, most
        yield window

    def _make_ready(self, structure: Structure) -> _Ready:
        structure = structure() if callable(structure) else structure
        structure, source = structure if isinstance(structure, WithLigand) else (structure, None)
        protein, ligand = bind(_as_protein(structure), source, self.ligand_needs)
        atoms = 0 if ligand is None else ligand.num_atoms
        slots = protein.num_residues + 2 * len(protein.chain_ids) + atoms
        if slots > self.max_slots:
            of_ligand = f" and {atoms:,} atoms of a ligand" if atoms else ""
            raise ProteinTooLongError(
                f"{protein.source}: {protein.num_residues:,} residues in {len(protein.chain_ids)} chains{of_ligand} "
                f"need {slots:,} slots; at most {self.max_slots:,} are taken. Choose chains, or raise max_slots if "
                "there is memory for it"
            )
        return _Ready(protein, ligand, make_example(protein, id=protein.source, group=protein.source, ligand=ligand))

    def _batches(self, ready: Mapping[int, _Ready], one_a_row: bool) -> Iterator[ProteinBatch]:
        """Batches that hold what is ready, by its number."""
        if not ready:
            return
        numbers = list(ready)
        slots = [ready[number].example.num_slots for number in numbers]
        shape = self._grid_shape(slots, one_a_row=one_a_row)
        for plan in plan_once(slots, shape, self._devices):
            rows = [[(numbers[index], ready[numbers[index]].example) for index in row] for row in plan.rows]
            grid = make_grid(rows, length=plan.length, neighbours=shape.neighbours, graphs=shape.graphs_per_row)
            yield split_over_devices(grid, self._devices)

    def _grid_shape(self, slots: list[int] | None = None, *, one_a_row: bool = False) -> GridShape:
        """The grid for proteins of these slots; in general where they are not known.

        Rows are as long as the longest in training (longer ones are added by the plan). Where all proteins fit into a
        single shorter row, that is all there is; where each is to have a row of its own, shorter ones are there too.
        """
        shapes = [member.config.data.grid_shape() for member in self.members]
        trained = dataclasses.replace(shapes[0], neighbours=max(shape.neighbours for shape in shapes))
        length, rows = trained.max_length, self._rows * self._devices
        shorter = [row for row in (length >> power for power in range(_SHORTER_ROWS)) if row >= _FEWEST_SLOTS]
        if one_a_row:
            return dataclasses.replace(trained, rows=dict.fromkeys(shorter, rows), graphs_per_row=1)
        fits = slots is not None and len(slots) <= trained.graphs_per_row
        if fits and (fitting := [row for row in shorter if row >= sum(slots)]):
            length, rows = min(fitting), self._devices
        return dataclasses.replace(trained, rows={length: rows})


def _members(restored: Sequence[RestoredModel], thresholds: Sequence[float | None]) -> tuple[Member, ...]:
    """The models; those of one architecture share their programs.

    Raises:
      ConfigError: no model, or models of several tasks.
    """
    members: list[Member] = []
    for config, step, params, about in restored:
        same = (member.programs for member in members if _architecture(member.config) == _architecture(config))
        programs = next(same, None) or Programs(config)
        threshold = thresholds[len(members)]
        members.append(Member(config, step, about, threshold, step_lib.replicate(params), programs))
    if not members:
        raise ConfigError("no checkpoint is given; name at least one")
    tasks = {(member.programs.task.name, member.programs.task.labels) for member in members}
    if len(tasks) > 1:
        names = ", ".join(member.programs.task.name for member in members)
        raise ConfigError(f"the checkpoints are of several tasks, in their order: {names}; give those of one task")
    return tuple(members)


def _architecture(config: ExperimentConfig) -> tuple[Any, ...]:
    return config.task, config.encoder, config.head


def _exchanges(member: Member) -> tuple[Any, ...]:
    """What decides which fusion values a model has."""
    encoder = member.config.encoder
    return encoder.fusion.kind, encoder.schedule


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _with_ligand(structure: Structure, ligand: LigandSource | None) -> Structure:
    return structure if ligand is None else WithLigand(structure, ligand)


def _as_protein(structure: Structure) -> Protein:
    if isinstance(structure, Protein):
        return structure
    if isinstance(structure, os.PathLike):
        return Protein.from_file(os.fspath(structure))
    if isinstance(structure, str):
        return Protein.from_text(structure) if "\n" in structure else Protein.from_file(structure)
    raise TypeError(f"a structure is a Protein, the path or the text of a file, got {type(structure).__name__}")


def _start(batch: ProteinBatch, ready: Mapping[int, _Ready], runs: Sequence[Run]) -> _UnderWay:
    """Gives a batch to the devices."""
    of_batch = {number: ready[number] for number in _numbers(batch)}
    try:
        return _UnderWay(batch, of_batch, [run(batch) for run in runs])
    except jax.errors.JaxRuntimeError as error:  # out of memory
        return _UnderWay(batch, of_batch, error)


def _finished(
    under_way: _UnderWay, finish: Callable[[_Ready, Values], T], on_error: OnError
) -> Iterator[tuple[int, T | Exception]]:
    """The results of a batch, which is waited for."""
    found = _by_number(under_way.batch, under_way.outputs)
    for number, ready in under_way.ready.items():
        result: Any
        try:
            values = found.pop(number)
            if isinstance(values, Exception):
                raise values
            result = finish(ready, values)
        except Exception as error:
            if on_error == "raise":
                raise
            result = error
        yield number, result


def _in_order(results: Iterable[tuple[int, T]]) -> Iterator[T]:
    """The results by their numbers 0, 1, ..: those that come early wait."""
    early: dict[int, T] = {}
    following = 0
    for number, result in results:
        early[number] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _by_number(batch: ProteinBatch, outputs: list[dict[str, jax.Array]] | Exception) -> dict[int, Values | Exception]:
    """Number -> the values of its slots, or what went wrong in its batch."""
    numbers = _numbers(batch)
    if isinstance(outputs, Exception):
        return dict.fromkeys(numbers, outputs)
    try:
        fetched = [{name: np.asarray(values) for name, values in of_model.items()} for of_model in outputs]
    except jax.errors.JaxRuntimeError as error:  # what went wrong on the devices shows here
        return dict.fromkeys(numbers, error)
    found: dict[int, Values] = {number: [{} for _ in fetched] for number in numbers}
    for model, of_model in enumerate(fetched):
        for name, values in of_model.items():
            take_apart = values_by_protein if name == VALUE else values_by_record
            for number, of_one in take_apart(values, batch):
                found[number][model][name] = of_one
    return found


def _numbers(batch: ProteinBatch) -> list[int]:
    """Of the proteins of a batch."""
    return [int(number) for number in np.ravel(batch.record) if number >= 0]
