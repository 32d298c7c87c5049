"""Attention over a packed projection: onnxruntime's kernel on its parts, or ONNX's own operators for every provider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value


def scaled(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """A packed projection's weight [in, 3 * hidden] or bias [3 * hidden] with 1 / sqrt(head size) in its queries."""
    hidden = array.shape[-1] // 3
    factor = np.ones(array.shape[-1], np.float32)
    factor[:hidden] = (hidden // heads) ** -0.5
    return array * factor


def split_in_three(graph: GraphBuilder, packed: Value) -> tuple[Value, ...]:
    """Query, key and value, [batch, sequence, hidden] each, of ``packed`` [batch, sequence, 3 * hidden]."""
    return graph.op("Split", [packed], {"axis": -1, "num_outputs": 3}, outputs=3)


def attention_of_parts(graph: GraphBuilder, parts: Sequence[Value], heads: int, position_bias: Value | None) -> Value:
    """MultiHeadAttention in float32 on query, key and value, which it scales itself."""
    inputs = [*parts] if position_bias is None else [*parts, None, None, position_bias]
    return graph.one("MultiHeadAttention", inputs, {"num_heads": heads}, MICROSOFT)


def plain_attention(
    graph: GraphBuilder, packed: Value, hidden: int, heads: int, position_bias: Value | None = None
) -> Value:
    """Softmax attention over unpadded rows: ``packed`` [batch, sequence, 3 * hidden], the queries scaled already."""
    shape = graph.weight(f"qkv_{heads}", np.array([0, 0, 3, heads, hidden // heads]))
    by_head = graph.one("Transpose", [graph.one("Reshape", [packed, shape])], {"perm": [2, 0, 3, 1, 4]})
    query, key, value = (
        graph.one("Gather", [by_head, graph.weight(f"part_{index}", np.array(index))], {"axis": 0})
        for index in range(3)
    )
    scores = graph.one("MatMul", [query, graph.one("Transpose", [key], {"perm": [0, 1, 3, 2]})])
    if position_bias is not None:
        scores = graph.add(scores, position_bias)
    context = graph.one("MatMul", [graph.one("Softmax", [scores], {"axis": -1}), value])
    return graph.joined(graph.one("Transpose", [context], {"perm": [0, 2, 1, 3]}))
