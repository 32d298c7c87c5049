"""What this machine can do at the best: how fast it reads memory, and how fast it multiplies bytes."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from ..session import SessionOptions, bind, create_session, ort_value, run_bound

_GRAPH = Path(__file__).parents[1] / "data" / "rate.onnx"  # tests/make_tiny.py writes it
ROWS, INNER, COLUMNS = 128, 768, 3072
LARGE_BYTES, _LEAST_BYTES = 1 << 30, 1 << 20
_BYTES_BY_PASS = 1 << 26
_PASSES = 7


def read_bandwidth(threads: int, size: int) -> float:
    """Bytes a second that all threads together read from a buffer of `size` bytes, the best of a few passes.

    One that a cache holds is read from there, as the weights of a model of that size are. The reader is numpy's maximum
    of bytes, which compares many at once and waits for memory alone.
    """
    size = max(size, threads * _LEAST_BYTES)
    again = max(1, _BYTES_BY_PASS // size)
    parts = np.array_split(np.zeros(size, np.uint8), threads)
    for part in parts:
        part.fill(0)  # zeros that were never written all lie on one page of the system's

    def read(part: npt.NDArray[np.uint8]) -> None:
        for _ in range(again):
            part.max()

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_PASSES):
            start = perf_counter()
            list(pool.map(read, parts))
            best = min(best, perf_counter() - start)
    return again * size / best


def int8_rate(threads: int, seconds: float) -> float:
    """Multiply-adds a second of one bare product in onnxruntime, the best of all that fit into some seconds.

    uint8 rows by int8 weights, of the shape of BERT-base's feed-forward at 128 tokens: nothing is rounded, scaled or
    copied. On processors without exact products of bytes it is the slower kernel that answers use there, too.
    """
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (INNER, COLUMNS), np.int8)
    session = create_session(_GRAPH.read_bytes(), SessionOptions(threads), _Given({"weights": weights}))
    rows, products = random.integers(0, 256, (ROWS, INNER), np.uint8), np.empty((ROWS, COLUMNS), np.int32)
    binding = bind(session, {"rows": ort_value(rows)}, {"products": ort_value(products)})
    best, begin = float("inf"), perf_counter()
    while best == float("inf") or perf_counter() - begin < seconds:
        start = perf_counter()
        run_bound(session, binding)
        best = min(best, perf_counter() - start)
    return ROWS * INNER * COLUMNS / best


@dataclass(frozen=True)
class _Given:
    """Weights that were made here."""

    arrays: Mapping[str, npt.NDArray[Any]]

    def release(self) -> None:
        """They stay."""
