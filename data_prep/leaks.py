"""What two splits have in common: structures, sequences, relatives; and the labels that thereby leak.

Records are compared by what they hold, the chains that the model sees: partners that only made labels are not in them.
"""

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence

import numpy as np

from bihf_jax.data.example import BACKBONE_ATOMS, Example
from bihf_jax.protein.superposition import rmsd
from data_prep import splits
from data_prep.facts import Row, SplitFacts

# Sequences so identical are the same protein with a few mutations: its labels are known, too.
NEAR_IDENTITY = 0.95
# Chains of one sequence whose CA atoms superpose to this many Å are one structure, in whatever frame; coordinates have
# three decimals, and two crystals of a protein differ by more.
SAME_STRUCTURE_RMSD = 0.05
# Of the residues with a CA, so many must be common to two chains of one structure.
_SAME_STRUCTURE_SHARE = 0.9

_CA = BACKBONE_ATOMS.index("CA")

Slots = tuple[np.ndarray, np.ndarray]  # of one chain in two examples


@dataclasses.dataclass(frozen=True)
class Relative:
    """A record and its nearest relative in another split.

    Attributes:
      id: of the record.
      other: id of the relative.
      identity: of their nearest chains, in [0, 1].
      same_sequence: they share a whole chain.
      same_structure: they share a chain with its coordinates, up to a motion of the whole.
      labelled: both have labels.
      equal_labels: share of their labels that are equal, in [0, 1]; None where there is nothing to compare: a label is
        missing, or labels of residues belong to different sequences.
    """

    id: str
    other: str
    identity: float
    same_sequence: bool
    same_structure: bool
    labelled: bool
    equal_labels: float | None


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What a split, or a part of it, has in common with another.

    Attributes:
      split: the one whose records are counted.
      among: the one in which their relatives lie.
      records: of `split`.
      relatives: one for each record that has any.
      not_searched: why only equal sequences were looked for; empty where related ones were, too.
    """

    split: str
    among: str
    records: int
    relatives: tuple[Relative, ...]
    not_searched: str = ""

    def part(self, name: str, ids: Container[str], records: int) -> "Overlap":
        """Of some of the records, by id, under a name of their own."""
        kept = tuple(relative for relative in self.relatives if relative.id in ids)
        return dataclasses.replace(self, split=name, records=records, relatives=kept)

    @property
    def same_structure(self) -> int:
        return sum(relative.same_structure for relative in self.relatives)

    @property
    def same_sequence(self) -> int:
        return sum(relative.same_sequence for relative in self.relatives)

    @property
    def near(self) -> int:
        """Records with a relative of `NEAR_IDENTITY` or more."""
        return sum(relative.identity >= NEAR_IDENTITY for relative in self.relatives)

    @property
    def label_leaks(self) -> int:
        """Those of them of which both have labels."""
        return sum(relative.identity >= NEAR_IDENTITY and relative.labelled for relative in self.relatives)

    @property
    def equal_labels(self) -> float | None:
        """Mean over the leaks whose labels can be compared; None where there is none."""
        shares = [
            relative.equal_labels
            for relative in self.relatives
            if relative.identity >= NEAR_IDENTITY and relative.equal_labels is not None
        ]
        return float(np.mean(shares)) if shares else None


def count_repeats(rows: Sequence[Row]) -> tuple[int, int]:
    """Records with the chains of an earlier one, and those of them whose group is not that of any earlier one."""
    groups: dict[tuple[str, ...], set[str]] = defaultdict(set)
    repeats = elsewhere = 0
    for row in rows:
        seen = groups[tuple(sorted(row.chains))]
        repeats += bool(seen)
        elsewhere += bool(seen) and row.group not in seen
        seen.add(row.group)
    return repeats, elsewhere


def compare(
    facts: SplitFacts,
    others: SplitFacts,
    *,
    identity: float,
    coverage: float,
    tool: str,
    threads: int = 1,
    sensitivity: float = splits.SENSITIVITY,
) -> Overlap:
    """The records of a split that have relatives in another; `data_prep.splits` says what relatives are.

    Args:
      facts: the split whose records are counted.
      others: the split in which relatives are looked for.
      identity: least share of identical residues among aligned columns, in [0, 1].
      coverage: least share of the shorter chain that is aligned, in [0, 1].
      tool: "mmseqs" or "biopython", which is given only so many pairs (`Overlap.not_searched`).
      threads: threads of MMseqs2.
      sensitivity: of MMseqs2's search, 1 to 7.5.
    """
    rows_of_chain = _rows_of_chain(others.rows)
    chains, other_chains = list(_rows_of_chain(facts.rows)), list(rows_of_chain)
    not_searched = ""
    try:
        nearest = splits.nearest_among(
            chains,
            other_chains,
            identity=identity,
            coverage=coverage,
            tool=tool,
            threads=threads,
            sensitivity=sensitivity,
        )
    except splits.TooManyPairsError as error:
        not_searched = str(error)
        nearest = splits.equal_among(chains, other_chains)
    place = {chain: number for number, chain in enumerate(chains)}
    read = functools.lru_cache(maxsize=1000)(others.records.__getitem__)
    relatives = []
    for row in facts.rows:
        numbers = [place[chain] for chain in row.chains]
        best = max(numbers, key=nearest.identity.__getitem__)
        if nearest.index[best] < 0:
            continue
        found = float(nearest.identity[best])
        # All records with a chain of equal sequence; where there is none, those with the nearest chain.
        shared = [chain for chain in dict.fromkeys(row.chains) if chain in rows_of_chain and splits.relates(chain)]
        of_chain = [rows_of_chain[chain] for chain in shared or [other_chains[nearest.index[best]]]]
        candidates = dict.fromkeys(number for numbers in of_chain for number in numbers)
        pairs = ((others.rows[number], read(others.rows[number].number)) for number in candidates)
        relatives.append(_nearest(row, facts.records[row.number], pairs, found))
    return Overlap(facts.records.split, others.records.split, len(facts.rows), tuple(relatives), not_searched)


def _rows_of_chain(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Sequence -> the places of the rows that have it."""
    places = defaultdict(list)
    for place, row in enumerate(rows):
        for chain in dict.fromkeys(row.chains):
            places[chain].append(place)
    return places


def _nearest(row: Row, example: Example, candidates: Iterable[tuple[Row, Example]], identity: float) -> Relative:
    """The first of the candidates that has the structure of `example` and labels; else the one that comes closest."""
    found = []
    for other_row, other in candidates:
        shared = list(_shared_chains(row, example, other_row, other))
        relative = Relative(
            id=row.id,
            other=other_row.id,
            identity=identity,
            same_sequence=bool(shared),
            same_structure=any(_same_structure(example, other, *slots) for slots in shared),
            labelled=row.labelled and other_row.labelled,
            equal_labels=_equal_labels(example, other, shared) if row.labelled and other_row.labelled else None,
        )
        found.append(relative)
        if relative.same_structure and relative.labelled:
            break
    return max(found, key=lambda relative: (relative.same_structure, relative.labelled))


def _shared_chains(row: Row, example: Example, other_row: Row, other: Example) -> Iterator[Slots]:
    """The residues of every pair of chains with one sequence."""
    for (i, chain), (j, other_chain) in itertools.product(enumerate(row.chains), enumerate(other_row.chains)):
        if chain == other_chain and splits.relates(chain):
            yield _slots(example, i), _slots(other, j)


def _slots(example: Example, chain: int) -> np.ndarray:
    """[residues] the slots of a chain without its ends; chains are counted from 0."""
    return np.flatnonzero(example.chain_segment == chain + 1)[1:-1]


def _same_structure(example: Example, other: Example, mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Do the chains in these slots have one structure?"""
    masks = example.backbone_mask[mine, _CA], other.backbone_mask[theirs, _CA]
    both = masks[0] & masks[1]
    if both.sum() < max(_SAME_STRUCTURE_SHARE * max(mask.sum() for mask in masks), splits.MIN_CONTAINED):
        return False
    return rmsd(example.backbone[mine[both], _CA], other.backbone[theirs[both], _CA]) <= SAME_STRUCTURE_RMSD


def _equal_labels(example: Example, other: Example, shared: Sequence[Slots]) -> float | None:
    """Share of equal labels: of the two proteins (0 or 1), or of the residues of their shared chains."""
    if len(example.protein_label):
        return float(np.array_equal(example.protein_label, other.protein_label))
    equal = [
        example.label[mine[both]] == other.label[theirs[both]]
        for mine, theirs in shared
        if (both := example.label_mask[mine] & other.label_mask[theirs]).any()
    ]
    return float(np.concatenate(equal).mean()) if equal else None
