"""Loads an exported model in a fresh process and writes what it makes of a structure: `export_model` compares it.

python -m bihf_jax.export.reload FOLDER STRUCTURE OUTPUTS.npz
"""

import sys
from pathlib import Path

import numpy as np

import bihf_jax
from bihf_jax.inference import Predictor
from bihf_jax.protein import Protein


def outputs_of(model: Predictor, structure: Protein | str | Path) -> dict[str, np.ndarray]:
    """ "score" [N] and "representation" [N, C] of the residues; "value" [V] where the task is of whole proteins."""
    prediction = model.predict(structure)
    value = {"value": np.array([*prediction.value.values()])} if prediction.value else {}
    return {"score": prediction.score, "representation": model.embed(structure).per_residue, **value}


def main(folder: str, structure: str, outputs: str) -> None:
    """Writes the outputs of the model in `folder`."""
    np.savez(outputs, **outputs_of(bihf_jax.load(folder), structure))


if __name__ == "__main__":
    main(*sys.argv[1:])
