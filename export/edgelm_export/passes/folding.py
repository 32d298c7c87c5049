"""What depends on weights alone is computed once, by onnxruntime: DeBERTa's positions, masks, shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgelm_export.graph import IR_VERSION
from edgelm_export.passes.sessions import session_of
from edgelm_runtime.session import run

LARGEST_BYTES = 64 << 20  # of one result


def fold(model: ir.Model) -> int:
    """Replace the nodes that no input reaches by their results, in place; the number of results."""
    graph = model.graph
    constant: set[ir.Value] = set(graph.initializers.values())
    nodes: list[ir.Node] = []
    for node in graph:
        if all(value is None or value in constant for value in node.inputs) and not node.op_type.startswith("Random"):
            nodes.append(node)
            constant.update(node.outputs)
    chosen = set(nodes)
    wanted = [
        value for node in nodes for value in node.outputs
        if value.is_graph_output() or any(user not in chosen for user, _ in value.uses())
    ]  # fmt: skip
    if not wanted:
        return 0
    for value, array in zip(wanted, _computed(model, nodes, wanted), strict=True):
        if array.nbytes <= LARGEST_BYTES and not value.is_graph_output():
            tensor = ir.Tensor(np.ascontiguousarray(array), name=f"folded.{value.name}")
            stored = ir.Value(
                name=tensor.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
            )
            graph.register_initializer(stored)
            value.replace_all_uses_with(stored)
    return len(wanted)


def _computed(model: ir.Model, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[np.ndarray]:
    """The values of ``wanted``, by a graph of copies of ``nodes``."""
    copies: dict[ir.Value, ir.Value] = {}
    weights: list[ir.Value] = []
    made: list[ir.Node] = []

    def copied(value: ir.Value | None) -> ir.Value | None:
        if value is None:
            return None
        if value not in copies:
            copies[value] = ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=value.const_value)
            weights.append(copies[value])
        return copies[value]

    for node in nodes:
        inputs = [copied(value) for value in node.inputs]
        outputs = [ir.Value(name=value.name, type=value.type) for value in node.outputs]
        copies.update(zip(node.outputs, outputs, strict=True))
        made.append(
            ir.node(node.op_type, inputs, dict(node.attributes), domain=node.domain, outputs=outputs, name=node.name)
        )
    graph = ir.Graph(
        [], [copies[value] for value in wanted], nodes=made, initializers=weights,
        opset_imports=dict(model.graph.opset_imports), name="constants",
    )  # fmt: skip
    return run(session_of(ir.Model(graph, ir_version=IR_VERSION)), {}, [str(value.name) for value in wanted])
