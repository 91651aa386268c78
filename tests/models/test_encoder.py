"""Tests of `bihf_jax.models.encoder` and `heads`: the properties of the whole model, for every fusion method."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models import (
    FUSION_METHODS,
    EncoderConfig,
    FusedEncoder,
    FusionConfig,
    GVPConfig,
    HeadConfig,
    MPNNConfig,
    PLMConfig,
    ProNetConfig,
    ProteinLanguageModel,
    TaskModel,
)
from bihf_jax.models.encoder import _relative_length
from tests.models.batches import (
    noise_where_masked,
    pack,
    quick_jit,
    random_protein,
    random_rotation,
    random_variables,
    transform,
)

LENGTH = 48
FORMS = ("local", "global")
METHODS = tuple(FUSION_METHODS)
# Other structure encoders than `gvp`, which every method is tested with.
OTHER_ENCODERS = {
    "mpnn": MPNNConfig(width=12, neighbours=6),
    "pronet": ProNetConfig(width=12, neighbours=6, level="allatom"),
}


# The softmax over keys does not see a bias of the keys, and nothing reads the vectors of the last graph layer.
WITHOUT_GRADIENT = (
    *("key/bias", "k_proj/bias"),
    *(f"structure/layers_1/feed_forward_1/{name}" for name in ("wv", "wg", "bg")),
)


def small_config(method, **changes):
    config = EncoderConfig(
        plm=PLMConfig(layers=2, width=16, heads=2),
        structure=GVPConfig(scalar_width=12, vector_width=4, edge_scalar_width=8, neighbours=6),
        fusion=FusionConfig.named(method, width=16, heads=2),
        stages=2,
        representation_width=12,
    )
    return dataclasses.replace(config, **changes)


def proteins():
    return random_protein(1), random_protein(2, (8,)), random_protein(3, (7, 4))


def packed():
    """Two rows: two proteins and one, with padding at the end of each."""
    first, second, third = proteins()
    return pack([[first, second], [third]], LENGTH)


@functools.cache
def compiled(method, dtype="float32", **changes):
    """Random variables of the small encoder, and its jitted evaluation (one compilation for all tests)."""
    encoder = FusedEncoder(small_config(method, dtype=dtype, **changes))
    variables = random_variables(encoder, packed())
    return variables, quick_jit(functools.partial(encoder.apply, variables))


def outputs(output):
    """By name, of the sides that are run."""
    named = {name: getattr(output, name) for name in ("representation", "sequence", "structure")}
    return {name: values for name, values in named.items() if values is not None}


def hears(method, side):
    """Whether a side receives updates from the other."""
    fusion = FUSION_METHODS[method]
    return fusion.kind != "none" and fusion.direction in ("both", f"to_{side}")


@pytest.mark.parametrize("method", METHODS)
def test_motions_change_nothing_and_a_mirror_image_does(method):
    """Rotation and translation change no output by 1e-4; a mirror image changes every output that hears structure."""
    _, encode = compiled(method)
    plain = outputs(encode(packed()))
    moved = outputs(encode(transform(packed(), random_rotation(4), np.asarray([40.0, -25.0, 10.0]))))
    mirrored = outputs(encode(transform(packed(), np.diag([1.0, -1.0, 1.0]).astype(np.float32), np.zeros(3))))
    for name, before in plain.items():
        np.testing.assert_allclose(moved[name], before, atol=1e-4)
        sees = {"structure": True, "sequence": hears(method, "sequence"), "representation": "structure" in plain}[name]
        assert (np.abs(mirrored[name] - before).max() > 1e-2) == sees


@pytest.mark.parametrize(
    ("method", "dtype", "tolerance"),
    [*((method, "float32", 1e-5) for method in METHODS), *((form, "bfloat16", 0.1) for form in FORMS)],
)
def test_company_row_and_position_do_not_matter(method, dtype, tolerance):
    """A protein alone, behind others, in the other row and at another position has the same output."""
    _, encode = compiled(method, dtype)
    first, second, third = proteins()
    alone = encode(pack([[second], []], LENGTH))
    start, slots = first.slots, second.slots
    for batch, row, place in (
        (pack([[first, second], [third]], LENGTH), 0, start),
        (pack([[third], [second, first]], LENGTH), 1, 0),
        (pack([[], [second]], LENGTH, offset=LENGTH - slots), 1, LENGTH - slots),
    ):
        packed_output = outputs(encode(batch))
        for name, expected in outputs(alone).items():
            expected, other = np.asarray(expected, np.float32)[0, :slots], np.asarray(packed_output[name])[row]
            other = other.astype(np.float32)
            np.testing.assert_allclose(other[place : place + slots], expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("invalid", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_masked_values_change_nothing(method, invalid):
    """Large noise, or NaN coordinates, in everything no mask admits changes no output bit."""
    _, encode = compiled(method)
    plain, noisy = outputs(encode(packed())), outputs(encode(noise_where_masked(packed(), 5, invalid)))
    jax.tree.map(np.testing.assert_array_equal, noisy, plain)


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_zero_where_a_side_is_absent(method):
    """Sequence, structure and representation are zero exactly where their side (or both sides) is absent."""
    first, second, _ = proteins()
    batch = pack([[first], [second]], LENGTH)
    absent = batch.sequence_mask & (jnp.arange(LENGTH) >= 3) & (jnp.arange(LENGTH) < 7)  # as a ligand's slots
    batch = batch._replace(sequence_mask=batch.sequence_mask & ~absent)
    output = outputs(compiled(method)[1](batch))
    either = batch.sequence_mask | batch.structure_mask
    assert np.any(np.asarray(batch.structure_mask & ~batch.sequence_mask))
    masks = {"representation": either, "sequence": batch.sequence_mask, "structure": batch.structure_mask}
    for name, values in output.items():
        mask = masks[name]
        np.testing.assert_array_equal(np.any(np.asarray(values) != 0, axis=-1), mask)
        assert np.all(np.isfinite(values))


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        *((method, "float32") for method in ("local", "global", "serial", "cross", "token")),
        *((form, "bfloat16") for form in FORMS),
    ],
)
def test_fusion_at_initialisation_leaves_the_plm_as_it_is(method, dtype):
    """With update projections of zero, as they start, the sequence output is the pLM alone, bit for bit, under jit."""
    config, batch = small_config(method, dtype=dtype), packed()
    encoder = FusedEncoder(config)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * 0 if path[-2].key in ("sequence_out", "structure_out") else leaf,
        random_variables(encoder, batch),
    )
    fused = jax.jit(encoder.apply)(variables, batch).sequence
    plm = ProteinLanguageModel(config.plm, jnp.dtype(dtype))
    alone = jax.jit(plm.apply)(
        {"params": variables["params"]["plm"]}, batch.tokens, batch.chain_segment, batch.sequence_mask
    )
    mask = np.asarray(batch.sequence_mask)
    assert fused.dtype == alone.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(fused)[mask], np.asarray(alone)[mask])


@pytest.mark.parametrize("method", [method for method in METHODS if "only" not in method])
def test_a_side_hears_the_other_as_the_method_says(method):
    """The sequence output depends on the coordinates and the structure output on the pLM, or not at all."""
    encoder, batch = FusedEncoder(small_config(method, structure=GVPConfig(
        scalar_width=12, vector_width=4, edge_scalar_width=8, neighbours=6, residue_type=False))), packed()  # fmt: skip
    variables = random_variables(encoder, batch)
    embedding = variables["params"]["plm"]["embed_tokens"]["embedding"]

    def weighted_sums(backbone, embedding):
        tree = jax.tree.map(lambda x: x, variables)
        tree["params"]["plm"]["embed_tokens"]["embedding"] = embedding
        output = encoder.apply(tree, batch._replace(backbone=backbone))
        return jnp.stack([jnp.sum(output.sequence * jnp.arange(16)), jnp.sum(output.structure * jnp.arange(12))])

    jacobian = quick_jit(jax.jacrev(weighted_sums, (0, 1)))(batch.backbone, embedding)
    to_sequence, to_structure = jacobian[0][0], jacobian[1][1]
    for gradient, side in ((to_sequence, "sequence"), (to_structure, "structure")):
        assert np.all(np.isfinite(gradient))
        if hears(method, side):
            assert np.abs(gradient).max() > 1e-4
        else:
            np.testing.assert_array_equal(gradient, 0)
    # Hidden atoms have none.
    assert np.all(np.asarray(to_sequence)[~np.asarray(batch.structure_mask)] == 0)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_every_parameter(method):
    """With open projections a loss on the residues moves every parameter, those of stage 1 on both sides too."""
    model = TaskModel(small_config(method), HeadConfig(num_outputs=2))
    batch = packed()
    batch = batch._replace(sequence_mask=batch.sequence_mask.at[:, 5:7].set(False))  # slots of every kind
    variables = random_variables(model, batch)

    @quick_jit
    def gradient(variables):
        def loss(variables):
            logits = model.apply(variables, batch, batch.row_id, rngs={"dropout": jax.random.key(1)})
            return jnp.sum(jnp.where(batch.label_mask[..., None], jnp.square(logits), 0))

        return jax.grad(loss)(variables)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables)):
        name = "/".join(part.key for part in path)
        assert np.all(np.isfinite(leaf)), name
        if not name.endswith(WITHOUT_GRADIENT):
            assert np.any(np.asarray(leaf) != 0), name


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_structures_have_finite_gradients(method):
    """Coincident atoms, straight angles, residues without neighbours and proteins without structure give no NaN."""
    model = TaskModel(small_config(method), HeadConfig())
    batch = packed()
    backbone = batch.backbone.at[0, 2:6].set(1.0)
    straight = jnp.asarray([1.4, 0.0, 0.0])
    backbone = backbone.at[0, 7, 0].set(backbone[0, 7, 1] + straight).at[0, 7, 2].set(backbone[0, 7, 1] - straight)
    batch = batch._replace(
        backbone=backbone,
        neighbour_mask=batch.neighbour_mask.at[0, 8:11].set(False),  # isolated residues
        structure_mask=batch.structure_mask.at[1].set(False),  # no structure at all
    )
    variables = random_variables(model, batch)

    def loss(variables, backbone):
        logits = model.apply(variables, batch._replace(backbone=backbone))
        return jnp.sum(jnp.where(batch.label_mask[..., None], jnp.square(logits), 0))

    with jax.debug_nans(True):
        gradients = quick_jit(jax.grad(loss, (0, 1)))(variables, backbone)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
@pytest.mark.parametrize("name", OTHER_ENCODERS)
def test_other_encoders_keep_the_properties_of_the_whole_model(name, dtype, tolerance):
    """Motions change no output, a mirror image does where the encoder sees it, masked values and company do not."""
    _, encode = compiled("local", dtype, structure=OTHER_ENCODERS[name])

    def outputs_of(batch):
        return {key: np.asarray(values, np.float32) for key, values in outputs(encode(batch)).items()}

    first, second, _ = proteins()
    plain = outputs_of(packed())
    moved = outputs_of(transform(packed(), random_rotation(4), np.asarray([40.0, -25.0, 10.0])))
    mirrored = outputs_of(transform(packed(), np.diag([1.0, -1.0, 1.0]).astype(np.float32), np.zeros(3)))
    noisy = outputs_of(noise_where_masked(packed(), 5, invalid=True))
    alone = outputs_of(pack([[second], []], LENGTH))
    for key, before in plain.items():
        np.testing.assert_allclose(moved[key], before, atol=tolerance, rtol=tolerance)
        np.testing.assert_array_equal(noisy[key], before)
        there = before[0, first.slots : first.slots + second.slots]
        np.testing.assert_allclose(alone[key][0, : second.slots], there, atol=tolerance, rtol=tolerance)
        if name == "mpnn":
            np.testing.assert_allclose(mirrored[key], before, atol=tolerance, rtol=tolerance)
        else:
            assert np.square(mirrored[key] - before).mean() > 9 * np.square(moved[key] - before).mean()
            assert np.abs(mirrored[key] - before).max() > 1e-2


@pytest.mark.parametrize("name", OTHER_ENCODERS)
def test_gradients_reach_every_parameter_of_other_encoders(name):
    """With open projections a loss on the residues moves every parameter of the structure side too, in both stages."""
    model, batch = TaskModel(small_config("local", structure=OTHER_ENCODERS[name]), HeadConfig()), packed()
    variables = random_variables(model, batch)

    def loss(variables):
        logits = model.apply(variables, batch, batch.row_id, rngs={"dropout": jax.random.key(1)})
        return jnp.sum(jnp.where(batch.label_mask[..., None], jnp.square(logits), 0))

    for path, leaf in jax.tree_util.tree_leaves_with_path(quick_jit(jax.grad(loss))(variables)):
        parameter = "/".join(part.key for part in path)
        assert np.all(np.isfinite(leaf)), parameter
        assert parameter.endswith(WITHOUT_GRADIENT) or np.any(np.asarray(leaf) != 0), parameter


def test_dropout_follows_the_row_id():
    """Rows in another order with their ids give the same outputs in that order; without ids nothing is dropped."""
    variables, encode = compiled("local")
    config = small_config("local")
    encoder = FusedEncoder(dataclasses.replace(config, plm=dataclasses.replace(config.plm, dropout=0.1)))

    @quick_jit
    def train(batch):
        return encoder.apply(variables, batch, batch.row_id, rngs={"dropout": jax.random.key(2)}).representation

    batch = packed()
    reversed_batch = jax.tree.map(lambda x: x[::-1], batch)
    np.testing.assert_allclose(train(reversed_batch)[::-1], train(batch), atol=1e-5)
    assert np.abs(train(batch) - encode(batch).representation).max() > 1e-2
    assert np.abs(train(batch._replace(row_id=batch.row_id + 5)) - train(batch)).max() > 1e-2


@pytest.mark.slow
def test_rematerialisation_changes_nothing():
    """With remat on both sides, outputs and gradients stay the same, dropout included."""
    config, batch = small_config("local"), packed()
    remat = dataclasses.replace(
        config,
        plm=dataclasses.replace(config.plm, remat=True),
        structure=dataclasses.replace(config.structure, remat=True),
    )
    variables, _ = compiled("local")

    def gradient(config):
        def loss(variables):
            encoder = FusedEncoder(config)
            output = encoder.apply(variables, batch, batch.row_id, rngs={"dropout": jax.random.key(1)})
            return jnp.sum(output.representation * jnp.arange(12))

        return quick_jit(jax.grad(loss))(variables)

    for plain, recomputed in zip(jax.tree.leaves(gradient(config)), jax.tree.leaves(gradient(remat)), strict=True):
        scale = np.abs(plain).max() + 1e-6
        np.testing.assert_allclose(recomputed / scale, plain / scale, atol=1e-4)


def test_bfloat16_is_close_to_float32():
    """The bfloat16 model has bfloat16 features, float32 parameters and logits, and about the same values."""
    variables, encode = compiled("local")
    low_variables, low_encode = compiled("local", "bfloat16")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low_variables))
    jax.tree.map(np.testing.assert_array_equal, variables, low_variables)
    exact, low = encode(packed()).representation, low_encode(packed()).representation
    assert low.dtype == jnp.bfloat16
    difference = np.asarray(low, np.float32) - np.asarray(exact)
    assert np.sqrt(np.mean(difference**2)) < 0.05 * np.sqrt(np.mean(np.square(exact)))
    model = TaskModel(small_config("local", dtype="bfloat16"), HeadConfig(num_outputs=3))
    logits = jax.eval_shape(lambda batch: model.init_with_output(jax.random.key(0), batch)[0], packed())
    assert (logits.shape, logits.dtype) == ((2, LENGTH, 3), jnp.float32)


def test_intermediates_are_named_by_stage():
    """The gates of every stage come back by name and weigh the two sides to 1 where anything exists."""
    found = compiled("local")[1](packed()).intermediates
    names = ("gate", "fused", "sequence", "structure", "sequence_change", "structure_change")
    assert set(found) == {f"stage{stage}/{name}" for stage in (1, 2) for name in names}
    for stage in (1, 2):
        gate = found[f"stage{stage}/gate"]
        np.testing.assert_allclose(gate.sum(-1), np.asarray(packed().protein_segment > 0), atol=1e-6)


@pytest.mark.parametrize("method", ["local", "serial", "local_last_stage", "sequence_only"])
def test_the_last_stage_is_what_the_encoder_finishes(method):
    """Each side that is run leaves its features after each stage, whatever the schedule; its output is the last."""
    variables, encode = compiled(method)
    output, batch = encode(packed()), packed()
    sides = small_config(method).sides
    for side, mask in (("sequence", batch.sequence_mask), ("structure", batch.structure_mask)):
        stages = [name for name in output.intermediates if name.endswith(f"/{side}")]
        assert stages == ([f"stage1/{side}", f"stage2/{side}"] if side in sides else [])
        if side == "structure" and side in sides:
            last = np.where(np.asarray(mask)[..., None], output.intermediates["stage2/structure"], 0)
            np.testing.assert_allclose(output.structure, last, atol=1e-6)
        if side == "sequence":
            encoder = FusedEncoder(small_config(method))
            last = output.intermediates["stage2/sequence"]
            last = encoder.apply(variables, last, method=lambda module, x: module.plm.finish(x))
            last = np.where(np.asarray(mask)[..., None], last, 0)
            np.testing.assert_allclose(output.sequence, last, atol=1e-5)


def test_a_change_is_the_length_of_the_update():
    """Relative to the features before it; 0 where there are none, and where the side is absent."""
    x, update = jnp.asarray([[3.0, 4.0], [0.0, 0.0]]), jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(_relative_length(update, x), [0.2, 0.0], atol=1e-6)
    found, batch = compiled("local")[1](packed()).intermediates, packed()
    for side, mask in (("sequence", batch.sequence_mask), ("structure", batch.structure_mask)):
        np.testing.assert_array_equal(np.asarray(found[f"stage1/{side}_change"]) > 0, np.asarray(mask))


@pytest.mark.parametrize("method", ["local", "global", "cross", "token"])
def test_long_rows_compile_and_run(method):
    """A protein of 2,000 residues in a row of 2,048 slots runs, and its outputs are finite."""
    batch = pack([[random_protein(6, (2000,), degree=4)]], 2048)
    output = quick_jit(FusedEncoder(small_config(method)).apply)(compiled(method)[0], batch)
    assert np.all(np.isfinite(output.representation))
    assert np.all(np.asarray(output.structure)[~np.asarray(batch.structure_mask)] == 0)
