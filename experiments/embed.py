"""Embeds structures with a trained model: `python -m experiments.embed --checkpoint=RUN --input=INPUT --output=OUT.h5`.

INPUT is as in `experiments.predict`. OUT.h5 or OUT.npz holds an entry for each structure: its features for each
residue, their mean, and which residues they are (`bihf_jax.inference.embedding_file`). The same command goes on where
it was stopped, and adds what is new in INPUT. `--map=PNG` draws all entries as a map.

Exit status: 0 all are done, 1 nothing was begun, 2 some failed.
"""

import logging
from pathlib import Path

import numpy as np
from absl import app, flags

from bihf_jax.inference import folder, pictures
from bihf_jax.inference.embedding_file import read_embeddings
from experiments import inference, logs

_LOGGER = logging.getLogger("bihf_jax.embed")
_OUTPUT = flags.DEFINE_string("output", None, "File for the embeddings, .h5 or .npz", required=True)
_OF = flags.DEFINE_enum("of", "fused", ["fused", "sequence", "structure"], "Which side, or both fused")
_STAGE = flags.DEFINE_integer("stage", None, "At the end of this stage; else what the encoder returns", lower_bound=1)
_MAP = flags.DEFINE_string("map", None, "PNG of the first two principal components of the pooled embeddings")


def main(argv: list[str]) -> int:
    """Parses flags and embeds."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    return inference.run(_embed)


def _embed() -> int:
    targets, predictor = inference.find_targets(), inference.load_predictor()
    output = Path(_OUTPUT.value)
    begun = folder.embed_files(
        predictor, targets.targets, output, of=_OF.value, stage=_STAGE.value, overwrite=inference.OVERWRITE.value
    )
    outcomes = inference.follow(begun, targets)
    if _MAP.value:
        _draw_map(output, Path(_MAP.value))
    return inference.conclude(outcomes, output)


def _draw_map(embeddings: Path, png: Path) -> None:
    pooled = {name: entry["pooled"] for name, entry in read_embeddings(embeddings)}
    if len(pooled) < pictures.FEWEST_ON_MAP:
        _LOGGER.warning("no map: it takes %d proteins, %s has %d", pictures.FEWEST_ON_MAP, embeddings, len(pooled))
        return
    pictures.plot_map(
        list(pooled), np.stack(list(pooled.values())), png, title=f"{embeddings.name}: {len(pooled)} proteins"
    )


if __name__ == "__main__":
    logs.show_progress()
    app.run(main)
