"""Weights in PyTorch's own files (`.pt`, `.bin`), read without PyTorch and without unpickling anything.

Since version 1.6 `torch.save` writes a zip archive: the tensors' bytes as one member each, uncompressed, and beside
them a pickle that says which bytes make which tensor. A pickle is a program. Here it is not run: `_Interpreter` knows
the few instructions that build dicts, lists, tuples, strings and numbers, and the few names in `_NAMES`, each of which
it understands itself; nothing is imported or called. Any other name or instruction is refused.
"""

import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bihf_jax.pretrained.tensors import PretrainedError, Tensor

_STORAGE_DTYPES = {
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch DoubleStorage": "float64",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch BoolStorage": "bool",
}
_DICT, _NAMESPACE, _TENSOR = "collections OrderedDict", "argparse Namespace", "torch._utils _rebuild_tensor_v2"
_NAMES = {*_STORAGE_DTYPES, _DICT, _NAMESPACE, _TENSOR}

_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class Namespace(dict):
    """The attributes of an `argparse.Namespace` (fair-esm keeps a model's settings in one)."""


class _Name(NamedTuple):
    """One of `_NAMES`, as the pickle has it: module, space, name."""

    text: str


class _Storage(NamedTuple):
    """The archive's member with the numbers of one or several tensors."""

    member: str
    dtype: str
    size: int  # numbers


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote into `path`: dicts, lists, tuples, numbers, strings, `Namespace` and `Tensor`.

    Tensors are read when they are asked for; the name of a tensor is the archive's member.

    Raises:
      PretrainedError: a file of another format, a damaged one, or one that asks for more than weights need.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise PretrainedError(
            f"{path} is no file of torch.save, or of PyTorch before 1.6, or a damaged one ({error}); fetch it again, "
            f"or save it anew in PyTorch: torch.save(torch.load(old, weights_only=True), new)"
        ) from error
    members = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(members) != 1:
        raise PretrainedError(f"{path} is a zip archive, but not one of torch.save: it has {len(members)} data.pkl")
    root = members[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise PretrainedError(f"{path} was written on a big-endian machine; save it anew on a little-endian one")
    try:
        return _Interpreter(path, archive, root).run()
    # What wrong operands of an instruction, or wrong instructions, end in.
    except (LookupError, TypeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        if isinstance(error, PretrainedError):
            raise
        raise PretrainedError(f"{path} is damaged: its index cannot be read ({error!r}); fetch it again") from error


class _Interpreter:
    """Builds the value that the archive's pickle describes."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str):
        self.path, self.archive, self.root = path, archive, root
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        index = self.archive.getinfo(f"{self.root}data.pkl")
        self._check_stored(index)
        for opcode, argument, _ in pickletools.genops(self.archive.read(index)):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("the index has no end")

    def _step(self, opcode: str, argument: Any) -> None:
        """One instruction of the pickle; `pickletools` documents each."""
        stack = self.stack
        if opcode in ("PROTO", "FRAME"):
            return
        if opcode in _LITERALS:
            stack.append(_LITERALS[opcode])
        elif opcode in _VALUES:
            stack.append(argument)
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            stack[-count:] = [tuple(stack[-count:])]
        elif opcode == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif opcode == "EMPTY_DICT":
            stack.append({})
        elif opcode == "EMPTY_LIST":
            stack.append([])
        elif opcode == "MARK":
            stack.append(_MARK)
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode in ("APPEND", "APPENDS"):
            items = [stack.pop()] if opcode == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if opcode == "SETITEM" else self._pop_to_mark()
            if not all(isinstance(key, str | int) for key in items[::2]):
                raise self._refusal("a dict whose keys are neither names nor numbers")
            self._top(dict).update(zip(items[::2], items[1::2], strict=True))
        elif opcode == "GLOBAL":
            stack.append(self._name(argument))
        elif opcode == "STACK_GLOBAL":
            module, name = stack.pop(-2), stack.pop()
            stack.append(self._name(f"{module} {name}"))
        elif opcode == "BINPERSID":
            stack.append(self._storage(*stack.pop()))
        elif opcode in ("REDUCE", "NEWOBJ"):
            called, arguments = stack.pop(-2), stack.pop()
            stack.append(self._make(called, arguments))
        elif opcode == "BUILD":
            attributes = stack.pop()
            if not isinstance(attributes, dict):
                raise self._refusal(f"attributes that are a {type(attributes).__name__}")
            if isinstance(self._top(dict), Namespace):
                stack[-1].update(attributes)  # those of an OrderedDict (a state dict's versions) say nothing to us
        else:
            raise self._refusal(f"the instruction {opcode}")

    def _pop_to_mark(self) -> list[Any]:
        start = max(position for position, value in enumerate(self.stack) if value is _MARK)
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise self._refusal(f"a change to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _name(self, text: str) -> _Name:
        if text not in _NAMES:
            raise self._refusal(f"the name {text.replace(' ', '.')}")
        return _Name(text)

    def _make(self, called: Any, arguments: tuple) -> Any:
        name = called.text if isinstance(called, _Name) else None
        if name == _TENSOR:
            return self._tensor(*arguments[:4])
        if name in (_DICT, _NAMESPACE) and arguments == ():
            return {} if name == _DICT else Namespace()
        raise self._refusal(f"a call of {name or f'a {type(called).__name__}'} with {len(arguments)} arguments")

    def _storage(self, kind: str, storage_type: _Name, key: str, location: str, size: int) -> _Storage:
        if kind != "storage" or not isinstance(storage_type, _Name) or storage_type.text not in _STORAGE_DTYPES:
            raise self._refusal("a reference to something else than numbers")
        storage = _Storage(f"{self.root}data/{key}", _STORAGE_DTYPES[storage_type.text], size)
        member = self.archive.getinfo(storage.member)
        self._check_stored(member)
        if member.file_size != size * _numpy_dtype(storage.dtype).itemsize:
            raise PretrainedError(
                f"{self.path} is damaged: {member.filename} has {member.file_size} bytes; fetch it again"
            )
        return storage

    def _tensor(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        if not isinstance(storage, _Storage) or not all(
            isinstance(number, int) for number in (offset, *shape, *stride)
        ):
            raise self._refusal("a tensor without numbers, or of a shape without integers")
        reach = [(length - 1) * step for length, step in zip(shape, stride, strict=True)]
        count = 1 + sum(reach) if all(shape) else 0
        # The view below trusts these numbers, so none may lead out of the member's bytes.
        if min((offset, *shape, *stride)) < 0 or offset + count > storage.size:
            raise PretrainedError(
                f"{self.path} is damaged: a tensor {shape} leads out of {storage.member}; fetch it again"
            )

        def read() -> np.ndarray:
            dtype = _numpy_dtype(storage.dtype)
            try:
                with self.archive.open(storage.member) as member:
                    member.seek(offset * dtype.itemsize)
                    values = np.frombuffer(member.read(count * dtype.itemsize), dtype)
            except zipfile.BadZipFile as error:
                raise PretrainedError(f"{self.path} is damaged ({error}); fetch it again") from error
            strides = [step * dtype.itemsize for step in stride]
            return np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)

        return Tensor(storage.member, tuple(shape), storage.dtype, read)

    def _check_stored(self, member: zipfile.ZipInfo) -> None:
        if member.compress_type != zipfile.ZIP_STORED:
            raise self._refusal(f"a compressed {member.filename}")

    def _refusal(self, what: str) -> PretrainedError:
        return PretrainedError(
            f"{self.path} was not read: it holds {what}, which weights have no need for and which could be made to run "
            f"code. Use the published file, or a safetensors one"
        )


def _numpy_dtype(name: str) -> np.dtype:
    return np.dtype(jnp.bfloat16 if name == "bfloat16" else name)
