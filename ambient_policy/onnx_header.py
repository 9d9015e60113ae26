"""Inputs and outputs of an ONNX file, read without the onnx package or a runtime.

A robot has no reason to install onnx, which is for exporting, or to start a session just to check a file. The
few fields needed are plain protobuf, and the weights between them are stepped over by their length.
Field numbers: onnx/onnx.proto, its ModelProto, GraphProto, ValueInfoProto, TypeProto, TensorProto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Tensor:
    """Type of one graph input or output; None stands for a dimension that is free."""

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} ({', '.join('?' if dim is None else str(dim) for dim in self.shape)})"


@dataclass(frozen=True)
class Header:
    """What a graph takes and gives, and whether all its weights are inside the file."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    external_data: bool


def read_header(file: Path) -> Header:
    """Read the header of an ONNX file.

    Raises:
        ValueError: the file is not ONNX, or is cut short.
    """
    if file.stat().st_size == 0:
        raise ValueError("it is empty")
    with file.open("rb") as stream:
        # Not closed by hand: a failed parse keeps views alive in its traceback, and closing would raise.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _model(memoryview(data))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("it is not ONNX, or is cut short") from error


def _model(data: memoryview) -> Header:
    graphs = [value for number, value in _fields(data) if number == 7 and isinstance(value, memoryview)]
    if len(graphs) != 1:
        raise ValueError("it is not ONNX, or is cut short")
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    weights, external = set(), False
    for number, value in _fields(graphs[0]):
        if not isinstance(value, memoryview):
            continue
        if number == 5:
            weight = dict(_fields(value))
            weights.add(_text(weight.get(8)))
            external |= weight.get(14) == 1 or 13 in weight
        elif number in (11, 12):
            info = dict(_fields(value))
            (inputs if number == 11 else outputs)[_text(info.get(1))] = _tensor(info.get(2))
    return Header({k: v for k, v in inputs.items() if k not in weights}, outputs, external)


def _tensor(data: int | memoryview | None) -> Tensor:
    kind = dict(_fields(data)).get(1) if isinstance(data, memoryview) else None
    if not isinstance(kind, memoryview):
        return Tensor("not a tensor", None)
    fields = dict(_fields(kind))
    number, shape = fields.get(1, 0), fields.get(2)
    dtype = _DTYPES.get(number, f"type {number}") if isinstance(number, int) else "not a tensor"
    if not isinstance(shape, memoryview):
        return Tensor(dtype, None)
    sizes = [dict(_fields(dim)).get(1) for _, dim in _fields(shape) if isinstance(dim, memoryview)]
    return Tensor(dtype, tuple(size if isinstance(size, int) else None for size in sizes))


def _text(data: int | memoryview | None) -> str:
    return bytes(data).decode() if isinstance(data, memoryview) else ""


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of one protobuf message; nested messages and text come as views."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise IndexError
        if position + size > len(data):
            raise IndexError
        yield tag >> 3, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
