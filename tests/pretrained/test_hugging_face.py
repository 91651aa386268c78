"""ESM-2 that is written for the hub: it reads back exactly, and `transformers` computes with it what we compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.pretrained import ESM2, PretrainedError, load_esm2, save_hugging_face
from tests.models.chains import hidden_states


def random_model(config, head=False, seed=0):
    """All parameters random, biases and scales of the norms too."""
    row = np.zeros((1, 4), np.int32)
    model = ProteinLanguageModel(config)
    method = model.token_logits if head else None
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), row, row, row > 0, method=method)["params"])
    rng = np.random.default_rng(seed)
    return ESM2(config, jax.tree.map(lambda leaf: rng.normal(scale=0.2, size=leaf.shape).astype(np.float32), shapes))


CONFIGS = {
    "plain": PLMConfig(layers=2, width=32, heads=2, token_dropout=False),
    "half": PLMConfig(layers=3, width=48, heads=4, rotary_dtype="float16"),
}


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_it_reads_back_exactly(name, head, tmp_path):
    model = random_model(CONFIGS[name], head)
    save_hugging_face(model, tmp_path / "esm2")
    again = load_esm2(tmp_path / "esm2", head=head)
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


def test_bfloat16_comes_back_rounded(tmp_path):
    """Each number is the nearest bfloat16, and the file is about half as large."""
    model = random_model(CONFIGS["half"], head=True)
    for dtype in ("bfloat16", "float32"):
        save_hugging_face(model, tmp_path / dtype, dtype)
    found = load_esm2(tmp_path / "bfloat16", head=True).params
    expected = jax.tree.map(lambda x: np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32), model.params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    sizes = {dtype: (tmp_path / dtype / "model.safetensors").stat().st_size for dtype in ("bfloat16", "float32")}
    assert sizes["bfloat16"] < 0.6 * sizes["float32"]


def test_what_is_refused(tmp_path):
    """A folder that exists, another dtype, and parameters of another size."""
    with pytest.raises(PretrainedError, match="exists; give another folder"):
        save_hugging_face(random_model(CONFIGS["plain"]), tmp_path)
    with pytest.raises(PretrainedError, match="dtype is 'float16'; allowed: float32, bfloat16"):
        save_hugging_face(random_model(CONFIGS["plain"]), tmp_path / "half", "float16")
    mixed = ESM2(CONFIGS["half"], random_model(CONFIGS["plain"]).params)
    with pytest.raises(PretrainedError, match=r"not the parameters of an ESM-2 of 3 layers, width 48: \d+ differ"):
        save_hugging_face(mixed, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_computes_the_same(name, tmp_path):
    """Hidden states of every layer, and the tokens of its tokenizer."""
    torch = pytest.importorskip("torch", reason="parity with transformers needs torch")
    transformers = pytest.importorskip("transformers", reason="parity with transformers needs it")
    model = random_model(CONFIGS[name])
    save_hugging_face(model, tmp_path / "esm2")
    theirs, info = transformers.AutoModel.from_pretrained(
        tmp_path / "esm2", add_pooling_layer=False, output_loading_info=True
    )
    missing = [key for key in info["missing_keys"] if "contact_head" not in key and "position_embeddings" not in key]
    assert missing == []
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "esm2")
    tokens = tokenizer("MKTAYIAKQRQISFVKSHFSRQ", return_tensors="pt")
    assert tokens["input_ids"][0, 0] == alphabet.CLS
    with torch.no_grad():
        expected = theirs.eval()(**tokens, output_hidden_states=True).hidden_states
    ids = tokens["input_ids"].numpy().astype(np.int32)
    ones = np.ones_like(ids)
    plm = ProteinLanguageModel(model.config).bind({"params": model.params})
    states = hidden_states(plm, ids, ones, ones > 0)
    assert len(states) == len(expected)
    for ours, reference in zip(states, expected, strict=True):
        scale = np.abs(reference.numpy()).max()
        np.testing.assert_allclose(np.asarray(ours) / scale, reference.numpy() / scale, atol=1e-5)


def test_transformers_predicts_the_same_tokens(tmp_path):
    """The logits of `EsmForMaskedLM`."""
    torch = pytest.importorskip("torch", reason="parity with transformers needs torch")
    transformers = pytest.importorskip("transformers", reason="parity with transformers needs it")
    model = random_model(CONFIGS["half"], head=True)
    save_hugging_face(model, tmp_path / "esm2")
    theirs = transformers.EsmForMaskedLM.from_pretrained(tmp_path / "esm2").eval()
    ids = np.array([[alphabet.CLS, *alphabet.encode_sequence("MKTAYIAKQRQ"), alphabet.EOS]], np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(ids).long()).logits.numpy()
    ones = np.ones_like(ids)
    plm = ProteinLanguageModel(model.config)
    ours = plm.apply({"params": model.params}, ids, ones, ones > 0, method="token_logits")
    np.testing.assert_allclose(np.asarray(ours), expected, atol=1e-5 * np.abs(expected).max())
