"""Files of `torch.save`, read without running anything that they name: containers, numbers and tensors, never code.

A pickle is a program that looks functions up by name and calls them. Here a name finds one of a few makers of tensors
and ordered dictionaries. Whatever else it names (settings' classes, optimizers, `os.system`) becomes a `Record`, which
keeps what it is given and does nothing. Tensors are read from the file when they are asked for.

There are two formats: a zip since torch 1.6, and before that pickles one behind another, with the tensors' numbers at
the end.
"""

from __future__ import annotations

import contextlib
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from hfcourse.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of the older format is."""
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DEEPEST = 50
"""Levels of settings within settings that are read."""


class Record:
    """What a file says of an object whose class is not known here. It does nothing, whatever is asked of it."""

    named = ""
    """Module and name of the class or function."""
    arguments: tuple[Any, ...]
    """What it was called with."""
    state: dict[Any, Any]
    """Its attributes, and its items where it is a mapping."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        record = super().__new__(cls)
        record.arguments, record.state = arguments, dict(named)
        return record

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            self.state.update(part if isinstance(part, dict) else {})

    def __setitem__(self, key: Any, value: Any) -> None:
        self.state[key] = value

    def append(self, value: Any) -> None:
        """An item more: nobody reads it."""

    extend = add = append


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file."""

    read: Callable[[], bytearray]
    """Gives the bytes of the stretch of numbers that it is a part of."""
    dtype: torch.dtype
    offset: int
    """The first of its numbers."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def load(self) -> Tensor:
        """The tensor. Within the block of `opened`, which tells where its numbers are not in the file."""
        with _damage_told():
            data = self.read()
            numbers = torch.frombuffer(data, dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)
            # A view that would reach beyond the numbers is refused by torch.
            return torch.as_strided(numbers, self.shape, self.strides, self.offset).clone()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """What a file of `torch.save` holds; its tensors (`StoredTensor`) can be loaded within the block.

    Raises:
        ModelError: no such file, one of another kind, or a damaged one.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}): name a checkpoint") from error
    with stream:
        with _damage_told(path):
            content = _zipped(stream) if zipfile.is_zipfile(stream) else _legacy(stream)
        try:
            yield content
        except _Damage as error:
            raise _refusal(path, error) from error


def plain(value: Any) -> Any:
    """Settings as dictionaries, lists and numbers: namespaces and omegaconf's nodes become their values."""
    return _plain(value, 0, {})


def _plain(value: Any, depth: int, known: dict[int, Any]) -> Any:
    """The same, `known` by identity: lists that hold a list twice, level by level, would be walked through for ever."""
    if depth > _DEEPEST:
        return None
    if not isinstance(value, Record | Mapping | list | tuple):
        return value
    if id(value) not in known:
        if isinstance(value, Record):
            found = _plain(_content(value), depth + 1, known)
        elif isinstance(value, Mapping):
            found = {str(key): _plain(one, depth + 1, known) for key, one in value.items()}
        else:
            found = [_plain(one, depth + 1, known) for one in value]
        known[id(value)] = found
    return known[id(value)]


def _content(record: Record) -> Any:
    """What counts of a record: of omegaconf's containers and values, of a member of an enumeration, of others all."""
    for name in ("_content", "_val"):
        if name in record.state:
            return record.state[name]
    if record.named.endswith(".getattr") and len(record.arguments) == 2:  # as Python 3.11.0 to 3.11.3 write a member:
        return record.arguments[1]  # its name, which is its value in the toolkits' enumerations
    return record.arguments[0] if not record.state and len(record.arguments) == 1 else record.state


class _Damage(Exception):
    """Something in a file is not as `torch.save` writes it."""


def _refusal(path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()
    told = f" ({reason[0][:100]})" if reason else ""
    return ModelError(f"{path}: not a checkpoint of torch.save, or a damaged one{told}: fetch it again")


@contextlib.contextmanager
def _damage_told(path: Path | None = None) -> Iterator[None]:
    """Bytes that are not what they should be can make a reader raise anything: here it is one error."""
    try:
        yield
    except Exception as error:
        raise (_refusal(path, error) if path else _Damage(str(error))) from error


class _TensorMaker:
    """Stands for torch's functions that make a tensor of a stretch of numbers; nothing can be set on it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> StoredTensor:
        read, dtype, first = storage
        return StoredTensor(read, dtype, first + offset, tuple(shape), tuple(strides))


class _ParameterMaker:
    """Stands for torch's function that makes a parameter of a tensor."""

    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _TensorMaker(),
    ("torch._utils", "_rebuild_tensor_v2"): _TensorMaker(),
    ("torch._utils", "_rebuild_parameter"): _ParameterMaker(),
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Finds nothing by name but what `_KNOWN` lists."""

    def __init__(self, stream: Any, numbers: Callable[[str, int], bytearray]) -> None:
        """`numbers` reads so many bytes under a key."""
        super().__init__(stream, encoding="utf-8")
        self._numbers = numbers
        self._records: dict[str, type[Record]] = {}
        self.widths: dict[str, int] = {}
        """Bytes of a number under each key that was met."""

    def find_class(self, module: str, name: str) -> Any:
        """A maker of tensors or containers; else a class of records."""
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        named = f"{module}.{name}"
        if named not in self._records:
            self._records[named] = type("Record", (Record,), {"named": named})
        return self._records[named]

    def persistent_load(self, pid: Any) -> Any:
        """A stretch of numbers: how it is read, their type, and the first of them."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"it holds a {str(kind)[:20]} that is no stretch of numbers")
        size, self.widths[str(key)] = count * dtype.itemsize, dtype.itemsize
        first = view[0][1] if view and view[0] else 0
        return lambda: self._numbers(str(key), size), dtype, first


def _zipped(stream: BinaryIO) -> Any:
    archive = zipfile.ZipFile(stream)
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise _Damage("a zip without data.pkl")
    root = names[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise _Damage("numbers of a big-endian machine")

    def numbers(key: str, size: int) -> bytearray:
        return _whole(archive.read(f"{root}data/{key}"), size)

    with archive.open(names[0]) as pickled:
        return _Unpickler(pickled, numbers).load()


def _legacy(stream: BinaryIO) -> Any:
    """Magic number, version, the machine, what was saved, keys: a pickle each; then each key's count and numbers."""
    places: dict[str, int] = {}

    def numbers(key: str, size: int) -> bytearray:
        stream.seek(places[key])
        return _whole(stream.read(size), size)

    stream.seek(0)
    if _Unpickler(stream, numbers).load() != _MAGIC:
        raise _Damage("it begins with something else")
    _, machine = (_Unpickler(stream, numbers).load() for _ in range(2))
    if not machine["little_endian"]:
        raise _Damage("numbers of a big-endian machine")
    unpickler = _Unpickler(stream, numbers)
    content, keys = unpickler.load(), _Unpickler(stream, numbers).load()
    at = stream.tell()
    for key in keys:
        stream.seek(at)
        (count,) = struct.unpack("<q", stream.read(8))
        places[key] = at + 8
        at += 8 + count * unpickler.widths[key]
    return content


def _whole(data: bytes, size: int) -> bytearray:
    if len(data) != size:
        raise _Damage(f"{len(data)} bytes where {size} belong")
    return bytearray(data)
