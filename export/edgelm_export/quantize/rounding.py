"""Symmetric rounding of weights to 8 and to 4 bits, shared by the schemes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZES = (128, 64, 32, 16)
# Shares of a block's largest number that its 4-bit scale may reach to; with 8/7 it reaches as far with the other sign.
CUTS = (1.0, 8 / 7, 0.94, 0.88, 0.82)
PART = 1 << 22  # numbers that are rounded at a time
ZERO_POINT = 128  # of unsigned 8-bit blocks where a kernel is given none


def per_channel(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize ``weight`` [in, out] with one scale an output channel: int8 [in, out] and float32 [out]."""
    largest = np.abs(weight).max(axis=0).astype(np.float32)
    scale = _scale(largest)
    return np.rint(weight / scale).astype(np.int8), scale


def by_block(rows: NDArray[Any], block: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantize ``rows`` [n, k] in blocks along k: uint8 [n, k / block, block] around 128, float32 [n, k / block, 1]."""
    blocks = rows.reshape(rows.shape[0], -1, block)
    rounded, scale = np.empty(blocks.shape, np.uint8), np.empty((*blocks.shape[:2], 1), np.float32)
    # A part at a time: the intermediate results of a table of 150,000 rows would take gigabytes.
    step = max(1, PART // rows.shape[1])
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        scale[start : start + step] = _scale(np.abs(part).max(axis=-1, keepdims=True).astype(np.float32))
        rounded[start : start + step] = np.rint(part / scale[start : start + step]) + ZERO_POINT
    return rounded, scale


def by_block_in_4_bits(rows: NDArray[Any], block: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantize ``rows`` [n, k] in blocks along k: uint8 [n, k / block, block / 2] of two numbers each, float32 scales.

    Numbers are -8 to 7, stored around 8 with the first in the low half. Of some scales, the one with the least squared
    error is taken: to cut the largest number a little is worth it where the others gain.
    """
    blocks = rows.reshape(rows.shape[0], -1, block).astype(np.float32)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)
    best, scale = np.zeros(blocks.shape, np.int8), np.ones(extreme.shape, np.float32)
    error = np.full(extreme.shape, np.inf, np.float32)
    for cut in CUTS:
        tried = np.where(np.abs(extreme) > np.float32(1e-30), extreme * np.float32(-cut / 8), np.float32(1))
        rounded = np.clip(np.rint(blocks / tried), -8, 7)
        missed = np.square(rounded * tried - blocks).sum(axis=-1, keepdims=True)
        better = missed < error
        best = np.where(better, rounded.astype(np.int8), best)
        scale, error = np.where(better, tried, scale), np.where(better, missed, error)
    halves = (best + 8).astype(np.uint8).reshape(*best.shape[:2], -1, 2)
    packed: NDArray[np.uint8] = halves[..., 0] | (halves[..., 1] << np.uint8(4))
    return packed, scale[..., 0]


def _scale(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """What one step of 127 is; numbers so small that float32 loses the digits of their step are zero."""
    return np.where(largest > np.float32(1e-30), largest / np.float32(127), np.float32(1))


def block_size(width: int) -> int | None:
    """The largest block that the kernels take and that divides ``width``; None when there is none."""
    return next((size for size in BLOCK_SIZES if width % size == 0), None)
