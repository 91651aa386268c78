"""The form "stablehlo": programs by `jax.export`, which run with jax and numpy alone.

program.json          inputs, outputs, parameters: names, shapes, types, meaning
params.npz            the parameters
programs/cpu-512.bin  the program for a CPU and rows of 512 slots, as `jax.export` serialises it (StableHLO)
run.py                runs them
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from bihf_jax.export import programs
from bihf_jax.models.platform import compiling_for
from bihf_jax.training.config import ExperimentConfig

# Name of `jax.export` -> the platform that the model is traced for: each has mathematics of its own.
_TRACED_FOR = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}
PLATFORMS = tuple(_TRACED_FOR)
_PARAMS_FILE = "params.npz"


def write_stablehlo(
    folder: Path, config: ExperimentConfig, params: Any, *, platforms: Sequence[str], lengths: Sequence[int]
) -> None:
    """Writes the files of the module's docstring.

    Args:
      folder: exists.
      config: of the model.
      params: its parameters, numpy.
      platforms: some of `PLATFORMS`, "cpu" among them.
      lengths: slots of the rows, a program each.

    Raises:
      ValueError: other platforms.
    """
    if unknown := [platform for platform in platforms if platform not in PLATFORMS]:
        raise ValueError(f"platform {unknown[0]!r} is unknown; known: {', '.join(PLATFORMS)}")
    if "cpu" not in platforms:
        raise ValueError("cpu must be among the platforms: the export is compared with the original on it")
    plain = programs.plain_params(params)
    written = []
    (folder / "programs").mkdir()
    for platform in platforms:
        for length in lengths:
            file = f"programs/{platform}-{length}.bin"
            (folder / file).write_bytes(_serialized(config, params, plain, platform, length))
            written.append({"platform": platform, "length": length, "file": file})
    np.savez(folder / _PARAMS_FILE, **plain)
    programs.write_description(folder, config, params, programs=written, parameters=_PARAMS_FILE)
    shutil.copyfile(Path(__file__).with_name("standalone") / "stablehlo.py", folder / "run.py")


def _serialized(
    config: ExperimentConfig, params: Any, plain: dict[str, np.ndarray], platform: str, length: int
) -> bytearray:
    with compiling_for(_TRACED_FOR[platform]):
        # A function of its own for each platform: JAX keeps by the function what it traced.
        function = jax.jit(programs.scoring_function(config, params))
        arguments = plain, programs.example_inputs(config, length)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
        return jax.export.export(function, platforms=[platform])(*shapes).serialize()
