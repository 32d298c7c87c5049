"""Dense modules of sentence-transformers folders: a linear layer and an activation after pooling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgelm_export.checkpoint.config import read_json
from edgelm_export.checkpoint.weights import open_weights
from edgelm_export.families import DENSE_ACTIVATIONS, Dense
from edgelm_runtime.errors import UnsupportedCheckpoint

_BETWEEN = "sentence_embedding"  # what the modules hand on, and a Dense reads and writes where nothing else is said


def read_dense(folders: Sequence[Path], width: int) -> tuple[Dense, ...]:
    """The layers of these folders, in order, for vectors that are ``width`` wide.

    Raises:
        UnsupportedCheckpoint: a setting that is not honoured, or weights that are missing, broken or of another shape.
    """
    layers: list[Dense] = []
    for index, folder in enumerate(folders, start=2):
        layer = _layer(folder, f"dense_{index}")
        if layer.weight.shape[0] != width:
            raise UnsupportedCheckpoint(
                f"{folder}: in_features is {layer.weight.shape[0]}, and what comes before it gives {width} numbers; "
                "correct config.json, or save the model again"
            )
        layers.append(layer)
        width = layer.weight.shape[1]
    return tuple(layers)


def _layer(folder: Path, name: str) -> Dense:
    path = folder / "config.json"
    config = read_json(path)
    activation = _activation(path, config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    for field in ("module_input_name", "module_output_name"):
        if config.get(field) not in (None, _BETWEEN):
            raise UnsupportedCheckpoint(f"{path}: {field} = {config[field]!r} is not honoured; accepted: {_BETWEEN}")
    weights = open_weights(folder)
    found = {tensor for tensors in weights.by_file().values() for tensor in tensors}
    needed = {"linear.weight", "linear.bias"} if config.get("bias", True) else {"linear.weight"}
    if found != needed:
        raise UnsupportedCheckpoint(
            f"{folder}: the tensors are {', '.join(sorted(found)) or 'none'}; config.json asks for "
            f"{' and '.join(sorted(needed, reverse=True))}. Save the model again"
        )
    arrays = {tensor: weights(tensor) for tensor in needed}
    size = config.get("out_features"), config.get("in_features")
    shapes_needed = {"linear.weight": size, "linear.bias": size[:1]}
    if any(array.shape != shapes_needed[tensor] for tensor, array in arrays.items()):
        shapes = ", ".join(f"{tensor} {list(array.shape)}" for tensor, array in sorted(arrays.items()))
        raise UnsupportedCheckpoint(f"{folder}: {shapes}, and config.json says [out, in] = {list(size)}; save it again")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UnsupportedCheckpoint(f"{folder}: NaN or infinite numbers; take an earlier checkpoint")
    return Dense(name, np.ascontiguousarray(arrays["linear.weight"].T), arrays.get("linear.bias"), activation)


def _activation(path: Path, written: object) -> str:
    """The torch class, which the file names in full."""
    module, _, name = str(written or "torch.nn.Identity").rpartition(".")
    if module.startswith("torch.nn") and name in DENSE_ACTIVATIONS:
        return name
    raise UnsupportedCheckpoint(
        f"{path}: activation_function = {written!r} is not honoured; accepted of torch.nn: "
        f"{', '.join(DENSE_ACTIVATIONS)}"
    )
