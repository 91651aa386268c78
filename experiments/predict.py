"""Scores structures with a trained model.

    python -m experiments.predict --checkpoint=RUN --input=INPUT --output=OUT

INPUT is a structure file, a folder of them, or a list: a .txt file with a path on each line. Each structure gets a
CSV, PDB and mmCIF files with the score in the B-factor column, scripts for ChimeraX and PyMOL, and a line in
`OUT/summary.csv`: docs/predict.md. The same command goes on where it was stopped. A structure that cannot be read does
not stop the others; it is named at the end.

Exit code 0: all are done, 1: nothing was begun, and why, 2: some failed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from bihf_jax.inference import folder
from experiments import inference, logs


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = inference.parser("predict", "Score structures with a trained model.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--fusion_values", action="store_true", help="also write what fusion did at each residue")
    args = parser.parse_args(argv)

    def predict() -> int:
        targets, predictor = inference.find_targets(args), inference.load_predictor(args)
        begun = folder.predict_files(
            predictor, targets.targets, args.output, fusion_values=args.fusion_values, overwrite=args.overwrite
        )
        outcomes = inference.follow(begun, targets)
        return inference.conclude(outcomes, folder.write_summary(outcomes, args.output))

    return inference.run(predict)


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
