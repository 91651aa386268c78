"""`Protein` -> text of a PDB or mmCIF file, through gemmi.

Both hold, beside the atoms, what makes the masked slots come back: the full sequence of each chain (SEQRES,
`_entity_poly_seq`) and the author numbers of unresolved residues where they are known (REMARK 465,
`_pdbx_poly_seq_scheme`). A position of the full sequence that has no slot, such as a cap, is written as `NO_SLOT`.
"""

import collections
import functools
import gzip
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gemmi
import numpy as np

from bihf_jax.protein import residue_constants
from bihf_jax.protein.ligands import Ligands
from bihf_jax.protein.parsing import MADE_UP_NUMBER, StructureError, flat_atoms

if TYPE_CHECKING:
    from bihf_jax.protein.protein import Protein

# The PDB's name for a component that is not known, and is no amino acid.
NO_SLOT = "UNL"

# What the columns of a PDB file can hold.
_NUMBERS = (-998, 9999)  # gemmi reads -999 as no number
_COORDINATES = (-999.999, 9999.999)
_B_FACTORS = (-99.99, 999.99)
_MAX_PDB_RECORDS = 99_999

# Below this, float32 numbers with three decimals are all different: three decimals that give one are its shortest form.
_THREE_DECIMALS = 4096.0

_CIF_GROUPS = {
    **dict.fromkeys(("atoms", "group_pdb", "auth_all", "block_name", "entry"), True),
    **dict.fromkeys(("entity", "entity_poly", "entity_poly_seq", "struct_asym"), True),
}


def write_text(path: Path, text: str) -> None:
    """Write ASCII text, compressed if the name ends in .gz (the same bytes each time)."""
    data = text.encode("ascii")
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.lower().endswith(".gz") else data)


class Written(NamedTuple):
    """The text of a protein in one format."""

    text: str
    protein: "Protein"  # as the text reads back


class Writer:
    """Writes one valid protein, in several formats if wanted; what they share is made once."""

    def __init__(self, protein: "Protein"):
        """Takes the protein."""
        self._protein = protein

    @functools.cached_property
    def _structure(self) -> gemmi.Structure:
        return _structure_of(self._protein)

    def text(self, file_format: str) -> str:
        """The text as "PDB" or "mmCIF".

        Raises:
          StructureError: the format has no place for something in the protein.
        """
        return {"PDB": self._pdb, "mmCIF": self._mmcif}[file_format]()

    def _pdb(self) -> str:
        _refuse_beyond_columns(self._protein)
        self._structure.raw_remarks = _remark_465(self._protein)
        return self._structure.make_pdb_string()

    def _mmcif(self) -> str:
        _refuse_repeated_labels(self._protein)
        block = self._structure.make_mmcif_block(gemmi.MmcifOutputGroups(False, **_CIF_GROUPS))
        block.set_mmcif_category("_pdbx_poly_seq_scheme.", _poly_seq_scheme(self._protein))
        _write_all_digits(block, self._structure)
        return block.as_string()


def refuse_difference(protein: "Protein", written: "Protein", file_format: str) -> None:
    """`StructureError` unless what was read back of the written text is the protein, to the format's precision."""
    skipped = ["label_chain_ids"] if file_format == "PDB" else []  # PDB has no such ids; gemmi makes some up
    wanted, found = _comparable(protein), _comparable(written)
    for name in wanted:
        if name.split(".")[-1] in skipped:
            continue
        if not _is_same(wanted[name], found[name], _tolerance(name, file_format)):
            what = f"{file_format} cannot say this protein: {name} would read back differently"
            raise StructureError(f"{protein.source}: {what}; {_fix(protein, file_format)}")


def _fix(protein: "Protein", file_format: str) -> str:
    """What to do about a protein that does not read back."""
    chains = [protein.chain_ids[chain] for chain in protein.chain_index.tolist()]
    keys = zip(chains, protein.residue_number.tolist(), protein.insertion_code.tolist(), strict=True)
    (chain, number, code), times = collections.Counter(keys).most_common(1)[0]
    if times > 1:
        return f"{times} residues of chain {chain!r} have the number {number}{code.strip()}: number them apart"
    return {
        "PDB": "write mmCIF (.cif)",
        "mmCIF": "give each chain an author and a label id of its own, and two residues with atoms",
    }[file_format]


def _comparable(protein: "Protein") -> dict[str, np.ndarray]:
    names = ("chain_ids", "label_chain_ids", "chain_index", "residue_type", "residue_number", "insertion_code")
    names += ("label_residue_number", "atom_mask", "atom_positions", "b_factors")
    arrays = {name: np.array(getattr(protein, name)) for name in names}
    return arrays | {f"ligands.{name}": array for name, array in vars(protein.ligands).items()}


def _tolerance(name: str, file_format: str) -> float:
    """How far a number may be from what was written: half of the last decimal, and float32's own rounding."""
    if file_format == "PDB" and name.endswith("atom_positions"):
        return 0.0005 + 0.0005
    if file_format == "PDB" and name.endswith("b_factors"):
        return 0.005 + 0.00005
    return 0.0


def _is_same(wanted: np.ndarray, found: np.ndarray, tolerance: float) -> bool:
    if wanted.shape != found.shape:
        return False
    if tolerance == 0:
        return np.array_equal(wanted, found)
    return bool((np.abs(wanted.astype(np.float64) - found) <= tolerance).all())


# --------------------------------------------------------------------------------------------------------------------
# Limits
# --------------------------------------------------------------------------------------------------------------------


def _refuse_beyond_columns(protein: "Protein") -> None:
    """`StructureError` naming the first thing that the columns of a PDB file cannot hold."""
    ligands = protein.ligands
    chain_ids = [*protein.chain_ids, *ligands.chain_ids.tolist()]
    _refuse_long_text(protein, "chain id", chain_ids, 1)
    _refuse_long_text(protein, "ligand name", ligands.names.tolist(), 3)
    _refuse_long_text(protein, "atom name of a ligand", ligands.atom_names.tolist(), 4)
    for chain in set(protein.chain_ids):
        if protein.chain_ids.count(chain) > 1:
            raise _beyond(protein, f"{protein.chain_ids.count(chain)} chains have the id {chain!r}")
    placed = protein.atom_positions[protein.atom_mask]
    ranges = (
        ("residue number", protein.residue_number, ligands.residue_number, _NUMBERS),
        ("coordinate", placed, ligands.atom_positions, _COORDINATES),
        ("B-factor column", protein.b_factors[protein.atom_mask], ligands.b_factors, _B_FACTORS),
    )
    for name, mine, theirs, (low, high) in ranges:
        values = np.concatenate([mine.ravel(), theirs.ravel()])
        outside = (values < low) | (values > high)
        if outside.any():
            raise _beyond(protein, f"{name} {values[outside][0]} is not from {low} to {high}")
    records = int(protein.atom_mask.sum()) + ligands.num_atoms + len(protein.chain_ids)  # a TER each chain
    if records > _MAX_PDB_RECORDS:
        raise _beyond(protein, f"{records:,} atoms are more than {_MAX_PDB_RECORDS:,}")


def _refuse_long_text(protein: "Protein", what: str, texts: list[str], longest: int) -> None:
    for text in texts:
        if len(text) > longest:
            raise _beyond(protein, f"{what} {text!r} has more than {longest} characters")


def _beyond(protein: "Protein", what: str) -> StructureError:
    return StructureError(f"{protein.source}: {what}, which a PDB file cannot hold; write mmCIF (.cif)")


def _refuse_repeated_labels(protein: "Protein") -> None:
    """`StructureError` where a label id names two chains, or a chain and a ligand."""
    taken = set(protein.ligands.label_chain_ids.tolist())
    for label in protein.label_chain_ids:
        if label in taken:
            fix = "dataclasses.replace(protein, label_chain_ids=...)"
            raise StructureError(f"{protein.source}: label chain id {label!r} is not unique, as mmCIF needs; use {fix}")
        taken.add(label)


# --------------------------------------------------------------------------------------------------------------------
# Protein -> gemmi
# --------------------------------------------------------------------------------------------------------------------


def _structure_of(protein: "Protein") -> gemmi.Structure:
    structure = gemmi.Structure()
    structure.name = protein.source.split(".")[0] or "protein"
    chains = _polymers(protein)
    by_name: dict[str, gemmi.Chain] = {}
    for index, name in enumerate(protein.chain_ids):
        by_name.setdefault(name, chains[index])
        structure.entities.append(_polymer_entity(protein, index))
    for name in protein.ligands.chain_ids.tolist():
        if name not in by_name:
            chains.append(gemmi.Chain(name))
            by_name[name] = chains[-1]
    structure.entities.extend(_ligand_entities(protein.ligands, first=len(protein.chain_ids) + 1))
    entity_of = {subchain: entity for entity in structure.entities for subchain in entity.subchains}
    for molecule, name in enumerate(protein.ligands.chain_ids.tolist()):
        by_name[name].add_residue(_ligand(protein.ligands, molecule, entity_of))
    model = gemmi.Model(1)
    for chain in chains:
        model.add_chain(chain)
    structure.add_model(model)
    structure.assign_serial_numbers()
    return structure


def _polymers(protein: "Protein") -> list[gemmi.Chain]:
    """The residues with atoms of each chain.

    gemmi takes coordinates as an array where a structure is flat. Only the numbers 0, 1, .. of chains and residues are
    their names there, so that none is taken for another.
    """
    rows = np.flatnonzero(protein.atom_mask.any(axis=1))
    places, atoms = np.nonzero(protein.atom_mask)
    model = gemmi.Model(1)
    for index in range(len(protein.chain_ids)):
        chain = gemmi.Chain(str(index))
        for row in rows[protein.chain_index[rows] == index]:
            residue = chain.add_residue(_unplaced(protein.atom_mask[row].tobytes()))
            residue.seqid = gemmi.SeqId(int(row), " ")
        model.add_chain(chain)
    structure = gemmi.Structure()
    structure.add_model(model)
    flat = gemmi.FlatStructure(structure)
    flat.pos[:] = _decimal(protein.atom_positions[places, atoms])
    flat.b_iso[:] = protein.b_factors[places, atoms]
    placed = {int(chain.name): chain for model in flat.generate_structure() for chain in model}
    return [_name_residues(placed.get(index) or gemmi.Chain(""), protein, index) for index in range(len(model))]


@functools.lru_cache(maxsize=1024)
def _unplaced(atom_mask: bytes) -> gemmi.Residue:
    """A residue with the atoms of a row of `Protein.atom_mask`, all of them at the origin."""
    residue = gemmi.Residue()
    for index in np.flatnonzero(np.frombuffer(atom_mask, dtype=bool)):
        name = residue_constants.ATOM_NAMES[index]
        residue.add_atom(_atom(name, gemmi.Element(name[0]), [0.0, 0.0, 0.0], 0.0))
    return residue


def _name_residues(chain: gemmi.Chain, protein: "Protein", index: int) -> gemmi.Chain:
    """Names chain `index` and its residues; their numbers so far are their rows in the protein."""
    chain.name = protein.chain_ids[index]
    for residue in chain:
        row = residue.seqid.num
        residue.name = residue_constants.RESIDUE_NAMES[protein.residue_type[row]]
        residue.seqid = gemmi.SeqId(int(protein.residue_number[row]), str(protein.insertion_code[row]))
        residue.subchain = protein.label_chain_ids[index]
        residue.label_seq = int(protein.label_residue_number[row])
        residue.entity_id = str(index + 1)
        residue.entity_type = gemmi.EntityType.Polymer
        residue.het_flag = "A"
    return chain


def _polymer_entity(protein: "Protein", index: int) -> gemmi.Entity:
    entity = gemmi.Entity(str(index + 1))
    entity.entity_type = gemmi.EntityType.Polymer
    entity.polymer_type = gemmi.PolymerType.PeptideL
    entity.subchains = [protein.label_chain_ids[index]]
    rows = np.flatnonzero(protein.chain_index == index)
    labels = protein.label_residue_number[rows]
    sequence = [NO_SLOT] * int(labels[-1])
    for label, residue_type in zip(labels, protein.residue_type[rows], strict=True):
        sequence[label - 1] = residue_constants.RESIDUE_NAMES[residue_type]
    entity.full_sequence = sequence
    return entity


def _ligand_entities(ligands: Ligands, first: int) -> list[gemmi.Entity]:
    """One entity for each label id; a glycan, whose sugars share one, is branched."""
    labels, counts = np.unique(ligands.label_chain_ids, return_counts=True)
    entities = []
    for number, (label, count) in enumerate(zip(labels.tolist(), counts, strict=True), start=first):
        entity = gemmi.Entity(str(number))
        entity.entity_type = gemmi.EntityType.NonPolymer if count == 1 else gemmi.EntityType.Branched
        entity.subchains = [label]
        entities.append(entity)
    return entities


def _ligand(ligands: Ligands, molecule: int, entity_of: dict[str, gemmi.Entity]) -> gemmi.Residue:
    residue = gemmi.Residue()
    residue.name = str(ligands.names[molecule])
    residue.seqid = gemmi.SeqId(int(ligands.residue_number[molecule]), str(ligands.insertion_code[molecule]))
    residue.subchain = str(ligands.label_chain_ids[molecule])
    residue.entity_id, residue.entity_type = entity_of[residue.subchain].name, entity_of[residue.subchain].entity_type
    residue.het_flag = "H"
    start, stop = np.searchsorted(ligands.molecule_index, [molecule, molecule + 1])
    positions = _decimal(ligands.atom_positions[start:stop]).tolist()
    for row, position in zip(range(start, stop), positions, strict=True):
        element = gemmi.Element(int(ligands.elements[row]))
        residue.add_atom(_atom(str(ligands.atom_names[row]), element, position, float(ligands.b_factors[row])))
    return residue


def _atom(name: str, element: gemmi.Element, position: list[float], b_factor: float) -> gemmi.Atom:
    atom = gemmi.Atom()
    atom.name, atom.element, atom.b_iso = name, element, b_factor
    atom.pos = gemmi.Position(*position)
    return atom


def _decimal(values: np.ndarray) -> np.ndarray:
    """float32 values as the float64 that are nearest to their shortest decimal form: 12.345, not 12.34500027."""
    decimal = np.rint(values.astype(np.float64) * 1000) / 1000
    other = (decimal.astype(np.float32) != values) | (np.abs(values) >= _THREE_DECIMALS)
    decimal[other] = values[other].astype("U32").astype(np.float64)
    return decimal


# --------------------------------------------------------------------------------------------------------------------
# Unresolved residues
# --------------------------------------------------------------------------------------------------------------------


def _remark_465(protein: "Protein") -> list[str]:
    """REMARK 465 for the chains all of whose unresolved residues have a number of the file; empty where there are none.

    In the others the numbers are counted on again by whoever reads the file; half a list would not be understood.
    """
    unresolved = ~protein.atom_mask.any(axis=1)
    made_up = protein.insertion_code == MADE_UP_NUMBER
    chains = np.setdiff1d(protein.chain_index, protein.chain_index[made_up])
    rows = np.flatnonzero(unresolved & np.isin(protein.chain_index, chains))
    if len(rows) == 0:
        return []
    lines = ["MISSING RESIDUES", "THE FOLLOWING RESIDUES HAVE NO COORDINATES. (M=MODEL NUMBER; RES=RESIDUE NAME;"]
    lines += ["C=CHAIN IDENTIFIER; SSSEQ=SEQUENCE NUMBER; I=INSERTION CODE.)", "", "  M RES C SSSEQI"]
    for row in rows:
        name = residue_constants.RESIDUE_NAMES[protein.residue_type[row]]
        chain = protein.chain_ids[protein.chain_index[row]] or " "
        lines.append(f"    {name} {chain} {protein.residue_number[row]:5d}{protein.insertion_code[row]}")
    return [f"REMARK 465 {line}" for line in ["", *lines]]


def _poly_seq_scheme(protein: "Protein") -> dict[str, list]:
    """Columns of `_pdbx_poly_seq_scheme`: a row for each residue; numbers that are not from the file are unknown."""
    resolved = protein.atom_mask.any(axis=1)
    known = protein.insertion_code != MADE_UP_NUMBER
    numbers = protein.residue_number.tolist()
    names = [residue_constants.RESIDUE_NAMES[residue_type] for residue_type in protein.residue_type]
    seen = [name if has_atoms else None for name, has_atoms in zip(names, resolved, strict=True)]
    chains = protein.chain_index.tolist()
    return {
        "asym_id": [protein.label_chain_ids[chain] for chain in chains],
        "entity_id": [chain + 1 for chain in chains],
        "seq_id": protein.label_residue_number.tolist(),
        "mon_id": names,
        "pdb_seq_num": [number if is_known else None for number, is_known in zip(numbers, known, strict=True)],
        "auth_seq_num": [number if has_atoms else None for number, has_atoms in zip(numbers, resolved, strict=True)],
        "pdb_mon_id": seen,
        "auth_mon_id": seen,
        "pdb_strand_id": [protein.chain_ids[chain] or False for chain in chains],
        "pdb_ins_code": [code.strip(f" {MADE_UP_NUMBER}") or False for code in protein.insertion_code.tolist()],
        "hetero": ["n"] * len(chains),
    }


def _write_all_digits(block: gemmi.cif.Block, structure: gemmi.Structure) -> None:
    """B factors with all the digits of a float32; gemmi writes six."""
    bits, which = np.unique(np.array(flat_atoms(structure).b_iso).view(np.int32), return_inverse=True)
    texts = [str(b_factor) for b_factor in bits.view(np.float32)]
    column = block.find_values("_atom_site.B_iso_or_equiv")
    for row, text in enumerate(which.tolist()):
        column[row] = texts[text]
