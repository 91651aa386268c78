"""Embeds structures with a trained model.

    python -m experiments.embed --checkpoint=RUN --input=INPUT --output=OUT.h5

INPUT is as in `experiments.predict`. OUT.h5 or OUT.npz holds an entry for each structure: its features for each
residue, their mean, and which residues they are (`bihf_jax.inference.embedding_file`). The same command goes on where
it was stopped, and adds what is new in INPUT. `--map=PNG` draws all entries as a map.

Exit code 0: all are done, 1: nothing was begun, and why, 2: some failed.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihf_jax.inference import folder, pictures
from bihf_jax.inference.embedding import KINDS
from bihf_jax.inference.embedding_file import read_embeddings
from experiments import inference, logs

_LOGGER = logging.getLogger("bihf_jax.embed")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = inference.parser("embed", "Embed structures with a trained model.")
    parser.add_argument("--output", type=Path, required=True, help="file for the embeddings, .h5 or .npz")
    parser.add_argument("--of", choices=KINDS, default="fused", help="one side, or both fused")
    parser.add_argument("--stage", type=int, help="at the end of this stage, from 1; else what the encoder returns")
    parser.add_argument("--map", type=Path, help="PNG of the two main components of the pooled embeddings")
    args = parser.parse_args(argv)

    def embed() -> int:
        targets, predictor = inference.find_targets(args), inference.load_predictor(args)
        begun = folder.embed_files(
            predictor, targets.targets, args.output, of=args.of, stage=args.stage, overwrite=args.overwrite
        )
        outcomes = inference.follow(begun, targets)
        if args.map:
            _draw_map(args.output, args.map)
        return inference.conclude(outcomes, args.output)

    return inference.run(embed)


def _draw_map(embeddings: Path, png: Path) -> None:
    pooled = {name: entry["pooled"] for name, entry in read_embeddings(embeddings)}
    if len(pooled) < pictures.FEWEST_ON_MAP:
        _LOGGER.warning("no map: it takes %d proteins, %s has %d", pictures.FEWEST_ON_MAP, embeddings, len(pooled))
        return
    title = f"{embeddings.name}: {len(pooled)} proteins"
    pictures.plot_map(list(pooled), np.stack(list(pooled.values())), png, title=title)


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
