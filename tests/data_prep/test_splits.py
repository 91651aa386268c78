"""Splits by sequence cluster: what counts as related, and that no related pair crosses a split."""

import itertools
import re
import shutil
import string
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import splits

AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYV"
TOOLS = [
    "biopython",
    pytest.param("mmseqs", marks=pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 is not installed")),
]


def random_sequence(rng, length):
    return "".join(rng.choice(list(AMINO_ACIDS), size=length))


def mutate(rng, sequence, identity):
    """`sequence` with a share 1 - identity of its residues replaced by other ones, and one deletion of 3."""
    letters = list(sequence)
    for position in rng.permutation(len(letters))[: round((1 - identity) * len(letters))]:
        letters[position] = rng.choice([letter for letter in AMINO_ACIDS if letter != letters[position]])
    cut = int(rng.integers(10, len(letters) - 10))
    return "".join(letters[:cut] + letters[cut + 3 :])


def families(rng, count, members, identity=0.6):
    """Complex id -> two chains; the complexes of a family share a mutated chain, their other chain is unrelated."""
    chains = {}
    for family in range(count):
        ancestor = random_sequence(rng, int(rng.integers(80, 200)))
        for member in range(members):
            own = random_sequence(rng, int(rng.integers(40, 150)))
            chains[f"f{family}m{member}"] = [mutate(rng, ancestor, identity), own]
    return chains


def sizes_of(chains):
    return {complex_id: sum(map(len, sequences)) for complex_id, sequences in chains.items()}


@pytest.mark.parametrize("tool", TOOLS)
def test_no_related_pair_crosses_a_split(tool):
    """No chain of validation or test has a hit at the thresholds in another split, searched again from scratch."""
    chains = families(np.random.default_rng(1), count=8, members=3)
    result = splits.split_complexes(chains, sizes_of(chains), fractions=(0.6, 0.2, 0.2), tool=tool)
    assert set(result.split_of.values()) == set(splits.SPLITS)
    split_of_chain = {sequence: result.split_of[name] for name, sequences in chains.items() for sequence in sequences}
    sequences = list(split_of_chain)
    pairs = splits.related_pairs(sequences, identity=0.3, coverage=0.5, tool=tool)
    assert pairs, "the families must be found, or the check is empty"
    assert all(split_of_chain[sequences[i]] == split_of_chain[sequences[j]] for i, j in pairs)


@pytest.mark.parametrize("tool", TOOLS)
def test_clusters_are_the_families(tool):
    """Both tools find exactly the mutated families and join no unrelated complexes."""
    chains = families(np.random.default_rng(7), count=10, members=2)
    clusters = splits.cluster_complexes(chains, identity=0.3, coverage=0.5, tool=tool)
    assert sorted(map(sorted, clusters)) == [[f"f{family}m0", f"f{family}m1"] for family in range(10)]


@pytest.mark.parametrize("tool", TOOLS)
def test_linkage_is_single(tool):
    """Complexes A-B and B-C that share one chain each are one cluster although A and C share none."""
    rng = np.random.default_rng(3)
    first, second, other = (random_sequence(rng, 120) for _ in range(3))
    chains = {"A": [first], "B": [mutate(rng, first, 0.7), second], "C": [mutate(rng, second, 0.7)], "D": [other]}
    clusters = splits.cluster_complexes(chains, identity=0.3, coverage=0.5, tool=tool)
    assert clusters == [["A", "B", "C"], ["D"]]


@pytest.mark.parametrize("tool", TOOLS)
def test_thresholds_act(tool):
    """A pair at 70 % identity is related at a threshold of 0.5 and not at 0.9; a shared quarter needs low coverage."""
    rng = np.random.default_rng(11)
    ancestor, shared = random_sequence(rng, 160), random_sequence(rng, 50)
    sequences = [ancestor, mutate(rng, ancestor, 0.7)]
    sequences += [shared + random_sequence(rng, 150), random_sequence(rng, 160) + shared]
    assert splits.related_pairs(sequences, identity=0.5, coverage=0.8, tool=tool) == {(0, 1)}
    assert splits.related_pairs(sequences, identity=0.9, coverage=0.2, tool=tool) == {(2, 3)}


@pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 is not installed")
def test_the_fallback_finds_the_clusters_of_mmseqs():
    """Biopython's clusters equal those of MMseqs2 on families at 45 % identity, three chains each."""
    chains = families(np.random.default_rng(5), count=6, members=3, identity=0.45)
    by_tool = [splits.cluster_complexes(chains, identity=0.3, coverage=0.5, tool=tool) for tool in splits.TOOLS]
    assert by_tool[0] == by_tool[1]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_nearest_relative_is_the_most_identical(tool):
    """Equal sequences and contained peptides are identical; of two relatives the nearer one; of none, -1."""
    rng = np.random.default_rng(5)
    first, second = random_sequence(rng, 150), random_sequence(rng, 150)
    others = [mutate(rng, first, 0.5), mutate(rng, first, 0.8), second, "MK", "X" * 40]
    sequences = [first, second, second[40:60], random_sequence(rng, 150), "MK", "X" * 40]
    found = splits.nearest_among(sequences, others, identity=0.3, coverage=0.5, tool=tool)
    assert found.index.tolist() == [1, 2, 2, -1, -1, -1]
    assert found.identity[0] == pytest.approx(0.8, abs=0.05)
    assert found.identity[1:].tolist() == [1, 1, 0, 0, 0]


def test_short_chains_relate_by_containment_only():
    """A 12-residue peptide relates to the chain that contains it; 7 residues and runs of X relate nothing."""
    rng = np.random.default_rng(0)
    protein, other = random_sequence(rng, 90), random_sequence(rng, 90)
    peptide = protein[20:32]
    changed = peptide[:5] + ("A" if peptide[5] != "A" else "G") + peptide[6:]
    sequences = [protein, other, peptide, changed, protein[40:47], "X" * 25, "X" * 40]
    assert splits.contained_pairs(sequences) == {(0, 2)}
    assert splits.related_pairs(sequences, identity=0.3, coverage=0.5, tool="biopython") == {(0, 2)}


def test_identical_chains_of_any_relating_length_join_complexes():
    """Complexes that share the very same 10-residue peptide are one cluster; a shared 5-residue one joins none."""
    rng = np.random.default_rng(1)
    names = string.ascii_uppercase[:4]
    chains = {name: [random_sequence(rng, 60)] for name in names}
    chains["A"].append("ACDEFGHIKL")
    chains["B"].append("ACDEFGHIKL")
    chains["C"].append("ACDEF")
    chains["D"].append("ACDEF")
    assert splits.cluster_complexes(chains, identity=0.3, coverage=0.5, tool="biopython") == [["A", "B"], ["C"], ["D"]]


def test_a_complex_of_tiny_peptides_is_a_cluster_of_its_own():
    """A complex that can relate to nothing still gets a place."""
    chains = {"A": ["GGG"], "B": ["GGG", "XXXXXXXXXX"]}
    assert splits.cluster_complexes(chains, identity=0.3, coverage=0.5, tool="biopython") == [["A"], ["B"]]


@given(
    cluster_sizes=st.lists(st.integers(1, 6), min_size=3, max_size=40),
    seed=st.integers(0, 2**31),
    lengths=st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_assignment_places_whole_clusters_and_fills_every_split(cluster_sizes, seed, lengths):
    """Every complex is placed once, clusters stay whole, no split is empty, the largest cluster trains, twice equal."""
    names = itertools.count()
    clusters = [[f"c{next(names)}" for _ in range(size)] for size in sorted(cluster_sizes, reverse=True)]
    sizes = {name: lengths.randint(20, 800) for cluster in clusters for name in cluster}
    split_of = splits.assign_clusters(clusters, sizes, (0.8, 0.1, 0.1), seed)
    assert set(split_of) == set(sizes)
    assert all(len({split_of[name] for name in cluster}) == 1 for cluster in clusters)
    assert set(split_of.values()) == set(splits.SPLITS)
    largest = [cluster for cluster in clusters if len(cluster) == len(clusters[0])]
    assert any(split_of[cluster[0]] == "train" for cluster in largest)
    assert split_of == splits.assign_clusters(clusters, sizes, (0.8, 0.1, 0.1), seed)


def test_assignment_matches_the_fractions_and_follows_the_seed():
    """With 200 single complexes each split is within 3 % of its share of residues, and another seed deals otherwise."""
    rng = np.random.default_rng(0)
    clusters = [[f"c{number}"] for number in range(200)]
    sizes = {f"c{number}": int(rng.integers(50, 500)) for number in range(200)}
    dealt = [splits.assign_clusters(clusters, sizes, (0.7, 0.1, 0.2), seed) for seed in (0, 1)]
    assert dealt[0] != dealt[1]
    for split_of in dealt:
        for split, fraction in zip(splits.SPLITS, (0.7, 0.1, 0.2), strict=True):
            share = sum(sizes[name] for name in sizes if split_of[name] == split) / sum(sizes.values())
            assert share == pytest.approx(fraction, abs=0.03)


def test_a_fraction_of_zero_leaves_the_split_out():
    """Fractions 1, 0, 0 put every complex into train, even a single one."""
    assert splits.assign_clusters([["a"]], {"a": 5}, (1.0, 0.0, 0.0), 0) == {"a": "train"}


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.8, 0.1), "three numbers"),
        ((0.9, 0.2, -0.1), "none negative"),
        ((0.5, 0.1, 0.1), "sum 1"),
        ((0, 0.5, 0.5), "train"),
    ],
)
def test_bad_fractions_are_refused(fractions, message):
    """Fractions that are no partition are refused with what is allowed."""
    with pytest.raises(ValueError, match=message):
        splits.split_complexes({"a": ["A" * 30]}, {"a": 30}, fractions=fractions, tool="biopython")


def test_too_few_clusters_are_refused():
    """Two related complexes cannot fill three splits, and the error says what to do."""
    with pytest.raises(ValueError, match=r"1 clusters .* cannot fill 3 splits"):
        splits.assign_clusters([["a", "b"]], {"a": 5, "b": 5}, (0.8, 0.1, 0.1), 0)


def test_tools_are_named(monkeypatch):
    """An unknown tool lists the tools; a missing MMseqs2 is named with the fix; without it the fallback is chosen."""
    with pytest.raises(ValueError, match="tools: mmseqs, biopython"):
        splits.choose_tool("blast")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert splits.choose_tool(None) == "biopython"
    with pytest.raises(FileNotFoundError, match="install MMseqs2"):
        splits.choose_tool("mmseqs")


def test_the_method_says_how(tmp_path):
    """The metadata of a split name tool, version, thresholds, fractions and seed."""
    chains = {f"c{n}": [random_sequence(np.random.default_rng(n), 60)] for n in range(6)}
    method = splits.split_complexes(
        chains, sizes_of(chains), tool="biopython", seed=4, fractions=(0.6, 0.2, 0.2)
    ).method
    assert method["tool"] == "biopython"
    assert method["tool_version"] == sys.modules["Bio"].__version__
    assert (method["identity"], method["coverage_of_shorter"], method["seed"], method["clusters"]) == (0.3, 0.5, 4, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,split\na,train\n", "must have complex,split"),
        ("complex,split\na,train\nb,dev\n", "line 3: split 'dev'; splits: train, validation, test"),
        ("complex,split\na,train\na,test\n", "line 3: a second line for complex 'a'"),
    ],
)
def test_a_bad_split_file_is_refused(tmp_path, content, message):
    path = tmp_path / "split.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        splits.read_split(path)


def test_a_given_split_is_kept_and_its_leaks_are_counted():
    rng = np.random.default_rng(0)
    first, second, third = ("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)) for _ in range(3))
    chains = {"a": [first], "b": [first], "c": [second], "d": [third]}
    published = {"a": "train", "b": "test", "c": "test", "d": "validation", "not_here": "train"}
    split = splits.given_split(published, chains, tool="biopython", source="file x.csv")
    assert split.split_of == {"a": "train", "b": "test", "c": "test", "d": "validation"}
    assert split.cluster_of["a"] == split.cluster_of["b"] != split.cluster_of["c"]
    assert split.method["related_to_train"] == {"validation": 0, "test": 1}
    with pytest.raises(ValueError, match="no line for 1 of 4 complexes: d"):
        splits.given_split({"a": "train", "b": "test", "c": "test"}, chains, tool="biopython", source="file x.csv")


def test_classes_of_validation_and_test_are_in_train():
    """Whatever the seed, no class is tested that is not trained; a class of one cluster alone is in train."""
    clusters = [[f"c{number}"] for number in range(30)]
    classes_of = {f"c{number}": frozenset({number % 4, 9 if number == 17 else number % 3}) for number in range(30)}
    sizes = dict.fromkeys(classes_of, 1)
    for seed in range(20):
        split_of = splits.assign_clusters(clusters, sizes, (0.6, 0.2, 0.2), seed, classes_of)
        classes = {
            split: frozenset().union(*(classes_of[name] for name, mine in split_of.items() if mine == split))
            for split in splits.SPLITS
        }
        assert split_of["c17"] == "train"
        assert classes["validation"] | classes["test"] <= classes["train"]
        assert min(list(split_of.values()).count(split) for split in splits.SPLITS) >= 3


def test_classes_of_one_cluster_each_leave_no_other_split():
    """The message names the splits that stay empty and what can be done."""
    clusters = [[name] for name in "abcd"]
    classes_of = {name: frozenset({number}) for number, name in enumerate("abcd")}
    with pytest.raises(ValueError, match=r"no cluster is left for validation, test: each of 4 has a class .*--level"):
        splits.assign_clusters(clusters, dict.fromkeys("abcd", 1), (0.6, 0.2, 0.2), 0, classes_of)


def test_a_published_split_too_large_for_the_fallback_is_not_compared(monkeypatch):
    """Then the method says that it is not known, and no cluster is made up."""
    monkeypatch.setattr(splits, "MAX_FALLBACK_CHAINS", 2)
    chains = {name: (name * 30,) for name in "ACD"}
    split = splits.given_split(
        dict(zip("ACD", splits.SPLITS, strict=True)), chains, tool="biopython", source="a published list"
    )
    assert (split.method["related_to_train"], split.cluster_of) == (None, {})
    assert split.split_of == dict(zip("ACD", splits.SPLITS, strict=True))
