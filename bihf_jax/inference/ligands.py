"""The ligand of a structure that is predicted: what the user may give, and what a model needs of it."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
from scipy.spatial import cKDTree

from bihf_jax.configuration import ConfigError
from bihf_jax.data.components import own_ligand
from bihf_jax.data.ligand import CONTACT_CUTOFF, Ligand, pocket_rows
from bihf_jax.data.molecules import ENDINGS, read_molecule
from bihf_jax.protein import Ligands, Protein, take_residues
from bihf_jax.protein.ligands import COINCIDENCE

# A `Ligand`; the path of a .sdf, .mol2 or .pdbqt file, also .gz; or the name of a ligand in the structure file itself,
# "STI", "STI:A" or "STI:A:201" (`components.own_ligand`).
LigandSource = Ligand | str | os.PathLike[str]

_FILE = re.compile(rf"({'|'.join(map(re.escape, ENDINGS))})(\.gz)?$", re.IGNORECASE)
_COMPONENT = "LIG"  # what a ligand from a file of its own is called beside the protein
_CHAINS = "LXYZWVUTSRQPONMKJIHGFEDCBA"


class LigandError(ValueError):
    """A ligand that is missing, or not for this model or structure; the message says what to give."""


class LigandNeeds(NamedTuple):
    """What models need of a ligand."""

    atoms: bool  # they are nodes of the structure side, `StructureConfig.ligands`
    pocket: float | None  # Å: trained on the residues this close to it; None: on whole proteins

    @classmethod
    def of_models(cls, atoms: Sequence[bool], pockets: Sequence[float | None]) -> "LigandNeeds":
        """Of several models together.

        Raises:
          ConfigError: trained on pockets of different sizes.
        """
        if len(set(pockets)) > 1:
            named = ", ".join("the whole protein" if pocket is None else f"{pocket:g} Å" for pocket in pockets)
            raise ConfigError(f"the checkpoints were trained on different pockets, in their order: {named}")
        return cls(any(atoms), pockets[0])

    @property
    def any(self) -> bool:
        """Whether a structure needs a ligand at all."""
        return self.atoms or self.pocket is not None


class Bound(NamedTuple):
    """A protein as a model sees it."""

    protein: Protein  # with the ligand among its `ligands`; of a pocket the residues alone that are near
    ligand: Ligand | None


def is_ligand_file(text: str) -> bool:
    """Whether it names a file, by its ending; else it is the name of a ligand in the structure."""
    return _FILE.search(text) is not None


def ligand_name(text: str) -> str:
    """What to call a ligand in the name of a result: "1abc_ligand" of a file, "STI:A:201" as it is."""
    return _FILE.sub("", Path(text).name) if is_ligand_file(text) else text


def bind(protein: Protein, source: LigandSource | None, needs: LigandNeeds) -> Bound:
    """The protein and its ligand, as models of these needs see them.

    Raises:
      LigandError: none is given and one is needed, one is given that none of the models would read, or it touches no
        residue of the protein.
      MoleculeError: the ligand cannot be read.
    """
    if source is None:
        if needs.any:
            raise LigandError(
                f"{protein.source}: this model was trained on proteins with a ligand; give one (ligand=, or --ligand): "
                f"a file ({', '.join(ENDINGS)}), or the name of one in the structure file, such as STI or STI:A:201"
            )
        return Bound(protein, None)
    if not needs.any:
        raise LigandError(f"{protein.source}: a ligand is given, and this model reads none; leave it out")
    ligand = _read(source, protein)
    whole = protein if _is_there(protein, ligand) else _with_shown(protein, ligand)
    near = CONTACT_CUTOFF if needs.pocket is None else needs.pocket
    rows = pocket_rows(whole, ligand.atom_positions, near)
    if not rows.any():
        raise LigandError(
            f"{protein.source}: no residue has an atom within {near:g} Å of the ligand {ligand.source}; are both in "
            "one frame?"
        )
    if needs.pocket is not None:
        whole = take_residues(whole, rows)
    return Bound(whole, ligand if needs.atoms else None)


def _read(source: LigandSource, protein: Protein) -> Ligand:
    if isinstance(source, Ligand):
        return source
    is_own = isinstance(source, str) and not is_ligand_file(source)
    return own_ligand(protein, source) if is_own else read_molecule(Path(source))


def _is_there(protein: Protein, ligand: Ligand) -> bool:
    """Whether the structure has an atom of a ligand at the place of each of its atoms."""
    if not protein.ligands.num_atoms:
        return False
    distance, _ = cKDTree(protein.ligands.atom_positions).query(ligand.atom_positions)
    return bool((distance <= COINCIDENCE).all())


def _with_shown(protein: Protein, ligand: Ligand) -> Protein:
    """The protein with the ligand among its `ligands`, so that pages and files show it, in a chain of its own."""
    taken = {*protein.chain_ids, *protein.label_chain_ids, *protein.ligands.chain_ids.tolist()}
    taken |= set(protein.ligands.label_chain_ids.tolist())
    chain = next((letter for letter in _CHAINS if letter not in taken), _COMPONENT)
    symbols = [gemmi.Element(int(number)).name for number in ligand.elements]
    shown = Ligands(
        names=np.array([_COMPONENT]),
        chain_ids=np.array([chain]),
        label_chain_ids=np.array([chain]),
        residue_number=np.ones(1, np.int32),
        insertion_code=np.array([" "]),
        elements=ligand.elements,
        atom_names=np.array([f"{symbol}{number}" for number, symbol in enumerate(symbols, 1)]),
        atom_positions=ligand.atom_positions,
        b_factors=np.zeros(ligand.num_atoms, np.float32),
        molecule_index=np.zeros(ligand.num_atoms, np.int32),
    )
    return dataclasses.replace(protein, ligands=Ligands.concatenate([protein.ligands, shown]))
