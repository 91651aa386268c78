"""Small structure files for tests: chains of noise that have the atoms, the contacts and the names of real ones."""

import numpy as np

from bihf_jax.protein import residue_constants

THREE_LETTERS = dict(zip(residue_constants.RESIDUE_TYPES, residue_constants.RESIDUE_NAMES, strict=False))
_OFFSETS = {
    "N": (-1.2, 0.7, 0.2),
    "CA": (0.0, 0.0, 0.0),
    "C": (1.2, 0.8, 0.1),
    "O": (1.3, 2.0, 0.0),
    "CB": (0.1, -0.9, 1.2),
}


def random_sequence(rng, length):
    return "".join(rng.choice(list(residue_constants.RESIDUE_TYPES[:20]), size=length))


def chain_lines(sequence, chain="A", start=(0.0, 0.0, 0.0), seed=0, first_number=1):
    """ATOM lines of one chain: an extended, wavy strand along x from `start` (Å)."""
    rng = np.random.default_rng(seed)
    lines = []
    for index, letter in enumerate(sequence):
        wave = np.array([0.0, 1.5 * np.sin(index / 3), 1.5 * np.cos(index / 3)])
        ca = np.array(start) + np.array([3.3 * index, 0.0, 0.0]) + wave + rng.normal(scale=0.05, size=3)
        for name, offset in _OFFSETS.items():
            if letter == "G" and name == "CB":
                continue
            x, y, z = ca + np.array(offset)
            lines.append(
                f"ATOM  {len(lines) + 1:5d}  {name:<3s} {THREE_LETTERS[letter]} {chain}{first_number + index:4d}    "
                f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00 10.00          {name[0]:>2s}"
            )
    return [*lines, "TER"]


def write_pdb(path, *chains):
    """A PDB file of the given lists of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([line for chain in chains for line in chain] + ["END", ""]), "ascii")


def write_pair(path, first, second, gap=5.0, chains="AB"):
    """A complex of two strands `gap` Å apart; the second starts 45 Å along the first, so that its start is free."""
    write_pdb(
        path,
        chain_lines(first, chains[0], seed=1),
        chain_lines(second, chains[1], start=(45.0, gap, 0.0), seed=2),
    )
