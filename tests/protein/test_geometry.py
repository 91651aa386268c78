"""Backbone, torsions and breaks against gemmi and against the internal coordinates that made a chain."""

import dataclasses
import gzip

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bihf_jax.protein import Protein, backbone, find_chain_breaks, residue_constants, torsions
from bihf_jax.protein.geometry import TORSIONS, TWIN_TORSIONS, virtual_cb
from tests.protein.conftest import sample_files
from tests.protein.synthetic import chain_of, pdb_text, peptide, random_angles

SEQUENCE = "ACDEFGHIKLMNPQRSTVWY"


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Difference of angles, in -pi to pi."""
    return np.angle(np.exp(1j * (a - b)))


def _without_twins(angles: np.ndarray, protein: Protein) -> np.ndarray:
    """The angles [N, 7], those of twins between -pi/2 and pi/2."""
    angles = angles.copy()
    for letter, name in TWIN_TORSIONS.items():
        of_type = (protein.residue_type == residue_constants.RESIDUE_TYPE_INDEX[letter], TORSIONS.index(name))
        angles[of_type] = np.arctan(np.tan(angles[of_type]))
    return angles


def _moved(protein: Protein, matrix: np.ndarray, shift=(0.0, 0.0, 0.0)) -> Protein:
    positions = (protein.atom_positions @ matrix.T + shift) * protein.atom_mask[..., None]
    return dataclasses.replace(protein, atom_positions=positions.astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_torsions_are_those_that_built_the_chain(write, seed):
    """A chain made from phi, psi, omega and chi1-4 gives them back (to the 0.001 Å of PDB text)."""
    angles = random_angles(len(SEQUENCE), seed)
    protein = Protein.from_file(write(pdb_text(peptide(SEQUENCE, angles))))
    found, mask = torsions(protein)
    angles = _without_twins(angles, protein)
    assert found.dtype == np.float32
    assert found.shape == mask.shape == (20, 7)
    assert np.abs(_difference(found, angles)[mask]).max() < 5e-3
    expected = np.zeros((20, 7), dtype=bool)
    expected[1:, [0, 2]] = expected[:-1, 1] = True
    for i, letter in enumerate(SEQUENCE):
        expected[i, 3 : 3 + len(residue_constants.CHI_ATOMS[letter])] = True
    np.testing.assert_array_equal(mask, expected)
    assert (found[~mask] == 0).all()


def test_rotation_keeps_torsions_and_a_mirror_turns_their_sign(write):
    """Torsions do not see where a chain lies, but which hand it has."""
    protein = Protein.from_file(write(pdb_text(chain_of(SEQUENCE))))
    angles, mask = torsions(protein)
    turned, _ = torsions(_moved(protein, Rotation.random(rng=0).as_matrix(), (10.0, -20.0, 5.0)))
    mirrored, _ = torsions(_moved(protein, np.diag([1.0, 1.0, -1.0])))
    assert np.abs(_difference(turned, angles)[mask]).max() < 1e-3
    assert np.abs(_difference(mirrored, -angles)[mask]).max() < 1e-4


def _gemmi_torsions(path, protein: Protein) -> tuple[np.ndarray, np.ndarray]:
    """phi, psi, omega and chi by gemmi's functions on the residues that we kept; NaN where gemmi has none."""
    structure = gemmi.read_structure(str(path))
    structure.remove_alternative_conformations()
    residues = {(c.name, r.seqid.num, r.seqid.icode, r.name): r for c in structure[0] for r in c}
    by_position = {key[:3]: residue for key, residue in residues.items()}
    angles = np.full((protein.num_residues, 7), np.nan)
    keys = [
        (protein.chain_ids[c], int(n), str(i))
        for c, n, i in zip(protein.chain_index, protein.residue_number, protein.insertion_code, strict=True)
    ]
    for i, key in enumerate(keys):
        residue = by_position.get(key)
        if residue is None:
            continue
        before = by_position.get(keys[i - 1]) if i and keys[i - 1][0] == key[0] else None
        after = by_position.get(keys[i + 1]) if i + 1 < len(keys) and keys[i + 1][0] == key[0] else None
        angles[i, :2] = gemmi.calculate_phi_psi(before, residue, after)
        if before is not None:
            angles[i, 2] = gemmi.calculate_omega(before, residue)
        letter = residue_constants.RESIDUE_TYPES[protein.residue_type[i]]
        for chi, names in enumerate(residue_constants.CHI_ATOMS[letter]):
            if all(name in residue for name in names):
                angles[i, 3 + chi] = gemmi.calculate_dihedral(*(residue[name][0].pos for name in names))
    return angles, np.isfinite(angles)


def _assert_equal_to_gemmi(path) -> int:
    protein = Protein.from_file(path)
    angles, mask = torsions(protein)
    expected, exists = _gemmi_torsions(path, protein)
    expected = _without_twins(expected, protein)
    both = mask & exists
    assert np.abs(_difference(angles, expected)[both]).max() < 2e-3, path.name
    # We have no angle that gemmi has not, but for modified residues whose atoms have our names.
    ordinary = ~np.isin(np.arange(protein.num_residues), np.flatnonzero(~protein.atom_mask.any(axis=1)))
    if not protein.report.modified:
        assert not (mask & ~exists)[ordinary].any(), path.name
        assert not (exists & ~mask)[:, 3:].any(), path.name
    return int(both.sum())


def test_torsions_equal_gemmi_on_the_sample():
    """phi, psi, omega and chi of real chains of the embedded sample are those of gemmi."""
    files = [path for path in sample_files() if "parser" not in path.parts][:24]
    if not files:
        pytest.skip("the embedded sample is not there")
    # Where atoms have alternates gemmi keeps the first, and we keep the most occupied.
    files = [path for path in files if not Protein.from_file(path).report.altloc_atoms]
    assert sum(map(_assert_equal_to_gemmi, files)) > 5000


def test_the_names_of_twin_atoms_do_not_matter(write):
    """With OD1 and OD2, OE1 and OE2, CD1 and CD2 exchanged, all torsions are the same."""
    text = pdb_text(chain_of("DEFY", seed=5))
    protein = Protein.from_file(write(text))
    positions, mask = protein.atom_positions.copy(), protein.atom_mask.copy()
    twins = {"D": ("OD1", "OD2"), "E": ("OE1", "OE2"), "F": ("CD1", "CD2"), "Y": ("CD1", "CD2")}
    for i, letter in enumerate("DEFY"):
        first, second = (residue_constants.ATOM_INDEX[name] for name in twins[letter])
        axis = {"D": ("CB", "CG"), "E": ("CG", "CD"), "F": ("CB", "CG"), "Y": ("CB", "CG")}[letter]
        start, end = (positions[i, residue_constants.ATOM_INDEX[name]].astype(float) for name in axis)
        direction = (end - start) / np.linalg.norm(end - start)
        turn = Rotation.from_rotvec(np.pi * direction).as_matrix()
        positions[i, second] = turn @ (positions[i, first] - end) + end  # the twin lies half a turn from the first
        mask[i, second] = True
    both = dataclasses.replace(protein, atom_positions=positions.copy(), atom_mask=mask)
    for i, letter in enumerate("DEFY"):
        pair = [residue_constants.ATOM_INDEX[name] for name in twins[letter]]
        positions[i, pair] = positions[i, pair[::-1]]
    exchanged = dataclasses.replace(both, atom_positions=positions)
    np.testing.assert_allclose(torsions(exchanged)[0], torsions(both)[0], atol=1e-4)


@pytest.mark.shared_data
def test_torsions_equal_gemmi_on_shared_structures(shared_data):
    """The same on 30 structures of Docking Benchmark 5.5."""
    folder = shared_data / "common/equidock_public/data/benchmark5.5/structures"
    files = [path for path in sorted(folder.glob("*.pdb.gz"))[::36] if not Protein.from_file(path).report.old_columns]
    assert sum(map(_assert_equal_to_gemmi, files)) > 25_000


def test_virtual_cb_of_glycine_and_of_a_missing_cb(write):
    """The ideal CB lies within 0.1 Å of where the real one was, on the right side, for both causes of its absence."""
    text = pdb_text(chain_of(SEQUENCE))
    real, _ = backbone(Protein.from_file(write(text)))
    without = "".join(line for line in text.splitlines(keepends=True) if line[12:16].strip() != "CB")
    protein = Protein.from_file(write(without))
    ideal, mask = backbone(protein)
    assert mask.all()
    assert ideal.dtype == np.float32
    assert np.linalg.norm(ideal[:, 4] - real[:, 4], axis=-1).max() < 0.1
    np.testing.assert_array_equal(ideal[:, :4], protein.atom_positions[:, [0, 1, 2, 4]])
    mirrored, _ = backbone(_moved(protein, np.diag([1.0, 1.0, -1.0])))
    assert np.linalg.norm(mirrored[:, 4] * [1, 1, -1] - real[:, 4], axis=-1).min() > 1.0


@pytest.mark.shared_data
def test_virtual_cb_is_near_the_real_one(shared_data):
    """In a real structure the ideal CB is a tenth of an Å from the real one in the median."""
    path = shared_data / "common/equidock_public/data/benchmark5.5/structures/1AKJ_r_b.pdb.gz"
    protein = Protein.from_file(path)
    has = protein.atom_mask[:, :4].all(axis=1)
    n, ca, c, cb = np.moveaxis(protein.atom_positions[has, :4], 1, 0)
    assert np.median(np.linalg.norm(virtual_cb(n, ca, c) - cb, axis=-1)) < 0.1


def test_missing_atoms_mask_what_needs_them(write):
    """Without its CA a residue has no virtual CB, no phi and psi, and its neighbours keep the angles not needing it."""
    text = pdb_text(chain_of("AGASA"))
    without = "".join(
        line for line in text.splitlines(keepends=True) if not (line[12:16].strip() == "CA" and line[22:26] == "   2")
    )
    protein = Protein.from_file(write(without))
    positions, mask = backbone(protein)
    np.testing.assert_array_equal(mask[1], [True, False, True, True, False])
    assert (positions[~mask] == 0).all()
    _, exists = torsions(protein)
    np.testing.assert_array_equal(exists[:, 0], [False, False, True, True, True])
    np.testing.assert_array_equal(exists[:, 1], [True, False, True, True, False])
    np.testing.assert_array_equal(exists[:, 2], [False, False, False, True, True])


def test_chain_breaks_are_found_and_mask_the_torsions_across(write):
    """A gap in the middle and the end of a chain have no torsion across them; only the gap is a break."""
    first = chain_of("AAAA", "A", seed=1)
    second = chain_of("AAA", "A", seed=2, first_number=20, shift=(30.0, 0, 0))
    third = chain_of("AAA", "B", seed=3, shift=(60.0, 0, 0))
    protein = Protein.from_file(write(pdb_text(first + second, third)))
    np.testing.assert_array_equal(find_chain_breaks(protein), [3])
    _, mask = torsions(protein)
    np.testing.assert_array_equal(np.flatnonzero(~mask[:, 0]), [0, 4, 7])
    np.testing.assert_array_equal(np.flatnonzero(~mask[:, 1]), [3, 6, 9])
    np.testing.assert_array_equal(mask[:, 2], mask[:, 0])


def test_unresolved_residues_have_no_geometry(write):
    """A slot without atoms is masked and zero in backbone and torsions, and a break on both sides."""
    text = "".join(
        line
        for line in pdb_text(chain_of("ASASA")).splitlines(keepends=True)
        if not (line[:4] == "ATOM" and line[25] == "3")
    )
    header = "SEQRES   1 A    5  ALA SER ALA SER ALA\n"
    protein = Protein.from_file(write(header + text))
    assert protein.num_residues == 5
    positions, mask = backbone(protein)
    assert not mask[2].any()
    assert not torsions(protein)[1][2].any()
    assert np.abs(positions[2]).max() == 0
    np.testing.assert_array_equal(find_chain_breaks(protein), [1, 2])


def test_short_proteins(write):
    """A single observed residue has a backbone and no torsion but chi."""
    protein = Protein.from_file(write(pdb_text(chain_of("SS"))))
    _, mask = torsions(protein)
    assert mask[:, :3].sum() == 3


def test_reads_what_gzip_holds(write):
    """The geometry of a compressed file is that of the plain one."""
    text = pdb_text(chain_of(SEQUENCE))
    one, other = Protein.from_file(write(text)), Protein.from_file(write(gzip.compress(text.encode()), "made.pdb.gz"))
    np.testing.assert_array_equal(torsions(one)[0], torsions(other)[0])
