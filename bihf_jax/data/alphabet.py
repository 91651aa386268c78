"""The ESM-2 alphabet: 33 tokens, in the order of the published checkpoints.

Source: Lin et al. 2023 (ESM-2); token order as in fair-esm's ``Alphabet.from_architecture("ESM-1b")``,
which `tests/data/test_alphabet.py` compares with the `fair-esm` package where it is installed.
"""

import numpy as np

from bihf_jax.protein import residue_constants

TOKENS: tuple[str, ...] = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
TOKEN_INDEX: dict[str, int] = {token: index for index, token in enumerate(TOKENS)}
CLS, PAD, EOS, UNK, MASK = (TOKEN_INDEX[name] for name in ("<cls>", "<pad>", "<eos>", "<unk>", "<mask>"))

# [21] token of each residue type of `residue_constants.RESIDUE_TYPES` (20 amino acids, then X).
_TOKEN_OF_RESIDUE_TYPE = np.array([TOKEN_INDEX[letter] for letter in residue_constants.RESIDUE_TYPES], dtype=np.int8)
# The 20 amino acids: letters, and their tokens in the same order.
AMINO_ACIDS: str = "".join(letter for letter in residue_constants.RESIDUE_TYPES if letter != "X")
AMINO_ACID_TOKENS: tuple[int, ...] = tuple(TOKEN_INDEX[letter] for letter in AMINO_ACIDS)
# Letters of sequences: the amino acids, and those that stand for several or for one beyond the 20.
SEQUENCE_LETTERS: str = AMINO_ACIDS + "XBUZO"

_TOKEN_OF_BYTE = np.full(256, -1, np.int8)
for _letter in SEQUENCE_LETTERS:
    _TOKEN_OF_BYTE[ord(_letter)] = TOKEN_INDEX[_letter]


def encode_sequence(sequence: str) -> np.ndarray:
    """Letters of `SEQUENCE_LETTERS` -> tokens [len] int8.

    Raises:
      ValueError: another letter.
    """
    tokens = _TOKEN_OF_BYTE[np.frombuffer(sequence.encode("latin-1", errors="replace"), np.uint8)]
    if (tokens < 0).any():
        strange = ", ".join(sorted(set(sequence) - {*SEQUENCE_LETTERS}))
        raise ValueError(f"the sequence holds {strange}; letters: {SEQUENCE_LETTERS}")
    return tokens


def encode_residue_types(residue_type: np.ndarray) -> np.ndarray:
    """Residue types [N] (index into `residue_constants.RESIDUE_TYPES`) -> tokens [N] int8."""
    return _TOKEN_OF_RESIDUE_TYPE[residue_type]
