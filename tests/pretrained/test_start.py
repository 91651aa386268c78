"""`config.encoder.plm.pretrained`: a run's pLM starts from the weights, and is the published model at step 0."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.configuration import ConfigError
from bihf_jax.models.encoder import FusedEncoder
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.pretrained import PretrainedError, load_esm2, with_pretrained_plm
from bihf_jax.training import loop
from bihf_jax.training.checkpoints import Checkpoints, Progress
from bihf_jax.training.config import experiment_config, keep_config, load_config
from tests.models.batches import pack, quick_jit, random_protein
from tests.pretrained.files import SMALL, hugging_face_state, write_hugging_face
from tests.training.small_run import small_config


def pretrained_config(folder, records="records", **plm):
    """A small config whose pLM is nothing but `pretrained` and the given changes."""
    config = small_config(records).to_dict()
    config["encoder"]["plm"] = {"pretrained": str(folder), **plm}
    return config


def test_pretrained_is_all_a_user_writes(tmp_path):
    """The sizes come from the weights; changes are kept; once in a run's folder the config needs no weights."""
    folder = write_hugging_face(tmp_path / "weights")
    config = experiment_config(pretrained_config(folder, dropout=0.1))
    assert config.encoder.plm == dataclasses.replace(SMALL, pretrained=str(folder), dropout=0.1)
    keep_config(config, tmp_path / "run", first_host=True)
    shutil.rmtree(folder)
    assert load_config(tmp_path / "run") == config
    with pytest.raises(ConfigError, match=r"config\.encoder\.plm: no pretrained weights at"):
        experiment_config(pretrained_config(folder))


def test_the_fused_encoder_starts_as_the_published_model(tmp_path):
    """Before the first step the sequence side has the published model's features, in spite of the exchange."""
    folder = write_hugging_face(tmp_path)
    config = experiment_config(pretrained_config(folder)).encoder
    batch = pack([[random_protein(0), random_protein(1, (12,))]], 64)
    encoder = FusedEncoder(config)
    params = {"encoder": quick_jit(encoder.init)(jax.random.key(0), batch)["params"]}
    started = with_pretrained_plm(params, config.plm)
    assert started["encoder"].keys() == params["encoder"].keys()
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (params, started))
    assert shapes[0] == shapes[1]
    fused = quick_jit(encoder.apply)({"params": started["encoder"]}, batch).sequence
    model = load_esm2(folder)
    alone = quick_jit(ProteinLanguageModel(model.config).apply)(
        {"params": model.params}, batch.tokens, batch.chain_segment, batch.sequence_mask
    )
    mask = np.asarray(batch.sequence_mask)
    np.testing.assert_array_equal(np.asarray(fused)[mask], np.asarray(alone)[mask])
    before = quick_jit(encoder.apply)({"params": params["encoder"]}, batch).sequence
    assert not np.allclose(before, fused, atol=0.1)


def test_weights_of_another_size_are_named(tmp_path):
    """Sizes that the config gives beside the weights must be theirs; a model without a pLM has no use for them."""
    state = hugging_face_state(SMALL)
    state |= {k: v.astype(np.float16).astype(np.float32) for k, v in state.items() if "inv_freq" in k}
    folder = write_hugging_face(tmp_path, state=state)
    config = experiment_config(pretrained_config(folder, layers=3, width=32, heads=2)).encoder.plm
    with pytest.raises(
        PretrainedError, match=r"has layers 2, not 3, rotary_dtype 'float16', not 'float32'; leave these"
    ):
        with_pretrained_plm({"encoder": {"plm": {}}}, config)
    with pytest.raises(PretrainedError, match="the fusion method runs no sequence side"):
        with_pretrained_plm({"encoder": {"structure": {}}}, config)


def test_a_fresh_run_starts_from_the_weights_and_a_resumed_one_does_not(sample_records, tmp_path, monkeypatch):
    """The loop is given the weights at step 0; with a checkpoint in the folder it is given that, unchanged."""
    folder = write_hugging_face(tmp_path / "weights")
    given = []
    monkeypatch.setattr(loop._Loop, "run", lambda _, state, *__: given.append(state))
    config = pretrained_config(folder, sample_records)
    workdir = loop.train(config, tmp_path / "run")
    weights = load_esm2(folder, head=False).params
    assert jax.tree.all(jax.tree.map(np.array_equal, given[0].params["encoder"]["plm"], weights))

    trained = given[0]._replace(step=jnp.int32(1), params=jax.tree.map(lambda leaf: leaf + 1, given[0].params))
    checkpoints = Checkpoints(workdir, {})
    checkpoints.save(jax.tree.map(np.asarray, trained), Progress())
    checkpoints.close()
    loop.train(config, workdir)
    assert int(given[1].step) == 1
    assert jax.tree.all(jax.tree.map(np.array_equal, given[1].params, trained.params))
