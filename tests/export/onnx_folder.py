"""Folders with an ONNX graph, as optimum writes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from tests.export.tiny import save_bert

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def write(folder: Path, model: Any, output: str) -> Path:
    """A folder as optimum writes it: TorchScript's graph, the configuration and the tokenizer."""
    save_bert(folder, model)
    (folder / "model.safetensors").unlink()

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
            found = self.inner(input_ids=ids, attention_mask=mask, token_type_ids=segments)
            return getattr(found, output)

    ids = torch.arange(18).reshape(2, 9)
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in (*INPUTS, output)}
    if output == "logits":
        axes[output] = {0: "batch_size"}
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            Positional(), (ids, torch.ones_like(ids), torch.zeros_like(ids)), folder / "model.onnx",
            input_names=list(INPUTS), output_names=[output], dynamic_axes=axes, opset_version=14, dynamo=False,
        )  # fmt: skip
    return folder
