"""Schemes: how the products, tables and attentions of a graph are stored and computed.

A scheme is one file with one class that fills `Scheme`; families call nothing else to place a weight, so that an
architecture is written once for every precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize.ranges import Range, Span

CacheScales = Mapping[str, NDArray[Any]]


class Scheme(Protocol):
    """Places weights in a graph. All weights come in float32; ``name`` is the weight's name in the checkpoint.

    ``cache`` has the scales of an int8 KV cache, float32 [kv heads * head size], as "{layer}.key" and "{layer}.value";
    None is a float32 cache.
    """

    name: str
    precision: str
    cache: CacheScales | None

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """``x @ weight + bias`` for ``weight`` [in, out] and ``bias`` [out], if there is one; float32 in and out.

        ``outliers`` says that a few values of ``x`` are known to be far larger than the others.
        """

    def self_attention(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any], heads: int, name: str,
        *, position_bias: Value | None = None,
    ) -> Value:  # fmt: skip
        """Bidirectional attention over unpadded rows: packed projection ``weight`` [hidden, 3 * hidden] and softmax.

        ``name`` is that of the queries' weight, whose input is that of all three. ``position_bias``, float32
        [1, heads, sequence, sequence], is added to the scores before the softmax.
        """

    def embedding(self, graph: GraphBuilder, ids: Value, table: NDArray[Any], name: str) -> Value:
        """Rows ``ids`` (int64 [batch, sequence]) of ``table`` [rows, hidden] as float32 [batch, sequence, hidden]."""

    def tied_head(self, graph: GraphBuilder, x: Value, table: NDArray[Any], name: str) -> Value:
        """``x @ table.T`` for ``x`` [batch, hidden]; with the name of an embedding it shares the stored table."""


def scheme(
    name: str,
    ranges: Mapping[str, Range] | None = None,
    cache: CacheScales | None = None,
    spans: Mapping[str, Span] | None = None,
) -> Scheme:
    """The scheme of that name: fp32, fp16, int8 (dynamic), int8-mixed, -folded, -whole, -static, -blocks, qdq-int8 ...

    ``ranges`` is what int8-static, -mixed, -folded and -whole need: the inputs of every linear layer. ``spans`` are the
    smallest and largest inputs of each, for qdq-int8. ``cache`` makes the KV cache int8.

    Raises:
        KeyError: no scheme has that name; the command line offers only names that exist.
    """
    from edgelm_export.quantize.fp16 import Half
    from edgelm_export.quantize.fp32 import Float32
    from edgelm_export.quantize.int4_blocks import BLOCK_SIZES, Int4Blocks
    from edgelm_export.quantize.int4_hqq import Int4Hqq
    from edgelm_export.quantize.int8_blocks import Int8Blocks
    from edgelm_export.quantize.int8_dynamic import Int8Dynamic
    from edgelm_export.quantize.int8_folded import Int8Folded
    from edgelm_export.quantize.int8_mixed import Int8Mixed
    from edgelm_export.quantize.int8_static import Int8Static
    from edgelm_export.quantize.int8_whole import Int8Whole
    from edgelm_export.quantize.qdq import QdqInt8

    made: tuple[Scheme, ...] = (
        Float32(),
        Half(),
        Int8Dynamic(),
        Int8Static(ranges or {}),
        Int8Mixed(ranges or {}),
        Int8Folded(ranges or {}),
        Int8Whole(ranges or {}),
        Int8Blocks(),
        QdqInt8(spans or {}),
        *map(Int4Blocks, BLOCK_SIZES),
        Int4Hqq(),
    )
    chosen = {each.name: each for each in made}[name]
    chosen.cache = cache
    return chosen
