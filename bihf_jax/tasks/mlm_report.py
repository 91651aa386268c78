"""The score report of a `mlm` run: `scores.json` and the tables made from it.

The model and the unigram baseline on the same chosen residues of every split. Sequences of one cluster are not
independent, so the bootstrap draws **clusters** with replacement, each with all of its sequences.

Structure of `scores.json`::

    version            1
    task               "mlm"
    bootstrap          {level, resamples, seed, unit, method}
    splits.<split>     residues (that were chosen), proteins, clusters,
                       scores.<contestant>    {role: model | baseline, perplexity, recovery: estimate}
                       differences            [{first, second, perplexity, recovery: estimate}]
    estimate           {value, low, high, undefined_resamples, reason?, share_above_zero?}
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from bihf_jax.tasks import metrics
from bihf_jax.tasks.mlm import COUNTS, mlm_metrics, unigram_sums
from bihf_jax.tasks.report import aligned, interval_text, markdown_rows

SCORES_VERSION = 1
MODEL, UNIGRAM = "model", "unigram"

_TITLES = {"perplexity": "perplexity", "recovery": "recovery"}
_WORDS = {"group": "cluster", "fault": "hold no chosen residue"}


def build_scores(
    sums: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
    frequencies: np.ndarray,
    *,
    num_resamples: int = metrics.DEFAULT_RESAMPLES,
    seed: int = 0,
) -> dict:
    """Scores the model and the unigram baseline on every split; returns what `scores.json` holds.

    Args:
      sums: split -> sums of the model for each protein [proteins, S], see `MaskedLanguageModelling.sums`.
      groups: split -> cluster of each protein [proteins].
      frequencies: [20] of the amino acids in the training split.
      num_resamples: bootstrap resamples.
      seed: of the resamples, which are the same for both.

    Raises:
      ValueError: no residue was chosen in a split.
    """
    return {
        "version": SCORES_VERSION,
        "task": "mlm",
        "bootstrap": {
            "level": metrics.INTERVAL_LEVEL,
            "resamples": num_resamples,
            "seed": seed,
            "unit": "cluster",
            "method": "percentiles over clusters drawn with replacement, the same draws for every contestant",
        },
        "splits": {
            split: _score_split(of_split, groups[split], frequencies, num_resamples, seed)
            for split, of_split in sums.items()
        },
    }


def score_table(scores: dict) -> str:
    """Aligned text: per split one table of the contestants and one of the difference."""
    return "\n\n".join(_split_text(split, entry, aligned) for split, entry in scores["splits"].items()) + "\n"


def markdown_table(scores: dict) -> str:
    """The same as `score_table`, in Markdown."""
    return "\n\n".join(_split_text(s, entry, markdown_rows, "### ") for s, entry in scores["splits"].items()) + "\n"


def _score_split(sums: np.ndarray, groups: np.ndarray, frequencies: np.ndarray, num_resamples: int, seed: int) -> dict:
    of_contestant = {MODEL: np.asarray(sums, np.float64), UNIGRAM: unigram_sums(sums, frequencies)}
    names, cluster = np.unique(groups, return_inverse=True)
    drawn = metrics.resample_counts(len(names), num_resamples, seed)
    values = {name: mlm_metrics(of_proteins) for name, of_proteins in of_contestant.items()}
    resampled = {name: _resampled(of_proteins, cluster, drawn) for name, of_proteins in of_contestant.items()}
    return {
        "residues": int(sums[:, COUNTS].sum()),
        "proteins": len(sums),
        "clusters": len(names),
        "scores": {
            name: {"role": "model" if name == MODEL else "baseline"}
            | {
                metric: _as_dict(metrics.estimate(values[name][metric], resampled[name][metric], len(names), **_WORDS))
                for metric in _TITLES
            }
            for name in of_contestant
        },
        "differences": [
            {"first": MODEL, "second": UNIGRAM}
            | {
                metric: _as_dict(
                    metrics.paired_difference(
                        *(values[name][metric] for name in (MODEL, UNIGRAM)),
                        *(resampled[name][metric] for name in (MODEL, UNIGRAM)),
                        len(names),
                        **_WORDS,
                    )
                )
                for metric in _TITLES
            }
        ],
    }


def _resampled(sums: np.ndarray, cluster: np.ndarray, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """`mlm_metrics` of each resample of clusters: name -> [resamples], NaN where no residue was chosen."""
    of_cluster = np.zeros((drawn.shape[1], sums.shape[1]))
    np.add.at(of_cluster, cluster, sums)
    totals = drawn @ of_cluster
    values = {metric: np.full(len(totals), np.nan) for metric in _TITLES}
    for i in np.flatnonzero(totals[:, COUNTS].sum(axis=1) > 0):
        found = mlm_metrics(totals[i : i + 1])
        for metric in _TITLES:
            values[metric][i] = found[metric]
    return values


def _as_dict(estimate: metrics.Estimate) -> dict:
    """An estimate as JSON; what only some estimates have is left out where it is None."""
    result = dataclasses.asdict(estimate)
    return {key: value for key, value in result.items() if value is not None or key in ("value", "low", "high")}


def _split_text(split: str, entry: dict, format_table: Callable[[list[list[str]]], str], heading: str = "") -> str:
    header = [f"{title} [95 %]" for title in _TITLES.values()]
    rows = [[name, *(interval_text(score[metric]) for metric in _TITLES)] for name, score in entry["scores"].items()]
    differences = [
        [f"{pair['first']} - {pair['second']}", *(interval_text(pair[metric], signed=True) for metric in _TITLES)]
        for pair in entry["differences"]
    ]
    return "\n\n".join(
        [
            f"{heading}{split}: {entry['residues']:,} chosen residues of {entry['proteins']:,} sequences in "
            f"{entry['clusters']:,} clusters",
            format_table([["", *header], *rows, *differences]),
            "Intervals: bootstrap over clusters. Perplexity: lower is better; unigram: the frequencies of the amino "
            "acids in the training split.",
        ]
    )
