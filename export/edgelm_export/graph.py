"""A thin builder over onnx-ir: nodes and weights in, a serialized ONNX model out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.apart import WeightsFile, WeightsWriter
from edgelm_export.levels import fold_levels
from edgelm_runtime.errors import BundleRejected, UnsupportedCheckpoint
from edgelm_runtime.vetting.graph import check_graph

OPSET = 21  # the newest that every onnxruntime since 1.20 runs; LayerNormalization and Gelu need 20
IR_VERSION = 10
MICROSOFT = "com.microsoft"
Value = ir.Value
# From this much on weights are mapped from a file of their own, where loading would copy them twice.
APART_BYTES = 32 << 20
LARGE_BYTES = 1 << 12
WEIGHTS_FILE = "model.safetensors"


class GraphBuilder:
    """Collects nodes, weights, inputs and outputs in the order in which they are made.

    With ``half`` float weights are stored in float16, in which everything is then computed; outputs stay float32.
    Graphs of one model share a ``shelf``.
    """

    def __init__(self, name: str, *, half: bool = False, shelf: Shelf | None = None) -> None:
        self.name = name
        self._half = half
        self._nodes: list[ir.Node] = []
        self._weights: dict[str, ir.Value] = {}
        self.shelf = shelf or Shelf()
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operators so far, in order."""
        return tuple(node.op_type for node in self._nodes)

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> Value:
        """Declare a graph input; a str dimension is free."""
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
        self._inputs.append(value)
        return value

    def output(self, value: Value, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> None:
        """Declare ``value`` a graph output under ``name``."""
        if dtype == ir.DataType.FLOAT:
            value = self.in_float32(value)
        value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(shape)
        self._outputs.append(value)

    def in_float32(self, value: Value) -> Value:
        """``value``, cast where everything is computed in half precision."""
        return self.one("Cast", [value], {"to": int(ir.DataType.FLOAT)}) if self._half else value

    def weight(self, name: str, array: NDArray[Any]) -> Value:
        """A constant stored once: the same name, or the same large content, gives the same value again."""
        if name not in self._weights:
            if self._half and array.dtype == np.float32:
                array = array.astype(np.float16)
            self._weights[name] = self._stored(name, np.asarray(array, order="C"))
        return self._weights[name]

    def op(
        self, kind: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None,
        *, domain: str = "", outputs: int = 1,
    ) -> tuple[Value, ...]:  # fmt: skip
        """Append a node and return its outputs."""
        name = f"{kind}_{len(self._nodes)}"
        made = [ir.Value(name=f"{name}_{index}" if index else name) for index in range(outputs)]
        self._nodes.append(ir.node(kind, inputs, dict(attributes or {}), domain=domain, outputs=made, name=name))
        return tuple(made)

    def one(
        self, kind: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None, domain: str = ""
    ) -> Value:
        """Append a node with a single output and return that."""
        return self.op(kind, inputs, attributes, domain=domain)[0]

    def layer_norm(self, x: Value, scale: NDArray[Any], bias: NDArray[Any], epsilon: float, name: str) -> Value:
        """LayerNormalization over the last axis (float32, same shape as ``x``)."""
        weights = [self.weight(f"{name}.weight", _float32(scale)), self.weight(f"{name}.bias", _float32(bias))]
        return self.one("LayerNormalization", [x, *weights], {"axis": -1, "epsilon": epsilon})

    def rms_norm(self, x: Value, scale: NDArray[Any], epsilon: float, name: str) -> Value:
        """Root mean square normalization over the last axis (Zhang and Sennrich, 2019), as onnxruntime's own kernel."""
        weights = [x, self.weight(f"{name}.weight", _float32(scale))]
        return self.one("SimplifiedLayerNormalization", weights, {"axis": -1, "epsilon": epsilon})

    def add(self, left: Value, right: Value) -> Value:
        """Elementwise sum."""
        return self.one("Add", [left, right])

    def multiply(self, left: Value, right: Value) -> Value:
        """Elementwise product."""
        return self.one("Mul", [left, right])

    def split(self, x: Value, widths: Sequence[int]) -> tuple[Value, ...]:
        """The last axis in parts of ``widths``."""
        name = "split_" + "_".join(map(str, widths))
        return self.op("Split", [x, self.weight(name, np.array(widths))], {"axis": -1}, outputs=len(widths))

    def by_head(self, x: Value, size: int) -> Value:
        """[batch, sequence, width] as [batch, sequence, heads, size]."""
        return self.one("Reshape", [x, self.weight(f"by_head_{size}", np.array([0, 0, -1, size]))])

    def joined(self, x: Value) -> Value:
        """[batch, sequence, heads, size] as [batch, sequence, width]."""
        return self.one("Reshape", [x, self.weight("joined", np.array([0, 0, -1]))])

    def row(self, x: Value, index: int) -> Value:
        """Row ``index`` of every sequence: [batch, sequence, hidden] to [batch, hidden]."""
        return self.one("Gather", [x, self.weight(f"row_{index}", np.array(index, np.int64))], {"axis": 1})

    def activation(self, x: Value, kind: str) -> Value:
        """One of ``ACTIVATIONS``, elementwise."""
        node, attributes, domain = ACTIVATIONS[kind]
        return self.one(node, [x], attributes, domain)

    def serialize(self, encoder: GraphBuilder | None = None) -> Model:
        """The model, and its large weights beside it where there is much of them.

        An ``encoder`` on the same shelf is a graph of the model as well: what both have is stored once.
        """
        graphs = [self] if encoder is None else [self, encoder]
        for graph in graphs:
            fold_levels(graph._nodes, graph._weights, graph._outputs)
        file = self.shelf.finish()
        return Model(self._serialized(), file, None if encoder is None else encoder._serialized())

    def _serialized(self) -> bytes:
        graph = ir.Graph(
            self._inputs, self._outputs, nodes=self._nodes, initializers=list(dict.fromkeys(self._weights.values())),
            opset_imports={"": OPSET, MICROSOFT: 1}, name=self.name,
        )  # fmt: skip
        model = ir.Model(graph, ir_version=IR_VERSION, producer_name="edgelm")
        serialized: bytes = ir.serde.serialize_model(model).SerializeToString()
        try:
            check_graph(serialized, outside=True)
        except BundleRejected as error:
            raise UnsupportedCheckpoint(
                f"the graph that was made would be refused by the runtime: {error.found}; use a checkpoint of an "
                "architecture that edgelm builds, or one whose graph does without it"
            ) from error
        return serialized

    def _stored(self, name: str, array: NDArray[Any]) -> Value:
        name = self.shelf.name_of(name, array)
        if name not in self._weights:
            tensor = ir.Tensor(array, name=name)
            value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
            self._weights[name] = value
            self.shelf.put(value)
        return self._weights[name]


class Shelf:
    """The large weights of a model's graphs: inside them, and in a file from ``apart_from`` bytes on (APART_BYTES).

    Large are those of LARGE_BYTES; vectors stay inside, where a level may be folded into those of a norm.
    """

    def __init__(self, apart_from: int | None = None) -> None:
        self._apart_from = APART_BYTES if apart_from is None else apart_from
        self._bytes = 0
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}  # by what is stored
        self._inside: list[Value] = []
        self._outside: list[Value] = []
        self._written: set[str | None] = set()
        self._writer: WeightsWriter | None = None

    def name_of(self, name: str, array: NDArray[Any]) -> str:
        """The name under which an array is stored: its own, or that of an equal large one."""
        if not _is_large(array.nbytes, array.ndim):
            return name
        content = str(array.dtype), array.shape, sha256(np.ravel(array).view(np.uint8).data).digest()
        if content not in self._names and name in self._names.values():
            raise ValueError(f"{name} stands for different weights in the graphs of one model")
        return self._names.setdefault(content, name)

    def put(self, value: Value) -> None:
        """Take a weight of a graph; a large one goes to the file as soon as there is one."""
        self._inside.append(value)
        self._bytes += _tensor(value).nbytes
        if self._writer is None and self._bytes >= self._apart_from:
            self._writer = WeightsWriter()
        if self._writer is not None:
            for each in self._inside:
                self._move_out(each, self._writer)
            self._inside.clear()

    def finish(self) -> WeightsFile | None:
        """The file, if there is one; the weights in it now say where they are."""
        if self._writer is None:
            return None
        file = self._writer.finish()
        for value in self._outside:
            begin, end = file.places[str(value.name)]
            shape, name = ir.Shape(shape_of(value)), str(value.name)
            value.const_value = ir.ExternalTensor(
                WEIGHTS_FILE, begin, end - begin, _type_of(value), shape=shape, name=name
            )
        return file

    def _move_out(self, value: Value, writer: WeightsWriter) -> None:
        tensor = _tensor(value)
        if _is_large(tensor.nbytes, len(tensor.shape)):
            if value.name not in self._written:
                writer.add(str(value.name), tensor.numpy())
            value.const_value = None
            self._outside.append(value)
            self._written.add(value.name)


def _is_large(size: int, dimensions: int) -> bool:
    return size >= LARGE_BYTES and dimensions > 1


@dataclass(frozen=True)
class Model:
    """A serialized graph, WEIGHTS_FILE where it has tensors there, and the graph of its encoder, if it has one."""

    graph: bytes
    weights: WeightsFile | None = None
    encoder: bytes | None = None

    def close(self) -> None:
        """Let go of the weights beside it."""
        if self.weights is not None:
            self.weights.numbers.close()


def _tensor(weight: Value) -> ir.TensorProtocol:
    if weight.const_value is None:
        raise ValueError(f"{weight.name} is no stored weight")
    return weight.const_value


def _type_of(value: Value) -> ir.DataType:
    if value.dtype is None:
        raise ValueError(f"{value.name} is no stored weight: it has no type")
    return value.dtype


def shape_of(weight: Value) -> tuple[int, ...]:
    """Shape of a stored weight."""
    if weight.shape is None:
        raise ValueError(f"{weight.name} is no stored weight: it has no shape")
    return weight.shape.numpy()


# Hugging Face's activation names. FastGelu is the tanh form, and the faster kernel of the two; QuickGelu is
# x * sigmoid(alpha * x), with alpha 1 SiLU.
ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "gelu": ("Gelu", {"approximate": "none"}, ""),
    "gelu_new": ("FastGelu", {}, MICROSOFT),
    "gelu_fast": ("FastGelu", {}, MICROSOFT),
    "gelu_pytorch_tanh": ("FastGelu", {}, MICROSOFT),
    "relu": ("Relu", {}, ""),
    "tanh": ("Tanh", {}, ""),
    "silu": ("QuickGelu", {"alpha": 1.0}, MICROSOFT),
    "swish": ("QuickGelu", {"alpha": 1.0}, MICROSOFT),
}


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
