"""What `predict` and `embed` share: the flags for model and inputs, progress, and the words at the end."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from absl import flags
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
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a training run, its --workdir", required=True)
_WHICH = flags.DEFINE_enum("which", "best", ["best", "last"], "Which checkpoint of the run")
_INPUT = flags.DEFINE_string("input", None, "Structure file, folder of them, or .txt list of paths", required=True)
_CHAINS = flags.DEFINE_list("chains", [], "Author ids of the chains to read; all if not given")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Do again what is finished")
_MAX_SLOTS = flags.DEFINE_integer("max_slots", MAX_SLOTS, "Of a structure: residues, and two a chain", lower_bound=1)
_CACHE = flags.DEFINE_bool("compilation_cache", True, "Keep compiled programs in the user's cache folder")

SOME_FAILED = 2  # exit status


def run(work: Callable[[], int]) -> int:
    """The exit status of `work`; 1 with the message where what it was given cannot be used."""
    try:
        return work()
    except (ConfigError, CheckpointError, InputError, EmbeddingFileError, MissingFeaturesError, OSError) as error:
        _LOGGER.error("%s", error)
        return 1


def find_targets() -> inputs.Targets:
    """The structures that the flags name."""
    targets = inputs.find_targets(_INPUT.value, _CHAINS.value)
    if targets.passed_over:
        _LOGGER.info("%d files without the ending of a structure file are passed over", len(targets.passed_over))
    return targets


def load_predictor() -> Predictor:
    """The model that the flags name."""
    predictor = bihf_jax.load(
        _CHECKPOINT.value, which=_WHICH.value, max_slots=_MAX_SLOTS.value, compilation_cache=_CACHE.value
    )
    _LOGGER.info(
        "%s: task %s, %s checkpoint of step %d", _CHECKPOINT.value, predictor.task.name, _WHICH.value, predictor.step
    )
    return predictor


def follow(outcomes: Iterable[Outcome], targets: inputs.Targets) -> list[Outcome]:
    """All outcomes, with a progress bar while they come, and those of the inputs whose name was taken."""
    bar = tqdm(outcomes, total=len(targets.targets), unit=" structures", mininterval=1)
    return [*bar, *(Outcome(target, "failed", message) for target, message in targets.clashes)]


def conclude(outcomes: Sequence[Outcome], where: Path) -> int:
    """Prints what became of the structures; the exit status."""
    counts = Counter(outcome.status for outcome in outcomes)
    words = {"written": "done", "kept": "kept from before", "failed": "failed"}
    print(f"{', '.join(f'{counts[status]} {word}' for status, word in words.items() if counts[status])}: {where}")
    for outcome in outcomes:
        if outcome.message:
            print(f"{'failed' if outcome.status == 'failed' else 'note'}: {outcome.target.path}: {outcome.message}")
    return SOME_FAILED if counts["failed"] else 0
