"""The layers of a prepared graph: products, attentions and tables with weights, which a scheme stores its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.graph import LARGE_BYTES, MICROSOFT

SCOPES = "pkg.torch.onnx.name_scopes"  # where torch's exporter notes the modules that a node comes from
_ACTIVATIONS = frozenset({"Gelu", "FastGelu", "QuickGelu", "Relu"})
_ATTENTION = frozenset({"num_heads", "scale", "qkv_hidden_sizes"})  # attributes of an attention without masks


@dataclass(frozen=True)
class Layer:
    """A node with a stored weight, and the one that adds its bias, if there is one.

    ``kind`` is "linear", "attention" (``weight`` is the packed projection) or "embedding" (``x`` are ids). ``makes`` is
    the value that all of it computes. ``outliers``: a few values of ``x`` are far larger than the others.
    """

    kind: str
    name: str
    x: ir.Value
    weight: ir.Value
    makes: ir.Value
    bias: ir.Value | None = None
    transposed: bool = False
    heads: int = 0
    outliers: bool = False
    added_by: ir.Node | None = None

    def array(self) -> NDArray[Any]:
        """The weight, float32 [in, out], or [rows, width] of a table."""
        array = array_of(self.weight)
        return np.ascontiguousarray(array.T) if self.transposed else array

    @property
    def width(self) -> int:
        """The width of ``x``."""
        rows, columns = array_of(self.weight).shape
        return int(columns if self.transposed else rows)

    def bias_array(self) -> NDArray[Any] | None:
        """The bias, float32 [out]."""
        return None if self.bias is None else array_of(self.bias).reshape(-1)


def layers_of(graph: ir.Graph) -> dict[ir.Node, Layer]:
    """Every layer by its first node, in the order of the nodes. One weight has one name, whoever uses it."""
    found: dict[ir.Node, Layer] = {}
    names: dict[ir.Value, str] = {}
    for node in graph:
        find = _FINDERS.get((node.domain, node.op_type))
        fields = find(node) if find else None
        if fields is None:
            continue
        weight = fields["weight"]
        if weight not in names:
            name = _name(node, weight)
            names[weight] = name if name not in names.values() else f"{name}.{len(names)}"
        found[node] = Layer(name=names[weight], **fields)
    return found


def _product(node: ir.Node) -> Mapping[str, Any] | None:
    x, weight = node.inputs
    if x is None or weight is None or not is_matrix(weight) or x.const_value is not None:
        return None
    (output,) = node.outputs
    bias, total = _added(output, array_of(weight).shape[1])
    makes = output if total is None else total.outputs[0]
    return {
        "kind": "linear", "x": x, "weight": weight, "makes": makes, "bias": bias, "added_by": total,
        "outliers": _after_activation(x),
    }  # fmt: skip


def _gemm(node: ir.Node) -> Mapping[str, Any] | None:
    x, weight, bias = (*node.inputs, None)[:3]
    plain = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
    if x is None or weight is None or not is_matrix(weight) or x.const_value is not None:
        return None
    transposed = node.attributes.get_int("transB", 0) != 0
    size = array_of(weight).shape[0 if transposed else 1]
    if not plain or node.attributes.get_int("transA", 0) != 0 or not (bias is None or _is_vector(bias, size)):
        return None
    return {
        "kind": "linear", "x": x, "weight": weight, "makes": node.outputs[0], "bias": bias,
        "transposed": transposed, "outliers": _after_activation(x),
    }  # fmt: skip


def _table(node: ir.Node) -> Mapping[str, Any] | None:
    table, ids = node.inputs
    if table is None or ids is None or not is_matrix(table) or node.attributes.get_int("axis", 0) != 0:
        return None
    if array_of(table).nbytes < LARGE_BYTES or ids.shape is None or len(ids.shape) != 2:
        return None
    return {"kind": "embedding", "x": ids, "weight": table, "makes": node.outputs[0]}


def _attention(node: ir.Node) -> Mapping[str, Any] | None:
    """onnxruntime's Attention of the plain kind: three parts of one width, no mask, no past, the usual scale."""
    x, weight, bias, *rest = (*node.inputs, None)
    if x is None or weight is None or not is_matrix(weight) or set(node.attributes) - _ATTENTION or any(rest):
        return None
    width = array_of(weight).shape[1] // 3
    heads = int(node.attributes.get_int("num_heads"))
    usual = (width // heads) ** -0.5
    parts = set(node.attributes.get_ints("qkv_hidden_sizes", [width]))
    scale = node.attributes.get_float("scale", 0.0) or usual
    if bias is None or not _is_vector(bias, 3 * width) or parts != {width} or abs(scale / usual - 1) > 1e-6:
        return None
    return {
        "kind": "attention", "x": x, "weight": weight, "makes": node.outputs[0], "bias": bias, "heads": heads,
    }  # fmt: skip


_FINDERS: Mapping[tuple[str, str], Callable[[ir.Node], Mapping[str, Any] | None]] = {
    ("", "MatMul"): _product, ("", "Gemm"): _gemm, ("", "Gather"): _table, (MICROSOFT, "Attention"): _attention,
}  # fmt: skip


def array_of(value: ir.Value) -> NDArray[Any]:
    """A stored tensor."""
    if value.const_value is None:
        raise ValueError(f"{value.name} is no stored weight")
    return value.const_value.numpy()


def is_matrix(value: ir.Value) -> bool:
    """Whether the value is a stored float32 matrix."""
    tensor = value.const_value
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 2


def _is_vector(value: ir.Value, size: int) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.shape.numpy() in ((size,), (1, size))


def _added(output: ir.Value, size: int) -> tuple[ir.Value | None, ir.Node | None]:
    """The bias that is added to a product that nothing else reads, and the node that adds it."""
    users = [user for user, _ in output.uses()]
    if len(users) != 1 or users[0].op_type != "Add" or output.is_graph_output():
        return None, None
    left, right = users[0].inputs
    other = right if left is output else left
    if other is None or other.const_value is None or len(other.const_value.shape) != 1 or not _is_vector(other, size):
        return None, None
    return other, users[0]


def _after_activation(x: ir.Value) -> bool:
    """Whether ``x`` comes out of an activation, gated or not: that is where single values are large."""
    node = x.producer()
    if node is not None and node.op_type == "Mul":
        return any(value is not None and _is_activation(value.producer()) for value in node.inputs)
    return _is_activation(node)


def _is_activation(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in _ACTIVATIONS


def _name(node: ir.Node, weight: ir.Value) -> str:
    """The weight's name, or that of the module in torch, from what its two exporters note."""
    name = str(weight.name).removesuffix(".weight")
    if "." in name:
        return name
    scopes = [part.strip(" '\"") for part in node.metadata_props.get(SCOPES, "").strip("[]").split(",")]
    if len(scopes) > 1 and scopes[-2]:
        return scopes[-2]
    path = str(node.name).strip("/").split("/")[:-1]
    return ".".join(path) or f"layer.{name}"
