"""Comparison of a `Protein` with the independent reader."""

from pathlib import Path

import numpy as np

from bihf_jax.protein import Protein, residue_constants
from tests.protein.biopython_reference import LETTERS, Key, read_reference

# Names for which Biopython's table has another letter than ours, by choice (see `residue_constants`).
_LETTER_CHOICES = {"SEC": "C", "PYL": "K", "PCA": "E", "HSE": "H", "GLH": "E", "DVA": "V"}


def assert_same(protein: Protein, expected: Protein, *, decimals: bool = False, labels: bool = True) -> None:
    """Every array of two proteins and their ligands is equal; source and report are not looked at.

    Args:
      protein: the one to look at.
      expected: what it should be.
      decimals: allow half of the last decimal of a PDB file: 0.0005 Å, and 0.005 Å² in B factors.
      labels: compare label chain ids, which a PDB file does not hold.
    """
    arrays, wanted = _arrays(protein), _arrays(expected)
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        if name.endswith("label_chain_ids") and not labels:
            continue
        found = arrays[name]
        assert found.dtype.kind == array.dtype.kind, name
        if decimals and name.endswith(("atom_positions", "b_factors")):
            step = 0.0005 if name.endswith("atom_positions") else 0.005
            np.testing.assert_allclose(found, array, rtol=1e-6, atol=step * 1.01, err_msg=name)
        else:
            np.testing.assert_array_equal(found, array, err_msg=name)


def _arrays(protein: Protein) -> dict[str, np.ndarray]:
    skipped = ("ligands", "source", "report")
    own = {name: np.array(value) for name, value in vars(protein).items() if name not in skipped}
    return own | {f"ligands.{name}": array for name, array in vars(protein.ligands).items()}


def differences(path: Path, protein: Protein) -> list[str]:
    """What differs between a file as we read it and as Biopython does; empty where they agree."""
    reference = read_reference(path)
    ours = _observed(protein)
    found = []
    for key in ours:
        if key not in reference:
            found.append(f"{key} is not a residue of the reference")
    for key, residue in reference.items():
        if key in ours:
            found.extend(_atom_differences(key, ours[key], residue))
        elif _num_amino_acids(reference, key[0]) < 2:
            continue  # a single amino acid is no protein chain
        elif not residue.is_hetero:
            found.append(f"{key} {residue.name} is missing")
        elif any(_is_bonded(residue.atoms, atoms) for (chain, _, _), (_, atoms) in ours.items() if chain == key[0]):
            found.append(f"{key} {residue.name} is missing, though bonded to the chain")
    return found


def _num_amino_acids(reference: dict, chain: str) -> int:
    return sum(key[0] == chain and residue.name in LETTERS for key, residue in reference.items())


def _observed(protein: Protein) -> dict[Key, tuple[str, dict[str, np.ndarray]]]:
    residues = {}
    for i in np.flatnonzero(protein.atom_mask.any(axis=1)):
        chain = protein.chain_ids[protein.chain_index[i]]
        key = (chain.strip(), int(protein.residue_number[i]), str(protein.insertion_code[i]))
        letter = residue_constants.RESIDUE_TYPES[protein.residue_type[i]]
        names = np.array(residue_constants.ATOM_NAMES)[protein.atom_mask[i]]
        residues[key] = (letter, dict(zip(names, protein.atom_positions[i, protein.atom_mask[i]], strict=True)))
    return residues


def _atom_differences(key: Key, ours: tuple[str, dict[str, np.ndarray]], residue) -> list[str]:
    letter, atoms = ours
    expected_letter = _LETTER_CHOICES.get(residue.name, LETTERS.get(residue.name))
    if expected_letter is not None and letter != expected_letter:
        return [f"{key} {residue.name}: read as {letter}"]
    expected = {}
    for name, coord in residue.atoms.items():
        alias = residue_constants.ATOM_ALIASES
        name = alias.get((residue.name, name), alias.get(("*", name), name))
        if name in residue_constants.RESIDUE_ATOMS[letter]:
            expected.setdefault(name, coord)
    if atoms.keys() != expected.keys():
        return [f"{key} {residue.name}: atoms {sorted(atoms)}, in the reference {sorted(expected)}"]
    far = [name for name in atoms if np.abs(atoms[name] - expected[name]).max() > 1e-4]
    return [f"{key} {residue.name}: other coordinates of {far}"] if far else []


def _is_bonded(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return any(
        left in one and right in other and np.linalg.norm(one[left] - other[right]) < 2.0
        for one, other in ((a, b), (b, a))
        for left, right in (("C", "N"),)
    )
