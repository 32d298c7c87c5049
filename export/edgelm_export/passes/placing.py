"""A prepared graph once more, with its layers placed by a scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Model, Value
from edgelm_export.passes.layers import Layer, array_of, layers_of
from edgelm_export.quantize import Scheme

_HALF_MAX = float(np.finfo(np.float16).max)


def placed(model: ir.Model, scheme: Scheme, name: str) -> Model:
    """The graph with its weights as the scheme stores them; ``model`` stays as it is."""
    half = scheme.precision == "fp16"
    graph = GraphBuilder(name, half=half)
    made: dict[ir.Value, Value] = {
        value: graph.input(str(value.name), ir.DataType.INT64, ["batch", "sequence"]) for value in model.graph.inputs
    }

    def of(value: ir.Value | None) -> Value | None:
        """What stands for a value of the other graph; small weights are stored as they are."""
        if value is not None and value not in made:
            array = array_of(value)
            made[value] = graph.weight(f"constant.{value.name}", _in_half(array) if half else array)
        return None if value is None else made[value]

    layers = layers_of(model.graph)
    covered = {layer.added_by for layer in layers.values()}
    for node in model.graph:
        layer = layers.get(node)
        if layer is not None:
            made[layer.makes] = _place(graph, made, layer, scheme)
        elif node not in covered:
            attributes = _half_attributes(node) if half else node.attributes
            outputs = graph.op(
                node.op_type, [of(value) for value in node.inputs], attributes,
                domain=node.domain, outputs=len(node.outputs),
            )  # fmt: skip
            made.update(zip(node.outputs, outputs, strict=True))
    for value in model.graph.outputs:
        shape = [part if isinstance(part, int) else str(part.value) for part in value.shape or ()]
        graph.output(made[value], str(value.name), ir.DataType.FLOAT, shape)
    return graph.serialize()


def _place(graph: GraphBuilder, made: Mapping[ir.Value, Value], layer: Layer, scheme: Scheme) -> Value:
    x, name, bias = made[layer.x], layer.name, layer.bias_array()
    if layer.kind == "embedding":
        return scheme.embedding(graph, x, layer.array(), name)
    if layer.kind == "attention" and bias is not None:
        return scheme.self_attention(graph, x, layer.array(), bias, layer.heads, name)
    return scheme.linear(graph, x, layer.array(), bias, name, outliers=layer.outliers)


def _half_attributes(node: ir.Node) -> Mapping[str, Any]:
    """The attributes, with float16 in the place of float32."""
    attributes: dict[str, Any] = dict(node.attributes)
    if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.FLOAT:
        attributes["to"] = int(ir.DataType.FLOAT16)
    for name, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == ir.DataType.FLOAT:
            attributes[name] = ir.tensor(_in_half(attribute.as_tensor().numpy()).astype(np.float16))
    return attributes


def _in_half(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers that float16 has: infinities would make a NaN of a masked zero."""
    return array.clip(-_HALF_MAX, _HALF_MAX) if array.dtype == np.float32 else array
