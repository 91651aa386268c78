"""Ligand atoms as nodes: what every structure encoder and the whole model make of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.grid import make_grid
from bihf_jax.data.ligand import CONTACT, EDGE_TYPES, FIRST_BOND
from bihf_jax.models import EncoderConfig, FusionConfig, HeadConfig, PLMConfig, TaskModel
from bihf_jax.models.features import geometric_features
from bihf_jax.models.structure import structure_encoder
from tests.data.complexes import made_complex, made_ligand, permuted
from tests.models.batches import noise_where_masked, quick_jit, random_rotation, random_variables, transform
from tests.models.test_structure import CONFIGS, STAGES, all_stages

LENGTH, FIRST_ATOM, SLOTS = 88, 28, 37
WITH_LIGANDS = {form: dataclasses.replace(config, ligands=True) for form, config in CONFIGS.items()}
# Compiling takes longer than running: what both levels of ProNet share is tested with one of them.
FORMS = ("gvp", "mpnn", "pronet allatom")
SMALL = {"plm": PLMConfig(layers=2, width=16, heads=2), "stages": 2, "representation_width": 12}


def grid_of(*rows, length=LENGTH):
    """Rows of examples as a batch on the device."""
    numbered = [list(enumerate(row)) for row in rows]
    grid = make_grid(numbered, length=length, neighbours=24, graphs=2)
    return ProteinBatch(*map(jnp.asarray, grid))


@functools.cache
def packed():
    """Two complexes in one row, the first and a third in the other."""
    first, second, third = (made_complex(seed) for seed in range(3))
    return grid_of([first, second], [third])


@functools.cache
def compiled(form, dtype="float32"):
    """Random parameters of the small encoder with ligands, and its jitted evaluation."""
    config = WITH_LIGANDS[form]
    encoder = structure_encoder(config.name)(config, STAGES, jnp.dtype(dtype))
    variables = random_variables(encoder, packed(), method=all_stages)
    return variables, quick_jit(lambda batch: encoder.apply(variables, batch, method=all_stages))


@functools.cache
def compiled_model(kind):
    """A small model of proteins: batch -> (logits, encoder output). Residues and atoms have learned weights."""
    fusion = FusionConfig.named(kind, width=16, heads=2)
    config = EncoderConfig(**SMALL, structure=WITH_LIGANDS["gvp"], fusion=fusion)
    model = TaskModel(config, HeadConfig(hidden_width=8, unit="protein", pooling="attention"))
    variables = random_variables(model, packed())
    return quick_jit(functools.partial(model.apply, variables, method=model.logits_and_features))


def scalars(form, batch, dtype="float32"):
    return np.asarray(compiled(form, dtype)[1](batch), np.float32)


@pytest.mark.parametrize(
    ("form", "dtype", "tolerance"),
    [*((form, "float32", 1e-4) for form in CONFIGS), ("gvp", "bfloat16", 0.15), ("pronet allatom", "bfloat16", 0.15)],
)
def test_motions_of_the_complex_change_nothing_and_a_mirror_image_does(form, dtype, tolerance):
    """Atoms and residues keep their scalars; the mirror image is told, at the atoms too, unless the encoder is E(3)."""
    plain = scalars(form, packed(), dtype)
    moved = scalars(form, transform(packed(), random_rotation(7), np.asarray([30.0, -20.0, 10.0])), dtype)
    mirrored = scalars(form, transform(packed(), np.diag([-1.0, 1.0, 1.0]).astype(np.float32), np.zeros(3)), dtype)
    np.testing.assert_array_equal(np.any(plain != 0, axis=-1), packed().structure_mask)
    np.testing.assert_allclose(moved, plain, atol=tolerance, rtol=tolerance)
    if structure_encoder(WITH_LIGANDS[form].name).symmetry == "E(3)":
        np.testing.assert_allclose(mirrored, plain, atol=tolerance, rtol=tolerance)
    elif dtype == "float32":
        atoms = np.asarray(packed().ligand_atom[..., 0] > 0)
        for where in (atoms, ~atoms):
            change, rounding = (np.square(other - plain)[where].mean() for other in (mirrored, moved))
            assert change > 100 * rounding  # squares


@pytest.mark.parametrize("form", FORMS)
def test_atoms_in_another_order_are_the_same_atoms(form):
    """Permuting the atoms permutes their scalars and leaves those of the residues."""
    order = np.random.default_rng(2).permutation(9)
    second = made_complex(0, permuted(made_ligand(0), order))
    before, after = (scalars(form, grid_of([example], []))[0] for example in (made_complex(0), second))
    np.testing.assert_allclose(after[:FIRST_ATOM], before[:FIRST_ATOM], atol=1e-5)
    np.testing.assert_allclose(after[FIRST_ATOM:SLOTS], before[FIRST_ATOM:SLOTS][order], atol=1e-5)
    assert np.abs(before[FIRST_ATOM:SLOTS][order] - before[FIRST_ATOM:SLOTS]).max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_company_and_masked_values_do_not_matter(form):
    """A complex alone has the scalars that it has behind another one; noise and NaN where masked change no bit."""
    there = scalars(form, packed())[0, SLOTS : 2 * SLOTS]
    alone = scalars(form, grid_of([made_complex(1)], []))[0, :SLOTS]
    np.testing.assert_allclose(there, alone, atol=1e-5)
    for invalid in (False, True):
        np.testing.assert_array_equal(scalars(form, noise_where_masked(packed(), 3, invalid)), scalars(form, packed()))


@pytest.mark.parametrize("form", FORMS)
def test_elements_bonds_and_places_are_seen(form):
    """Another element, another bond, another kind of edge or another place of an atom changes its scalars and those of
    the residues that it touches."""
    batch, example = grid_of([made_complex()], []), made_complex()
    before, atom = scalars(form, batch), FIRST_ATOM + 3
    touched = np.flatnonzero((np.asarray(batch.neighbours[0, :FIRST_ATOM]) == atom).any(axis=-1))
    bond_types = made_ligand().bond_types.copy()
    bond_types[4] = 2  # of atoms 2 and 3
    rebound = dataclasses.replace(made_ligand(), bond_types=bond_types)
    changes = {
        "element": batch._replace(ligand_atom=batch.ligand_atom.at[0, atom, 0].add(1)),
        "charge": batch._replace(ligand_atom=batch.ligand_atom.at[0, atom, 1].add(1)),
        "bond": grid_of([made_complex(0, rebound)], []),
        "contact": batch._replace(edge_type=jnp.where(batch.edge_type == CONTACT, FIRST_BOND, batch.edge_type)),
        "place": batch._replace(backbone=batch.backbone.at[0, atom, 1].add(0.5)),
    }
    assert len(touched) > 1
    assert example.first_atom == FIRST_ATOM
    for name, changed in changes.items():
        difference = np.abs(scalars(form, changed) - before)[0].max(axis=-1)
        assert difference[atom] > 1e-4, name
        assert difference[touched].min() > 1e-6, name


@pytest.mark.parametrize("form", CONFIGS)
def test_the_setting_widens_what_reads_nodes_and_edges(form):
    """Parameters have the names that they have without ligands, and more rows for the new inputs alone."""
    before, after = (
        jax.eval_shape(
            functools.partial(structure_encoder(config.name)(config, STAGES).init, method=all_stages),
            jax.random.key(0),
            packed(),
        )
        for config in (CONFIGS[form], WITH_LIGANDS[form])
    )
    wider = {}
    for (path, old), (same, new) in zip(*map(jax.tree_util.tree_leaves_with_path, (before, after)), strict=True):
        assert path == same
        if old.shape != new.shape:
            assert old.shape[1:] == new.shape[1:]
            wider[path] = new.shape[0] - old.shape[0]
    assert set(wider.values()) == {31, len(EDGE_TYPES) - 1}


def test_without_the_setting_there_is_no_ligand():
    """A model without `ligands` is not told anything of an atom, and pools none."""
    fusion = FusionConfig.named("global", width=16, heads=2)
    model = TaskModel(EncoderConfig(**SMALL, structure=CONFIGS["gvp"], fusion=fusion), HeadConfig(unit="protein"))
    batch = grid_of([made_complex(0)], [])
    variables = random_variables(model, batch)
    atoms = batch.ligand_atom[..., :1] > 0
    other = batch._replace(
        backbone=jnp.where(atoms[..., None], 7.0, batch.backbone),
        ligand_atom=jnp.where(atoms, batch.ligand_atom % 3 + 1, batch.ligand_atom),
    )
    apply = quick_jit(functools.partial(model.apply, variables, method=model.logits_and_features))
    before, after = apply(batch), apply(other)
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.any(np.asarray(before[1].representation)[0, FIRST_ATOM:])
    assert not np.any(np.asarray(before[1].intermediates["pooling_weight"])[0, FIRST_ATOM:])


@pytest.mark.parametrize("kind", ["local", "global"])
def test_fusion_leaves_the_side_that_an_atom_does_not_have(kind):
    """Atoms have no sequence features and no gate for them; in global attention the residues' sequences hear them."""
    model = compiled_model(kind)
    batch = grid_of([made_complex(0)], [])
    logits, output = model(batch)
    atoms = slice(FIRST_ATOM, SLOTS)
    assert not np.any(np.asarray(output.sequence)[0, atoms])
    assert np.all(np.any(np.asarray(output.structure)[0, atoms] != 0, axis=-1))
    assert np.all(np.any(np.asarray(output.representation)[0, atoms] != 0, axis=-1))
    assert np.all(np.asarray(output.intermediates["stage1/sequence_change"])[0, atoms] == 0)
    assert np.all(np.asarray(output.intermediates["stage1/structure_change"])[0, atoms] > 0)
    assert np.all(np.asarray(output.intermediates["pooling_weight"])[0, atoms] > 0)
    if kind == "local":
        gate = np.asarray(output.intermediates["stage1/gate"])[0, atoms]
        np.testing.assert_array_equal(gate, np.broadcast_to([0.0, 1.0], gate.shape))
    # The last residue of a strand is no neighbour of an atom, and after one stage only attention has reached it.
    changed = batch._replace(ligand_atom=batch.ligand_atom.at[0, FIRST_ATOM + 8, 0].set(9))
    heard = np.abs(
        np.asarray(model(changed)[1].intermediates["stage1/sequence"] - output.intermediates["stage1/sequence"])
    )
    assert (heard[0, 14].max() > 1e-6) == (kind == "global")
    assert np.abs(model(changed)[0] - logits)[0, 0].max() > 1e-6


@pytest.mark.parametrize("kind", ["local", "global"])
def test_the_value_of_a_complex_is_one_of_the_pair(kind):
    """The value does not change with the order of the atoms, company or masked values; it does with the ligand."""
    model = compiled_model(kind)

    def value(batch, graph=0):
        return float(model(batch)[0][0, graph, 0])

    plain = value(grid_of([made_complex(0)], []))
    order = np.random.default_rng(4).permutation(9)
    assert value(grid_of([made_complex(0, permuted(made_ligand(0), order))], [])) == pytest.approx(plain, abs=1e-5)
    assert value(grid_of([made_complex(1), made_complex(0)], []), graph=1) == pytest.approx(plain, abs=1e-5)
    assert value(noise_where_masked(grid_of([made_complex(0)], []), 1)) == plain
    elsewhere = made_complex(0, made_ligand(0, place=(30.0, 2.5, 3.5)))
    assert value(grid_of([elsewhere], [])) != pytest.approx(plain, abs=5e-5)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_and_reach_the_ligand(form):
    """Atoms at one place and in a line give no NaN; every atom and every parameter of the ligand's fields learns."""
    config = WITH_LIGANDS[form]
    encoder = structure_encoder(config.name)(config, STAGES, jnp.float32)
    batch = grid_of([made_complex(0)], [])
    line = batch.backbone[0, FIRST_ATOM, 1] + jnp.arange(3.0)[:, None] * jnp.asarray([1.4, 0.0, 0.0])
    degenerate = batch.backbone.at[0, FIRST_ATOM : FIRST_ATOM + 3, 1].set(line)
    degenerate = degenerate.at[0, FIRST_ATOM + 4, 1].set(degenerate[0, FIRST_ATOM + 3, 1])

    def loss(variables, backbone):
        values = encoder.apply(variables, batch._replace(backbone=backbone), method=all_stages)
        return jnp.sum(values * jnp.arange(values.shape[-1]))

    gradient = quick_jit(jax.grad(loss, (0, 1)))
    with jax.debug_nans(True):
        of_variables, of_places = gradient(compiled(form)[0], degenerate)
    assert np.all(np.isfinite(of_places))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(of_variables))
    assert np.all(np.any(np.asarray(of_places)[0, FIRST_ATOM + 5 : SLOTS, 1] != 0, axis=-1))
    embedding = of_variables["params"]["node_embedding"]
    kernel = np.asarray(embedding["ws"] if "ws" in embedding else embedding["kernel"])
    carbon, nitrogen = 33 + 3, 33 + 4
    start = 6 if "ws" in embedding else 0  # torsions come first in gvp, after the types in pronet
    assert np.any(kernel[start + carbon] != 0)
    assert np.any(kernel[start + nitrogen] != 0)
    assert not np.any(kernel[start + 33])  # no atom is of the element "none"


def test_atoms_have_no_direction_of_a_chain():
    """In the features of `gvp` an atom has no vectors of its own, no torsions and no place in a sequence."""
    batch = packed()
    features = quick_jit(lambda batch: geometric_features(batch, WITH_LIGANDS["gvp"]))(batch)
    features = jax.tree.map(np.asarray, features)
    atoms = np.asarray(batch.ligand_atom[..., 0] > 0)
    assert not features.node_vectors[atoms].any()
    assert not features.node_scalars[atoms].any()
    kinds = features.edge_scalars[..., 33:]
    with_atom = kinds[..., 1:].any(axis=-1)
    np.testing.assert_array_equal(kinds.sum(axis=-1), features.edge_mask)
    assert not features.edge_scalars[with_atom][:, 16:33].any()
    np.testing.assert_allclose(np.linalg.norm(features.edge_vectors[with_atom][..., 0], axis=-1), 1, atol=1e-5)
