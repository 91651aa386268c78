"""`config.encoder.plm.pretrained`: a run's pLM starts from the weights, and is the published model at step 0."""

import contextlib
import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from bihf_jax.configuration import ConfigError
from bihf_jax.models import FusedEncoder, LearningConfig, ProteinLanguageModel, merge_lora
from bihf_jax.pretrained import ESM2, PretrainedError, esm2_config, load_esm2, save_esm2, with_pretrained_plm
from bihf_jax.training import loop
from bihf_jax.training.checkpoints import Checkpoints, Progress
from bihf_jax.training.config import experiment_config, keep_config, load_config
from bihf_jax.training.evaluation import TrainedModel
from tests.models.batches import pack, quick_jit, random_protein, random_variables
from tests.models.chains import in_one_row, random_chains
from tests.pretrained.files import SMALL, hugging_face_state, write_hugging_face
from tests.training.small_run import StopAfter, logged, small_config


def pretrained_config(folder, records="records", **plm):
    """A small config whose pLM is nothing but `pretrained` and the given changes."""
    config = small_config(records).to_dict()
    config["encoder"]["plm"] = {"pretrained": str(folder), **plm}
    return config


def test_pretrained_is_all_a_user_writes(tmp_path):
    """The sizes come from the weights; changes are kept; once in a run's folder the config needs no weights."""
    folder, run = write_hugging_face(tmp_path / "weights"), tmp_path / "run"
    changes = {"dropout": 0.1, "learning": {"mode": "frozen"}}
    config = experiment_config(pretrained_config(folder, **changes), run)
    learning = LearningConfig(mode="frozen")
    assert config.encoder.plm == dataclasses.replace(SMALL, pretrained=str(folder), dropout=0.1, learning=learning)
    keep_config(config, run, first_host=True)
    shutil.rmtree(folder)
    assert load_config(run) == config
    assert experiment_config(pretrained_config(folder, **changes), run) == config
    assert experiment_config(pretrained_config(folder), run).encoder.plm.dropout == 0.0  # which `keep_config` refuses
    for other, workdir in ((folder, None), (folder, tmp_path / "elsewhere"), (tmp_path / "other", run)):
        with pytest.raises(ConfigError, match=r"config\.encoder\.plm: no pretrained weights at"):
            experiment_config(pretrained_config(other), workdir)


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


def test_frozen_weights_are_kept_in_the_compute_type(tmp_path):
    """A frozen pLM starts from the weights rounded to bfloat16, its norms in float32; LoRA's factors stay as drawn."""
    folder = write_hugging_face(tmp_path)
    values = pretrained_config(folder, learning={"mode": "lora", "rank": 2})
    values["encoder"]["dtype"] = "bfloat16"
    config = experiment_config(values).encoder
    batch = pack([[random_protein(0)]], 32)
    params = {"encoder": quick_jit(FusedEncoder(config).init)(jax.random.key(0), batch)["params"]}
    started = with_pretrained_plm(params, config.plm)
    assert jax.tree.map(lambda leaf: leaf.dtype, started) == jax.tree.map(lambda leaf: leaf.dtype, params)
    drawn, found = (flatten_dict(tree["encoder"]["plm"]) for tree in (params, started))
    weights = flatten_dict(load_esm2(folder, head=False).params)
    assert {str(found[path].dtype) for path in weights} == {"bfloat16", "float32"}
    for path, leaf in found.items():
        wanted = jnp.asarray(weights[path]).astype(leaf.dtype) if path in weights else drawn[path]
        np.testing.assert_array_equal(leaf, wanted, err_msg="/".join(path))


def test_merged_weights_are_pretrained_weights(tmp_path):
    """The pLM of a LoRA run, merged and saved, is what another run can start from; unmerged it is refused."""
    folder = write_hugging_face(tmp_path / "weights")
    lora = dataclasses.replace(esm2_config(folder), learning=LearningConfig(mode="lora", rank=2), dropout=0.5)
    row = in_one_row(random_chains(0, (9,)), 16)
    params = random_variables(ProteinLanguageModel(lora), *row)["params"]
    merged = merge_lora(params, lora).params
    with pytest.raises(PretrainedError, match="first is layers_0/self_attn/q_proj_lora/a/kernel; merge LoRA's updates"):
        save_esm2(ESM2(lora, params), tmp_path / "refused")
    save_esm2(ESM2(lora, merged), tmp_path / "merged")
    config = experiment_config(pretrained_config(tmp_path / "merged")).encoder.plm
    assert config == dataclasses.replace(SMALL, pretrained=str(tmp_path / "merged"))  # nothing else of the old run
    again = load_esm2(tmp_path / "merged", head=False)
    jax.tree.map(np.testing.assert_array_equal, again.params, merged)


def test_a_stopped_run_with_frozen_weights_goes_on_without_their_files(sample_records, tmp_path, monkeypatch):
    """LoRA in bfloat16, stopped and resumed: the same losses bit for bit, and checkpoints that hold all weights."""
    folder = write_hugging_face(tmp_path / "weights")
    weights = flatten_dict(load_esm2(folder, head=False).params)
    config = pretrained_config(folder, sample_records, learning={"mode": "lora", "rank": 2})
    config["encoder"] |= {"dtype": "bfloat16", "structure": {"name": "mpnn", "width": 8, "neighbours": 6}}
    config["training"] |= {"steps": 6, "checkpoint_every": 4}
    loop.train(config, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr("bihf_jax.training.loop._stop_on_signal", lambda: contextlib.nullcontext(StopAfter(3)))
        with pytest.raises(loop.Interrupted, match="after step 3"):
            loop.train(config, tmp_path / "stopped")
    shutil.rmtree(folder)
    loop.train(config, tmp_path / "stopped")
    assert logged(tmp_path / "stopped") == logged(tmp_path / "straight")

    for which in ("best", "last"):
        found, wanted = (
            jax.tree.map(lambda leaf: np.asarray(leaf)[0], TrainedModel.load(tmp_path / run, which=which).params)
            for run in ("stopped", "straight")
        )
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
        plm = flatten_dict(found["encoder"]["plm"])
        for path, leaf in weights.items():
            np.testing.assert_array_equal(plm[path], leaf.astype(plm[path].dtype), err_msg="/".join(path))
        assert all(np.any(leaf) for path, leaf in plm.items() if path[-2] == "b")


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
