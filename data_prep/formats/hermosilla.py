"""React: 37,428 protein chains in 384 enzyme reaction classes (Hermosilla et al. 2021, https://arxiv.org/abs/2007.06252).

The folder that the authors distribute, which IEConv, ProNet and others read:

* ``unique_functions.txt``: EC numbers, one a line; a class is the position in this list, from 0;
* ``chain_functions.txt``: ``4fae.B,247``, chain and class;
* ``training.txt``, ``validation.txt``, ``testing.txt``: the official split, one chain a line;
* ``data/4fae.B.hdf5``: the chain's atoms (`read_hdf5`).
"""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bihf_jax.protein import ParseReport, Protein, residue_constants
from data_prep.formats.text import FormatError, numbered_lines, require_file

SPLITS = ("training", "validation", "testing")

# Name of the component that each value of `amino_types` stands for (PyPeriodicTable of the authors' code); -1: none.
_AMINO_NAMES = (
    *("HIS", "ASP", "ARG", "PHE", "ALA", "CYS", "GLY", "GLN", "GLU", "LYS", "LEU", "MET", "ASN", "SER", "TYR", "THR"),
    *("ILE", "TRP", "PRO", "VAL", "SEC", "PYL", "ASX", "XLE", "GLX", "UNK"),
)
_REQUIRED = ("amino_types", "atom_amino_id", "atom_names", "atom_pos")


@dataclasses.dataclass(frozen=True)
class Chain:
    """One chain and its class."""

    id: str  # "4fae.B"
    split: str
    label: int  # index into `React.classes`

    @property
    def pdb_id(self) -> str:
        """ "4fae" of "4fae.B"."""
        return self.id.partition(".")[0]

    @property
    def chain_id(self) -> str:
        """ "B" of "4fae.B"."""
        return self.id.partition(".")[2]


@dataclasses.dataclass(frozen=True)
class React:
    """The chains of the official split, in its order."""

    classes: tuple[str, ...]  # EC number of each class
    chains: tuple[Chain, ...]
    without_split: tuple[str, ...]  # ids that have a class and are in no list of the split

    def split(self, name: str) -> tuple[Chain, ...]:
        """The chains of "training", "validation" or "testing"."""
        _check_split(name)
        return tuple(chain for chain in self.chains if chain.split == name)

    def class_counts(self, split: str) -> np.ndarray:
        """[classes] int64: chains of each class in a split."""
        return np.bincount([chain.label for chain in self.split(split)], minlength=len(self.classes))


def _check_split(name: str) -> None:
    if name not in SPLITS:
        raise FormatError(f"no split {name!r} in React; splits: {', '.join(SPLITS)}")


def read_react(folder: Path) -> React:
    """Read the five text files of the folder (also .gz, also with a prefix such as ``ProtFunct_training.txt``).

    Raises:
      FormatError: a missing file, a line that is not in the format, a class that is not in the list, a chain named
        twice, in two splits, or in a split without a class.
    """
    folder = Path(folder)
    classes = read_classes(require_file(folder, "unique_functions.txt"))
    functions = require_file(folder, "chain_functions.txt")
    label_of = read_chain_functions(functions, len(classes))
    chains: dict[str, Chain] = {}
    for split in SPLITS:
        path = require_file(folder, f"{split}.txt")
        for line, id in numbered_lines(path):
            if id in chains:
                raise FormatError(f"{path}, line {line}: chain {id} is in split {chains[id].split} already")
            if id not in label_of:
                raise FormatError(f"{path}, line {line}: chain {id} has no class in {functions.name}")
            chains[id] = Chain(id, split, label_of[id])
    without_split = tuple(id for id in label_of if id not in chains)
    return React(classes, tuple(chains.values()), without_split)


def read_classes(path: Path) -> tuple[str, ...]:
    """EC numbers of ``unique_functions.txt``, in the order of the classes.

    Raises:
      FormatError: an EC number is listed twice; then a class would have two numbers.
    """
    classes = tuple(line for _, line in numbered_lines(path))
    for name, times in Counter(classes).items():
        if times > 1:
            raise FormatError(f"{path}: EC number {name} is listed {times} times")
    return classes


def read_chain_functions(path: Path, num_classes: int) -> dict[str, int]:
    """Chain id -> class, of ``chain_functions.txt``.

    Raises:
      FormatError: a line that is not ``ID.CHAIN,CLASS``, a class outside [0, num_classes), or a chain named twice.
    """
    label_of: dict[str, int] = {}
    for line, text in numbered_lines(path):
        id, comma, number = text.partition(",")
        if not (comma and number.strip().isdecimal() and all(id.partition("."))):
            raise FormatError(f"{path}, line {line}: expected 'ID.CHAIN,CLASS' such as 4fae.B,247, got {text!r}")
        label = int(number)
        if label >= num_classes:
            raise FormatError(f"{path}, line {line}: class {label}; there are {num_classes}, counted from 0")
        if id in label_of:
            raise FormatError(f"{path}, line {line}: a second line for chain {id}")
        label_of[id] = label
    return label_of


def read_hdf5(path: Path) -> Protein:
    """The protein of one HDF5 file, such as ``data/4fae.B.hdf5``; needs h5py.

    Four data sets are needed: ``amino_types`` [n] (index of the amino acid's name, -1 for a modified one),
    ``atom_amino_id`` [a] (position of the amino acid, -1 for other molecules), ``atom_names`` [a] and ``atom_pos``
    [models, a, 3] in Å, of which the first model is read. Three more are used where they are there: ``pos_center`` is
    added to the positions, which puts them back into the frame of the PDB file; ``atom_residue_names`` says what an
    amino acid of type -1 is (MSE: M), which is X without it; ``atom_chain_names`` is the chain id, else what follows
    the "." in the file's name.

    The files hold no residue numbers: they count 1, 2, ... along each chain. They hold no B factors and no full
    sequence either. Atoms of other molecules and atoms that the residue type does not have are left out and counted in
    the report.

    Raises:
      FormatError: h5py is not installed, no HDF5 file, a data set is missing or contradicts the others.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    names = _texts(path, arrays, "atom_names")
    positions = _positions(path, arrays, len(names))
    owner = arrays["atom_amino_id"]
    types = arrays["amino_types"]
    if owner.shape != (len(names),) or types.ndim != 1:
        raise FormatError(f"{path}: atom_amino_id {owner.shape} and atom_names {(len(names),)} must be of one length")
    if owner.size and not -1 <= owner.min() <= owner.max() < len(types):
        raise FormatError(f"{path}: atom_amino_id spans {owner.min()} to {owner.max()}; amino_types has {len(types)}")
    if len(types) == 0 or not -1 <= types.min() <= types.max() < len(_AMINO_NAMES):
        raise FormatError(f"{path}: amino_types must be 1 or more values of -1 to {len(_AMINO_NAMES) - 1}")
    components = _components(path, arrays, types, owner)
    chain_of = _chain_of(path, arrays, owner, len(types))
    return _protein(path, components, chain_of, owner, names, positions)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise FormatError(f"{path}: reading HDF5 needs h5py: pip install 'bihf_jax[formats]'") from error
    if not path.is_file():
        raise FormatError(f"{path}: no such file")
    wanted = (*_REQUIRED, "pos_center", "atom_residue_names", "atom_chain_names")
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: file[name][()] for name in wanted if name in file}
    except OSError as error:
        raise FormatError(f"{path}: not a readable HDF5 file ({error})") from error
    if missing := [name for name in _REQUIRED if name not in arrays]:
        raise FormatError(f"{path}: no data set {', '.join(missing)}")
    return arrays


def _texts(path: Path, arrays: dict[str, np.ndarray], name: str) -> list[str]:
    """A data set of byte strings as text."""
    values: Any = arrays[name].tolist()
    if not all(isinstance(value, bytes) for value in values):
        raise FormatError(f"{path}: {name} must hold byte strings, got {arrays[name].dtype}")
    return [value.decode("utf-8").strip() for value in values]


def _positions(path: Path, arrays: dict[str, np.ndarray], num_atoms: int) -> np.ndarray:
    """[a, 3] float32 Å of the first model, in the frame of the PDB file."""
    positions = arrays["atom_pos"]
    if positions.ndim != 3 or positions.shape[1:] != (num_atoms, 3) or positions.shape[0] == 0:
        raise FormatError(f"{path}: atom_pos has shape {positions.shape}; it must be [models, {num_atoms}, 3]")
    placed = positions[0] + np.reshape(arrays.get("pos_center", np.zeros(3)), 3)
    if not np.isfinite(placed).all():
        raise FormatError(f"{path}: atom_pos holds values that are not finite")
    return placed.astype(np.float32)


def _components(path: Path, arrays: dict[str, np.ndarray], types: np.ndarray, owner: np.ndarray) -> list[str]:
    """Name of the component of each amino acid."""
    components = [_AMINO_NAMES[value] for value in types]  # -1 is the last, UNK
    if "atom_residue_names" in arrays:
        residues = _texts(path, arrays, "atom_residue_names")
        for atom, amino_acid in enumerate(owner.tolist()):
            if amino_acid >= 0 and types[amino_acid] == -1:
                components[amino_acid] = residues[atom]
    return components


def _chain_of(path: Path, arrays: dict[str, np.ndarray], owner: np.ndarray, num_residues: int) -> list[str]:
    """Chain id of each amino acid."""
    stem = path.name.removesuffix(".hdf5")
    chains = [stem.partition(".")[2] or "A"] * num_residues
    if "atom_chain_names" in arrays:
        for amino_acid, name in zip(owner.tolist(), _texts(path, arrays, "atom_chain_names"), strict=True):
            if amino_acid >= 0:
                chains[amino_acid] = name
    return chains


def _protein(
    path: Path,
    components: list[str],
    chain_of: list[str],
    owner: np.ndarray,
    names: list[str],
    positions: np.ndarray,
) -> Protein:
    ids = tuple(dict.fromkeys(chain_of))
    chain_index = np.array([ids.index(chain) for chain in chain_of], dtype=np.int32)
    if (np.diff(chain_index) < 0).any():
        raise FormatError(f"{path}: the amino acids of a chain do not stand together")
    unknown = residue_constants.UNKNOWN_RESIDUE
    types = [residue_constants.residue_type_of(name) for name in components]
    residue_type = np.array([unknown if value is None else value for value in types], dtype=np.int8)
    first = np.flatnonzero(np.diff(chain_index, prepend=-1))
    numbers = (np.arange(len(components)) - first[chain_index] + 1).astype(np.int32)

    shape = (len(components), residue_constants.NUM_ATOMS)
    atom_positions, atom_mask = np.zeros((*shape, 3), dtype=np.float32), np.zeros(shape, dtype=bool)
    left_out: Counter[str] = Counter()
    repeated = 0
    for row, name, position in zip(owner.tolist(), names, positions, strict=True):
        component = components[row] if row >= 0 else "other molecule"
        known = residue_constants.ATOM_ALIASES.get((component, name), name)
        column = residue_constants.ATOM_INDEX.get(known) if row >= 0 else None
        if column is None or not residue_constants.ATOM_ALLOWED[residue_type[row], column]:
            left_out[f"{component}:{name}"] += 1
        elif atom_mask[row, column]:
            repeated += 1
        else:
            atom_positions[row, column], atom_mask[row, column] = position, True
    standard = set(residue_constants.RESIDUE_NAMES)
    return Protein(
        residue_type=residue_type,
        atom_positions=atom_positions,
        atom_mask=atom_mask,
        chain_index=chain_index,
        chain_ids=ids,
        label_chain_ids=ids,
        residue_number=numbers,
        label_residue_number=numbers,
        insertion_code=np.full(len(components), " ", dtype="<U1"),
        b_factors=np.zeros(shape, dtype=np.float32),
        source=path.name,
        report=ParseReport(
            file_atoms=len(names),
            modified=dict(Counter(name for name in components if name not in standard)),
            unresolved=int((~atom_mask.any(axis=1)).sum()),
            no_full_sequence=ids,
            repeated_atoms=repeated,
            other_atoms=dict(left_out),
        ),
    )
