"""Updates of low rank beside frozen weights: LoRA (Hu et al. 2021, arXiv 2106.09685)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bihf_jax.models.config import LearningConfig, PLMConfig
from bihf_jax.models.dense import Dense

Array = jax.Array
Params = Mapping[str, Any]

SUFFIX = "_lora"  # the update of q_proj is q_proj_lora beside it


class LowRankUpdate(nn.Module):
    """x A B alpha / rank, which is added to a dense layer. A starts random and B as zeros: no update yet.

    Attributes:
      features: Outputs of the layer.
      config: Rank and alpha.
      dtype: Compute type; A and B are float32.
    """

    features: int
    config: LearningConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """The layer's inputs [.., C] -> [.., features]."""
        x = Dense(self.config.rank, use_bias=False, dtype=self.dtype, name="a")(x)
        zeros = nn.initializers.zeros_init()
        x = Dense(self.features, use_bias=False, kernel_init=zeros, dtype=self.dtype, name="b")(x)
        return x * (self.config.alpha / self.config.rank)


def is_factor(path: Sequence[str]) -> bool:
    """Whether the parameter at `path` (names of Flax modules) is A or B of an update."""
    return any(part.endswith(SUFFIX) for part in path)


class MergedLoRA(NamedTuple):
    """Parameters with their updates added to the weights, and what it takes to undo that.

    Attributes:
      params: of the same model without updates, i.e. with another `LearningConfig.mode`.
      replaced: path -> the weights as they were, and A and B.
    """

    params: dict[str, Any]
    replaced: dict[tuple[str, ...], Any]


def merge_lora(params: Params, config: PLMConfig) -> MergedLoRA:
    """Adds each update to the weights beside it, so that the model needs no more time than without.

    Each merged weight is computed in float64 and rounded once, to float32, whatever the type of the frozen one. In
    float32 the outputs are those of the model with updates, to rounding; in bfloat16 the merged weight is rounded as a
    whole where it is used, and an update far smaller than its weight is lost there.

    Args:
      params: of the pLM, or of any model that contains it.
      config: of the pLM, with `learning.mode` "lora".

    Returns:
      `MergedLoRA(params, replaced)`, of which `unmerge_lora` makes `params` again. Nothing is copied but what is
      merged; merged weights are numpy.

    Raises:
      ValueError: the config is of another mode, or `params` has no updates or those of other targets or rank.
    """
    learning = config.learning
    if learning.mode != "lora":
        raise ValueError(f"merge_lora needs a config with learning.mode 'lora', this one has {learning.mode!r}")
    flat = flatten_dict(params)
    merged = {path: leaf for path, leaf in flat.items() if not is_factor(path)}
    replaced = {path: leaf for path, leaf in flat.items() if is_factor(path)}
    _check_factors(replaced, config)
    for path in [path for path in replaced if path[-2] == "a"]:
        *module, update, _, leaf = path
        kernel = (*module, update.removesuffix(SUFFIX), leaf)
        weight, a, b = (np.asarray(flat[p], np.float64) for p in (kernel, path, (*module, update, "b", leaf)))
        replaced[kernel] = flat[kernel]
        merged[kernel] = (weight + a @ b * (learning.alpha / learning.rank)).astype(np.float32)
    return MergedLoRA(unflatten_dict(merged), replaced)


def unmerge_lora(merged: MergedLoRA) -> dict[str, Any]:
    """The parameters that were merged, bit for bit: the weights are those that were kept, none is subtracted.

    What was changed in `merged.params` since stays changed, except for the merged weights.
    """
    return unflatten_dict(flatten_dict(merged.params) | merged.replaced)


def _check_factors(factors: Mapping[tuple[str, ...], Any], config: PLMConfig) -> None:
    learning = config.learning
    found = sorted({(path[-3].removesuffix(SUFFIX), np.shape(a)[-1]) for path, a in factors.items() if path[-2] == "a"})
    wanted = sorted((target, learning.rank) for target in learning.targets)
    if found != wanted:
        raise ValueError(
            f"the config has LoRA updates (target, rank) {wanted}, the parameters {found}; give the config that they "
            f"were trained with"
        )
