"""int8 weights and activations by row and block: slower on long prompts, and indifferent to outlier rows.

GPT-2's first token has activations hundreds of times larger than the others'. With one scale for a whole prompt these
round everything else away; here every row and block has its own.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize.attention import attention_of_parts, split_in_three
from edgelm_export.quantize.int8_dynamic import TablesInBlocks, linear_by_block


class Int8Blocks(TablesInBlocks):
    """MatMulNBits in 8 bits everywhere."""

    name = "int8-blocks"
    precision = "int8"

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """MatMulNBits in 8 bits, whatever ``x`` is like."""
        return linear_by_block(graph, x, weight, bias, name)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """MatMulNBits for the packed projection, MultiHeadAttention in float32 on its three parts."""
        packed = self.linear(graph, x, weight, bias, name)
        return attention_of_parts(graph, split_in_three(graph, packed), heads, position_bias)
