"""The package stays light: no TensorFlow and no PyTorch, in what it imports and in what it does."""

import pkgutil

import pytest

import bihf_jax
from tests.training.small_run import run_python, small_config, write_config

_IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(sorted({module.split(".")[0] for module in sys.modules} & {"tensorflow", "torch", "tensorflow_datasets"}))
"""

_TRAIN_AND_SCORE = """
import importlib.util, sys
from pathlib import Path
from bihf_jax.training.loop import train
from experiments.evaluate import evaluate
spec = importlib.util.spec_from_file_location("config", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
workdir = train(module.get_config(), sys.argv[2])
scores = evaluate(workdir, ["validation", "test"])
loaded = {module.split(".")[0] for module in sys.modules} & {"tensorflow", "torch", "tensorflow_datasets"}
print(sorted(scores["splits"]), sorted(loaded))
"""


def test_importing_the_package_is_light():
    """`import bihf_jax` loads neither JAX nor NumPy: they come with the first model that is loaded."""
    code = 'import sys, bihf_jax; print(callable(bihf_jax.load), sorted({"jax", "numpy", "flax"} & set(sys.modules)))'
    assert run_python(code).strip() == "True []"


def test_prediction_loads_nothing_that_takes_long_and_is_not_needed():
    """The command waits for no library of pictures, metrics, alignments or records."""
    heavy = ["matplotlib", "sklearn", "scipy.stats", "Bio.Align", "tensorflow", "grain", "pandas", "h5py"]
    code = "import sys, experiments.predict; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    assert run_python(code, *heavy).strip() == "[]"


@pytest.mark.parametrize("entry_point", ["train", "evaluate"])
def test_importing_everything_loads_neither(entry_point):
    """All modules of the package and an entry point together load no TensorFlow and no PyTorch."""
    modules = [module.name for module in pkgutil.walk_packages(bihf_jax.__path__, "bihf_jax.")]
    assert "bihf_jax.training.loop" in modules
    entry_points = [f"experiments.{name}" for name in (entry_point, "predict", "embed", "export", "serve")]
    assert run_python(_IMPORT_ALL, *modules, *entry_points).strip() == "[]"


@pytest.mark.slow
def test_training_and_scoring_need_neither(sample_records, tmp_path):
    """A run trains, saves, validates and is scored, and neither was loaded on the way."""
    config = write_config(small_config(sample_records, steps=6, evaluate_every=6), tmp_path / "config.py")
    printed = run_python(_TRAIN_AND_SCORE, config, tmp_path / "run")
    assert printed.splitlines()[-1] == "['test', 'validation'] []"
