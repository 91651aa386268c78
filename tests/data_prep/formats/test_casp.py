"""The table of official CASP13 scores."""

import pytest

from data_prep.formats import casp
from data_prep.formats.text import FormatError


def test_lines_are_read(tmp_path):
    """Domains, whole targets, subunits and N/A are read; GDT_TS is a share."""
    path = tmp_path / "data-all.tsv"
    path.write_text("T0949TS004_1-D1 53.10 0.42\nT1022s2TS498_5 21.58 N/A\n")
    first, second = casp.read_scores(path)
    assert (first.target, first.group, first.model, first.domain) == ("T0949", "004", 1, 1)
    assert (first.gdt_ts, first.second_score) == (pytest.approx(0.531), 0.42)
    assert (second.target, second.domain, second.second_score) == ("T1022s2", None, None)
    assert second.file_name == "T1022s2TS498_5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T0949TS004_1-D1 53.10\n", "line 1: expected 'MODEL GDT_TS SCORE'"),
        ("T0949_004 53.10 0.4\n", "line 1: expected"),
        ("T0949TS004_1 153 0.4\n", "line 1: GDT_TS 153.0; it must lie in [0, 100]"),
        ("T0949TS004_1 nan 0.4\n", "line 1: GDT_TS nan; it must lie in [0, 100]"),
        ("T0949TS004_1 x 0.4\n", "line 1: GDT_TS 'x' is not a number"),
        ("T0949TS004_1 5 0.4\nT0949TS004_1 6 0.4\n", "line 2: a second line for T0949TS004_1"),
    ],
)
def test_lines_that_are_not_in_the_format_are_named(tmp_path, text, message):
    """The message has file, line and what is expected."""
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(FormatError) as error:
        casp.read_scores(tmp_path / "t.tsv")
    assert message in str(error.value)


def test_a_model_file_has_the_score_of_its_whole_target(tmp_path):
    """The whole comes before domains; a lone domain is the whole; several domains without a whole leave none."""
    lines = ["T0001TS001_1 50 0.5", "T0001TS001_1-D1 60 0.5", "T0002TS001_1-D1 70 0.5"]
    lines += ["T0003TS001_1-D1 1 0", "T0003TS001_1-D2 2 0"]
    (tmp_path / "t.tsv").write_text("\n".join(lines))
    whole, without = casp.of_whole_targets(casp.read_scores(tmp_path / "t.tsv"))
    assert {score.file_name: score.gdt_ts for score in whole} == {"T0001TS001_1": 0.5, "T0002TS001_1": 0.7}
    assert without == ("T0003",)


@pytest.mark.shared_data
def test_the_published_table_is_read_whole(shared_data):
    """All 31,519 lines; four have no second score; one score a file for whole targets."""
    scores = casp.read_scores(shared_data / "MQA" / "graphqa_CASP13_GDT_TS_data-all.tsv.gz")
    assert len(scores) == 31519
    assert sum(score.second_score is None for score in scores) == 4
    whole, without = casp.of_whole_targets(scores)
    assert len({score.file_name for score in whole}) == len(whole)
    assert {score.target for score in whole} | set(without) == {score.target for score in scores}
