"""Exports the pLM of a run: `python -m experiments.export_plm --workdir=RUN --output=FOLDER`.

Writes `config.json`, `model.safetensors` and `vocab.txt` in Hugging Face's form of ESM-2, which
`config.encoder.plm.pretrained = FOLDER`, `pretrained.load_esm2` and transformers' `EsmForMaskedLM` read. Of a run with
the task `mlm`; updates of low rank are merged into the weights.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from bihf_jax.configuration import ConfigError
from bihf_jax.models import merge_lora
from bihf_jax.pretrained import ESM2, PretrainedError, save_hugging_face
from bihf_jax.pretrained.hugging_face import SAVED_DTYPES
from bihf_jax.training.checkpoints import CheckpointError
from bihf_jax.training.restore import restore_model
from experiments import logs

_LOGGER = logging.getLogger("bihf_jax.export_plm")


def export_plm(workdir: str | Path, output: str | Path, *, checkpoint: str = "best", dtype: str = "float32") -> None:
    """Writes the pLM of a `mlm` run into the folder `output`; raises as `restore_model` and `save_hugging_face`.

    Raises:
      PretrainedError: the run has no pLM with a head for masked tokens.
    """
    restored = restore_model(workdir, which=checkpoint)
    plm = restored.config.encoder.plm
    params = merge_lora(restored.params, plm).params if plm.learning.adapted else restored.params
    if "lm_head" not in params.get("plm", {}):
        raise PretrainedError(
            f"{workdir} is a run of task {restored.config.task['name']!r}, whose pLM has no head for masked tokens; "
            "give one of task mlm"
        )
    save_hugging_face(ESM2(plm, params["plm"]), output, dtype)
    _LOGGER.info("%s checkpoint of step %d written to %s as %s", checkpoint, restored.step, output, dtype)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.export_plm", description="Export the pLM of a run in Hugging Face's form of ESM-2."
    )
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--output", required=True, help="folder to write; must not exist")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which one")
    parser.add_argument("--dtype", choices=SAVED_DTYPES, default="float32", help="of the file")
    args = parser.parse_args(argv)
    try:
        export_plm(args.workdir, args.output, checkpoint=args.checkpoint, dtype=args.dtype)
    except (ConfigError, CheckpointError, PretrainedError) as error:
        print(f"export_plm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
