"""Synthetic decoys: a native structure, spoilt by a known amount, as PDB files with their scores.

    python -m data_prep.decoys NATIVE --out DIR --count 100 --seed 0

They are no predictions of any method, and every product says so: the TITLE and REMARK of each file, the column
`origin` of `decoys.csv`, and `Protein.source`. Each decoy is spoilt in one of three ways (`METHODS`):

* `torsion`: normal noise on phi and psi of every residue. The chain is rebuilt outward from its middle residue with all
  bond lengths and angles, omega and side-chain torsions as they were. phi of proline stays: its ring fixes it.
* `modes`: a random combination of the slowest modes of an anisotropic network model (Atilgan et al. 2001: springs
  between CA atoms within 15 Å), each with variance 1 / eigenvalue. The modes are those of phi and psi, and the chain is
  rebuilt as above: displacing whole residues along modes of the CA atoms breaks half of the peptide bonds at a GDT-TS
  of 0.6.
* `shift`: stretches of 5 to 20 residues moved as rigid bodies, each shifted and turned in a random direction. They
  break the chain at their ends: `broken_bonds` counts that.

Decoy k depends on the native, the seed and k alone. A wanted GDT-TS is drawn evenly from the method's range, then the
amplitude is found by bisection along the direction that was drawn. The scores are those of the coordinates as written.
"""

import argparse
import csv
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_array, csc_array, csgraph
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from bihf_jax.protein import Protein, StructureError, find_chain_breaks, residue_constants
from bihf_jax.protein.ligands import Ligands
from bihf_jax.protein.quality import Quality, assess, superposed_scores
from bihf_jax.protein.superposition import superpose
from bihf_jax.protein.writing import write_text

ORIGIN = "synthetic decoy"
TABLE = "decoys.csv"
# A network model of fewer residues has too few modes.
MIN_RESIDUES = 20
NUM_MODES = 20
MODE_CUTOFF = 15.0  # Å, Atilgan et al. 2001
# Å² per rad², beside network springs of strength 1; and the least squared displacement of a torsion, to divide by.
_TORSION_SPRING = 10.0
_TORSION_INERTIA = 1e-6
_ZERO_MODE = 1e-6
# Å² per rad²: what a squared turn costs beside a squared misfit when torsions follow a displacement.
_TURN_COST = 10.0
_FOLLOW_STEPS = 6
FRAGMENT_LENGTHS = (5, 20)
FRAGMENT_TURN = 5.0  # degrees for each Å of shift
# Residues in stretches, of those of the native; stretches may overlap.
_SHIFTED_SHARE = (0.3, 1.2)
# Times that the amplitude is halved in on.
_BISECTIONS = 7
_MIN_CLASH_DISTANCE = 3.0  # Å between CA atoms that are no neighbours; cis-proline has 2.9 to its neighbour
_N, _CA, _C, _O, _OXT = (residue_constants.ATOM_INDEX[name] for name in ("N", "CA", "C", "O", "OXT"))
_PROLINE = residue_constants.RESIDUE_TYPE_INDEX["P"]

# Amplitude -> [N, 37, 3] float64 Å; the native's positions at 0.
Deformation = Callable[[float], np.ndarray]
# Generator -> a deformation in a random direction.
Draw = Callable[[np.random.Generator], Deformation]


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to spoil a structure.

    Attributes:
      prepare: native -> what draws a deformation of it.
      unit: of the amplitude.
      largest: amplitude.
      gdt_ts: range of the wanted GDT-TS.
    """

    prepare: Callable[[Protein], Draw]
    unit: str
    largest: float
    gdt_ts: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Decoy:
    """One spoilt structure and where it comes from."""

    protein: Protein  # without ligands; `source` says that it is synthetic
    native: str  # source of the native
    method: str
    amplitude: float
    unit: str
    seed: int
    number: int
    quality: Quality

    @property
    def name(self) -> str:
        """Name of its file."""
        stem = re.sub(r"\.(pdb|ent|cif)(\.gz)?$", "", self.native, flags=re.IGNORECASE)
        return f"{stem}_synthetic_{self.method}_{self.number:05d}.pdb"

    def row(self, broken_in_native: int) -> dict[str, object]:
        """A line of the table; `broken_in_native` chain breaks are no fault of the decoy."""
        rounded = {name: round(value, 4) for name, value in self.quality.scores().items()}
        return {
            **{"file": self.name, "native": self.native, "origin": ORIGIN, "method": self.method},
            **{"amplitude": f"{self.amplitude:.4g}", "unit": self.unit, "seed": self.seed, "number": self.number},
            **{"residues": self.quality.num_native, **rounded},
            "broken_bonds": len(find_chain_breaks(self.protein)) - broken_in_native,
            "ca_clashes": count_clashes(self.protein),
        }

    def to_pdb(self) -> str:
        """PDB text whose TITLE and REMARK say what this is."""
        amplitude = f"{self.amplitude:.4g} {self.unit}"
        remarks = [
            f"{ORIGIN.upper()}: THE COORDINATES ARE THOSE OF A NATIVE STRUCTURE, SPOILT.",
            f"NATIVE {self.native}",
            f"METHOD {self.method}, AMPLITUDE {amplitude}, SEED {self.seed}, NUMBER {self.number}",
            f"GDT-TS TO THE NATIVE {self.quality.gdt_ts:.4f}",
        ]
        title = f"TITLE     {ORIGIN.upper()}, NOT AN EXPERIMENT AND NOT A PREDICTION\n"
        return title + "".join(f"REMARK   6 {line}\n" for line in remarks) + self.protein.to_pdb()


def make_decoys(native: Protein, count: int, seed: int, methods: Sequence[str] | None = None) -> Iterator[Decoy]:
    """`count` decoys, the methods in turn.

    Args:
      native: the structure to spoil, chain by chain in one frame; its ligands are left out.
      count: of decoys.
      seed: of all that is random.
      methods: names in `METHODS`; all where None.

    Raises:
      ValueError: an unknown method, or a negative count or seed.
      StructureError: fewer than `MIN_RESIDUES` residues with a CA.
    """
    methods = list(METHODS) if methods is None else list(methods)
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"unknown method {', '.join(unknown)}; methods: {', '.join(METHODS)}")
    if not methods or count < 0 or seed < 0:
        raise ValueError(f"count={count} and seed={seed} must be at least 0, and methods={methods} not empty")
    num = int(native.atom_mask[:, _CA].sum())
    if num < MIN_RESIDUES:
        raise StructureError(f"{native.source}: {num} residues with a CA, at least {MIN_RESIDUES} are needed")
    native = dataclasses.replace(native, ligands=Ligands.none())
    draw_of = {name: METHODS[name].prepare(native) for name in methods}
    for number in range(count):
        name = methods[number % len(methods)]
        yield _make_decoy(native, name, draw_of[name], seed, number)


def _make_decoy(native: Protein, method: str, draw: Draw, seed: int, number: int) -> Decoy:
    generator = np.random.default_rng([seed, number])
    wanted = generator.uniform(*METHODS[method].gdt_ts)
    deformation = draw(generator)
    amplitude = find_amplitude(native, deformation, METHODS[method].largest, wanted)
    source = f"{ORIGIN} {number} of {native.source} ({method})"
    protein = deformed(native, deformation(amplitude), source)
    unit = METHODS[method].unit
    return Decoy(protein, native.source, method, amplitude, unit, seed, number, assess(protein, native))


def find_amplitude(native: Protein, deformation: Deformation, largest: float, wanted: float) -> float:
    """The amplitude up to `largest` whose GDT-TS is close to `wanted`, taking it to fall as the amplitude grows."""
    has_ca = native.atom_mask[:, _CA]
    native_ca = native.atom_positions[has_ca, _CA]

    def is_better(amplitude: float) -> bool:
        model_ca = deformation(amplitude)[has_ca, _CA]
        return superposed_scores(model_ca, native_ca, len(native_ca))["gdt_ts"] > wanted

    low, high = 0.0, largest
    # Most natives need a small part of the largest amplitude: find its order of magnitude first.
    while high > largest / 64 and not is_better(high / 2):
        high /= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_better(middle) else (low, middle)
    return (low + high) / 2


def deformed(native: Protein, positions: np.ndarray, source: str) -> Protein:
    """The native with these positions [N, 37, 3] Å, rounded to the decimals of a PDB file."""
    positions = np.where(native.atom_mask[..., None], np.round(positions, 3), 0).astype(np.float32)
    return dataclasses.replace(native, atom_positions=positions, source=source)


def count_clashes(protein: Protein) -> int:
    """Pairs of CA atoms closer than 3 Å, of residues that are not neighbours in the array."""
    rows = np.flatnonzero(protein.atom_mask[:, _CA])
    pairs = cKDTree(protein.atom_positions[rows, _CA]).query_pairs(_MIN_CLASH_DISTANCE, output_type="ndarray")
    return int((np.abs(np.diff(rows[pairs], axis=1)) > 1).sum())


# ---------------------------------------------------------------------------------------------------------------------
# Torsion noise
# ---------------------------------------------------------------------------------------------------------------------


def torsion_noise(native: Protein) -> Draw:
    """Normal noise on phi and psi; the amplitude is its standard deviation in degrees."""

    def draw(generator: np.random.Generator) -> Deformation:
        noise = generator.standard_normal((native.num_residues, 2))
        return lambda amplitude: turn_torsions(native, np.deg2rad(amplitude) * noise)

    return draw


def turn_torsions(native: Protein, turns: np.ndarray) -> np.ndarray:
    """Add to phi and psi of every residue; the middle residue of each chain stays where it is.

    Turning phi moves all atoms of the residue but N and CA, and all that follows in the chain; turning psi its O (and
    OXT) and all that follows. So every bond length and angle, omega and every side-chain torsion stays. phi is not
    turned in proline, and neither angle in a residue that lacks N, CA or C.

    Args:
      native: N residues.
      turns: [N, 2] radians, of phi and psi.

    Returns:
      [N, 37, 3] float64 Å.
    """
    positions = native.atom_positions.astype(np.float64)
    turns = np.where(_can_turn(native), turns, 0.0)
    about_phi = _rotations_about(positions[:, _N], positions[:, _CA], turns[:, 0])
    about_psi = _rotations_about(positions[:, _CA], positions[:, _C], turns[:, 1])
    moved = np.zeros_like(positions)
    for chain in range(len(native.chain_ids)):
        rows = np.flatnonzero(native.chain_index == chain)
        moved[rows] = _turn_chain(positions[rows], about_phi[rows], about_psi[rows])
    return moved


def _can_turn(native: Protein) -> np.ndarray:
    """[N, 2] bool: phi and psi that may be turned."""
    complete = native.atom_mask[:, [_N, _CA, _C]].all(axis=1)
    return np.stack([complete & (native.residue_type != _PROLINE), complete], axis=1)


def _turn_chain(positions: np.ndarray, about_phi: np.ndarray, about_psi: np.ndarray) -> np.ndarray:
    """Positions [n, 37, 3] of one chain after its turns, as motions [n, 4, 4] about the axes where they lie now.

    A turn about an axis that has been moved by T is T after the turn about the axis as it lies, so the motion of what
    follows is the product of all turns before it.
    """
    arriving, after_phi = np.empty_like(about_phi), np.empty_like(about_phi)
    motion = np.eye(4)
    for row in range(len(positions)):
        arriving[row] = motion
        after_phi[row] = arriving[row] @ about_phi[row]
        motion = after_phi[row] @ about_psi[row]
    after_psi = after_phi @ about_psi
    # One motion for each atom: N and CA come as they arrive, O and OXT after both turns, all others after phi.
    of_atom = np.repeat(after_phi[:, None], residue_constants.NUM_ATOMS, axis=1)
    of_atom[:, [_N, _CA]] = arriving[:, None]
    of_atom[:, [_O, _OXT]] = after_psi[:, None]
    of_atom = np.linalg.inv(arriving[len(arriving) // 2]) @ of_atom
    return (of_atom[..., :3, :3] @ positions[..., None])[..., 0] + of_atom[..., :3, 3]


def _rotations_about(start: np.ndarray, end: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Motions [n, 4, 4] that turn by an angle [n] about the axes from `start` to `end` [n, 3]; no turn at angle 0."""
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    axis = (end - start) / np.where(length > 0, length, 1.0)
    motion = np.tile(np.eye(4), (len(angle), 1, 1))
    motion[:, :3, :3] = Rotation.from_rotvec(angle[:, None] * axis).as_matrix()
    motion[:, :3, 3] = start - (motion[:, :3, :3] @ start[..., None])[..., 0]
    return motion


# ---------------------------------------------------------------------------------------------------------------------
# Network modes
# ---------------------------------------------------------------------------------------------------------------------


def mode_noise(native: Protein) -> Draw:
    """Slow modes of a network model; the amplitude is the root mean square displacement of the CA atoms in Å.

    That is the displacement that is asked for; bond lengths and angles let phi and psi follow it nearly.
    """
    eigenvalues, modes = torsion_modes(native)
    if not len(eigenvalues):
        raise StructureError(f"{native.source}: no internal motion, its CA atoms are too far apart; leave out 'modes'")

    def draw(generator: np.random.Generator) -> Deformation:
        coefficients = generator.standard_normal(len(eigenvalues)) / np.sqrt(eigenvalues)
        direction = np.einsum("k,knd->nd", coefficients, modes)
        direction /= np.sqrt((direction**2).sum(axis=1).mean())
        return lambda amplitude: follow(native, amplitude * direction)

    return draw


def follow(native: Protein, displacement: np.ndarray) -> np.ndarray:
    """Turn phi and psi so that the CA atoms go where they are displaced to, as nearly as bonds and angles allow.

    In `_FOLLOW_STEPS` equal steps, each a damped least-squares fit of the turns to what is left of the way.

    Args:
      native: N residues, n of them with a CA.
      displacement: [n, 3] Å.

    Returns:
      [N, 37, 3] float64 Å.
    """
    has_ca = native.atom_mask[:, _CA]
    start = native.atom_positions[has_ca, _CA].astype(np.float64)
    positions = native.atom_positions.astype(np.float64)
    turns = np.zeros((native.num_residues, 2))
    for step in range(1, _FOLLOW_STEPS + 1):
        target = start + displacement * step / _FOLLOW_STEPS
        derivative = _ca_derivative(native, positions)
        squares = derivative.T @ derivative + _TURN_COST * np.eye(derivative.shape[1])
        change = np.linalg.solve(squares, derivative.T @ (target - positions[has_ca, _CA]).ravel())
        turns += change[: turns.size].reshape(turns.shape)
        positions = _lay_chains(native, turn_torsions(native, turns), target)
    return positions


def _lay_chains(native: Protein, positions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Positions [N, 37, 3] with each chain superposed, as a rigid body, on where its CA atoms should be [n, 3]."""
    laid = positions.copy()
    has_ca = native.atom_mask[:, _CA]
    for chain in range(len(native.chain_ids)):
        mine = native.chain_index == chain
        of_target = mine[has_ca]
        if of_target.any():
            laid[mine] = superpose(positions[mine & has_ca, _CA], target[of_target]).apply(positions[mine])
    return laid


def torsion_modes(native: Protein) -> tuple[np.ndarray, np.ndarray]:
    """The slowest internal modes of an anisotropic network model in which only phi, psi and whole chains move.

    With the Hessian H of the network, and the derivative J of the CA positions by phi, psi and the motions of each
    chain as a whole, the modes v solve (J' H J + k) v = w J' J v: those of Atilgan et al. (2001) held to fixed bond
    lengths and angles (Noguti and Go 1983; Levitt, Sander and Stern 1985). k is a weak spring at each torsion: without
    it, turning a peptide plane about its CA atoms, which displaces none of them, would cost nothing.

    Returns:
      eigenvalues [k] in units of the spring constant, rising; displacements [k, n, 3] of the n CA atoms, orthonormal.
      Motions of the whole, and of parts that no spring joins, against each other are left out.
    """
    ca = native.atom_positions[native.atom_mask[:, _CA], _CA].astype(np.float64)
    hessian, num_parts = network_hessian(ca)
    derivative = _ca_derivative(native, native.atom_positions.astype(np.float64))
    is_torsion = np.arange(derivative.shape[1]) < 2 * native.num_residues
    moves = np.linalg.norm(derivative, axis=0) > 0  # not phi of proline, or psi of the last residue
    derivative, is_torsion = derivative[:, moves], is_torsion[moves]
    stiffness = derivative.T @ (hessian @ derivative) + np.diag(_TORSION_SPRING * is_torsion)
    inertia = derivative.T @ derivative + _TORSION_INERTIA * np.eye(len(stiffness))
    last = min(6 * num_parts + NUM_MODES, len(stiffness)) - 1
    eigenvalues, vectors = eigh(stiffness, inertia, subset_by_index=[0, last])
    internal = eigenvalues > _ZERO_MODE
    return eigenvalues[internal], (derivative @ vectors[:, internal]).T.reshape(-1, len(ca), 3)


def network_hessian(ca: np.ndarray) -> tuple[csc_array, int]:
    """Springs of strength 1 between CA atoms [n, 3] Å within `MODE_CUTOFF` (Atilgan et al. 2001, equations 5-9).

    Returns:
      [3 n, 3 n], sparse; and the number of parts that no spring joins.
    """
    num = len(ca)
    first, second = cKDTree(ca).query_pairs(MODE_CUTOFF, output_type="ndarray").T
    along = ca[second] - ca[first]
    springs = along[:, :, None] * along[:, None, :] / (along**2).sum(axis=1)[:, None, None]  # [pairs, 3, 3]
    # The block of a pair is minus its spring; that of a residue is the sum of its springs.
    row = np.concatenate([first, second, first, second])
    column = np.concatenate([second, first, first, second])
    blocks = np.concatenate([-springs, -springs, springs, springs])
    axes = np.arange(3)
    rows = np.broadcast_to((3 * row[:, None] + axes)[:, :, None], blocks.shape)
    columns = np.broadcast_to((3 * column[:, None] + axes)[:, None, :], blocks.shape)
    hessian = coo_array((blocks.ravel(), (rows.ravel(), columns.ravel())), shape=(3 * num, 3 * num)).tocsc()
    joined = coo_array((np.ones(len(first)), (first, second)), shape=(num, num))
    return hessian, csgraph.connected_components(joined, directed=False, return_labels=False)


def _ca_derivative(native: Protein, positions: np.ndarray) -> np.ndarray:
    """How the n CA atoms at `positions` [N, 37, 3] move: [3 n, 2 N + 6 chains].

    The columns are phi and psi of each residue, then turns and shifts of each chain as a whole. Torsions are counted
    from the first residue of a chain: a turn moves the CA atoms of the chain after its own residue.
    """
    chains, num = native.chain_index, native.num_residues
    places = np.flatnonzero(native.atom_mask[:, _CA])
    ca = positions[places, _CA]
    start, end = positions[:, [_N, _CA]], positions[:, [_CA, _C]]  # [N, 2, 3]: of the axes of phi and psi
    length = np.linalg.norm(end - start, axis=-1, keepdims=True)
    turnable = _can_turn(native)[..., None] & (length > 0)
    axis = np.where(turnable, (end - start) / np.where(turnable, length, 1.0), 0.0)
    derivative = np.zeros((len(ca), 3, 2 * num + 6 * len(native.chain_ids)))
    for chain in range(len(native.chain_ids)):
        mine, rows = np.flatnonzero(chains[places] == chain), np.flatnonzero(chains == chain)
        if len(mine):
            motion = np.cross(axis[rows], ca[mine, None, None] - start[rows])  # [m, r, 2, 3]
            motion[places[mine, None] <= rows] = 0.0
            turned = np.cross(np.eye(3), (ca[mine] - ca[mine].mean(axis=0))[:, None])  # [m, axis, 3]
            shifted = np.broadcast_to(np.eye(3), turned.shape)
            motions = np.concatenate([motion.reshape(len(mine), -1, 3), turned, shifted], axis=1)
            columns = [*(2 * rows[:, None] + [0, 1]).ravel(), *(2 * num + 6 * chain + np.arange(6))]
            derivative[np.ix_(mine, range(3), columns)] = np.moveaxis(motions, -1, 1)
    return derivative.reshape(3 * len(ca), -1)


# ---------------------------------------------------------------------------------------------------------------------
# Fragment shifts
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Shift:
    rows: np.ndarray  # [m] residues, consecutive ones of a chain
    direction: np.ndarray  # [3] of length 1
    axis: np.ndarray  # [3] of length 1


def fragment_shift(native: Protein) -> Draw:
    """Stretches of the chain moved as rigid bodies; the amplitude is the shift of each in Å."""

    def draw(generator: np.random.Generator) -> Deformation:
        shifts = []
        wanted = generator.uniform(*_SHIFTED_SHARE) * native.num_residues
        while sum(len(shift.rows) for shift in shifts) < wanted:
            shifts.append(_draw_shift(native.chain_index, generator))
        return lambda amplitude: _apply_shifts(native, shifts, amplitude)

    return draw


def _draw_shift(chain_index: np.ndarray, generator: np.random.Generator) -> _Shift:
    start = generator.integers(len(chain_index))
    length = generator.integers(*FRAGMENT_LENGTHS, endpoint=True)
    end = np.searchsorted(chain_index, chain_index[start], side="right")  # of the chain; chains are contiguous and rise
    direction, axis = generator.standard_normal((2, 3))
    return _Shift(
        np.arange(start, min(start + length, end)), direction / np.linalg.norm(direction), axis / np.linalg.norm(axis)
    )


def _apply_shifts(native: Protein, shifts: Sequence[_Shift], amplitude: float) -> np.ndarray:
    positions = native.atom_positions.astype(np.float64)
    for shift in shifts:
        centre = positions[shift.rows][native.atom_mask[shift.rows]].reshape(-1, 3)
        if len(centre):  # else nothing of it is resolved
            centre = centre.mean(axis=0)
            turn = Rotation.from_rotvec(np.deg2rad(FRAGMENT_TURN * amplitude) * shift.axis).as_matrix()
            positions[shift.rows] = (positions[shift.rows] - centre) @ turn.T + centre + amplitude * shift.direction
    return positions


# Name -> method, in the order in which decoys take turns.
METHODS: dict[str, Method] = {
    "torsion": Method(torsion_noise, "degrees", 60.0, (0.2, 1.0)),
    "modes": Method(mode_noise, "angstrom", 30.0, (0.2, 1.0)),
    "shift": Method(fragment_shift, "angstrom", 15.0, (0.35, 1.0)),
}


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.decoys", description="Synthetic decoys of a native structure, with their scores."
    )
    parser.add_argument("native", type=Path, help="a structure file (.pdb, .ent, .cif, also .gz)")
    parser.add_argument("--out", type=Path, required=True, help=f"new folder for the PDB files and {TABLE}")
    parser.add_argument("--count", type=int, default=100, help="decoys (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default %(default)s)")
    parser.add_argument("--methods", default=",".join(METHODS), help="taken in turn (default %(default)s)")
    parser.add_argument("--chains", help="author ids joined by '+'; all protein chains where absent")
    args = parser.parse_args(argv)
    try:
        chains = args.chains.split("+") if args.chains else None
        native = Protein.from_file(args.native, chains=chains)
        written = write_decoys(native, args.out, args.count, args.seed, args.methods.split(","))
    except (OSError, ValueError) as error:
        print(f"data_prep.decoys: {error}", file=sys.stderr)
        return 1
    print(f"{written} synthetic decoys of {native.source} in {args.out}, scores in {args.out / TABLE}")
    if native.ligands.num_molecules:
        print(f"{native.ligands.num_molecules} ligands of the native are left out")
    return 0


def write_decoys(native: Protein, out: Path, count: int, seed: int, methods: Sequence[str]) -> int:
    """Write decoys and their table into a new folder; returns how many.

    Raises:
      FileExistsError: the folder holds something.
      ValueError: as `make_decoys`; also where a PDB file cannot hold the native.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"--out {out} is there and not an empty folder; choose another")
    native.to_pdb()  # refuses what no PDB file can hold, before any work
    broken = len(find_chain_breaks(native))
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for decoy in tqdm(make_decoys(native, count, seed, methods), total=count, unit=" decoys", disable=None):
        write_text(out / decoy.name, decoy.to_pdb())
        rows.append(decoy.row(broken))
    with open(out / TABLE, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["file"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


if __name__ == "__main__":
    sys.exit(main())
