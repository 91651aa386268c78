"""`Predictor`: a trained model that takes structures."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from bihf_jax.configuration import ConfigError
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import Example
from bihf_jax.data.featurise import make_example, residue_slots
from bihf_jax.data.grid import example_batch, make_grid, split_over_devices, values_by_protein, values_by_record
from bihf_jax.data.plan import GridShape, plan_once
from bihf_jax.inference.compilation_cache import use_compilation_cache
from bihf_jax.inference.embedding import Embedding, MissingFeaturesError, choose_features
from bihf_jax.inference.fusion_values import fusion_values as fusion_columns
from bihf_jax.inference.prediction import Prediction
from bihf_jax.inference.residues import has_structure
from bihf_jax.models.encoder import EncoderOutput
from bihf_jax.models.heads import POOLING_WEIGHT
from bihf_jax.protein import Protein
from bihf_jax.training import step as step_lib
from bihf_jax.training.restore import RestoredModel, restore_model

# A protein, the path or the text of its file, or a function that gives it, which is called when its turn comes.
Structure = Protein | str | os.PathLike[str] | Callable[[], Protein]
# What a program gives for each slot, by name: (logits, features, batch) -> arrays [R, L, *]; `_VALUE` is of proteins,
# [R, G, V].
Outputs = Callable[[jax.Array, EncoderOutput, ProteinBatch], dict[str, jax.Array]]
OnError = Literal["raise", "return"]
T = TypeVar("T")

_VALUE = "value"

MAX_SLOTS = 16_384  # of a protein, unless `Predictor` is told otherwise
_ROWS_ON_ACCELERATORS = 8  # a CPU is busy with one row
_SHORTER_ROWS = 3  # lengths for a few proteins: the longest row of training, its half and its quarter
_WINDOW_ROWS = 32  # planned together at least: proteins of many lengths fill the rows well, and no memory runs out
_WINDOW_STEPS = 8


class ProteinTooLongError(ValueError):
    """A protein of more slots than the predictor takes."""


@dataclasses.dataclass(frozen=True)
class _Ready:
    """A structure in the form that the model takes."""

    protein: Protein
    example: Example


class Predictor:
    """A trained model that takes structures and gives predictions and embeddings, the same in any company.

    Proteins are packed into rows of a few lengths, so that a folder of any lengths compiles few programs: one for rows
    as long as in training, one for each doubling of that which a longer protein needs, and shorter ones for what fits
    into a single shorter row. All local devices share the rows.

    Attributes:
      config: of the run.
      step: of the checkpoint.
      about: what the checkpoint says of itself: version, alphabet, config, best score.
      task: what the scores are of.
    """

    def __init__(self, restored: RestoredModel, *, max_slots: int = MAX_SLOTS, rows: int | None = None):
        """Puts the parameters on the local devices; see `load`."""
        for name, value in (("max_slots", max_slots), ("rows", rows)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        self.config, self.step, self.about = restored.config, restored.step, restored.about
        self.task = self.config.make_task()
        self.max_slots = max_slots
        self._devices = jax.local_device_count()
        self._rows = rows or (1 if jax.default_backend() == "cpu" else _ROWS_ON_ACCELERATORS)
        self._model = self.config.make_model()
        self._params = step_lib.replicate(restored.params)
        self._programs: dict[tuple, step_lib.CompiledStep] = {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        which: str = "best",
        max_slots: int = MAX_SLOTS,
        rows: int | None = None,
        compilation_cache: bool = True,
    ) -> "Predictor":
        """Reads a model from the folder of its run, the --workdir of `experiments.train`.

        Args:
          path: of the folder.
          which: checkpoint, "best" or "last".
          max_slots: of a protein (its residues, and two a chain); time and memory grow with it.
          rows: that a device takes at a time, each as long as the longest in training; None: 1 on a CPU, else 8.
          compilation_cache: keep compiled programs on disk (`compilation_cache.use_compilation_cache`).

        Raises:
          ConfigError: no run there, or a config that this version cannot read.
          CheckpointError: no checkpoint, a part of it missing or damaged, or of another model or alphabet.
        """
        if compilation_cache:
            use_compilation_cache()
        return cls(restore_model(path, which=which), max_slots=max_slots, rows=rows)

    @property
    def fingerprint(self) -> str:
        """Short digest of the run's config, the step and its validation score: other for another model."""
        named = {name: self.about.get(name) for name in ("config", "best_score")}
        return hashlib.sha256(json.dumps([named, self.step], sort_keys=True).encode()).hexdigest()[:12]

    @property
    def compiles(self) -> int:
        """Programs compiled so far."""
        return sum(program.compiles for program in self._programs.values())

    def predict(self, structure: Structure, *, fusion_values: bool = False) -> Prediction:
        """Scores one structure.

        Args:
          structure: a `Protein`, the path of a file, or the text of one. All its chains are one protein to the model.
          fusion_values: also what fusion did at each residue (`fusion_values.fusion_values`).

        Raises:
          StructureError: a file that cannot be read.
          ProteinTooLongError: more slots than `max_slots`.
          MissingFeaturesError: fusion values of a model whose sides exchange nothing.
        """
        return next(self.predict_many([structure], fusion_values=fusion_values))

    def predict_many(
        self, structures: Iterable[Structure], *, fusion_values: bool = False, on_error: OnError = "raise"
    ) -> Iterator[Prediction | Exception]:
        """Scores structures, packed together; reads ahead.

        Args:
          structures: of any number; also functions that return a `Protein`.
          fusion_values: as in `predict`.
          on_error: "raise", or "return" to give the exception in place of the prediction and go on.

        Yields:
          One result for each structure, in their order.
        """
        if fusion_values and not any(part == "exchange" for part, _ in self.config.encoder.schedule):
            fusion = self.config.encoder.fusion
            raise MissingFeaturesError(
                f"no fusion values: the sides of this model exchange nothing (fusion {fusion.kind!r})"
            )
        program = self._program("scores", fusion_values, outputs=self._score_outputs(fusion_values))

        def finish(ready: _Ready, values: dict[str, np.ndarray]) -> Prediction:
            slots = residue_slots(ready.protein)
            of_residues = {name: of_slots[slots] for name, of_slots in values.items() if name != _VALUE}
            score = of_residues.pop("score")
            value = dict(zip(self.task.score_names, values[_VALUE].tolist(), strict=True)) if _VALUE in values else {}
            return Prediction(ready.protein, self.task.name, self.task.label_names, score, of_residues, value)

        return self._results(structures, program, finish, on_error)

    def embed(self, structure: Structure, *, of: str = "fused", stage: int | None = None) -> Embedding:
        """The features of one structure's residues.

        Args:
          structure: as in `predict`.
          of: "sequence", "structure" or "fused".
          stage: a stage, from 1; None: what the encoder returns. See `embedding.choose_features`.

        Raises:
          MissingFeaturesError: the model has no such features; and as `predict`.
        """
        return next(self.embed_many([structure], of=of, stage=stage))

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

        def outputs(logits: jax.Array, encoded: EncoderOutput, batch: ProteinBatch) -> dict[str, jax.Array]:
            return {"features": choose_features(encoded, of, stage).astype(jnp.float32)}

        def finish(ready: _Ready, values: dict[str, np.ndarray]) -> Embedding:
            features = values["features"][residue_slots(ready.protein)]
            mask = has_structure(ready.protein) if of == "structure" else np.ones(len(features), bool)
            return Embedding(ready.protein, of, stage, np.where(mask[:, None], features, 0), mask)

        return self._results(structures, self._program("features", of, stage, outputs=outputs), finish, on_error)

    def check_features(self, of: str, stage: int | None) -> None:
        """Raises MissingFeaturesError where the model has no such features, see `embed`; lists those that it has."""
        if ("features", of, stage) in self._programs:
            return
        params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self._params)
        batch = example_batch(self.config.data.grid_shape())
        choose_features(jax.eval_shape(self._apply, params, batch)[1], of, stage)

    # -----------------------------------------------------------------------------------------------------------------
    # Programs
    # -----------------------------------------------------------------------------------------------------------------

    def _score_outputs(self, fusion_values: bool) -> Outputs:
        def outputs(logits: jax.Array, encoded: EncoderOutput, batch: ProteinBatch) -> dict[str, jax.Array]:
            scores = self.task.scores(logits)
            if self.task.unit == "protein":
                found = {_VALUE: scores, "score": encoded.intermediates[POOLING_WEIGHT]}
            else:
                found = {"score": scores[..., -1]}
            return found | (fusion_columns(encoded, batch) if fusion_values else {})

        return outputs

    def _program(self, *key: Any, outputs: Outputs) -> step_lib.CompiledStep:
        """The program (params, batch) -> outputs; made once for a key, compiled once for a shape of the grid."""
        if key not in self._programs:

            def step(params: Any, batch: ProteinBatch) -> dict[str, jax.Array]:
                return outputs(*self._apply(params, batch), batch)

            self._programs[key] = step_lib.CompiledStep(step)
        return self._programs[key]

    def _apply(self, params: Any, batch: ProteinBatch) -> tuple[jax.Array, EncoderOutput]:
        return self._model.apply({"params": params}, batch, None, method="logits_and_features")

    # -----------------------------------------------------------------------------------------------------------------
    # Structures -> batches -> results
    # -----------------------------------------------------------------------------------------------------------------

    def _results(
        self,
        structures: Iterable[Structure],
        program: step_lib.CompiledStep,
        finish: Callable[[_Ready, dict[str, np.ndarray]], T],
        on_error: OnError,
    ) -> Iterator[T | Exception]:
        """What `finish` makes of each structure and the program's values of its slots, in order."""
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {on_error!r}; allowed: raise, return")
        before: tuple[list, list] | None = None
        for window in self._windows(structures, on_error):
            # The devices work on this window while the results of the one before are taken and the next one is read.
            under_way = window, self._start(window, program)
            if before is not None:
                yield from _finished(*before, finish, on_error)
            before = under_way
        if before is not None:
            yield from _finished(*before, finish, on_error)

    def _windows(self, structures: Iterable[Structure], on_error: OnError) -> Iterator[list[_Ready | Exception]]:
        """The structures, made ready, in groups that are planned together."""
        grid = self._grid_shape()
        enough = max(_WINDOW_ROWS, _WINDOW_STEPS * grid.rows[grid.max_length]) * grid.max_length
        window, slots = [], 0
        for structure in structures:
            try:
                window.append(self._make_ready(structure))
                slots += window[-1].example.num_slots
            except Exception as error:
                if on_error == "raise":
                    raise
                window.append(error)
            if slots >= enough:
                yield window
                window, slots = [], 0
        if window:
            yield window

    def _make_ready(self, structure: Structure) -> _Ready:
        protein = _as_protein(structure)
        slots = protein.num_residues + 2 * len(protein.chain_ids)
        if slots > self.max_slots:
            raise ProteinTooLongError(
                f"{protein.source}: {protein.num_residues:,} residues in {len(protein.chain_ids)} chains need "
                f"{slots:,} slots; at most {self.max_slots:,} are taken. Choose chains, or raise max_slots if there "
                "is memory for it"
            )
        return _Ready(protein, make_example(protein, id=protein.source, group=protein.source))

    def _start(
        self, window: list[_Ready | Exception], program: step_lib.CompiledStep
    ) -> list[tuple[ProteinBatch, dict[str, jax.Array] | Exception]]:
        """Batches that hold what is ready, by its number in the window, and what the devices will make of them."""
        examples = {number: ready.example for number, ready in enumerate(window) if isinstance(ready, _Ready)}
        if not examples:
            return []
        numbers = list(examples)
        slots = [example.num_slots for example in examples.values()]
        shape = self._grid_shape(slots)
        under_way = []
        for plan in plan_once(slots, shape, self._devices):
            rows = [[(numbers[index], examples[numbers[index]]) for index in row] for row in plan.rows]
            grid = make_grid(rows, length=plan.length, neighbours=shape.neighbours, graphs=shape.graphs_per_row)
            batch = split_over_devices(grid, self._devices)
            try:
                under_way.append((batch, program(self._params, batch)))
            except jax.errors.JaxRuntimeError as error:  # out of memory
                under_way.append((batch, error))
        return under_way

    def _grid_shape(self, slots: list[int] | None = None) -> GridShape:
        """The grid for proteins of these slots; in general where they are not known.

        Rows are as long as the longest in training (longer ones are added by the plan). Where all proteins fit into a
        single shorter row, that is all there is.
        """
        trained = self.config.data.grid_shape()
        length, rows = trained.max_length, self._rows
        if slots is not None and len(slots) <= trained.graphs_per_row:
            shorter = [length >> power for power in range(_SHORTER_ROWS)]
            if fitting := [row for row in shorter if row >= max(sum(slots), 4)]:
                length, rows = min(fitting), 1
        return dataclasses.replace(trained, rows={length: rows * self._devices})


def _as_protein(structure: Structure) -> Protein:
    if isinstance(structure, Protein):
        return structure
    if isinstance(structure, os.PathLike):
        return Protein.from_file(os.fspath(structure))
    if isinstance(structure, str):
        return Protein.from_text(structure) if "\n" in structure else Protein.from_file(structure)
    if callable(structure):
        return structure()
    raise TypeError(f"a structure is a Protein, the path or the text of a file, got {type(structure).__name__}")


def _finished(
    window: list[_Ready | Exception],
    under_way: list[tuple[ProteinBatch, dict[str, jax.Array] | Exception]],
    finish: Callable[[_Ready, dict[str, np.ndarray]], T],
    on_error: OnError,
) -> Iterator[T | Exception]:
    """The results of a window, in order."""
    found: dict[int, dict[str, np.ndarray] | Exception] = {}
    for batch, outputs in under_way:
        found |= _by_number(batch, outputs)
    for number, ready in enumerate(window):
        result: Any = ready
        try:
            if isinstance(ready, _Ready):
                values = found[number]
                if isinstance(values, Exception):
                    raise values
                result = finish(ready, values)
        except Exception as error:
            if on_error == "raise":
                raise
            result = error
        yield result


def _by_number(
    batch: ProteinBatch, outputs: dict[str, jax.Array] | Exception
) -> dict[int, dict[str, np.ndarray] | Exception]:
    """Number in the window -> the values of its slots [slots, *], or what went wrong in its batch."""
    numbers = [int(number) for number in batch.record.ravel() if number >= 0]
    if isinstance(outputs, Exception):
        return dict.fromkeys(numbers, outputs)
    try:
        fetched = {name: np.asarray(values) for name, values in outputs.items()}
    except jax.errors.JaxRuntimeError as error:  # what went wrong on the devices shows here
        return dict.fromkeys(numbers, error)
    found: dict[int, dict[str, np.ndarray]] = {number: {} for number in numbers}
    for name, values in fetched.items():
        take_apart = values_by_protein if name == _VALUE else values_by_record
        for number, of_one in take_apart(values, batch):
            found[number][name] = of_one
    return found
