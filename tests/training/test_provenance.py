"""What a run says of its records: written once, compared when it goes on."""

import json
from types import SimpleNamespace

import pytest

from bihf_jax.configuration import ConfigError
from bihf_jax.training.provenance import RECORDS_FILE, keep_records, read_records, training_data, training_pocket


def splits(train="aaa", validation="bbb"):
    """What is read of two `RecordSet`s."""
    metadata = {
        "task": "ppbs",
        "schema_version": 1,
        "source": "/home/user/structures",
        "splits": {"train": {"records": 5}, "validation": {"records": 2}},
    }
    return [
        SimpleNamespace(split=name, fingerprint=fingerprint, metadata=metadata)
        for name, fingerprint in (("train", train), ("validation", validation))
    ]


def test_what_is_kept(tmp_path):
    """Fingerprint and counts of each split, and no path; the same records may go on, others are refused by name."""
    assert read_records(tmp_path) is None
    keep_records(splits(), tmp_path, first_host=True)
    kept = read_records(tmp_path)
    assert kept["splits"] == {
        "train": {"fingerprint": "aaa", "records": 5},
        "validation": {"fingerprint": "bbb", "records": 2},
    }
    assert "/" not in json.dumps(kept)
    keep_records(splits(), tmp_path, first_host=True)
    with pytest.raises(ConfigError, match=r"trained on other records \(validation was bbb, is ccc\); give the old"):
        keep_records(splits(validation="ccc"), tmp_path, first_host=True)


def test_the_pocket_is_kept(tmp_path):
    """Where the records are of pockets, the run and what is exported of it say so; no path of the source is kept."""
    records = splits()
    records[0].metadata["source"] = {"structures": "PDBbind", "pocket": 8.0}
    keep_records(records, tmp_path, first_host=True)
    assert training_pocket(training_data(tmp_path, {})) == 8.0
    assert "PDBbind" not in (tmp_path / RECORDS_FILE).read_text()
    assert training_pocket(None) is None


def test_a_run_that_began_without_it(tmp_path):
    """Which records it began with is not known, and stays so; hosts other than the first write nothing."""
    keep_records(splits(), tmp_path, first_host=False)
    (tmp_path / "checkpoints").mkdir()
    keep_records(splits(), tmp_path, first_host=True)
    assert read_records(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"splits": {"train": 3}}', '{"splits": {"train": {}}}'])
def test_a_damaged_file(tmp_path, content):
    (tmp_path / RECORDS_FILE).write_text(content)
    with pytest.raises(ConfigError, match=r"records\.json does not say which records there were"):
        read_records(tmp_path)
