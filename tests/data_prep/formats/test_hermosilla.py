"""React: the lists of Hermosilla et al. and their HDF5 proteins."""

import numpy as np
import pytest

from bihf_jax.protein import residue_constants
from data_prep.formats import hermosilla
from data_prep.formats.text import FormatError

# Order of the amino acids in `amino_types`, by one-letter code (PyPeriodicTable.aLetters_ of the authors' code).
LETTERS = "HDRFACGQEKLMNSYTIWPVUOBJZX"
FILES = {
    "unique_functions": "1.1.1.1\n2.7.11.1\n",
    "chain_functions": "4fae.B,1\n3o9d.A,0\n2rkg.B,1\n1xyz.Q,0\n",
    "training": "4fae.B\n",
    "validation": "3o9d.A\n",
    "testing": "2rkg.B\n",
}


@pytest.fixture
def folder(tmp_path):
    """The five files with a chain in each list, and one in none."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_chains_have_their_class_and_split(folder):
    """A class is a position in the list of EC numbers; counts by class; chains of no list are named."""
    data = hermosilla.read_react(folder)
    assert data.classes == ("1.1.1.1", "2.7.11.1")
    assert [(chain.id, chain.split, chain.label) for chain in data.chains] == [
        ("4fae.B", "training", 1),
        ("3o9d.A", "validation", 0),
        ("2rkg.B", "testing", 1),
    ]
    assert (data.chains[0].pdb_id, data.chains[0].chain_id) == ("4fae", "B")
    assert data.class_counts("testing").tolist() == [0, 1]
    assert data.without_split == ("1xyz.Q",)
    with pytest.raises(FormatError, match="no split 'test' in React; splits: training, validation, testing"):
        data.split("test")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("unique_functions", "1.1.1.1\n1.1.1.1\n", "EC number 1.1.1.1 is listed 2 times"),
        ("chain_functions", "4fae.B;1\n", "line 1: expected 'ID.CHAIN,CLASS'"),
        ("chain_functions", "4fae.B,2\n", "line 1: class 2; there are 2"),
        ("chain_functions", "4fae.B,1\n4fae.B,1\n", "line 2: a second line for chain 4fae.B"),
        ("validation", "9abc.A\n", "line 1: chain 9abc.A has no class"),
        ("testing", "\n4fae.B\n", "line 2: chain 4fae.B is in split training already"),
    ],
)
def test_what_is_not_in_the_format_is_named(folder, name, text, message):
    """The message has file, line and value."""
    (folder / f"{name}.txt").write_text(text)
    with pytest.raises(FormatError, match=f"{name}.txt.*{message}"):
        hermosilla.read_react(folder)


@pytest.mark.shared_data
def test_the_published_lists_are_read_whole(shared_data):
    """384 classes, 37,428 chains, the split of the paper; the prefix of the file names does not matter."""
    data = hermosilla.read_react(shared_data / "React")
    assert len(data.classes) == 384
    counts = {split: len(data.split(split)) for split in hermosilla.SPLITS}
    assert counts == {"training": 29215, "validation": 2562, "testing": 5651}
    assert data.without_split == ()
    assert sum(data.class_counts(split).sum() for split in hermosilla.SPLITS) == 37428


# ---------------------------------------------------------------------------------------------------------------------
# HDF5
# ---------------------------------------------------------------------------------------------------------------------


def arrays_of(sequence, chain="B"):
    """The data sets that the authors' code writes of a chain: backbone, CB and one other molecule."""
    names, owner, residues = [], [], []
    for row, letter in enumerate(sequence):
        name = residue_constants.RESIDUE_NAMES[residue_constants.RESIDUE_TYPE_INDEX[letter]]
        for atom in ("N", "CA", "C", "O", *(() if letter == "G" else ("CB",))):
            names.append(atom)
            owner.append(row)
            residues.append(name)
    names, owner, residues = [*names, "ZN"], [*owner, -1], [*residues, "ZN"]
    positions = np.random.default_rng(0).normal(scale=9, size=(2, len(names), 3))
    return {
        "pos_center": np.array([10.0, -20.0, 30.0]),
        "atom_pos": positions,
        "atom_names": np.array([name.encode() for name in names]),
        "atom_types": np.zeros(len(names), dtype=np.int64),
        "atom_amino_id": np.array(owner),
        "atom_residue_names": np.array([name.encode() for name in residues]),
        "atom_chain_names": np.array([chain.encode()] * len(names)),
        "amino_types": np.array([LETTERS.index(letter) for letter in sequence]),
        "amino_pos": positions[:, [i for i, name in enumerate(names) if name == "CA"]],
    }


def write_hdf5(path, arrays):
    h5py = pytest.importorskip("h5py", reason="needs h5py: pip install 'bihf_jax[formats]'")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return path


def test_an_hdf5_file_is_a_protein(tmp_path):
    """Sequence, atoms and positions (in the frame of the PDB file) are those of the data sets; the report adds up."""
    arrays = arrays_of("MGHKWYV")
    protein = hermosilla.read_hdf5(write_hdf5(tmp_path / "4fae.B.hdf5", arrays))
    protein.validate()
    assert (protein.sequence(), protein.chain_ids, protein.source) == (("MGHKWYV",), ("B",), "4fae.B.hdf5")
    assert protein.residue_number.tolist() == [1, 2, 3, 4, 5, 6, 7]
    carbon = protein.atom_positions[:, residue_constants.ATOM_INDEX["CA"]]
    np.testing.assert_allclose(carbon, arrays["amino_pos"][0] + arrays["pos_center"], atol=1e-5)
    assert protein.atom_mask.sum(axis=1).tolist() == [5, 4, 5, 5, 5, 5, 5]
    report = protein.report
    assert report.other_atoms == {"other molecule:ZN": 1}
    assert report.file_atoms == protein.atom_mask.sum() + report.left_out_atoms


def test_every_amino_acid_type_has_its_letter(tmp_path):
    """The 26 types in the authors' order; selenocysteine is read as C, pyrrolysine as K, ambiguous ones as X."""
    arrays = arrays_of("A" * 26)
    arrays["amino_types"] = np.arange(26)
    protein = hermosilla.read_hdf5(write_hdf5(tmp_path / "1abc.A.hdf5", arrays))
    assert protein.sequence() == (LETTERS[:20] + "CKXXXX",)


def test_modified_residues_go_by_the_name_of_their_atoms(tmp_path):
    """Type -1 is M where the atoms are of MSE, its selenium the sulphur; X where the file has no names."""
    arrays = arrays_of("AGA") | {"amino_types": np.array([4, -1, 4])}
    arrays["atom_residue_names"] = np.where(arrays["atom_amino_id"] == 1, b"MSE", arrays["atom_residue_names"])
    arrays["atom_names"][-1], arrays["atom_amino_id"][-1] = b"SE", 1
    arrays["atom_residue_names"][-1] = b"MSE"
    protein = hermosilla.read_hdf5(write_hdf5(tmp_path / "1abc.A.hdf5", arrays))
    assert protein.sequence() == ("AMA",)
    assert protein.atom_mask[1, residue_constants.ATOM_INDEX["SD"]]
    assert protein.report.modified == {"MSE": 1}
    for name in ("atom_residue_names", "atom_chain_names", "pos_center"):
        del arrays[name]
    plain = hermosilla.read_hdf5(write_hdf5(tmp_path / "1abc.C.hdf5", arrays))
    assert (plain.sequence(), plain.chain_ids) == (("AXA",), ("C",))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("amino_types", None, "no data set amino_types"),
        ("amino_types", np.array([0, 26, 0]), "amino_types must be 1 or more values of -1 to 25"),
        ("atom_amino_id", np.zeros(3, dtype=int), r"atom_amino_id \(3,\) and atom_names \(15,\)"),
        ("atom_amino_id", np.full(15, 3), "atom_amino_id spans 3 to 3; amino_types has 3"),
        ("atom_pos", np.zeros((15, 3)), r"atom_pos has shape \(15, 3\); it must be \[models, 15, 3\]"),
        ("atom_pos", np.full((1, 15, 3), np.nan), "not finite"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(tmp_path, name, value, message):
    """The message names the file and the data set."""
    arrays = arrays_of("AGA")
    arrays = {key: array for key, array in (arrays | {name: value}).items() if array is not None}
    with pytest.raises(FormatError, match=f"1abc.A.hdf5: .*{message}"):
        hermosilla.read_hdf5(write_hdf5(tmp_path / "1abc.A.hdf5", arrays))


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    """Text, and a file that is not there."""
    pytest.importorskip("h5py", reason="needs h5py: pip install 'bihf_jax[formats]'")
    (tmp_path / "a.hdf5").write_text("text")
    with pytest.raises(FormatError, match="not a readable HDF5 file"):
        hermosilla.read_hdf5(tmp_path / "a.hdf5")
    with pytest.raises(FormatError, match="no such file"):
        hermosilla.read_hdf5(tmp_path / "b.hdf5")
