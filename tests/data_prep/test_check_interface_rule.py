"""The 4 Å rule against ScanNet's labels."""

import pytest

from data_prep import check_interface_rule
from data_prep.check_interface_rule import Agreement, compare, total


def test_scores_of_counts():
    """Agreement, precision and recall are those of the counts, and chains add up."""
    one, exact = Agreement("x", 6, 2, 4, 8), Agreement("y", 5, 0, 0, 5)
    assert (one.agreement, one.precision, one.recall, one.is_exact) == (0.7, 0.75, 0.6, False)
    assert exact.is_exact
    assert total([one, exact]) == Agreement("total", 11, 2, 4, 13, 0)


@pytest.mark.shared_data
def test_the_rule_agrees_with_scannet(shared_data, capsys):
    """Our positives are positive in ScanNet (0.989 over 46 chains, 24 exact), and 0.9 of the labels agree (0.966)."""
    results, skipped = compare(shared_data / "PPBS")
    everything = total(results)
    assert len(results) >= 40
    assert everything.precision >= 0.95
    assert everything.agreement >= 0.9
    assert sum(result.is_exact for result in results) >= 20
    assert everything.unmatched <= 0.005 * everything.residues
    assert sum(skipped.values()) + len(results) >= 211
    own_file = total(compare(shared_data / "PPBS", one_file=True)[0])
    assert own_file.precision >= 0.95
    assert own_file.agreement >= 0.9
    assert check_interface_rule.main(["--ppbs", str(shared_data / "PPBS"), "--one_file"]) == 0
    assert "16 chains, 4 of them exact" in capsys.readouterr().out


def test_a_missing_folder_is_an_error(tmp_path, capsys):
    """Without index.tsv the command ends with 1 and names the file."""
    assert check_interface_rule.main(["--ppbs", str(tmp_path)]) == 1
    assert "index.tsv" in capsys.readouterr().err
