"""Tests of `bihf_jax.models.plm`; parity with transformers where it and torch are installed."""

import functools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLM_SIZES, PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel, chain_positions, mask_rescaling

SMALL = PLMConfig(layers=3, width=32, heads=4)


def random_chains(seed, lengths):
    """Token arrays <cls> ... <eos> whose residues run over every other token, <mask> and <unk> among them."""
    rng = np.random.default_rng(seed)
    inner = [t for t in range(33) if t not in (alphabet.CLS, alphabet.PAD, alphabet.EOS)]
    return [np.asarray([alphabet.CLS, *rng.choice(inner, n), alphabet.EOS], np.int32) for n in lengths]


def in_one_row(chains, length, offset=0):
    """tokens, chain_segment, sequence_mask, each [1, length]."""
    tokens = np.full((1, length), alphabet.PAD, np.int32)
    segment = np.zeros((1, length), np.int32)
    for number, chain in enumerate(chains, 1):
        tokens[0, offset : offset + len(chain)] = chain
        segment[0, offset : offset + len(chain)] = number
        offset += len(chain)
    return jnp.asarray(tokens), jnp.asarray(segment), jnp.asarray(segment > 0)


def parameter_shapes(plm, row):
    """Shapes of all parameters, the language-model head's among them; nothing is computed."""
    init = functools.partial(plm.init, method="token_logits")
    return jax.tree.map(jnp.shape, jax.eval_shape(init, jax.random.key(0), *row)["params"])


def hidden_states(plm, tokens, segment, mask):
    """Features after the embedding and after every block (the last one finished), as transformers lists them."""
    states = [plm.embed(tokens, segment, mask)]
    for layer in range(plm.config.layers):
        states.append(plm.block(layer, states[-1], segment, mask, None))
    return [*states[:-1], plm.finish(states[-1])]


def parameters_from_torch(state, layers):
    """Weights of `transformers.EsmForMaskedLM` under this package's names."""
    ours_of_theirs = {
        "attention.self.query": "self_attn/q_proj",
        "attention.self.key": "self_attn/k_proj",
        "attention.self.value": "self_attn/v_proj",
        "attention.output.dense": "self_attn/out_proj",
        "attention.LayerNorm": "self_attn_layer_norm",
        "intermediate.dense": "fc1",
        "output.dense": "fc2",
        "LayerNorm": "final_layer_norm",
    }
    names = {
        f"esm.encoder.layer.{i}.{theirs}": f"layers_{i}/{ours}"
        for i in range(layers)
        for theirs, ours in ours_of_theirs.items()
    }
    names |= {"esm.encoder.emb_layer_norm_after": "emb_layer_norm_after"}
    names |= {"lm_head.dense": "lm_head/dense", "lm_head.layer_norm": "lm_head/layer_norm"}
    flat = {
        "embed_tokens/embedding": state["esm.embeddings.word_embeddings.weight"],
        "lm_head/bias": state["lm_head.bias"],
    }
    for theirs, ours in names.items():
        weight = state[f"{theirs}.weight"]
        flat[f"{ours}/{'scale' if weight.ndim == 1 else 'kernel'}"] = weight.T
        flat[f"{ours}/bias"] = state[f"{theirs}.bias"]
    return flax.traverse_util.unflatten_dict({tuple(k.split("/")): jnp.asarray(v) for k, v in flat.items()})


def test_every_layer_equals_transformers():
    """With the same random weights, hidden states and logits of packed chains equal `EsmForMaskedLM` to 1e-5."""
    torch = pytest.importorskip("torch", reason="parity needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="parity needs torch and transformers")
    torch.manual_seed(0)
    theirs = transformers.EsmForMaskedLM(
        transformers.EsmConfig(
            vocab_size=33,
            mask_token_id=alphabet.MASK,
            pad_token_id=alphabet.PAD,
            hidden_size=SMALL.width,
            num_hidden_layers=SMALL.layers,
            num_attention_heads=SMALL.heads,
            intermediate_size=4 * SMALL.width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            position_embedding_type="rotary",
            token_dropout=True,
            emb_layer_norm_before=False,
            layer_norm_eps=1e-5,
        )
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and LayerNorm scales start at 0 and 1, which would hide a swap
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    variables = {"params": parameters_from_torch(state, SMALL.layers)}

    chains = random_chains(1, (40, 150, 3))
    row = in_one_row(chains, 220, offset=5)
    plm = ProteinLanguageModel(SMALL)
    expected_parameters = parameter_shapes(plm, row)
    assert jax.tree.map(jnp.shape, variables["params"]) == expected_parameters
    ours = plm.apply(variables, *row, method=hidden_states)
    logits = plm.apply(variables, *row, method="token_logits")

    start = 5
    for chain in chains:
        with torch.no_grad():
            expected = theirs(
                input_ids=torch.as_tensor(chain[None], dtype=torch.long),
                attention_mask=torch.ones(1, len(chain), dtype=torch.long),
                output_hidden_states=True,
            )
        slots = slice(start, start + len(chain))
        assert len(ours) == len(expected.hidden_states)
        for our_state, their_state in zip(ours, expected.hidden_states, strict=True):
            np.testing.assert_allclose(our_state[:, slots], their_state.numpy(), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(logits[:, slots], expected.logits.numpy(), atol=1e-5, rtol=1e-5)
        start += len(chain)


def test_published_sizes():
    """Published sizes have the checkpoints' number of parameters, less the contact head we do not have."""
    # Counted in transformers 5.23 (`EsmForMaskedLM` on the meta device), without its contact head.
    counts = {"esm2_t6_8M_UR50D": 7_512_353, "esm2_t12_35M_UR50D": 33_501_153, "esm2_t33_650M_UR50D": 651_042_593}
    for name, expected in counts.items():
        plm = ProteinLanguageModel(PLM_SIZES[name])
        shapes = flax.traverse_util.flatten_dict(parameter_shapes(plm, in_one_row(random_chains(0, (4,)), 8)))
        assert sum(math.prod(shape) for shape in shapes.values()) == expected


def test_positions_restart_at_every_chain():
    """A position is the slot's offset in its chain, wherever the chain stands."""
    segment = jnp.asarray([[0, 1, 1, 1, 2, 2, 0, 3], [1, 1, 2, 2, 2, 0, 0, 0]])
    positions = chain_positions(segment)
    np.testing.assert_array_equal(positions, [[0, 0, 1, 2, 0, 1, 0, 0], [0, 1, 0, 1, 2, 0, 1, 2]])


def test_mask_rescaling_is_per_chain():
    """Each chain is rescaled by its own share of <mask>, special tokens counted; one without <mask> by 0.88."""
    chains = [np.asarray([0, 5, 32, 32, 2]), np.asarray([0, 5, 5, 2])]
    tokens, segment, mask = in_one_row(chains, 12)
    factor = mask_rescaling(tokens, segment, mask)[0]
    np.testing.assert_allclose(factor[:5], 0.88 / (1 - 2 / 5), rtol=1e-6)
    np.testing.assert_allclose(factor[5:9], 0.88, rtol=1e-6)


def test_named_size_with_a_change_and_an_unknown_one():
    """`PLMConfig.named` gives a published size with changes, and lists the sizes for another name."""
    assert PLMConfig.named("esm2_t33_650M_UR50D", remat=True).width == 1280
    with pytest.raises(ValueError, match=r"esm2_t99.*esm2_t6_8M_UR50D"):
        PLMConfig.named("esm2_t99")
