"""int8 weights by output channel, activations rounded to scales measured at export, outlier channels in float32.

A few channels of a transformer's activations are ten times larger than the others, and a scale that reaches them rounds
the others away. They are multiplied apart, in float32, and the two products added (LLM.int8(), Dettmers et al., 2022;
there they are found while running, here at export).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize.attention import attention_of_parts
from edgelm_export.quantize.int8_dynamic import Int8Dynamic, TablesInBlocks, linear_by_block
from edgelm_export.quantize.ranges import Range, scale_of
from edgelm_export.quantize.rounding import per_channel

APART = 8  # channels in float32
WORTH = 1.5  # how much finer the scale of the others has to become for that


class Int8Mixed(TablesInBlocks):
    """QuantizeLinear, MatMulIntegerToFloat and QAttention for the layers in ``ranges``.

    At most ``most`` channels of each are taken apart.
    """

    name = "int8-mixed"
    precision = "int8"

    def __init__(self, ranges: Mapping[str, Range], most: int = APART) -> None:
        self._ranges = ranges
        self._most = most

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """One scale for all rows, and a product in float32 for outlier channels; blocks where no range was measured."""
        known = self._ranges.get(name)
        if known is None:
            return linear_by_block(graph, x, weight, bias, name)
        return _Rounded(graph, x, known, name, self._most).product(weight, bias, name)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """QAttention; with channels apart three products of the same rounded rows, and MultiHeadAttention in float32.

        The latter too for a bias, which QAttention does not take. Dynamic where no range was measured.
        """
        known = self._ranges.get(name)
        if known is None:
            return Int8Dynamic().self_attention(graph, x, weight, bias, heads, name, position_bias=position_bias)
        rounded = _Rounded(graph, x, known, name, self._most)
        if rounded.whole and position_bias is None:
            return rounded.attention(weight, bias, heads, name)
        parts = zip(np.split(weight, 3, axis=1), np.split(bias, 3), strict=True)
        products = [rounded.product(*part, f"{name}.{index}") for index, part in enumerate(parts)]
        return attention_of_parts(graph, products, heads, position_bias)


class _Rounded:
    """The inputs of one or more products: rounded to uint8, and the channels that are taken apart."""

    def __init__(self, graph: GraphBuilder, x: Value, known: Range, name: str, most: int) -> None:
        self._graph = graph
        self._apart = apart(known, most)
        step, middle = scale_of(known.span(self._apart))
        self._scale = graph.weight(f"{name}.x_scale", step)
        self._zero = graph.weight(f"x_zero_{middle}", middle)
        self._values = graph.one("QuantizeLinear", [x, self._scale, self._zero])
        if not self.whole:
            self._outliers = graph.one("Gather", [x, graph.weight(f"{name}.apart", self._apart)], {"axis": -1})

    @property
    def whole(self) -> bool:
        """Whether no channel is apart."""
        return not len(self._apart)

    def attention(self, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str) -> Value:
        """QAttention of the packed projection ``weight`` [hidden, 3 * hidden]: the rest is in float32."""
        graph, (values, scale) = self._graph, per_channel(weight)
        inputs = [
            self._values, graph.weight(f"{name}.weight", values), graph.weight(f"{name}.bias", bias), self._scale,
            graph.weight(f"{name}.scale", scale), None, self._zero,
            graph.weight(f"{name}.zero_point", np.zeros(scale.shape, np.int8)),
        ]  # fmt: skip
        return graph.one("QAttention", inputs, {"num_heads": heads}, MICROSOFT)

    def product(self, weight: NDArray[Any], bias: NDArray[Any] | None, name: str) -> Value:
        """The product with ``weight`` [in, out], and ``bias`` [out] added."""
        graph, rows = self._graph, weight.copy()
        rows[self._apart] = 0  # those channels are rounded too, and may be clipped: nothing of them counts
        values, scale = per_channel(rows)
        inputs = [
            self._values, graph.weight(f"{name}.weight", values), self._scale, graph.weight(f"{name}.scale", scale),
            self._zero, *([] if bias is None else [None, graph.weight(f"{name}.bias", bias)]),
        ]  # fmt: skip
        product = graph.one("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
        if self.whole:
            return product
        outliers = graph.weight(f"{name}.apart_weight", np.ascontiguousarray(weight[self._apart], np.float32))
        return graph.add(product, graph.one("MatMul", [self._outliers, outliers]))


def apart(known: Range, most: int = APART) -> NDArray[np.int64]:
    """The channels to take apart, ascending: the ``most`` largest, where that makes the others' scale WORTH as fine."""
    largest = known.largest
    found = np.sort(np.argsort(largest, kind="stable")[::-1][:most]).astype(np.int64)
    rest = np.delete(largest, found)
    worth = rest.size > 0 and float(largest.max()) >= WORTH * float(rest.max())
    return found if worth else np.empty(0, np.int64)


def rounding_error(known: Range, weight: NDArray[Any]) -> float:
    """Squared error that this scheme leaves in the product of the rows of ``known`` with ``weight`` [in, out]."""
    channels = apart(known)
    step, middle = scale_of(known.span(channels))
    rounded = (np.clip(np.rint(known.rows / step) + middle, 0, 255) - np.float32(middle)) * step
    values, scale = per_channel(weight)
    stored = values * scale
    rounded[:, channels], stored[channels] = known.rows[:, channels], weight[channels]
    return float(np.square(rounded @ stored - known.rows @ weight, dtype=np.float64).sum())
