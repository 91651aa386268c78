"""`Predictor`: the same result for a protein in any company, few programs for any lengths, and clear errors."""

import dataclasses

import jax
import numpy as np
import pytest

import bihf_jax
from bihf_jax.inference.embedding import MissingFeaturesError
from bihf_jax.inference.predictor import ProteinTooLongError
from bihf_jax.protein import Protein, StructureError
from tests.inference.runs import STEP, make_run
from tests.inference.structures import ODD_NUMBERS, ODD_UNRESOLVED, SAMPLE, made, odd_text
from tests.protein.synthetic import Atom, pdb_text

COMPANY = [SAMPLE / "1a8o.cif.gz", made(40, seed=2), SAMPLE / "1fc2.pdb.gz", made(7, seed=3)]


def by_residue(prediction):
    """(chain, number, insertion code) -> score."""
    return {row[:3]: row.score for row in prediction.rows()}


def test_alone_as_in_company(predictor, odd):
    """Whatever a protein is packed with, and in rows of whatever length, its scores are the same; and they differ."""
    structures = [*COMPANY, odd]
    together = list(predictor.predict_many(structures))
    for structure, packed in zip(structures, together, strict=True):
        alone = predictor.predict(structure)
        assert alone.protein.source == packed.protein.source
        np.testing.assert_allclose(packed.score, alone.score, atol=1e-5)
        assert alone.score.std() > 0.01


def test_order_of_the_chains_does_not_matter(predictor):
    """The same chains in the opposite order have the same scores, by residue."""
    protein = Protein.from_file(SAMPLE / "1fc2.pdb.gz")
    assert len(protein.chain_ids) == 2
    turned = Protein.concatenate([protein.select_chains([chain]) for chain in protein.chain_ids[::-1]])
    scores, others = by_residue(predictor.predict(protein)), by_residue(predictor.predict(turned))
    assert scores.keys() == others.keys()
    assert list(scores) != list(others)
    np.testing.assert_allclose([others[key] for key in scores], list(scores.values()), atol=1e-5)


def test_insertion_codes_and_missing_residues_survive(predictor, odd):
    """Every residue of the sequences has its row, in order; where coordinates are missing the row says so."""
    rows = list(predictor.predict(odd).rows())
    chain_a = [row for row in rows if row.chain == "A"]
    assert [f"{row.residue_number}{row.insertion_code}" for row in chain_a] == list(ODD_NUMBERS)
    assert "".join(row.amino_acid for row in rows) == "ACDEFGHIKLMN" + "WYVTS"
    without = {f"{row.chain}{row.residue_number}{row.insertion_code}" for row in rows if not row.has_structure}
    assert without == {*(f"A{number}" for number in ODD_UNRESOLVED), "B3"}


def test_path_text_and_protein_are_one(predictor, odd, tmp_path):
    """A file by path or name, its text, its protein, and a function that reads it all give the same scores."""
    path = tmp_path / "odd.pdb"
    path.write_text(odd_text())
    expected = predictor.predict(odd).score
    for structure in (path, str(path), odd_text(), lambda: odd):
        np.testing.assert_array_equal(predictor.predict(structure).score, expected)
    with pytest.raises(TypeError, match="a structure is a Protein, the path or the text of a file, got int"):
        predictor.predict(3)


def test_many_lengths_compile_few_programs(run):
    """A folder of 40 lengths takes a program for each doubling of the row; again, and one by one, few more."""
    predictor = bihf_jax.load(run)
    lengths = [*range(6, 240, 7), 300, 400, 700]
    structures = [made(length) for length in lengths]
    results = list(predictor.predict_many(structures))
    assert [len(result) for result in results] == lengths
    assert predictor.compiles <= 3  # rows of 256, 512 and 1,024 slots
    before = predictor.compiles
    list(predictor.predict_many(structures[::-1]))
    assert predictor.compiles == before
    for structure in structures[:-3:5]:
        predictor.predict(structure)
    assert predictor.compiles <= before + 2  # rows of 64 and 128


def test_an_error_in_its_place(predictor, tmp_path):
    """With `on_error="return"` a bad structure has its error where its result would be; otherwise it is raised."""
    damaged = tmp_path / "damaged.pdb"
    damaged.write_text("ATOM  nothing of the kind\n")
    structures = [made(9), damaged, tmp_path / "absent.cif", made(30)]
    results = list(predictor.predict_many(structures, on_error="return"))
    assert [type(result).__name__ for result in results] == ["Prediction", *["StructureError"] * 2, "Prediction"]
    assert "damaged.pdb" in str(results[1])
    assert [len(results[0]), len(results[3])] == [9, 30]
    with pytest.raises(StructureError, match=r"damaged\.pdb"):
        list(predictor.predict_many(structures))
    with pytest.raises(ValueError, match="on_error is 'ignore'; allowed: raise, return"):
        list(predictor.predict_many(structures, on_error="ignore"))
    (result,) = predictor.predict_many([damaged], on_error="return")
    assert isinstance(result, StructureError)
    assert list(predictor.predict_many([])) == []


def test_results_come_as_soon_as_they_are_there(predictor, tmp_path):
    """Each once with the number of its structure, in the same order each time, before all structures are read."""
    proteins, read = [made(60 + number) for number in range(40)], []

    def reader(number):
        return lambda: read.append(number) or proteins[number]

    readers = [reader(number) for number in range(len(proteins))]
    readers[3] = tmp_path / "absent.pdb"
    results = predictor.predict_as_ready(readers, on_error="return")
    found = [next(results)]
    assert len(read) < len(proteins) - 1
    found += results
    numbers = [number for number, _ in found]
    assert sorted(numbers) == list(range(len(proteins)))
    assert numbers != sorted(numbers)
    assert isinstance(dict(found)[3], StructureError)
    assert [number for number, _ in predictor.predict_as_ready(readers, on_error="return")] == numbers
    for number, result in enumerate(predictor.predict_many(readers, on_error="return")):
        if number != 3:
            np.testing.assert_array_equal(result.score, dict(found)[number].score)


def test_values_that_are_not_finite_are_an_error(run, odd):
    """A model that diverged gives an error that names the structure, and no table of not-a-numbers."""
    predictor = bihf_jax.load(run)
    (member,) = predictor.members
    member.params = jax.tree.map(lambda leaf: leaf * np.nan, member.params)
    with pytest.raises(ValueError, match=r"odd\.pdb: 17 of 17 values of score are not finite; did the training"):
        predictor.predict(odd)


def test_too_long(run):
    """The limit stands in the message, with what to do."""
    predictor = bihf_jax.load(run, max_slots=40)
    assert len(predictor.predict(made(38))) == 38
    with pytest.raises(ProteinTooLongError, match="39 residues in 1 chains need 41 slots; at most 40 are taken"):
        predictor.predict(made(39))
    with pytest.raises(ValueError, match="max_slots is 0"):
        bihf_jax.load(run, max_slots=0)


def test_what_a_predictor_says_of_itself(predictor, run):
    """Step, task and what is in the checkpoint; another model has another fingerprint."""
    (member,) = predictor.members
    assert (member.step, predictor.task.name) == (STEP, "ppbs")
    assert member.about["bihf_jax"] == bihf_jax.__version__
    assert predictor.description == "ppbs, local fusion, step 7"
    assert bihf_jax.load(run, which="last").fingerprint == predictor.fingerprint
    other = bihf_jax.load(run)
    other.members[0].about = {**other.members[0].about, "best_score": 0.6}
    assert other.fingerprint != predictor.fingerprint


def test_gates_are_the_weights_of_the_sides(predictor, odd):
    """Local fusion: the two weights sum to 1, and all weight is on the sequence where there is no structure."""
    values = predictor.predict(odd, fusion_values=True).fusion_values
    assert set(values) == {
        f"stage{stage}_{what}"
        for stage in (1, 2)
        for what in ("gate_sequence", "gate_structure", "sequence_change", "structure_change")
    }
    absent = ~np.array([row.has_structure for row in predictor.predict(odd).rows()])
    for stage in (1, 2):
        sequence, structure = values[f"stage{stage}_gate_sequence"], values[f"stage{stage}_gate_structure"]
        np.testing.assert_allclose(sequence + structure, 1, atol=1e-6)
        np.testing.assert_array_equal(structure[absent], 0)
        assert structure[~absent].min() > 0
        np.testing.assert_array_equal(values[f"stage{stage}_structure_change"] > 0, ~absent)
        assert values[f"stage{stage}_sequence_change"].min() > 0


def test_attention_values(global_predictor, odd):
    """Global fusion: no entropy is above that of equal weights on all slots, and company changes nothing."""
    alone = global_predictor.predict(odd, fusion_values=True).fusion_values
    assert {name.split("_", 1)[1] for name in alone} == {
        *("attention_entropy", "attention_own", "sequence_change", "structure_change")
    }
    slots = odd.num_residues + 2 * len(odd.chain_ids)
    entropy, own = alone["stage2_attention_entropy"], alone["stage2_attention_own"]
    assert 0 < entropy.min() < entropy.max() <= np.log(slots) + 1e-5
    assert 0 < own.min() < own.max() < 1
    *_, packed = global_predictor.predict_many([made(40), odd], fusion_values=True)
    for name, values in alone.items():
        np.testing.assert_allclose(packed.fusion_values[name], values, atol=1e-5, err_msg=name)
    page = packed.page()
    assert all(f'"name":"{name}"' in page for name in alone)  # a track each


def test_fusion_values_do_not_change_the_scores(predictor, odd):
    scores = predictor.predict(odd, fusion_values=True).score
    np.testing.assert_allclose(scores, predictor.predict(odd).score, atol=1e-6)


@pytest.mark.parametrize(("of", "stage", "width"), [("fused", None, 16), ("sequence", 1, 16), ("fused", 2, 16)])
def test_embeddings_alone_as_in_company(predictor, odd, of, stage, width):
    """The features of a protein are the same in any company, one row a residue."""
    alone = predictor.embed(odd, of=of, stage=stage)
    assert alone.per_residue.shape == (odd.num_residues, width)
    assert alone.per_residue.dtype == np.float32
    *_, packed = predictor.embed_many([made(50), odd], of=of, stage=stage)
    np.testing.assert_allclose(packed.per_residue, alone.per_residue, atol=1e-4)
    np.testing.assert_allclose(alone.pooled, alone.per_residue.mean(axis=0), atol=1e-5)
    assert alone.per_residue.std(axis=0).min() > 0


def test_structure_features_where_there_is_a_structure(predictor, odd):
    """Residues without coordinates have zeros, a mask that says so, and no part in the mean."""
    embedding = predictor.embed(odd, of="structure", stage=1)
    assert embedding.mask.sum() == odd.num_residues - 3
    np.testing.assert_array_equal(embedding.per_residue.any(axis=1), embedding.mask)
    mean = embedding.per_residue[embedding.mask].mean(axis=0)
    np.testing.assert_allclose(embedding.pooled, mean, atol=1e-5)
    nowhere = dataclasses.replace(embedding, mask=np.zeros_like(embedding.mask))
    np.testing.assert_array_equal(nowhere.pooled, np.zeros(16))


def test_features_that_a_model_does_not_have(predictor, tmp_path):
    """The message lists what there is; no structure is read for it."""
    names = ", ".join(
        f"{kind}{where}" for where in ("", " of stage 1", " of stage 2") for kind in ("fused", "sequence", "structure")
    )
    with pytest.raises(MissingFeaturesError, match=f"has no features fused of stage 3; it has: {names}"):
        predictor.embed("unread", stage=3)
    with pytest.raises(MissingFeaturesError, match="of is 'both'; allowed: fused, sequence, structure"):
        predictor.embed("unread", of="both")
    sequence_only = bihf_jax.load(make_run(tmp_path, "sequence_only"))
    with pytest.raises(MissingFeaturesError, match="has no features structure; it has: fused, sequence, sequence of"):
        sequence_only.embed("unread", of="structure")
    with pytest.raises(MissingFeaturesError, match=r"exchange nothing \(fusion 'none'\)"):
        sequence_only.predict("unread", fusion_values=True)


def test_the_smallest_protein(predictor):
    """Two residues, the shortest chain that is read."""
    names = ("N", "CA", "C", "O")
    atoms = [Atom(name, "GLY", "A", k, (3.8 * k, i, 0.0)) for k in (1, 2) for i, name in enumerate(names)]
    assert len(predictor.predict(pdb_text(atoms))) == 2
