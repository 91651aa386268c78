"""The ligand that a structure file holds itself: its atoms and places from there, its chemistry from the dictionary.

A structure file says neither bond orders nor, as a rule, hydrogens. The wwPDB's Chemical Component Dictionary has the
bonds and charges of every component of the Protein Data Bank by the names of its atoms (Westbrook et al. 2015); biotite
carries it. Charges are those of the dictionary, mostly of the neutral form, whatever the protein does to them.
"""

import warnings
from typing import Any

import numpy as np

from bihf_jax.data.molecules import Molecule, MoleculeError, from_rdkit, import_rdkit
from bihf_jax.protein import Ligands, Protein

_MOST_NAMED = 8  # in a message


def own_ligand(protein: Protein, which: str) -> Molecule:
    """A ligand of the structure file itself. Needs RDKit and biotite.

    Args:
      protein: with its `ligands`.
      which: the name of its component ("STI"); where several are called so with their chain ("STI:A") or chain and
        number ("STI:A:201").

    Raises:
      MoleculeError: no such ligand or several, a component that the dictionary has not, atoms that are not those of the
        component, or RDKit or biotite is not installed.
    """
    found = protein.ligands.take(np.array([_chosen(protein, which)]))
    label = f"{protein.source}, {_labels(found)[0]}"
    return from_rdkit(
        _with_chemistry(found, label),
        name=str(found.names[0]),
        atom_names=found.atom_names.tolist(),
        source=label,
        remarks=("bonds and charges are those of the Chemical Component Dictionary",),
    )


def own_ligands(protein: Protein) -> list[str]:
    """What the ligands of a structure are called, "STI:A:201" each; ions are none that a model is shown."""
    kinds = protein.ligands.kinds()
    return [label for label, kind in zip(_labels(protein.ligands), kinds, strict=True) if kind != "ion"]


def _chosen(protein: Protein, which: str) -> int:
    """Number of the molecule that is meant."""
    labels = _labels(protein.ligands)
    matching = [number for number, label in enumerate(labels) if f"{label}:".startswith(f"{which}:")]
    if len(matching) == 1:
        return matching[0]
    if matching:
        named = _listed([labels[number] for number in matching])
        raise MoleculeError(f"{protein.source}: {len(matching)} ligands are called {which!r}: {named}; name one")
    others = _listed(own_ligands(protein)) or "none"
    raise MoleculeError(
        f"{protein.source}: no ligand is called {which!r}; it has {others}. A file is named "
        "with its ending, .sdf, .mol2 or .pdbqt"
    )


def _labels(ligands: Ligands) -> list[str]:
    """ "STI:A:201" for each molecule."""
    columns = (ligands.names, ligands.chain_ids, ligands.residue_number, ligands.insertion_code)
    return [
        f"{name}:{chain}:{number}{code}".strip() for name, chain, number, code in zip(*map(list, columns), strict=True)
    ]


def _listed(labels: list[str]) -> str:
    more = len(labels) - _MOST_NAMED
    return ", ".join(labels[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _with_chemistry(found: Ligands, label: str) -> Any:
    """An RDKit molecule, not sanitised, of the atoms of one molecule in their order."""
    Chem, _ = import_rdkit(label)
    component = _component(str(found.names[0]), label)
    names = found.atom_names.tolist()
    heavy = {str(name): row for row, name in enumerate(component.atom_name) if component.element[row] != "H"}
    if sorted(names) != sorted(heavy):
        lacking, unknown = _listed(sorted(heavy.keys() - set(names))), _listed(sorted(set(names) - heavy.keys()))
        raise MoleculeError(
            f"{label}: its atoms are not those of the component (lacking: {lacking or 'none'}; unknown or twice: "
            f"{unknown or 'none'}), so its bonds are not known; give the ligand as sdf or mol2"
        )
    molecule, conformer = Chem.RWMol(), Chem.Conformer(len(names))
    row_of = {heavy[name]: row for row, name in enumerate(names)}
    for row, (name, position) in enumerate(zip(names, found.atom_positions.tolist(), strict=True)):
        atom = Chem.Atom(component.element[heavy[name]].capitalize())
        atom.SetFormalCharge(int(component.charge[heavy[name]]))
        molecule.AddAtom(atom)
        conformer.SetAtomPosition(row, position)
    for i, j, kind in component.bonds.as_array().tolist():
        if i in row_of and j in row_of:
            molecule.AddBond(row_of[i], row_of[j], _bond_type(Chem, kind))
    molecule.AddConformer(conformer)
    return molecule


def _component(name: str, label: str) -> Any:
    """The component as biotite's `AtomArray`, with its bonds."""
    try:
        from biotite.structure import info
    except ImportError as error:
        raise MoleculeError(
            f"{label}: the chemistry of a structure's own ligand comes with biotite: pip install "
            "'bihf_jax[components]'; or give the ligand as sdf or mol2"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of ideal coordinates that it lacks; they are not used
            return info.residue(name)
    except KeyError as error:
        raise MoleculeError(
            f"{label}: the Chemical Component Dictionary has no {name!r}, so its bonds are not known; give the ligand "
            "as sdf or mol2"
        ) from error


def _bond_type(Chem: Any, kind: int) -> Any:
    """RDKit's type for biotite's; aromatic rings come as single and double bonds, and RDKit finds them."""
    from biotite.structure import BondType

    kinds = Chem.BondType
    doubles = (BondType.DOUBLE, BondType.AROMATIC_DOUBLE)
    if kind in (BondType.TRIPLE, BondType.AROMATIC_TRIPLE):
        return kinds.TRIPLE
    return kinds.DOUBLE if kind in doubles else kinds.SINGLE
