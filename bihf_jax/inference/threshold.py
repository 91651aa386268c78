"""The threshold that a run's evaluation chose on its validation split."""

import json
import logging
import math
from pathlib import Path

_LOGGER = logging.getLogger(__name__)
SCORES_FILE = "scores.json"  # of `experiments.evaluate`; its structure: `tasks.report`
_CHOSEN = "largest MCC"  # how the source of a chosen threshold begins; others are a default


def validation_threshold(workdir: str | Path, step: int) -> float | None:
    """The score from which on a residue counts as positive, of largest MCC on the validation split.

    Args:
      workdir: of the run.
      step: of the checkpoint.

    Returns:
      None where the run was not evaluated at this step, or nothing could be chosen.
    """
    path = Path(workdir) / SCORES_FILE
    if not path.is_file():
        return None
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
        if scores["run"]["step"] != step or "task" in scores:  # only binary residues have thresholds
            return None
        models = [split["scores"]["model"] for split in scores["splits"].values() if split["scores"]]
        chosen = [float(model["threshold"]) for model in models if model["threshold_source"].startswith(_CHOSEN)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOGGER.warning(
            "%s gives no threshold: %s: %s; run experiments.evaluate again", path, type(error).__name__, error
        )
        return None
    return chosen[0] if chosen and math.isfinite(chosen[0]) else None
