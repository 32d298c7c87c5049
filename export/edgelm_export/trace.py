"""Architectures without a family file: traced with transformers' own ONNX exporter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from edgelm_export.checkpoint.loading import load_model
from edgelm_export.families import Wanted
from edgelm_export.graph import OPSET
from edgelm_export.passes import quiet
from edgelm_export.passes.inputs import IDS, MASK, SEGMENTS
from edgelm_export.passes.layers import SCOPES
from edgelm_export.pooling import append_vector
from edgelm_runtime.errors import UnsupportedCheckpoint

STATES = "last_hidden_state"
_ROWS, _TOKENS = 2, 9  # of the text that is traced; 1 would be taken for a fixed size


class Answer(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy here
    """transformers' model with nothing but the wanted output: ``logits``, or the states that a vector is made from."""

    def __init__(self, model: Any, wanted: Wanted) -> None:
        super().__init__()
        self.model = model
        self.wanted = wanted

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """All inputs are int64 [batch, sequence], every row without padding."""
        found = self.model(**inputs)
        pooled = self.wanted.task == "feature-extraction"
        return {STATES: found.last_hidden_state} if pooled else {"logits": found.logits}


def traceable(folder: Path, config: Mapping[str, Any], task: str, renamed: Mapping[str, str]) -> Any:
    """transformers' model of a checkpoint with the head of the task, in float32."""
    # Eager attention is a product, a softmax and a product: what the fusions know, and without a mask nothing else.
    model = load_model(folder, config, task, renamed, dtype=torch.float32, attn_implementation="eager").eval()
    if model.config.get_text_config().pad_token_id is None:
        # Without one a classifier that reads the last token refuses several rows, which are traced; no token is -1.
        model.config.get_text_config().pad_token_id = -1
    return model


def trace(model: Any, wanted: Wanted, reason: str) -> ir.Model:
    """The graph of a torch model, with the inputs of ``passes.inputs``; batch and length are free.

    Raises:
        UnsupportedCheckpoint: it cannot be traced; the message begins with ``reason``, why it had to be.
    """
    from transformers.exporters import OnnxConfig, OnnxExporter

    ids = torch.arange(_ROWS * _TOKENS).reshape(_ROWS, _TOKENS) % int(model.config.vocab_size)
    inputs = {IDS: ids, MASK: torch.ones_like(ids)}
    if wanted.segments:
        inputs[SEGMENTS] = torch.zeros_like(ids)
    options = OnnxConfig(dynamic=True, opset_version=OPSET)
    try:
        with quiet():
            program: ir.Model = OnnxExporter().export(Answer(model, wanted), inputs, options).program
    except Exception as error:  # torch raises whatever the tracer meets
        first = next(iter(str(error).splitlines()), "")
        raise UnsupportedCheckpoint(
            f"{reason}, and tracing it failed: {type(error).__name__}: {first[:200]}; "
            "use a checkpoint of a supported architecture"
        ) from error
    _name_as_in_torch(program.graph)
    if wanted.task == "feature-extraction":
        (states,) = program.graph.outputs
        vector = append_vector(program.graph, states, wanted)
        vector.name = wanted.output
        program.graph.outputs[:] = [vector]
    return program


def _name_as_in_torch(graph: ir.Graph) -> None:
    """Modules and weights without the name of the one around them, so that layers are called as in the checkpoint."""
    for node in graph:
        if SCOPES in node.metadata_props:
            node.metadata_props[SCOPES] = node.metadata_props[SCOPES].replace("'model.", "'")
    for value in list(graph.initializers.values()):
        value.name = str(value.name).removeprefix("model.")
