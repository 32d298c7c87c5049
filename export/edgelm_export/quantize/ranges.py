"""What the inputs of a linear layer are like: the extremes of every channel, over the texts that were looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
ROOM = 1.1  # how far beyond the extremes of a few texts a scale reaches; what is beyond that saturates


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of every channel, float32 [in]."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Range:
        """The range of ``values`` [tokens, in]."""
        return cls(values.min(axis=0), values.max(axis=0))

    def joined(self, other: Range | None) -> Range:
        """The range of both."""
        return self if other is None else Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def largest(self) -> NDArray[np.float32]:
        """The largest absolute value of every channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def span(self, without: NDArray[np.int64] | None = None) -> Span:
        """From the smallest to the largest value, and ROOM beyond; ``without`` some channels."""
        kept = np.ones(self.low.shape, np.bool_)
        kept[[] if without is None else without] = False
        return (ROOM * float(self.low[kept].min()), ROOM * float(self.high[kept].max())) if kept.any() else (0.0, 0.0)


def scale_of(span: Span) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point that spread a span over uint8; zero is one of the 256 numbers."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    # A span so small that float32 loses the digits of its step holds nothing but zero.
    step = (high - low) / 255 if high - low > 1e-30 else 1.0
    return np.array(step, np.float32), np.array(round(-low / step), np.uint8)
