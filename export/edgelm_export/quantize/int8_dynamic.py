"""int8 weights by output channel, activations rounded while running: the fastest 8-bit products on a CPU.

onnxruntime's kernels take unsigned activations and signed weights, with one activation scale for the whole tensor:
a sequence must not share a run with another one, and an outlier row costs its neighbours precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value, shape_of
from edgelm_export.quantize import CacheScales
from edgelm_export.quantize.attention import attention_of_parts, split_in_three
from edgelm_export.quantize.fp32 import head_in_float32
from edgelm_export.quantize.rounding import block_size, by_block, per_channel


class TablesInBlocks:
    """The table of tokens and the head that shares its bytes, in 8-bit blocks: a part of every scheme with few bits."""

    cache: CacheScales | None = None

    def embedding(self, graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
        """GatherBlockQuantized; a table whose width no block divides stays in float32."""
        return embedding_by_block(graph, ids, table, name)

    def tied_head(self, graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
        """MatMulNBits over the bytes that the embedding reads."""
        return head_by_block(graph, x, table, name)


class Int8Dynamic(TablesInBlocks):
    """DynamicQuantizeMatMul, QAttention, and tables in 8-bit blocks."""

    name = "int8"
    precision = "int8"

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """DynamicQuantizeMatMul: scale, rounding, product, rescaling and bias in one kernel.

        With outliers MatMulNBits instead: one scale for all of ``x`` would round everything else away.
        """
        if outliers:
            return linear_by_block(graph, x, weight, bias, name)
        rounded, scale = per_channel(weight)
        inputs = [
            x, graph.weight(f"{name}.weight", rounded), graph.weight(f"{name}.scale", scale),
            *([] if bias is None else [None, graph.weight(f"{name}.bias", bias)]),
        ]  # fmt: skip
        return graph.one("DynamicQuantizeMatMul", inputs, domain=MICROSOFT)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """QAttention: the packed projection in 8 bits, the attention itself in float32.

        QAttention takes no bias: with one MultiHeadAttention on the parts of the projection.
        """
        if position_bias is not None:
            packed = self.linear(graph, x, weight, bias, name)
            return attention_of_parts(graph, split_in_three(graph, packed), heads, position_bias)
        rounded, scale = per_channel(weight)
        x8, x_scale, x_zero = graph.op("DynamicQuantizeLinear", [x], outputs=3)
        inputs = [
            x8, graph.weight(f"{name}.weight", rounded), graph.weight(f"{name}.bias", bias),
            x_scale, graph.weight(f"{name}.scale", scale), None, x_zero,
            graph.weight(f"{name}.zero_point", np.zeros(scale.shape, np.int8)),
        ]  # fmt: skip
        return graph.one("QAttention", inputs, {"num_heads": heads}, MICROSOFT)


def embedding_by_block(graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
    """Rows of a table in 8-bit blocks: the table is [rows, blocks, block], so that a head can share its bytes."""
    block = block_size(table.shape[1])
    if block is None:
        return graph.one("Gather", [graph.weight(name, table), ids], {"axis": 0})
    rounded, scale = by_block(table, block)
    inputs = [graph.weight(name, rounded), ids, graph.weight(f"{name}.scale", scale)]
    attributes = {"bits": 8, "block_size": block, "gather_axis": 0, "quantize_axis": 2}
    blocks = graph.one("GatherBlockQuantized", inputs, attributes, MICROSOFT)
    width = graph.weight(f"{name}.shape", np.array([0, 0, table.shape[1]], np.int64))
    return graph.one("Reshape", [blocks, width])


def head_by_block(graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
    """``x @ table.T`` from 8-bit blocks, rounding ``x`` by row and block (accuracy level 4)."""
    block = block_size(table.shape[1])
    if block is None:
        return head_in_float32(graph, x, table, name)
    rounded, scale = by_block(table, block)
    return blocks_product(graph, x, graph.weight(name, rounded), graph.weight(f"{name}.head_scale", scale[:, :, 0]))


def linear_by_block(graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str) -> Value:
    """MatMulNBits with 8 bits and accuracy level 4; an input width that no block divides stays in float32."""
    stored_bias = None if bias is None else graph.weight(f"{name}.bias", bias)
    block = block_size(weight.shape[0])
    if block is None:
        product = graph.one("MatMul", [x, graph.weight(f"{name}.weight", weight)])
        return product if stored_bias is None else graph.add(product, stored_bias)
    rounded, scale = by_block(np.ascontiguousarray(weight.T), block)
    values = graph.weight(f"{name}.weight", rounded), graph.weight(f"{name}.scale", scale[:, :, 0])
    return blocks_product(graph, x, *values, stored_bias)


def blocks_product(graph: GraphBuilder, x: Value, weight: Value, scale: Value, bias: Value | None = None) -> Value:
    """MatMulNBits of ``x`` [..., k] with 8-bit ``weight`` [n, blocks, block] and ``scale`` [n, blocks]."""
    rows, blocks, block = shape_of(weight)
    attributes = {"K": blocks * block, "N": rows, "bits": 8, "block_size": block, "accuracy_level": 4}
    inputs = [x, weight, scale] if bias is None else [x, weight, scale, None, None, bias]
    return graph.one("MatMulNBits", inputs, attributes, MICROSOFT)
