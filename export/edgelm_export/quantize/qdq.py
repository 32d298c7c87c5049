"""QuantizeLinear and DequantizeLinear around every product: static int8 in the form that accelerators compile.

A provider takes the pair before a product and the one of its weight as an order to multiply in 8 bits; one that does
not know the pattern computes the same in float. Operators are ONNX's own only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize import CacheScales
from edgelm_export.quantize.attention import plain_attention, scaled
from edgelm_export.quantize.ranges import Span, scale_of
from edgelm_export.quantize.rounding import per_channel


class QdqInt8:
    """Weights int8 by output channel, activations uint8 over the ``spans`` (smallest, largest) that were calibrated."""

    name = "qdq-int8"
    precision = "int8"
    cache: CacheScales | None = None

    def __init__(self, spans: Mapping[str, Span]) -> None:
        self._spans = spans

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """MatMul of two dequantized tensors; in float32 where the input's span was not measured."""
        if name not in self._spans:
            product = graph.one("MatMul", [x, graph.weight(f"{name}.weight", weight)])
        else:
            rounded, scale = per_channel(weight)
            stored = graph.weight(f"{name}.weight", rounded), graph.weight(f"{name}.scale", scale)
            wide = graph.one("DequantizeLinear", stored, {"axis": 1})
            product = graph.one("MatMul", [self._rounded(graph, x, name), wide])
        return product if bias is None else graph.add(product, graph.weight(f"{name}.bias", bias))

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """The packed projection in 8 bits, the attention itself in float."""
        packed = self.linear(graph, x, scaled(weight, heads), scaled(bias, heads), name)
        return plain_attention(graph, packed, bias.shape[0] // 3, heads, position_bias)

    def embedding(self, graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
        """Rows in int8, each with its own scale."""
        rounded, scale = per_channel(np.ascontiguousarray(table.T))
        rows = graph.one("Gather", [graph.weight(name, np.ascontiguousarray(rounded.T)), ids], {"axis": 0})
        scales = graph.one("Gather", [graph.weight(f"{name}.scale", scale[:, None]), ids], {"axis": 0})
        return graph.multiply(graph.one("Cast", [rows], {"to": 1}), scales)

    def tied_head(self, graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
        """A generator's head; its cache lives in the CPU's memory, so that export refuses this scheme for it."""
        raise NotImplementedError(f"{self.name} is for encoders")

    def _rounded(self, graph: GraphBuilder, x: Value, name: str) -> Value:
        """``x`` as uint8 over its span, and back."""
        step, middle = scale_of(self._spans[name])
        scale, zero = graph.weight(f"{name}.x_scale", step), graph.weight(f"{name}.x_zero", middle)
        return graph.one("DequantizeLinear", [graph.one("QuantizeLinear", [x, scale, zero]), scale, zero])
