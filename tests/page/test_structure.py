"""The page of a protein: what its script is given, what stands in its markup, and what is refused."""

import dataclasses
import math

import pytest

from bihf_jax.page import Residue, StructurePage, Track, Value, structure_page
from tests.page.made import HOSTILE, Document, small_page, small_protein, small_scores


def _data(page: StructurePage) -> dict:
    return Document(structure_page(page)).page_data()


def test_the_script_is_given_every_residue_with_its_score():
    """Exactly, as far as float32 goes; NaN is no score."""
    protein = small_protein()
    data = _data(small_page())
    residues = data["residues"]
    assert data["chains"] == ["A", "B"]
    assert residues["chain"] == protein.chain_index.tolist()
    assert residues["number"] == protein.residue_number.tolist()
    assert residues["code"] == [code.strip() for code in protein.insertion_code.tolist()]
    assert residues["type"] == "".join(protein.sequence())
    assert residues["resolved"] == protein.atom_mask.any(axis=1).astype(int).tolist()
    (score,) = [layer for layer in data["layers"] if layer["isScore"]]
    wanted = [None if math.isnan(score) else pytest.approx(score, rel=1e-8) for score in small_scores(protein)]
    assert score["values"] == wanted
    assert (score["low"], score["high"]) == (0, 1)


def test_tracks_become_layers_with_their_own_scale():
    gate = [0.01 * index for index in range(17)] + [None]
    label = [0.0, 1.0] * 9
    tracks = [Track("gate 1", gate, description="1: structure"), Track("label", label, categories=("no", "yes"))]
    data = _data(small_page(tracks=tracks))
    assert [layer["name"] for layer in data["layers"]] == ["score", "gate 1", "label", "chain"]
    assert data["csvColumns"] == [
        *("chain", "residue_number", "insertion_code", "amino_acid", "score", "gate 1", "label"),
    ]
    _, gate_layer, label_layer, chain = data["layers"]
    assert gate_layer["values"] == [*(pytest.approx(value) for value in gate[:-1]), None]
    assert (gate_layer["low"], gate_layer["high"]) == (0.0, 0.16)
    assert label_layer["categories"] == ["no", "yes"]
    assert len(label_layer["colours"]) == 2
    assert chain["categories"] == ["A", "B"]
    assert [layer["strip"] for layer in data["layers"]] == [False, True, True, False]
    assert data["firstLayer"] == 0
    assert _data(small_page(tracks=tracks, coloured_by="label"))["firstLayer"] == 2
    with pytest.raises(ValueError, match="coloured_by is 'gate', which is no track; tracks: gate 1, label"):
        small_page(tracks=tracks, coloured_by="gate")
    assert gate_layer["description"] == "1: structure"


def test_a_track_may_wait_until_it_is_asked_for():
    """It is on the page, but not shown from the start."""
    tracks = [Track("now", [0.5] * 18), Track("later", [0.5] * 18, shown=False)]
    layers = {layer["name"]: layer for layer in _data(small_page(tracks=tracks))["layers"]}
    assert layers["now"]["shown"] is True
    assert layers["later"]["shown"] is False
    assert layers["later"]["strip"] is True


@pytest.mark.parametrize(
    ("scores", "score_range", "ends"),
    [
        ([1.0, 2.0, None, 5.0], None, (1.0, 5.0)),
        ([2.0, 2.0, None, None], None, (1.5, 2.5)),
        ([0.2, 0.4, 0.4, 0.4], (0.0, 1.0), (0.0, 1.0)),
    ],
)
def test_the_scale_spans_the_scores_unless_it_is_given(scores, score_range, ends):
    score = _data(_first_residues(scores, score_range=score_range))["layers"][0]
    assert (score["low"], score["high"]) == ends


def _first_residues(scores: list[float | None], **more) -> StructurePage:
    """The page of the first residues of `small_protein`, with these scores."""
    page = small_page()
    residues = [
        dataclasses.replace(residue, score=score) for residue, score in zip(page.residues, scores, strict=False)
    ]
    return dataclasses.replace(page, residues=residues, **({"score_range": None} | more))


def test_the_threshold_marks_a_tenth_unless_it_is_given():
    scores = [float(number) for number in range(1, 11)]
    assert _data(_first_residues(scores))["threshold"] == 10.0
    assert _data(_first_residues(scores, threshold=0.25))["threshold"] == 0.25
    assert _data(_first_residues([3.0, None]))["threshold"] == 3.0


def test_a_page_without_scores_shows_values_with_their_interval():
    """For tasks of the whole protein: no score layer, no threshold, no score column."""
    values = [Value("GDT-TS", 0.7125, 0.65, 0.775, "90 % of 8 dropout samples"), Value("pK", 6.2, unit="-log10 M")]
    page = _first_residues([None] * 18, values=values)
    parsed = Document(structure_page(page))
    assert parsed.text_of("dt") == ["GDT-TS", "pK"]
    assert parsed.text_of("span", **{"class": "number"}) == ["0.7125", "6.2 -log10 M"]
    assert parsed.text_of("span", **{"class": "interval"}) == ["[0.65, 0.775] 90 % of 8 dropout samples"]
    data = parsed.page_data()
    assert data["threshold"] is None
    assert [layer["name"] for layer in data["layers"]] == ["chain"]
    assert "score" not in data["csvColumns"]


def test_text_from_outside_is_text():
    """Title, model, notes, values, names of tracks and categories can hold markup, and none of it is read as such."""
    usual = Document(
        structure_page(small_page(tracks=[Track("t", [0] * 18, categories=("a",))], values=[Value("v", 1)]))
    )
    hostile = small_page(
        title=HOSTILE,
        model=HOSTILE,
        notes=[HOSTILE],
        score_name=HOSTILE,
        label_names=(HOSTILE, HOSTILE),
        values=[Value(HOSTILE, 1.0, unit=HOSTILE)],
        tracks=[Track(HOSTILE + "2", [0] * 18, categories=(HOSTILE,), description=HOSTILE)],
    )
    parsed = Document(structure_page(hostile))
    # The model's line and the note are the two elements more.
    assert sorted(tag for tag, _ in parsed.elements) == sorted([tag for tag, _ in usual.elements] + ["p", "li"])
    assert parsed.text_of("title") == parsed.text_of("h1") == parsed.text_of("dt") == [HOSTILE]
    assert HOSTILE in parsed.text_of("li")
    assert [layer["name"] for layer in parsed.page_data()["layers"]] == [HOSTILE, HOSTILE + "2", "chain"]


def test_notes_say_what_the_page_leaves_out():
    page = small_page()
    only_a = dataclasses.replace(page, residues=[residue for residue in page.residues if residue.chain == "A"])
    assert Document(structure_page(only_a)).text_of("li")[-1].startswith("6 residues of the structure have no score")
    assert "2 residues have no coordinates" in " ".join(Document(structure_page(page)).text_of("li"))


@pytest.mark.parametrize(
    ("title", "stem"),
    [("1abc.pdb.gz", "1abc"), ("a/../b.CIF", "a_.._b"), ("  ", "protein"), ("..", "protein"), ("x" * 200, "x" * 80)],
)
def test_downloads_have_names_that_every_file_system_takes(title, stem):
    assert _data(small_page(title=title))["download"]["stem"] == stem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"structure_format": "xyz"}, "structure_format 'xyz' is unknown; known: PDB, mmCIF"),
        ({"residues": ()}, "no residues"),
        ({"residues": [Residue("A", 1, "", "ALA")]}, "residue 1 of chain 'A' has type 'ALA'; known: ARND"),
        ({"label_names": ("a", "b", "c")}, "label_names must be two names"),
        ({"threshold": math.nan}, "threshold must be finite"),
        ({"tracks": [Track("gate", [1.0])]}, "track 'gate' has 1 values for 18 residues"),
        ({"tracks": [Track("chain", [1.0] * 18)]}, "the name 'chain' of a track is taken"),
        ({"tracks": [Track("gate", [1.0] * 18)] * 2}, "the name 'gate' of a track is taken"),
        ({"tracks": [Track("gate", [math.inf] * 18)]}, "track 'gate' must be finite, got inf"),
        ({"tracks": [Track("gate", [1.0] * 18, 2.0, 2.0)]}, "range of 'gate' must rise, got 2 to 2"),
        ({"tracks": [Track("label", [2.0] * 18, categories=("a", "b"))]}, "'label' has the value 2, but 2 categories"),
        ({"tracks": [Track("label", [0.5] * 18, categories=("a", "b"))]}, "'label' has the value 0.5, but 2"),
        ({"score_range": (1.0, 0.0)}, "range of 'score' must rise, got 1 to 0"),
        ({"values": [Value("pK", 6.0, low=5.0)]}, "'pK' has one end of an interval"),
        ({"values": [Value("pK", math.nan)]}, "pK must be finite, got nan"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        structure_page(dataclasses.replace(small_page(), **change))
