"""The inputs of a linear layer over the texts that were looked at: the extremes of every channel, and some rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]
ROOM = 1.1  # how far beyond the extremes of a few texts a scale reaches; what is beyond that saturates


ROWS = 128  # of a layer's inputs that are kept


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of every channel, float32 [in], and up to ROWS of the inputs [rows, in]."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rows: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Range:
        """The range of ``values`` [tokens, in]."""
        return cls(values.min(axis=0), values.max(axis=0), _sample(values))

    def joined(self, other: Range | None) -> Range:
        """The range of both."""
        if other is None:
            return self
        rows = [part for part in (self.rows, other.rows) if len(part)]
        kept = _sample(np.concatenate(rows)) if rows else self.rows
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high), kept)

    def divided(self, level: NDArray[np.float32]) -> Range:
        """The range of the inputs divided by ``level`` [in], every number of which is above zero."""
        rows = self.rows / level if len(self.rows) else self.rows
        return Range(self.low / level, self.high / level, rows)

    @property
    def largest(self) -> NDArray[np.float32]:
        """The largest absolute value of every channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def span(self, without: NDArray[np.int64] | None = None) -> Span:
        """From the smallest to the largest value, and ROOM beyond; ``without`` some channels."""
        kept = np.ones(self.low.shape, np.bool_)
        kept[[] if without is None else without] = False
        return (ROOM * float(self.low[kept].min()), ROOM * float(self.high[kept].max())) if kept.any() else (0.0, 0.0)


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """ROWS of ``values`` [tokens, in], or all: those with the smallest hash, the same in whatever order they came."""
    if len(values) <= ROWS:
        return np.array(values, np.float32)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    hashes = bits.sum(axis=1, dtype=np.uint32) * np.uint32(2654435761)
    return np.array(values[np.argsort(hashes, kind="stable")[:ROWS]], np.float32)


def scale_of(span: Span) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point that spread a span over uint8; zero is one of the 256 numbers."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    # A span so small that float32 loses the digits of its step holds nothing but zero.
    step = (high - low) / 255 if high - low > 1e-30 else 1.0
    return np.array(step, np.float32), np.array(round(-low / step), np.uint8)
