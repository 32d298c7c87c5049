"""int4 weights in blocks of 32 whose zero is placed by half-quadratic quantization (HQQ, Badri and Shaji, 2023).

onnxruntime's own solver finds scale and zero of each block. The zero is then rounded to one of the sixteen numbers:
onnxruntime's fast products take no other. The scale is the one with the least squared error for what that leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.graph import MICROSOFT, GraphBuilder, Value
from edgelm_export.quantize.int4_blocks import Int4Blocks
from edgelm_export.quantize.rounding import by_block_in_4_bits

BLOCK = 32
_LARGEST, _MIDDLE = 15, np.float32(8)


class Int4Hqq(Int4Blocks):
    """MatMulNBits in 4 bits with zero points and accuracy level 4; everything else as Int4Blocks."""

    def __init__(self) -> None:
        super().__init__(BLOCK)
        self.name = "int4-hqq"

    def linear(
        self, graph: GraphBuilder, x: Value, weight: NDArray[Any], bias: NDArray[Any] | None, name: str,
        *, outliers: bool = False,
    ) -> Value:  # fmt: skip
        """MatMulNBits in 4 bits, with a zero point for each block."""
        width, outputs = weight.shape
        if width % BLOCK:
            return super().linear(graph, x, weight, bias, name, outliers=outliers)
        values, scale, zero = half_quadratic(np.ascontiguousarray(weight.T, np.float32))
        attributes = {"K": width, "N": outputs, "bits": 4, "block_size": BLOCK, "accuracy_level": 4}
        inputs = [
            x, graph.weight(f"{name}.weight", _packed(values)), graph.weight(f"{name}.scale", scale),
            graph.weight(f"{name}.zero", _packed(zero)),
            *([] if bias is None else [None, graph.weight(f"{name}.bias", bias)]),
        ]  # fmt: skip
        return graph.one("MatMulNBits", inputs, attributes, MICROSOFT)


def half_quadratic(rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Quantize ``rows`` [n, k] in blocks along k: uint8 [n, k / block, block], scales and zeros [n, k / block].

    ``(values - zero) * scale`` is near the rows; values and zeros are 0 to 15.
    """
    import torch
    from onnxruntime.quantization.matmul_nbits_quantizer import HQQWeightOnlyQuantConfig, HQQWeightOnlyQuantizer

    solver = HQQWeightOnlyQuantizer(HQQWeightOnlyQuantConfig())
    _, scale, found = solver.quantize_internal(torch.from_numpy(rows), bits=4, group_size=BLOCK, axis=1)
    step = scale.numpy()[..., None]
    zero = np.clip(np.rint(found.numpy()), 0, _LARGEST)[..., None]
    blocks = rows.reshape(rows.shape[0], -1, BLOCK)
    values = np.clip(np.rint(blocks / step + zero), 0, _LARGEST)
    steps = values - zero
    squares = np.square(steps).sum(axis=-1)
    best = ((blocks * steps).sum(axis=-1) / np.maximum(squares, 1e-30)).astype(np.float32)[..., None]
    # Where all numbers are far from zero, none of the sixteen is it: there the block around zero is nearer.
    packed, plain = by_block_in_4_bits(rows, BLOCK)
    around = _unpacked(packed)
    error = np.square(steps * best - blocks).sum(axis=-1, keepdims=True)
    nearer = np.square((around - _MIDDLE) * plain[..., None] - blocks).sum(axis=-1, keepdims=True) <= error
    values, zero = np.where(nearer, around, values), np.where(nearer, _MIDDLE, zero)
    best = np.where(nearer, plain[..., None], best)
    return values.astype(np.uint8), best[..., 0], zero[..., 0].astype(np.uint8)


def _packed(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two numbers of the last axis to a byte, the first in the low half; an odd one out stands alone."""
    even = numbers if numbers.shape[-1] % 2 == 0 else np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, 1)])
    packed: NDArray[np.uint8] = even[..., ::2] | (even[..., 1::2] << np.uint8(4))
    return packed


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    halves = np.stack([packed & 15, packed >> 4], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1).astype(np.float32)
