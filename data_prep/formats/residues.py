"""Labels that a file gives to residues by chain, number and insertion code, and their place in a `Protein`.

Two ways to the place, and both are verified by amino acid:

* `match_by_number`: the residue of that chain, number and insertion code. For structures of the same PDB entry.
* `match_by_alignment`: the residue that an alignment of the two sequences puts there. For another entry of the same
  protein, whose numbers may differ.

Labels without a residue and labels whose residue is another amino acid are counted and not used; where they are more
than a share `max_unmatched` of all, the protein is refused.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from bihf_jax.protein import Protein
from bihf_jax.protein.residue_constants import RESIDUE_TYPES

# Share of the labels that may find no residue of their amino acid. A wrong chain or a shifted numbering leaves over
# 0.9 unmatched; what is right leaves a few mutated or unresolved residues.
MAX_UNMATCHED = 0.1

_UNKNOWN = "X"
_NOWHERE = -1

_DTYPES = {"residue_number": "int32", "insertion_code": "<U1", "label": "float32"}


class MatchError(ValueError):
    """Labels that are not of this protein; the message says how many fit, the first that does not, and the fix."""


@dataclasses.dataclass(frozen=True)
class ResidueLabels:
    """Labels of n residues, in the order of their file."""

    chain_ids: np.ndarray  # [n] text, author id of the chain
    residue_number: np.ndarray  # [n] int32 author number
    insertion_code: np.ndarray  # [n] <U1, " " where none
    amino_acid: np.ndarray  # [n] text, one-letter code; "" where the file does not say, which agrees with any residue
    label: np.ndarray  # [n] float32

    def __post_init__(self):
        for field in dataclasses.fields(self):
            array = getattr(self, field.name)
            right_type = array.dtype == _DTYPES[field.name] if field.name in _DTYPES else array.dtype.kind == "U"
            if array.shape != (len(self.label),) or not right_type:
                wanted = f"{_DTYPES.get(field.name, 'text')} of shape {(len(self.label),)}"
                raise ValueError(f"labels: {field.name} must be {wanted}, got {array.dtype} of shape {array.shape}")

    def __len__(self) -> int:
        """n."""
        return len(self.label)

    def name_of(self, index: int) -> str:
        """Chain, number, insertion code and amino acid of one label, for messages: "A 52B W"."""
        number = f"{self.residue_number[index]}{self.insertion_code[index]}".strip()
        return f"{self.chain_ids[index]} {number} {self.amino_acid[index]}".strip()

    def select_chains(self, ids: list[str]) -> "ResidueLabels":
        """The labels of these chains."""
        kept = np.isin(self.chain_ids, ids)
        return ResidueLabels(**{field.name: getattr(self, field.name)[kept] for field in dataclasses.fields(self)})


def residue_labels(rows: list[tuple[str, int, str, str, float]]) -> ResidueLabels:
    """Labels from rows (chain, number, insertion code, amino acid, label)."""
    chains, numbers, codes, amino_acids, labels = zip(*rows, strict=True) if rows else ((),) * 5
    return ResidueLabels(
        chain_ids=np.array(chains, dtype="U"),
        residue_number=np.array(numbers, dtype=np.int32),
        insertion_code=np.array(codes, dtype="<U1"),
        amino_acid=np.array(amino_acids, dtype="U"),
        label=np.array(labels, dtype=np.float32),
    )


@dataclasses.dataclass(frozen=True)
class Match:
    """Labels in the order of a protein's N residues."""

    label: np.ndarray  # [N] float32, 0 where not known
    known: np.ndarray  # [N] bool: has a label
    chains: dict[str, str]  # chain of the labels -> chain of the protein
    matched: int  # labels that have their residue
    missing: int  # labels without a residue
    mismatched: int  # labels whose residue is another amino acid
    unresolved: int  # of the matched, those whose residue has no coordinates

    @property
    def unmatched(self) -> float:
        """Share of the labels that are not used."""
        return (self.missing + self.mismatched) / (self.matched + self.missing + self.mismatched)


def match_by_number(
    labels: ResidueLabels,
    protein: Protein,
    *,
    chains: Mapping[str, str] | None = None,
    max_unmatched: float = MAX_UNMATCHED,
) -> Match:
    """The residues that have the chain, number and insertion code of the labels.

    Several labels of one number are those of a file that drops insertion codes, as ScanNet's do: they take the residues
    of that number, whatever their codes, in the order of the chain.

    Args:
      labels: n labels.
      protein: N residues; of several with one number, the first of the right amino acid is taken, resolved ones before
        unresolved ones.
      chains: chain of the labels -> author id in the protein; the same ids if None. Labels of chains that it does not
        name are not asked for, and in no count.
      max_unmatched: greatest share of labels that may find no residue of their amino acid.

    Raises:
      MatchError: more labels than that do not fit, or a chain is not in the protein.
    """
    labels, chains = _asked_for(labels, protein, chains)
    rows_of = rows_by_number(protein)
    place = np.full(len(labels), _NOWHERE)
    for (chain, number, code), mine in _by_number(labels).items():
        if len(mine) == 1:
            place[mine] = _best_row(protein, rows_of.get((chains[chain], number, code), []), labels.amino_acid[mine[0]])
        else:
            place[mine] = _rows_in_order(protein, chains[chain], number, labels.amino_acid[mine])
    return _matched(labels, protein, place, dict(chains), max_unmatched, "number")


def match_by_alignment(
    labels: ResidueLabels,
    protein: Protein,
    *,
    chains: Mapping[str, str] | None = None,
    max_unmatched: float = MAX_UNMATCHED,
) -> Match:
    """The residues that lie opposite the labels in an alignment of each chain (global, with free ends).

    Args:
      labels: n labels with their amino acids.
      protein: N residues; unresolved ones take part in the alignment.
      chains: chain of the labels -> author id in the protein. If None, each chain of the labels, longest first, takes
        the chain of the protein with which it has most identical residues, and which is not taken yet.
      max_unmatched: greatest share of labels that may find no residue of their amino acid.

    Raises:
      MatchError: more labels than that do not fit, a chain is not in the protein, or there are too few chains.
      ValueError: a label without its amino acid.
    """
    if (labels.amino_acid == "").any():
        raise ValueError(
            f"label {labels.name_of(int(np.argmax(labels.amino_acid == '')))!r} has no amino acid to align"
        )
    if chains is not None:
        labels, chains = _asked_for(labels, protein, chains)
    letters = np.array(_letters(protein))
    rows_of_chain = {chain: np.flatnonzero(protein.chain_index == i) for i, chain in enumerate(protein.chain_ids)}
    place = np.full(len(labels), _NOWHERE)
    taken: dict[str, str] = {}
    for chain, mine in _longest_first(labels):
        candidates = [chains[chain]] if chains is not None else [c for c in rows_of_chain if c not in taken.values()]
        if not candidates:
            wanted = len(set(labels.chain_ids.tolist()))
            there = f"{len(rows_of_chain)} for labels of {wanted}"
            raise MatchError(f"{protein.source}: too few chains, {there}; none is left for {chain!r}")
        sequence = labels.amino_acid[mine]
        aligned = {other: _align(sequence, letters[rows_of_chain[other]]) for other in candidates}
        taken[chain] = max(candidates, key=lambda other: aligned[other][1])
        opposite, rows = aligned[taken[chain]][0], rows_of_chain[taken[chain]]
        place[mine] = np.where(opposite == _NOWHERE, _NOWHERE, rows[opposite])
    return _matched(labels, protein, place, taken, max_unmatched, "alignment")


def rows_by_number(protein: Protein) -> dict[tuple[str, int, str], list[int]]:
    """(author chain, number, insertion code) -> the rows that have it, one in all but damaged files."""
    rows_of = defaultdict(list)
    chains = np.array(protein.chain_ids, dtype=object)[protein.chain_index]
    keys = zip(chains, protein.residue_number.tolist(), protein.insertion_code.tolist(), strict=True)
    for row, key in enumerate(keys):
        rows_of[key].append(row)
    return dict(rows_of)


def _asked_for(
    labels: ResidueLabels, protein: Protein, chains: Mapping[str, str] | None
) -> tuple[ResidueLabels, Mapping[str, str]]:
    """The labels of the chains that are asked for, and where they go."""
    if chains is None:
        chains = {chain: chain for chain in dict.fromkeys(labels.chain_ids.tolist())}
    labels = labels.select_chains(list(chains))
    if absent := [chain for chain in chains.values() if chain not in protein.chain_ids]:
        there = ", ".join(protein.chain_ids)
        raise MatchError(f"{protein.source}: no chain {absent[0]!r} for the labels; chains: {there}; map the ids?")
    return labels, chains


def _letters(protein: Protein) -> list[str]:
    return np.array(RESIDUE_TYPES)[protein.residue_type].tolist()


def _agree(label: str, residue: str) -> bool:
    """Whether a label of this amino acid may stand at this residue; X is any amino acid."""
    return label == residue or label in ("", _UNKNOWN) or residue == _UNKNOWN


def _by_number(labels: ResidueLabels) -> dict[tuple[str, int, str], list[int]]:
    """(chain, number, insertion code) -> indices of its labels, in their order."""
    found = defaultdict(list)
    keys = zip(labels.chain_ids.tolist(), labels.residue_number.tolist(), labels.insertion_code.tolist(), strict=True)
    for index, key in enumerate(keys):
        found[key].append(index)
    return found


def _best_row(protein: Protein, rows: list[int], amino_acid: str) -> int:
    """Of rows with one number, the first of the amino acid, resolved ones before others; -1 of none."""

    def fits(row: int) -> tuple[bool, bool]:
        return _agree(str(amino_acid), RESIDUE_TYPES[protein.residue_type[row]]), bool(protein.atom_mask[row].any())

    return max(rows, key=fits, default=_NOWHERE)


def _rows_in_order(protein: Protein, chain: str, number: int, amino_acids: np.ndarray) -> np.ndarray:
    """[n] rows of this chain and number for n labels, -1 where there is none."""
    in_chain = np.array(protein.chain_ids, dtype=object)[protein.chain_index] == chain
    rows = np.flatnonzero(in_chain & (protein.residue_number == number))
    resolved = rows[protein.atom_mask[rows].any(axis=1)]
    for candidates in (resolved, rows):  # labels are of resolved residues, mostly
        if len(candidates) == len(amino_acids):
            return candidates
    if len(rows) == 0:
        return np.full(len(amino_acids), _NOWHERE)
    opposite, _ = _align(amino_acids, np.array(RESIDUE_TYPES)[protein.residue_type[rows]], gap=-0.5)
    return np.where(opposite == _NOWHERE, _NOWHERE, rows[opposite])


def _longest_first(labels: ResidueLabels) -> list[tuple[str, np.ndarray]]:
    """(chain, indices of its labels), by length, then in the order of the file."""
    chains = dict.fromkeys(labels.chain_ids.tolist())
    found = [(chain, np.flatnonzero(labels.chain_ids == chain)) for chain in chains]
    return sorted(found, key=lambda item: -len(item[1]))


def _align(first: np.ndarray, second: np.ndarray, gap: float = -5.0) -> tuple[np.ndarray, int]:
    """[len(first)] index into `second` opposite each letter, -1 at a gap; and how many are identical."""
    alignment = _aligner(gap).align("".join(first), "".join(second))[0]
    opposite = np.full(len(first), _NOWHERE)
    for (start, end), (other, _) in zip(*alignment.aligned, strict=True):
        opposite[start:end] = np.arange(other, other + end - start)
    here = opposite != _NOWHERE
    return opposite, int((first[here] == second[opposite[here]]).sum())


def _aligner(gap: float) -> Any:
    from Bio.Align import PairwiseAligner

    # Of one protein: a substitution is cheaper than two gaps, a missing loop costs about the same at any length.
    aligner = PairwiseAligner(mode="global", match_score=2.0, mismatch_score=-2.0)
    aligner.open_gap_score, aligner.extend_gap_score = gap, -0.2
    aligner.end_gap_score = 0.0
    return aligner


def _matched(
    labels: ResidueLabels, protein: Protein, place: np.ndarray, chains: dict[str, str], limit: float, how: str
) -> Match:
    """The match that `place` [n] makes, -1 where a label has no residue; `MatchError` beyond the limit."""
    if len(labels) == 0:
        raise MatchError(f"{protein.source}: no label for chains {', '.join(chains) or '(none)'}")
    letters = _letters(protein)
    found = place != _NOWHERE
    pairs = zip(place.tolist(), labels.amino_acid.tolist(), strict=True)
    agrees = np.array([row != _NOWHERE and _agree(amino_acid, letters[row]) for row, amino_acid in pairs])
    label, known = np.zeros(protein.num_residues, dtype=np.float32), np.zeros(protein.num_residues, dtype=bool)
    label[place[agrees]], known[place[agrees]] = labels.label[agrees], True
    match = Match(
        label=label,
        known=known,
        chains=chains,
        matched=int(agrees.sum()),
        missing=int((~found).sum()),
        mismatched=int((found & ~agrees).sum()),
        unresolved=int((known & ~protein.atom_mask.any(axis=1)).sum()),
    )
    if match.unmatched > limit:
        raise MatchError(_refusal(labels, protein, place, agrees, match, limit, how))
    return match


def _refusal(
    labels: ResidueLabels,
    protein: Protein,
    place: np.ndarray,
    agrees: np.ndarray,
    match: Match,
    limit: float,
    how: str,
) -> str:
    first = int(np.argmin(agrees))
    at = int(place[first])
    there = "no residue" if at == _NOWHERE else f"a residue {_letters(protein)[at]}"
    fix = "is it the same protein?" if how == "alignment" else "another entry of this protein? match by alignment"
    return (
        f"{protein.source}: of {len(labels)} labels matched by {how}, {match.missing} have no residue and "
        f"{match.mismatched} another amino acid, more than a share of {limit}; the first, {labels.name_of(first)}, has "
        f"{there}; {fix}"
    )
