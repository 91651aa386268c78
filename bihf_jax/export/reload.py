"""Loads an exported model in a fresh process and writes what it makes of a structure: `export_model` compares it.

python -m bihf_jax.export.reload FOLDER STRUCTURE LIGAND OUTPUTS.npz
"""

import sys
from pathlib import Path

import numpy as np

import bihf_jax
from bihf_jax.inference import Predictor


def outputs_of(model: Predictor, structure: Path, ligand: str) -> dict[str, np.ndarray]:
    """ "score" [N] and "representation" [N, C] of the residues; "value" [V] where the task is of whole proteins."""
    prediction = model.predict(structure, ligand=ligand or None)
    features = model.embed(structure, ligand=ligand or None)
    value = {"value": np.array([*prediction.value.values()])} if prediction.value else {}
    return {"score": prediction.score, "representation": features.per_residue, **value}


def main(folder: str, structure: str, ligand: str, outputs: str) -> None:
    """Writes the outputs of the model in `folder`; `ligand` is empty where there is none."""
    np.savez(outputs, **outputs_of(bihf_jax.load(folder), Path(structure), ligand))


if __name__ == "__main__":
    main(*sys.argv[1:])
