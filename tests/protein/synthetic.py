"""Small structures made from internal coordinates, and their text as PDB and mmCIF."""

import dataclasses

import numpy as np

from bihf_jax.protein import residue_constants

_NAME_OF = dict(zip(residue_constants.RESIDUE_TYPES, residue_constants.RESIDUE_NAMES, strict=True))


@dataclasses.dataclass
class Atom:
    """One coordinate record; the defaults are those of an ordinary atom."""

    name: str
    residue: str
    chain: str
    number: int
    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    code: str = " "
    altloc: str = " "
    occupancy: float = 1.0
    hetero: bool = False
    element: str | None = None
    label: int = 0  # mmCIF label_seq_id; 0 for none
    b_factor: float = 10.0

    def pdb(self, serial: int, columns_73: str | None = None) -> str:
        element = self.element or self.name.lstrip("0123456789")[0]
        padded = self.name if len(self.name) == 4 or len(element) == 2 else " " + self.name
        record = "HETATM" if self.hetero else "ATOM  "
        x, y, z = self.xyz
        tail = f"      {'':4}{element:>2}  " if columns_73 is None else f"      {columns_73}"
        return (
            f"{record}{serial:5d} {padded:<4}{self.altloc}{self.residue:>3} {self.chain}{self.number:4d}{self.code}   "
            f"{x:8.3f}{y:8.3f}{z:8.3f}{self.occupancy:6.2f}{self.b_factor:6.2f}{tail}"
        )


def place(a: np.ndarray, b: np.ndarray, c: np.ndarray, length: float, angle: float, torsion: float) -> np.ndarray:
    """The point d at `length` Å from c with the angle b-c-d and the torsion a-b-c-d (radians)."""
    bc = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, bc)
    normal /= np.linalg.norm(normal)
    frame = np.stack([bc, np.cross(normal, bc), normal], axis=1)
    local = [-np.cos(angle), np.sin(angle) * np.cos(torsion), np.sin(angle) * np.sin(torsion)]
    return c + frame @ (length * np.array(local))


def peptide(
    sequence: str, angles: np.ndarray, *, chain: str = "A", first_number: int = 1, shift: tuple = (0.0, 0.0, 0.0)
) -> list[Atom]:
    """A chain with the torsions `angles` [N, 7]: phi, psi, omega before the residue, chi1-4. Side chains end at chi."""
    tetrahedral, planar = np.deg2rad(111.0), np.deg2rad(117.0)
    n, ca, c = np.array([0.0, 0, 0]), np.array([1.46, 0, 0]), np.array([2.0, 1.42, 0])
    atoms = []
    for i, letter in enumerate(sequence):
        if i:
            previous = (n, ca, c)
            n = place(*previous, 1.33, planar, angles[i - 1, 1])
            ca = place(ca, c, n, 1.46, np.deg2rad(121.0), angles[i, 2])
            c = place(previous[2], n, ca, 1.52, tetrahedral, angles[i, 0])
        built = {"N": n, "CA": ca, "C": c, "O": place(n, ca, c, 1.23, planar, angles[i, 1] + np.pi)}
        if letter != "G":
            built["CB"] = place(n, c, ca, 1.53, tetrahedral, np.deg2rad(122.6))
        for chi, names in enumerate(residue_constants.CHI_ATOMS[letter]):
            built[names[3]] = place(*(built[name] for name in names[:3]), 1.52, tetrahedral, angles[i, 3 + chi])
        for name, xyz in built.items():
            number = first_number + i
            atoms.append(Atom(name, _NAME_OF[letter], chain, number, tuple(xyz + np.array(shift)), label=i + 1))
    return atoms


def random_angles(length: int, seed: int = 0) -> np.ndarray:
    """[length, 7] torsions of an irregular extended chain, omega near trans."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-np.pi, np.pi, (length, 7))
    angles[:, 0] = rng.normal(-1.9, 0.3, length)
    angles[:, 1] = rng.normal(2.3, 0.3, length)
    angles[:, 2] = rng.normal(np.pi, 0.05, length)
    return (angles + np.pi) % (2 * np.pi) - np.pi


def chain_of(
    sequence: str, chain: str = "A", *, seed: int = 0, first_number: int = 1, shift=(0.0, 0.0, 0.0)
) -> list[Atom]:
    """A chain with random torsions."""
    angles = random_angles(len(sequence), seed)
    return peptide(sequence, angles, chain=chain, first_number=first_number, shift=shift)


def pdb_text(*chains: list[Atom], header: str = "", ter: bool = True, tail: list[Atom] = (), end: str = "END\n") -> str:
    """PDB text: each chain, TER after it, then the atoms of `tail` (ligands, waters)."""
    lines, serial = [], 0
    for atoms in chains:
        for atom in atoms:
            serial += 1
            lines.append(atom.pdb(serial))
        if ter:
            serial += 1
            lines.append(f"TER   {serial:5d}      {atoms[-1].residue:>3} {atoms[-1].chain}{atoms[-1].number:4d}")
    for atom in tail:
        serial += 1
        lines.append(atom.pdb(serial))
    return header + "\n".join(lines) + "\n" + end


def seqres(chain: str, names: list[str]) -> str:
    """SEQRES records of a chain."""
    rows = [names[i : i + 13] for i in range(0, len(names), 13)]
    return "".join(
        f"SEQRES {number:3d} {chain} {len(names):4d}  {' '.join(row)}\n" for number, row in enumerate(rows, start=1)
    )


def remark_465(missing: list[tuple[str, str, int, str]]) -> str:
    """REMARK 465 of (residue name, chain, number, insertion code)."""
    return "REMARK 465   M RES C SSSEQI\n" + "".join(
        f"REMARK 465     {name:>3} {chain} {number:5d}{code}\n" for name, chain, number, code in missing
    )


def mmcif_text(
    atoms: list[Atom],
    *,
    label_chains: dict[str, str],
    sequences: dict[str, list[str]] | None = None,
    scheme: list[tuple[str, int, str, str, str]] = (),
    blocks_before: str = "",
) -> str:
    """mmCIF text of protein chains.

    Args:
      atoms: all atoms, with `label` set.
      label_chains: author chain id -> label chain id.
      sequences: label chain id -> residue names of the full sequence; no entity tables where None.
      scheme: rows (label chain id, position, name, author number, insertion code or ".") of _pdbx_poly_seq_scheme.
      blocks_before: text put in front.
    """
    text = [blocks_before + "data_made\n#\n"]
    entity = {label: str(i) for i, label in enumerate(label_chains.values(), start=1)}
    if sequences is not None:
        text.append("loop_\n_entity.id\n_entity.type\n" + "".join(f"{e} polymer\n" for e in entity.values()))
        text.append("loop_\n_entity_poly.entity_id\n_entity_poly.type\n")
        text.append("".join(f"{e} 'polypeptide(L)'\n" for e in entity.values()))
        text.append(
            "loop_\n_struct_asym.id\n_struct_asym.entity_id\n" + "".join(f"{a} {e}\n" for a, e in entity.items())
        )
        text.append("loop_\n_entity_poly_seq.entity_id\n_entity_poly_seq.num\n_entity_poly_seq.mon_id\n")
        for label, names in sequences.items():
            text.append("".join(f"{entity[label]} {i} {name}\n" for i, name in enumerate(names, start=1)))
    if scheme:
        text.append("loop_\n")
        text.extend(
            f"_pdbx_poly_seq_scheme.{k}\n" for k in ("asym_id", "seq_id", "mon_id", "pdb_seq_num", "pdb_ins_code")
        )
        text.append("".join(" ".join(map(str, row)) + "\n" for row in scheme))
    columns = (
        "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_entity_id label_seq_id"
    )
    columns += " pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id"
    columns += " pdbx_PDB_model_num"
    text.append("loop_\n" + "".join(f"_atom_site.{column}\n" for column in columns.split()))
    for serial, atom in enumerate(atoms, start=1):
        label = label_chains[atom.chain]
        values = [
            *("HETATM" if atom.hetero else "ATOM", serial, atom.element or atom.name[0], atom.name),
            *(
                atom.altloc.strip() or ".",
                atom.residue,
                label,
                entity[label],
                atom.label or ".",
                atom.code.strip() or "?",
            ),
            *(f"{value:.3f}" for value in atom.xyz),
            *(f"{atom.occupancy:.2f}", f"{atom.b_factor:.2f}", atom.number, atom.chain, 1),
        ]
        text.append(" ".join(map(str, values)) + "\n")
    return "".join(text) + "#\n"
