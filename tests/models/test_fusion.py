"""Tests of `bihf_jax.models.fusion`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models.config import FusionConfig
from bihf_jax.models.fusion import FUSIONS, SlotMasks

ROWS, LENGTH = 2, 12


@pytest.fixture(scope="module")
def masks():
    """Slots with both sides, one side and none, in two proteins a row."""
    sequence, structure = np.ones((2, ROWS, LENGTH), bool)
    structure[:, :3] = False
    sequence[:, 6:8] = False
    sequence[:, 10:] = structure[:, 10:] = False
    segment = np.repeat([1, 2, 0], [5, 5, 2])[None].repeat(ROWS, axis=0)
    protein = np.asarray([[True, True, False]] * ROWS)
    return SlotMasks(*map(jnp.asarray, (sequence, structure, segment, protein)))


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=(ROWS, LENGTH, width)), jnp.float32) for width in (10, 6))


def make(kind, sides, masks, **changes):
    """The module and variables with every parameter moved from its initial value (the zero projections too)."""
    fusion = FUSIONS[kind](FusionConfig(kind=kind, width=8, heads=2, **changes), jnp.float32)
    leaves, tree = jax.tree.flatten(fusion.init(jax.random.key(0), *sides, masks, None, None))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return fusion, tree.unflatten(moved)


@pytest.mark.parametrize("kind", FUSIONS)
def test_updates_are_zero_at_initialisation(kind, sides, masks):
    """A new fusion gives both sides exact zeros."""
    fusion = FUSIONS[kind](FusionConfig(kind=kind, width=8, heads=2), jnp.float32)
    out, _ = fusion.init_with_output(jax.random.key(0), *sides, masks, None, None)
    assert np.all(np.asarray(out.sequence_update) == 0)
    assert np.all(np.asarray(out.structure_update) == 0)


@pytest.mark.parametrize("kind", FUSIONS)
def test_absent_sides_get_and_give_nothing(kind, sides, masks):
    """An absent side receives no update, a present one does, and values at absent sides change nothing."""
    fusion, variables = make(kind, sides, masks)
    out = fusion.apply(variables, *sides, masks, None, None)
    for update, mask in ((out.sequence_update, masks.sequence), (out.structure_update, masks.structure)):
        np.testing.assert_array_equal(np.any(np.asarray(update) != 0, axis=-1), mask)
    noisy = [
        jnp.where(mask[..., None], side, 1e4 * jnp.cos(jnp.arange(side.size).reshape(side.shape)))
        for side, mask in zip(sides, (masks.sequence, masks.structure), strict=True)
    ]
    again = fusion.apply(variables, *noisy, masks, None, None)
    np.testing.assert_array_equal(again.sequence_update, out.sequence_update)
    np.testing.assert_array_equal(again.structure_update, out.structure_update)


def test_gate_is_the_softmax_of_the_shared_votes(sides, masks):
    """Both sides: softmax(f(x1) + f(x2)) with one f; one side: all weight on it; none: zero."""
    fusion, variables = make("local", sides, masks)
    gate = np.asarray(fusion.apply(variables, *sides, masks, None, None).intermediates["gate"])
    present = np.stack([masks.sequence, masks.structure], axis=-1)
    np.testing.assert_allclose(gate.sum(-1), present.any(-1), atol=1e-6)
    single = present.sum(-1) == 1
    np.testing.assert_array_equal(gate[single], present[single])

    parameters = variables["params"]

    def dense(x, name):
        return x @ parameters[name]["kernel"] + parameters[name]["bias"]

    def side(x, name):
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return dense(x * parameters[f"{name}_norm"]["scale"] + parameters[f"{name}_norm"]["bias"], f"{name}_in")

    def vote(x):
        return dense(jax.nn.gelu(dense(x, "vote_0")), "vote_1")

    x1, x2 = side(sides[0], "sequence"), side(sides[1], "structure")
    expected = jax.nn.softmax(vote(x1) + vote(x2), axis=-1)
    both = present.all(-1)
    np.testing.assert_allclose(gate[both], expected[both], atol=1e-5)
    update = dense(expected[..., :1] * x1 + expected[..., 1:] * x2, "sequence_out")
    out = fusion.apply(variables, *sides, masks, None, None).sequence_update
    np.testing.assert_allclose(np.asarray(out)[both], np.asarray(update)[both], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "reach"), [("local", "slot"), ("linear", "slot"), ("global", "protein"), ("cross", "protein")]
)
def test_how_far_information_travels(kind, reach, sides, masks):
    """A change at one slot reaches that slot only, or every slot of its protein and no other."""
    fusion, variables = make(kind, sides, masks)
    before = fusion.apply(variables, *sides, masks, None, None)
    changed = (sides[0], sides[1].at[:, 4].add(jnp.arange(6.0)))
    after = fusion.apply(variables, *changed, masks, None, None)
    moved = np.any(np.asarray(before.sequence_update != after.sequence_update), axis=-1)
    expected = (np.arange(LENGTH) == 4) if reach == "slot" else np.asarray(masks.protein_segment[0] == 1)
    np.testing.assert_array_equal(moved, np.broadcast_to(expected & np.asarray(masks.sequence[0]), moved.shape))


def test_the_token_goes_back_and_forth(sides, masks):
    """The token brings the structure side of its protein to the sequence side at the next exchange, not at this one."""
    fusion, variables = make("token", sides, masks)
    before = fusion.apply(variables, *sides, masks, None, None)
    changed = (sides[0], sides[1].at[:, 4].add(jnp.arange(6.0)))
    after = fusion.apply(variables, *changed, masks, None, None)
    np.testing.assert_array_equal(before.sequence_update, after.sequence_update)
    moved = np.any(np.asarray(before.structure_update != after.structure_update), axis=-1)
    own_protein = np.asarray(masks.protein_segment == 1)
    np.testing.assert_array_equal(moved, own_protein & np.asarray(masks.structure))
    np.testing.assert_array_equal(np.any(np.asarray(before.carry != after.carry), axis=-1), [[True, False, False]] * 2)
    carried = [fusion.apply(variables, *sides, masks, out.carry, None).sequence_update for out in (before, after)]
    moved = np.any(np.asarray(carried[0] != carried[1]), axis=-1)
    np.testing.assert_array_equal(moved, own_protein & np.asarray(masks.sequence))


@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("direction", ["to_sequence", "to_structure"])
def test_only_the_side_that_listens_is_updated(kind, direction, sides, masks):
    """One direction gives the other side exact zeros and has no parameters for it."""
    fusion, variables = make(kind, sides, masks, direction=direction)
    out = fusion.apply(variables, *sides, masks, None, None)
    updates = {"to_sequence": out.sequence_update, "to_structure": out.structure_update}
    assert np.any(np.asarray(updates.pop(direction)) != 0)
    np.testing.assert_array_equal(*updates.values(), 0)
    silent = "structure" if direction == "to_sequence" else "sequence"
    assert f"{silent}_out" not in variables["params"]
