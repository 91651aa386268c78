"""What of a model learns, and how fast; the pLM's parameters are told from the others by their path.

A path is the names of the Flax modules down to a parameter: ("encoder", "plm", "layers_0", "fc1", "kernel").
"""

import re
from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from bihf_jax.models import lora
from bihf_jax.models.config import PLMConfig

Params = Mapping[str, Any]
Path = tuple[str, ...]

_PLM = "plm"  # its name in the fused encoder


def learns(path: Path, plm: PLMConfig) -> bool:
    """Whether the parameter at `path` changes in training."""
    return _PLM not in path or not plm.learning.freezes or lora.is_factor(path)


def split(params: Params, plm: PLMConfig) -> tuple[Params, Params]:
    """(what learns, what is frozen) of a model's parameters; neither has the modules in which nothing is left."""
    flat = flatten_dict(params)
    learning, frozen = (
        {path: leaf for path, leaf in flat.items() if learns(path, plm) is wanted} for wanted in (True, False)
    )
    return unflatten_dict(learning), unflatten_dict(frozen)


def join(learning: Params, frozen: Params) -> Params:
    """What `split` has taken apart."""
    return unflatten_dict(flatten_dict(learning) | flatten_dict(frozen))


def rate_multiplier(path: Path, plm: PLMConfig) -> float:
    """What the learning rate is multiplied with for the parameter at `path`: `LearningConfig.layer_decay`.

    What follows the last block learns as that does.
    """
    if _PLM not in path:
        return 1.0
    module = path[path.index(_PLM) + 1]
    block = re.fullmatch(r"layers_(\d+)", module)
    layer = int(block[1]) + 1 if block else 0 if module == "embed_tokens" else plm.layers
    return plm.learning.rate_multiplier * plm.learning.layer_decay ** (plm.layers - layer)
