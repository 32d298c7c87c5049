"""An ONNX model in parts, read from its bytes; what no graph of a bundle may have is refused by a ValueError.

The fields' numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .operators import INT32, INT64, ITEM_BYTES
from .wire import Message, Wire, signed

MAX_RANK = 16
SMALL = 64  # elements of a tensor of integers whose values are looked at
_MAX_TEXT = 1 << 12
_MAX_BYTES = 1 << 50
_ORT_FORMAT = b"ORTM"  # at byte 4 of a file in onnxruntime's own format, which it would tell from the bytes
_INTEGERS: dict[int, np.dtype[Any]] = {INT32: np.dtype("<i4"), INT64: np.dtype("<i8")}
_EXTERNAL = 1  # TensorProto.DataLocation
# AttributeProto.AttributeType by the field that holds it: FLOAT, INT, STRING, TENSOR, FLOATS, INTS
_HELD = {2: 1, 3: 2, 4: 3, 5: 4, 7: 6, 8: 7}
_REFUSED = {6: "a graph", 9: "texts", 10: "tensors", 11: "graphs", 14: "a type", 15: "types", 21: "a reference",
            22: "a sparse tensor", 23: "sparse tensors"}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Name and TensorProto.DataType of a tensor; `integers` are the values of a small one, None of others."""

    name: str
    kind: int
    integers: tuple[int, ...] | None


@dataclass(frozen=True)
class Node:
    """A node; an attribute is an integer, a tensor, or of another kind that nothing depends on."""

    op_type: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, int | Tensor | None]


@dataclass(frozen=True)
class Graph:
    """A model's only graph: opsets by domain, tensors, inputs with their types, and nodes in order."""

    opsets: dict[str, int]
    tensors: list[Tensor]
    inputs: dict[str, int]
    nodes: list[Node]


def read_model(model: bytes, *, outside: bool) -> Graph:
    """The graph of a model; with `outside` its tensors may be in a file of weights. Raises ValueError."""
    if model[4:8] == _ORT_FORMAT:
        raise ValueError("it is in onnxruntime's own format, accepted is ONNX")
    found = Wire().read(memoryview(model))
    graphs = found.messages(7)
    if len(graphs) != 1 or 20 in found or 25 in found:
        raise ValueError("it has functions, training information, or not one graph alone")
    graph = graphs[0]
    if 15 in graph:
        raise ValueError("it has sparse tensors, accepted are dense ones")
    graph.texts(2)
    inputs = dict(map(_declared, graph.messages(11)))
    for message in (*graph.messages(12), *graph.messages(13)):
        _declared(message)
    return Graph(
        opsets={message.text(1): message.number(2) for message in found.messages(8)},
        tensors=[_tensor(message, len(model), outside=outside) for message in graph.messages(5)],
        inputs=inputs,
        nodes=[_node(message, len(model)) for message in graph.messages(1)],
    )


def known(kind: int) -> int:
    """A TensorProto.DataType that bundles have. Raises ValueError for another one."""
    if kind not in ITEM_BYTES:
        raise ValueError(f"a tensor of the type {kind}, accepted are {sorted(ITEM_BYTES)}")
    return kind


def _declared(message: Message) -> tuple[str, int]:
    """Name and type of an input, an output or a value between."""
    name, kind = message.text(1), 0
    for declared in message.messages(2):
        if any(number in declared for number in (4, 5, 8, 9)):
            raise ValueError(f"{name[:80]!r} is no tensor, accepted are tensors alone")
        for tensor in declared.messages(1):
            kind = known(tensor.number(1))
            for dimension in (each for shape in tensor.messages(2) for each in shape.messages(1)):
                dimension.texts(2)
                if dimension.number(1) >> 31:
                    raise ValueError(f"{name[:80]!r} has a dimension of {signed(dimension.number(1)):,}")
    return name, kind


def _tensor(message: Message, model_bytes: int, *, outside: bool) -> Tensor:
    name, kind, shape = message.text(8), known(message.number(2)), message.numbers(1)
    raw = message.blobs(9)
    external = message.number(14) == _EXTERNAL or 13 in message
    if 3 in message or 6 in message or len(raw) > 1:
        raise ValueError(f"the tensor {name[:80]!r} is in segments, or of texts")
    if external:
        _check_place(name, message, outside)
    size = math.prod(shape) * ITEM_BYTES[kind] if len(shape) <= MAX_RANK else _MAX_BYTES
    inside = len(raw[0]) if raw else None
    # Numbers in fields of their own take at least a byte each, of at most 8 in memory.
    fits = size < _MAX_BYTES and (external or (size <= 8 * model_bytes if inside is None else size == inside))
    if not fits:
        raise ValueError(f"the tensor {name[:80]!r} has the shape {shape[:MAX_RANK]} and {inside} bytes")
    integers = None
    if kind in _INTEGERS and not external and math.prod(shape) <= SMALL:
        stored = [signed(value) for value in message.numbers(5 if kind == INT32 else 7)]
        inside_raw = np.frombuffer(raw[0], _INTEGERS[kind]).tolist() if raw else []
        if len(stored) + len(inside_raw) != math.prod(shape):
            raise ValueError(f"the tensor {name[:80]!r} has the shape {shape} and another number of values")
        integers = tuple(stored or inside_raw)
    return Tensor(name, kind, integers)


def _check_place(name: str, message: Message, outside: bool) -> None:
    """A tensor outside the graph is in a file of a plain name: never on a path, or at an address in memory."""
    parts = [part for entry in message.messages(13) for number in (1, 2) for part in entry.texts(number)]
    strange = [part for part in parts if set(part) & set("/\\*")]
    if strange or not outside:
        raise ValueError(
            f"the tensor {name[:80]!r} is outside the graph ({', '.join(strange or parts)[:80]}); accepted is a place "
            "in the weights file that the manifest names"
        )


def _node(message: Message, model_bytes: int) -> Node:
    attributes: dict[str, int | Tensor | None] = {}
    op_type = message.text(4)
    for attribute in message.messages(5):
        name, held = _attribute(attribute, model_bytes)
        if name in attributes:
            raise ValueError(f"{op_type[:80]} has the attribute {name[:80]!r} twice")
        attributes[name] = held
    message.texts(3)
    return Node(op_type, message.text(7), message.texts(1), message.texts(2), attributes)


def _attribute(message: Message, model_bytes: int) -> tuple[str, int | Tensor | None]:
    """Name of an attribute, and its value where it is an integer or a tensor."""
    name, kind = message.text(1), message.number(20)
    refused = [what for number, what in _REFUSED.items() if number in message]
    if refused:
        raise ValueError(f"the attribute {name[:80]!r} is {refused[0]}, accepted are numbers, a text, or a tensor")
    if {held for number, held in _HELD.items() if number in message} - {kind} or kind not in _HELD.values():
        raise ValueError(f"the attribute {name[:80]!r} holds something else than it says")
    if any(len(value) > _MAX_TEXT for value in message.texts(4)):
        raise ValueError(f"the attribute {name[:80]!r} is longer than {_MAX_TEXT:,} bytes")
    numbers = [signed(value) for value in (message.number(3), *message.numbers(8))]
    if any(abs(value) >= 1 << 31 for value in numbers):
        raise ValueError(f"the attribute {name[:80]!r} is {numbers}, accepted are integers of 32 bits")
    tensors = message.messages(5)
    if len(tensors) > 1:
        raise ValueError(f"the attribute {name[:80]!r} is two tensors")
    if tensors:
        return name, _tensor(tensors[0], model_bytes, outside=False)
    return name, numbers[0] if 3 in message else None
