"""The form "saved_model": for TensorFlow and what serves its models, through jax2tf.

saved_model/    a SavedModel with a signature for each length of a row
program.json    inputs and outputs: names, shapes, types, meaning
run.py          runs them, with TensorFlow and numpy alone
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bihf_jax.export import programs
from bihf_jax.models.platform import compiling_for
from bihf_jax.training.config import ExperimentConfig

_PLATFORMS = ("cpu", "cuda", "tpu")


def write_saved_model(folder: Path, config: ExperimentConfig, params: Any, *, lengths: Sequence[int]) -> None:
    """Writes the files of the module's docstring.

    One program serves all platforms: it is written as for a CPU, which is right on the others too, and slower.

    Args:
      folder: exists.
      config: of the model.
      params: its parameters, numpy.
      lengths: slots of the rows, a signature each.

    Raises:
      ImportError: TensorFlow or jax2tf is missing; says what to install.
    """
    tf, convert = _tensorflow()
    plain = programs.plain_params(params)
    module = tf.Module()
    module.variables_by_number = [tf.Variable(values, trainable=False) for values in plain.values()]
    signatures, written = {}, []
    with compiling_for("cpu"):
        for length in lengths:
            program = convert(
                programs.scoring_function(config, params),
                with_gradient=False,
                native_serialization_platforms=_PLATFORMS,
            )
            name = f"length_{length}"
            signatures[name] = _signature(tf, program, module, list(plain), programs.example_inputs(config, length))
            written.append({"length": length, "signature": name})
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=signatures)
    programs.write_description(folder, config, params, programs=written, parameters="saved_model/variables")
    shutil.copyfile(Path(__file__).with_name("standalone") / "saved_model.py", folder / "run.py")


def _signature(tf: Any, program: Callable, module: Any, names: list[str], inputs: dict[str, np.ndarray]) -> Any:
    """The concrete function of one length; its parameters are the module's variables."""

    @tf.function(autograph=False)
    def score(**inputs: Any) -> Any:
        return program(dict(zip(names, module.variables_by_number, strict=True)), inputs)

    specs = {name: tf.TensorSpec(values.shape, values.dtype, name=name) for name, values in inputs.items()}
    return score.get_concrete_function(**specs)


def _tensorflow() -> tuple[Any, Callable]:
    """(TensorFlow, jax2tf.convert); imported here only, as nothing else needs them."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("TensorFlow is not installed: pip install 'bihf_jax[prep]'") from error
    try:
        from jax.experimental import jax2tf
    except ImportError as error:
        raise ImportError(
            "this version of JAX has no jax.experimental.jax2tf any more, which makes SavedModels; install JAX 0.10, "
            "or export as stablehlo"
        ) from error
    return tf, jax2tf.convert
