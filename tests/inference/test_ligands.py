"""Structures with a ligand: what models that were trained with ligands need, and that they see what training saw."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import bihf_jax
from bihf_jax.configuration import ConfigError
from bihf_jax.data.featurise import make_example
from bihf_jax.data.grid import make_grid
from bihf_jax.data.ligand import pocket_rows
from bihf_jax.inference.folder import predict_files
from bihf_jax.inference.inputs import find_targets
from bihf_jax.inference.ligands import LigandError, LigandNeeds, bind, is_ligand_file, ligand_name
from bihf_jax.inference.predictor import WithLigand
from bihf_jax.protein import Protein
from tests.data.complexes import made_ligand, made_protein
from tests.inference.runs import make_run
from tests.inference.structures import AFFINITY, made

ATOMS, POCKET = 9, 6.0
NAME = "-log10 K (mol/l)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of affinities, with the atoms of ligands as nodes."""
    return make_run(tmp_path_factory.mktemp("lba"), task=AFFINITY, ligands=True)


@pytest.fixture(scope="module")
def predictor(run):
    return bihf_jax.load(run)


def of_pockets(run, pocket=POCKET):
    """The run says that its records were of pockets."""
    (run / "records.json").write_text(json.dumps({"splits": {"train": {"fingerprint": "abc"}}, "pocket": pocket}))
    return run


def test_the_model_sees_what_training_saw(predictor):
    """The value is that of the grid of the same example, and depends on the ligand; alone or in company."""
    protein, ligand = made_protein(), made_ligand()
    prediction = predictor.predict(protein, ligand=ligand)
    (member,) = predictor.members
    example = make_example(protein, id="x", group="x", ligand=ligand)
    grid = make_grid([[(0, example)]], length=64, neighbours=member.config.data.neighbours, graphs=1)
    params = jax.tree.map(lambda leaf: np.asarray(leaf[0]), member.params)
    logits = member.config.make_model().apply({"params": params}, grid)
    assert prediction.value[NAME] == pytest.approx(float(predictor.task.scores(logits)[0, 0, 0]), abs=1e-5)
    charged = dataclasses.replace(ligand, elements=np.full(ATOMS, 8, np.int8))
    many = [WithLigand(protein, charged), lambda: WithLigand(protein, ligand), WithLigand(made_protein(1), ligand)]
    other, same, _ = predictor.predict_many(many)
    assert same.value[NAME] == pytest.approx(prediction.value[NAME], abs=1e-5)
    assert abs(other.value[NAME] - prediction.value[NAME]) > 1e-3


def test_residues_keep_their_rows(predictor):
    """Scores and features are of the residues; the atoms of the ligand have the rest of the weight."""
    protein, ligand = made_protein(), made_ligand()
    prediction = predictor.predict(protein, ligand=ligand)
    assert len(prediction) == predictor.embed(protein, ligand=ligand).per_residue.shape[0] == protein.num_residues
    assert 0 < prediction.score.sum() < 1
    page = prediction.page()
    assert f"the {ATOMS} atoms of the ligand (made0.sdf) have the rest of 1" in page
    assert prediction.protein.ligands.num_atoms == ATOMS, "it is shown beside the protein"
    text = prediction.protein.to_pdb()
    assert Protein.from_text(text).ligands.names.tolist() == ["LIG"]


def test_a_model_of_pockets_gets_the_pocket(run):
    """The residues near the ligand alone, as `data_prep.build lba --pocket` takes them."""
    predictor = bihf_jax.load(of_pockets(run))
    (run / "records.json").unlink()
    protein, ligand = made_protein(), made_ligand()
    prediction = predictor.predict(protein, ligand=ligand)
    near = pocket_rows(protein, ligand.atom_positions, POCKET)
    assert 0 < near.sum() < len(near)
    assert prediction.protein.residue_number.tolist() == protein.residue_number[near].tolist()
    whole = bihf_jax.load(run).predict(protein, ligand=ligand)
    assert prediction.value != whole.value


def test_pockets_of_two_sizes_are_no_ensemble():
    with pytest.raises(ConfigError, match="trained on different pockets, in their order: 8 Å, the whole protein"):
        LigandNeeds.of_models([True, True], [8.0, None])


def test_what_is_missing_or_does_not_fit_is_told(predictor, tmp_path):
    """Without a ligand, with one too many, or one elsewhere: the message says what to give."""
    protein, ligand = made_protein(), made_ligand()
    with pytest.raises(LigandError, match=r"made0.pdb: this model was trained on proteins with a ligand; give one"):
        predictor.predict(protein)
    with pytest.raises(LigandError, match=r"made0.pdb: a ligand is given, and this model reads none; leave it out"):
        bind(protein, ligand, LigandNeeds(atoms=False, pocket=None))
    far = dataclasses.replace(ligand, atom_positions=ligand.atom_positions + 50)
    with pytest.raises(LigandError, match=r"no residue has an atom within 5 Å of the ligand made0.sdf; are both"):
        predictor.predict(protein, ligand=far)
    with pytest.raises(ValueError, match=r"made0.pdb: no ligand is called 'STI'; it has none"):
        predictor.predict(protein, ligand="STI")
    with pytest.raises(ValueError, match="no such file"):
        predictor.predict(protein, ligand=tmp_path / "gone.sdf")


@pytest.mark.parametrize(
    ("text", "is_file", "name"),
    [("a/b.SDF", True, "b"), ("x.mol2.gz", True, "x"), ("STI:A:201", False, "STI:A:201"), ("sdf", False, "sdf")],
)
def test_a_file_or_a_name(text, is_file, name):
    assert (is_ligand_file(text), ligand_name(text)) == (is_file, name)


def test_a_list_of_ligands(predictor, tmp_path):
    """One protein with a ligand that can be read and one that cannot: one result and one reason."""
    pytest.importorskip("rdkit", reason="needs RDKit: pip install 'bihf_jax[ligands]'")
    from tests.data.test_molecules import ACETATE_SDF  # which is skipped without RDKit

    made(20).to_file(tmp_path / "made.pdb")
    (tmp_path / "act.sdf").write_text(ACETATE_SDF)
    (tmp_path / "bad.sdf").write_text("no molecule")
    (tmp_path / "list.txt").write_text("made.pdb\t\tact.sdf\nmade.pdb\tA\tbad.sdf\n")
    targets = find_targets(tmp_path / "list.txt").targets
    assert [target.name for target in targets] == ["made_act", "made_A_bad"]
    outcomes = {o.target.name: o for o in predict_files(predictor, targets, tmp_path / "out", html=False)}
    assert outcomes["made_act"].status == "written"
    assert outcomes["made_act"].about["ligand"] == {"source": "act.sdf", "atoms": 4, "remarks": []}
    assert outcomes["made_A_bad"].status == "failed"
    assert "bad.sdf: RDKit cannot parse it" in outcomes["made_A_bad"].message
