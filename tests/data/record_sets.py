"""Record sets written without TensorFlow, and examples whose protein-level labels can be learned."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bihf_jax.data import alphabet, tfrecord
from bihf_jax.data.example import SCHEMA_VERSION, Example
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import METADATA_FILE, encode_example, write_index
from tests.data.examples import random_example

LABELS = {
    "binary": Labels("protein", "binary", ("rich",)),
    "multiclass": Labels("protein", "multiclass", ("1.1.1.1", "2.7.1.1", "3.4.21.4")),
    "multilabel": Labels("protein", "multilabel", ("a", "b", "c")),
    "regression": Labels("protein", "regression", ("affinity, -log10 K",)),
    "quality": Labels("protein", "regression", ("GDT-TS", "lDDT")),
}
_RICH_IN = [alphabet.TOKEN_INDEX[letter] for letter in "KWE"]


def write_records(directory: Path, examples: Mapping[str, Sequence[Example]], labels: Labels) -> Path:
    """A record set of one shard a split; returns its folder."""
    directory.mkdir(parents=True)
    counts = {}
    for split, of_split in examples.items():
        name = f"records-{split}.tfrecord-00000-of-00001"
        (directory / name).write_bytes(b"".join(tfrecord.frame(encode_example(example)) for example in of_split))
        counts[split] = write_index(directory, split, [name], labels)
    metadata = {"schema_version": SCHEMA_VERSION, "task": "custom", "labels": labels.to_metadata(), "splits": counts}
    (directory / METADATA_FILE).write_text(json.dumps(metadata))
    return directory


def rich_example(seed: int, kind: str, groups: int = 8) -> Example:
    """A protein rich in lysine, tryptophan or glutamate: which and how much is its label, in the form of `kind`."""
    rng = np.random.default_rng([seed, 7])
    example = random_example(seed, chain_lengths=(int(rng.integers(20, 40)),), id=f"protein{seed}")
    share = rng.random(3) * 0.5
    if kind == "multiclass":
        share = np.eye(3)[rng.integers(3)] * 0.5
    elif kind != "regression":
        share = np.where(rng.random(3) < 0.5, 0.3, 0.0)
    if kind in ("regression", "quality", "binary"):
        share = share * [1, 0, 0] if kind == "binary" else np.array([rng.random() * 0.9, 0, 0])
    residue = example.tokens > alphabet.UNK
    chosen = rng.choice(4, size=example.num_slots, p=[*share, 1 - share.sum()] if share.sum() <= 1 else None)
    tokens = np.where(residue & (chosen < 3), np.array([*_RICH_IN, 0])[chosen], example.tokens).astype(np.int8)
    label = {
        "binary": [float(share[0] > 0)],
        "multiclass": [float(np.argmax(share))],
        "multilabel": (share > 0).astype(float),
        "regression": [4 + 5 * share[0]],
        "quality": [share[0], 0.5 * share[0]],
    }[kind]
    return dataclasses.replace(
        example,
        tokens=tokens,
        group=f"target{seed % groups}",
        weight=1.0,
        label=np.zeros_like(example.label),
        label_mask=np.zeros_like(example.label_mask),
        protein_label=np.array(label, np.float32),
    )


def rich_records(directory: Path, kind: str, train: int = 120, rest: int = 48) -> Path:
    """A record set of `rich_example`s, splits train, validation and test."""
    numbers = np.split(np.arange(train + 2 * rest), [train, train + rest])
    splits = zip(("train", "validation", "test"), numbers, strict=True)
    return write_records(
        directory, {split: [rich_example(int(n), kind) for n in of_split] for split, of_split in splits}, LABELS[kind]
    )
