"""The comparison of the five tasks: every config document has its settings, and its table holds what sweeps say."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

from benchmarks import five_tasks
from bihf_jax.data.labels import Labels
from bihf_jax.tasks import comparison
from tests.data.examples import random_example
from tests.data.record_sets import write_records
from tests.tasks.synthetic import make_predictions

STUDIES = {study.name: study for study in five_tasks.STUDIES}


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_is_a_sweep_that_its_document_takes(study, tmp_path):
    """The document takes the arguments, and has every setting that the runs change."""
    folds = [f"{study.name}/fold2"] if study.folds else []
    for folder in folds:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metadata.json").write_text("{}")
    plan = study.plan(tmp_path, tmp_path / "work", steps=50, jobs=1)
    document = importlib.import_module(f"configs.{study.config.removesuffix('.py')}")
    assert len(plan.runs()) == 5 * len(study.seeds)
    for run in plan.runs():
        config = document.get_config(plan.arguments(run))
        assert config.data.records == str(tmp_path / study.name / run.fold).rstrip("/")
        assert config.training.steps == 50
        assert config.task.get("selection_metric", study.metrics[0]) in study.metrics
        for setting in plan.overrides:
            path, _, value = setting.removeprefix("--config.").partition("=")
            *folders, key = path.split(".")
            part = config
            for name in folders:
                part = part[name]
            assert type(part[key]) is int
            part[key] = int(value)


def labelled_chain(seed, label):
    example = random_example(seed, chain_lengths=(30,), id=f"chain{seed}")
    example = dataclasses.replace(example, label=np.zeros_like(example.label), group=f"chain{seed}")
    return dataclasses.replace(
        example, label_mask=np.zeros_like(example.label_mask), protein_label=np.array([label], np.float32)
    )


@pytest.fixture
def finished(tmp_path):
    """(records, workdir) of a study whose methods have finished, but for serial fusion."""
    labels = Labels("protein", "multiclass", ("1.1.1.1", "2.7.1.1", "3.4.21.4"))
    splits = {"train": [0, 0, 1], "validation": [1], "test": [1, 2, 2, 2]}
    made = {
        split: [labelled_chain(10 * number + i, label) for i, label in enumerate(of)]
        for number, (split, of) in enumerate(splits.items())
    }
    write_records(tmp_path / "records" / "ec", made, labels)

    def runs(signal, validation):
        return [comparison.Run(0, validation, make_predictions(5, signal=signal, complexes=20), 60.0, 10)]

    of_method = {"local": runs(2.0, 0.6), "global": runs(1.8, 0.5), "sequence_only": runs(1.0, 0.4)}
    of_method |= {"structure_only": runs(1.2, 0.45), "constant": runs(0.0, 0.1), "composition": runs(0.3, 0.2)}
    compared = comparison.compare(of_method, list(of_method)[2:], num_resamples=50)
    folder = tmp_path / "work" / "ec"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps({"test": comparison.as_dict(compared)}))
    (folder / "comparison.md").write_text("### test\n\nits table\n")
    return tmp_path / "records", tmp_path / "work", compared


def test_the_table_holds_the_numbers_of_the_sweeps(finished):
    """Methods in order, an empty cell for one that has not finished, the best trivial baseline, and differences."""
    _, workdir, compared = finished
    study = dataclasses.replace(STUDIES["ec"], metrics=("auc_pr", "roc_auc"))
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in five_tasks.table(workdir, [study]).strip().splitlines()
    ]
    assert lines[0][:4] == ["task", "test set", "metric", "local"]
    rows = {row.method: row for row in compared.rows}
    for line, metric in zip(lines[2:], ("auc_pr", "roc_auc"), strict=True):
        expected = [rows[name].metrics[metric].value for name in ("local", "global", "sequence_only", "structure_only")]
        expected.append(rows["composition"].metrics[metric].value)
        assert [cell for cell in line[3:9] if cell] == [f"{value:.3f}" for value in expected]
        assert line[5] == ""
    assert lines[2][9].startswith(f"{rows['local'].difference.value:+.3f} [")
    assert lines[2][9].endswith("(structure only)")
    assert lines[3][9:] == ["", ""]


def test_the_document_says_what_the_records_lack(finished):
    """Caveats and counts stand beside the tables: how many test chains have a class that training has."""
    records, workdir, _ = finished
    study = dataclasses.replace(STUDIES["ec"], metrics=("auc_pr",))
    text = five_tasks.document(records, workdir, [study, STUDIES["lba30"]])
    assert "* test: 4 chains, 1 of them of a class that occurs in training." in text
    assert study.caveat in text
    assert "#### test\n\nits table" in text
    assert "lba" not in text


def test_absent_records_are_named(tmp_path, caplog):
    assert five_tasks.main([f"--records={tmp_path}", f"--workdir={tmp_path}", "--studies=ec,bce"]) == 1
    assert "has no records of ec, bce; docs/five_tasks.md says how to make them" in caplog.text
    assert five_tasks.main([f"--records={tmp_path}", f"--workdir={tmp_path}", "--studies=ec,bcd"]) == 1
    assert "--studies has bcd; studies: ec, ec_shared" in caplog.text
