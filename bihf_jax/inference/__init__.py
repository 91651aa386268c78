"""Trained models on new structures: predictions, embeddings, and what fusion did. `bihf_jax.load` is the way in."""

from bihf_jax.inference.embedding import Embedding
from bihf_jax.inference.prediction import Prediction
from bihf_jax.inference.predictor import Predictor

__all__ = ["Embedding", "Prediction", "Predictor"]
