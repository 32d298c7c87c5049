"""What an ONNX graph says of its initializers and nodes, read from its bytes without the onnx package.

The fields' numbers are those of onnx.proto: ModelProto.graph 7, GraphProto.node 1, initializer 5, NodeProto.input 1,
op_type 4, TensorProto.dims 1, data_type 2, name 8.
"""

from __future__ import annotations

import numpy as np

from .errors import BundleRejected
from .vetting.wire import Message, Wire

# TensorProto.DataType of the types that weights may have.
ONNX_TYPES = {
    np.dtype(np.float32): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int8): 3,
    np.dtype(np.int32): 6,
    np.dtype(np.int64): 7,
    np.dtype(np.float16): 10,
}

Declared = tuple[int, tuple[int, ...]]  # TensorProto.DataType and shape


def declared_initializers(model: bytes) -> dict[str, Declared]:
    """Type and shape of every initializer of a model's main graph by name.

    Raises BundleRejected for bytes that are no protocol buffer, and for a name that comes twice.
    """
    found: dict[str, Declared] = {}
    try:
        for tensor in _in_graphs(model, 5):
            name = tensor.text(8)
            if name in found:
                raise ValueError(f"the initializer {name!r} twice")
            found[name] = tensor.number(2), tuple(tensor.numbers(1))
    except ValueError as error:
        raise refused(error) from error
    return found


def nodes(model: bytes) -> list[tuple[str, tuple[str, ...]]]:
    """Operator and names of the inputs of every node of a model's main graph; "" is an input that is left out.

    Raises BundleRejected for bytes that are no protocol buffer.
    """
    try:
        return [(node.text(4), tuple(node.texts(1))) for node in _in_graphs(model, 1)]
    except ValueError as error:
        raise refused(error) from error


def _in_graphs(model: bytes, wanted: int) -> list[Message]:
    graphs = Wire().read(memoryview(model)).messages(7)  # several are one, as every parser reads them
    return [message for graph in graphs for message in graph.messages(wanted)]


def refused(error: Exception) -> BundleRejected:
    """What is raised where reading a graph raised `error`, a ValueError."""
    return BundleRejected(
        f"the graph is no ONNX model: {error}; export the bundle again",
        what="graph",
        expected="an ONNX model",
        found=str(error),
    )
