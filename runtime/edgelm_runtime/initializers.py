"""What an ONNX graph says of its initializers and nodes, read from its bytes without the onnx package.

Protocol buffers are tagged fields (https://protobuf.dev/programming-guides/encoding). The fields' numbers are those of
onnx.proto: ModelProto.graph 7, GraphProto.node 1, initializer 5, NodeProto.input 1, op_type 4, TensorProto.dims 1,
data_type 2, name 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .errors import BundleRejected

# TensorProto.DataType of the types that weights may have.
ONNX_TYPES = {
    np.dtype(np.float32): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int8): 3,
    np.dtype(np.int32): 6,
    np.dtype(np.int64): 7,
    np.dtype(np.float16): 10,
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10

Declared = tuple[int, tuple[int, ...]]  # TensorProto.DataType and shape


def declared_initializers(model: bytes) -> dict[str, Declared]:
    """Type and shape of every initializer of a model's main graph by name.

    Raises BundleRejected for bytes that are no protocol buffer, and for a name that comes twice.
    """
    found: dict[str, Declared] = {}
    try:
        for tensor in _of_graph(model, 5):
            name, declared = _tensor(tensor)
            if name in found:
                raise ValueError(f"the initializer {name!r} twice")
            found[name] = declared
    except (ValueError, IndexError) as error:
        raise refused(error) from error
    return found


def nodes(model: bytes) -> list[tuple[str, tuple[str, ...]]]:
    """Operator and names of the inputs of every node of a model's main graph; "" is an input that is left out.

    Raises BundleRejected for bytes that are no protocol buffer.
    """
    try:
        return [_node(message) for message in _of_graph(model, 1)]
    except (ValueError, IndexError) as error:
        raise refused(error) from error


def refused(error: Exception) -> BundleRejected:
    """What is raised where reading a graph raised `error`, a ValueError or an IndexError."""
    return BundleRejected(
        f"the graph is no ONNX model: {error}; export the bundle again",
        what="graph",
        expected="an ONNX model",
        found=str(error),
    )


def _of_graph(model: bytes, wanted: int) -> Iterator[memoryview]:
    for graph in _submessages(memoryview(model), 7):
        yield from _submessages(graph, wanted)


def _node(message: memoryview) -> tuple[str, tuple[str, ...]]:
    op_type = ""
    inputs = []
    for field, value in _fields(message):
        if field in (1, 4) and isinstance(value, memoryview):
            text = bytes(value).decode("utf-8")
            if field == 1:
                inputs.append(text)
            else:
                op_type = text
    return op_type, tuple(inputs)


def _tensor(message: memoryview) -> tuple[str, Declared]:
    name, kind = "", 0
    shape: list[int] = []
    for field, value in _fields(message):
        if field == 8 and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8")
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 1:
            shape += [value] if isinstance(value, int) else list(packed(value))
    return name, (kind, tuple(shape))


def _submessages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for field, value in _fields(message):
        if field == wanted and isinstance(value, memoryview):
            yield value


def packed(values: memoryview) -> Iterator[int]:
    """The integers of a packed field."""
    at = 0
    while at < len(values):
        value, at = _varint(values, at)
        yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; fixed-width ones are passed over."""
    for field, value, _ in spans(message):
        if value is not None:
            yield field, value


def spans(message: memoryview) -> Iterator[tuple[int, int | memoryview | None, memoryview]]:
    """Number, value and all bytes of each field; the value of a fixed-width one is None.

    Raises ValueError or IndexError for bytes that are no protocol buffer.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value, message[start:at]
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of wire type {kind}")
        if length > len(message) - at:
            raise ValueError(f"a field of {length:,} bytes where {len(message) - at:,} are left")
        content = message[at : at + length]
        at += length
        yield tag >> 3, content if kind == _BYTES else None, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer at `at`, and where it ends."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("an integer of more than 10 bytes")
