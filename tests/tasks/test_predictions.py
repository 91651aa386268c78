"""The table of predictions, and its way through CSV."""

import csv
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihf_jax.data import alphabet
from bihf_jax.tasks import predictions
from tests.tasks.synthetic import make_example, make_predictions


def assert_same(first, second):
    for field in dataclasses.fields(predictions.Predictions):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, tuple):
            assert a == b, field.name
        else:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


def table(chains, numbers, codes, scores, mask, source="a.pdb", group="complex"):
    size = len(chains)
    return predictions.Predictions(
        record_ids=("r",),
        sources=(source,),
        groups=(group,),
        record=np.zeros(size, np.int32),
        chain=np.array(chains, dtype=str),
        residue_number=np.array(numbers, np.int32),
        insertion_code=np.array(codes, dtype="<U1"),
        amino_acid=np.full(size, "X", dtype="<U1"),
        score=np.array(scores, np.float32),
        label=np.array(mask, np.float32),
        label_mask=np.array(mask, bool),
        weight=np.full(size, 0.1, np.float32),
    )


def test_from_examples_keeps_residues_and_drops_special_tokens():
    """Every residue slot is one row with its own score, chain, number and label; <cls> and <eos> have none."""
    example = dataclasses.replace(make_example(0, chains=("H", "LL")), weight=2.5)
    scores = np.arange(example.num_slots, dtype=np.float64)
    scores[[0, 41]] = np.nan  # special tokens: never read
    result = predictions.from_examples([example], [scores])
    residue = example.residue_number > 0
    assert result.num_residues == 80
    np.testing.assert_array_equal(result.score, scores[residue])
    np.testing.assert_array_equal(result.chain, ["H"] * 40 + ["LL"] * 40)
    np.testing.assert_array_equal(result.residue_number, example.residue_number[residue])
    np.testing.assert_array_equal(result.label_mask, example.label_mask[residue])
    assert [alphabet.TOKENS[token] for token in example.tokens[residue]] == result.amino_acid.tolist()
    assert set(result.weight) == {2.5}


def test_unresolved_residues_stay_without_label():
    """A residue without coordinates has a score and no label, and the metrics do not see it."""
    example = make_example(1)
    result = predictions.from_examples([example], [np.zeros(example.num_slots)])
    unresolved = ~example.backbone_mask[1:-1, 1]
    assert unresolved.any()
    np.testing.assert_array_equal(result.label_mask, ~unresolved)
    assert len(result.labelled().labels) == 40 - unresolved.sum()


def test_groups_number_the_complexes():
    """Two partners of one complex share a group number, which does not depend on the order of the records."""
    examples = [make_example(i, group=group) for i, group in enumerate(["b", "a", "b"])]
    scores = [np.zeros(example.num_slots) for example in examples]
    result = predictions.from_examples(examples, scores)
    groups = result.labelled().groups
    assert [set(groups[result.record[result.label_mask] == i]) for i in range(3)] == [{1}, {0}, {1}]


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (("a", "a"), (np.zeros(42), np.zeros(42)), "occur more than once, first 'a'"),
        (("a", "b"), (np.zeros(42),), "differ in number"),
        (("a",), (np.zeros(42), np.zeros(42)), "differ in number"),
        (("a",), (np.zeros(40),), "'a' have shape .*42 slots"),
        (("a",), (np.full(42, np.inf),), "40 of 40 residues of record 'a'"),
    ],
)
def test_bad_scores_are_refused(ids, scores, message):
    """Repeated records, missing or surplus scores, wrong lengths and non-finite scores are named in the error."""
    examples = [make_example(i, record_id=record_id) for i, record_id in enumerate(ids)]
    with pytest.raises(ValueError, match=message):
        predictions.from_examples(examples, scores)


def test_an_error_of_the_reader_is_not_rewritten():
    """A ValueError raised while an example is read reaches the caller as it is."""

    def broken():
        yield make_example(0)
        raise ValueError("shard 3 is damaged")

    with pytest.raises(ValueError, match="shard 3 is damaged"):
        predictions.from_examples(broken(), [np.zeros(42), np.zeros(42)])


def test_no_examples_give_an_empty_table(tmp_path):
    """An empty split is a table of no residues, and stays one through CSV."""
    empty = predictions.from_examples([], [])
    assert (empty.num_residues, empty.num_repeated_keys) == (0, 0)
    empty.write_csv(tmp_path / "p.csv")
    assert_same(predictions.read_csv(tmp_path / "p.csv"), empty)


def test_csv_round_trip_of_awkward_keys(tmp_path):
    """Insertion codes, negative numbers and chain ids that look like blanks, numbers, formulas or NA come back."""
    chains = ["A", "AA", " ", "", "1", "01", "1E5", "-", "=A1", "'", "NA", "a,b", 'q"']
    codes = [" ", "A", "B", " ", "1", "-", " ", "=", " ", "'", "Z", " ", " "]
    size = len(chains)
    before = table(chains, np.arange(size) - 6, codes, np.linspace(-1, 1, size), [True, False] * 6 + [True])
    before.write_csv(tmp_path / "p.csv")
    assert_same(predictions.read_csv(tmp_path / "p.csv"), before)


def test_csv_has_no_formula(tmp_path):
    """No text cell begins with a character that makes a spreadsheet run it."""
    before = table(["=1+1", "@x", "+A", "-B"], [1, 2, 3, 4], ["="] * 4, [0] * 4, [1] * 4, source="=cmd.pdb", group="@g")
    before.write_csv(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name in ("file", "chain", "insertion_code", "amino_acid", "record_id", "group"):
                assert not row[name].startswith(("=", "+", "-", "@")), (name, row[name])
    assert_same(predictions.read_csv(tmp_path / "p.csv"), before)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_csv_keeps_every_bit_of_a_score(tmp_path_factory, scores):
    """Any finite float32 score is read back as the same float32."""
    size = len(scores)
    before = table(["A"] * size, range(size), [" "] * size, scores, [True] * size)
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    before.write_csv(path)
    assert predictions.read_csv(path).score.tobytes() == before.score.tobytes()


def test_csv_round_trip_of_a_split(tmp_path):
    """A whole split of many records comes back, records in order, and leaves no partial file."""
    before = make_predictions(0)
    before.write_csv(tmp_path / "p.csv")
    assert_same(predictions.read_csv(tmp_path / "p.csv"), before)
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("score,label", "points,label", r"no column \['score'\]"),
        ("a.pdb,A,1,,X,0,", "a.pdb,A,one,,X,0,", "line 2: .*'one'"),
        ("a.pdb,A,1,,X,0,", "a.pdb,A,1,,X,much,", "line 2: .*'much'"),
        ("a.pdb,A,1,,X,0,", "b.pdb,A,1,,X,0,", "line 3: record 'r' has file"),
        ("a.pdb,A,1,,X,0,", "a.pdb,1,,X,0,", "line 2: .*number of cells"),
    ],
)
def test_a_damaged_csv_is_refused(tmp_path, old, new, message):
    """A missing column, a broken number, a contradicting record and a short line are named with file and line."""
    path = tmp_path / "p.csv"
    table(["A", "A"], [1, 2], [" ", " "], [0, 0], [True, True]).write_csv(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=f"p.csv.*{message}"):
        predictions.read_csv(path)


def test_repeated_keys_are_counted():
    """Residues that share file, chain, number and insertion code with an earlier one are counted, others not."""
    result = table(["A", "A", "A", "B"], [5, 5, 5, 5], [" ", "A", " ", " "], [0] * 4, [True] * 4)
    assert result.num_repeated_keys == 1


def test_arrays_of_different_lengths_are_refused():
    """A column that is shorter than the others is named."""
    whole = make_predictions(0)
    with pytest.raises(ValueError, match=r"Predictions\.score has shape \(3,\)"):
        dataclasses.replace(whole, score=whole.score[:3])
    with pytest.raises(ValueError, match=r"must lie in 0\.\."):
        dataclasses.replace(whole, record=whole.record + 1)
