"""Tensors in weight files, read one at a time, so that converting a model takes the memory of one copy of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # of safetensors -> of numpy


class PretrainedError(ValueError):
    """Weights that are missing, damaged, unsafe or of another model; the message says which, and what to do."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that is still in its file.

    Attributes:
      name: in the file.
      shape: of the tensor.
      dtype: "float32", "float16", "bfloat16", or another type by the file's own name.
      read: gives the values, in a memory of their own or not.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
      PretrainedError: not such a file, or a damaged one.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: _safetensor(path, name, slices[name]) for name in slices}
    except (SafetensorError, OSError) as error:
        raise PretrainedError(f"{path} is no safetensors file, or a damaged one ({error}); fetch it again") from error


def _safetensor(path: Path, name: str, about: object) -> Tensor:
    def read() -> np.ndarray:
        # Opened for each tensor: the library maps the file, and what was read stays in memory until it is closed.
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)

    dtype = about.get_dtype()
    return Tensor(name, tuple(about.get_shape()), _DTYPES.get(dtype, dtype), read)
