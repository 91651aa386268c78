"""Loading published forms: all forms give the same parameters, and nothing is used or left out by accident."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLM_SIZES
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.pretrained import PretrainedError, esm2_config, load_esm2, save_esm2
from tests.models.chains import in_one_row, random_chains
from tests.pretrained.files import SMALL, hugging_face_state, write_hugging_face
from tests.training.small_run import run_python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in Hugging Face's form."""
    return write_hugging_face(tmp_path_factory.mktemp("pretrained") / "small")


def equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_config_and_parameters(folder):
    """The config is the file's; every parameter is float32 and used by the model; matrices are transposed."""
    config, params, unused = load_esm2(folder)
    assert config == SMALL == esm2_config(folder)
    state = hugging_face_state(SMALL)
    np.testing.assert_array_equal(
        params["layers_1"]["fc1"]["kernel"], state["esm.encoder.layer.1.intermediate.dense.weight"].T
    )
    np.testing.assert_array_equal(
        params["layers_0"]["self_attn"]["k_proj"]["bias"], state["esm.encoder.layer.0.attention.self.key.bias"]
    )
    row = in_one_row(random_chains(0, (6,)), 10)
    expected = jax.eval_shape(
        lambda key: ProteinLanguageModel(SMALL).init(key, *row, method="token_logits"), jax.random.key(0)
    )["params"]
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), expected
    )
    assert set(unused) == {
        *("esm.contact_head.regression.weight", "esm.contact_head.regression.bias"),
        "esm.embeddings.position_embeddings.weight",
        *(f"esm.encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq" for i in range(SMALL.layers)),
    }


def test_shards_give_the_same(folder, tmp_path):
    """Three shards and their index hold the same model as one file."""
    sharded = load_esm2(write_hugging_face(tmp_path / "sharded", shards=3))
    assert equal(sharded.params, load_esm2(folder).params)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files_become_float32(tmp_path, dtype):
    """A file in half precision gives its values, exactly, as float32."""
    state = {name: values.astype(jax.numpy.dtype(dtype)) for name, values in hugging_face_state(SMALL).items()}
    frequencies = {name: values for name, values in hugging_face_state(SMALL).items() if "inv_freq" in name}
    params = load_esm2(write_hugging_face(tmp_path, state=state | frequencies)).params
    expected = state["esm.embeddings.word_embeddings.weight"].astype(np.float32)
    assert params["embed_tokens"]["embedding"].dtype == np.float32
    np.testing.assert_array_equal(params["embed_tokens"]["embedding"], expected)


def test_rounded_rotary_frequencies_are_kept(tmp_path):
    """Frequencies that were rounded to float16 in training are those that the model uses."""
    state = hugging_face_state(SMALL)
    rounded = {name: v.astype(np.float16).astype(np.float32) for name, v in state.items() if "inv_freq" in name}
    config = load_esm2(write_hugging_face(tmp_path, state=state | rounded)).config
    assert config == dataclasses.replace(SMALL, rotary_dtype="float16")


def test_without_the_head(folder, tmp_path):
    """`head=False` leaves the head out, and reads a file that has none; `head=True` refuses such a file."""
    body = load_esm2(folder, head=False)
    assert "lm_head" not in body.params
    assert "lm_head.dense.weight" in body.unused
    state = {k.removeprefix("esm."): v for k, v in hugging_face_state(SMALL).items() if not k.startswith("lm_head")}
    headless = write_hugging_face(tmp_path, state=state)  # as transformers' EsmModel saves it
    assert equal(load_esm2(headless, head=False).params, body.params)
    with pytest.raises(PretrainedError, match=r"only in the model: lm_head/dense/kernel \(32, 32\)"):
        load_esm2(headless)


def test_all_mismatches_are_listed_at_once(tmp_path):
    """A surplus tensor, a missing one, a wrong shape and a wrong type are each named, before anything is converted."""
    state = hugging_face_state(SMALL)
    state["esm.encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
    del state["esm.encoder.layer.0.attention.self.key.weight"]
    state["lm_head.bias"] = np.zeros(34, np.float32)
    state["lm_head.dense.bias"] = np.zeros(32, np.int8)
    with pytest.raises(PretrainedError) as error:
        load_esm2(write_hugging_face(tmp_path, state=state))
    for line in (
        "only in the file: esm.encoder.layer.2.output.dense.bias",
        "only in the model: layers_0/self_attn/k_proj/kernel (32, 32)",
        "lm_head.bias: (34,) in the file, (33,) in the model",
        "lm_head.dense.bias: I8 in the file; float32, float16, bfloat16 can be read",
    ):
        assert line in str(error.value)
    assert str(error.value).count("\n") == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position_embedding_type": "absolute"}, "this is ESM-1b or ESM-1v, whose learned positions"),
        ({"position_embedding_type": None}, "position_embedding_type is 'absolute'"),
        ({"model_type": "bert"}, "model_type is 'bert'; ESM-2 has 'esm'"),
        ({"emb_layer_norm_before": True}, "emb_layer_norm_before is True; ESM-2 has None or False"),
        ({"layer_norm_eps": None}, r"layer_norm_eps is 1e-12; ESM-2 has 1e-05"),
        ({"vocab_size": 446}, "vocab_size is 446; ESM-2 has 33"),
        ({"intermediate_size": 100}, "intermediate_size is 100; ESM-2 has 4 x hidden_size, 128"),
        ({"num_attention_heads": 5}, "PLMConfig.width is 32; allowed: multiples of 2 x heads = 10"),
        ({"num_hidden_layers": None}, "lacks num_hidden_layers"),
        ({"hidden_size": "32"}, "integers are needed"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path, settings, message):
    """A setting that makes another function than ESM-2 is named, with its value and what is allowed."""
    with pytest.raises(PretrainedError, match=message):
        esm2_config(write_hugging_face(tmp_path, **settings))


def test_other_token_order_is_refused(tmp_path):
    """A vocabulary in another order would give every residue another embedding."""
    write_hugging_face(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(reversed(alphabet.TOKENS)))
    with pytest.raises(PretrainedError, match="other tokens, or another order"):
        load_esm2(tmp_path)


def test_other_frequencies_and_an_untied_head_are_refused(tmp_path):
    """Tensors that are not used because the model has them by construction are compared with what it has."""
    state = hugging_face_state(SMALL)
    name = "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"
    with pytest.raises(PretrainedError, match="are not all the frequencies of ESM-2"):
        load_esm2(write_hugging_face(tmp_path / "a", state=state | {name: state[name] * 1.01}))
    tied = {"lm_head.decoder.weight": state["esm.embeddings.word_embeddings.weight"]}
    assert "lm_head.decoder.weight" in load_esm2(write_hugging_face(tmp_path / "b", state=state | tied)).unused
    untied = {"lm_head.decoder.weight": tied["lm_head.decoder.weight"] + 1e-3}
    with pytest.raises(PretrainedError, match=r"lm_head\.decoder\.weight differs from the token embedding"):
        load_esm2(write_hugging_face(tmp_path / "c", state=state | untied))


def test_two_names_of_one_tensor_are_refused(tmp_path):
    """A file that has a tensor under an old and a new name is ambiguous."""
    state = hugging_face_state(SMALL)
    state["esm.encoder.layer.0.LayerNorm.gamma"] = np.ones(32, np.float32)
    with pytest.raises(PretrainedError, match=r"LayerNorm\.(gamma|weight)' twice: also as .*LayerNorm\.(gamma|weight)"):
        load_esm2(write_hugging_face(tmp_path, state=state))


def test_shards_that_disagree_with_their_index(tmp_path):
    """A missing shard, one outside the folder, and a tensor in the wrong shard are named."""
    folder = write_hugging_face(tmp_path / "model", shards=2)
    index = folder / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    moved = "model-00002-of-00002.safetensors"
    values["weight_map"]["lm_head.bias"] = (
        "model-00001-of-00002.safetensors" if values["weight_map"]["lm_head.bias"] == moved else moved
    )
    index.write_text(json.dumps(values))
    with pytest.raises(PretrainedError, match=r"disagree: only in the file \(\d\): .*lm_head\.bias|only in the index"):
        load_esm2(folder)
    for shard in ("model-00003-of-00003.safetensors", "../config.json"):
        index.write_text(json.dumps({"weight_map": {"lm_head.bias": shard}}))
        with pytest.raises(PretrainedError, match=f"names the shard {re.escape(shard)}, which is not in its folder"):
            load_esm2(folder)


def test_what_is_not_there_is_named(folder, tmp_path):
    """Nothing at the path, a folder without weights, a damaged file, a lone weights file: each says what to give."""
    with pytest.raises(PretrainedError, match="no such file or folder, and it is no hub id such as facebook/esm2_t6"):
        load_esm2(tmp_path / "absent")
    with pytest.raises(PretrainedError, match="no hub id"):
        load_esm2("esm2_t6_8M_UR50D")
    with pytest.raises(PretrainedError, match=r"config\.json cannot be read"):
        load_esm2(tmp_path)
    with pytest.raises(PretrainedError, match=r"give the folder with config\.json"):
        load_esm2(folder / "model.safetensors")
    with pytest.raises(PretrainedError, match="is of a model on the hub"):
        load_esm2(folder, revision="main")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(PretrainedError, match=r"has no model.safetensors or pytorch_model.bin.*it has config.json"):
        load_esm2(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PretrainedError, match="is no safetensors file, or a damaged one"):
        load_esm2(tmp_path)


def test_saved_with_orbax_and_loaded_again(folder, tmp_path):
    """A converted model comes back bit for bit, with or without its head, in a process that has no PyTorch."""
    model = load_esm2(folder)
    save_esm2(model, tmp_path / "converted")
    again = load_esm2(tmp_path / "converted")
    assert again.config == model.config == esm2_config(tmp_path / "converted")
    assert equal(again.params, model.params)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(again.params))
    assert equal(load_esm2(tmp_path / "converted", head=False).params, load_esm2(folder, head=False).params)
    with pytest.raises(PretrainedError, match="exists; give another folder"):
        save_esm2(model, tmp_path / "converted")
    save_esm2(load_esm2(folder, head=False), tmp_path / "headless")
    with pytest.raises(PretrainedError, match="without the language-model head"):
        load_esm2(tmp_path / "headless")
    code = "import sys; sys.modules['torch'] = None\nfrom bihf_jax.pretrained import load_esm2\n"
    code += "print(load_esm2(sys.argv[1]).config)"
    assert run_python(code, tmp_path / "converted").strip() == str(SMALL)


def test_published_sizes_are_read_from_their_configs(tmp_path):
    """config.json of every published size gives the config that goes by its name."""
    for name, config in PLM_SIZES.items():
        folder = write_hugging_face(tmp_path / name, config, state={"lm_head.bias": np.zeros(33, np.float32)})
        assert esm2_config(folder) == config
