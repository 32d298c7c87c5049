"""int4 weights in blocks, activations rounded by row and block: half the bytes to read for a token.

The token table and the head stay in 8 bits: it is one table, an error in it is in every token, and a choice among
words that are nearly as probable needs the digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize.int8_blocks import Int8Blocks
from edgelm_export.quantize.int8_dynamic import TablesInBlocks, linear_by_block
from edgelm_export.quantize.rounding import by_block_in_4_bits

BLOCK_SIZES = (32, 64, 128)


class Int4Blocks(TablesInBlocks):
    """MatMulNBits in 4 bits with accuracy level 4; a layer whose width the block does not divide has 8 bits."""

    precision = "int4"

    def __init__(self, block: int) -> None:
        self.name = f"int4-{block}"
        self._block = block

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """MatMulNBits in 4 bits."""
        width, outputs = weight.shape
        if width % self._block:
            return linear_by_block(graph, x, weight, bias, name)
        packed, scale = by_block_in_4_bits(np.ascontiguousarray(weight.T), self._block)
        attributes = {"K": width, "N": outputs, "bits": 4, "block_size": self._block, "accuracy_level": 4}
        inputs = [
            x, graph.weight(f"{name}.weight", packed), graph.weight(f"{name}.scale", scale),
            *([] if bias is None else [None, None, graph.weight(f"{name}.bias", bias)]),
        ]  # fmt: skip
        return graph.one("MatMulNBits", inputs, attributes, MICROSOFT)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """As Int8Blocks: an encoder's attention gains nothing from fewer bits."""
        return Int8Blocks().self_attention(graph, x, weight, bias, heads, name, position_bias=position_bias)
