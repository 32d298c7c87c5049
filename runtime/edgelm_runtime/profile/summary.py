"""Samples in a few numbers: percentiles that were observed, and how sure the median is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt

import numpy as np

_Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Summary:
    """`count` samples in one unit. Percentiles are samples (nearest rank, as MLPerf counts them).

    `low` and `high` are the 95 % interval of the median by order statistics, which asks nothing of the distribution
    (Conover, Practical Nonparametric Statistics, 3.2); of fewer than six samples it is their range, and less sure.
    """

    count: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    low: float
    high: float

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
    half = _Z * sqrt(count) / 2
    low, high = max(0, floor(count / 2 - half)), min(count - 1, ceil(count / 2 + half))

    def nearest(share: float) -> float:
        return float(found[max(0, ceil(share * count) - 1)])

    return Summary(
        count, nearest(0.5), nearest(0.9), nearest(0.95), nearest(0.99), float(found[-1]),
        low=float(found[low]), high=float(found[high]),
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
