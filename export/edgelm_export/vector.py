"""The vector of a text from those of its tokens, in torch: pooled, then through further layers."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from edgelm_export.families import Dense, LayerNorm, Wanted


class Vector(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy here
    """What follows the base model of a sentence-transformers folder; its linear layers have the names of ``denses``."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.wanted = wanted
        for dense in wanted.denses:
            self.add_module(dense.name, _linear(dense.weight, dense.bias))
            if dense.projection is not None:
                self.add_module(f"{dense.name}_residual", _linear(dense.projection, None))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """float32 [batch, width] from the last hidden states [batch, tokens, hidden] of unpadded rows."""
        x = torch.cat([pooled(states, pooling) for pooling in self.wanted.poolings], dim=-1)
        for layer in self.wanted.layers:
            if isinstance(layer, Dense):
                x = self._dense(layer, x)
            elif isinstance(layer, LayerNorm):
                weight, bias = map(torch.from_numpy, (layer.weight, layer.bias))
                x = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, layer.EPSILON)
            else:
                x = torch.nn.functional.normalize(x, dim=-1)
        return x

    def _dense(self, layer: Dense, x: torch.Tensor) -> torch.Tensor:
        made = getattr(torch.nn, layer.activation)()(self.get_submodule(layer.name)(x))
        if not layer.residual:
            return made
        return made + (x if layer.projection is None else self.get_submodule(f"{layer.name}_residual")(x))


def pooled(states: torch.Tensor, pooling: str) -> torch.Tensor:
    """[batch, hidden] from [batch, tokens, hidden] by one of ``families.POOLINGS``."""
    if pooling in ("cls", "lasttoken"):
        return states[:, 0 if pooling == "cls" else -1]
    if pooling == "max":
        return states.amax(1)
    if pooling == "mean":
        return states.mean(1)
    tokens = states.shape[1]
    if pooling == "mean_sqrt_len_tokens":
        return states.sum(1) / tokens**0.5
    weights = torch.arange(1, tokens + 1, dtype=states.dtype)
    return weights @ states / weights.sum()


def _linear(weight: NDArray[Any], bias: NDArray[Any] | None) -> torch.nn.Linear:
    """A layer of stored arrays: weight [in, out], bias [out] or None."""
    layer = torch.nn.Linear(*weight.shape, bias=bias is not None, device="meta")
    stored = {"weight": weight.T, **({} if bias is None else {"bias": bias})}
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in stored.items()}, assign=True)
    return layer
