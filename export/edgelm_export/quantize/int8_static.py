"""int8 weights by output channel, activations rounded to scales that were measured at export.

A row is rounded in the same way whatever stands beside it: reading at once equals reading token by token, tokens that
are checked together equal tokens made one by one, and sequences that share a run do not see each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize.int8_dynamic import Int8Dynamic, TablesInBlocks, linear_by_block
from edgelm_export.quantize.ranges import ROOM, Range
from edgelm_export.quantize.rounding import ZERO_POINT, per_channel

ALPHA = 0.5  # of the outliers' size goes into the weights


def levels(largest: NDArray[np.float32], weight: NDArray[Any]) -> NDArray[np.float32]:
    """What to divide each input by, float32 [in], so that inputs and rows of ``weight`` [in, out] are rounded alike.

    The square root of the ratio of their largest values (SmoothQuant, Xiao et al., 2023, with alpha 0.5).
    """
    rows = np.abs(weight).max(axis=1).astype(np.float64)
    inputs = largest.astype(np.float64)
    # A channel or row of nothing gets what a hundred-thousandth of the largest would.
    level = np.maximum(inputs, inputs.max() / 1e5) ** ALPHA / np.maximum(rows, rows.max() / 1e5) ** (1 - ALPHA)
    return (level / level.max()).astype(np.float32)


class Int8Static(TablesInBlocks):
    """QuantizeLinear and MatMulIntegerToFloat where the range of the input is known, MatMulNBits elsewhere.

    ``ranges`` has the inputs of the linear layers by name.
    """

    name = "int8-static"
    precision = "int8"

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self._ranges = ranges

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """One scale for all rows; for outliers the inputs are levelled first. MatMulNBits for ranges not measured."""
        known = self._ranges.get(name)
        if known is None or not known.largest.any():
            return linear_by_block(graph, x, weight, bias, name)
        largest = known.largest
        if outliers:
            level = levels(largest, weight)
            x = graph.multiply(x, graph.weight(f"{name}.level", 1 / level))
            weight, largest = weight * level[:, None], largest / level
        rounded, scale = per_channel(weight)
        x_scale = graph.weight(f"{name}.x_scale", np.array(ROOM * largest.max() / 127, np.float32))
        x_zero = graph.weight("x_zero", np.array(ZERO_POINT, np.uint8))
        inputs = [
            graph.one("QuantizeLinear", [x, x_scale, x_zero]), graph.weight(f"{name}.weight", rounded),
            x_scale, graph.weight(f"{name}.scale", scale), x_zero,
            *([] if bias is None else [None, graph.weight(f"{name}.bias", bias)]),
        ]  # fmt: skip
        return graph.one("MatMulIntegerToFloat", inputs, domain=MICROSOFT)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """As Int8Dynamic: an encoder reads a text in one run."""
        return Int8Dynamic().self_attention(graph, x, weight, bias, heads, name, position_bias=position_bias)
