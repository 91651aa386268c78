"""Runs an exported model. Needs jax and numpy, and nothing else; stands as `run.py` in the folder of the model.

    python run.py inputs.npz outputs.npz

As a library:

    model = Model("FOLDER")
    outputs = model(inputs)     # arrays by name, of n slots or of the proteins in them, as program.json describes them
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np


class Model:
    """The programs of a folder, one for each length of a row, for the platform at hand; read when first needed."""

    def __init__(self, folder: str | Path) -> None:
        """Reads the description and the parameters.

        Args:
          folder: that holds this file.
        """
        self.folder = Path(folder)
        self.about = json.loads((self.folder / "program.json").read_text(encoding="utf-8"))
        platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
        self.files = {p["length"]: p["file"] for p in self.about["programs"] if p["platform"] == platform}
        if not self.files:
            known = ", ".join(sorted({program["platform"] for program in self.about["programs"]}))
            raise ValueError(f"there is no program for {platform}, only for {known}; set JAX_PLATFORMS to one of them")
        with np.load(self.folder / self.about["parameters"]["stored"], allow_pickle=False) as stored:
            self.params = jax.device_put(dict(stored))
        self._programs = {}

    def __call__(self, inputs: dict) -> dict:
        """Outputs by name, each [n, ...] or [proteins, ...], of inputs by name, each [n, ...]."""
        described = self.about["inputs"]
        if inputs.keys() != described.keys():
            raise ValueError(f"the inputs must be {', '.join(described)}; got {', '.join(inputs)}")
        slots = len(inputs["tokens"])
        fitting = [length for length in self.files if length >= slots]
        if not fitting:
            raise ValueError(f"{slots} slots are too many: the longest program has {max(self.files)}")
        length = min(fitting)
        rows = {name: _padded(name, inputs[name], slots, length, described[name]) for name in described}
        outputs = self._program(length)(self.params, rows)
        sizes = {"slots": slots, "proteins": int(np.max(inputs["protein_segment"]))}
        kept = {name: sizes[about["shape"][0]] for name, about in self.about["outputs"].items()}
        return {name: np.asarray(values)[0, : kept[name]] for name, values in outputs.items()}

    def _program(self, length: int) -> Callable:
        if length not in self._programs:
            exported = jax.export.deserialize(bytearray((self.folder / self.files[length]).read_bytes()))
            self._programs[length] = jax.jit(exported.call)
        return self._programs[length]


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
