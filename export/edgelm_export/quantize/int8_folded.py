"""int8 as `int8_mixed`, after outliers were folded into the weights: for more of them than can be taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize.folding import Folding
from edgelm_export.quantize.int8_dynamic import TablesInBlocks
from edgelm_export.quantize.int8_mixed import Int8Mixed, rounding_error
from edgelm_export.quantize.ranges import Range


class Int8Folded(TablesInBlocks):
    """Levels before `Int8Mixed`. Behind a norm that nothing else reads they go into the norm and cost nothing."""

    name = "int8-folded"
    precision = "int8"

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self._folding = Folding(ranges, rounding_error)

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """`Int8Mixed.linear` of what the levels leave."""
        x, weight, known = self._folding.folded(graph, x, weight, name)
        return _mixed(known, name).linear(graph, x, weight, bias, name, outliers=outliers)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """`Int8Mixed.self_attention` of what the levels leave."""
        x, weight, known = self._folding.folded(graph, x, weight, name)
        mixed = _mixed(known, name)
        return mixed.self_attention(graph, x, weight, bias, heads, name, position_bias=position_bias)


def _mixed(known: Range | None, name: str) -> Int8Mixed:
    return Int8Mixed({} if known is None else {name: known})
