"""Folders of runs as training leaves them, without the training: parameters are random, so scores differ widely."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bihf_jax.data.grid import example_batch
from bihf_jax.training.checkpoints import Checkpoints, Progress
from bihf_jax.training.config import experiment_config, keep_config
from bihf_jax.training.step import TrainState
from tests.training.small_run import small_config

STEP = 7


def make_run(
    workdir: Path,
    fusion: str = "local",
    *,
    task: Mapping[str, Any] | None = None,
    seed: int = 0,
    noise: bool = True,
    ligands: bool = False,
    **settings: object,
) -> Path:
    """A run with a best and a last checkpoint.

    Args:
      workdir: for the run.
      fusion: name of the method.
      task: name and settings; binding sites if None. Proteins are pooled by attention.
      seed: of the parameters.
      noise: whether anything is random in training.
      ligands: whether their atoms are nodes.
      **settings: changes to `config.encoder.fusion`.
    """
    document = small_config(Path("records"))
    document.seed = seed
    document.data.lengths = (256,)
    document.encoder.stages = 2
    document.encoder.plm.layers = 2
    document.encoder.structure = {"name": "mpnn", "width": 16, "neighbours": 6, "ligands": ligands}  # quick to compile
    document.encoder.fusion = {"name": fusion, "width": 16, "heads": 2, **settings}
    if task is not None:
        document.task, document.head.pooling = dict(task), "attention"
    if not noise:
        encoder = document.encoder
        for part in (encoder, encoder.plm, encoder.structure, encoder.fusion, document.head):
            with part.unlocked():
                part.dropout = 0.0
    config = experiment_config(document)
    values = keep_config(config, workdir, first_host=True)
    model, batch = config.make_model(), example_batch(config.data.grid_shape())
    template = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, None)["params"])
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32), template)
    # Small biases: large ones are the same at every residue, and would leave the scores little to differ by.
    params = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * (0.1 if path[-1].key == "bias" else 1), params)
    params["head"]["logits"]["kernel"] *= 5  # far from 1/2
    with contextlib.closing(Checkpoints(workdir, values)) as checkpoints:
        state = TrainState(np.int32(STEP), params, {"moment": np.zeros(1, np.float32)})
        checkpoints.save(state, Progress(best_score=0.5, best_step=STEP))
    return workdir
