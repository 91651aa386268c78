"""Fixtures of the inference tests."""

from pathlib import Path

import pytest

import bihf_jax
from bihf_jax.inference import Predictor
from bihf_jax.protein import Protein
from tests.inference.runs import make_run
from tests.inference.structures import odd_text


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with local fusion."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def predictor(run: Path) -> Predictor:
    return bihf_jax.load(run)


@pytest.fixture(scope="session")
def global_predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Of a model with global fusion."""
    return bihf_jax.load(make_run(tmp_path_factory.mktemp("global"), "global"))


@pytest.fixture(scope="session")
def odd() -> Protein:
    """See `structures.odd_text`."""
    return Protein.from_text(odd_text(), name="odd")
