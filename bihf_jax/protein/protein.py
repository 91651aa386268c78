"""`Protein`: one structure as its file gives it."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihf_jax.protein import parsing, residue_constants, writing
from bihf_jax.protein.ligands import Ligands
from bihf_jax.protein.parsing import MADE_UP_NUMBER, MAX_BYTES, MAX_RESIDUES, StructureError
from bihf_jax.protein.report import ParseReport

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
    """The protein chains of one structure, and its ligands. N = residues of the sequences, in the order of the file.

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
    ligands: Ligands = dataclasses.field(default_factory=Ligands.none, kw_only=True)  # in the same frame
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
        assembly: str | None = None,
        chains: Sequence[str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> "Protein":
        """Read a .pdb, .ent or .cif file, each also .gz.

        Args:
          path: the file.
          model: number of the model, as the file numbers them; the first one if None.
          assembly: name of a biological assembly of the file, such as "1"; the chains as they stand if None. Further
            copies of chain A are "A-2", "A-3", ... (author and label id), as in the assembly files of the PDB. A copy
            of a ligand that lies on the ligand itself is left out and counted.
          chains: author ids, as in the file, of the chains to read; all protein chains and ligands if None.
          max_bytes: limit of the decompressed size, which also bounds what a hostile .gz can unpack.

        Raises:
          StructureError: the file is missing, empty, too large, truncated, damaged or binary, its content is not what
            its ending says, it holds no protein, or not the model, assembly or chain asked for (`file_contents`
            lists them). The message names the file.
        """
        path = Path(path)
        return cls._read(path, parsing.read_bytes(path, max_bytes), model, assembly, chains)

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        name: str = "text",
        model: int | None = None,
        assembly: str | None = None,
        chains: Sequence[str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> "Protein":
        """Read the text of a PDB or mmCIF file, told apart by its content; no file is opened.

        Args:
          text: of the file.
          name: of the protein, without ending; `source` is this with the ending of the format.
          model: as in `from_file`.
          assembly: as in `from_file`.
          chains: as in `from_file`.
          max_bytes: limit of the text's size.

        Raises:
          StructureError: as `from_file`.
        """
        path, data = parsing.text_as_file(text, name, max_bytes)
        return cls._read(path, data, model, assembly, chains)

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        name: str,
        model: int | None = None,
        assembly: str | None = None,
        chains: Sequence[str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> "Protein":
        """Read the content of a .pdb, .ent or .cif file, each also .gz; no file is opened.

        Args:
          data: the content, compressed where the name says so.
          name: that the file has; its ending says what the content is, and `source` is its last part.
          model: as in `from_file`.
          assembly: as in `from_file`.
          chains: as in `from_file`.
          max_bytes: as in `from_file`.

        Raises:
          StructureError: as `from_file`.
        """
        path = Path(Path(name).name)
        return cls._read(path, parsing.unpack(path, data, max_bytes), model, assembly, chains)

    @classmethod
    def _read(
        cls, path: Path, data: bytes, model: int | None, assembly: str | None, chains: Sequence[str] | None
    ) -> "Protein":
        fields, copies = parsing.read_structure(path, data, model=model, assembly=assembly, chains=chains)
        protein = cls(**fields)
        return protein if assembly is None else protein._assemble(assembly, copies)

    def to_file(self, path: str | Path, values: np.ndarray | None = None) -> None:
        """Write a .pdb, .ent or .cif file, each also .gz.

        What is written reads back as the same protein: residues, numbers, chain ids, unresolved residues, mask,
        coordinates, ligands; in mmCIF exactly, label ids included, in PDB to the three decimals of coordinates and the
        two of B factors. Modified residues are written as what they were read as, their parent, and occupancies as 1.

        Args:
          path: the file; an existing one is replaced.
          values: [N] finite numbers, one a residue, to stand in the B-factor column of its atoms (0 at the ligands');
            the protein's own B factors if None.

        Raises:
          StructureError: the format cannot hold this protein, such as PDB a chain id of two letters.
          ValueError: the arrays contradict each other (`validate`), or `values` is not [N] finite numbers.
        """
        path = Path(path)
        file_format = parsing.format_of_name(path)
        writing.write_text(path, self.to_pdb(values) if file_format == "PDB" else self.to_mmcif(values))

    def to_pdb(self, values: np.ndarray | None = None) -> str:
        """The text that `to_file` writes into a .pdb file."""
        return self._only_text("PDB", values)

    def to_mmcif(self, values: np.ndarray | None = None) -> str:
        """The text that `to_file` writes into a .cif file."""
        return self._only_text("mmCIF", values)

    def written(
        self, values: np.ndarray | None = None, formats: Sequence[str] = ("PDB", "mmCIF")
    ) -> dict[str, writing.Written | StructureError]:
        """The texts that `to_file` writes in several formats, for about half as much again as one of them.

        Args:
          values: as in `to_file`.
          formats: of "PDB" and "mmCIF".

        Returns:
          Format -> the text and what it reads back as, or why the format cannot hold this protein.

        Raises:
          ValueError: as `to_file`.
        """
        self.validate()
        protein = self if values is None else self._with_values(values)
        writer = writing.Writer(protein)
        written: dict[str, writing.Written | StructureError] = {}
        for file_format in formats:
            try:
                written[file_format] = protein._read_back(writer.text(file_format), file_format)
            except StructureError as error:
                written[file_format] = error
        return written

    def _only_text(self, file_format: str, values: np.ndarray | None) -> str:
        written = self.written(values, [file_format])[file_format]
        if isinstance(written, StructureError):
            raise written
        return written.text

    def _read_back(self, text: str, file_format: str) -> writing.Written:
        """The text of this protein; `StructureError` where it does not read back as this protein."""
        name = Path("written" + {"PDB": ".pdb", "mmCIF": ".cif"}[file_format])
        try:
            written = Protein(**parsing.read_structure(name, text.encode())[0])
        except StructureError as error:
            raise StructureError(f"{self.source}: {file_format} cannot say this protein: {error}") from error
        writing.refuse_difference(self, written, file_format)
        return writing.Written(text, written)

    def _with_values(self, values: np.ndarray) -> "Protein":
        """This protein with one value a residue as the B factors of its atoms, and 0 as those of the ligands."""
        values = np.asarray(values)
        if values.shape != (self.num_residues,):
            size = f"it must be [{self.num_residues}], one a residue"
            raise ValueError(f"{self.source}: values has shape {values.shape}; {size}")
        # Not-a-number compares False.
        self._require(np.abs(values) <= np.finfo(np.float32).max, "values must be finite float32 numbers")
        b_factors = np.where(self.atom_mask, values[:, None], 0).astype(np.float32)
        ligands = dataclasses.replace(self.ligands, b_factors=np.zeros_like(self.ligands.b_factors))
        return dataclasses.replace(self, b_factors=b_factors, ligands=ligands)

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
            ligands=Ligands.concatenate([protein.ligands for protein in proteins]).by_chain(
                sum((protein.chain_ids for protein in proteins), ())
            ),
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
        """The chains with these author ids and the ligands in them, in the order of this protein.

        The report stays that of the file.

        Raises:
          StructureError: an id is not among the chains; the message lists them.
        """
        parsing.check_chain_ids(ids, self.chain_ids, self.source)
        ligands = np.flatnonzero(np.isin(self.ligands.chain_ids, list(ids)))
        return self._take_chains(np.array([chain in ids for chain in self.chain_ids]), ligands)

    def _take_chains(self, kept: np.ndarray, ligands: np.ndarray) -> "Protein":
        """The chains where `kept` [chains] is True and the ligands at these indices."""
        rows = kept[self.chain_index]
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        arrays["chain_index"] = (np.cumsum(kept) - 1)[arrays["chain_index"]].astype(np.int32)
        return dataclasses.replace(
            self,
            **arrays,
            chain_ids=tuple(chain for chain, keep in zip(self.chain_ids, kept, strict=True) if keep),
            label_chain_ids=tuple(chain for chain, keep in zip(self.label_chain_ids, kept, strict=True) if keep),
            ligands=self.ligands.take(ligands),
        )

    def _assemble(self, name: str, copies: Sequence[parsing.Copy]) -> "Protein":
        """The assembly that these copies of the chains make."""
        parts, num_residues, used = [], 0, collections.Counter()
        for copy in copies:
            parts.append(self._copy_chains(copy, used))
            num_residues += parts[-1].num_residues
            if num_residues > MAX_RESIDUES:
                limit = f"more than {MAX_RESIDUES:,} residues; select chains"
                raise StructureError(f"{self.source}: assembly {name!r} has {limit}")
        if num_residues == 0:
            chains = ", ".join(self.chain_ids)
            raise StructureError(f"{self.source}: assembly {name!r} holds no protein chain of those read: {chains}")
        whole = Protein.concatenate(parts)
        ligands = whole.ligands.without_coincident()
        coincident = whole.ligands.num_molecules - ligands.num_molecules
        report = dataclasses.replace(self.report, coincident_ligands=coincident)
        return dataclasses.replace(whole, ligands=ligands, source=self.source, report=report)

    def _copy_chains(self, copy: parsing.Copy, used: collections.Counter[str]) -> "Protein":
        """The moved chains and ligands of one copy; `used` counts the copies so far, by label id."""
        # Components of a polymer ("A_1") go with it.
        polymers = [label.partition("_")[0] for label in self.ligands.label_chain_ids.tolist()]
        chains = zip(self.chain_ids, self.label_chain_ids, strict=True)
        molecules = zip(self.ligands.chain_ids.tolist(), polymers, strict=True)
        kept = np.array([author in copy.chains or label in copy.subchains for author, label in chains])
        ligands = [author in copy.chains or label in copy.subchains for author, label in molecules]
        part = self._take_chains(kept, np.flatnonzero(ligands))
        mine = part.ligands

        labels = {*part.label_chain_ids, *mine.label_chain_ids.tolist()}
        used.update(labels)
        ending = {label: "" if used[label] == 1 else f"-{used[label]}" for label in labels}

        def renamed(ids: Sequence[str], labels: Sequence[str]) -> list[str]:
            return [name + ending[label] for name, label in zip(ids, labels, strict=True)]

        label_ids = mine.label_chain_ids.tolist()
        return dataclasses.replace(
            part,
            atom_positions=np.where(part.atom_mask[..., None], self._moved(part.atom_positions, copy), 0),
            chain_ids=tuple(renamed(part.chain_ids, part.label_chain_ids)),
            label_chain_ids=tuple(renamed(part.label_chain_ids, part.label_chain_ids)),
            ligands=dataclasses.replace(
                mine,
                atom_positions=self._moved(mine.atom_positions, copy),
                chain_ids=np.array(renamed(mine.chain_ids.tolist(), label_ids), dtype="U"),
                label_chain_ids=np.array(renamed(label_ids, label_ids), dtype="U"),
            ),
        )

    def _moved(self, positions: np.ndarray, copy: parsing.Copy) -> np.ndarray:
        """[..., 3] float32 Å after the copy's rotation and translation."""
        moved = (positions.astype(np.float64) @ copy.rotation.T + copy.translation).astype(np.float32)
        if not (np.abs(moved) <= parsing.MAX_COORDINATE).all():
            raise StructureError(f"{self.source}: an operator of the assembly moves atoms out of range; damaged file?")
        return moved

    def validate(self) -> None:
        """Check what must hold of every protein and is too slow to check on construction.

        Shapes and dtypes are checked on construction. This adds: coordinates and B factors are finite, 0 where masked;
        coordinates are at most `parsing.MAX_COORDINATE`; residue types exist and have the atoms of the mask; label
        numbers rise from 1 along each chain; insertion codes and chain ids are ASCII, and `MADE_UP_NUMBER` stands at
        unresolved residues only; the same of the ligands.

        Raises:
          ValueError: naming the source, the field, and the first residue, chain or atom where it does not hold.
        """
        known = (self.residue_type >= 0) & (self.residue_type < residue_constants.NUM_RESIDUE_TYPES)
        self._require(known, "residue_type must be an index into residue_constants.RESIDUE_TYPES")
        allowed = ~self.atom_mask | residue_constants.ATOM_ALLOWED[self.residue_type]
        self._require(allowed.all(axis=1), "atom_mask must hold only atoms that the residue type has")
        for name in ("atom_positions", "b_factors"):
            array = getattr(self, name).reshape(self.num_residues, _NUM_ATOMS, -1)
            self._require(np.isfinite(array).all(axis=(1, 2)), f"{name} must be finite")
            zero = (array == 0).all(axis=2) | self.atom_mask
            self._require(zero.all(axis=1), f"{name} must be 0 where atom_mask is False")
        near = (np.abs(self.atom_positions) <= parsing.MAX_COORDINATE).all(axis=(1, 2))
        self._require(near, f"atom_positions must be at most {parsing.MAX_COORDINATE:,.0f} Å")
        same_chain = np.diff(self.chain_index, prepend=-1) == 0
        rises = np.diff(self.label_residue_number, prepend=0) > 0
        numbered = (self.label_residue_number > 0) & (rises | ~same_chain)
        self._require(numbered, "label_residue_number must rise along each chain, from 1 or more")
        self._require(_is_printable(self.insertion_code), "insertion_code must be one printable ASCII character")
        resolved = self.atom_mask.any(axis=1)
        made_up = self.insertion_code == MADE_UP_NUMBER
        self._require(~(made_up & resolved), f"insertion_code may be {MADE_UP_NUMBER!r} at unresolved residues only")
        for chain in (*self.chain_ids, *self.label_chain_ids):
            if not all(_is_printable(np.array(list(chain), dtype="<U1"))):
                raise ValueError(f"{self.source}: chain id {chain!r} must be printable ASCII characters")
        self.ligands.validate(self.source)

    def _require(self, holds: np.ndarray, what: str) -> None:
        """ValueError naming the first residue where `holds` [N] is False."""
        if not holds.all():
            first = int(np.argmin(holds))
            chain = self.chain_ids[self.chain_index[first]]
            where = f"index {first}, number {self.residue_number[first]} of chain {chain!r}"
            raise ValueError(f"{self.source}: {what}; it does not hold at the residue of {where}")


def _is_printable(characters: np.ndarray) -> np.ndarray:
    """[n] <U1 -> [n] bool: is it an ASCII character from space to tilde?"""
    return (characters >= " ") & (characters <= "~")
