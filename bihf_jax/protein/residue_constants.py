"""Amino acids and their atoms: names, orders and the modified residues that are read as their parent."""

import functools

import gemmi
import numpy as np
from Bio.Data.PDBData import protein_letters_3to1_extended

# One-letter codes; X is any residue whose parent is unknown.
RESIDUE_TYPES: tuple[str, ...] = (*"ARNDCQEGHILKMFPSTWYV", "X")
RESIDUE_TYPE_INDEX: dict[str, int] = {letter: index for index, letter in enumerate(RESIDUE_TYPES)}
NUM_RESIDUE_TYPES = len(RESIDUE_TYPES)
UNKNOWN_RESIDUE = RESIDUE_TYPE_INDEX["X"]

# Three-letter names, in the order of `RESIDUE_TYPES`.
RESIDUE_NAMES: tuple[str, ...] = (
    *("ALA", "ARG", "ASN", "ASP", "CYS", "GLN", "GLU", "GLY", "HIS", "ILE", "LEU"),
    *("LYS", "MET", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL", "UNK"),
)

# The 37 heavy atoms that any of the 20 amino acids can have (order of AlphaFold's "atom37" arrays).
ATOM_NAMES: tuple[str, ...] = (
    *("N", "CA", "C", "CB", "O", "CG", "CG1", "CG2", "OG", "OG1", "SG", "CD", "CD1", "CD2", "ND1", "ND2", "OD1"),
    *("OD2", "SD", "CE", "CE1", "CE2", "CE3", "NE", "NE1", "NE2", "OE1", "OE2", "CH2", "NH1", "NH2", "OH", "CZ"),
    *("CZ2", "CZ3", "NZ", "OXT"),
)
ATOM_INDEX: dict[str, int] = {name: index for index, name in enumerate(ATOM_NAMES)}
NUM_ATOMS = len(ATOM_NAMES)

# Side-chain heavy atoms beyond CB, by residue type.
_SIDE_CHAIN_BEYOND_CB: dict[str, str] = {
    "A": "",
    "R": "CG CD NE CZ NH1 NH2",
    "N": "CG OD1 ND2",
    "D": "CG OD1 OD2",
    "C": "SG",
    "Q": "CG CD OE1 NE2",
    "E": "CG CD OE1 OE2",
    "G": "",
    "H": "CG ND1 CD2 CE1 NE2",
    "I": "CG1 CG2 CD1",
    "L": "CG CD1 CD2",
    "K": "CG CD CE NZ",
    "M": "CG SD CE",
    "F": "CG CD1 CD2 CE1 CE2 CZ",
    "P": "CG CD",
    "S": "OG",
    "T": "OG1 CG2",
    "W": "CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2",
    "Y": "CG CD1 CD2 CE1 CE2 CZ OH",
    "V": "CG1 CG2",
}


def _atoms_of(letter: str) -> tuple[str, ...]:
    if letter == "X":
        return ATOM_NAMES
    beta = () if letter == "G" else ("CB",)
    return ("N", "CA", "C", "O", *beta, *_SIDE_CHAIN_BEYOND_CB[letter].split(), "OXT")


# One-letter code -> heavy atoms it can have, OXT (the second oxygen of a C-terminus) included; X may have all 37.
RESIDUE_ATOMS: dict[str, tuple[str, ...]] = {letter: _atoms_of(letter) for letter in RESIDUE_TYPES}

# [21, 37] bool: may a residue of this type have this atom?
ATOM_ALLOWED: np.ndarray = np.array(
    [[name in RESIDUE_ATOMS[letter] for name in ATOM_NAMES] for letter in RESIDUE_TYPES], dtype=bool
)

# Atoms of chi1, chi2, ... by residue type (IUPAC-IUB 1970; chi5 of arginine is fixed near 0 and left out).
CHI_ATOMS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "A": (),
    "R": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD"), ("CB", "CG", "CD", "NE"), ("CG", "CD", "NE", "CZ")),
    "N": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "OD1")),
    "D": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "OD1")),
    "C": (("N", "CA", "CB", "SG"),),
    "Q": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD"), ("CB", "CG", "CD", "OE1")),
    "E": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD"), ("CB", "CG", "CD", "OE1")),
    "G": (),
    "H": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "ND1")),
    "I": (("N", "CA", "CB", "CG1"), ("CA", "CB", "CG1", "CD1")),
    "L": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD1")),
    "K": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD"), ("CB", "CG", "CD", "CE"), ("CG", "CD", "CE", "NZ")),
    "M": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "SD"), ("CB", "CG", "SD", "CE")),
    "F": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD1")),
    "P": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD")),
    "S": (("N", "CA", "CB", "OG"),),
    "T": (("N", "CA", "CB", "OG1"),),
    "W": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD1")),
    "Y": (("N", "CA", "CB", "CG"), ("CA", "CB", "CG", "CD1")),
    "V": (("N", "CA", "CB", "CG1"),),
    "X": (),
}
MAX_CHI = 4

# Names that force fields give to protonation states of ordinary residues; no dictionary of the PDB lists them.
FORCE_FIELD_NAMES: dict[str, str] = {
    **{"HSD": "H", "HSE": "H", "HSP": "H", "HID": "H", "HIE": "H", "HIP": "H"},
    **{"CYX": "C", "CYM": "C", "CYN": "C", "ASH": "D", "GLH": "E", "LYN": "K", "ARN": "R", "TYM": "Y"},
}

# Letters of the PDB's residue table that are no one of the 20: selenocysteine and pyrrolysine have a clear parent,
# B (Asx), Z (Glx) and J (Xle) stand for two residues each.
_EXTENDED_LETTERS: dict[str, str] = {"U": "C", "O": "K", "B": "X", "Z": "X", "J": "X", "X": "X"}

# (residue name or "*", atom name in the file) -> name in `ATOM_NAMES`: the selenium of MSE and SEC, and the names
# that CHARMM and GROMACS write for the terminal oxygens and for isoleucine's delta carbon.
ATOM_ALIASES: dict[tuple[str, str], str] = {
    ("MSE", "SE"): "SD",
    ("SEC", "SE"): "SG",
    ("ILE", "CD"): "CD1",
    ("*", "OT1"): "O",
    ("*", "OT2"): "OXT",
}


@functools.cache
def residue_type_of(name: str) -> int | None:
    """Residue type (index into `RESIDUE_TYPES`) of a component name, None if it is not known as an amino acid.

    Standard names give themselves. A modified residue gives its parent (MSE -> M, SEP -> S, HYP -> P, ...; D-amino
    acids like their L form) as in gemmi's table of the most common components of the PDB, else in Biopython's longer
    one of modified residues; the two differ for PCA only, where gemmi's E is taken. Selenocysteine gives C,
    pyrrolysine K, and the ambiguous ASX and GLX, and UNK, give X.
    """
    if name in FORCE_FIELD_NAMES:
        return RESIDUE_TYPE_INDEX[FORCE_FIELD_NAMES[name]]
    info = gemmi.find_tabulated_residue(name)
    if info.is_amino_acid():
        letter = info.one_letter_code.upper()
    elif name in protein_letters_3to1_extended and not info.found():
        letter = protein_letters_3to1_extended[name]
    else:
        return None
    return RESIDUE_TYPE_INDEX.get(_EXTENDED_LETTERS.get(letter, letter), UNKNOWN_RESIDUE)
