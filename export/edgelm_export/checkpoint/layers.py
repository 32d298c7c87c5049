"""Layers after pooling in sentence-transformers folders: linear ones with an activation, norms, lengths of 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.checkpoint.config import read_json
from edgelm_export.checkpoint.sentence import Module, read_optional
from edgelm_export.checkpoint.weights import open_weights
from edgelm_export.families import DENSE_ACTIVATIONS, Dense, LayerNorm, Normalize, VectorLayer
from edgelm_runtime.errors import UnsupportedCheckpoint

_BETWEEN = "sentence_embedding"  # what the modules hand on, and one reads and writes where nothing else is said
SCORES = "scores"  # what the last one of a CrossEncoder writes


def read_layers(modules: Sequence[Module], width: int, *, scores: bool = False) -> tuple[VectorLayer, ...]:
    """The layers of these modules, in order, for vectors that are ``width`` wide. Dropout is none: it only trains.

    With ``scores`` the last one is to give the scores of classes.

    Raises:
        UnsupportedCheckpoint: a setting that is not honoured, or weights that are missing, broken or of another shape.
    """
    layers: list[VectorLayer] = []
    for index, module in enumerate(modules, start=2):
        if module.kind == "Dense":
            last = scores and index == len(modules) + 1
            layer = _dense(module.folder, f"dense_{index}", SCORES if last else _BETWEEN)
            _check_width(module.folder, "in_features", layer.weight.shape[0], width)
            layers.append(layer)
            width = layer.width
        elif module.kind == "LayerNorm":
            norm = _norm(module.folder, f"norm_{index}")
            _check_width(module.folder, "dimension", norm.weight.shape[0], width)
            layers.append(norm)
        elif module.kind == "Normalize":
            _check_names(module.folder / "config.json", read_optional(module.folder / "config.json"))
            layers.append(Normalize())
    return tuple(layers)


def _check_width(folder: Path, field: str, found: int, given: int) -> None:
    if found != given:
        raise UnsupportedCheckpoint(
            f"{folder}: {field} is {found}, and what comes before it gives {given} numbers; "
            "correct config.json, or save the model again"
        )


def _check_names(path: Path, config: dict[str, Any], output: str = _BETWEEN) -> None:
    read = config.get("module_input_name") or _BETWEEN
    names = {
        "module_input_name": (read, _BETWEEN),
        "module_output_name": (config.get("module_output_name") or read, output),
    }
    for field, (found, accepted) in names.items():
        if found != accepted:
            raise UnsupportedCheckpoint(f"{path}: {field} = {found!r} is not honoured; accepted here: {accepted}")


def _dense(folder: Path, name: str, output: str) -> Dense:
    path = folder / "config.json"
    config = read_json(path)
    activation = _activation(path, config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    _check_names(path, config, output)
    wide, out = config.get("in_features"), config.get("out_features")
    residual = bool(config.get("use_residual"))
    shapes: dict[str, tuple[Any, ...]] = {"linear.weight": (out, wide)}
    if config.get("bias", True):
        shapes["linear.bias"] = (out,)
    if residual and wide != out:
        shapes["residual.weight"] = (out, wide)
    arrays = _arrays(folder, shapes)
    beside = arrays.get("residual.weight")
    return Dense(
        name, np.ascontiguousarray(arrays["linear.weight"].T), arrays.get("linear.bias"), activation, residual,
        None if beside is None else np.ascontiguousarray(beside.T),
    )  # fmt: skip


def _norm(folder: Path, name: str) -> LayerNorm:
    dimension = read_json(folder / "config.json").get("dimension")
    arrays = _arrays(folder, {"norm.weight": (dimension,), "norm.bias": (dimension,)})
    return LayerNorm(name, arrays["norm.weight"], arrays["norm.bias"])


def _arrays(folder: Path, shapes: dict[str, tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    """The tensors of a module, which has those of ``shapes`` and no others."""
    weights = open_weights(folder)
    found = {tensor for tensors in weights.by_file().values() for tensor in tensors}
    if found != set(shapes):
        raise UnsupportedCheckpoint(
            f"{folder}: the tensors are {', '.join(sorted(found)) or 'none'}; config.json asks for "
            f"{' and '.join(shapes)}. Save the model again"
        )
    arrays = {tensor: weights(tensor) for tensor in shapes}
    if any(array.shape != shapes[tensor] for tensor, array in arrays.items()):
        listed = ", ".join(f"{tensor} {list(array.shape)}" for tensor, array in sorted(arrays.items()))
        wanted = ", ".join(f"{tensor} {list(shape)}" for tensor, shape in sorted(shapes.items()))
        raise UnsupportedCheckpoint(f"{folder}: {listed}, and config.json says {wanted}; save it again")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise UnsupportedCheckpoint(f"{folder}: NaN or infinite numbers; take an earlier checkpoint")
    return arrays


def _activation(path: Path, written: object) -> str:
    """The torch class, which the file names in full."""
    module, _, name = str(written or "torch.nn.Identity").rpartition(".")
    if module.startswith("torch.nn") and name in DENSE_ACTIVATIONS:
        return name
    raise UnsupportedCheckpoint(
        f"{path}: activation_function = {written!r} is not honoured; accepted of torch.nn: "
        f"{', '.join(DENSE_ACTIVATIONS)}"
    )
