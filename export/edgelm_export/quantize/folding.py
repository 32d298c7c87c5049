"""Outliers of a layer's inputs, folded into its weights (SmoothQuant, Xiao et al., 2023).

Each channel of the input is divided by a level, and the row of weights that it meets multiplied by it: the product
stays, and both are easier to round. How much of the outliers' size goes into the weights is found for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import GraphBuilder, Value
from edgelm_export.quantize.ranges import Range

ALPHAS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GAIN = 0.6  # of the error without levels, which levels have to stay below: they may cost a multiplication
OUTPUTS = 256  # of a layer that the error is looked at in

RoundingError = Callable[[Range, NDArray[Any]], float]


class Folding:
    """The levels of every layer of a checkpoint, each found when it is first asked for.

    ``ranges`` has the inputs of the layers by name, with rows of them; ``error`` is the squared error that a scheme's
    rounding leaves in ``rows @ weight``.
    """

    def __init__(self, ranges: Mapping[str, Range], error: RoundingError) -> None:
        self._ranges = ranges
        self._error = error
        self._found: dict[str, NDArray[np.float32] | None] = {}

    def folded(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], name: str
    ) -> tuple[Value, NDArray[Any], Range | None]:
        """``x`` and ``weight`` [in, out] of the layer with its outliers folded in, and the range of that ``x``.

        Both as they are where that gains nothing. Without a measured range there is None.
        """
        known = self._ranges.get(name)
        if known is None:
            return x, weight, None
        if name not in self._found:
            self._found[name] = best_levels(known, weight, self._error)
        level = self._found[name]
        if level is None:
            return x, weight, known
        x = graph.multiply(x, graph.weight(f"{name}.level", 1 / level))
        return x, weight * level[:, None], known.divided(level)


def best_levels(known: Range, weight: NDArray[Any], error: RoundingError) -> NDArray[np.float32] | None:
    """The levels, float32 [in], that leave the least error; None where none of ALPHAS gains as much as GAIN."""
    if not known.rows.any() or not weight.any():
        return None
    some = weight[:, :: -(-weight.shape[1] // OUTPUTS)]
    best, least = None, GAIN * error(known, some)
    for alpha in ALPHAS:
        level = levels(known.largest, weight, alpha)
        found = error(known.divided(level), some * level[:, None])
        if found < least:
            best, least = level, found
    return best


def levels(largest: NDArray[np.float32], weight: NDArray[Any], alpha: float) -> NDArray[np.float32]:
    """What to divide each input by, float32 [in], so that inputs and rows of ``weight`` [in, out] are rounded alike.

    Their ``largest`` values to the powers ``alpha`` and 1 - ``alpha``, one divided by the other; 1 at the most.
    """
    rows = np.abs(weight).max(axis=1).astype(np.float64)
    inputs = largest.astype(np.float64)
    # A channel or row of nothing gets what a hundred-thousandth of the largest would.
    level = np.maximum(inputs, inputs.max() / 1e5) ** alpha / np.maximum(rows, rows.max() / 1e5) ** (1 - alpha)
    return (level / level.max()).astype(np.float32)
