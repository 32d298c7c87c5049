"""Another scheme for every layer: what a search chose, or one layer that is to stay in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize import CacheScales, Scheme

PRECISIONS = ("int4", "int8", "fp32")  # that can stand beside each other, the coarsest first


class PerLayer:
    """Delegates by the layer's name: ``layers``, and ``default`` for every other.

    A name is what a family gives to the scheme: that of a product's first weight, or of a table, whose head shares it.
    The precision is the coarsest that takes part.

    Raises:
        ValueError: a scheme of another precision, such as float16, which is that of a whole graph.
    """

    def __init__(
        self, layers: Mapping[str, Scheme], default: Scheme, *, name: str = "per-layer",
        cache: CacheScales | None = None,
    ) -> None:  # fmt: skip
        used = {each.precision for each in (*layers.values(), default)}
        if not used <= set(PRECISIONS):
            raise ValueError(f"precisions {sorted(used)} in one graph: accepted are {', '.join(PRECISIONS)}")
        self.name = name
        self.precision = min(used, key=PRECISIONS.index)
        self.cache = cache
        self._layers = dict(layers)
        self._default = default

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """The product as the layer's scheme makes it."""
        return self._of(name).linear(graph, x, weight, bias, name, outliers=outliers)

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """The attention as the layer's scheme makes it."""
        return self._of(name).self_attention(graph, x, weight, bias, heads, name, position_bias=position_bias)

    def embedding(self, graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
        """The rows as the table's scheme stores them."""
        return self._of(name).embedding(graph, ids, table, name)

    def tied_head(self, graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
        """The product as the table's scheme makes it."""
        return self._of(name).tied_head(graph, x, table, name)

    def _of(self, name: str) -> Scheme:
        return self._layers.get(name, self._default)
