"""The encoder of docs/encoders.md is one that anyone could write, and it works."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.data.ligand import FIRST_BOND
from bihf_jax.models import FusedEncoder
from bihf_jax.models.structure import STRUCTURE_ENCODERS
from bihf_jax.training.config import experiment_config
from tests.conftest import REPOSITORY
from tests.data.complexes import made_complex
from tests.models.batches import (
    noise_where_masked,
    pack,
    quick_jit,
    random_protein,
    random_rotation,
    random_variables,
    transform,
)
from tests.models.test_ligand_nodes import FIRST_ATOM, grid_of
from tests.models.test_structure import STAGES, all_stages
from tests.training.small_run import small_config

EXAMPLE = re.search(
    r"```python\n(.*?)```", (REPOSITORY / "docs" / "encoders.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def registered():
    """The example, executed as it stands."""
    before = dict(STRUCTURE_ENCODERS)
    exec(compile(EXAMPLE[1], "docs/encoders.md", "exec"), {"__name__": "own_encoder"})
    yield
    STRUCTURE_ENCODERS.clear()
    STRUCTURE_ENCODERS.update(before)


def test_the_example_is_short():
    """Under 60 lines."""
    assert len(EXAMPLE[1].splitlines()) < 60


@pytest.mark.usefixtures("registered")
def test_the_example_runs_in_the_fused_model():
    """Chosen by name in a config document; symmetric as it declares; masked values do not matter; gradients flow."""
    document = small_config("records").to_dict()
    document["encoder"]["structure"] = {"name": "smooth", "width": 12, "neighbours": 6}
    config = experiment_config(document).encoder
    encoder, batch = FusedEncoder(config), pack([[random_protein(1), random_protein(2)]], length=40)
    variables = random_variables(encoder, batch)

    @quick_jit
    def encode(variables, batch):
        def total(variables):
            structure = encoder.apply(variables, batch).structure
            return jnp.sum(structure * jnp.arange(12)), structure

        return jax.grad(total, has_aux=True)(variables)

    gradient, plain = encode(variables, batch)
    mirror = np.diag([1.0, 1.0, -1.0]).astype(np.float32)
    for motion in (random_rotation(1), mirror):
        np.testing.assert_allclose(encode(variables, transform(batch, motion, np.ones(3)))[1], plain, atol=1e-4)
    np.testing.assert_array_equal(encode(variables, noise_where_masked(batch, 2, invalid=True))[1], plain)
    np.testing.assert_array_equal(np.any(np.asarray(plain) != 0, axis=-1), batch.structure_mask)
    assert STRUCTURE_ENCODERS["smooth"].symmetry == "E(3)"
    leaves = jax.tree.leaves(gradient["params"]["structure"])
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in leaves)


@pytest.mark.usefixtures("registered")
def test_the_example_sees_ligands():
    """With the setting, an atom has scalars, and its element and the bonds of the ligand change them."""
    made = STRUCTURE_ENCODERS["smooth"]
    encoder = made(made.config_class(width=12, ligands=True), STAGES)
    batch = grid_of([made_complex()])
    variables = random_variables(encoder, batch, method=all_stages)
    encode = quick_jit(lambda batch: encoder.apply(variables, batch, method=all_stages))
    plain = np.asarray(encode(batch))
    np.testing.assert_array_equal(np.any(plain != 0, axis=-1), batch.structure_mask)
    for changed in (
        batch._replace(ligand_atom=batch.ligand_atom.at[0, FIRST_ATOM, 0].add(1)),
        batch._replace(edge_type=jnp.where(batch.edge_type > FIRST_BOND, FIRST_BOND, batch.edge_type)),
    ):
        assert np.abs(encode(changed) - plain)[0, FIRST_ATOM].max() > 1e-4
