"""The structure as the 3D view of a page reads it."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import gemmi

from bihf_jax.protein import Protein, StructureError, parsing, residue_constants

# Format -> ending of its files.
ENDINGS = {"PDB": ".pdb", "mmCIF": ".cif"}

_LOOP = (
    "data_scene\nloop_\n_atom_site.group_PDB\n_atom_site.id\n_atom_site.type_symbol\n_atom_site.auth_atom_id\n"
    "_atom_site.auth_comp_id\n_atom_site.auth_asym_id\n_atom_site.auth_seq_id\n_atom_site.Cartn_x\n"
    "_atom_site.Cartn_y\n_atom_site.Cartn_z\n"
)


# Of the atoms of amino acids, all heavy: the element is the first letter.
_ELEMENTS_AND_NAMES = [f"{name[0]} {name}" for name in residue_constants.ATOM_NAMES]


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is drawn. Its places are numbers: first the residues of the structure, then its ligands.

    The text names every atom by its place instead of by chain, number and insertion code, because 3Dmol.js reads no
    insertion codes and no quoted text of mmCIF. So nothing that a file calls itself gets into it.
    """

    text: str  # mmCIF, `auth_seq_id` is the place; a place without atoms is a gap in the chain
    row_of_place: list[int]  # index of the residue of the page, -1 where it has none
    labels: dict[int, str]  # place -> name, where there is no residue of the page
    num_unlisted: int  # residues with coordinates that are no residue of the page
    resolved: list[bool]  # for each residue of the page: does it have coordinates?


def scene_of(protein: Protein, rows: Sequence[tuple[str, int, str, str]]) -> Scene:
    """The scene of a structure, and which residue of the page is which of its residues.

    Args:
      protein: as the page's structure reads (`read`).
      rows: the residues of the page: (chain, number, insertion code or "", one-letter residue type). Where several
        have one key, they stand in the order of the structure.

    Raises:
      ValueError: no residue of the page is in the structure, or one is there as another residue type.
    """
    rows_of_key: dict[tuple[str, int, str], collections.deque[int]] = collections.defaultdict(collections.deque)
    for index, (chain, number, code, _) in enumerate(rows):
        rows_of_key[chain, number, code].append(index)
    row_of_place, labels, resolved = [], {}, [False] * len(rows)
    has_atoms = protein.atom_mask.any(axis=1)
    for place, key in enumerate(_keys(protein)):
        row = rows_of_key[key].popleft() if rows_of_key.get(key) else -1
        row_of_place.append(row)
        residue_type = residue_constants.RESIDUE_TYPES[protein.residue_type[place]]
        if row < 0:
            labels[place] = f"{_name(residue_type)} {key[1]}{key[2]}, chain {key[0] or '(blank)'}"
            continue
        if rows[row][3] != residue_type:
            where = f"{key[1]}{key[2]} of chain {key[0]!r}"
            raise ValueError(f"residue {where} is {rows[row][3]} on the page but {residue_type} in the structure")
        resolved[row] = bool(has_atoms[place])
    if max(row_of_place) < 0:
        chains = ", ".join(repr(chain) for chain in protein.chain_ids)
        raise ValueError(
            f"none of the {len(rows)} residues of the page is in the structure (its chains: {chains}); "
            "compare chain ids and residue numbers"
        )
    unlisted = sum(row < 0 and bool(has_atoms[place]) for place, row in enumerate(row_of_place))
    _add_ligands(protein, row_of_place, labels)
    return Scene(_scene_text(protein), row_of_place, labels, unlisted, resolved)


def read(text: str, file_format: str) -> Protein:
    """The protein of a text; `StructureError` where it holds none."""
    if file_format not in ENDINGS:
        raise StructureError(f"unknown structure format {file_format!r}; known: {', '.join(ENDINGS)}")
    return Protein(**parsing.read_structure(Path("structure" + ENDINGS[file_format]), text.encode())[0])


def _keys(protein: Protein) -> list[tuple[str, int, str]]:
    """(chain, number, insertion code or "") of each residue."""
    chains = [protein.chain_ids[chain] for chain in protein.chain_index.tolist()]
    codes = [code.strip() for code in protein.insertion_code.tolist()]
    return list(zip(chains, protein.residue_number.tolist(), codes, strict=True))


def _add_ligands(protein: Protein, row_of_place: list[int], labels: dict[int, str]) -> None:
    ligands = protein.ligands
    for molecule, kind in enumerate(ligands.kinds()):
        number = f"{ligands.residue_number[molecule]}{str(ligands.insertion_code[molecule]).strip()}"
        chain = str(ligands.chain_ids[molecule]) or "(blank)"
        labels[len(row_of_place)] = f"{ligands.names[molecule]} {number}, chain {chain} ({kind})"
        row_of_place.append(-1)


def _name(letter: str) -> str:
    return residue_constants.RESIDUE_NAMES[residue_constants.RESIDUE_TYPE_INDEX[letter]]


def _scene_text(protein: Protein) -> str:
    """All atoms, residue after residue, then the ligands."""
    places, atoms = protein.atom_mask.nonzero()
    residues = [
        f"{residue_constants.RESIDUE_NAMES[residue_type]} c{chain} {place}"
        for place, (residue_type, chain) in enumerate(
            zip(protein.residue_type.tolist(), protein.chain_index.tolist(), strict=True)
        )
    ]
    lines = [
        f"ATOM {line} {_ELEMENTS_AND_NAMES[atom]} {residues[place]} {x:.3f} {y:.3f} {z:.3f}\n"
        for line, (place, atom, (x, y, z)) in enumerate(
            zip(places.tolist(), atoms.tolist(), protein.atom_positions[places, atoms].tolist(), strict=True)
        )
    ]
    ligands = protein.ligands
    elements = [gemmi.Element(int(number)).name for number in ligands.elements]
    rows = zip(elements, ligands.molecule_index.tolist(), ligands.atom_positions.tolist(), strict=True)
    for element, molecule, (x, y, z) in rows:
        place = protein.num_residues + molecule
        lines.append(f"HETATM {len(lines)} {element} {element} LIG ligand {place} {x:.3f} {y:.3f} {z:.3f}\n")
    return _LOOP + "".join(lines)
