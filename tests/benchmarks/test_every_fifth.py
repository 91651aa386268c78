"""The naive split: a fifth is tested, a twentieth picks the checkpoint, and `data_prep` reads it."""

from collections import Counter

from benchmarks import every_fifth
from data_prep import splits


def test_the_printed_split_is_read_back(tmp_path, capsys):
    for number in range(40):
        for side in "lr":
            (tmp_path / f"C{number:02d}_{side}_b.pdb").write_text("")
    assert every_fifth.main([str(tmp_path)]) == 0
    path = tmp_path / "split.csv"
    path.write_text(capsys.readouterr().out)
    split_of = splits.read_split(path)
    assert Counter(split_of.values()) == {"train": 30, "test": 8, "validation": 2}
    assert [name for name, split in split_of.items() if split == "test"] == [f"C{n:02d}" for n in range(0, 40, 5)]
