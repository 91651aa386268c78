"""Loads an exported model in a fresh process and writes what it makes of a structure: `export_model` compares it.

python -m bihf_jax.export.reload FOLDER STRUCTURE OUTPUTS.npz
"""

import sys

import numpy as np

import bihf_jax


def main(folder: str, structure: str, outputs: str) -> None:
    """Writes "score" [N] and "representation" [N, C] of the structure's residues."""
    model = bihf_jax.load(folder)
    np.savez(outputs, score=model.predict(structure).score, representation=model.embed(structure).per_residue)


if __name__ == "__main__":
    main(*sys.argv[1:])
