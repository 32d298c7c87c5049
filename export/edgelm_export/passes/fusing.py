"""Fusions by transformers and onnxscript, and back what costs more than its parts on a CPU or hides a bias."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgelm_export.graph import MICROSOFT

_SKIP = {
    "SkipLayerNormalization": "LayerNormalization",
    "SkipSimplifiedLayerNormalization": "SimplifiedLayerNormalization",
}
_COUNTED = ("Attention", "MultiHeadAttention", "LayerNormalization", "SimplifiedLayerNormalization", "Gelu", "FastGelu",
            "RotaryEmbedding")  # fmt: skip


def fuse_norms(model: ir.Model) -> None:
    """Fuse layer norms that are written out, in place.

    Before onnxscript's simplifications, which take an epsilon of 1e-12 for zero and drop it.
    """
    from onnxscript.rewriter.pattern import RewriteRuleSet
    from onnxscript.rewriter.rules.fusion._layer_norm import LayerNormFusion

    for node in model.graph:
        if node.op_type == "ReduceMean":  # the rule wants the default to be written
            node.attributes.setdefault("keepdims", ir.AttrInt64("keepdims", 1))
    RewriteRuleSet([LayerNormFusion.rule()], commute=True).apply_to_model(model)
    for node in list(model.graph):
        if node.op_type == "LayerNormalization" and len(node.inputs) == 2:
            _take_bias(model.graph, node)


def unflatten(model: ir.Model) -> None:
    """The layers of GPT-2, products of flattened rows, as products of all axes, in place.

    What the fusions put before a product is [batch, sequence, width], which Gemm does not take.
    """
    for node in list(model.graph):
        if node.op_type != "Gemm" or not _is_plain_gemm(node):
            continue
        x, weight, bias = (*node.inputs, None)[:3]
        flat, parted = _only(x, "Reshape"), [user for user, _ in node.outputs[0].uses()]
        rows = None if flat is None else flat.inputs[0]
        last = parted[0] if len(parted) == 1 and parted[0].op_type == "Reshape" else None
        if rows is not None and last is not None and _same_rows(rows, last.outputs[0]):
            x, place = rows, last
        else:
            place = node
        made = ir.node("MatMul", [x, weight])
        if bias is not None:
            made = ir.node("Add", [_before(model.graph, place, made), bias])
        _replace(model.graph, place, made)
        model.graph.remove([place, node] if place is not node else node, safe=True)


def _same_rows(before: ir.Value, after: ir.Value) -> bool:
    """Whether two values have the same axes but for the last."""
    return before.shape is not None and after.shape is not None and before.shape[:-1] == after.shape[:-1]


def _only(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The node that makes a value, where it is of that kind."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == kind else None


def _is_plain_gemm(node: ir.Node) -> bool:
    """Whether it is x @ weight, or with a bias added."""
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    turned = [node.attributes.get_int(name, 0) for name in ("transA", "transB")]
    return factors == [1.0, 1.0] and turned == [0, 0]


def fuse(model: ir.Model) -> Mapping[str, int]:
    """Fuse the graph for onnxruntime's CPU kernels, in place; how many of each fused operator it has then."""
    from onnxscript.rewriter.pattern import RewriteRule, RewriteRuleSet
    from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

    RewriteRuleSet([RewriteRule(_new_gelu, _fast_gelu)], commute=True).apply_to_model(model)
    fuse_for_onnxruntime(model, "cpu")
    for node in list(model.graph):
        if node.op_type in _SKIP:
            _unfuse_skip(model.graph, node)
        elif node.op_type == "BiasGelu":
            _unfuse_gelu(model.graph, node)
        elif node.op_type == "Gelu" and node.domain == MICROSOFT:
            node.domain = ""
    model.graph.opset_imports.setdefault(MICROSOFT, 1)
    found = Counter(node.op_type for node in model.graph)
    return {name: found[name] for name in _COUNTED if found[name]}


def _new_gelu(op: Any, x: Any) -> Any:
    """The form of the tanh approximation that onnxscript does not know: 0.5 x (1 + tanh(sqrt(2/pi) (x + c x^3)))."""
    inner = op.Add(x, op.Mul(op.Pow(x, 3), 0.044715))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(op.Mul(inner, math.sqrt(2 / math.pi))), 1))


def _fast_gelu(op: Any, x: Any) -> Any:
    return op.FastGelu(x, _domain=MICROSOFT)


def _take_bias(graph: ir.Graph, node: ir.Node) -> None:
    """The stored bias that is added to a norm without one, and to nothing else, becomes the norm's."""
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "Add" or node.outputs[0].is_graph_output():
        return
    (total,) = users
    (bias,) = [value for value in total.inputs if value is not node.outputs[0]] or [None]
    scale = node.inputs[1]
    if bias is None or scale is None or bias.const_value is None or bias.const_value.shape != scale.shape:
        return
    _replace(graph, total, ir.node("LayerNormalization", [*node.inputs, bias], dict(node.attributes)))
    graph.remove([total, node], safe=True)


def _unfuse_skip(graph: ir.Graph, node: ir.Node) -> None:
    """Add and LayerNormalization, which take a quarter of the fused kernel's time."""
    x, skip, *weights = node.inputs
    bias = weights.pop(2) if node.op_type == "SkipLayerNormalization" and len(weights) > 2 else None
    if bias is not None:
        x = _before(graph, node, ir.node("Add", [x, bias]))
    total = _before(graph, node, ir.node("Add", [x, skip]))
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    norm = ir.node(_SKIP[node.op_type], [total, *weights], {"axis": -1, "epsilon": epsilon})
    _replace(graph, node, norm)
    if len(node.outputs) > 3:
        node.outputs[3].replace_all_uses_with(total)
    graph.remove(node, safe=True)


def _unfuse_gelu(graph: ir.Graph, node: ir.Node) -> None:
    """Add and Gelu: the bias belongs to the product before it."""
    total = _before(graph, node, ir.node("Add", node.inputs))
    _replace(graph, node, ir.node("Gelu", [total]))
    graph.remove(node, safe=True)


def _before(graph: ir.Graph, place: ir.Node, node: ir.Node) -> ir.Value:
    graph.insert_before(place, node)
    output = node.outputs[0]
    output.type, output.shape = place.outputs[0].type, place.outputs[0].shape
    return output


def _replace(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    value = _before(graph, old, new)
    old.outputs[0].replace_all_uses_with(value, replace_graph_outputs=True)
