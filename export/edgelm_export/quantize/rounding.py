"""Symmetric 8-bit rounding of weights, shared by the int8 schemes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZES = (128, 64, 32, 16)
ZERO_POINT = 128  # of unsigned 8-bit blocks where a kernel is given none


def per_channel(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize ``weight`` [in, out] with one scale an output channel: int8 [in, out] and float32 [out]."""
    largest = np.abs(weight).max(axis=0).astype(np.float32)
    scale = _scale(largest)
    return np.rint(weight / scale).astype(np.int8), scale


def by_block(rows: NDArray[Any], block: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantize ``rows`` [n, k] in blocks along k: uint8 [n, k / block, block] around 128, float32 [n, k / block, 1]."""
    blocks = rows.reshape(rows.shape[0], -1, block)
    largest = np.abs(blocks).max(axis=-1, keepdims=True).astype(np.float32)
    scale = _scale(largest)
    return (np.rint(blocks / scale) + ZERO_POINT).astype(np.uint8), scale


def _scale(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one step of 127 is; numbers so small that float32 loses the digits of their step are zero."""
    return np.where(largest > np.float32(1e-30), largest / np.float32(127), np.float32(1))


def block_size(width: int) -> int | None:
    """The largest block that the kernels take and that divides ``width``; None when there is none."""
    return next((size for size in BLOCK_SIZES if width % size == 0), None)
