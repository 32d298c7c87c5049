"""No quantization: the reference that the tests compare with."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize import CacheScales


class Float32:
    """Every weight as it is, on onnxruntime's float32 kernels."""

    name = "fp32"
    precision = "fp32"
    cache: CacheScales | None = None

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """MatMul and Add."""
        product = graph.one("MatMul", [x, graph.weight(f"{name}.weight", weight)])
        return product if bias is None else graph.add(product, graph.weight(f"{name}.bias", bias))

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """com.microsoft Attention."""
        weights = [graph.weight(f"{name}.weight", weight), graph.weight(f"{name}.bias", bias)]
        added = [] if position_bias is None else [None, None, position_bias]
        return graph.one("Attention", [x, *weights, *added], {"num_heads": heads}, MICROSOFT)

    def embedding(self, graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
        """Gather."""
        return graph.one("Gather", [graph.weight(name, table), ids], {"axis": 0})

    def tied_head(self, graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
        """A product with the transposed table, which stays stored once."""
        return head_in_float32(graph, x, table, name)


def head_in_float32(graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
    """``x @ table.T``: FusedMatMul transposes while it multiplies."""
    return graph.one("FusedMatMul", [x, graph.weight(name, table)], {"transB": 1}, MICROSOFT)
