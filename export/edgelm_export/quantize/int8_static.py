"""int8 weights by output channel, activations rounded to scales that were measured at export, outliers folded in.

A row is rounded in the same way whatever stands beside it: reading at once equals reading token by token, tokens that
are checked together equal tokens made one by one, and sequences that share a run do not see each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize.folding import Folding
from edgelm_export.quantize.int8_dynamic import Int8Dynamic, TablesInBlocks, linear_by_block
from edgelm_export.quantize.ranges import ROOM, Range
from edgelm_export.quantize.rounding import ZERO_POINT, per_channel


class Int8Static(TablesInBlocks):
    """QuantizeLinear and MatMulIntegerToFloat where the range of the input is known, MatMulNBits elsewhere.

    ``ranges`` has the inputs of the linear layers by name.
    """

    name = "int8-static"
    precision = "int8"

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self._folding = Folding(ranges, rounding_error)

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """One scale for all rows, of what the levels leave. MatMulNBits for ranges not measured."""
        x, weight, known = self._folding.folded(graph, x, weight, name)
        if known is None or not known.largest.any():
            return linear_by_block(graph, x, weight, bias, name)
        rounded, scale = per_channel(weight)
        x_scale = graph.weight(f"{name}.x_scale", step_of(known))
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


def step_of(known: Range) -> NDArray[np.float32]:
    """The one step, float32 scalar, that all rows are rounded to: around zero, with ROOM beyond the largest."""
    return np.array(ROOM * known.largest.max() / 127, np.float32)


def rounding_error(known: Range, weight: NDArray[Any]) -> float:
    """Squared error that this scheme leaves in the product of the rows of ``known`` with ``weight`` [in, out]."""
    step = step_of(known)
    rounded = np.clip(np.rint(known.rows / step), -ZERO_POINT, ZERO_POINT - 1) * step
    values, scale = per_channel(weight)
    return float(np.square(rounded @ (values * scale) - known.rows @ weight, dtype=np.float64).sum())
