"""ESM-2 (Lin et al. 2023) from published weights: every tensor of the file is accounted for, every parameter filled."""

import functools
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from bihf_jax.data import alphabet
from bihf_jax.models.config import PLMConfig
from bihf_jax.models.plm import ProteinLanguageModel
from bihf_jax.pretrained import hub
from bihf_jax.pretrained.published import Published, read_fair_esm, read_hugging_face
from bihf_jax.pretrained.tensors import PretrainedError, Tensor
from bihf_jax.version import __version__

_LOGGER = logging.getLogger(__name__)

Params = dict[str, Any]

_FLOATS = ("float32", "float16", "bfloat16")  # all exact in float32

# Tensors of published files that this model has no use for. Two of them are compared with what stands in for them.
_UNUSED = {
    r"contact_head\.regression\.(weight|bias)": "the contact map's regression on attention maps",
    r"pooler\.dense\.(weight|bias)": "a pooler that transformers adds and ESM-2 was not trained with",
    r"embeddings\.position_embeddings\.weight": "learned positions that transformers wrote, and never read, for ESM-2",
    r"embeddings\.position_ids": "0, 1, 2, ...",
    r"(layers\.(\d+|\*)\.self_attn\.)?rot_emb\.inv_freq": "rotary frequencies, compared with the formula",
    r"lm_head\.weight": "the head's matrix, compared with the token embedding that it is",
}


class ESM2(NamedTuple):
    """A pretrained pLM.

    Attributes:
      config: what `ProteinLanguageModel` is made with.
      params: its parameters as numpy arrays, float32.
      unused: names of the file's tensors that were deliberately not used.
    """

    config: PLMConfig
    params: Params
    unused: tuple[str, ...] = ()


def load_esm2(source: str | Path, *, head: bool = True, revision: str | None = None) -> ESM2:
    """ESM-2 with published weights.

    No PyTorch is needed, and nothing in the files is executed. Tensors are converted one at a time.

    Args:
      source: a folder in Hugging Face's form (`config.json`, and `model.safetensors` or `pytorch_model.bin`, sharded or
        not); a file of fair-esm (`esm2_t*.pt`); a folder that `save_esm2` wrote; or an id on the Hugging Face hub, e.g.
        "facebook/esm2_t33_650M_UR50D".
      head: with the masked-language-model head; without it a file need not have one.
      revision: of a model on the hub.

    Returns:
      `ESM2(config, params, unused)`, for
      `ProteinLanguageModel(config).apply({"params": params}, tokens, chain_segment, sequence_mask)`.

    Raises:
      PretrainedError: no such weights, a damaged or unsafe file, another model than ESM-2 (ESM-1b and ESM-1v are
        refused by name), or tensors without a place or parameters without a tensor: lists both.
    """
    path = _locate(source, revision, verify=True)
    model = _load_saved(path, head) if _is_saved(path) else _convert(_read(path), head)
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    config = model.config
    _LOGGER.info(
        "%s: ESM-2 of %d layers, width %d, %d heads, %d parameters; of the file not used: %s",
        *(source, config.layers, config.width, config.heads, count, _summary(model.unused)),
    )
    return model


def esm2_config(source: str | Path, *, revision: str | None = None) -> PLMConfig:
    """The config of what `load_esm2` would load; of the weights only the rotary frequencies are read.

    Raises:
      PretrainedError: as `load_esm2` does, for what can be seen without the weights.
    """
    path = _locate(source, revision, verify=False)
    return PLMConfig(**_read_about(path)["config"]) if _is_saved(path) else _read(path).config


def with_pretrained_plm(params: Params, config: PLMConfig) -> Params:
    """The parameters of a model that contains the fused encoder, its pLM's replaced by those of `config.pretrained`.

    Args:
      params: of `TaskModel`, with "encoder" and in it "plm". Its types are kept, and so are LoRA's updates.
      config: of its pLM.

    Raises:
      PretrainedError: as `load_esm2`, or the weights are of another size than `config`.
    """
    if "plm" not in params["encoder"]:
        raise PretrainedError("config.encoder.plm.pretrained is set, but the fusion method runs no sequence side")
    model = load_esm2(config.pretrained, head=False)
    theirs, ours = model.config.architecture, config.architecture
    if theirs != ours:
        differing = ", ".join(
            f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in theirs if theirs[name] != ours[name]
        )
        raise PretrainedError(
            f"config.encoder.plm: {config.pretrained} has {differing}; leave these keys (and name) out of the config: "
            f"pretrained gives them"
        )
    plm, weights = map(flax.traverse_util.flatten_dict, (params["encoder"]["plm"], model.params))
    plm |= {path: leaf.astype(plm[path].dtype, copy=False) for path, leaf in weights.items()}
    return params | {"encoder": params["encoder"] | {"plm": flax.traverse_util.unflatten_dict(plm)}}


# ---- finding and reading ---------------------------------------------------------------------------------------------


def _locate(source: str | Path, revision: str | None, *, verify: bool) -> Path:
    """The file or folder; `verify` compares what the hub's cache has with its checksums, which reads it all."""
    path = Path(source).expanduser()
    if path.exists():
        if revision is not None:
            raise PretrainedError(
                f"revision {revision!r} is of a model on the hub, but {path} is a path here; leave it out"
            )
        return path
    if isinstance(source, str) and hub.is_hub_id(source):
        folder = hub.download(source, revision)
        if verify:
            hub.verify(folder)
        return folder
    raise PretrainedError(
        f"no pretrained weights at {str(source)!r}: there is no such file or folder, and it is no hub id such as "
        f"facebook/esm2_t6_8M_UR50D"
    )


def _read(path: Path) -> Published:
    if path.is_dir():
        return read_hugging_face(path)
    if path.suffix != ".pt":
        raise PretrainedError(
            f"{path}: a single file is read only in fair-esm's form, esm2_t*.pt; for Hugging Face's give the folder "
            f"with config.json and the weights"
        )
    return read_fair_esm(path)


# ---- conversion ------------------------------------------------------------------------------------------------------


def _convert(published: Published, head: bool) -> ESM2:
    """Audits names, shapes and types before it reads the first tensor, then reads one after the other."""
    shapes = _parameter_shapes(published.config, head)
    tensor_of = {path: published.tensors.get(_tensor_name(path)) for path in shapes}
    used = {_tensor_name(path) for path in shapes}
    unused = {name for name in published.tensors.keys() - used if _is_unused(name, head)}
    _audit(published, shapes, tensor_of, published.tensors.keys() - used - unused)
    # All are allocated before the first is read: copies that are made and freed between them would leave holes.
    flat = {path: np.empty(shape, np.float32) for path, shape in shapes.items()}
    for path, parameter in flat.items():
        values = tensor_of[path].read()
        parameter[...] = values.T if path[-1] == "kernel" else values
    if head and "lm_head.weight" in published.tensors:
        _check_tied(published, flat[("embed_tokens", "embedding")])
    names = tuple(sorted(published.tensors[name].name for name in unused))
    return ESM2(published.config, flax.traverse_util.unflatten_dict(flat), names)


def _parameter_shapes(config: PLMConfig, head: bool) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Shape of every parameter of the model; nothing is computed."""
    row = [jax.ShapeDtypeStruct((1, 2), dtype) for dtype in (jnp.int32, jnp.int32, jnp.bool_)]
    model = ProteinLanguageModel(config)
    init = functools.partial(model.init, method=model.token_logits if head else None)
    variables = jax.eval_shape(init, jax.random.key(0), *row)
    return {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(variables["params"]).items()}


def _tensor_name(path: tuple[str, ...]) -> str:
    """fair-esm's name: ("layers_0", "fc1", "kernel") -> "layers.0.fc1.weight"."""
    *modules, leaf = path
    modules = [re.sub(r"^layers_(\d+)$", r"layers.\1", module) for module in modules]
    return ".".join([*modules, "bias" if leaf == "bias" else "weight"])


def _is_unused(name: str, head: bool) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in _UNUSED) or (not head and name.startswith("lm_head."))


def _file_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch keeps a matrix as [out, in], Flax as [in, out]."""
    return shape[::-1] if path[-1] == "kernel" else shape


def _audit(
    published: Published,
    shapes: Mapping[tuple[str, ...], tuple[int, ...]],
    tensor_of: Mapping[tuple[str, ...], Tensor | None],
    surplus: Iterable[str],
) -> None:
    found = {path: tensor for path, tensor in tensor_of.items() if tensor is not None}
    problems = [f"only in the file: {published.tensors[name].name}" for name in sorted(surplus)]
    problems += [f"only in the model: {'/'.join(path)} {shapes[path]}" for path in shapes.keys() - found.keys()]
    for path, tensor in found.items():
        wanted = _file_shape(path, shapes[path])
        if tensor.shape != wanted:
            problems.append(f"{tensor.name}: {tensor.shape} in the file, {wanted} in the model")
        if tensor.dtype not in _FLOATS:
            problems.append(f"{tensor.name}: {tensor.dtype} in the file; {', '.join(_FLOATS)} can be read")
    if problems:
        config = published.config
        title = f"{published.source} is not the ESM-2 of {config.layers} layers, width {config.width} that it says:"
        raise PretrainedError("\n  ".join([title, *sorted(problems)]))


def _check_tied(published: Published, embedding: np.ndarray) -> None:
    tensor = published.tensors["lm_head.weight"]
    if tensor.shape != embedding.shape or not np.array_equal(tensor.read().astype(np.float32), embedding):
        raise PretrainedError(
            f"{published.source}: {tensor.name} differs from the token embedding; the head of ESM-2 has none of its own"
        )


def _summary(unused: Iterable[str]) -> str:
    """Names with layer numbers left out, each with its count."""
    kinds = [re.sub(r"\.\d+\.", ".*.", name) for name in unused]
    return ", ".join(f"{kind} ({kinds.count(kind)})" for kind in dict.fromkeys(kinds)) or "none"


# ---- a converted model as a checkpoint of Orbax ----------------------------------------------------------------------


def save_esm2(model: ESM2, folder: str | Path) -> None:
    """Saves a converted model as an Orbax checkpoint that `load_esm2` reads.

    Args:
      model: from `load_esm2`, or of parameters that were trained further; LoRA's updates must be merged first
        (`models.merge_lora`). All are saved as float32.
      folder: must not exist.

    Raises:
      PretrainedError: the folder exists, or the parameters are not those of the config.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise PretrainedError(f"{folder} exists; give another folder, or remove it")
    config, head = PLMConfig(**model.config.architecture), "lm_head" in model.params
    found = {path: np.shape(leaf) for path, leaf in flax.traverse_util.flatten_dict(model.params).items()}
    if differing := sorted({path for path, _ in found.items() ^ _parameter_shapes(config, head).items()}):
        raise PretrainedError(
            f"these are not the parameters of an ESM-2 of {config.layers} layers, width {config.width}: "
            f"{len(differing)} differ, the first is {'/'.join(differing[0])}; merge LoRA's updates with "
            f"models.merge_lora first"
        )
    about = {"config": config.architecture, "head": head, "alphabet": "".join(alphabet.TOKENS), "version": __version__}
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model.params)
    items = {"params": ocp.args.PyTreeSave(params), "about": ocp.args.JsonSave(about)}
    with _checkpointer() as checkpointer:
        checkpointer.save(folder, args=ocp.args.Composite(**items))


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler("params", "about"))


def _is_saved(path: Path) -> bool:
    return (path / "params").is_dir() and (path / "about").is_dir()


def _read_about(folder: Path) -> dict[str, Any]:
    with _checkpointer() as checkpointer:
        items = ocp.args.Composite(about=ocp.args.JsonRestore())
        return checkpointer.restore(folder.absolute(), args=items)["about"]


def _load_saved(folder: Path, head: bool) -> ESM2:
    about = _read_about(folder)
    config = PLMConfig(**about["config"])
    if about["alphabet"] != "".join(alphabet.TOKENS):
        raise PretrainedError(f"{folder} was saved with another alphabet, {about['alphabet']}; load the published file")
    if head and not about["head"]:
        raise PretrainedError(f"{folder} was saved without the language-model head; load it with head=False")
    shapes = flax.traverse_util.unflatten_dict(_parameter_shapes(config, about["head"]))
    template = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), template)
    with _checkpointer() as checkpointer:
        items = ocp.args.Composite(params=ocp.args.PyTreeRestore(item=template, restore_args=restore))
        params = checkpointer.restore(folder.absolute(), args=items)["params"]
    unused = () if head or not about["head"] else tuple(f"lm_head/{name}" for name in params.pop("lm_head"))
    return ESM2(config, params, unused)
