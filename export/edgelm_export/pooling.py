"""The vector of a text from those of its tokens, as nodes of a graph: pooled, then through further layers.

``vector`` has the same in torch. The poolings are those of sentence-transformers (Reimers and Gurevych, 2019), weighted
means those of SGPT (Muennighoff, 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.families import DENSE_ACTIVATIONS, Dense, LayerNorm, VectorLayer, Wanted

ROWS = {"cls": 0, "lasttoken": -1}  # poolings that are one row of the last layer
_NO_ZERO = 1e-12  # the least length that a vector is divided by, as in torch


class Nodes(Protocol):
    """What nodes are added to: a graph that is built, or one that was read from a file."""

    def weight(self, name: str, array: NDArray[Any]) -> ir.Value:
        """A stored constant."""

    def one(self, kind: str, inputs: Any, attributes: Mapping[str, Any] | None = None) -> ir.Value:
        """A node with one output."""

    def in_float32(self, value: ir.Value) -> ir.Value:
        """The value, cast where everything is computed in half precision."""


Linear = Callable[[ir.Value, NDArray[Any], NDArray[Any] | None, str], ir.Value]


def single_row(wanted: Wanted) -> int | None:
    """The only row of the last layer that the vector is made from; None where it is made from all, or several."""
    return ROWS.get(wanted.poolings[0]) if len(wanted.poolings) == 1 else None


def pooled(nodes: Nodes, states: ir.Value, wanted: Wanted) -> ir.Value:
    """[batch, hidden * poolings] from the last hidden states [batch, tokens, hidden] of unpadded rows."""
    vectors = [_POOLINGS[pooling](nodes, states, wanted.context) for pooling in wanted.poolings]
    return vectors[0] if len(vectors) == 1 else nodes.one("Concat", vectors, {"axis": -1})


def layered(nodes: Nodes, x: ir.Value, wanted: Wanted, linear: Linear) -> ir.Value:
    """A vector [batch, width] through the layers after pooling; ``linear`` places the linear ones."""
    for index, layer in enumerate(wanted.layers):
        x = _layer(nodes, x, layer, index, linear)
    return x


def append_vector(graph: ir.Graph, states: ir.Value, wanted: Wanted) -> ir.Value:
    """The vector [batch, width] at the end of a graph that has ``states`` [batch, sequence, hidden]."""
    nodes = _Nodes(graph)
    output = layered(nodes, pooled(nodes, states, wanted), wanted, nodes.linear)
    hidden = None if states.shape is None else states.shape[2]
    width = wanted.vector_width(hidden) if isinstance(hidden, int) else hidden
    output.type, output.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", width])
    return output


def _layer(nodes: Nodes, x: ir.Value, layer: VectorLayer, index: int, linear: Linear) -> ir.Value:
    if isinstance(layer, Dense):
        made = linear(x, layer.weight, layer.bias, layer.name)
        for kind in DENSE_ACTIVATIONS[layer.activation]:
            made = nodes.one(kind, [made])
        if not layer.residual:
            return made
        beside = x if layer.projection is None else linear(x, layer.projection, None, f"{layer.name}_residual")
        return nodes.one("Add", [made, beside])
    if isinstance(layer, LayerNorm):
        weights = [nodes.weight(f"{layer.name}.weight", layer.weight), nodes.weight(f"{layer.name}.bias", layer.bias)]
        return nodes.one("LayerNormalization", [x, *weights], {"axis": -1, "epsilon": layer.EPSILON})
    x = nodes.in_float32(x)  # the squares of a long vector are too large for half precision
    length = nodes.one("ReduceL2", [x, nodes.weight("numbers", np.array([-1], np.int64))], {"keepdims": 1})
    least = nodes.one("Constant", [], {"value_float": _NO_ZERO})
    return nodes.one("Div", [x, nodes.one("Max", [length, least])])


def _reduced(nodes: Nodes, kind: str, x: ir.Value, *, keep: bool = False) -> ir.Value:
    return nodes.one(kind, [x, nodes.weight("rows", np.array([1], np.int64))], {"keepdims": int(keep)})


def _mean(nodes: Nodes, states: ir.Value, context: int) -> ir.Value:
    return _reduced(nodes, "ReduceMean", states)


def _max(nodes: Nodes, states: ir.Value, context: int) -> ir.Value:
    return _reduced(nodes, "ReduceMax", states)


def _row(index: int) -> Callable[[Nodes, ir.Value, int], ir.Value]:
    def row(nodes: Nodes, states: ir.Value, context: int) -> ir.Value:
        return nodes.one("Gather", [states, nodes.weight(f"row_{index}", np.array(index, np.int64))], {"axis": 1})

    return row


def _mean_sqrt(nodes: Nodes, states: ir.Value, context: int) -> ir.Value:
    """The sum over the root of the number of tokens: the mean times that root, from a table, in any precision."""
    roots = nodes.weight("roots", np.sqrt(np.arange(context + 1, dtype=np.float32)))
    root = nodes.one("Gather", [roots, _length(nodes, states)], {"axis": 0})
    return nodes.one("Mul", [_mean(nodes, states, context), root])


def _weighted_mean(nodes: Nodes, states: ir.Value, context: int) -> ir.Value:
    """The mean with the weights 1, 2, 3, ...: as shares of the context, whose sums half precision holds as well."""
    shares = np.arange(1, context + 1, dtype=np.float32)[None, :, None] / np.float32(context)
    first, one = (nodes.weight(name, np.array([number], np.int64)) for number, name in enumerate(("zero", "one")))
    share = nodes.one("Slice", [nodes.weight("shares", shares), first, _length(nodes, states), one])
    total = _reduced(nodes, "ReduceMean", nodes.one("Mul", [states, share]))
    return nodes.one("Div", [total, _reduced(nodes, "ReduceMean", share)])


def _length(nodes: Nodes, states: ir.Value) -> ir.Value:
    """The number of tokens: int64 [1]."""
    return nodes.one("Shape", [states], {"start": 1, "end": 2})


_POOLINGS: Mapping[str, Callable[[Nodes, ir.Value, int], ir.Value]] = {
    "cls": _row(0), "max": _max, "mean": _mean, "mean_sqrt_len_tokens": _mean_sqrt, "weightedmean": _weighted_mean,
    "lasttoken": _row(-1),
}  # fmt: skip


class _Nodes:
    """Adds nodes to the end of a graph that was read."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._stored: dict[str, ir.Value] = {}

    def weight(self, name: str, array: NDArray[Any]) -> ir.Value:
        """A constant, under a name that the graph itself does not use."""
        if name not in self._stored:
            tensor, shape = ir.tensor(array), ir.Shape(array.shape)
            self._stored[name] = ir.Value(
                name=f"vector.{name}", const_value=tensor, shape=shape, type=ir.TensorType(tensor.dtype)
            )
            self._graph.register_initializer(self._stored[name])
        return self._stored[name]

    def one(self, kind: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any] | None = None) -> ir.Value:
        """A node with one output."""
        node = ir.node(kind, inputs, attributes)
        self._graph.append(node)
        return node.outputs[0]

    def in_float32(self, value: ir.Value) -> ir.Value:
        """The value: a graph that is read computes in float32."""
        return value

    def linear(self, x: ir.Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str) -> ir.Value:
        """x @ weight + bias."""
        made = self.one("MatMul", [x, self.weight(f"{name}.weight", weight)])
        return made if bias is None else self.one("Add", [made, self.weight(f"{name}.bias", bias)])
