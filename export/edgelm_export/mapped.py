"""A checkpoint in torch that computes in float32 and, where it is large, stays in its file as it is stored there.

transformers maps weights of the type that it is asked for and copies others: 1.5 billion parameters in bfloat16 would
become 6 GB in float32. Here each is widened when a layer uses it, and let go of after: bfloat16 and float16 are float32
with fewer digits, so the answers are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils import parametrize

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.checkpoint.config import read_config
from edgelm_export.checkpoint.loading import load_model

LARGE_BYTES = 2 << 30  # in float32
_HALF = {"BF16": torch.bfloat16, "F16": torch.float16}


def torch_model(checkpoint: Checkpoint) -> Any:
    """The checkpoint as transformers' model for its task, in evaluation mode; what it answers is float32."""
    kinds = [kind for kind in checkpoint.weights.dtypes if kind.startswith(("F", "BF"))]
    large = 4 * checkpoint.weights.elements > LARGE_BYTES
    # Of several precisions one would be rounded to another.
    stored = _HALF.get(kinds[0]) if large and len(kinds) == 1 else None
    # Not the checkpoint's own configuration: that may be of a vocabulary that was cut.
    config = read_config(checkpoint.folder, checkpoint.labels)
    model = load_model(
        checkpoint.folder, config, checkpoint.wanted.task, checkpoint.renamed, dtype=stored or torch.float32
    ).eval()
    if checkpoint.kept_ids is not None:
        _cut(model, torch.from_numpy(checkpoint.kept_ids))
    if stored is not None:
        for module in list(model.modules()):
            _widen(module)
    return model


def _cut(model: Any, kept: Any) -> None:
    """Leave the rows ``kept`` (int64) of the tables by token, which transformers names."""
    ends = [each for each in (model.get_input_embeddings(), model.get_output_embeddings()) if each is not None]
    whole = [tensor for each in ends for tensor in (each.weight, getattr(each, "bias", None)) if tensor is not None]
    cut = {id(tensor): torch.nn.Parameter(tensor.detach()[kept], requires_grad=False) for tensor in whole}
    for module in model.modules():
        for name, tensor in list(module._parameters.items()):
            if id(tensor) in cut:
                module._parameters[name] = cut[id(tensor)]
                if isinstance(module, torch.nn.Embedding):
                    module.num_embeddings, module.padding_idx = len(kept), None
    if getattr(model, "final_logits_bias", None) is not None:  # of BART and its relatives
        model.final_logits_bias = model.final_logits_bias[:, kept]
    model.config.vocab_size = len(kept)


class _Wide(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    def forward(self, stored: Any) -> Any:
        return stored.float()


def _widen(module: Any) -> None:
    if type(module) is torch.nn.Embedding:  # a few rows, in place of the whole table
        module.register_forward_hook(lambda _, inputs, rows: rows.float())
        return
    for name in list(module._parameters):
        if module._parameters[name] is not None:
            # Unsafe is what torch calls another type than the stored one.
            parametrize.register_parametrization(module, name, _Wide(), unsafe=True)
