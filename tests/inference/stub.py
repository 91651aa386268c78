"""A predictor without a model: what the folder's bookkeeping needs of one, at no cost."""

from types import SimpleNamespace

import numpy as np

from bihf_jax.inference import Embedding, Prediction
from bihf_jax.inference.embedding import MissingFeaturesError


class StubPredictor:
    """Scores residues by their type; embeds them as one-hot vectors of it. Counts the structures that it was given."""

    def __init__(self, fingerprint: str = "stub"):
        self.fingerprint, self.task, self.members = fingerprint, SimpleNamespace(name="ppbs"), [SimpleNamespace(step=7)]
        self.given = 0

    def predict_as_ready(
        self, structures, *, fusion_values=False, attribution=False, dropout_samples=0, on_error="raise"
    ):
        return enumerate(self._map(structures, lambda protein: self._prediction(protein, fusion_values)))

    def embed_many(self, structures, *, of="fused", stage=None, on_error="raise"):
        return self._map(structures, lambda protein: self._embedding(protein, of, stage))

    def check_features(self, of, stage):
        if stage is not None and stage > 2:
            raise MissingFeaturesError(f"no {of} of stage {stage}")

    def embed(self, protein):
        return self._embedding(protein, "fused", None)

    def _map(self, structures, work):
        for read in structures:
            self.given += 1
            try:
                yield work(read())
            except ValueError as error:
                yield error

    def _prediction(self, protein, fusion_values):
        score = ((protein.residue_type + 1) / 22).astype(np.float32)
        values = {"stage1_gate_sequence": score} if fusion_values else {}
        return Prediction(protein, "ppbs", ("no binding site", "binding site"), score, fusion_values=values)

    def _embedding(self, protein, of, stage):
        features = np.eye(21, dtype=np.float32)[protein.residue_type]
        return Embedding(protein, of, stage, features, np.ones(len(features), bool))
