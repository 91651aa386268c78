"""`Example`: what the model needs of one protein, and its one schema, shared by writer and reader.

An example is laid out in **slots**: every chain is ``<cls> residues <eos>``, as ESM-2 was trained, so slot = token
of the transformer = node of the graph. After the chains come the heavy atoms of a ligand, where there is one, a slot
each. Neighbours are offsets in slots, so an example can be placed anywhere in a row of the residue grid without
renumbering.
"""

import dataclasses
from typing import Any

import numpy as np

from bihf_jax.data import alphabet
from bihf_jax.data.ligand import ATOM_FIELDS

# 2: `protein_label`. 3: `ligand_atoms` and `ligand_bonds`. Older versions are read too: their examples have none.
SCHEMA_VERSION = 3
READABLE_VERSIONS = (1, 2, 3)

# Order of axis 1 of `Example.backbone`.
BACKBONE_ATOMS: tuple[str, ...] = ("N", "CA", "C", "O", "CB")
# Order of axis 1 of `Example.torsions`.
TORSIONS: tuple[str, ...] = ("phi", "psi", "omega", "chi1", "chi2", "chi3", "chi4")
# Neighbours kept in a record; a model may use any K up to this many (the nearest K).
MAX_NEIGHBOURS = 32
# ASCII code in `Example.insertion_code` of a residue that has none.
NO_INSERTION_CODE = ord(" ")


@dataclasses.dataclass(frozen=True)
class Example:
    """One protein (one partner of a complex) in slot layout. n = slots = residues + 2 x chains + ligand atoms.

    Special-token slots (<cls>, <eos>) have no structure, no label, and `residue_number` 0.

    The atoms of a ligand are the last A slots. Each is a chain of its own, as nothing follows anything in it: it has
    the token <pad>, `residue_number` 0, its place where a residue has its CA, and no other atom, torsion or label.
    """

    id: str  # unique in a record set, e.g. "1akj_0:A" or "1AVX:l"
    source: str  # file name(s) of the structure, "+"-joined where a partner lies in several
    group: str  # id of the complex: examples of one group are always in one split
    chain_ids: tuple[str, ...]  # author ids of the chains of residues, in slot order
    tokens: np.ndarray  # [n] int8, `alphabet.TOKENS`
    chain_segment: np.ndarray  # [n] int16, 1, 1, .., 2, 2, ..: chain of the slot, 1-based
    residue_number: np.ndarray  # [n] int32 author residue number; 0 at special tokens
    insertion_code: np.ndarray  # [n] uint8 ASCII code of the insertion code, 32 (space) where none
    backbone: np.ndarray  # [n, 5, 3] float32 Å, `BACKBONE_ATOMS`; 0 where masked
    backbone_mask: np.ndarray  # [n, 5] bool
    torsions: np.ndarray  # [n, 7] float32 radians, `TORSIONS`; 0 where masked
    torsion_mask: np.ndarray  # [n, 7] bool
    # [n, MAX_NEIGHBOURS] int16 sender - receiver in slots, 0: none. Nearest CA first; where a ligand is, what touches
    # the slot comes before (`ligand.with_ligand`)
    neighbour_offset: np.ndarray
    label: np.ndarray  # [n] float32; 0 where masked
    label_mask: np.ndarray  # [n] bool: the slot counts in loss and metrics
    weight: float  # sample weight of the example in loss and metrics
    # [P] float32, see `labels.Labels`; P = 0: none (residue tasks, or a protein without a label). binary: 0/1;
    # multiclass: the class index as one number; multilabel: 0/1 for each class; regression: the value(s)
    protein_label: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    # [A, 5] int8 of the last A slots, `ligand.ATOM_FIELDS`; A = 0: no ligand
    ligand_atoms: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, len(ATOM_FIELDS)), np.int8))
    # [B, 3] int16 atoms i < j of the ligand, counted from 0, and the bond between them, `ligand.BOND_TYPES`
    ligand_bonds: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3), np.int16))

    @property
    def num_slots(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def first_atom(self) -> int:
        """Slot of the first atom of the ligand; `num_slots` where there is none."""
        return self.num_slots - len(self.ligand_atoms)

    @property
    def is_residue(self) -> np.ndarray:
        """[n] bool: neither a special token nor an atom of the ligand."""
        return ~np.isin(self.tokens, (alphabet.CLS, alphabet.EOS, alphabet.PAD))


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of the record: `shape` excludes nothing; a size that differs between examples has a name."""

    dtype: str  # numpy dtype name, or "str"
    shape: tuple[int | str, ...]  # names: "slots", "chains", "values" (of the protein's label), "atoms", "bonds"


# What a record of sequences alone leaves out: it follows from the tokens, or there is none (`sequence_example`).
NOT_IN_SEQUENCES: tuple[str, ...] = (
    *("chain_segment", "residue_number", "insertion_code", "backbone", "backbone_mask", "torsions", "torsion_mask"),
    *("neighbour_offset", "label", "label_mask"),
)


def schema(version: int = SCHEMA_VERSION, *, sequences_only: bool = False) -> dict[str, Field]:
    """Name -> dtype and shape of every field of a record; the only description of it, for writer and reader.

    Args:
      version: of the schema, of `READABLE_VERSIONS`.
      sequences_only: the schema of records that hold tokens and no structure: a byte a slot in place of 177.
    """
    fields = {
        "id": Field("str", ()),
        "source": Field("str", ()),
        "group": Field("str", ()),
        "chain_ids": Field("str", ("chains",)),
        "tokens": Field("int8", ("slots",)),
        "chain_segment": Field("int16", ("slots",)),
        "residue_number": Field("int32", ("slots",)),
        "insertion_code": Field("uint8", ("slots",)),
        "backbone": Field("float32", ("slots", len(BACKBONE_ATOMS), 3)),
        "backbone_mask": Field("bool", ("slots", len(BACKBONE_ATOMS))),
        "torsions": Field("float32", ("slots", len(TORSIONS))),
        "torsion_mask": Field("bool", ("slots", len(TORSIONS))),
        "neighbour_offset": Field("int16", ("slots", MAX_NEIGHBOURS)),
        "label": Field("float32", ("slots",)),
        "label_mask": Field("bool", ("slots",)),
        "weight": Field("float32", ()),
    }
    if version >= 2:
        fields["protein_label"] = Field("float32", ("values",))
    if version >= 3:
        fields["ligand_atoms"] = Field("int8", ("atoms", len(ATOM_FIELDS)))
        fields["ligand_bonds"] = Field("int16", ("bonds", 3))
    return {name: field for name, field in fields.items() if not (sequences_only and name in NOT_IN_SEQUENCES)}


def sequence_example(*, tokens: np.ndarray, **others: Any) -> Example:
    """An example without structure and labels, from its tokens.

    Args:
      tokens: [n] int8, every chain `<cls> residues <eos>`.
      **others: the other fields of `schema(sequences_only=True)`.

    Returns:
      The example; residues are numbered from 1 in each chain. What is absent is read-only and takes no memory.
    """
    chain_segment = np.cumsum(tokens == alphabet.CLS).astype(np.int16)
    slots = np.arange(len(tokens))
    residue_number = (slots - np.flatnonzero(tokens == alphabet.CLS)[chain_segment - 1]).astype(np.int32)
    residue_number[tokens == alphabet.EOS] = 0
    fields = schema()
    absent = {
        name: np.broadcast_to(np.zeros((), fields[name].dtype), (len(tokens), *fields[name].shape[1:]))
        for name in NOT_IN_SEQUENCES
    }
    present = {
        "chain_segment": chain_segment,
        "residue_number": residue_number,
        "insertion_code": np.broadcast_to(np.uint8(NO_INSERTION_CODE), len(tokens)),
    }
    return Example(tokens=tokens, **{**absent, **present}, **others)
