"""The inputs of a graph: what an unpadded text needs stays, the others are filled in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgelm_runtime.errors import UnsupportedCheckpoint

IDS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
FILLED: Mapping[str, int] = {MASK: 1, SEGMENTS: 0}


def check_inputs(graph: ir.Graph, where: str) -> None:
    """Raise UnsupportedCheckpoint for inputs that are not those of an encoder; ``where`` is what calls the graph."""
    inputs = {str(value.name): value for value in graph.inputs if value.const_value is None}
    unknown = sorted(set(inputs) - {IDS, *FILLED})
    if IDS not in inputs or unknown:
        raise UnsupportedCheckpoint(
            f"{where}: the graph has the inputs {', '.join(inputs) or 'none'}; accepted are {IDS}, and beside it "
            f"{' and '.join(FILLED)}. Export it for one of the tasks of an encoder"
        )
    for name, value in inputs.items():
        shape = value.shape
        if value.dtype != ir.DataType.INT64 or shape is None or len(shape) != 2 or not shape.is_dynamic(1):
            raise UnsupportedCheckpoint(
                f"{where}: the input {name} is {value.dtype} {shape}; needed is int64 [batch, sequence], "
                "with a length that is free. Export it with dynamic axes"
            )


def fill_inputs(model: ir.Model, *, segments: bool, where: str) -> None:
    """Leave ``input_ids`` [batch, sequence], with ``segments`` ``token_type_ids`` too; a mask is ones, they are 0.

    Raises:
        UnsupportedCheckpoint: an input that is none of these, is of another type, or has a fixed size.
    """
    graph = model.graph
    check_inputs(graph, where)
    inputs = {str(value.name): value for value in graph.inputs}
    ids = inputs[IDS]
    for name, number in FILLED.items():
        if name in inputs and not (name == SEGMENTS and segments):
            _fill(graph, inputs[name], ids, number)
    for value in graph.inputs:
        value.shape = ir.Shape(["batch", "sequence"])


def _fill(graph: ir.Graph, value: ir.Value, ids: ir.Value, number: int) -> None:
    """``value`` as a constant of the shape of ``ids``."""
    shape = ir.node("Shape", [ids])
    filled = ir.node("ConstantOfShape", [shape.outputs[0]], {"value": ir.tensor(np.array([number], np.int64))})
    filled.outputs[0].type, filled.outputs[0].shape = value.type, ids.shape
    graph.inputs.remove(value)
    value.replace_all_uses_with(filled.outputs[0])
    first = next(iter(graph), None)
    if first is None:
        graph.extend([shape, filled])
    else:
        graph.insert_before(first, [shape, filled])
