"""`ParseReport`: what reading a structure file changed or left out."""

import collections
import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class ParseReport:
    """What reading a file changed or left out. Counts are of residues unless the name says atoms.

    Every atom of the file is accounted for: `file_atoms` is what is kept (in the residues and in the ligands) plus
    `left_out_atoms`. ``print(report)`` shows what is not as usual, one line each.
    """

    file_atoms: int = 0  # coordinate records of the file (mmCIF: of the data block that is read)
    models: int = 1  # models in the file
    other_model_atoms: int = 0  # atoms of the models that are not read
    other_blocks: int = 0  # mmCIF: further data blocks with coordinates; the first is read
    assemblies: tuple[str, ...] = ()  # names of the assemblies that the file describes
    chains_left_out: tuple[str, ...] = ()  # author ids of chains of which nothing is kept
    unasked_chain_atoms: int = 0  # atoms of chains that were not asked for
    waters: int = 0
    water_atoms: int = 0
    nucleotides: dict[str, int] = dataclasses.field(default_factory=dict)  # of DNA and RNA, by name
    nucleotide_atoms: int = 0
    ligands: dict[str, int] = dataclasses.field(default_factory=dict)  # by name; kept, but not as residues
    empty_ligands: int = 0  # ligands without any heavy atom that has coordinates
    modified: dict[str, int] = dataclasses.field(default_factory=dict)  # residues read as their parent (or X), by name
    unresolved: int = 0  # slots without any atom
    made_up_numbers: int = 0  # unresolved residues whose author number the file does not give
    no_full_sequence: tuple[str, ...] = ()  # author ids of chains for which the file gives none
    sequence_conflicts: tuple[str, ...] = ()  # author ids of chains whose full sequence contradicts the atoms
    repeated_numbers: int = 0  # residues whose chain, number and insertion code an earlier residue has, too
    sequences_without_atoms: int = 0  # protein sequences of the file of which no residue has coordinates
    microheterogeneities: int = 0  # positions with two or more residue names, of which one was kept
    altloc_atoms: int = 0  # atoms left out because another conformer was kept
    repeated_atoms: int = 0  # atoms whose name the residue already has, without an altloc label: the first is kept
    hydrogen_atoms: int = 0  # of residues and ligands, deuterium included
    unplaced_atoms: int = 0  # atoms without coordinates, or with such beyond `parsing.MAX_COORDINATE`
    unknown_b_factors: int = 0  # kept atoms without a finite B factor, which is 0 then
    other_atoms: dict[str, int] = dataclasses.field(default_factory=dict)  # "SEP:P": atoms that the type does not have
    coincident_ligands: int = 0  # copies of an assembly that lie on the ligand they are a copy of
    old_columns: bool = False  # read up to column 72: entry id and serial number in columns 73-80
    ends_early: bool = False  # PDB file without END, mmCIF file without a line end: perhaps cut off

    @classmethod
    def sum(cls, reports: Sequence["ParseReport"]) -> "ParseReport":
        """One report of several files: counts added, names joined, a flag set where any has it."""
        total = {}
        for field in dataclasses.fields(cls):
            values = [getattr(report, field.name) for report in reports]
            if isinstance(values[0], bool):
                total[field.name] = any(values)
            elif isinstance(values[0], int):
                total[field.name] = sum(values)
            elif isinstance(values[0], tuple):
                total[field.name] = sum(values, ())
            else:
                total[field.name] = dict(sum((collections.Counter(value) for value in values), collections.Counter()))
        return cls(**total)

    @property
    def left_out_atoms(self) -> int:
        """Atoms of the file that are neither in the residues nor in the ligands."""
        counts = (self.other_model_atoms, self.unasked_chain_atoms, self.water_atoms, self.nucleotide_atoms)
        counts += (self.altloc_atoms, self.repeated_atoms, self.hydrogen_atoms, self.unplaced_atoms)
        return sum(counts) + sum(self.other_atoms.values())

    def __str__(self) -> str:
        lines = [f"atoms in the file: {self.file_atoms}, of which {self.left_out_atoms} are left out"]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            usual = field.default if field.default is not dataclasses.MISSING else {}
            if field.name != "file_atoms" and value != usual:
                lines.append(f"{field.name.replace('_', ' ')}: {_as_text(value)}")
        return "\n".join(lines)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in sorted(value.items()))
    if isinstance(value, tuple):
        return ", ".join(name or "(blank)" for name in value)
    return str(value)
