"""Small structures for the inference tests."""

from pathlib import Path

from bihf_jax.protein import Protein
from bihf_jax.protein.residue_constants import RESIDUE_NAMES, RESIDUE_TYPES
from tests.protein.synthetic import chain_of, pdb_text, remark_465, seqres

SAMPLE = Path(__file__).parents[2] / "data_prep" / "sample" / "structures"
_NAMES = dict(zip(RESIDUE_TYPES, RESIDUE_NAMES, strict=True))


def made(length: int, seed: int = 0) -> Protein:
    """A protein of one chain with so many residues."""
    sequence = "".join("ACDEFGHIKLMNPQRSTVWY"[(7 * i + 3 * seed + i * i) % 20] for i in range(length))
    return Protein.from_text(pdb_text(chain_of(sequence, "A", seed=seed)), name=f"made{length}")


# The task of a run of `runs.make_run` that predicts affinities.
AFFINITY = {
    "name": "lba",
    "labels": {"unit": "protein", "type": "regression", "names": ["-log10 K (mol/l)"]},
    "mean": [6.0],
    "scale": [2.0],
}

# Author numbers of chain A of `odd_text`, in order; 29 and 30 have no coordinates.
ODD_NUMBERS = ("25", "26", "27", "27A", "27B", "28", "29", "30", "31", "32", "33", "34")
ODD_UNRESOLVED = ("29", "30")


def odd_text() -> str:
    """PDB text with insertion codes and a gap in chain A, and in chain B a residue (3) of which only CA is there."""
    sequence, other = "ACDEFGHIKLMN", "WYVTS"
    atoms = []
    for atom in chain_of(sequence, "A"):
        number = ODD_NUMBERS[atom.number - 1]
        if number not in ODD_UNRESOLVED:
            atom.number, atom.code = int(number.rstrip("AB")), number.lstrip("0123456789") or " "
            atoms.append(atom)
    second = chain_of(other, "B", seed=1, shift=(0, 0, 12))
    second = [atom for atom in second if atom.number != 3 or atom.name == "CA"]
    missing = [(_NAMES[sequence[ODD_NUMBERS.index(number)]], "A", int(number), " ") for number in ODD_UNRESOLVED]
    header = remark_465(missing) + "".join(
        seqres(chain, [_NAMES[letter] for letter in letters]) for chain, letters in (("A", sequence), ("B", other))
    )
    return pdb_text(atoms, second, header=header)
