"""`Programs`: what a model computes of a batch for predictions and embeddings, compiled."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bihf_jax.configuration import ConfigError
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.grid import example_batch
from bihf_jax.inference.attribution import gradient_times_embedding
from bihf_jax.inference.embedding import MissingFeaturesError, choose_features
from bihf_jax.inference.fusion_values import fusion_values
from bihf_jax.models.encoder import EncoderOutput
from bihf_jax.training.config import ExperimentConfig
from bihf_jax.training.step import CompiledStep

# (params, batch) -> arrays of every slot, by name.
Function = Callable[[Any, ProteinBatch], dict[str, jax.Array]]
_NOISE = ("dropout", "residue_masking", "noise")  # ends of the names of the settings that make training random


class Wanted(NamedTuple):
    """What a prediction has beside its scores."""

    fusion_values: bool = False  # what fusion did at each residue, `fusion_values.fusion_values`
    attribution: bool = False  # how much each residue mattered, `attribution.gradient_times_embedding`
    dropout_samples: int = 0  # scores are the mean of so many random draws, with an interval; 0: no draws


class Programs:
    """The programs of one architecture; models that differ in their parameters alone share them."""

    def __init__(self, config: ExperimentConfig):
        self.config = config
        self.task = config.make_task()
        self._model = config.make_model()
        self._compiled: dict[tuple, CompiledStep] = {}

    @property
    def compiles(self) -> int:
        """Programs compiled so far."""
        return sum(program.compiles for program in self._compiled.values())

    def scores(self, wanted: Wanted) -> CompiledStep:
        """The program that gives what a prediction is made of.

        Its arrays: "score" [R, L, S] float32, S samples (1, or `wanted.dropout_samples`); where wanted "attribution"
        [R, L] and the columns of `fusion_values` [R, L], both without dropout.

        Raises:
          MissingFeaturesError: the model has nothing of the kind that is wanted.
          ConfigError: a number of samples that gives no interval.
        """
        encoder = self.config.encoder
        if wanted.fusion_values and not any(part == "exchange" for part, _ in encoder.schedule):
            raise MissingFeaturesError(
                f"no fusion values: the sides of this model exchange nothing (fusion {encoder.fusion.kind!r})"
            )
        if wanted.attribution and "sequence" not in encoder.sides:
            raise MissingFeaturesError(
                f"no attribution: it is of the sequence side, and this model runs only: {', '.join(encoder.sides)}"
            )
        if wanted.dropout_samples < 0 or wanted.dropout_samples == 1:
            raise ConfigError(
                f"dropout_samples is {wanted.dropout_samples}; give 0 for none, or at least 2 for an interval"
            )
        if wanted.dropout_samples and not any(rate > 0 for rate in _noise_of((encoder, self.config.head))):
            raise MissingFeaturesError(
                "no dropout samples: this model was trained without dropout, so all draws are equal; give several "
                "checkpoints for an interval"
            )
        return self._program(("scores", wanted), functools.partial(self._scores, wanted))

    def features(self, of: str, stage: int | None) -> CompiledStep:
        """The program that gives "features" [R, L, C] float32, see `embedding.choose_features`."""
        return self._program(("features", of, stage), functools.partial(self._features, of, stage))

    def check_features(self, params: Any, of: str, stage: int | None) -> None:
        """Raises MissingFeaturesError where the model has no such features; lists those that it has.

        Args:
          params: with a leading device axis.
          of: see `embedding.choose_features`.
          stage: see `embedding.choose_features`.
        """
        if ("features", of, stage) in self._compiled:
            return
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)
        batch = example_batch(self.config.data.grid_shape())
        choose_features(jax.eval_shape(self._apply, shapes, batch)[1], of, stage)

    def _program(self, key: tuple, function: Function) -> CompiledStep:
        """Made once for a key, compiled once for a shape of the grid."""
        if key not in self._compiled:
            self._compiled[key] = CompiledStep(function)
        return self._compiled[key]

    def _apply(self, params: Any, batch: ProteinBatch) -> tuple[jax.Array, EncoderOutput]:
        return self._model.apply({"params": params}, batch, None, method="logits_and_features")

    def _scores(self, wanted: Wanted, params: Any, batch: ProteinBatch) -> dict[str, jax.Array]:
        logits, encoded = self._apply(params, batch)
        values = {"score": self.task.scores(logits)[..., None]}
        if wanted.dropout_samples:
            values["score"] = self._drawn_scores(wanted.dropout_samples, params, batch)
        if wanted.attribution:
            values["attribution"] = gradient_times_embedding(
                lambda: self.task.scores(self._apply(params, batch)[0]), batch
            )
        return values | (fusion_values(encoded, batch) if wanted.fusion_values else {})

    def _drawn_scores(self, num_samples: int, params: Any, batch: ProteinBatch) -> jax.Array:
        """Scores [R, L, S] with what is random in training drawn anew for each sample (Gal and Ghahramani 2016)."""
        # One draw for all rows and all calls: what a protein is predicted together with must not matter. It stands
        # alone at the start of its row, which is the shortest that takes it.
        row_id = batch.row_id * 0

        def draw(key: jax.Array) -> jax.Array:
            return self.task.scores(self._model.apply({"params": params}, batch, row_id, rngs={"dropout": key}))

        samples = jax.lax.map(draw, jax.random.split(jax.random.key(0), num_samples))  # [S, R, L]
        return jnp.moveaxis(samples, 0, -1)

    def _features(self, of: str, stage: int | None, params: Any, batch: ProteinBatch) -> dict[str, jax.Array]:
        return {"features": choose_features(self._apply(params, batch)[1], of, stage).astype(jnp.float32)}


def _noise_of(config: Any) -> Iterator[float]:
    """Every rate of dropout, masking and noise in a config."""
    if isinstance(config, tuple):
        for part in config:
            yield from _noise_of(part)
    elif dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if field.name.endswith(_NOISE) and not isinstance(value, bool):
                yield value
            else:
                yield from _noise_of(value)
