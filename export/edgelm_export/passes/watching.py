"""What the layers of a prepared graph read: the graph in float32, with their inputs as further outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgelm_export.passes.layers import layers_of
from edgelm_export.passes.sessions import session_of
from edgelm_runtime.session import run

Seen = Callable[[str, NDArray[np.float32]], None]


def watch(model: ir.Model, feeds: Sequence[Mapping[str, NDArray[np.int64]]], seen: Seen) -> list[NDArray[np.float32]]:
    """The output for each of ``feeds``, of one row each, while ``seen`` is given every layer's inputs.

    They are float32 [tokens, in]. What a feed has and the graph does not is left out.
    """
    graph = model.graph
    layers = [layer for layer in layers_of(graph).values() if layer.kind != "embedding"]
    inputs = list(dict.fromkeys(layer.x for layer in layers if not layer.x.is_graph_output()))
    for value in inputs:
        value.type = ir.TensorType(ir.DataType.FLOAT)
    answer = str(graph.outputs[0].name)
    graph.outputs.extend(inputs)
    try:
        session = session_of(model)
    finally:
        for _ in inputs:
            graph.outputs.pop()
    names = [answer, *(str(value.name) for value in inputs)]
    answers = []
    for feed in feeds:
        given = {str(value.name): feed[str(value.name)] for value in graph.inputs}
        found = dict(zip(names, run(session, given, names), strict=True))
        answers.append(found[answer][0])
        for layer in layers:
            seen(layer.name, found[str(layer.x.name)].reshape(-1, layer.width))
    return answers
