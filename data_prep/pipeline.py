"""What every task's preparation shares: items are read in many processes, cached on disk, and each is accounted for.

A `Source` lists its items and has one function that reads an item. Everything after that is the same for all tasks:
`read_all` calls it for each item that the cache does not hold, and gathers the report and what the splits need.
"""

import dataclasses
import multiprocessing
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from bihf_jax.data.example import Example
from bihf_jax.data.featurise import OffsetOverflowError, make_example
from bihf_jax.data.labels import Labels
from bihf_jax.data.records import count_example, decode_example, encode_example
from bihf_jax.protein import Protein, StructureError
from data_prep.cache import Cache, Place, key_of
from data_prep.formats.residues import MatchError
from data_prep.formats.text import FormatError

# What can become of an item, of a part of it, or of a file; the keys are used in report.json.
OUTCOMES = {
    "written": "has a record",
    "copy": "same chain sequences as an earlier partner of its complex",
    "too_short": "fewer residues with coordinates than --min-residues; still a partner for the labels of others",
    "no_contact": "touches no other partner in this complex, which does not say that it binds nothing",
    "no_labels": "the label file has no line for it",
    "no_partner": "its complex has no other partner, so there is no interface to label",
    "unseen": "a partner that makes labels only (--unseen)",
    "no_pocket": "no residue lies within --pocket of the ligand",
    "native": "the native itself, which is no model of it",
    "unreadable": "not a readable structure or entry",
    "complex_incomplete": "another partner of its complex could not be read",
    "labels_do_not_fit": "the labels are of residues that the structure does not have",
    "too_large": "more slots between neighbours than a record can hold",
    "failed": "an unexpected error",
    "worker_died": "the worker process ended while it read this item, twice",
    "not_selected": "a structure file that nothing asks for",
    "not_a_structure": "a file without a structure file ending",
}


class Item(Protocol):
    """What is read at once: a complex, a chain, a model. A frozen dataclass, whose content is part of the cache key."""

    @property
    def id(self) -> str:
        """Unique in the source."""

    @property
    def group(self) -> str:
        """What no split tears apart: the complex, or the target of a model."""

    @property
    def files(self) -> tuple[str, ...]:
        """Relative to the source's root."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an item or of one part of it: `what` is a key of `OUTCOMES`."""

    item: str
    part: str  # "" where the item is one piece
    files: tuple[str, ...]
    what: str
    message: str = ""


@dataclasses.dataclass
class Result:
    """What one item gave."""

    item: str
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    records: list[bytes] = dataclasses.field(default_factory=list)  # serialised examples
    residues: int = 0  # of the records
    chains: tuple[str, ...] = ()  # sequences of all chains that labels or features come from
    counts: dict[str, int] = dataclasses.field(default_factory=dict)  # more numbers for the report


@dataclasses.dataclass(frozen=True)
class Subset:
    """Part of a split under a name of its own, such as one of four test sets."""

    split: str
    groups: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Source:
    """What the command line of a task asks for."""

    task: str
    root: Path  # the files of the items are relative to it
    items: Sequence[Item]
    read: Callable[[Any, Any], Result]  # (item, options); of a module, as it runs in other processes
    options: Any  # a frozen dataclass
    labels: Labels
    about: dict[str, Any]  # where structures and labels come from, for the metadata
    nouns: tuple[str, str]  # what a record is of, and what a group is: "partners", "complexes"
    other_files: Mapping[str, str] = dataclasses.field(default_factory=dict)  # that no item uses -> outcome
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # what the lists name and cannot be read
    split_of: Mapping[str, str] | None = None  # group -> split of the official split, or of the user's table
    split_name: str = ""  # where that comes from
    subsets: Mapping[str, Subset] = dataclasses.field(default_factory=dict)  # of the official split
    fold_of: Mapping[str, str] | None = None  # group -> fold of a cross-validation
    classes_of: Mapping[str, frozenset[int]] | None = None  # group -> classes, which a new split shares with train
    relatives_matter: bool = True  # whether a new split goes by sequence cluster, or by group alone


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is kept in memory of a group with records."""

    places: tuple[tuple[str, int], ...]  # (key in the cache, number among the records of its item)
    residues: int
    chains: tuple[str, ...]


class CachedExamples(Sequence[Example]):
    """Some records of a cache, read when asked for."""

    def __init__(self, cache: Cache, places: Sequence[tuple[str, int]]) -> None:
        self._cache, self._places = cache, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Example:
        key, position = self._places[number]
        return decode_example(self._cache.records(key)[position])

    def places(self) -> list[tuple[Place, int]]:
        """Where each record lies, and its number among the records there, for readers in other processes."""
        return [(self._cache.place(key), position) for key, position in self._places]


# ---------------------------------------------------------------------------------------------------------------------
# One item
# ---------------------------------------------------------------------------------------------------------------------


def read_item(read: Callable[[Any, Any], Result], item: Item, options: Any) -> Result:
    """`read(item, options)`; an error becomes an outcome, so that one bad file costs its item and no more."""
    try:
        return read(item, options)
    except MatchError as error:
        what, message = "labels_do_not_fit", str(error)
    except (StructureError, FormatError) as error:
        what, message = "unreadable", str(error)
    except Exception as error:
        # Whatever went wrong is reported with the item; the others must go on.
        what, message = "failed", f"{type(error).__name__}: {error}"
    return Result(item.id, [Outcome(item.id, "", item.files, what, message)])


def add_record(
    result: Result,
    item: Item,
    protein: Protein,
    *,
    min_residues: int,
    part: str = "",
    files: tuple[str, ...] | None = None,
    **more: Any,
) -> Example | None:
    """Append the record of `protein` to `result`, and its outcome, which says why where there is none.

    Args:
      result: of the item; takes the record, its residues, and the outcome.
      item: what the record is of; its id is ``ITEM`` or ``ITEM:PART``.
      protein: what the model may see.
      min_residues: fewer with coordinates get no record.
      part: name of the part of the item.
      files: of the part; those of the item if None.
      **more: `label`, `label_mask`, `protein_label`, `weight`, `ligand` of `make_example`.
    """
    files = item.files if files is None else files
    example, message = None, ""
    if protein.atom_mask.any(axis=1).sum() < min_residues:
        what = "too_short"
    else:
        try:
            example = make_example(
                protein,
                id=f"{item.id}:{part}" if part else item.id,
                group=item.group,
                source="+".join(files),
                **more,
            )
            what = "written"
        except OffsetOverflowError as error:
            what, message = "too_large", str(error)
    if example is not None:
        result.records.append(encode_example(example))
        result.residues += count_example(example)["residues"]
    result.outcomes.append(Outcome(item.id, part, files, what, message))
    return example


def chain_sequences(protein: Protein) -> tuple[str, ...]:
    """The different sequences of its chains, sorted."""
    return tuple(sorted(set(protein.sequence())))


# ---------------------------------------------------------------------------------------------------------------------
# All items
# ---------------------------------------------------------------------------------------------------------------------


# Reads items with their keys into the cache and gives their results, in any order: (source, cache, items and keys).
Reader = Callable[[Source, Cache, Sequence[tuple[Item, str]]], Iterator[Result]]


def read_all(source: Source, cache: Cache, reader: Reader) -> tuple[dict[str, Any], dict[str, Summary]]:
    """The report, and the groups with records; the records are in `cache`. What it lacks `reader` reads."""
    _check_ids(source.items)
    counts: Counter[str] = Counter()
    files: dict[str, Counter[str]] = defaultdict(Counter)
    more: Counter[str] = Counter()
    problems = []
    places, residues, chains = defaultdict(list), Counter(), defaultdict(set)
    for item, key, result in _results(source, cache, reader):
        more.update(result.counts)
        for outcome in result.outcomes:
            counts[outcome.what] += 1
            for file in outcome.files:
                files[file][outcome.what] += 1
            if outcome.what != "written":
                problems.append(dataclasses.asdict(outcome))
        if result.records:
            places[item.group] += [(key, number) for number in range(len(result.records))]
            residues[item.group] += result.residues
            chains[item.group].update(result.chains)
    files |= {file: Counter({what: 1}) for file, what in source.other_files.items()}
    report = {
        "outcomes": {what: counts[what] for what in OUTCOMES if counts[what]},
        "files": {file: dict(what) for file, what in sorted(files.items())},
        "not_written": sorted(problems, key=lambda problem: (problem["item"], problem["part"])),
        "counts": dict(sorted(more.items())),
        **source.notes,
    }
    summaries = {
        group: Summary(tuple(sorted(of_group)), residues[group], tuple(sorted(chains[group])))
        for group, of_group in sorted(places.items())
    }
    return report, summaries


def _check_ids(items: Sequence[Item]) -> None:
    for id, times in Counter(item.id for item in items).items():
        if times > 1:
            raise ValueError(f"{times} items are called {id!r}; ids must differ: rename the files or the rows")


def _results(source: Source, cache: Cache, reader: Reader) -> Iterator[tuple[Item, str, Result]]:
    """Each item with its key and its result (the records are in the cache, too), cached ones first."""
    waiting = []
    with tqdm(total=len(source.items), desc="reading", unit=f" {source.nouns[0]}", mininterval=1) as bar:
        for item in source.items:
            key = key_of(source.root, source.read, source.options, item)
            if key in cache:
                yield item, key, cached_result(cache, item, key)
                bar.update()
            else:
                waiting.append((item, key))
        bar.refresh()
        key_of_item = {item.id: (item, key) for item, key in waiting}
        for result in reader(source, cache, waiting):
            yield *key_of_item[result.item], result
            bar.update()


def processes(workers: int) -> Reader:
    """The reader that has so many processes of this machine."""

    def read(source: Source, cache: Cache, waiting: Sequence[tuple[Item, str]]) -> Iterator[Result]:
        key_of_item = {item.id: key for item, key in waiting}
        for result in run([item for item, _ in waiting], source.read, source.options, workers):
            # What a dead worker would have said is not known: it is tried again in the next run.
            if not any(outcome.what == "worker_died" for outcome in result.outcomes):
                cache.add(*entry_of(key_of_item[result.item], result))
            yield result

    return read


def entry_of(key: str, result: Result) -> tuple[str, dict[str, Any], list[bytes]]:
    """`result` as the arguments of `Cache.add`."""
    return key, _about(result), result.records


def cached_result(cache: Cache, item: Item, key: str) -> Result:
    """The result of an item that is in the cache."""
    return _decoded(item, *cache.read(key))


def _about(result: Result) -> dict[str, Any]:
    """`result` without its records, as JSON."""
    return {
        "outcomes": [dataclasses.asdict(outcome) for outcome in result.outcomes],
        "residues": result.residues,
        "chains": list(result.chains),
        "counts": result.counts,
    }


def _decoded(item: Item, about: Mapping[str, Any], records: list[bytes]) -> Result:
    outcomes = [Outcome(**{**outcome, "files": tuple(outcome["files"])}) for outcome in about["outcomes"]]
    return Result(item.id, outcomes, records, about["residues"], tuple(about["chains"]), about["counts"])


def run(items: Sequence[Item], read: Callable[[Any, Any], Result], options: Any, workers: int) -> Iterator[Result]:
    """`read_item` of every item, in any order, over `workers` processes.

    A file that kills its process (out of memory, a crash in native code) takes down the whole pool; what was under
    way is then read again one by one, each in a process of its own, so that only the culprit is lost.
    """
    if workers == 1:
        yield from (read_item(read, item, options) for item in items)
        return
    # Not fork: threads (of a test runner, of TensorFlow) do not survive it.
    context = multiprocessing.get_context("spawn")
    waiting = deque(items)
    while waiting:
        under_way: dict[Future[Result], Item] = {}
        try:
            with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context) as pool:
                while waiting or under_way:
                    while waiting and len(under_way) < 4 * workers:
                        future = pool.submit(read_item, read, waiting[0], options)
                        under_way[future] = waiting.popleft()
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del under_way[future]
                        yield result
        except BrokenProcessPool:
            for item in under_way.values():
                yield _run_alone(read, item, options, context)


def _run_alone(read: Callable[[Any, Any], Result], item: Item, options: Any, context: Any) -> Result:
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(read_item, read, item, options).result()
    except BrokenProcessPool as error:
        return Result(item.id, [Outcome(item.id, "", item.files, "worker_died", str(error))])
