"""Which structures a command is asked to do."""

import pytest

from bihf_jax.inference.inputs import InputError, find_targets
from bihf_jax.protein import Protein


@pytest.fixture
def folder(tmp_path):
    for name in ("b.pdb", "a.cif.gz", "sub/deep/a.ent", "notes.md", ".hidden/c.pdb", "odd; name,(1).PDB.GZ", "x.pdbqt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path


def test_a_folder_is_searched_with_its_subfolders(folder):
    """Every structure file by its place, hidden ones not; other files are told; names hold no letter of a script."""
    targets, clashes, passed_over = find_targets(folder)
    assert [target.name for target in targets] == ["a", "b", "odd__name__1_", "sub/deep/a"]
    assert [target.path.name for target in targets] == ["a.cif.gz", "b.pdb", "odd; name,(1).PDB.GZ", "a.ent"]
    assert clashes == ()
    assert [path.name for path in passed_over] == ["notes.md", "x.pdbqt"]


def test_one_file(folder):
    (target,), _, _ = find_targets(folder / "b.pdb", chains=["A", "B"])
    assert (target.name, target.chains) == ("b_A+B", ("A", "B"))


def test_a_list_names_paths_and_chains(folder):
    """Paths are relative to the list, chains follow a tab; empty lines and comments are passed over."""
    path = folder / "list.txt"
    path.write_text("# partners\nb.pdb\n\nb.pdb\tH+L\nsub/deep/a.ent\n/absolute/z.pdb\n")
    targets = find_targets(path).targets
    assert [target.name for target in targets] == ["b", "b_H+L", "a", "z"]
    assert targets[1].chains == ("H", "L")
    assert targets[2].path == folder / "sub/deep/a.ent"
    assert targets[3].path.as_posix() == "/absolute/z.pdb"
    assert find_targets(path, chains=["C"]).targets[0].name == "b_C"


def test_names_that_two_inputs_would_share(folder):
    """The first has the name; the other is told with the way out."""
    (folder / "a.pdb").write_text("")
    targets, clashes, _ = find_targets(folder)
    assert [target.path.name for target in targets if target.name == "a"] == ["a.cif.gz"]
    ((target, message),) = clashes
    assert target.path.name == "a.pdb"
    assert "would have the name of those of" in message
    assert "a.cif.gz: a. Rename one of them" in message


def test_no_path_leads_out_of_the_output(tmp_path):
    """Dots and slashes of a listed path are no part of the name."""
    (tmp_path / "list.txt").write_text("../../etc/..pdb.pdb\n/x/.../y.cif\n")
    names = [target.name for target in find_targets(tmp_path / "list.txt").targets]
    assert names == ["_.pdb", "y"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent", None, "no such file or folder"),
        ("absent.pdb", None, r"absent\.pdb: no such file"),
        ("notes.md", "", "neither a folder, nor a structure file"),
        ("empty.txt", "# nothing\n", "no path in the list"),
        ("absent.txt", None, "No such file"),
        ("binary.txt", b"\xff\xfe", "not text in UTF-8"),
    ],
)
def test_inputs_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        find_targets(tmp_path / name)


def test_a_folder_without_structures(tmp_path):
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(InputError, match=r"no \.pdb, \.ent or \.cif file \(also \.gz\) among 1 files"):
        find_targets(tmp_path)


def test_chains_are_those_that_are_read(odd, tmp_path):
    odd.to_file(tmp_path / "odd.cif")
    (target,), _, _ = find_targets(tmp_path / "odd.cif", chains=["B"])
    assert target.read().chain_ids == ("B",)
    assert isinstance(target.read(), Protein)
