"""Runs an exported model. Needs TensorFlow and numpy, and nothing else; stands as `run.py` in the model's folder.

    python run.py inputs.npz outputs.npz

As a library:

    model = Model("FOLDER")
    outputs = model(inputs)     # arrays by name, of n slots or of the proteins in them, as program.json describes them
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


class Model:
    """The signatures of a SavedModel, one for each length of a row."""

    def __init__(self, folder: str | Path) -> None:
        """Reads the description and the SavedModel.

        Args:
          folder: that holds this file.
        """
        self.about = json.loads((Path(folder) / "program.json").read_text(encoding="utf-8"))
        self._loaded = tf.saved_model.load(str(Path(folder) / "saved_model"))
        self.signatures = {p["length"]: self._loaded.signatures[p["signature"]] for p in self.about["programs"]}

    def __call__(self, inputs: dict) -> dict:
        """Outputs by name, each [n, ...] or [proteins, ...], of inputs by name, each [n, ...]."""
        described = self.about["inputs"]
        if inputs.keys() != described.keys():
            raise ValueError(f"the inputs must be {', '.join(described)}; got {', '.join(inputs)}")
        slots = len(inputs["tokens"])
        fitting = [length for length in self.signatures if length >= slots]
        if not fitting:
            raise ValueError(f"{slots} slots are too many: the longest program has {max(self.signatures)}")
        length = min(fitting)
        rows = {name: _padded(name, inputs[name], slots, length, described[name]) for name in described}
        outputs = self.signatures[length](**{name: tf.constant(row) for name, row in rows.items()})
        sizes = {"slots": slots, "proteins": int(np.max(inputs["protein_segment"]))}
        kept = {name: sizes[about["shape"][0]] for name, about in self.about["outputs"].items()}
        return {name: values.numpy()[0, : kept[name]] for name, values in outputs.items()}


def _padded(name: str, values: np.ndarray, slots: int, length: int, about: dict) -> np.ndarray:
    """[n, ...] -> [1, length, ...]."""
    values, shape = np.asarray(values), (slots, *about["shape"][1:])
    if values.shape != shape or str(values.dtype) != about["dtype"]:
        raise ValueError(f"{name} must be {about['dtype']} {shape}, got {values.dtype} {values.shape}")
    row = np.full((1, length, *shape[1:]), about["padding"], values.dtype)
    row[0, :slots] = values
    return row


def main(arguments: list[str]) -> None:
    """Reads inputs from one npz file and writes outputs to another."""
    if len(arguments) != 2:
        sys.exit("usage: python run.py inputs.npz outputs.npz")
    with np.load(arguments[0], allow_pickle=False) as stored:
        inputs = dict(stored)
    np.savez(arguments[1], **Model(Path(__file__).parent)(inputs))


if __name__ == "__main__":
    main(sys.argv[1:])
