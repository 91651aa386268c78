"""Which residue of a model is which of the native structure.

Chains first, then residues:

* A chain of the native belongs to the chain of the same id in the model where the two are related (below). What is
  left over is assigned so that most residues are identical; among copies of one sequence the assignment with the
  lowest CA-RMSD is taken. `chains` overrules all of this.
* Residues of two chains belong together by **number and insertion code**, verified by their types: at least
  `MIN_SAME` of those with the same number have the same type, and they are at least `MIN_NUMBERED` of the shorter
  chain. Where some types differ, the sequences are **aligned** too (global, free ends, BLOSUM62, gaps 11 + 1), and the
  way that makes more residues identical is taken, the numbers at equality. Two chains are related if the numbers agree,
  or `MIN_IDENTITY` of the aligned residues and `MIN_IDENTICAL` residues or half of the shorter chain are identical.

A residue is shared if it has a CA in both. Shared residues of different type (a mutation) stay and are counted.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from bihf_jax.protein import residue_constants
from bihf_jax.protein.parsing import MAX_ALIGNMENT, StructureError
from bihf_jax.protein.protein import Protein
from bihf_jax.protein.superposition import rmsd

if TYPE_CHECKING:
    from Bio.Align import PairwiseAligner

MIN_SAME = 0.9
MIN_NUMBERED = 0.5
MIN_IDENTITY = 0.5
MIN_IDENTICAL = 20
# Ways to assign copies of a chain that are compared by RMSD: five copies to five.
MAX_ASSIGNMENTS = 120
# Copies of a sequence differ by unresolved residues and point mutations: assignments that make almost as many residues
# identical as the best one compete.
_COPY_SHARE = 0.9
_CA = residue_constants.ATOM_INDEX["CA"]


@dataclasses.dataclass(frozen=True)
class ChainMatch:
    """Two chains that belong together."""

    native: str  # author ids
    model: str
    method: str  # "numbering" or "alignment"
    num_shared: int
    num_substituted: int  # of the shared, those whose types are known and differ


@dataclasses.dataclass(frozen=True)
class ResidueMatch:
    """The residues that a model and a native share: those that correspond and have a CA in both. S of them."""

    model_rows: np.ndarray  # [S] int64, index of the residue in the model
    native_rows: np.ndarray  # [S] int64, index in the native; ascending
    chains: tuple[ChainMatch, ...]
    left_out_native: tuple[str, ...]  # chains of the native without a counterpart; they count against the model
    left_out_model: tuple[str, ...]  # chains of the model without a counterpart; not looked at

    @property
    def num_shared(self) -> int:
        """S."""
        return len(self.native_rows)

    @property
    def num_substituted(self) -> int:
        """Shared residues whose types are known and differ."""
        return sum(chain.num_substituted for chain in self.chains)


@dataclasses.dataclass(frozen=True)
class _Pairing:
    """Residues of one native and one model chain that correspond, resolved or not."""

    native_chain: int
    model_chain: int
    method: str
    native_rows: np.ndarray
    model_rows: np.ndarray
    num_known: int  # pairs whose types are both known
    num_identical: int  # of those, pairs of one type


def match_residues(model: Protein, native: Protein, *, chains: Mapping[str, str] | None = None) -> ResidueMatch:
    """The residues that a model and a native share; the rules are in the module docstring.

    Args:
      model: a structure.
      native: the one to compare with.
      chains: native chain id -> model chain id, where the ids do not say it; native chains that it does not name have
        no counterpart.

    Raises:
      StructureError: `chains` names a chain that is not there or not unique, names a model chain twice, or joins
        unrelated chains; or chains too long to align.
    """
    if chains is None:
        pairings = _related_pairings(model, native)
    else:
        pairings = _named_pairings(model, native, chains)
    pairings = sorted((_with_ca(pairing, model, native) for pairing in pairings), key=lambda p: p.native_chain)
    used_native = {pairing.native_chain for pairing in pairings}
    used_model = {pairing.model_chain for pairing in pairings}
    return ResidueMatch(
        model_rows=_joined(pairing.model_rows for pairing in pairings),
        native_rows=_joined(pairing.native_rows for pairing in pairings),
        chains=tuple(_chain_match(pairing, model, native) for pairing in pairings),
        left_out_native=tuple(name for i, name in enumerate(native.chain_ids) if i not in used_native),
        left_out_model=tuple(name for i, name in enumerate(model.chain_ids) if i not in used_model),
    )


# --------------------------------------------------------------------------------------------------------------------
# Chains
# --------------------------------------------------------------------------------------------------------------------


def _named_pairings(model: Protein, native: Protein, chains: Mapping[str, str]) -> list[_Pairing]:
    if len(set(chains.values())) < len(chains):
        raise StructureError(f"{model.source}: chains={dict(chains)} uses a chain of the model twice; each once")
    pairings = []
    for native_id, model_id in chains.items():
        pairing = _pair_chains(model, native, _index_of(native, native_id), _index_of(model, model_id))
        if pairing is None:
            names = f"chain {model_id!r} of {model.source} and chain {native_id!r} of {native.source}"
            raise StructureError(f"{names} have neither numbers nor sequence in common; name other chains")
        pairings.append(pairing)
    return pairings


def _index_of(protein: Protein, chain: str) -> int:
    if protein.chain_ids.count(chain) != 1:
        count = protein.chain_ids.count(chain)
        known = ", ".join(map(repr, protein.chain_ids))
        raise StructureError(f"{protein.source}: {count} chains are called {chain!r}; chains: {known}")
    return protein.chain_ids.index(chain)


def _related_pairings(model: Protein, native: Protein) -> list[_Pairing]:
    """Chains of one id first, then the best assignment of what is left over."""
    pairings = []
    for index, chain in enumerate(native.chain_ids):
        if native.chain_ids.count(chain) == model.chain_ids.count(chain) == 1:
            pairing = _pair_chains(model, native, index, model.chain_ids.index(chain))
            if pairing is not None:
                pairings.append(pairing)
    used_native = {pairing.native_chain for pairing in pairings}
    used_model = {pairing.model_chain for pairing in pairings}
    candidates = {}
    for i, j in itertools.product(range(len(native.chain_ids)), range(len(model.chain_ids))):
        if i not in used_native and j not in used_model:
            pairing = _pair_chains(model, native, i, j)
            if pairing is not None:
                candidates[i, j] = pairing
    return pairings + _best_assignment(candidates, model, native, pairings)


def _best_assignment(
    candidates: Mapping[tuple[int, int], _Pairing], model: Protein, native: Protein, fixed: list[_Pairing]
) -> list[_Pairing]:
    """One model chain for each native chain: most identical residues, among copies the lowest RMSD with `fixed`."""
    if not candidates:
        return []
    from scipy.optimize import linear_sum_assignment  # slow to import, and prediction does without

    native_chains = sorted({i for i, _ in candidates})
    model_chains = sorted({j for _, j in candidates})
    identical = np.zeros((len(native_chains), len(model_chains)))
    for (i, j), pairing in candidates.items():
        identical[native_chains.index(i), model_chains.index(j)] = pairing.num_identical
    rows, columns = linear_sum_assignment(identical, maximize=True)
    best = [(native_chains[row], model_chains[column]) for row, column in zip(rows, columns, strict=True)]
    best = [pair for pair in best if pair in candidates]
    # Copies: another assignment of the same chains to each other that is almost as good.
    least = _COPY_SHARE * sum(candidates[pair].num_identical for pair in best)
    assignments = [
        [candidates[pair] for pair in pairs]
        for pairs in itertools.islice(_assignments(native_chains, model_chains, candidates), MAX_ASSIGNMENTS)
        if len(pairs) == len(best) and sum(candidates[pair].num_identical for pair in pairs) >= least
    ]
    assignments.insert(0, [candidates[pair] for pair in best])  # where there are too many, it may not be among them
    return min(assignments, key=lambda pairings: _joint_rmsd([*fixed, *pairings], model, native))


def _assignments(
    native_chains: list[int], model_chains: list[int], candidates: Mapping[tuple[int, int], _Pairing]
) -> Iterator[list[tuple[int, int]]]:
    """All ways to give each native chain a model chain of its own among the candidates, or none where none is left."""
    if not native_chains:
        yield []
        return
    first, *others = native_chains
    choices = [chain for chain in model_chains if (first, chain) in candidates]
    for chain in choices:
        left = [other for other in model_chains if other != chain]
        yield from ([(first, chain), *rest] for rest in _assignments(others, left, candidates))
    if len(native_chains) > len(choices):
        yield from _assignments(others, model_chains, candidates)


def _joint_rmsd(pairings: list[_Pairing], model: Protein, native: Protein) -> float:
    """CA-RMSD in Å of all these chains as one body; infinite where they share no residue with a CA."""
    shared = [_with_ca(pairing, model, native) for pairing in pairings]
    model_rows, native_rows = (_joined(getattr(p, name) for p in shared) for name in ("model_rows", "native_rows"))
    if not len(model_rows):
        return np.inf
    return rmsd(model.atom_positions[model_rows, _CA], native.atom_positions[native_rows, _CA])


# --------------------------------------------------------------------------------------------------------------------
# Residues of two chains
# --------------------------------------------------------------------------------------------------------------------


def _pair_chains(model: Protein, native: Protein, native_chain: int, model_chain: int) -> _Pairing | None:
    """The corresponding residues of two chains; None where they are not related."""
    native_of_chain = np.flatnonzero(native.chain_index == native_chain)
    model_of_chain = np.flatnonzero(model.chain_index == model_chain)
    shorter = min(len(native_of_chain), len(model_of_chain))
    make = functools.partial(_pairing, model, native, native_chain, model_chain)

    numbered = make("numbering", *_same_numbers(model, native, model_of_chain, native_of_chain))
    is_same = numbered.num_identical >= MIN_SAME * numbered.num_known
    by_number = is_same and len(numbered.native_rows) >= MIN_NUMBERED * shorter
    if by_number and numbered.num_identical == numbered.num_known:
        return numbered
    aligned = make("alignment", *_align(model, native, model_of_chain, native_of_chain))
    by_sequence = aligned.num_identical >= MIN_IDENTITY * len(aligned.native_rows) and (
        aligned.num_identical >= min(MIN_IDENTICAL, shorter / 2)
    )
    if by_number and not (by_sequence and aligned.num_identical > numbered.num_identical):
        return numbered
    return aligned if by_sequence else None


def _pairing(
    model: Protein,
    native: Protein,
    native_chain: int,
    model_chain: int,
    method: str,
    native_rows: np.ndarray,
    model_rows: np.ndarray,
) -> _Pairing:
    native_type, model_type = native.residue_type[native_rows], model.residue_type[model_rows]
    known = (native_type != residue_constants.UNKNOWN_RESIDUE) & (model_type != residue_constants.UNKNOWN_RESIDUE)
    counts = int(known.sum()), int((known & (native_type == model_type)).sum())
    return _Pairing(native_chain, model_chain, method, native_rows, model_rows, *counts)


def _same_numbers(
    model: Protein, native: Protein, model_of_chain: np.ndarray, native_of_chain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (native, model) of the same number and insertion code; none where a chain uses one of them twice."""
    row_of = dict(zip(_numbers(model, model_of_chain), model_of_chain, strict=True))
    keys = _numbers(native, native_of_chain)
    if len(row_of) < len(model_of_chain) or len(set(keys)) < len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    shared = [(row, row_of[key]) for key, row in zip(keys, native_of_chain, strict=True) if key in row_of]
    return tuple(np.array(shared, dtype=np.int64).reshape(-1, 2).T)


def _numbers(protein: Protein, rows: np.ndarray) -> list[tuple[int, str]]:
    return list(zip(protein.residue_number[rows].tolist(), protein.insertion_code[rows].tolist(), strict=True))


def _align(
    model: Protein, native: Protein, model_of_chain: np.ndarray, native_of_chain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (native, model) that a sequence alignment puts into one column."""
    if len(model_of_chain) * len(native_of_chain) > MAX_ALIGNMENT:
        lengths = f"{len(native_of_chain)} and {len(model_of_chain)} residues"
        raise StructureError(f"{model.source}: chains of {lengths} are too long to align; number them alike")
    letters = np.array(residue_constants.RESIDUE_TYPES)
    sequences = ("".join(letters[p.residue_type[r]]) for p, r in ((native, native_of_chain), (model, model_of_chain)))
    columns = _aligner().align(*sequences)[0].indices  # [2, columns], -1 in gaps
    in_native, in_model = columns[:, (columns >= 0).all(axis=0)]
    return native_of_chain[in_native], model_of_chain[in_model]


@functools.cache
def _aligner() -> "PairwiseAligner":
    from Bio.Align import (
        PairwiseAligner,
        substitution_matrices,
    )  # slow to import, and seldom needed

    return PairwiseAligner(
        mode="global",
        substitution_matrix=substitution_matrices.load("BLOSUM62"),
        open_internal_gap_score=-12,  # opening and first residue: 11 + 1
        extend_internal_gap_score=-1,
        end_gap_score=0,
    )


def _with_ca(pairing: _Pairing, model: Protein, native: Protein) -> _Pairing:
    """The pairs that have a CA in both."""
    has = native.atom_mask[pairing.native_rows, _CA] & model.atom_mask[pairing.model_rows, _CA]
    chains = pairing.native_chain, pairing.model_chain, pairing.method
    return _pairing(model, native, *chains, pairing.native_rows[has], pairing.model_rows[has])


def _chain_match(pairing: _Pairing, model: Protein, native: Protein) -> ChainMatch:
    return ChainMatch(
        native=native.chain_ids[pairing.native_chain],
        model=model.chain_ids[pairing.model_chain],
        method=pairing.method,
        num_shared=len(pairing.native_rows),
        num_substituted=pairing.num_known - pairing.num_identical,
    )


def _joined(arrays: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays])
