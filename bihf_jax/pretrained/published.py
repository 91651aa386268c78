"""The two forms in which ESM-2 is published: a Hugging Face folder, and the `.pt` files of fair-esm."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.models.config import ROTARY_DTYPES, PLMConfig
from bihf_jax.models.plm import LAYER_NORM_EPSILON, rotary_frequencies
from bihf_jax.pretrained.tensors import PretrainedError, Tensor, read_safetensors
from bihf_jax.pretrained.torch_file import Namespace, read_torch_file


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model before it is converted.

    Attributes:
      source: the file or folder.
      config: its sizes.
      tensors: by the name that fair-esm has for it, without its prefixes, e.g. "layers.0.self_attn.q_proj.weight".
    """

    source: Path
    config: PLMConfig
    tensors: Mapping[str, Tensor]


def read_fair_esm(path: Path) -> Published:
    """A file of fair-esm, e.g. `esm2_t6_8M_UR50D.pt`.

    Raises:
      PretrainedError: not such a file, or another model than ESM-2.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise PretrainedError(f"{path} is no model file of fair-esm: it has no dict 'model'; give esm2_t*.pt")
    if "cfg" not in content:
        settings = content.get("args", {})
        arch = settings.get("arch") if isinstance(settings, dict) else None
        raise PretrainedError(f"{path} is {_FAIR_ESM_MODELS.get(arch, f'an unknown model ({arch=})')}; give esm2_t*.pt")
    settings = content["cfg"].get("model") if isinstance(content["cfg"], dict) else None
    names = ("encoder_layers", "encoder_embed_dim", "encoder_attention_heads", "token_dropout")
    if not isinstance(settings, Namespace) or not settings.keys() >= {*names}:
        raise PretrainedError(f"{path}: its cfg.model lacks one of {', '.join(names)}; give esm2_t*.pt")
    layers, width, heads, token_dropout = (settings[name] for name in names)
    return _published(path, _plm_config(path, layers, width, heads, token_dropout), content["model"], _FAIR_ESM_NAMES)


# `args.arch` of the files that are older than ESM-2.
_FAIR_ESM_MODELS = {
    "roberta_large": "ESM-1b or ESM-1v, whose learned positions this library does not have",
    "protein_bert_base": "ESM-1, whose positions this library does not have",
    "msa_transformer": "the MSA Transformer, which this library does not have",
}


def read_hugging_face(folder: Path) -> Published:
    """A folder with `config.json` and `model.safetensors` or `pytorch_model.bin`, in one file or in shards.

    Raises:
      PretrainedError: a file is missing or damaged, or the model is another than ESM-2.
    """
    config = _hugging_face_config(folder / "config.json")
    vocabulary = folder / "vocab.txt"
    if (
        vocabulary.exists()
        and tuple(vocabulary.read_text(encoding="utf-8", errors="replace").split()) != alphabet.TOKENS
    ):
        raise PretrainedError(
            f"{vocabulary} has other tokens, or another order, than ESM-2: {', '.join(alphabet.TOKENS)}"
        )
    return _published(folder, config, _hugging_face_tensors(folder), _HUGGING_FACE_NAMES)


# Settings that change the model's function: what transformers takes where config.json leaves one out, what is allowed.
_HUGGING_FACE_SETTINGS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "model_type": (None, ("esm",)),
    "vocab_size": (None, (len(alphabet.TOKENS),)),
    "mask_token_id": (None, (alphabet.MASK,)),
    "pad_token_id": (None, (alphabet.PAD,)),
    "hidden_act": ("gelu", ("gelu",)),
    "layer_norm_eps": (1e-12, (LAYER_NORM_EPSILON,)),
    "rope_theta": (10000.0, (10000.0,)),
    "emb_layer_norm_before": (None, (None, False)),
    "is_folding_model": (False, (None, False)),
    "is_decoder": (False, (None, False)),
    "add_cross_attention": (False, (None, False)),
}


def _hugging_face_config(path: Path) -> PLMConfig:
    try:
        settings = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise PretrainedError(f"{path} cannot be read ({error}); a Hugging Face folder needs it") from error
    positions = settings.get("position_embedding_type", "absolute")
    if settings.get("model_type") == "esm" and positions != "rotary":
        raise PretrainedError(
            f"{path}: position_embedding_type is {positions!r}: this is ESM-1b or ESM-1v, whose learned positions this "
            f"library does not have; give an ESM-2, e.g. facebook/esm2_t33_650M_UR50D"
        )
    for name, (default, allowed) in _HUGGING_FACE_SETTINGS.items():
        value = settings.get(name, default)
        if value not in allowed:
            raise PretrainedError(f"{path}: {name} is {value!r}; ESM-2 has {' or '.join(map(repr, allowed))}")
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    if missing := [name for name in sizes if name not in settings]:
        raise PretrainedError(f"{path} lacks {', '.join(missing)}; fetch the file again")
    layers, width, heads, feed_forward_width = (settings[name] for name in sizes)
    config = _plm_config(path, layers, width, heads, settings.get("token_dropout", False))
    if feed_forward_width != config.feed_forward_width:
        raise PretrainedError(
            f"{path}: intermediate_size is {feed_forward_width}; ESM-2 has 4 x hidden_size, {config.feed_forward_width}"
        )
    return config


def _plm_config(path: Path, layers: Any, width: Any, heads: Any, token_dropout: Any) -> PLMConfig:
    if not all(isinstance(size, int) for size in (layers, width, heads)):
        raise PretrainedError(
            f"{path}: layers, width and heads are {layers!r}, {width!r}, {heads!r}; integers are needed"
        )
    try:
        return PLMConfig(layers=layers, width=width, heads=heads, token_dropout=bool(token_dropout))
    except ValueError as error:
        raise PretrainedError(f"{path}: {error}") from error


def _hugging_face_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of all weight files of a folder, safetensors before PyTorch's."""
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", _read_state)):
        if (folder / name).exists():
            return read(folder / name)
        index = folder / f"{name}.index.json"
        if index.exists():
            return _read_shards(index, read)
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise PretrainedError(
        f"{folder} has no model.safetensors or pytorch_model.bin, nor an index of their shards; it has {found}"
    )


def _read_state(path: Path) -> dict[str, Tensor]:
    state = read_torch_file(path)
    if not isinstance(state, dict):
        raise PretrainedError(f"{path} holds a {type(state).__name__}, not a dict of weights; fetch the file again")
    return state


def _read_shards(index: Path, read: Any) -> dict[str, Tensor]:
    """The tensors of a sharded model; each must be in the shard that the index says, and no other."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shard_of = {str(name): str(file) for name, file in dict(weight_map).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PretrainedError(f"{index} cannot be read ({error!r}); fetch it again") from error
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(shard_of.values())):
        path = index.parent / shard
        if Path(shard).name != shard or not path.exists():
            raise PretrainedError(f"{index} names the shard {shard}, which is not in its folder; fetch the file")
        content = read(path)
        expected = {name for name, file in shard_of.items() if file == shard}
        if content.keys() != expected:
            raise PretrainedError(
                f"{path} and {index.name} disagree: {_listed('only in the file', content.keys() - expected)}; "
                f"{_listed('only in the index', expected - content.keys())}; fetch both again"
            )
        tensors |= content
    return tensors


# Pattern -> replacement, applied in order: from each form's names to fair-esm's, without its prefixes.
_FAIR_ESM_NAMES = ((r"^encoder\.(sentence_encoder\.)?", ""),)
_HUGGING_FACE_NAMES = (
    (r"^esm\.", ""),
    (r"^embeddings\.word_embeddings\.", "embed_tokens."),
    (r"^rotary_embeddings\.", "rot_emb."),
    (r"^lm_head\.decoder\.", "lm_head."),
    (r"^encoder\.emb_layer_norm_after\.", "emb_layer_norm_after."),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.self\.query\.", ".self_attn.q_proj."),
    (r"\.attention\.self\.key\.", ".self_attn.k_proj."),
    (r"\.attention\.self\.value\.", ".self_attn.v_proj."),
    (r"\.attention\.self\.rotary_embeddings\.", ".self_attn.rot_emb."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.attention\.LayerNorm\.", ".self_attn_layer_norm."),
    (r"\.intermediate\.dense\.", ".fc1."),
    (r"\.output\.dense\.", ".fc2."),
    (r"^(layers\.\d+)\.LayerNorm\.", r"\1.final_layer_norm."),
    # transformers 5 saves these two by the names that TensorFlow had for them, and "*" for a layer's number.
    (r"layer_norm\.gamma$", "layer_norm.weight"),
    (r"layer_norm\.beta$", "layer_norm.bias"),
)


def _published(
    source: Path, config: PLMConfig, content: Mapping[Any, Any], names: tuple[tuple[str, str], ...]
) -> Published:
    tensors: dict[str, Tensor] = {}
    for original, tensor in content.items():
        if not isinstance(original, str) or not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise PretrainedError(f"{source}: {original!r} holds a {kind}, not a tensor; fetch the file again")
        name = original
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        if name in tensors:
            raise PretrainedError(
                f"{source} has {original!r} twice: also as {tensors[name].name!r}; fetch the file again"
            )
        tensors[name] = dataclasses.replace(tensor, name=original)
    config = dataclasses.replace(config, rotary_dtype=_rotary_dtype(source, config, tensors))
    return Published(source, config, tensors)


def _rotary_dtype(source: Path, config: PLMConfig, tensors: Mapping[str, Tensor]) -> str:
    """What the rotary frequencies in the file were rounded to; the formula's own precision where it has none."""
    stored = [tensor for name, tensor in tensors.items() if name.split(".")[-2:] == ["rot_emb", "inv_freq"]]
    for dtype in ROTARY_DTYPES:
        expected = rotary_frequencies(config.head_width, dtype)
        if all(t.shape == expected.shape and np.allclose(t.read(), expected, rtol=2e-6, atol=0) for t in stored):
            return dtype
    raise PretrainedError(
        f"{source}: {stored[0].name} and its like in other layers are not all the frequencies of ESM-2, "
        f"10000^(-2i/{config.head_width}), in {' or '.join(ROTARY_DTYPES)}; the model is another one"
    )


def _listed(title: str, names: Any, most: int = 20) -> str:
    """'title (count): a, b, ...'."""
    shown = sorted(names)[:most]
    more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{title} ({len(names)}): {', '.join(shown) or 'none'}{more}"
