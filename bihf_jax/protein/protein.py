"""`Protein`: one structure as its file gives it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihf_jax.protein import parsing, residue_constants
from bihf_jax.protein.parsing import MAX_BYTES, ParseReport, StructureError

_NUM_ATOMS = residue_constants.NUM_ATOMS

# Array field -> dtype and shape after the residue axis.
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "residue_type": ("int8", ()),
    "atom_positions": ("float32", (_NUM_ATOMS, 3)),
    "atom_mask": ("bool", (_NUM_ATOMS,)),
    "chain_index": ("int32", ()),
    "residue_number": ("int32", ()),
    "label_residue_number": ("int32", ()),
    "insertion_code": ("<U1", ()),
    "b_factors": ("float32", (_NUM_ATOMS,)),
}


@dataclasses.dataclass(frozen=True)
class Protein:
    """The protein chains of one structure. N = residues of the sequences, in the order of the file.

    A residue that the file lists in the full sequence but has no coordinates for keeps its slot, with no atom in
    `atom_mask`. How a file becomes this is written in `bihf_jax.protein.parsing`.
    """

    residue_type: np.ndarray  # [N] int8, index into `residue_constants.RESIDUE_TYPES`; modified residues: the parent
    atom_positions: np.ndarray  # [N, 37, 3] float32 Å, `residue_constants.ATOM_NAMES`; 0 where masked
    atom_mask: np.ndarray  # [N, 37] bool
    chain_index: np.ndarray  # [N] int32, index into `chain_ids`; never falls along the array
    chain_ids: tuple[str, ...]  # author ids, for people; "" where the file leaves the column blank
    label_chain_ids: tuple[str, ...]  # ids of the chain's polymer in mmCIF; for PDB files gemmi's, such as "Axp"
    residue_number: np.ndarray  # [N] int32 author residue number
    label_residue_number: np.ndarray  # [N] int32, 1-based position in the full sequence, else 1, 2, ... in each chain
    insertion_code: np.ndarray  # [N] <U1; " " where none, "?" where `residue_number` is not from the file
    b_factors: np.ndarray  # [N, 37] float32 Å²; 0 where masked
    source: str  # name of the file, without directory; "+"-joined where there are several
    report: ParseReport = dataclasses.field(default_factory=ParseReport)  # what reading changed or left out

    def __post_init__(self):
        for name, (dtype, tail) in _ARRAYS.items():
            array = getattr(self, name)
            if array.shape != (self.num_residues, *tail) or array.dtype != np.dtype(dtype):
                wanted = f"{dtype} of shape {(self.num_residues, *tail)}"
                raise ValueError(f"{self.source}: {name} must be {wanted}, got {array.dtype} of shape {array.shape}")
        if len(self.chain_ids) != len(self.label_chain_ids):
            lengths = f"{len(self.chain_ids)} and {len(self.label_chain_ids)}"
            raise ValueError(f"{self.source}: chain_ids and label_chain_ids must have one length, got {lengths}")
        if not np.array_equal(np.unique(self.chain_index), np.arange(len(self.chain_ids))):
            raise ValueError(f"{self.source}: chain_index must use every chain of {self.chain_ids} and no other")
        if (np.diff(self.chain_index) < 0).any():
            raise ValueError(f"{self.source}: the residues of a chain must be contiguous, in the order of chain_ids")

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        model: int | None = None,
        chains: Sequence[str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> "Protein":
        """Read a .pdb, .ent or .cif file, each also .gz.

        Args:
          path: the file.
          model: number of the model, as the file numbers them; the first one if None.
          chains: author ids of the chains to read; all protein chains if None.
          max_bytes: limit of the decompressed size, which also bounds what a hostile .gz can unpack.

        Raises:
          StructureError: the file is missing, empty, too large, truncated, damaged or binary, its content is not what
            its ending says, it holds no protein, or not the model or chain asked for. The message names the file.
        """
        return cls(**parsing.read_structure(Path(path), model=model, chains=chains, max_bytes=max_bytes))

    @classmethod
    def concatenate(cls, proteins: Sequence["Protein"]) -> "Protein":
        """One protein of the chains of several, such as a partner whose chains lie in two files.

        Chain ids are kept, also where two files use the same one. Counts of the reports are summed.
        """
        if not proteins:
            raise ValueError("nothing to concatenate: proteins is empty")
        first_chain = np.cumsum([0] + [len(protein.chain_ids) for protein in proteins])
        arrays = {name: np.concatenate([getattr(protein, name) for protein in proteins]) for name in _ARRAYS}
        arrays["chain_index"] = np.concatenate(
            [protein.chain_index + first for protein, first in zip(proteins, first_chain, strict=False)]
        ).astype(np.int32)
        return cls(
            **arrays,
            chain_ids=sum((protein.chain_ids for protein in proteins), ()),
            label_chain_ids=sum((protein.label_chain_ids for protein in proteins), ()),
            source="+".join(dict.fromkeys(protein.source for protein in proteins)),
            report=ParseReport.sum([protein.report for protein in proteins]),
        )

    @property
    def num_residues(self) -> int:
        """N, unresolved residues counted."""
        return len(self.residue_type)

    def sequence(self) -> tuple[str, ...]:
        """One-letter sequence of each chain, unresolved residues included, in the order of `chain_ids`."""
        letters = np.array(residue_constants.RESIDUE_TYPES)[self.residue_type]
        return tuple("".join(letters[self.chain_index == chain]) for chain in range(len(self.chain_ids)))

    def select_chains(self, ids: Sequence[str]) -> "Protein":
        """The chains with these author ids, in the order of this protein; the report stays that of the file.

        Raises:
          StructureError: an id is not among the chains; the message lists them.
        """
        parsing.check_chain_ids(ids, self.chain_ids, self.source)
        kept = np.array([chain in ids for chain in self.chain_ids])
        rows = kept[self.chain_index]
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        arrays["chain_index"] = (np.cumsum(kept) - 1)[arrays["chain_index"]].astype(np.int32)
        return dataclasses.replace(
            self,
            **arrays,
            chain_ids=tuple(chain for chain, keep in zip(self.chain_ids, kept, strict=True) if keep),
            label_chain_ids=tuple(chain for chain, keep in zip(self.label_chain_ids, kept, strict=True) if keep),
        )


__all__ = ["MAX_BYTES", "ParseReport", "Protein", "StructureError"]
