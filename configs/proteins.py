"""The model and the training that the config documents of proteins share (`ec`, `mqa`, `lba`, `custom`)."""

from typing import Any

from ml_collections import ConfigDict

from configs import common

# Arguments of every document, with their defaults; a document may change them and add its own.
ARGUMENTS: dict[str, Any] = {
    **{"fusion": "local", "records": "", "plm": "", "gnn": "gvp", "pooling": "mean"},
    **{"steps": 2000, "rows": 4, "learning_rate": 1e-3, "seed": 0, "runlocal": False},
    "task": {},
}


def protein_config(arg: str | None, task: dict[str, Any], **defaults: Any) -> ConfigDict:
    """The config document of a task of proteins.

    Args:
      arg: the text after the colon of `--config`; see `ARGUMENTS`. `plm` is a published ESM-2 that the sequence side
        starts from, frozen (e.g. facebook/esm2_t12_35M_UR50D, or a folder); without it a small one learns from scratch.
      task: name and settings of the task, to which `task.SETTING=VALUE` of the argument are added.
      **defaults: of arguments, where the document's differ from `ARGUMENTS`.
    """
    return make_config(common.parse_arg(arg, **{**ARGUMENTS, **defaults}), task)


def make_config(arg: ConfigDict, task: dict[str, Any]) -> ConfigDict:
    """As `protein_config`, from parsed arguments."""
    config = ConfigDict()
    config.seed = arg.seed
    config.task = {**task, **arg.task}

    config.data = ConfigDict()
    config.data.records = arg.records
    config.data.rows = arg.rows
    config.data.lengths = (1024,)  # longer proteins are cropped in training and keep their label, never in scoring
    config.data.graphs_per_row = 24
    config.data.neighbours = 24
    config.data.balanced_sampling = 0.0

    config.encoder = ConfigDict()
    config.encoder.stages = 3
    config.encoder.plm = common.sequence_side(arg, layers=3, width=64, heads=4, dropout=0.2)
    config.encoder.structure = common.structure_side(arg)
    config.encoder.fusion = {"name": arg.fusion, "width": 64, "heads": 4}
    config.encoder.representation_width = 128
    config.encoder.residue_masking = 0.1
    config.head = {"hidden_width": 128, "pooling": arg.pooling}

    config.training = common.training(arg, evaluate_every=max(1, arg.steps // 10))
    if arg.runlocal:
        common.shrink(config)
    return config
