"""What a check of a record set needs of every record, from one pass over it; and whether the record is sound."""

import dataclasses
import re

import numpy as np
from tqdm import tqdm

from bihf_jax.data import alphabet
from bihf_jax.data.example import BACKBONE_ATOMS, TORSIONS, Example, schema
from bihf_jax.data.records import RecordSet, count_example
from bihf_jax.protein import residue_constants
from data_prep.label_summary import LabelCounts

_CA = BACKBONE_ATOMS.index("CA")
_MAIN_CHAIN = [BACKBONE_ATOMS.index(name) for name in ("N", "CA", "C", "O")]
_CHI = [number for number, name in enumerate(TORSIONS) if name.startswith("chi")]

# What `count_missing` counts, in words.
MISSING = {
    "residues": "residues",
    "no_coordinates": "residues without coordinates",
    "main_chain": "with coordinates, N, C or O missing",
    "side_chain": "with coordinates, a side-chain atom missing",
}


def _letters() -> np.ndarray:
    """[tokens] uint8: the letter of each; X for those that stand for several or for none of the 20, ( and ) for the
    ends of a chain."""
    letters = np.full(len(alphabet.TOKENS), ord("X"), np.uint8)
    letters[list(alphabet.AMINO_ACID_TOKENS)] = np.frombuffer(alphabet.AMINO_ACIDS.encode(), np.uint8)
    letters[[alphabet.CLS, alphabet.EOS]] = np.frombuffer(b"()", np.uint8)
    return letters


def _num_chi() -> np.ndarray:
    """[tokens] int64: side-chain torsions of each."""
    number = np.zeros(len(alphabet.TOKENS), np.int64)
    for letter, atoms in residue_constants.CHI_ATOMS.items():
        number[alphabet.TOKEN_INDEX[letter]] = len(atoms)
    return number


_LETTERS, _NUM_CHI = _letters(), _num_chi()


@dataclasses.dataclass(frozen=True)
class Row:
    """One record, as far as it is compared with others."""

    number: int  # in its split
    id: str
    group: str
    chains: tuple[str, ...]  # sequences in the order of the chains; X for what is none of the 20 amino acids
    labelled: bool


@dataclasses.dataclass
class SplitFacts:
    """What is known of a split.

    Attributes:
      records: the split.
      rows: its sound records.
      damaged: one message for each other record.
      missing: sums of `count_missing`.
      labels: how often each label occurs.
    """

    records: RecordSet
    labels: LabelCounts
    rows: list[Row] = dataclasses.field(default_factory=list)
    damaged: list[str] = dataclasses.field(default_factory=list)
    missing: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(MISSING, 0))
    chains: int = 0
    ligand_atoms: int = 0

    @property
    def lengths(self) -> np.ndarray:
        """[sound records] int64 residues of each."""
        return np.array([sum(map(len, row.chains)) for row in self.rows], np.int64)


def read_facts(records: RecordSet) -> SplitFacts:
    """Read every record of a split once; a damaged one is noted and does not stop the rest."""
    facts = SplitFacts(records, LabelCounts(records.labels))
    for number in tqdm(range(len(records)), desc=records.split, unit=" records", mininterval=1, disable=None):
        try:
            example = records[number]
            check_example(example)
        except ValueError as error:
            facts.damaged.append(str(error))
            continue
        counts = count_example(example)
        labelled = bool(counts["labelled"] or counts["labelled_proteins"])
        facts.rows.append(Row(number, example.id, example.group, chain_sequences(example), labelled))
        facts.chains += counts["chains"]
        facts.ligand_atoms += counts["ligand_atoms"]
        facts.labels.add(example)
        for name, count in count_missing(example).items():
            facts.missing[name] += count
    return facts


def chain_sequences(example: Example) -> tuple[str, ...]:
    """The sequence of each chain; X for what is none of the 20 amino acids."""
    text = _LETTERS[example.tokens[: example.first_atom]].tobytes().decode("ascii")
    return tuple(re.findall(r"\(([^()]*)\)", text))


def count_missing(example: Example) -> dict[str, int]:
    """How many residues there are and how many lack what, by the keys of `MISSING`.

    A side chain is complete where all its torsions are known; chi angles say nothing of atoms that take part in none.
    """
    residue, present = example.is_residue, example.backbone_mask[:, _CA]
    known = example.torsion_mask[:, _CHI].sum(axis=1)
    return {
        "residues": int(residue.sum()),
        "no_coordinates": int((residue & ~example.backbone_mask.any(axis=1)).sum()),
        "main_chain": int((residue & present & ~example.backbone_mask[:, _MAIN_CHAIN].all(axis=1)).sum()),
        "side_chain": int((residue & present & (known < _NUM_CHI[example.tokens])).sum()),
    }


def check_example(example: Example) -> None:
    """Raise ValueError where an example contradicts itself; checksums cannot see that."""
    slots = np.arange(example.num_slots)
    special = np.isin(example.tokens, (alphabet.CLS, alphabet.EOS))
    senders = slots[:, None] + example.neighbour_offset.astype(np.int64)
    has_neighbour = example.neighbour_offset != 0
    bonds = example.ligand_bonds[:, :2]
    faults = {
        "special tokens are not two a chain": special.sum() != 2 * len(example.chain_ids),
        "ligand atoms are not the last slots": (example.tokens == alphabet.PAD).tolist()
        != (slots >= example.first_atom).tolist(),
        "a ligand atom has no place": not example.backbone_mask[example.first_atom :, _CA].all(),
        "a bond is not of two atoms": ((bonds < 0) | (bonds >= len(example.ligand_atoms))).any(),
        "a special token has coordinates": example.backbone_mask[special].any(),
        "a special token has a label": example.label_mask[special].any(),
        "a neighbour lies outside the example": ((senders < 0) | (senders >= example.num_slots)).any(),
        "a neighbour has no CA": False,
        "an array holds NaN or infinity": not all(
            np.isfinite(getattr(example, name)).all() for name, field in schema().items() if field.dtype == "float32"
        ),
    }
    if not faults["a neighbour lies outside the example"]:
        faults["a neighbour has no CA"] = not example.backbone_mask[senders[has_neighbour], _CA].all()
    if found := [fault for fault, present in faults.items() if present]:
        raise ValueError(f"record {example.id!r}: {'; '.join(found)}")
