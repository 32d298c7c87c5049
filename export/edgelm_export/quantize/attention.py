"""Attention in ONNX's own operators, which every execution provider knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value


def scaled(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """A packed projection's weight [in, 3 * hidden] or bias [3 * hidden] with 1 / sqrt(head size) in its queries."""
    hidden = array.shape[-1] // 3
    factor = np.ones(array.shape[-1], np.float32)
    factor[:hidden] = (hidden // heads) ** -0.5
    return array * factor


def plain_attention(graph: GraphBuilder, packed: Value, hidden: int, heads: int) -> Value:
    """Softmax attention over unpadded rows: ``packed`` [batch, sequence, 3 * hidden], the queries scaled already."""
    shape = graph.weight(f"qkv_{heads}", np.array([0, 0, 3, heads, hidden // heads]))
    by_head = graph.one("Transpose", [graph.one("Reshape", [packed, shape])], {"perm": [2, 0, 3, 1, 4]})
    query, key, value = (
        graph.one("Gather", [by_head, graph.weight(f"part_{index}", np.array(index))], {"axis": 0})
        for index in range(3)
    )
    scores = graph.one("MatMul", [query, graph.one("Transpose", [key], {"perm": [0, 1, 3, 2]})])
    context = graph.one("MatMul", [graph.one("Softmax", [scores], {"axis": -1}), value])
    return graph.joined(graph.one("Transpose", [context], {"perm": [0, 2, 1, 3]}))
