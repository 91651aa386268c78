"""The comparison with a table of scores."""

import pytest

from benchmarks import quality


@pytest.mark.shared_data
def test_every_40th_row_of_the_table_agrees(shared_data, capsys):
    """GDT-TS is within 0.02 of the table's search, CA-RMSD equal where the same residues are shared."""
    differences, failed = quality.compare(shared_data / "MQA", every=40)
    assert sum(failed.values()) <= 1
    assert {name: len(of_set) >= 12 for name, of_set in differences.items()} == dict.fromkeys(differences, True)
    same = [difference for of_set in differences.values() for difference in of_set if difference.same_residues]
    assert len(same) >= 0.7 * sum(map(len, differences.values()))
    assert max(abs(difference.gdt_ts) for difference in same) < 0.02
    assert "rows share other residues" in quality.table(differences)


def test_a_missing_folder_is_an_error(tmp_path, capsys):
    """Without index.tsv the command ends with 1 and names the file."""
    assert quality.main([str(tmp_path)]) == 1
    assert "index.tsv" in capsys.readouterr().err
