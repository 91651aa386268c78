"""Where the time of whole fused training steps goes, by part, as a table.

Run by `python -m benchmarks.structure_speed RECORDS --fused FOLDER`. Each combination is traced by
`bihf_jax.training.profile`, which leaves its trace and its table by module in a folder of its own.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.structure_speed import GRAPHS_PER_ROW, LENGTH, Case
from bihf_jax.data.records import RecordSet
from bihf_jax.training.profile import StepProfile, profile_training

PLM_NAMES = {"8M": "esm2_t6_8M_UR50D", "35M": "esm2_t12_35M_UR50D"}
FUSIONS = ("local", "global")
STEPS = 3  # traced of each combination

# First name of a module -> the part of the model that it belongs to.
PART_OF = {
    "plm": "pLM",
    "structure": "structure",
    "fusions": "fusion",
    "structure_norm": "merge",
    "merge_dense": "merge",
    "dropout": "merge",
    "head": "head",
    "loss and gradient sum": "loss",
    "optimizer": "optimizer",
}
OTHER = "other"  # operations that the compiler gave no name, or that belong to no part
PARTS = (*dict.fromkeys(PART_OF.values()), OTHER)


def measure(cases: Mapping[str, Case], records: RecordSet, folder: Path, rows: int) -> None:
    """Prints a line for each pLM, encoder and fusion.

    Args:
      cases: encoders by name; a stage of the model has one of their layers.
      records: with a training split.
      folder: of the traces; made if missing.
      rows: of 1,024 slots in a step, a multiple of the number of devices.
    """
    print("| pLM | encoder | fusion | step, ms | slots/s | " + " | ".join(f"{part}, %" for part in PARTS) + " |")
    print("|---|---|---|---:|---:|" + "---:|" * len(PARTS))
    for size, plm in PLM_NAMES.items():
        for name, case in cases.items():
            for fusion in FUSIONS:
                config = step_config(case, plm, fusion, str(records.directory), rows)
                profile = profile_training(config, folder / f"{size}-{name}-{fusion}", STEPS)
                shares = by_part(profile)
                cells = " | ".join(f"{shares[part]:.1%}" for part in PARTS)
                step = f"{profile.seconds * 1e3:,.0f} | {profile.slots / profile.seconds:,.0f}"
                print(f"| {size} | {name} | {fusion} | {step} | {cells} |", flush=True)


def step_config(case: Case, plm: str, fusion: str, records: str, rows: int) -> dict[str, Any]:
    """The config document of one combination; the pLM starts from random weights, which take as long."""
    structure = dataclasses.asdict(case.config)
    return {
        "task": {"name": "ppbs"},
        "data": {
            "records": records,
            "rows": rows,
            "lengths": (LENGTH,),
            "graphs_per_row": GRAPHS_PER_ROW,
            "neighbours": case.config.neighbours,
        },
        "encoder": {
            "stages": case.layers,
            "plm": {"name": plm},
            "structure": structure,
            "fusion": {"name": fusion},
        },
        "training": {"steps": 1000},  # of the learning rate's schedule
    }


def by_part(profile: StepProfile) -> dict[str, float]:
    """Part of `PARTS` -> its share of the time of all operations."""
    seconds: dict[str, float] = defaultdict(float, dict.fromkeys(PARTS, 0.0))
    for (module, _), time in profile.parts.items():
        seconds[PART_OF.get(module.split("/")[0], OTHER)] += time
    total = sum(seconds.values())
    return {part: time / total for part, time in seconds.items()}
