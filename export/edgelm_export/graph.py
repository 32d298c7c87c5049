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
    """

    def __init__(self, name: str, *, half: bool = False) -> None:
        self.name = name
        self._half = half
        self._nodes: list[ir.Node] = []
        self._weights: dict[str, ir.Value] = {}
        self._large: dict[tuple[str, tuple[int, ...], bytes], str] = {}  # names by what is stored
        self._bytes = 0
        self._writer: WeightsWriter | None = None
        self._inputs: list[ir.Value] = []
        self._outputs: list[ir.Value] = []

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

    def gate(self, x: Value, kind: str) -> Value:
        """One of ``GATES``, elementwise."""
        if kind == "silu":
            return self.one("QuickGelu", [x], {"alpha": 1.0}, MICROSOFT)
        return self.activation(x, kind)

    def serialize(self) -> Model:
        """The model, and its large weights beside it where there is much of them."""
        fold_levels(self._nodes, self._weights, self._outputs)
        file = None if self._writer is None else self._writer.finish()
        for name, (begin, end) in ({} if file is None else file.places).items():
            value = self._weights[name]
            value.const_value = ir.ExternalTensor(
                WEIGHTS_FILE, begin, end - begin, _type_of(value), shape=ir.Shape(shape_of(value)), name=name
            )
        graph = ir.Graph(
            self._inputs, self._outputs, nodes=self._nodes, initializers=list(dict.fromkeys(self._weights.values())),
            opset_imports={"": OPSET, MICROSOFT: 1}, name=self.name,
        )  # fmt: skip
        model = ir.Model(graph, ir_version=IR_VERSION, producer_name="edgelm")
        return Model(ir.serde.serialize_model(model).SerializeToString(), file)

    def _stored(self, name: str, array: NDArray[Any]) -> Value:
        """The array as a value; a large one is stored once, and goes to the writer as soon as there is one."""
        if array.nbytes >= LARGE_BYTES and array.ndim > 1:
            content = sha256(np.ravel(array).view(np.uint8).data).digest()
            known = self._large.setdefault((str(array.dtype), array.shape, content), name)
            if known != name:
                return self._weights[known]
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self._bytes += array.nbytes
        if self._writer is None and self._bytes >= APART_BYTES:
            self._writer = WeightsWriter()
            for earlier in self._weights.values():
                self._move_out(earlier, self._writer)
        if self._writer is not None:
            self._move_out(value, self._writer)
        return value

    @staticmethod
    def _move_out(value: Value, writer: WeightsWriter) -> None:
        # Vectors stay: a level may still be folded into those of a norm.
        stored = value.const_value
        if stored is not None and stored.nbytes >= LARGE_BYTES and len(stored.shape) > 1:
            writer.add(str(value.name), stored.numpy())
            value.const_value = None


@dataclass(frozen=True)
class Model:
    """A serialized graph, and WEIGHTS_FILE where it has tensors there."""

    graph: bytes
    weights: WeightsFile | None = None

    def close(self) -> None:
        """Let go of the weights beside it."""
        if self.weights is not None:
            self.weights.numbers.close()


def _type_of(value: Value) -> ir.DataType:
    if value.dtype is None:
        raise ValueError(f"{value.name} is no stored weight: it has no type")
    return value.dtype


def shape_of(weight: Value) -> tuple[int, ...]:
    """Shape of a stored weight."""
    if weight.shape is None:
        raise ValueError(f"{weight.name} is no stored weight: it has no shape")
    return weight.shape.numpy()


# Hugging Face's activation names. FastGelu is the tanh form, and the faster kernel of the two.
ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "gelu": ("Gelu", {"approximate": "none"}, ""),
    "gelu_new": ("FastGelu", {}, MICROSOFT),
    "gelu_fast": ("FastGelu", {}, MICROSOFT),
    "gelu_pytorch_tanh": ("FastGelu", {}, MICROSOFT),
    "relu": ("Relu", {}, ""),
    "tanh": ("Tanh", {}, ""),
}
# What may stand before the product of a gated layer: QuickGelu's kernel with alpha 1 is SiLU.
GATES = ("silu", *ACTIVATIONS)


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
