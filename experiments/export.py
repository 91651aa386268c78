"""Exports a trained model.

    python -m experiments.export --checkpoint=RUN --format=safetensors --output=OUT

Formats: `safetensors` and `orbax`, which `bihf_jax.load` reads; `stablehlo`, which runs with jax and numpy alone;
`saved_model`, for TensorFlow. The export is loaded in a fresh process and compared with the original on a structure:
OUT appears when its outputs are the same, and not at all otherwise. docs/export.md

It runs on the CPU, whatever accelerators there are. Exit code 0: done, 1: not, and why.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jax

from bihf_jax.configuration import ConfigError
from bihf_jax.data.molecules import MoleculeError
from bihf_jax.export import FORMATS, ExportError, export_model
from bihf_jax.export.stablehlo import PLATFORMS
from bihf_jax.inference.ligands import LigandError
from bihf_jax.protein import StructureError
from bihf_jax.training.checkpoints import CheckpointError
from experiments import logs

_LOGGER = logging.getLogger("bihf_jax.export")
_SAMPLE = "1fc2.pdb.gz"  # of the embedded sample


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.export",
        description="Export a trained model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of a run, or of an earlier export")
    parser.add_argument("--format", choices=FORMATS, required=True, help="what to export")
    parser.add_argument("--output", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of the run")
    parser.add_argument("--structure", type=Path, help=f"to compare on; {_SAMPLE} of the sample if not given")
    parser.add_argument("--ligand", default="", help="in that structure, of a model trained with ligands: file or name")
    parser.add_argument("--platforms", type=_names, default=PLATFORMS, help="of stablehlo, joined by commas")
    parser.add_argument("--lengths", type=_lengths, help="slots of a program's rows, joined by commas")
    parser.add_argument(
        "--esm2", action=argparse.BooleanOptionalAction, default=True, help="of safetensors: the pLM for transformers"
    )
    args = parser.parse_args(argv)
    jax.config.update("jax_platforms", "cpu")
    sample = resources.files("data_prep") / "sample" / "structures" / _SAMPLE
    try:
        with resources.as_file(sample) as path:
            export_model(
                args.checkpoint,
                args.output,
                args.format,
                structure=args.structure or path,
                ligand=args.ligand,
                which=args.which,
                platforms=args.platforms,
                lengths=args.lengths,
                esm2=args.esm2,
            )
    except (ConfigError, CheckpointError, StructureError, MoleculeError, LigandError, ExportError, OSError) as error:
        _LOGGER.error("%s", error)
        return 1
    print(f"written and compared with the original: {args.output}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _lengths(text: str) -> tuple[int, ...]:
    lengths = tuple(map(int, text.split(",")))
    if min(lengths) < 1:
        raise ValueError(text)
    return lengths


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
