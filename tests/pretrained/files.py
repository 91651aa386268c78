"""Small ESM-2 models of random weights in the files of their publishers, written without the package's own code."""

import json

import numpy as np
from safetensors.numpy import save_file

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLMConfig

SMALL = PLMConfig(layers=2, width=32, heads=2)


def hugging_face_settings(config):
    """config.json as facebook/esm2_t33_650M_UR50D has it, with other sizes."""
    return {
        "architectures": ["EsmForMaskedLM"],
        "attention_probs_dropout_prob": 0.0,
        "emb_layer_norm_before": False,
        "esmfold_config": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "is_folding_model": False,
        "layer_norm_eps": 1e-05,
        "mask_token_id": 32,
        "max_position_embeddings": 1026,
        "model_type": "esm",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "torch_dtype": "float32",
        "vocab_size": 33,
    }


def hugging_face_state(config, seed=0, dtype=np.float32):
    """The tensors of a published Hugging Face model: what the model uses, and what it does not."""
    rng = np.random.default_rng(seed)
    width = config.width
    shapes = {"esm.embeddings.word_embeddings.weight": (33, width)}
    for i in range(config.layers):
        layer = f"esm.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            shapes |= _dense(f"{layer}.attention.self.{name}", width, width)
        shapes |= _dense(f"{layer}.attention.output.dense", width, width)
        shapes |= _dense(f"{layer}.intermediate.dense", width, 4 * width)
        shapes |= _dense(f"{layer}.output.dense", 4 * width, width)
        shapes |= _norm(f"{layer}.attention.LayerNorm", width) | _norm(f"{layer}.LayerNorm", width)
    shapes |= _norm("esm.encoder.emb_layer_norm_after", width)
    shapes |= _dense("lm_head.dense", width, width) | _norm("lm_head.layer_norm", width) | {"lm_head.bias": (33,)}
    shapes |= _dense("esm.contact_head.regression", config.layers * config.heads, 1)
    shapes |= {"esm.embeddings.position_embeddings.weight": (1026, width)}
    state = {name: rng.normal(scale=0.3, size=shape).astype(dtype) for name, shape in shapes.items()}
    frequencies = (10000.0 ** (-np.arange(0, config.head_width, 2) / config.head_width)).astype(np.float32)
    for i in range(config.layers):
        state[f"esm.encoder.layer.{i}.attention.self.rotary_embeddings.inv_freq"] = frequencies
    return state


def _dense(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def write_hugging_face(folder, config=SMALL, state=None, shards=1, **settings):
    """The model in a folder, of `shards` safetensors files; `settings` change config.json, None removes."""
    folder.mkdir(parents=True, exist_ok=True)
    values = hugging_face_settings(config) | settings
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in values.items() if k not in settings or v is not None})
    )
    (folder / "vocab.txt").write_text("\n".join(alphabet.TOKENS))
    state = hugging_face_state(config) if state is None else state
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {name: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(state)}
    for file in set(weight_map.values()):
        save_file({name: state[name] for name in state if weight_map[name] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
