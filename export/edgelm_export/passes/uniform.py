"""Masks that hide nothing: a text that stands alone is not padded, and what is computed from a mask of ones falls away.

Values that are the same number in every place, whatever the length of the text, are followed through the graph; where
such a number changes nothing (x + 0, x * 1, x and true, a choice that is always the same), the node goes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

LARGEST = 1 << 12  # elements of a constant that is looked at
# Operators whose output has no other elements than their first input.
_MOVES = frozenset({
    "Identity", "Unsqueeze", "Squeeze", "Reshape", "Expand", "Transpose", "Slice", "Tile", "Gather", "GatherND",
})  # fmt: skip
_ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Neg": operator.neg, "And": np.logical_and,
    "Or": np.logical_or, "Not": np.logical_not, "Equal": operator.eq, "Greater": operator.gt, "Less": operator.lt,
    "GreaterOrEqual": operator.ge, "LessOrEqual": operator.le, "Where": lambda chosen, yes, no: yes if chosen else no,
}  # fmt: skip
# What leaves the other input as it is; of Sub only the right one does.
_NEUTRAL: Mapping[str, object] = {"Add": 0, "Sub": 0, "Mul": 1, "And": True, "Or": False}


def drop_neutral(model: ir.Model) -> int:
    """Take out the nodes that an unpadded text makes superfluous; their number."""
    known: dict[ir.Value, Any] = {}
    ascending: set[ir.Value] = set()  # positions: never below 0
    dropped = 0
    for node in model.graph:
        if node.domain or len(node.outputs) != 1:
            continue
        (output,) = node.outputs
        if _counts_from_zero(node, ascending):
            ascending.add(output)
        found = _number(node, known, ascending)
        if found is not None:
            known[output] = found
            continue
        kept = _unchanged(node, known)
        if kept is not None and not output.is_graph_output():
            output.replace_all_uses_with(kept)
            dropped += 1
    return dropped


def _number(node: ir.Node, known: Mapping[ir.Value, Any], ascending: set[ir.Value]) -> Any:
    """The number that every element of the node's output is, a numpy scalar; None where there is none."""
    if node.op_type == "ConstantOfShape":
        value = node.attributes.get("value")
        return np.float32(0) if value is None else value.as_tensor().numpy().reshape(-1)[0]
    if node.op_type == "GreaterOrEqual" and node.inputs[0] in ascending and _of(node.inputs[1], known) == 0:
        return np.True_
    if node.op_type == "IsNaN" and node.inputs[0] is not None and _is_softmax(node.inputs[0].producer()):
        return np.False_  # every token sees itself, so that no row of scores is masked as a whole
    if node.op_type in _MOVES:
        return _of(node.inputs[0], known)
    if node.op_type == "Cast":
        number = _of(node.inputs[0], known)
        return None if number is None else number.astype(ir.DataType(node.attributes.get_int("to")).numpy())
    if node.op_type not in _ELEMENTWISE:
        return None
    numbers = [_of(value, known) for value in node.inputs]
    if any(number is None for number in numbers):
        return None
    with np.errstate(over="ignore"):
        return np.asarray(_ELEMENTWISE[node.op_type](*numbers))[()]


def _is_softmax(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Softmax"


def _of(value: ir.Value | None, known: Mapping[ir.Value, Any]) -> Any:
    if value is None:
        return None
    constant = value.const_value
    if constant is None:
        return known.get(value)
    if not 0 < constant.size <= LARGEST or constant.dtype == ir.DataType.STRING:
        return None
    elements = constant.numpy().reshape(-1)
    return elements[0] if (elements == elements[0]).all() else None


def _unchanged(node: ir.Node, known: Mapping[ir.Value, Any]) -> ir.Value | None:
    """The input that the node's output always is."""
    numbers = [_of(value, known) for value in node.inputs]
    if node.op_type == "Where" and numbers[0] is not None:
        return node.inputs[1 if numbers[0] else 2]
    if node.op_type not in _NEUTRAL:
        return None
    neutral = [number is not None and bool(number == _NEUTRAL[node.op_type]) for number in numbers]
    if neutral[1]:
        return node.inputs[0]
    return node.inputs[1] if neutral[0] and node.op_type != "Sub" else None


def _counts_from_zero(node: ir.Node, ascending: set[ir.Value]) -> bool:
    if node.op_type == "Range":
        start, _, step = (_of(value, {}) for value in node.inputs)
        return start is not None and step is not None and bool(start >= 0 and step > 0)
    return node.op_type in _MOVES | {"Cast"} and node.inputs[0] in ascending
