"""Scores structures with a trained model.

    python -m experiments.predict --checkpoint=RUN --input=INPUT --output=OUT

INPUT is a structure file, a folder of them, or a list: a .txt file with a path on each line. Each structure gets a
CSV, an HTML page, PDB and mmCIF files with the score in the B-factor column, scripts for ChimeraX and PyMOL, and a line
in `OUT/summary.csv` and `OUT/index.html`: docs/predict.md. The scores of several checkpoints are averaged, and have an
interval. The same command goes on where it was stopped. A structure that cannot be read does not stop the others; it is
named at the end.

Exit code 0: all are done, 1: nothing was begun, and why, 2: some failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bihf_jax.inference import folder
from bihf_jax.inference.programs import Wanted
from experiments import inference, logs


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = inference.parser("predict", "Score structures with a trained model.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--fusion_values", action="store_true", help="also write what fusion did at each residue")
    parser.add_argument(
        "--attribution",
        action=argparse.BooleanOptionalAction,
        help="also write how much each residue mattered; if not given, for tasks of whole proteins",
    )
    parser.add_argument("--dropout_samples", type=int, default=0, help="draws of dropout for an interval; 0: none")
    parser.add_argument("--html", action=argparse.BooleanOptionalAction, default=True, help="also write pages")
    parser.add_argument("--parquet", action="store_true", help="also write the tables as Parquet; needs pyarrow")
    args = parser.parse_args(argv)

    def predict() -> int:
        targets, predictor = inference.find_targets(args), inference.load_predictor(args)
        attribution = args.attribution
        if attribution is None:
            attribution = predictor.task.unit == "protein" and predictor.has_attribution
        wanted = Wanted(args.fusion_values, attribution, args.dropout_samples)
        begun = folder.predict_files(
            predictor,
            targets.targets,
            args.output,
            wanted=wanted,
            html=args.html,
            parquet=args.parquet,
            overwrite=args.overwrite,
        )
        outcomes = inference.follow(begun, targets)
        where = folder.write_summary(outcomes, args.output)
        if args.html:
            where = folder.write_index(outcomes, args.output, predictor.description)
        return inference.conclude(outcomes, where)

    return inference.run(predict)


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
