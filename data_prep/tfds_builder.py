"""Writing a record set through tensorflow-datasets: sharded TFRecord, an index a split, and `metadata.json`.

The only module of the project that needs TensorFlow (the `prep` extra). Nothing in `bihf_jax` imports it.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# Before the import, or TensorFlow prints its build flags.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
import tensorflow as tf
import tensorflow_datasets as tfds

from bihf_jax.data.example import SCHEMA_VERSION, Example, Field, schema
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import METADATA_FILE, write_index
from data_prep.pipeline import Subset

if TYPE_CHECKING:
    from data_prep.beam_run import Runner

# TensorFlow would reserve the memory of every accelerator it sees, and it only writes files here.
for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)


def features(*, sequences_only: bool = False) -> tfds.features.FeaturesDict:
    """The tensorflow-datasets features of `bihf_jax.data.example.schema`."""
    fields = schema(sequences_only=sequences_only)
    return tfds.features.FeaturesDict({name: _feature(field) for name, field in fields.items()})


def _feature(field: Field) -> tfds.features.FeatureConnector:
    if field.dtype == "str":
        return tfds.features.Text() if field.shape == () else tfds.features.Sequence(tfds.features.Text())
    if field.shape == ():
        return tfds.features.Scalar(dtype=np.dtype(field.dtype).type)
    # Raw bytes: see the docstring of `bihf_jax.data.records` for what was measured.
    shape = tuple(None if isinstance(size, str) else size for size in field.shape)
    return tfds.features.Tensor(shape=shape, dtype=np.dtype(field.dtype).type, encoding=tfds.features.Encoding.BYTES)


class RecordSetBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes given examples; nothing is downloaded."""

    name = "records"
    VERSION = tfds.core.Version(f"{SCHEMA_VERSION}.0.0")

    def __init__(
        self,
        *,
        examples: Mapping[str, Sequence[Example]],
        description: str,
        data_dir: Path,
        sequences_only: bool,
        runner: "Runner | None" = None,
    ) -> None:
        """`examples` by split; they are read once, in order, and never all held in memory. A runner needs cached ones,
        and lays what it needs beside the records."""
        self._examples = examples
        self._runner = runner
        self._jobs = data_dir.resolve()
        self._description = description
        self._features = features(sequences_only=sequences_only)
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, description=self._description, features=self._features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager
        return {split: self._generate_examples(examples) for split, examples in self._examples.items()}

    def _generate_examples(self, examples: Sequence[Example]) -> Any:
        if self._runner is not None:
            from data_prep import beam_run

            return beam_run.examples(self._jobs, examples, features_of)
        names = list(self._features)
        # The key orders the records: tensorflow-datasets sorts them by its hash, the same way each time.
        return ((example.id, features_of(example, names)) for example in examples)


def features_of(example: Example, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The fields of an example as tensorflow-datasets takes them; all of the schema where no `names` are given."""
    return {name: _plain(getattr(example, name)) for name in names or schema()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _with_records(subsets: Mapping[str, Subset], examples: Mapping[str, Sequence[Example]]) -> dict[str, Subset]:
    """The subsets that have a record."""
    if not subsets:
        return {}
    groups = {split: {example.group for example in of_split} for split, of_split in examples.items()}
    return {name: subset for name, subset in subsets.items() if subset.groups & groups.get(subset.split, set())}


def write_record_set(
    directory: Path,
    examples: Mapping[str, Sequence[Example]],
    metadata: Mapping[str, Any],
    shards: int | None = None,
    subsets: Mapping[str, Subset] | None = None,
    *,
    sequences_only: bool = False,
    runner: "Runner | None" = None,
) -> dict[str, dict[str, int]]:
    """Write `examples` as a record set into `directory`.

    Everything is written beside the target first and `metadata.json` moved in last, so that an interrupted run leaves
    nothing that reads as a record set.

    Args:
      directory: where to; made if absent; must hold no record set.
      examples: split -> its examples, at least one; ids must differ.
      metadata: what `metadata.json` says beside the schema version and the counts of each split; needs `task`. `labels`
        (`bihf_jax.data.labels.Labels.to_metadata()`) says what the labels are; binary labels of residues if absent.
      shards: shards of each split, at most the records of the smallest; None lets tensorflow-datasets choose by
        size (one for up to 64 MiB).
      subsets: name -> part of a split that can be read like a split. It has an index of its own into the shards of its
        split; one without records is left out.
      sequences_only: leave structure and labels out of the records (`example.schema`).
      runner: writes the shards on Apache Beam; `examples` are then `pipeline.CachedExamples`, with structure. This
        process otherwise.

    Returns:
      Split or subset -> what it holds, as `bihf_jax.data.records.write_index` counts it.

    Raises:
      FileExistsError: `directory` holds a record set already.
      ValueError: no split, an empty one, `shards` < 1, or labels that are not what `metadata` says.
    """
    if (directory / METADATA_FILE).exists():
        raise FileExistsError(f"{directory} holds a record set already; remove it or choose another directory")
    if not examples or not all(len(split_examples) for split_examples in examples.values()):
        sizes = {split: len(split_examples) for split, split_examples in examples.items()}
        raise ValueError(f"every split needs at least one example; there are {sizes}")
    if shards is not None:
        if shards < 1:
            raise ValueError(f"shards is {shards}; it must be at least 1")
        shards = min(shards, *(len(split_examples) for split_examples in examples.values()))
    labels = Labels.of_metadata(metadata)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=directory) as scratch:
        builder = RecordSetBuilder(
            examples=examples,
            description=f"{metadata['task']} records of bihf_jax",
            data_dir=Path(scratch),
            sequences_only=sequences_only,
            runner=runner,
        )
        options = None if runner is None else runner.pipeline_options()
        config = tfds.download.DownloadConfig(num_shards=shards, try_download_gcs=False, beam_options=options)
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # it would talk of downloading, and there is none
            builder.download_and_prepare(download_config=config)
        written = Path(builder.data_dir)
        counts = {}
        shard_names = {split: [Path(path).name for path in builder.info.splits[split].filepaths] for split in examples}
        for split, names in shard_names.items():
            counts[split] = write_index(written, split, names, labels)
        present = _with_records(subsets or {}, examples)
        for name, subset in present.items():
            counts[name] = write_index(written, name, shard_names[subset.split], labels, subset.groups)
        content = {"schema_version": SCHEMA_VERSION, **metadata, "labels": labels.to_metadata(), "splits": counts}
        if present:
            content["subset_of"] = {name: subset.split for name, subset in present.items()}
        (written / METADATA_FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        for file in sorted(written.iterdir(), key=lambda file: file.name == METADATA_FILE):
            file.replace(directory / file.name)
    return counts
