"""Files of `torch.save`: read as PyTorch reads them, and nothing in them is executed."""

import argparse
import collections
import os
import pickle
import zipfile

import numpy as np
import pytest

from bihf_jax.pretrained import PretrainedError, load_esm2
from bihf_jax.pretrained.torch_file import read_torch_file
from tests.pretrained.files import write_hugging_face


def write_archive(path, index, **members):
    """A zip archive as `torch.save` lays it out: `index` is its data.pkl, `members` its storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", index)
        for key, content in members.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", content)
    return path


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def malicious(marker):
    """Pickles that would run code in `pickle.load`, and what the message names."""
    command = f"touch {marker}"
    return {
        "system": (pickle.dumps(Call(os.system, command), protocol=2), f"{os.system.__module__}.system"),
        "eval": (pickle.dumps({"model": Call(eval, f"open({str(marker)!r}, 'w')")}, protocol=4), r"builtins\.eval"),
        "setstate": (
            b"\x80\x02cargparse\nNamespace\n)\x81}X\x0c\x00\x00\x00__setstate__cposix\nsystem\nsb.",
            r"posix\.system",
        ),
        "dotted": (
            b"\x80\x04\x8c\x0ctorch._utils\x8c\x22_rebuild_tensor_v2.__globals__.get\x93.",
            r"_rebuild_tensor_v2\.__globals__",
        ),
        "old protocol": (b"cposix\nsystem\n(S'touch " + os.fsencode(marker) + b"'\ntR.", r"posix\.system"),
        "instance": (b"(iposix\nsystem\n.", "the instruction INST"),
        "extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        "change of a string": (b"\x80\x02X\x01\x00\x00\x00a}b.", "a change to a str"),
        "call of a storage": (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of torch FloatStorage with 0 arguments"),
        "call of a number": (b"\x80\x02K\x01)R.", "a call of a int with 0 arguments"),
        "key": (b"\x80\x02})K\x01s.", "a dict whose keys"),
        "reference": (b"\x80\x02(K\x01K\x01K\x01K\x01K\x01tQ.", "a reference to something else"),
        "tensor of nothing": (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR.",
            "a tensor without numbers",
        ),
    }


@pytest.mark.parametrize("kind", malicious("x"))
def test_malicious_pickle_is_refused(tmp_path, kind):
    """A file that asks for anything but weights is refused by what it asks for, and nothing of it has run."""
    marker = tmp_path / "has_run"
    index, message = malicious(marker)[kind]
    for path in (tmp_path / "esm2_t6_8M_UR50D.pt", tmp_path / "folder" / "pytorch_model.bin"):
        if path.suffix == ".bin":
            write_hugging_face(path.parent)
            (path.parent / "model.safetensors").unlink()
        write_archive(path, index)
        with pytest.raises(PretrainedError, match=message):
            load_esm2(path if path.suffix == ".pt" else path.parent)
    assert not marker.exists()


def test_the_malicious_pickles_work(tmp_path):
    """The first of them does run code in `pickle.loads`, so that the refusal is of something."""
    pickle.loads(malicious(tmp_path / "has_run")["system"][0])
    assert (tmp_path / "has_run").exists()


@pytest.fixture
def saved(tmp_path):
    """(path, what PyTorch reads from it): tensors of several types and strides, settings, plain values."""
    torch = pytest.importorskip("torch", reason="parity needs torch")
    torch.manual_seed(0)
    base = torch.randn(5, 6)
    content = {
        "cfg": {
            "model": argparse.Namespace(layers=3, rate=0.5, name="esm2", nothing=None, flag=True, sizes=[1, (2, 3)])
        },
        "model": collections.OrderedDict(
            matrix=base,
            transposed=base.t(),
            part=base[1:4, 2:5],
            row=base[2],
            scalar=torch.tensor(3.5),
            empty=torch.zeros(0, 4),
            half=base.half(),
            brain=base.bfloat16(),
            long=torch.arange(70000),
            repeated=torch.ones(1, 3).expand(4, 3),
        ),
        "many": {f"tensor{i}": torch.full((2,), float(i)) for i in range(300)},
        "large": 2**40,
    }
    torch.save(content, tmp_path / "model.pt")
    with torch.serialization.safe_globals([argparse.Namespace]):
        return tmp_path / "model.pt", torch.load(tmp_path / "model.pt", weights_only=True)


def test_reads_what_torch_reads(saved):
    """Every tensor, whatever its type, strides and offset, has the values that PyTorch's own loader gives."""
    path, expected = saved
    content = read_torch_file(path)
    assert content["cfg"]["model"] == vars(expected["cfg"]["model"])
    assert content["large"] == expected["large"]
    for group in ("model", "many"):
        assert content[group].keys() == expected[group].keys()
        for name, tensor in expected[group].items():
            ours = content[group][name]
            assert ours.dtype == str(tensor.dtype).removeprefix("torch.")
            assert ours.shape == tuple(tensor.shape)
            np.testing.assert_array_equal(ours.read().astype(np.float64), tensor.double().numpy(), err_msg=name)


def test_a_flipped_bit_is_noticed(saved):
    """The archive's checksum covers the numbers."""
    path, _ = saved
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("model/data/0").header_offset
    content[start + 200] ^= 1  # the header of a member and its alignment are shorter than that, the numbers longer
    path.write_bytes(content)
    with pytest.raises(PretrainedError, match="is damaged"):
        read_torch_file(path)["model"]["matrix"].read()


def tensor_index(key, count, offset, shape, stride):
    """The pickle of one float32 tensor."""

    def numbers(values):
        return b"(" + b"".join(b"J" + int(v).to_bytes(4, "little", signed=True) for v in values) + b"t"

    name = b"X" + len(key).to_bytes(4, "little") + key
    reference = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + name + b"X\x03\x00\x00\x00cpu"
    reference += b"J" + count.to_bytes(4, "little") + b"tQ"
    arguments = reference + b"J" + int(offset).to_bytes(4, "little", signed=True) + numbers(shape) + numbers(stride)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"\x89}tR."


def test_a_tensor_must_lie_in_its_numbers(tmp_path):
    """Shapes, strides and offsets that lead out of the file's bytes are refused before anything is read."""
    content = np.arange(6, dtype="<f4").tobytes()
    good = write_archive(tmp_path / "good.pt", tensor_index(b"0", 6, 1, (2, 2), (3, 1)), _0=content)
    np.testing.assert_array_equal(read_torch_file(good).read(), [[1, 2], [4, 5]])
    for offset, shape, stride in (
        (3, (2, 2), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (7,), (1,)),
        (0, (2,), (1, 1)),
    ):
        bad = write_archive(tmp_path / "bad.pt", tensor_index(b"0", 6, offset, shape, stride), _0=content)
        with pytest.raises(PretrainedError, match="is damaged"):
            read_torch_file(bad)
    with pytest.raises(PretrainedError, match="has 24 bytes"):
        read_torch_file(write_archive(tmp_path / "bad.pt", tensor_index(b"0", 600, 0, (600,), (1,)), _0=content))
    with pytest.raises(PretrainedError, match="cannot be read"):
        read_torch_file(write_archive(tmp_path / "bad.pt", tensor_index(b"absent", 6, 0, (6,), (1,)), _0=content))


def test_other_files_are_named(tmp_path):
    """Not a zip archive, one of something else, a compressed one, a truncated index, one of a big-endian machine."""
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(PretrainedError, match=r"PyTorch before 1\.6"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(PretrainedError, match=r"it has 0 data\.pkl"):
        read_torch_file(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    with pytest.raises(PretrainedError, match=r"a compressed archive/data\.pkl"):
        read_torch_file(path)
    with pytest.raises(PretrainedError, match="cannot be read"):
        read_torch_file(write_archive(path, b"\x80\x02}"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/byteorder", b"big")
    with pytest.raises(PretrainedError, match="big-endian"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "it has no dict 'model'"),
        ({"model": {}, "args": {"arch": "roberta_large"}}, "is ESM-1b or ESM-1v, whose learned positions"),
        ({"model": {}, "args": {"arch": "msa_transformer"}}, "is the MSA Transformer"),
        ({"model": {}, "args": {"arch": "else"}}, r"an unknown model \(arch='else'\)"),
        ({"model": {}, "cfg": {"model": {}}}, "lacks one of encoder_layers"),
    ],
)
def test_other_models_of_fair_esm_are_refused_by_name(tmp_path, content, message):
    """ESM-1b, ESM-1v and the rest are named."""
    with pytest.raises(PretrainedError, match=message):
        load_esm2(write_archive(tmp_path / "model.pt", pickle.dumps(content, protocol=2)))
