"""A pLM written in Hugging Face's form is the same model to `load_esm2` and to transformers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.pretrained import ESM2, PretrainedError, load_esm2, save_hugging_face
from tests.models.chains import hidden_states, in_one_row, random_chains
from tests.pretrained.files import hugging_face_settings

CONFIG = PLMConfig(layers=2, width=48, heads=2)


def random_model(config=CONFIG):
    """Every parameter random: biases and LayerNorm scales start at 0 and 1, which would hide a swap."""
    plm = ProteinLanguageModel(config)
    row = in_one_row(random_chains(0, (5,)), 8)
    params = plm.init(jax.random.key(0), *row, method="token_logits")["params"]
    rng = np.random.default_rng(1)
    noisy = jax.tree.map(lambda x: np.asarray(x + 0.2 * rng.normal(size=x.shape), np.float32), params)
    return ESM2(config, noisy)


@pytest.mark.parametrize("rotary", ["float32", "float16"])
def test_float32_comes_back_bit_for_bit(tmp_path, rotary):
    """Parameters and config, rounded rotary frequencies included."""
    model = random_model(PLMConfig(layers=2, width=48, heads=2, rotary_dtype=rotary, token_dropout=rotary == "float32"))
    save_hugging_face(model, tmp_path / "plm")
    found = load_esm2(tmp_path / "plm")
    assert found.config == model.config
    assert jax.tree.structure(found.params) == jax.tree.structure(model.params)
    jax.tree.map(np.testing.assert_array_equal, found.params, model.params)


def test_bfloat16_comes_back_rounded(tmp_path):
    """Each number is the nearest bfloat16, and the file is about half as large."""
    model = random_model()
    for dtype in ("bfloat16", "float32"):
        save_hugging_face(model, tmp_path / dtype, dtype)
    found = load_esm2(tmp_path / "bfloat16").params
    expected = jax.tree.map(lambda x: np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32), model.params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    sizes = {dtype: (tmp_path / dtype / "model.safetensors").stat().st_size for dtype in ("bfloat16", "float32")}
    assert sizes["bfloat16"] < 0.55 * sizes["float32"]


def test_transformers_computes_the_same(tmp_path):
    """Hidden states of every layer and the logits of `EsmForMaskedLM`, to 1e-5; no weight is missing or left over."""
    torch = pytest.importorskip("torch", reason="parity with transformers needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="parity with transformers needs it")
    torch.set_num_threads(1)
    model = random_model()
    save_hugging_face(model, tmp_path / "plm")
    reference, about = transformers.EsmForMaskedLM.from_pretrained(tmp_path / "plm", output_loading_info=True)
    # Written from its config, these two are in no file of transformers either: not used, and the embedding.
    missing = {name for name in about["missing_keys"] if "contact_head" not in name and "position" not in name}
    assert missing <= {"lm_head.decoder.weight", "lm_head.decoder.bias"}
    assert all(name.endswith("inv_freq") for name in about["unexpected_keys"])
    (chain,) = random_chains(4, (126,))
    row = in_one_row([chain], 128)
    with torch.no_grad():
        theirs = reference.eval()(torch.tensor(np.asarray(row[0])).long(), output_hidden_states=True)
    plm = ProteinLanguageModel(CONFIG)

    def layers_and_logits(plm, *row):
        states = hidden_states(plm, *row)
        return [*states, plm.logits(states[-1])]

    ours = jax.jit(functools.partial(plm.apply, method=layers_and_logits))({"params": model.params}, *row)
    for a, b in zip(ours, [*theirs.hidden_states, theirs.logits], strict=True):
        assert np.abs(a - b.numpy()).max() / np.abs(b.numpy()).max() < 1e-5


def test_config_is_that_of_the_published_models(tmp_path):
    """Every key that a published config.json has, but one of ESMFold's, with the same value for the same size."""
    save_hugging_face(random_model(), tmp_path / "plm")
    expected = hugging_face_settings(CONFIG)
    expected.pop("esmfold_config")
    assert json.loads((tmp_path / "plm" / "config.json").read_text()) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: {"dtype": "float16"}, "dtype is 'float16'; allowed: bfloat16, float32"),
        (lambda model: {"model": model._replace(config=PLMConfig(layers=3, width=48, heads=2))}, "not the parameters"),
        (lambda model: {"model": model._replace(params={"embed_tokens": {}})}, "no head for masked tokens"),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, change, message):
    """And nothing is written."""
    model = random_model()
    arguments = {"model": model, "folder": tmp_path / "plm", **change(model)}
    with pytest.raises(PretrainedError, match=message):
        save_hugging_face(**arguments)
    assert not (tmp_path / "plm").exists()


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(PretrainedError, match="exists; give another folder"):
        save_hugging_face(random_model(), tmp_path)
