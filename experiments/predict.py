"""Scores structures with a trained model: `python -m experiments.predict --checkpoint=RUN --input=INPUT --output=OUT`.

INPUT is a structure file, a folder of them, or a list: a .txt file with a path on each line. Each structure gets a
CSV, PDB and mmCIF files with the score in the B-factor column, scripts for ChimeraX and PyMOL, and a line in
`OUT/summary.csv`: docs/predict.md. The same command goes on where it was stopped. A structure that cannot be read does
not stop the others; it is named at the end.

Exit status: 0 all are done, 1 nothing was begun, 2 some failed.
"""

from pathlib import Path

from absl import app, flags

from bihf_jax.inference import folder
from experiments import inference, logs

_OUTPUT = flags.DEFINE_string("output", None, "Folder for the results", required=True)
_FUSION_VALUES = flags.DEFINE_bool("fusion_values", False, "Also write what fusion did at each residue")


def main(argv: list[str]) -> int:
    """Parses flags and predicts."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    return inference.run(_predict)


def _predict() -> int:
    targets, predictor = inference.find_targets(), inference.load_predictor()
    output = Path(_OUTPUT.value)
    begun = folder.predict_files(
        predictor,
        targets.targets,
        output,
        fusion_values=_FUSION_VALUES.value,
        overwrite=inference.OVERWRITE.value,
    )
    outcomes = inference.follow(begun, targets)
    return inference.conclude(outcomes, folder.write_summary(outcomes, output))


if __name__ == "__main__":
    logs.show_progress()
    app.run(main)
