"""Loaded weights compute what `transformers` and `fair-esm` compute with them, layer by layer.

The references have random weights: no published file is needed. Every comparison is the largest difference of a layer
over the largest value of the reference's, in float32.
"""

import argparse
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.pretrained import load_esm2
from tests.models.chains import hidden_states, in_one_row, random_chains
from tests.pretrained.files import hugging_face_settings

torch = pytest.importorskip("torch", reason="parity needs torch, transformers and fair-esm")
torch.set_num_threads(1)  # the models are small; threads would wait for each other
TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 0.02  # it keeps 8 bits; measured: 0.010

# Head widths 16 (8M, with half of its layers), 24 (35M) and 64 (650M, 3B).
SIZES = {
    "head16": PLMConfig(layers=3, width=320, heads=20),
    "head24": PLMConfig(layers=3, width=96, heads=4),
    "head64": PLMConfig(layers=2, width=128, heads=2, rotary_dtype="float16"),
    "plain": PLMConfig(layers=2, width=48, heads=2, token_dropout=False),
}


def randomise(model, seed):
    """Moves every parameter: biases and LayerNorm scales start at 0 and 1, which would hide a swap."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def rounded_frequencies(model, config):
    """The frequencies of a model that was trained in half precision."""
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and config.rotary_dtype == "float16":
            buffer.copy_(buffer.half().float())
    return model


def transformers_reference(config, folder, seed):
    """(path of the saved model, its function): tokens, attention mask -> hidden states and logits."""
    transformers = pytest.importorskip("transformers", reason="parity with transformers needs it")
    settings = hugging_face_settings(config) | {"token_dropout": config.token_dropout}
    model = randomise(transformers.EsmForMaskedLM(transformers.EsmConfig(**settings)), seed)
    rounded_frequencies(model, config).save_pretrained(folder)

    def apply(tokens, mask):
        with torch.no_grad():
            out = model(
                input_ids=torch.tensor(tokens).long(),
                attention_mask=torch.tensor(mask).long(),
                output_hidden_states=True,
            )
        return [state.numpy() for state in [*out.hidden_states, out.logits]]

    return folder, apply


def fair_esm_reference(config, folder, seed):
    """The same for fair-esm, whose own loader must read the file that we then read."""
    esm = pytest.importorskip("esm", reason="parity with fair-esm needs it")
    letters = esm.data.Alphabet.from_architecture("ESM-1b")
    assert tuple(letters.all_toks) == alphabet.TOKENS
    random = esm.model.esm2.ESM2(config.layers, config.width, config.heads, letters, config.token_dropout)
    state = rounded_frequencies(randomise(random, seed), config).state_dict()
    prefix = {False: "encoder.sentence_encoder.", True: "encoder."}
    content = {
        "cfg": {
            "model": argparse.Namespace(
                arch="esm2",
                encoder_layers=config.layers,
                encoder_embed_dim=config.width,
                encoder_attention_heads=config.heads,
                token_dropout=config.token_dropout,
            )
        },
        "model": {prefix[k.startswith("lm_head")] + k: v for k, v in state.items() if "contact_head" not in k},
    }
    path = folder / "esm2_t0_random.pt"
    torch.save(content, path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        read = torch.load(path, weights_only=True)
    with pytest.warns(UserWarning, match="Regression weights not found"):
        model, _ = esm.pretrained.load_model_and_alphabet_core(path.stem, read)

    def apply(tokens, mask):
        tokens = torch.as_tensor(np.where(mask, tokens, alphabet.PAD)).long()
        with torch.no_grad():
            out = model.eval()(tokens, repr_layers=range(config.layers + 1))
        return [state.numpy() for state in [*out["representations"].values(), out["logits"]]]

    return path, apply


REFERENCES = {"transformers": transformers_reference, "fair-esm": fair_esm_reference}


def layers_and_logits(plm, tokens, segment, mask):
    """Hidden states as the references list them, then the logits."""
    states = hidden_states(plm, tokens, segment, mask)
    return [*states, plm.logits(states[-1])]


def compute(model, row, dtype="float32"):
    """What our model makes of a row, layer by layer."""
    plm = ProteinLanguageModel(model.config, jnp.dtype(dtype))
    apply = jax.jit(functools.partial(plm.apply, method=layers_and_logits))
    return [np.asarray(state, np.float32) for state in apply({"params": model.params}, *row)]


def worst(ours, theirs):
    """max|a - b| / max|b|, of the worst layer."""
    assert len(ours) == len(theirs)
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module", params=[(r, s) for r in REFERENCES for s in SIZES], ids="-".join)
def pair(request, tmp_path_factory):
    """(our model loaded from the file that the reference wrote, the reference's function, its name)."""
    reference, size = request.param
    path, apply = REFERENCES[reference](SIZES[size], tmp_path_factory.mktemp("parity"), seed=len(size))
    model = load_esm2(path)
    assert model.config == SIZES[size]
    return model, apply, reference


def chains_of_all_lengths(reference):
    """Chains of 1 to 1,022 residues; <mask> and <unk> among them, and one that has each of the 33 tokens."""
    every = [token for token in range(33) if token != alphabet.PAD or reference == "transformers"]
    chains = [*random_chains(1, (1, 2, 5, 64, 250)), np.asarray([alphabet.CLS, *every, alphabet.EOS], np.int32)]
    chains.append(np.asarray([alphabet.CLS, 5, 6, 7, alphabet.EOS], np.int32))  # no <mask>
    chains.append(np.asarray([alphabet.CLS, *[alphabet.MASK] * 9, 5, alphabet.EOS], np.int32))
    return chains


def test_chains_of_all_lengths_equal_the_reference(pair):
    """Each chain of a row has, in every layer and in the logits, what the reference computes for it alone.

    One row is a chain of 1,022 residues, the longest that ESM-2 was trained with, where an error of the positions would
    be largest; the other has many short chains one after the other, with padding before and after.
    """
    model, apply, reference = pair
    rows = [random_chains(2, (1022,)), chains_of_all_lengths(reference)]
    grid = [in_one_row(rows[0], 1024), in_one_row(rows[1], 1024, offset=7)]
    ours = compute(model, [jnp.concatenate(parts) for parts in zip(*grid, strict=True)])
    for row, start in ((0, 0), (1, 7)):
        for chain in rows[row]:
            theirs = apply(chain[None], np.ones((1, len(chain)), bool))
            assert worst([state[row : row + 1, start : start + len(chain)] for state in ours], theirs) < TOLERANCE
            start += len(chain)


@pytest.mark.parametrize("reference", REFERENCES)
def test_padded_batch_equals_the_reference(reference, tmp_path):
    """Chains in rows of their own, padded to the longest as the references' users do, agree where there are tokens."""
    path, apply = REFERENCES[reference](SIZES["head24"], tmp_path, seed=7)
    rows = [in_one_row([chain], 62) for chain in random_chains(3, (60, 17, 41))]
    tokens, segment, mask = (jnp.concatenate(parts) for parts in zip(*rows, strict=True))
    ours, theirs = compute(load_esm2(path), (tokens, segment, mask)), apply(np.asarray(tokens), np.asarray(mask))
    keep = np.asarray(mask)
    assert worst([state[keep] for state in ours], [state[keep] for state in theirs]) < TOLERANCE


def test_bfloat16_stays_near_float32(tmp_path):
    """In bfloat16 every layer is within the stated tolerance of the reference in float32."""
    path, apply = transformers_reference(SIZES["head24"], tmp_path, seed=8)
    (chain,) = random_chains(4, (126,))
    ours = compute(load_esm2(path), in_one_row([chain], 128), "bfloat16")
    error = worst(ours, apply(chain[None], np.ones((1, 128), bool)))
    assert 1e-4 < error < BFLOAT16_TOLERANCE


@pytest.mark.parametrize("form", ["safetensors", "sharded bin"])
def test_files_of_transformers(tmp_path, form):
    """What transformers saves today, and a sharded pytorch_model.bin as it saved before, hold the same model."""
    folder, _ = transformers_reference(SIZES["head24"], tmp_path, seed=0)
    expected = load_esm2(folder).params
    if form == "sharded bin":
        state = {name: torch.from_numpy(values) for name, values in load_file(folder / "model.safetensors").items()}
        (folder / "model.safetensors").unlink()
        names = sorted(state)
        weight_map = {name: f"pytorch_model-{1 + (i > 9):05d}-of-00002.bin" for i, name in enumerate(names)}
        for file in set(weight_map.values()):
            torch.save({name: state[name] for name in names if weight_map[name] == file}, folder / file)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    model = load_esm2(folder)
    assert jax.tree.all(jax.tree.map(np.array_equal, model.params, expected))
    assert any("contact_head" in name for name in model.unused)
