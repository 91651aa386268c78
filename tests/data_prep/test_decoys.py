"""Synthetic decoys: what each method must keep, how the amplitude acts, and what is written."""

import csv
import dataclasses

import numpy as np
import pytest

from bihf_jax.protein import Protein, StructureError, assess, backbone, find_chain_breaks, torsions
from bihf_jax.protein.geometry import TORSIONS, dihedral, virtual_cb
from bihf_jax.protein.ligands import Ligands
from data_prep import decoys
from tests.protein.conftest import SAMPLE

N, CA, C, O, CB = range(5)  # noqa: E741 - the names of atoms
# Å; what rounding to the three decimals of a PDB file does to a distance.
ROUNDING = 0.002


@pytest.fixture(scope="module")
def native() -> Protein:
    """Two chains, breaks and unresolved residues included."""
    protein = Protein.from_file(SAMPLE / "structures" / "1acb.pdb.gz")
    return dataclasses.replace(protein, ligands=Ligands.none())


def deform(native, method, amplitude, seed=0) -> Protein:
    deformation = decoys.METHODS[method].prepare(native)(np.random.default_rng(seed))
    return decoys.deformed(native, deformation(amplitude), "decoy")


def _bond_lengths(protein: Protein) -> dict[str, np.ndarray]:
    """Bonds of the backbone and CB by name, Å; NaN where an atom is missing. C-N leaves out breaks of the chain."""
    positions, mask = backbone(protein)
    positions = np.where(mask[..., None], positions.astype(float), np.nan)
    bonds = {"N-CA": (N, CA), "CA-C": (CA, C), "C-O": (C, O), "CA-CB": (CA, CB)}
    lengths = {name: np.linalg.norm(positions[:, a] - positions[:, b], axis=1) for name, (a, b) in bonds.items()}
    lengths["C-N"] = np.linalg.norm(positions[:-1, C] - positions[1:, N], axis=1)
    return lengths


def _angles(protein: Protein) -> np.ndarray:
    """[N, 7] torsions, NaN where masked."""
    angles, mask = torsions(protein)
    return np.where(mask, angles, np.nan)


def _turned(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|first - second| of angles in radians, in 0 to pi; 0 where either is not defined."""
    return np.nan_to_num(np.abs(np.angle(np.exp(1j * (first - second)))))


@pytest.mark.parametrize("method", decoys.METHODS)
def test_amplitude_zero_is_the_native(native, method):
    """Every coordinate is the native's, bit for bit."""
    np.testing.assert_array_equal(deform(native, method, 0.0).atom_positions, native.atom_positions)


@pytest.mark.parametrize(("method", "amplitude"), [("torsion", 15.0), ("modes", 5.0)])
def test_rebuilt_chains_keep_bonds_omega_and_side_chains(native, method, amplitude):
    """All bond lengths, omega and chi stay to the rounding of the file; phi of proline stays; others change."""
    decoy = deform(native, method, amplitude)
    before, after = _bond_lengths(native), _bond_lengths(decoy)
    unbroken = np.setdiff1d(np.arange(native.num_residues - 1), find_chain_breaks(native))
    unbroken = unbroken[native.chain_index[unbroken] == native.chain_index[unbroken + 1]]
    for name in before:
        rows = unbroken if name == "C-N" else slice(None)
        np.testing.assert_allclose(after[name][rows], before[name][rows], atol=ROUNDING, err_msg=name)
    turned = _turned(_angles(decoy), _angles(native))
    assert turned[:, 2:].max() < 0.01
    proline = native.residue_type == "ARNDCQEGHILKMFPSTWYV".index("P")
    assert turned[proline, TORSIONS.index("phi")].max() < 0.01
    assert turned[:, :2].max() > np.deg2rad(5)


def test_torsions_turn_by_what_was_asked(native):
    """phi and psi change by the given turns, with the sign of IUPAC, wherever they can."""
    turns = np.deg2rad(20) * np.random.default_rng(0).standard_normal((native.num_residues, 2))
    decoy = decoys.deformed(native, decoys.turn_torsions(native, turns), "decoy")
    change = _angles(decoy)[:, :2] - _angles(native)[:, :2]
    turns[native.residue_type == "ARNDCQEGHILKMFPSTWYV".index("P"), 0] = 0
    defined = ~np.isnan(change)
    assert _turned(change, turns)[defined].max() < 0.01
    assert defined.mean() > 0.9


@pytest.mark.parametrize(("method", "amplitude"), [("torsion", 40.0), ("modes", 10.0), ("shift", 12.0)])
def test_residues_keep_their_hand(native, method, amplitude):
    """Every CB stays on the side of an L-amino acid, near the ideal CB, as far as it is in the native."""
    decoy = deform(native, method, amplitude)
    has_cb = native.atom_mask[:, [0, 1, 2, 3]].all(axis=1)  # N, CA, C, CB in the order of ATOM_NAMES
    distance = []
    for protein in (native, decoy):
        positions = backbone(protein)[0][has_cb].astype(float)
        ideal = virtual_cb(positions[:, N], positions[:, CA], positions[:, C])
        distance.append(np.linalg.norm(positions[:, CB] - ideal, axis=1))
        # The improper torsion N, C, CB about CA is about +34 degrees in an L-amino acid and negative in a D.
        improper = dihedral(*(positions[:, atom] for atom in (CA, N, C, CB)))
        assert (improper > 0).all()
    np.testing.assert_allclose(distance[1], distance[0], atol=3 * ROUNDING)


def test_shifted_fragments_are_rigid_and_break_the_chain_at_their_ends(native):
    """Bonds inside residues stay; few peptide bonds break, and each break is new."""
    decoy = deform(native, "shift", 10.0)
    before, after = _bond_lengths(native), _bond_lengths(decoy)
    for name in ("N-CA", "CA-C", "C-O", "CA-CB"):
        np.testing.assert_allclose(after[name], before[name], atol=ROUNDING, err_msg=name)
    broken = np.setdiff1d(find_chain_breaks(decoy), find_chain_breaks(native))
    # At most 2 a fragment; at least 5 residues are in each but the one at the end of a chain.
    assert 2 <= len(broken) <= 2 * native.num_residues / 5


@pytest.mark.parametrize("method", decoys.METHODS)
def test_more_amplitude_is_worse_on_average(native, method):
    """Mean GDT-TS and lDDT over three directions fall, and mean RMSD grows, with the amplitude."""
    amplitudes = np.array([0.005, 0.05, 0.5]) * decoys.METHODS[method].largest
    scores = np.array(
        [
            [
                (quality.gdt_ts, quality.lddt, -quality.ca_rmsd)
                for seed in range(3)
                for quality in [assess(deform(native, method, amplitude, seed), native)]
            ]
            for amplitude in amplitudes
        ]
    ).mean(axis=1)
    assert (np.diff(scores, axis=0) < 0).all()
    assert scores[0, 0] > 0.7


def test_the_network_is_that_of_its_springs(native):
    """A displacement costs the sum over the springs of its squared change of length; motions of the whole are free."""
    ca = native.atom_positions[native.atom_mask[:, 1], 1].astype(float)[:60]
    hessian, num_parts = decoys.network_hessian(ca)
    displacement = np.random.default_rng(0).normal(size=ca.shape)
    first, second = np.triu_indices(len(ca), 1)
    along = ca[first] - ca[second]
    joined = np.linalg.norm(along, axis=1) <= decoys.MODE_CUTOFF
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    stretch = ((displacement[first] - displacement[second]) * along).sum(axis=1)
    assert displacement.ravel() @ (hessian @ displacement.ravel()) == pytest.approx((stretch[joined] ** 2).sum())
    for axis in np.eye(3):
        for whole in (np.tile(axis, len(ca)), np.cross(axis, ca).ravel()):
            assert np.abs(hessian @ whole).max() < 1e-9 * np.linalg.norm(whole)
    assert num_parts == 1
    assert decoys.network_hessian(np.concatenate([ca, ca + 500]))[1] == 2


def test_modes_are_orthogonal_slowest_first_and_internal(native):
    """Displacements are orthonormal and hold no motion of the whole; eigenvalues rise."""
    eigenvalues, modes = decoys.torsion_modes(native)
    flat = modes.reshape(len(modes), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(decoys.NUM_MODES), atol=1e-3)
    assert (np.diff(eigenvalues) >= 0).all()
    ca = native.atom_positions[native.atom_mask[:, 1], 1].astype(float)
    for axis in np.eye(3):
        for whole in (np.tile(axis, len(ca)), np.cross(axis, ca - ca.mean(axis=0)).ravel()):
            assert np.abs(flat @ whole).max() < 1e-4 * np.linalg.norm(whole)


@pytest.mark.parametrize(("amplitude", "share"), [(0.01, 0.95), (3.0, 0.7)])
def test_torsions_follow_a_mode(native, amplitude, share):
    """Turning phi and psi alone moves the CA atoms as the slowest mode does: nearly all of the squared way is covered.

    So the derivative by the torsions is that of the rebuilding.
    """
    has_ca = native.atom_mask[:, 1]
    displacement = decoys.torsion_modes(native)[1][0]
    displacement = amplitude * displacement * np.sqrt(has_ca.sum())
    misfit = decoys.follow(native, displacement)[has_ca, 1] - native.atom_positions[has_ca, 1] - displacement
    assert (misfit**2).sum() < (1 - share) * (displacement**2).sum()


def test_the_command_writes_labelled_decoys_that_the_seed_reproduces(tmp_path, capsys):
    """Files say that they are synthetic, the table has the scores of the files as read, and a second run is equal."""
    source = SAMPLE / "parser" / "5PTI.cif.gz"
    arguments = [str(source), "--count", "6", "--seed", "3"]
    for name in ("first", "again"):
        assert decoys.main([*arguments, "--out", str(tmp_path / name)]) == 0
    assert "6 synthetic decoys of 5PTI.cif.gz" in capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    with open(tmp_path / "first" / decoys.TABLE, newline="") as table:
        rows = list(csv.DictReader(table))
    native = Protein.from_file(source)
    assert [row["method"] for row in rows] == ["torsion", "modes", "shift"] * 2
    for row in rows:
        text = (tmp_path / "first" / row["file"]).read_text()
        assert text.startswith("TITLE     SYNTHETIC DECOY")
        assert "REMARK   6 NATIVE 5PTI.cif.gz" in text
        assert "synthetic" in row["file"]
        assert row["origin"] == "synthetic decoy"
        quality = assess(Protein.from_file(tmp_path / "first" / row["file"]), native)
        assert quality.gdt_ts == pytest.approx(float(row["gdt_ts"]), abs=1e-4)
        assert quality.lddt == pytest.approx(float(row["lddt"]), abs=1e-4)
        assert int(row["broken_bonds"]) == 0 or row["method"] == "shift"


def test_gdt_spreads_and_a_decoy_does_not_depend_on_the_count():
    """Over 30 decoys GDT-TS reaches from below 0.45 to above 0.85; decoy 4 is the same among 5 as among 30."""
    native = Protein.from_file(SAMPLE / "parser" / "5PTI.cif.gz")
    made = list(decoys.make_decoys(native, 30, seed=1))
    gdt_ts = np.array([decoy.quality.gdt_ts for decoy in made])
    assert gdt_ts.min() < 0.45
    assert gdt_ts.max() > 0.85
    assert np.diff(np.sort(gdt_ts)).max() < 0.2
    again = list(decoys.make_decoys(native, 5, seed=1))[4]
    np.testing.assert_array_equal(again.protein.atom_positions, made[4].protein.atom_positions)
    other = next(decoys.make_decoys(native, 1, seed=2))
    assert not np.array_equal(other.protein.atom_positions, made[0].protein.atom_positions)
    assert all("synthetic decoy" in decoy.protein.source for decoy in made)


def test_bad_input_is_refused(native, tmp_path, capsys):
    """Unknown methods, negative counts, tiny natives and folders in use are named."""
    with pytest.raises(ValueError, match="unknown method melt; methods: torsion, modes, shift"):
        next(decoys.make_decoys(native, 1, 0, ["melt"]))
    with pytest.raises(ValueError, match="count=-1"):
        next(decoys.make_decoys(native, -1, 0))
    tiny = dataclasses.replace(native, atom_mask=native.atom_mask & (np.arange(native.num_residues) < 10)[:, None])
    with pytest.raises(StructureError, match="10 residues with a CA, at least 20"):
        next(decoys.make_decoys(tiny, 1, 0))
    (tmp_path / "used").write_text("")
    assert decoys.main([str(SAMPLE / "parser" / "5PTI.cif.gz"), "--out", str(tmp_path), "--count", "1"]) == 1
    assert "not an empty folder" in capsys.readouterr().err
