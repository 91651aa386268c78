"""Sequences to a record set: what is read, held out, cut and left out, all of it counted."""

import gzip
import json
import shutil

import numpy as np
import pytest

from bihf_jax.data import alphabet
from bihf_jax.data.example import NOT_IN_SEQUENCES, schema
from bihf_jax.data.records import RecordSet
from data_prep import check, sequences, splits
from tests.data_prep.test_splits import AMINO_ACIDS, TOOLS, mutate, random_sequence

needs_mmseqs = pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 is not installed")


def write_fasta(path, records):
    text = "".join(f">{name} title\n{sequence}\n" for name, sequence in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def letters(example):
    return "".join(alphabet.TOKENS[token] for token in example.tokens[1:-1])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(folder, report, what was given): 30 sequences of every kind through the command."""
    pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")
    folder = tmp_path_factory.mktemp("sequences")
    rng = np.random.default_rng(0)
    given = {f"s{i}": random_sequence(rng, 60 + i) for i in range(22)}
    first = [*given.items(), ("long", random_sequence(rng, 205)), ("s3", random_sequence(rng, 60))]
    second = [("lower", random_sequence(rng, 60).lower()), ("stop", random_sequence(rng, 60) + "*")]
    second += [("odd", random_sequence(rng, 50) + "BJOUXZ"), ("gap", "MK-VL" * 20), ("inside", "MK*VL" * 20)]
    second += [("short", "MKV"), ("empty", ""), ("unknown", "X" * 50)]
    files = [write_fasta(folder / "a.fasta.gz", first), write_fasta(folder / "b.fasta", second)]
    arguments = ["--fasta", *files, "--out", folder / "out", "--max-residues", 100, "--split", "0.6,0.2,0.2"]
    assert sequences.main(list(map(str, [*arguments, "--alignment", "biopython", "--workers", 1]))) == 0
    return folder / "out", json.loads((folder / "out" / "report.json").read_text()), dict(reversed(first + second))


def test_every_sequence_is_accounted_for(built):
    """Counts by outcome add up to the sequences given; what is left out is listed with file, line and reason."""
    _, report, _ = built
    assert report["sequences"] == {"written": 26, "too_short": 2, "letters": 2, "no_amino_acid": 1, "repeated_id": 1}
    assert report["changes"] == {"lower_case": 1, "stop": 1, "j": 1, "windowed": 1}
    listed = {entry["id"]: entry for entry in report["left_out"]}
    assert listed.keys() == {"gap", "inside", "short", "empty", "unknown", "s3"}
    assert listed["gap"] == {"what": "letters", "id": "gap", "source": "b.fasta", "line": 7, "letters": "-"}
    assert listed["s3"]["source"] == "a.fasta.gz"
    assert listed["s3"]["line"] == 47


def test_records_are_the_sequences(built):
    """Each sequence once, in upper case without its stop, J as X; a long one in equal windows that join to it."""
    folder, _, given = built
    found = {example.id: example for split in splits.SPLITS for example in RecordSet(folder, split)}
    windows = [f"long/{first}-{last}" for first, last in ((1, 68), (69, 136), (137, 205))]
    assert "".join(letters(found.pop(name)) for name in windows) == given["long"]
    expected = {name: given[name] for name in [*(f"s{i}" for i in range(22)), "lower", "stop", "odd"]}
    expected["s3"] = letters(found["s3"])  # the first of the two
    assert len(expected["s3"]) == 63
    expected |= {"lower": given["lower"].upper(), "stop": given["stop"][:-1], "odd": given["odd"].replace("J", "X")}
    assert {name: letters(example) for name, example in found.items()} == expected
    for example in found.values():
        assert example.tokens[[0, -1]].tolist() == [alphabet.CLS, alphabet.EOS]
        assert not example.backbone_mask.any()
        assert not example.neighbour_offset.any()
        assert not example.label_mask.any()
        assert example.residue_number.tolist() == [0, *range(1, example.num_slots - 1), 0]


def test_records_hold_tokens_alone(built):
    """What the schema of sequences leaves out is not in the files: about a byte a residue, and 300 a record."""
    folder, _, _ = built
    features = json.loads((folder / "features.json").read_text())["featuresDict"]["features"]
    assert features.keys() == schema().keys() - {*NOT_IN_SEQUENCES}
    records = RecordSet(folder, "train")
    size = sum(path.stat().st_size for path in folder.glob("records-train*"))
    assert size < records.slots.sum() + 300 * len(records)


@needs_mmseqs
def test_check_reads_them(built, tmp_path):
    """Records without structure are sound, and no held-out sequence has a relative to train on."""
    assert check.main([str(built[0]), "--out", str(tmp_path), "--fail-above", "0"]) == 0


@pytest.mark.parametrize("length", [1, 99, 100, 101, 205, 1000])
def test_windows_are_few_equal_and_complete(length):
    """They join to the whole, none is over the limit, their lengths differ by at most one, and fewer would not do."""
    found = sequences.windows(length, 100)
    assert [i for window in found for i in window] == list(range(length))
    sizes = {len(window) for window in found}
    assert max(sizes) <= 100
    assert max(sizes) - min(sizes) <= 1
    assert (len(found) - 1) * 100 < length


def test_drawn_clusters_are_whole_and_of_the_right_size():
    """No cluster is torn apart, held-out splits are nearly full, and what is too large for them is trained on."""
    rng = np.random.default_rng(0)
    cluster = np.concatenate([np.zeros(300, np.int64), 1 + np.arange(1700) % 400])
    residues = rng.integers(30, 900, 2000)
    split_of = sequences.draw_clusters(cluster, residues, [0.9, 0.05, 0.05], seed=1)
    assert all(len(set(split_of[cluster == number])) == 1 for number in range(401))
    shares = np.bincount(split_of, weights=residues) / residues.sum()
    assert split_of[0] == 0
    assert np.all(shares[1:] <= 0.05)
    assert np.all(shares[1:] > 0.045)


def test_clusters_too_large_to_hold_out_are_an_error():
    with pytest.raises(ValueError, match="no cluster is small enough for validation and test"):
        sequences.draw_clusters(np.zeros(5, np.int64), np.full(5, 10), [0.8, 0.1, 0.1], seed=0)


@pytest.mark.parametrize("tool", TOOLS)
def test_relatives_share_a_cluster(tool):
    """Families of 94 % identity are the clusters, largest first; unrelated sequences are clusters of their own.

    Linclust finds relatives that share k-mers; what it misses is `nearest_among`'s to find.
    """
    rng = np.random.default_rng(3)
    given, family = [], []
    for number, members in enumerate((4, 3, 1)):
        ancestor = random_sequence(rng, 150)
        given += [mutate(rng, ancestor, 0.97) for _ in range(members)]
        family += [number] * members
    found = splits.cluster_sequences(given, identity=0.3, coverage=0.5, tool=tool)
    assert found.tolist() == family


@needs_mmseqs
def test_related_sequences_are_found_among_others():
    """A distant relative that linclust may miss is found by the search; unrelated sequences are not."""
    rng = np.random.default_rng(4)
    ancestors = [random_sequence(rng, 200) for _ in range(3)]
    others = [mutate(rng, ancestor, 0.45) for ancestor in ancestors[:2]]
    found = splits.nearest_among(ancestors, others, identity=0.3, coverage=0.5, **sequences.SEARCH)
    assert found.index.tolist() == [0, 1, -1]


def test_too_many_for_the_fallback_is_an_error():
    with pytest.raises(ValueError, match="install MMseqs2"):
        splits.cluster_sequences(
            ["MKVL"] * (splits.MAX_FALLBACK_CHAINS + 1), identity=0.3, coverage=0.5, tool="biopython"
        )


def test_encoding_names_a_strange_letter():
    """Every letter of sequences has the token of its name; any other is an error that lists them."""
    tokens = alphabet.encode_sequence(alphabet.SEQUENCE_LETTERS)
    assert "".join(alphabet.TOKENS[token] for token in tokens) == alphabet.SEQUENCE_LETTERS
    assert sorted(alphabet.SEQUENCE_LETTERS) == sorted(AMINO_ACIDS + "XBUZO")
    with pytest.raises(ValueError, match=r"holds \*, m; letters"):
        alphabet.encode_sequence("MK*m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-residues", "10"], "--min-residues 30 is more than --max-residues 10"),
        (["--split", "0.5,0.5"], "three numbers"),
        (["--sample", "0"], "--sample is 0"),
        ([], "no such file"),
    ],
)
def test_wrong_settings_are_named(tmp_path, capsys, arguments, message):
    pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")
    out = ["--fasta", str(tmp_path / "none.fasta"), "--out", str(tmp_path / "out")]
    assert sequences.main([*out, *arguments]) == 1
    assert message in capsys.readouterr().err
