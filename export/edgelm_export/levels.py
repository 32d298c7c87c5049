"""A graph pass: what multiplies the output of a norm goes into the norm's own weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

NORMS = ("LayerNormalization", "SimplifiedLayerNormalization")


def fold_levels(nodes: list[ir.Node], weights: dict[str, ir.Value], outputs: Sequence[ir.Value]) -> int:
    """Remove every ``Mul`` of a norm's output with a stored vector where nothing else reads either; returns how many.

    ``nodes`` and ``weights`` (by name) are those of a graph under construction, and are changed in place.
    """
    folded = 0
    for node in [node for node in nodes if node.op_type == "Mul"]:
        normed, level = node.inputs
        norm = None if normed is None else normed.producer()
        if norm is None or normed is None or level is None or norm.op_type not in NORMS or normed in outputs:
            continue
        inside = [value for value in norm.inputs[1:] if value is not None]
        vector = level.const_value
        if vector is None or any(value.const_value is None for value in inside):
            continue
        if any(len(value.uses()) != 1 for value in (normed, level, *inside)) or node.outputs[0] in outputs:
            continue
        for value in inside:
            _multiply(value, vector.numpy())
        ir.convenience.replace_all_uses_with(node.outputs[0], normed)
        node.replace_input_with(0, None)
        node.replace_input_with(1, None)
        nodes.remove(node)
        del weights[str(level.name)]
        folded += 1
    return folded


def _multiply(weight: ir.Value, level: np.ndarray) -> None:
    stored = weight.const_value
    if stored is not None:
        product = np.asarray(stored.numpy() * level, stored.numpy().dtype)
        weight.const_value = ir.Tensor(product, name=weight.name)
