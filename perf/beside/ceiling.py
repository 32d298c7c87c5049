"""How fast this machine reads memory: no model reads its weights for less."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

BUFFER_BYTES, SMOKE_BYTES = 1 << 30, 1 << 24
PASSES = 7


def read_bandwidth(threads: int, smoke: bool = False) -> float:
    """Bytes a second that all threads together read from a buffer larger than any cache, the best of a few passes.

    The reader is the C library's memchr for a byte that is not there: it does nothing but read, with vectors.
    """
    library = ctypes.CDLL(None)
    library.memchr.restype = ctypes.c_void_p
    library.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    parts = np.array_split(np.zeros(SMOKE_BYTES if smoke else BUFFER_BYTES, np.uint8), threads)
    for part in parts:
        part.fill(0)  # zeros that were never written all lie on one page of the system's

    def read(part: np.ndarray) -> None:
        library.memchr(part.ctypes.data, 1, part.size)

    with ThreadPoolExecutor(threads) as pool:
        best = float("inf")
        for _ in range(PASSES):
            start = perf_counter()
            list(pool.map(read, parts))
            best = min(best, perf_counter() - start)
    return sum(part.size for part in parts) / best
