"""A pLM written in the form in which Hugging Face has ESM-2: `config.json`, `model.safetensors` and `vocab.txt`."""

import json
import re
from pathlib import Path

import flax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import LAYER_NORM_EPSILON, rotary_frequencies
from bihf_jax.pretrained.esm2 import ESM2, check_parameters, tensor_name
from bihf_jax.pretrained.tensors import PretrainedError

SAVED_DTYPES = ("bfloat16", "float32")
# Positions that transformers plans for; rotary ones have no such limit. ESM-2 has it for 1,024 tokens.
_MAX_POSITIONS = 1026


def save_hugging_face(model: ESM2, folder: str | Path, dtype: str = "float32") -> None:
    """Saves a pLM with its head for masked tokens, so that `load_esm2` and transformers' `EsmForMaskedLM` read it.

    Args:
      model: of parameters that were trained, or from `load_esm2`; LoRA's updates must be merged first.
      folder: must not exist.
      dtype: of the file, "bfloat16" (half the size; 8 bits of each number are kept) or "float32".

    Raises:
      PretrainedError: the folder exists, an unknown dtype, parameters without the head, or not those of the config.
    """
    folder = Path(folder)
    if folder.exists():
        raise PretrainedError(f"{folder} exists; give another folder, or remove it")
    if dtype not in SAVED_DTYPES:
        raise PretrainedError(f"dtype is {dtype!r}; allowed: {', '.join(SAVED_DTYPES)}")
    if "lm_head" not in model.params:
        raise PretrainedError("the model has no head for masked tokens, which the form needs; load it with head=True")
    check_parameters(model)
    tensors = {
        _hugging_face_name(path): np.ascontiguousarray(
            np.asarray(leaf, jnp.dtype(dtype)).T if path[-1] == "kernel" else np.asarray(leaf, jnp.dtype(dtype))
        )
        for path, leaf in flax.traverse_util.flatten_dict(model.params).items()
    }
    frequencies = rotary_frequencies(model.config.head_width, model.config.rotary_dtype)
    for layer in range(model.config.layers):
        name = f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"
        tensors[name] = frequencies  # always float32: rounded ones would be another model
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "vocab.txt").write_text("\n".join(alphabet.TOKENS), "utf-8")
    (folder / "config.json").write_text(json.dumps(_settings(model.config, dtype), indent=1) + "\n", "utf-8")


# Pattern -> replacement, applied in order: from fair-esm's names to Hugging Face's. `published` has the way back.
_NAMES = (
    (r"^embed_tokens\.", "esm.embeddings.word_embeddings."),
    (r"^emb_layer_norm_after\.", "esm.encoder.emb_layer_norm_after."),
    (r"^layers\.", "esm.encoder.layer."),
    (r"\.self_attn\.q_proj\.", ".attention.self.query."),
    (r"\.self_attn\.k_proj\.", ".attention.self.key."),
    (r"\.self_attn\.v_proj\.", ".attention.self.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.self_attn_layer_norm\.", ".attention.LayerNorm."),
    (r"\.fc1\.", ".intermediate.dense."),
    (r"\.fc2\.", ".output.dense."),
    (r"\.final_layer_norm\.", ".LayerNorm."),
)


def _hugging_face_name(path: tuple[str, ...]) -> str:
    name = tensor_name(path)
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _settings(config: PLMConfig, dtype: str) -> dict:
    """`config.json`, with the keys that facebook/esm2_t33_650M_UR50D has."""
    return {
        "architectures": ["EsmForMaskedLM"],
        "attention_probs_dropout_prob": 0.0,
        "emb_layer_norm_before": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "is_folding_model": False,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "mask_token_id": alphabet.MASK,
        "max_position_embeddings": _MAX_POSITIONS,
        "model_type": "esm",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "pad_token_id": alphabet.PAD,
        "position_embedding_type": "rotary",
        "token_dropout": config.token_dropout,
        "torch_dtype": dtype,
        "vocab_size": config.vocab,
    }
