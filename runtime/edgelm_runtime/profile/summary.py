"""Samples in a few numbers: percentiles that were observed, and how sure the median is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt

import numpy as np

FEWEST_FOR_P99 = 400  # with fewer the interval of the 99th percentile ends above the largest sample
_Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Summary:
    """`count` samples in one unit. Percentiles are samples (nearest rank, as MLPerf counts them).

    `low` and `high` are the 95 % interval of the median by order statistics, which asks nothing of the distribution
    (Conover, Practical Nonparametric Statistics, 3.2); of fewer than six samples it is their range, and less sure.
    `p99_low` and `p99_high` are that of the 99th percentile, None where there are too few samples beyond it.
    """

    count: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    low: float
    high: float
    p99_low: float | None = None
    p99_high: float | None = None

    @property
    def width(self) -> float:
        """The interval of the median, as a part of the median."""
        return (self.high - self.low) / self.p50 if self.p50 else 0.0


def summarize(samples: Sequence[float]) -> Summary:
    """The summary of at least one finite sample. Raises ValueError for none."""
    if not len(samples):
        raise ValueError("there are no samples to summarize")
    found = np.sort(np.asarray(samples, dtype=np.float64))
    count = len(found)

    def nearest(share: float) -> float:
        return float(found[max(0, ceil(share * count) - 1)])

    def interval(share: float) -> tuple[float, float]:
        half = _Z * sqrt(count * share * (1 - share))
        low, high = max(0, floor(count * share - half)), min(count - 1, ceil(count * share + half))
        return float(found[low]), float(found[high])

    low, high = interval(0.5)
    tail = interval(0.99) if count >= FEWEST_FOR_P99 else (None, None)
    return Summary(
        count, nearest(0.5), nearest(0.9), nearest(0.95), nearest(0.99), float(found[-1]),
        low=low, high=high, p99_low=tail[0], p99_high=tail[1],
    )  # fmt: skip


@dataclass(frozen=True)
class Histogram:
    """Samples by size: `counts[i]` of them lie in [`edges[i]`, `edges[i + 1]`), the last bin has its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def histogram(samples: Sequence[float], bins: int = 30) -> Histogram:
    """Equal bins from the least sample to the 99th percentile; what is above is counted in the last bin."""
    found = np.asarray(samples, dtype=np.float64)
    top = np.percentile(found, 99, method="inverted_cdf")
    counts, edges = np.histogram(np.minimum(found, top), bins=bins)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))
