"""What the config documents share: their argument, `configs/x.py:fusion=global,runlocal=True`, and how they train."""

import ast
from typing import Any

from ml_collections import ConfigDict


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
    """`name=value,name=value` -> settings, with the defaults for what is left out.

    Args:
      arg: the text after the colon; a bare `name` stands for `name=True`.
      **defaults: every allowed name with its default, whose type a value must have. A default `{}` takes what is named
        below it, as `task.class_balance=0.5`; whoever reads that knows which names there are.

    Returns:
      The settings.

    Raises:
      ValueError: an unknown name or a value of another type; the message lists the names.
    """
    settings = ConfigDict(defaults)
    for item in (arg or "").split(","):
        if not item:
            continue
        name, _, text = item.partition("=")
        group, dot, key = name.partition(".")
        if dot and isinstance(defaults.get(group), dict):
            settings[group][key] = _literal(text)
            continue
        if name not in defaults:
            raise ValueError(f"unknown config argument {name!r}; allowed: {', '.join(defaults)}")
        default = defaults[name]
        if isinstance(default, str):
            value: Any = text
        else:
            try:
                value = ast.literal_eval(text) if text else True
            except (ValueError, SyntaxError) as error:
                raise ValueError(f"config argument {name}={text!r} is not a {type(default).__name__}") from error
        if not isinstance(value, type(default)):
            raise ValueError(f"config argument {name}={text!r} is not a {type(default).__name__}")
        settings[name] = value
    return settings


def _literal(text: str) -> Any:
    """A number where it is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def training(arg: ConfigDict, evaluate_every: int) -> ConfigDict:
    """`config.training` of the documents that train a fused model: `steps` and `learning_rate` of the argument.

    Args:
      arg: parsed, with these two.
      evaluate_every: steps between validations, and between checkpoints.
    """
    config = ConfigDict()
    config.steps = arg.steps
    config.log_every = 20
    config.evaluate_every = config.checkpoint_every = evaluate_every
    config.patience = 0  # takes all its steps; 5 ends after five validations without a better one
    config.optimizer = {
        "learning_rate": arg.learning_rate,
        "warmup_steps": arg.steps // 10,
        "weight_decay": 0.05,
        "accumulate": 1,
        "average_decay": 0.0,
    }
    return config


def sequence_side(arg: ConfigDict, **own: Any) -> dict[str, Any]:
    """`config.encoder.plm`: the published ESM-2 `arg.plm`, frozen; without it one of the sizes `own` from scratch."""
    return {"pretrained": arg.plm, "learning": {"mode": "frozen"}} if arg.plm else own


def structure_side(arg: ConfigDict) -> dict[str, Any]:
    """`config.encoder.structure`: the graph network `arg.gnn` in a size that goes with 64 channels."""
    sizes = {"gvp": {"scalar_width": 64, "vector_width": 16, "message_gvps": 2}, "pronet": {"width": 64}}
    return {"name": arg.gnn, "neighbours": 24, **sizes.get(arg.gnn, {})}


def shrink(config: ConfigDict) -> None:
    """What `runlocal=True` makes of a config document: a minute on a laptop."""
    config.data.rows = 1
    config.training.steps = 20  # and a shorter warm-up with it
    config.training.optimizer.warmup_steps = 2
    config.training.evaluate_every = 10
