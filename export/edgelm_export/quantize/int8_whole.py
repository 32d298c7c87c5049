"""int8 as `int8_mixed` without channels apart: a tenth faster, where a layer's outliers do not matter."""

from __future__ import annotations

from collections.abc import Mapping

from edgelm_export.quantize.int8_mixed import Int8Mixed
from edgelm_export.quantize.ranges import Range


class Int8Whole(Int8Mixed):
    """One rounded product a layer. A search takes it for the layers that bear it; nothing else does."""

    name = "int8-whole"

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        super().__init__(ranges, most=0)
