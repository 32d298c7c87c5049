"""Graphs of one node: every operator that is accepted, with attributes and shapes that do not fit each other."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgelm_runtime.vetting.operators import CONTRIB, MICROSOFT, ONNX

_KINDS = (*[np.float32] * 5, np.int64, np.int64, np.int32, np.uint8, np.int8, np.float16, np.bool_)
_SIZES = (0, 1, 1, 2, 3, 4, 8, 16, 32)
_NUMBERS = (0, -1, 1, 1, 2, 2, 3, 4, 8, 16, 32, 64, 128, (1 << 31) - 1, -(1 << 31))


def graph(random: Random) -> bytes:
    """A model with one input `x`, float [2, 4, n], one node, and stored tensors for what else the node reads."""
    domain = random.choice(("", MICROSOFT))
    table = CONTRIB if domain else ONNX
    name = random.choice(sorted(table))
    count = random.choice((0, 1, 1, 1, 2, 2, 3, 4, 5, 6))
    stored = [numpy_helper.from_array(_array(random), f"w{index}") for index in range(count)]
    names = [tensor.name for tensor in stored]
    if random.random() < 0.8:
        names.insert(random.randrange(len(names) + 1) if random.random() < 0.2 else 0, "x")
    names = [each if random.random() < 0.95 else "" for each in names]
    attributes = {each: _attribute(random, each) for each in sorted(table[name].attributes) if random.random() < 0.4}
    node = helper.make_node(name, names, ["y"], domain=domain, **attributes)
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, "n"])
    target = helper.make_tensor_value_info("y", random.choice((1, 1, 1, 7, 2, 9)), None)
    made = helper.make_graph([node], "g", [source], [target], stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    model: onnx.ModelProto = helper.make_model(made, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


def _array(random: Random) -> Any:
    kind = random.choice(_KINDS)
    odd = [random.choice(_SIZES) for _ in range(random.randrange(5))]
    shape = random.choice(([], [1], [2], [3], [8], [8], [8, 8], [8, 8], [8, 24], [24, 8], [2, 4, 8], [8, 1, 8], odd))
    wild = kind in (np.int64, np.int32) and random.random() < 0.5
    numbers = [random.choice(_NUMBERS) if wild else random.randrange(4) for _ in range(int(np.prod(shape)))]
    return np.array(numbers).reshape(shape).astype(kind)


def _attribute(random: Random, name: str) -> Any:
    if name == "value":
        return numpy_helper.from_array(np.array([random.choice(_NUMBERS)], random.choice((np.float32, np.int32))))
    if name in ("equation", "mode", "reduction", "auto_pad", "approximate"):
        return random.choice(
            ("ij,jk->ik", "bij,jk->bik", "constant", "edge", "none", "add", "SAME_UPPER", "tanh", "i->")
        )
    if name in ("alpha", "beta", "epsilon", "scale", "mask_filter_value", "softcap", "value_float", "gamma"):
        return random.choice((0.0, 1.0, -1.0, 1e-5, float("nan"), float("inf")))
    if name in ("perm", "axes", "pads", "strides", "dilations", "kernel_shape", "qkv_hidden_sizes", "value_ints"):
        return [random.choice(_NUMBERS) for _ in range(random.randrange(1, 5))]
    return random.choice(_NUMBERS)
