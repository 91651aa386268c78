"""Tests of `bihf_jax.models.structure`: what every registered structure encoder has to do, whatever is inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models import graph
from bihf_jax.models.config import GVPConfig, MPNNConfig, ProNetConfig
from bihf_jax.models.structure import STRUCTURE_ENCODERS, structure_encoder
from tests.models.batches import (
    noise_where_masked,
    pack,
    quick_jit,
    random_protein,
    random_rotation,
    random_variables,
    transform,
)

LENGTH, STAGES = 40, 2

# A small config of each encoder, and of each of its forms; a new encoder adds its own.
CONFIGS = {
    "gvp": GVPConfig(scalar_width=12, vector_width=4, edge_scalar_width=8, neighbours=6),
    "mpnn": MPNNConfig(width=12, neighbours=6),
    # The backbone level has the edges of the all-atom level, and fewer features of the nodes.
    "pronet aminoacid": ProNetConfig(level="aminoacid", width=12, neighbours=6),
    "pronet allatom": ProNetConfig(level="allatom", width=12, neighbours=6),
}


def make(form, dtype=jnp.float32):
    config = CONFIGS[form]
    return structure_encoder(config.name)(config, STAGES, dtype)


def all_stages(encoder, batch, row_id=None):
    """Scalars [R, L, S] after the last stage."""
    state = encoder.embed(batch, row_id)
    for stage in range(STAGES):
        state = encoder.stage(stage, state, row_id)
    return encoder.scalars(state)


def proteins():
    return random_protein(1), random_protein(2, (8,)), random_protein(3, (7, 4))


def packed():
    """Two rows: two proteins and one, with padding at the end of each."""
    first, second, third = proteins()
    return pack([[first, second], [third]], LENGTH)


@functools.cache
def compiled(form, dtype="float32"):
    """Parameters of the small encoder, and its jitted evaluation (one compilation for all tests)."""
    encoder = make(form, jnp.dtype(dtype))
    variables = random_variables(encoder, packed(), method=all_stages)
    return variables, quick_jit(lambda batch: encoder.apply(variables, batch, method=all_stages))


def test_every_encoder_is_tested():
    """Each encoder of the package has a small config here; the name of each that is registered is its key."""
    ours = {name for name, encoder in STRUCTURE_ENCODERS.items() if encoder.__module__.startswith("bihf_jax.")}
    assert {config.name for config in CONFIGS.values()} == ours
    for name, encoder in STRUCTURE_ENCODERS.items():
        assert encoder.config_class().name == name
        assert encoder.symmetry in ("SE(3)", "E(3)")


def test_unknown_name():
    """The error names the encoder asked for and those there are."""
    with pytest.raises(ValueError, match="structure encoder is 'egnn'; allowed: gvp, mpnn"):
        structure_encoder("egnn")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
@pytest.mark.parametrize("form", CONFIGS)
def test_encoders_have_the_symmetry_they_declare(form, dtype, tolerance):
    """Motions leave the scalars; a mirror image changes them exactly where the encoder does not declare E(3)."""
    _, encode = compiled(form, dtype)
    mirror = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    plain, moved, mirrored = (
        np.asarray(encode(batch), np.float32)
        for batch in (
            packed(),
            transform(packed(), random_rotation(7), np.asarray([30.0, -20.0, 10.0])),
            transform(packed(), mirror, np.zeros(3)),
        )
    )
    np.testing.assert_allclose(moved, plain, atol=tolerance, rtol=tolerance)
    if make(form).symmetry == "E(3)":
        np.testing.assert_allclose(mirrored, plain, atol=tolerance, rtol=tolerance)
    else:
        assert np.square(mirrored - plain).mean() > 9 * np.square(moved - plain).mean()  # more than rounding does
        assert np.abs(mirrored - plain).max() > 1e-2


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
@pytest.mark.parametrize("form", CONFIGS)
def test_company_row_and_position_do_not_matter(form, dtype, tolerance):
    """A protein alone, behind others, in the other row and at another position has the same scalars."""
    _, encode = compiled(form, dtype)
    first, second, third = proteins()
    slots = second.slots
    alone = np.asarray(encode(pack([[second], []], LENGTH)), np.float32)[0, :slots]
    for batch, row, place in (
        (pack([[first, second], [third]], LENGTH), 0, first.slots),
        (pack([[third], [second, first]], LENGTH), 1, 0),
        (pack([[], [second]], LENGTH, offset=LENGTH - slots), 1, LENGTH - slots),
    ):
        there = np.asarray(encode(batch), np.float32)[row, place : place + slots]
        np.testing.assert_allclose(there, alone, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("form", ["gvp", "pronet allatom"])
def test_edges_in_blocks_change_nothing(form, monkeypatch):
    """As a CPU computes large grids, seven slots at a time: the same scalars, and the same gradient of parameters."""
    encoder, batch = make(form), packed()
    variables = random_variables(encoder, batch, method=all_stages)

    def loss(variables):
        scalars = encoder.apply(variables, batch, method=all_stages)
        return jnp.sum(jnp.square(scalars)), scalars

    compute = jax.grad(loss, has_aux=True)
    at_once = quick_jit(compute)(variables)
    monkeypatch.setattr(graph, "EDGES_OF_BLOCK", 7 * 6)
    in_blocks = quick_jit(lambda variables: compute(variables))(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), in_blocks, at_once)


@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize("form", CONFIGS)
def test_masked_values_change_nothing(form, invalid):
    """Large noise, or NaN coordinates, in everything no mask admits changes no bit."""
    _, encode = compiled(form)
    np.testing.assert_array_equal(encode(noise_where_masked(packed(), 5, invalid)), encode(packed()))


@pytest.mark.parametrize("form", CONFIGS)
def test_scalars_are_zero_without_a_structure_and_only_there(form):
    """Special tokens, unresolved residues and padding have zeros."""
    batch = packed()
    np.testing.assert_array_equal(np.any(np.asarray(compiled(form)[1](batch)) != 0, axis=-1), batch.structure_mask)


@pytest.mark.parametrize("form", CONFIGS)
def test_declared_inputs_are_all_that_is_read(form):
    """Without the fields that the encoder does not declare nothing changes."""
    encoder, batch = make(form), packed()
    hidden = {"tokens", "backbone", "torsions", "label", "weight"} - set(encoder.inputs)
    nothing = {name: jnp.full_like(getattr(batch, name), jnp.nan) for name in hidden}
    np.testing.assert_array_equal(compiled(form)[1](batch._replace(**nothing)), compiled(form)[1](batch))


@pytest.mark.parametrize("form", CONFIGS)
def test_only_neighbours_have_influence(form):
    """Without neighbours a residue hears at most the two beside it in its chain; with them it hears those too."""
    _, encode = compiled(form)
    batch = packed()
    without = batch._replace(neighbour_mask=jnp.zeros_like(batch.neighbour_mask))
    slot = int(np.flatnonzero(np.asarray(batch.structure_mask[0]))[4])
    moved = (batch.structure_mask & (jnp.abs(jnp.arange(LENGTH) - slot) > 1)).at[1].set(True)[..., None, None]

    def elsewhere(batch):
        return batch._replace(backbone=batch.backbone + jnp.where(moved, 5.0, 0.0) * jnp.arange(3))

    np.testing.assert_array_equal(encode(elsewhere(without))[0, slot], encode(without)[0, slot])
    assert np.abs(encode(elsewhere(batch))[0, slot] - encode(batch)[0, slot]).max() > 1e-3


@pytest.mark.parametrize("form", CONFIGS)
def test_degenerate_structures_have_finite_gradients(form):
    """Coincident atoms, straight angles, isolated residues and proteins without structure give no NaN."""
    encoder, batch = make(form), packed()
    backbone = batch.backbone.at[0, 2:6].set(1.0)
    straight = jnp.asarray([1.4, 0.0, 0.0])
    backbone = backbone.at[0, 7, 0].set(backbone[0, 7, 1] + straight).at[0, 7, 2].set(backbone[0, 7, 1] - straight)
    line = backbone[0, 12, 1] + jnp.arange(4.0)[:, None] * jnp.asarray([0.0, 3.8, 0.0])  # CAs in a row
    batch = batch._replace(
        backbone=backbone.at[0, 12:16, 1].set(line),
        neighbour_mask=batch.neighbour_mask.at[0, 8:11].set(False),
        structure_mask=batch.structure_mask.at[1].set(False),
    )

    def loss(variables, backbone):
        scalars = encoder.apply(variables, batch._replace(backbone=backbone), method=all_stages)
        return jnp.sum(scalars * jnp.arange(scalars.shape[-1]))

    with jax.debug_nans(True):
        gradients = quick_jit(jax.grad(loss, (0, 1)))(compiled(form)[0], batch.backbone)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    assert np.any(np.asarray(gradients[1]) != 0)


@functools.cache
def of_residues(count):
    """A grid with one protein of so many residues."""
    protein = random_protein(6, (count,), missing=0.0)
    return pack([[protein], []], LENGTH) if protein.slots <= LENGTH else pack([[protein]], protein.slots)


@pytest.mark.parametrize("residues", [1, 2, 2000])
@pytest.mark.parametrize("form", CONFIGS)
def test_any_number_of_residues(form, residues):
    """One, two and 2,000 residues give finite scalars, and zeros beside them."""
    batch = of_residues(residues)
    scalars = compiled(form)[1](batch)
    assert np.all(np.isfinite(scalars))
    np.testing.assert_array_equal(np.any(np.asarray(scalars) != 0, axis=-1), batch.structure_mask)


@pytest.mark.parametrize("form", CONFIGS)
def test_updates_are_added_to_the_scalars(form):
    """`add_scalars` adds, so that fusion can."""
    encoder, batch = make(form), packed()

    def added(encoder, batch, update):
        state = encoder.embed(batch, None)
        return encoder.scalars(state), encoder.scalars(encoder.add_scalars(state, update))

    variables, _ = compiled(form)
    update = jnp.asarray(np.random.default_rng(0).normal(size=(2, LENGTH, 12)), jnp.float32)
    before, after = quick_jit(lambda batch: encoder.apply(variables, batch, update, method=added))(batch)
    np.testing.assert_array_equal(after, before + update)
