"""TensorBoard event files: TFRecords of `Event` messages, written without TensorFlow or PyTorch.

The libraries that write them load one or the other where it is installed (tensorboardX imports PyTorch, tensorboard
TensorFlow), which training must not. What is needed of the format is one message; field numbers are those of
TensorFlow's event.proto and summary.proto.
"""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from bihf_jax.data.tfrecord import delimited, encode_varint, frame

# Field numbers of Event; Event.summary holds Summary.value, which holds a tag and a simple_value.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = 1, 2, 3, 5, 7
_VARINT, _FIXED64, _FIXED32 = 0, 1, 5  # wire types
_SESSION_START = 1


class EventFile:
    """Appends scalars to one new event file of a folder."""

    def __init__(self, directory: Path, first_step: int):
        """Opens the file.

        Args:
          directory: made if missing; TensorBoard reads all event files in it as one run.
          first_step: what other files there hold from this step on is superseded.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open(directory / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}", "xb")  # noqa: SIM115
        self._write(delimited(_FILE_VERSION, b"brain.Event:2"))
        if first_step > 0:
            start = _key(1, _VARINT) + encode_varint(_SESSION_START)
            self._write(_key(_STEP, _VARINT) + encode_varint(first_step) + delimited(_SESSION_LOG, start))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes tag -> value of one step, and flushes."""
        summary = b"".join(
            delimited(1, delimited(1, tag.encode()) + _key(2, _FIXED32) + struct.pack("<f", value))
            for tag, value in values.items()
        )
        self._write(_key(_STEP, _VARINT) + encode_varint(step) + delimited(_SUMMARY, summary))

    def _write(self, fields: bytes) -> None:
        self._file.write(frame(_key(_WALL_TIME, _FIXED64) + struct.pack("<d", time.time()) + fields))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _key(field: int, wire_type: int) -> bytes:
    return encode_varint(field << 3 | wire_type)
