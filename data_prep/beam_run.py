"""The two phases of a build on Apache Beam: items are read into the cache, records are read out of it to be written.

The workers of a distributed runner see the driver's files: structures, cache and record set lie on a file system that
all of them mount under one path. What travels in the job are names of files; the lists of items are files, too, as a
runner limits the size of a job (Dataflow: 10 MB), and a list of a million items is larger.
"""

import dataclasses
import hashlib
import pickle
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bihf_jax.data.example import Example
from bihf_jax.data.records import decode_example
from data_prep.cache import Cache, CacheError, read_entry, write_chunk
from data_prep.pipeline import CachedExamples, Item, Result, Source, cached_result, entry_of, read_item

# Items or records that a worker takes at once; what it was at is read again when it is killed.
CHUNK = 200
JOBS = "jobs-"  # how the folders begin in which the lists of items and records lie while a pipeline runs


@dataclasses.dataclass(frozen=True)
class Runner:
    """What executes a pipeline.

    Attributes:
      name: of a Beam runner, such as "DirectRunner", "DataflowRunner", "FlinkRunner" or "SparkRunner".
      options: flags of the runner, as on the command line.
    """

    name: str
    options: str = ""

    def pipeline_options(self) -> PipelineOptions:
        """The options that Beam takes."""
        return PipelineOptions([f"--runner={self.name}", *shlex.split(self.options)])

    def read(self, source: Source, cache: Cache, waiting: Sequence[tuple[Item, str]]) -> Iterator[Result]:
        """`pipeline.Reader`: the workers write chunks of the cache.

        Raises:
          CacheError: the chunks are not there: the workers write to another file system.
        """
        for leftover in cache.folder.glob(f"{JOBS}*"):  # of a build that was killed; the cache is locked
            shutil.rmtree(leftover)
        if waiting:
            chunks = [waiting[start : start + CHUNK] for start in range(0, len(waiting), CHUNK)]
            jobs = [(cache.folder, source.read, source.options, chunk) for chunk in chunks]
            with (
                tempfile.TemporaryDirectory(prefix=JOBS, dir=cache.folder) as folder,
                beam.Pipeline(options=self.pipeline_options()) as pipeline,
            ):
                _ = pipeline | create(Path(folder), jobs) | beam.Map(_read_chunk)
            cache.find_chunks()
        if missing := sum(key not in cache for _, key in waiting):
            raise CacheError(
                f"{missing} of {len(waiting)} items are not in {cache.folder} although the workers read them; all of "
                "them must mount that folder under this path"
            )
        for item, key in waiting:
            yield cached_result(cache, item, key)


def create(folder: Path, jobs: Sequence[Any]) -> beam.PTransform:
    """Writes each job into a file of `folder`, and gives a transform that makes an element of each.

    Args:
      folder: absolute; must stay until the pipeline has run.
      jobs: what can be pickled.
    """
    elements = []
    for job in jobs:
        data = pickle.dumps(job)
        digest = hashlib.sha256(data).hexdigest()
        (folder / digest).write_bytes(data)
        elements.append((str(folder / digest), digest))
    return beam.Create(elements, reshuffle=True)


def _job(element: tuple[str, str]) -> Any:
    """The job of an element; a file that is not what this run wrote is never unpickled."""
    path, digest = element
    data = Path(path).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise RuntimeError(f"{path} was changed while the pipeline ran; run it again")
    return pickle.loads(data)


def _read_chunk(element: tuple[str, str]) -> None:
    folder, read, options, chunk = _job(element)
    write_chunk(folder, (entry_of(key, read_item(read, item, options)) for item, key in chunk))


def examples(folder: Path, cached: CachedExamples, to_features: Callable[[Example], Any]) -> beam.PTransform:
    """(id, features) of cached examples, as tensorflow-datasets takes them.

    Args:
      folder: as in `create`.
      cached: the examples.
      to_features: of a module; makes the features of an example.
    """
    places = cached.places()
    jobs = [(to_features, places[start : start + CHUNK]) for start in range(0, len(places), CHUNK)]
    return create(folder, jobs) | beam.FlatMap(_read_examples)


def _read_examples(element: tuple[str, str]) -> Iterator[tuple[str, Any]]:
    to_features, places = _job(element)
    for place, position in places:
        example = decode_example(read_entry(place)[1][position])
        yield example.id, to_features(example)
