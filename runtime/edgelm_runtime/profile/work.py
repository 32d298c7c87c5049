"""How much a run of a graph has to read and to multiply at the least."""

from __future__ import annotations

from collections import defaultdict
from math import prod

from ..initializers import declared_initializers, nodes
from .tracing import Event, Shape

# TensorProto.DataType: bits of one number.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}
_GATHERS = ("Gather", "GatherBlockQuantized")
_INDICES = 1  # the input of a Gather that is no table
_PRODUCTS = frozenset(
    ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
     "MatMulNBits", "QLinearMatMul", "QGemm")
)  # fmt: skip


def weight_bytes(model: bytes, tokens: int) -> dict[str, int]:
    """Bytes of weights that one run of a serialized graph reads, by the operator that reads them.

    Each counts once, in the size that it is stored in; of a table that is only looked up, the rows of `tokens` tokens
    count. The key-value cache and what is computed on the way are left out. Raises BundleRejected.
    """
    declared = declared_initializers(model)
    found: dict[str, int] = defaultdict(int)
    looked_up: dict[str, str] = {}
    whole: dict[str, str] = {}
    for op_type, inputs in nodes(model):
        for index, name in enumerate(inputs):
            if name in declared:
                (looked_up if op_type in _GATHERS and index != _INDICES else whole).setdefault(name, op_type)
    for name, op_type in whole.items():
        found[op_type] += _size(declared[name])
    for name, op_type in looked_up.items():
        shape = declared[name][1]
        if name not in whole and shape:
            found[op_type] += min(tokens, shape[0]) * _size(declared[name]) // max(1, shape[0])
    return dict(found)


def _size(declared: tuple[int, Shape]) -> int:
    kind, shape = declared
    return prod(shape) * _BITS.get(kind, 0) // 8


def multiply_adds(event: Event, attended: int) -> int:
    """Multiply-adds of a node's run: matrix products, and the two of attention; 0 for everything else.

    The buffer of a key-value cache is larger than what is in it: at most `attended` tokens of it count.
    """
    first, out = _at(event.inputs, 0), _at(event.outputs, 0)
    if not first or not out:
        return 0
    if event.op_type in _PRODUCTS:
        return prod(out) * first[-1]
    if event.op_type == "GroupQueryAttention":
        return 2 * prod(out) * min(attended, (_at(event.outputs, 1) or first)[-2])
    if event.op_type == "MultiHeadAttention":
        key = _at(event.inputs, 1)
        return 2 * prod(out) * (key[-2] if len(key) in (3, 4) else first[1])
    if event.op_type in ("QAttention", "Attention"):
        return prod(out) * (3 * first[-1] + 2 * first[1])
    return 0


def _at(shapes: tuple[Shape, ...], index: int) -> Shape:
    return shapes[index] if index < len(shapes) else ()
