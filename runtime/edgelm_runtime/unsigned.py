"""A graph whose int8 weights are uint8: for CPUs whose products of uint8 with int8 saturate.

Weight and zero point both move by 128, so that the product is the same integer, and the products of two uint8 numbers
are exact everywhere. onnxruntime has such a pass (session.x64quantprecision), but it makes each weight once for every
node that uses it, under one name, and then refuses the graph; and it needs the optimiser, which changes more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .initializers import ONNX_TYPES, declared_initializers, nodes, refused
from .vetting.wire import packed, spans

_INT8, _UINT8 = ONNX_TYPES[np.dtype(np.int8)], ONNX_TYPES[np.dtype(np.uint8)]
_SIGN = 0x80
_SUFFIX = "/uint8"
_ZERO = "edgelm/zero/uint8"
# Numbers of the fields in onnx.proto.
_GRAPH = 7
_NODE, _INITIALIZER, _VALUE_INFO = 1, 5, 13
_INPUT, _OP_TYPE = 1, 4
_DATA_TYPE, _INT32_DATA, _NAME, _RAW_DATA = 2, 5, 8, 9


@dataclass(frozen=True)
class _Operands:
    """Which inputs of an operator are the weight, its zero point, and the zero point of the activation, if it has one.

    The activation's has the activation's type; products of int8 with int8 are exact, and take no uint8 weight.
    """

    weight: int
    zero: int
    activation_zero: int | None


_OPERANDS = {
    "DynamicQuantizeMatMul": _Operands(1, 3, None),
    "MatMulInteger": _Operands(1, 3, 2),
    "MatMulIntegerToFloat": _Operands(1, 5, 4),
    "QAttention": _Operands(1, 7, 6),
    "QGemm": _Operands(3, 5, 2),
    "QLinearMatMul": _Operands(3, 5, 2),
}


def with_unsigned_weights(model: bytes, outside: Mapping[str, NDArray[Any]]) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """The graph with uint8 in place of every int8 weight of a product with uint8, and its tensors from outside it.

    A weight that other nodes use, too, stays, and gets a copy; one that several products share stays one.
    Raises BundleRejected for bytes that are no ONNX model.
    """
    changed = _Changed({name: kind for name, (kind, _) in declared_initializers(model).items()})
    for index, (op_type, inputs) in enumerate(nodes(model)):
        changed.look(index, op_type, inputs)
    if not changed.inputs:
        return model, dict(outside)
    try:
        parts, graphs = [], []
        for field, value, raw in spans(memoryview(model)):
            if field == _GRAPH and isinstance(value, memoryview):
                graphs.append(value)  # several are one, in parts
            else:
                parts.append(raw)
        graph = b"".join([*parts, _field(_GRAPH, changed.graph(memoryview(b"".join(graphs))))])
    except ValueError as error:
        raise refused(error) from error
    made = {new: _moved(outside[old]) for old, new in changed.names().items() if old in outside}
    return graph, {**outside, **made}


def _moved(array: NDArray[Any]) -> NDArray[np.uint8]:
    """int8 numbers as the uint8 ones that are 128 larger."""
    found: NDArray[np.uint8] = array.view(np.uint8) ^ np.uint8(_SIGN)
    return found


class _Changed:
    """What is to be changed in a graph with initializers of these types."""

    def __init__(self, kinds: Mapping[str, int]) -> None:
        self._kinds = kinds
        self._moved: dict[str, None] = {}
        self._others: set[str] = set()  # used where int8 is wanted
        self._zero = False
        self.inputs: dict[int, dict[int, str]] = {}  # by node: the input's place, and the int8 initializer or _ZERO

    def look(self, index: int, op_type: str, inputs: tuple[str, ...]) -> None:
        """Note what this node asks for."""
        mine = self._operands(op_type, inputs)
        if mine:
            self.inputs[index] = mine
        self._zero |= _ZERO in mine.values()
        self._moved.update(dict.fromkeys(name for name in mine.values() if name != _ZERO))
        self._others.update(name for place, name in enumerate(inputs) if place not in mine)

    def _operands(self, op_type: str, inputs: tuple[str, ...]) -> dict[int, str]:
        """The int8 weight and its zero point by their places; empty where the node has none to be changed."""
        places = _OPERANDS.get(op_type)
        if places is None:
            return {}

        def kind(place: int) -> int | None:
            return self._kinds.get(inputs[place]) if place < len(inputs) else None

        signed = places.activation_zero is not None and kind(places.activation_zero) == _INT8
        zero = inputs[places.zero] if places.zero < len(inputs) else ""
        if kind(places.weight) != _INT8 or signed or (zero and kind(places.zero) != _INT8):
            return {}
        return {places.weight: inputs[places.weight], places.zero: zero or _ZERO}

    def names(self) -> dict[str, str]:
        """The name of the uint8 initializer by that of the int8 one: the same where nothing else uses that."""
        return {old: old + _SUFFIX if old in self._others else old for old in self._moved}

    def graph(self, message: memoryview) -> bytes:
        """The GraphProto, changed."""
        names, index = self.names(), -1
        parts: list[bytes | memoryview] = []
        for field, value, raw in spans(message):
            if field == _NODE and isinstance(value, memoryview):
                index += 1
                if index in self.inputs:
                    parts.append(_field(_NODE, _node(value, self.inputs[index], names)))
                    continue
            elif field == _INITIALIZER and isinstance(value, memoryview):
                old = _text(value, _NAME)
                if old in names:
                    parts.append(_field(_INITIALIZER, _tensor(value, names[old])))
                    if names[old] == old:
                        continue
            elif field == _VALUE_INFO and isinstance(value, memoryview) and _text(value, 1) in names:
                continue  # says int8
            parts.append(raw)
        if self._zero:
            zero = _field(_DATA_TYPE, _UINT8) + _field(_NAME, _ZERO.encode()) + _field(_RAW_DATA, bytes([_SIGN]))
            parts.append(_field(_INITIALIZER, zero))
        return b"".join(parts)


def _node(message: memoryview, changed: Mapping[int, str], names: Mapping[str, str]) -> bytes:
    """The NodeProto with other inputs, in their order, at the places given."""
    inputs: list[bytes] = []
    parts: list[bytes | memoryview] = []
    for field, value, raw in spans(message):
        if field == _INPUT and isinstance(value, memoryview):
            inputs.append(bytes(value))
        else:
            parts.append(raw)
    inputs += [b""] * (1 + max(changed) - len(inputs))
    for place, name in changed.items():
        inputs[place] = names.get(name, name).encode("utf-8")
    return b"".join([*(_field(_INPUT, name) for name in inputs), *parts])


def _tensor(message: memoryview, name: str) -> bytes:
    """The int8 TensorProto as uint8 under a name."""
    parts: list[bytes | memoryview] = []
    listed: list[int] = []
    for field, value, raw in spans(message):
        if field == _RAW_DATA and isinstance(value, memoryview):
            parts.append(_field(_RAW_DATA, _moved(np.frombuffer(value, np.int8)).tobytes()))
        elif field == _INT32_DATA:
            listed += [value] if isinstance(value, int) else list(packed(value or memoryview(b"")))
        elif field not in (_DATA_TYPE, _NAME):
            parts.append(raw)
    if listed:
        numbers = b"".join(_varint((number & 0xFF) ^ _SIGN) for number in listed)
        parts.append(_field(_INT32_DATA, numbers))
    return b"".join([*parts, _field(_DATA_TYPE, _UINT8), _field(_NAME, name.encode("utf-8"))])


def _text(message: memoryview, wanted: int) -> str:
    values = [value for field, value, _ in spans(message) if field == wanted and isinstance(value, memoryview)]
    return bytes(values[-1]).decode("utf-8") if values else ""


def _field(number: int, value: int | bytes) -> bytes:
    """A tagged field: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
