"""A graph in onnxruntime as it lies in memory: its large weights are lent and not serialized, which ends at 2 GB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.graph import APART_BYTES, LARGE_BYTES, WEIGHTS_FILE
from edgelm_runtime.session import Session, SessionOptions, create_session
from edgelm_runtime.weights import Weights


class _Lent(Weights):
    """Weights that lie in memory, or in a file that onnx-ir has mapped."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def release(self) -> None:
        """Nothing: they are not this one's."""


def session_of(model: ir.Model) -> Session:
    """A session on one core for a graph, whose weights go on being the graph's."""
    stored = [value for value in model.graph.initializers.values() if value.const_value is not None]
    apart = sum(tensor_of(value).nbytes for value in stored) >= APART_BYTES
    lent = {
        value: tensor_of(value) for value in stored
        if (apart or isinstance(value.const_value, ir.ExternalTensor)) and is_large(tensor_of(value))
    }  # fmt: skip
    arrays = {str(value.name): np.require(tensor.numpy(), requirements=["C", "A"]) for value, tensor in lent.items()}
    try:
        for value, tensor in lent.items():
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor(
                WEIGHTS_FILE, 0, tensor.nbytes, tensor.dtype, shape=shape, name=str(value.name)
            )
        data = ir.serde.serialize_model(model).SerializeToString()
    finally:
        for value, tensor in lent.items():
            value.const_value = tensor
    return create_session(data, SessionOptions(1), _Lent(arrays) if arrays else None)


def is_large(tensor: ir.TensorProtocol) -> bool:
    """Whether a weight may stay where it lies; a small one, such as a shape, is looked at by passes and kernels."""
    return tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) > 1 and tensor.nbytes >= LARGE_BYTES


def tensor_of(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of a stored weight."""
    if value.const_value is None:
        raise ValueError(f"{value.name} is no stored weight")
    return value.const_value
