"""The vector of a text from those of its tokens, in torch: pooled, through further layers, of length 1."""

from __future__ import annotations

import torch

from edgelm_export.families import Wanted


class Vector(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy here
    """What follows the base model of a sentence-transformers folder; its linear layers have the names of ``dense``."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.wanted = wanted
        for dense in wanted.dense:
            layer = torch.nn.Linear(*dense.weight.shape, bias=dense.bias is not None, device="meta")
            stored = {"weight": dense.weight.T, **({} if dense.bias is None else {"bias": dense.bias})}
            layer.load_state_dict({name: torch.from_numpy(array) for name, array in stored.items()}, assign=True)
            self.add_module(dense.name, layer)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """float32 [batch, width] from the last hidden states [batch, tokens, hidden] of unpadded rows."""
        x = {"mean": states.mean(1), "cls": states[:, 0], "lasttoken": states[:, -1]}[self.wanted.pooling]
        for dense in self.wanted.dense:
            x = getattr(torch.nn, dense.activation)()(self.get_submodule(dense.name)(x))
        return torch.nn.functional.normalize(x, dim=-1) if self.wanted.normalize else x
