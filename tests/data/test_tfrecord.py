"""TFRecord framing, checksums and the wire format of `tf.train.Example`, against TensorFlow's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihf_jax.data import tfrecord
from bihf_jax.data.tfrecord import RecordError

int64 = st.integers(-(2**63), 2**63 - 1)
float32 = st.floats(width=32, allow_nan=False)
feature_values = st.one_of(
    st.lists(st.binary(max_size=300), max_size=4),
    st.lists(float32, max_size=20).map(lambda values: np.array(values, np.float32)),
    st.lists(int64, max_size=20).map(lambda values: np.array(values, np.int64)),
)
features = st.dictionaries(st.text(min_size=1, max_size=10), feature_values, max_size=5)


def plain(values):
    """A feature as a list of Python values, for comparison."""
    return values.tolist() if isinstance(values, np.ndarray) else [bytes(value) for value in values]


@given(features)
@settings(max_examples=100, deadline=None)
def test_serialise_and_parse_are_inverse(given_features):
    """Any byte strings, float32 and int64 (negative ones too) survive writing and parsing."""
    parsed = tfrecord.parse_example(tfrecord.serialize_example(given_features))
    assert {name: plain(values) for name, values in parsed.items()} == {
        name: plain(values) for name, values in given_features.items()
    }


@given(features)
@settings(max_examples=50, deadline=None)
def test_parser_and_serialiser_agree_with_tensorflow(given_features):
    """TensorFlow reads what we write, and we read what TensorFlow writes, value by value."""
    tf = pytest.importorskip("tensorflow")
    message = tf.train.Example.FromString(tfrecord.serialize_example(given_features))
    theirs = dict(message.features.feature.items())
    assert theirs.keys() == given_features.keys()
    for name, values in given_features.items():
        kind = theirs[name].WhichOneof("kind")
        assert list(getattr(theirs[name], kind).value) == plain(values)
    parsed = tfrecord.parse_example(message.SerializeToString())
    assert {name: plain(values) for name, values in parsed.items()} == {
        name: plain(values) for name, values in given_features.items()
    }


def test_unpacked_lists_are_read():
    """Protobuf allows one field a number instead of one packed block; both read the same."""
    unpacked_floats = bytes([0x0D]) + np.float32(1.5).tobytes() + bytes([0x0D]) + np.float32(-2).tobytes()
    unpacked_ints = bytes([0x08, 0x05, 0x08, 0xAC, 0x02])  # 5 and 300
    entry = lambda name, kind, block: tfrecord.delimited(  # noqa: E731
        1, tfrecord.delimited(1, name) + tfrecord.delimited(2, tfrecord.delimited(kind, block))
    )
    data = tfrecord.delimited(1, entry(b"f", 2, unpacked_floats) + entry(b"i", 3, unpacked_ints))
    parsed = tfrecord.parse_example(data)
    assert parsed["f"].tolist() == [1.5, -2.0]
    assert parsed["i"].tolist() == [5, 300]


@given(st.binary(min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_noise_gives_a_value_error(data):
    """Bytes that are no message end in ValueError or in a parsed message, never in another error or a hang."""
    try:
        parsed = tfrecord.parse_example(data)
    except ValueError:
        return
    assert isinstance(parsed, dict)


def test_masked_checksum_is_that_of_the_specification():
    """CRC32C of "123456789" is 0xE3069283 (RFC 3720, B.4), and its mask is undone by the inverse formula."""
    masked = tfrecord.masked_crc32c(b"123456789")
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF == 0xE3069283


def test_frames_are_those_of_tensorflow(tmp_path):
    """A shard that TensorFlow writes is byte for byte our frames, and is scanned with the right offsets."""
    tf = pytest.importorskip("tensorflow")
    payloads = [b"", b"a", bytes(range(256)) * 40]
    path = tmp_path / "shard"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    frames = [tfrecord.frame(payload) for payload in payloads]
    assert path.read_bytes() == b"".join(frames)
    starts = np.cumsum([0] + [len(frame) for frame in frames])[:-1].tolist()
    assert list(tfrecord.scan_records(path)) == list(zip(starts, payloads, strict=True))


@given(position=st.integers(0, 3 * 116 - 1), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_any_flipped_bit_is_found_and_its_record_named(tmp_path_factory, position, bit):
    """A flipped bit in length, data or either checksum of a record is an error that names shard and record."""
    frame = tfrecord.frame(bytes(range(100)))
    assert len(frame) == 116
    damaged = bytearray(frame * 3)
    damaged[position] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "set-train.tfrecord-00000-of-00001"
    path.write_bytes(damaged)
    number, within = divmod(position, len(frame))
    part = "length field" if within < 12 else "data"
    with pytest.raises(RecordError, match=rf"record {number} of .*{path.name}.*CRC32C of the {part}"):
        tfrecord.read_record(path, number * len(frame), 100, number)
    with pytest.raises(RecordError, match=rf"record {number} of shard .*{path.name}"):
        list(tfrecord.scan_records(path))
    for other in {0, 1, 2} - {number}:
        assert tfrecord.read_record(path, other * len(frame), 100, other) == bytes(range(100))


@pytest.mark.parametrize("cut", [1, 4, 50, 110])
def test_truncated_shards_are_named(tmp_path, cut):
    """A shard that ends inside a record is an error, from the index and in a scan."""
    frame = tfrecord.frame(bytes(range(100)))
    path = tmp_path / "shard"
    path.write_bytes((frame * 2)[:-cut])
    with pytest.raises(RecordError, match=r"record 1 of .*truncated"):
        tfrecord.read_record(path, len(frame), 100, 1)
    with pytest.raises(RecordError, match=r"record 1 of shard .*truncated"):
        list(tfrecord.scan_records(path))


def test_wrong_place_or_length_is_refused(tmp_path):
    """An offset or a length of another set is refused: the first fails the checksum, the second is compared."""
    frame = tfrecord.frame(bytes(range(100)))
    path = tmp_path / "shard"
    path.write_bytes(frame * 2)
    with pytest.raises(RecordError, match="length field"):
        tfrecord.read_record(path, 3, 90, 0)
    with pytest.raises(RecordError, match="holds 100 bytes, the index says 90"):
        tfrecord.read_record(path, 0, 90, 0)
    with pytest.raises(RecordError, match="cannot open the shard"):
        tfrecord.read_record(tmp_path / "absent", 0, 90, 0)


def test_other_dtypes_are_refused():
    """float64 has no place in a tf.train.Example; it is not rounded in silence."""
    with pytest.raises(ValueError, match="feature 'x' is float64"):
        tfrecord.serialize_example({"x": np.zeros(3)})
