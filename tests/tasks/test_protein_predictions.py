"""The tables of proteins, and of residues with several scores: exact through CSV, and refused where they contradict."""

import csv
import dataclasses

import numpy as np
import pytest

from bihf_jax.tasks import make_task, predictions, protein_predictions
from bihf_jax.tasks.tables import check_same_items, read_table, table_of, write_parquet
from tests.data.examples import random_example
from tests.data.record_sets import LABELS, rich_example
from tests.tasks.synthetic import make_predictions

TASKS = {"binary": "custom", "multiclass": "ec", "multilabel": "ec", "regression": "lba", "quality": "mqa"}


def task_of(kind):
    return make_task(TASKS[kind], {"labels": LABELS[kind].to_metadata()})


def table(kind, count=6, seed=0):
    """The second protein has no label; one id would run as a formula in a spreadsheet."""
    examples = [rich_example(number, kind) for number in range(count)]
    examples[1] = dataclasses.replace(examples[1], protein_label=np.zeros(0, np.float32), id="=1+1")
    scores = np.random.default_rng(seed).random((count, 1, len(LABELS[kind].names))).astype(np.float32)
    return table_of(task_of(kind), examples, list(scores)), examples, scores


@pytest.mark.parametrize("kind", LABELS)
def test_a_table_survives_csv(kind, tmp_path):
    """Every number, id and mask comes back exactly."""
    written, examples, scores = table(kind)
    written.write_csv(tmp_path / "p.csv")
    read = read_table(task_of(kind), tmp_path / "p.csv")
    for field in dataclasses.fields(written):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name), err_msg=field.name)
    np.testing.assert_array_equal(read.score, scores[:, 0])
    assert read.label_mask.tolist() == [True, False, True, True, True, True]
    assert read.record_ids == tuple(example.id for example in examples)


def csv_cell(value):
    """A value of a Parquet file as the CSV file has it."""
    text = "" if value is None else value if isinstance(value, str) else f"{value:.9g}"
    return predictions.escape_cell(text) if isinstance(value, str) else text


@pytest.mark.parametrize("kind", [*LABELS, "residues"])
def test_parquet_holds_what_csv_holds(kind, tmp_path):
    """The same columns in the same order, with types; a missing label is null, and an id is not escaped."""
    parquet = pytest.importorskip("pyarrow.parquet")
    written = make_predictions(3, complexes=4) if kind == "residues" else table(kind)[0]
    written.write_csv(tmp_path / "p.csv")
    write_parquet(written, tmp_path / "p.parquet")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["p.csv", "p.parquet"]
    read = parquet.read_table(tmp_path / "p.parquet")
    with open(tmp_path / "p.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert read.column_names == header
    assert [[csv_cell(value) for value in row.values()] for row in read.to_pylist()] == rows
    assert str(read.schema.field("weight").type) == "float"
    if kind != "residues":
        assert read.column("record_id")[1].as_py() == "=1+1"


def test_labelled_leaves_out_who_has_no_label():
    """Five of six; groups are numbered by their sorted names; one number is [n], several are [n, P]."""
    one, examples, _ = table("regression")
    labelled = one.labelled()
    assert labelled.labels.shape == labelled.scores.shape == (5,)
    expected = [example.protein_label[0] for example in examples if len(example.protein_label)]
    np.testing.assert_array_equal(labelled.labels, np.array(expected, np.float32))
    assert table("quality")[0].labelled().labels.shape == (5, 2)
    assert len(np.unique(labelled.groups)) == 5


def test_classes_have_their_names_in_the_file(tmp_path):
    written, examples, scores = table("multiclass")
    written.write_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = LABELS["multiclass"].names
    assert rows[0]["label_name"] == names[int(examples[0].protein_label[0])]
    assert rows[1]["label_name"] == ""
    assert [row["predicted_name"] for row in rows] == [names[i] for i in scores[:, 0].argmax(axis=1)]


def test_residues_with_several_scores_survive_csv(tmp_path):
    """[M, V] scores have a column each; with one score the column stays `score`."""
    examples = [random_example(seed, id=f"p{seed}") for seed in range(3)]
    scores = [np.random.default_rng(0).random((example.num_slots, 3)).astype(np.float32) for example in examples]
    written = predictions.from_examples(examples, scores, ("a", "b", "c"))
    written.write_csv(tmp_path / "p.csv")
    assert "score:a,score:b,score:c" in (tmp_path / "p.csv").read_text().splitlines()[0]
    read = predictions.read_csv(tmp_path / "p.csv")
    assert read.score_names == ("a", "b", "c")
    np.testing.assert_array_equal(read.score, written.score)
    np.testing.assert_array_equal(written.labelled().scores, written.score[written.label_mask])
    single = predictions.from_examples(examples, [score[:, :1] for score in scores], ("a",))
    assert single.score.ndim == 1


def test_what_contradicts_is_refused(tmp_path):
    written, examples, scores = table("regression")
    with pytest.raises(ValueError, match="1 record ids occur more than once"):
        protein_predictions.from_examples(examples + examples[:1], [*scores, scores[0]], LABELS["regression"])
    with pytest.raises(ValueError, match="6 examples and 5 scores"):
        protein_predictions.from_examples(examples, scores[1:], LABELS["regression"])
    with pytest.raises(ValueError, match="1 of 6 scores are not finite"):
        dataclasses.replace(written, score=np.where(np.arange(6)[:, None] == 2, np.nan, written.score))
    with pytest.raises(ValueError, match="score has shape"):
        dataclasses.replace(written, score=written.score[:, 0])
    written.write_csv(tmp_path / "p.csv")
    with pytest.raises(ValueError, match=r"no column .*score:GDT-TS"):
        protein_predictions.read_csv(tmp_path / "p.csv", LABELS["quality"])
    text = (tmp_path / "p.csv").read_text().replace(f"{written.weight[0]:.9g}\n", "heavy\n")
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=r"p\.csv, line 2: .*heavy"):
        protein_predictions.read_csv(tmp_path / "p.csv", LABELS["regression"])


def test_tables_of_other_proteins_are_not_compared():
    one, _, _ = table("regression")
    other = dataclasses.replace(one, label=one.label + 1)
    with pytest.raises(ValueError, match=r"ours and theirs were scored on different .*they differ in 'label'"):
        check_same_items(one, other, ("ours", "theirs"))
