"""What `predict`, `embed` and `serve` share: the arguments for model and inputs, progress, and the words at the end."""

import argparse
import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

import bihf_jax
from bihf_jax.configuration import ConfigError
from bihf_jax.inference import Predictor, inputs
from bihf_jax.inference.embedding import MissingFeaturesError
from bihf_jax.inference.embedding_file import EmbeddingFileError
from bihf_jax.inference.folder import Outcome
from bihf_jax.inference.inputs import InputError
from bihf_jax.inference.predictor import MAX_SLOTS
from bihf_jax.training.checkpoints import CheckpointError

_LOGGER = logging.getLogger("bihf_jax.inference")
NOTHING_BEGUN, SOME_FAILED = 1, 2  # exit codes


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """The arguments of the commands that go through structures."""
    parser = model_parser(command, description, max_slots=MAX_SLOTS)
    parser.add_argument("--input", type=Path, required=True, help="structure file, folder of them, or .txt list")
    parser.add_argument("--chains", default="", help="author ids of the chains to read, joined by +; all if not given")
    parser.add_argument(
        "--ligand",
        default="",
        help="of a model trained with ligands: a .sdf, .mol2 or .pdbqt file, or the name of one in the structures, STI "
        "or STI:A:201",
    )
    parser.add_argument("--overwrite", action="store_true", help="do again what is finished")
    return parser


def model_parser(command: str, description: str, *, max_slots: int) -> argparse.ArgumentParser:
    """The arguments of every command that uses a trained model."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{command}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        action="append",
        help="folder of a training run, its --workdir, or of its export; given several times, models of one task whose "
        "scores are averaged",
    )
    parser.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of the run")
    parser.add_argument("--max_slots", type=int, default=max_slots, help="of a structure: residues, and two a chain")
    parser.add_argument(
        "--compilation_cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep compiled programs in the user's cache folder",
    )
    return parser


def run(work: Callable[[], int]) -> int:
    """The exit code of `work`; with the message where what it was given cannot be used."""
    gc.freeze()  # what is imported stays: looking through it again and again would delay the first result
    try:
        return work()
    except (ConfigError, CheckpointError, InputError, EmbeddingFileError, MissingFeaturesError, OSError) as error:
        _LOGGER.error("%s", error)
        return NOTHING_BEGUN


def find_targets(args: argparse.Namespace) -> inputs.Targets:
    """The structures that the arguments name."""
    targets = inputs.find_targets(args.input, args.chains.split("+") if args.chains else (), args.ligand)
    if targets.passed_over:
        _LOGGER.info("%d files without the ending of a structure file are passed over", len(targets.passed_over))
    return targets


def load_predictor(args: argparse.Namespace) -> Predictor:
    """The model that the arguments name."""
    predictor = bihf_jax.load(
        args.checkpoint, which=args.which, max_slots=args.max_slots, compilation_cache=args.compilation_cache
    )
    _LOGGER.info("%s: %s", ", ".join(map(str, args.checkpoint)), predictor.description)
    return predictor


def follow(outcomes: Iterable[Outcome], targets: inputs.Targets) -> list[Outcome]:
    """All outcomes, with a progress bar while they come, and those of the inputs whose name was taken."""
    bar = tqdm(outcomes, total=len(targets.targets), unit=" structures", mininterval=1)
    return [*bar, *(Outcome(target, "failed", message) for target, message in targets.clashes)]


def conclude(outcomes: Sequence[Outcome], where: Path) -> int:
    """Prints what became of the structures; the exit code."""
    counts = Counter(outcome.status for outcome in outcomes)
    words = {"written": "done", "kept": "kept from before", "failed": "failed"}
    print(f"{', '.join(f'{counts[status]} {word}' for status, word in words.items() if counts[status])}: {where}")
    for outcome in outcomes:
        if outcome.message:
            print(f"{'failed' if outcome.status == 'failed' else 'note'}: {outcome.target.path}: {outcome.message}")
    return SOME_FAILED if counts["failed"] else 0
