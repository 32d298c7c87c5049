"""Muon for the hidden matrices of a model, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


class MuonAdamW(torch.optim.Optimizer):  # type: ignore[misc]
    """Muon (Jordan et al., 2024) on the 2-D weights inside the layers, AdamW on embeddings, heads, norms and biases.

    One learning rate serves both: Muon's updates are scaled to AdamW's size (Liu et al., 2025, arXiv 2502.16982).
    """

    def __init__(self, model: PreTrainedModel, learning_rate: float, weight_decay: float) -> None:
        hidden = _hidden_matrices(model)
        chosen = {id(weight) for weight in hidden}
        rest = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in chosen]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": weight_decay},
                    {"params": [weight for weight in rest if weight.ndim < 2], "weight_decay": 0.0},
                ],
                lr=learning_rate, fused=True,
            ),
        ]  # fmt: skip
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # A scheduler writes the learning rate into param_groups: these must be the parts' own.
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of both parts, in order."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def _hidden_matrices(model: PreTrainedModel) -> list[nn.Parameter]:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    inner = model.base_model.parameters()
    return [weight for weight in inner if weight.ndim == 2 and weight.requires_grad and id(weight) not in embeddings]
