"""Writing ESM-2 in the form of the Hugging Face hub, which `transformers` loads, and `load_esm2`."""

import json
import re
from pathlib import Path
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import LAYER_NORM_EPSILON, rotary_frequencies
from bihf_jax.pretrained.esm2 import ESM2, check_parameters, tensor_name
from bihf_jax.pretrained.tensors import PretrainedError

SAVED_DTYPES = ("float32", "bfloat16")

# Pattern -> replacement, applied in order: from fair-esm's names to those of the hub. `published` has the way back.
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


def save_hugging_face(model: ESM2, folder: str | Path, dtype: str = "float32") -> None:
    """Writes `config.json`, `model.safetensors` and the tokenizer's files, as facebook/esm2_t33_650M_UR50D has them.

    `transformers.AutoModel.from_pretrained(folder)` then gives the hidden states of `ProteinLanguageModel`, and
    `AutoTokenizer` its tokens.

    Args:
      model: parameters as float32 or what is exact in it; LoRA's updates must be merged first (`models.merge_lora`).
      folder: must not exist.
      dtype: of the file, "float32" or "bfloat16" (half the size; 8 bits of each number are kept).

    Raises:
      PretrainedError: the folder exists, an unknown dtype, or the parameters are not those of the config.
    """
    folder = Path(folder)
    if folder.exists():
        raise PretrainedError(f"{folder} exists; give another folder, or remove it")
    if dtype not in SAVED_DTYPES:
        raise PretrainedError(f"dtype is {dtype!r}; allowed: {', '.join(SAVED_DTYPES)}")
    check_parameters(model)
    folder.mkdir(parents=True)
    tensors = {
        _hub_name(tensor_name(path)): _as_tensor(path, leaf, dtype)
        for path, leaf in flax.traverse_util.flatten_dict(model.params).items()
    }
    frequencies = rotary_frequencies(model.config.head_width, model.config.rotary_dtype)
    # transformers has them once from version 5 on, and in every layer before.
    of_layers = [f"esm.encoder.layer.{layer}.attention.self" for layer in range(model.config.layers)]
    for place in ("esm", *of_layers):
        # Always float32: rounded ones would be another model.
        tensors[f"{place}.rotary_embeddings.inv_freq"] = np.array(frequencies, np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    settings = _settings(model.config, head="lm_head" in model.params, dtype=dtype)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(alphabet.TOKENS), encoding="utf-8")
    tokenizer = {"tokenizer_class": "EsmTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer) + "\n", encoding="utf-8")


def _hub_name(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _as_tensor(path: tuple[str, ...], leaf: Any, dtype: str) -> np.ndarray:
    """PyTorch keeps a matrix as [out, in], Flax as [in, out]."""
    values = np.asarray(leaf, jnp.dtype(dtype))
    return np.ascontiguousarray(values.T if path[-1] == "kernel" else values)


def _settings(config: PLMConfig, *, head: bool, dtype: str) -> dict[str, Any]:
    """`config.json`."""
    return {
        "architectures": ["EsmForMaskedLM" if head else "EsmModel"],
        "attention_probs_dropout_prob": 0.0,
        "emb_layer_norm_before": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward_width,
        "is_folding_model": False,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "mask_token_id": alphabet.MASK,
        "max_position_embeddings": 1026,  # not read: the positions are rotary
        "model_type": "esm",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "pad_token_id": alphabet.PAD,
        "position_embedding_type": "rotary",
        "token_dropout": config.token_dropout,
        "torch_dtype": dtype,
        "vocab_size": config.vocab,
    }
