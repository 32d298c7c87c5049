"""The tensors of a checkpoint against those of the model that its configuration describes, and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from edgelm_export.checkpoint.config import reason_of
from edgelm_export.checkpoint.loading import MODELS, load_model
from edgelm_export.checkpoint.weights import Safetensors
from edgelm_runtime.errors import UnsupportedCheckpoint

SHOWN = 6  # names of tensors in a message: those of a whole model would hide the reason
# What torch.compile, DataParallel and the wrappers of FSDP put into the names of modules.
_WRAPPERS = re.compile(r"(^|\.)(?:(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+")
_DEPTH = 2  # segments of a name that a program around the model may have put before it, such as Lightning's "model."


@dataclass(frozen=True)
class Comparison:
    """Names of tensors, sorted.

    ``missing`` are in the model alone, ``misshapen`` in both and not alike (each with both shapes). ``stray`` are in
    the checkpoint alone and belong to a part that the model has: further layers, or a bias where it has none.
    ``unused`` are in the checkpoint alone as well: other heads, masks, counters.
    """

    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    stray: tuple[str, ...]
    unused: tuple[str, ...]

    def problem(self) -> str | None:
        """What is wrong, in one line, with the first tensors of each kind; None where nothing is."""
        found = [
            f"{len(names)} {what}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
            for what, names in (
                ("missing", self.missing),
                ("of another shape", self.misshapen),
                ("of parts that the configuration does not have", self.stray),
            )
            if names
        ]
        return "; ".join(found) or None


def compare(folder: Path, config: Mapping[str, Any], task: str, renamed: Mapping[str, str] | None = None) -> Comparison:
    """Compare the weights of a folder with transformers' model for ``task``, which is made without its weights.

    ``renamed`` are other names of tensors, by those in the file.

    Raises:
        UnsupportedCheckpoint: transformers cannot make the model.
    """
    try:
        model, info = load_model(
            folder, config, task, renamed, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # transformers raises whatever it meets
        raise UnsupportedCheckpoint(
            f"{folder}: transformers cannot load it as {MODELS[task]} ({reason_of(error)})"
        ) from error
    missing = needed(info["missing_keys"], task)
    misshapen = (f"{name} {list(stored)}, not {list(shape)}" for name, stored, shape in info["mismatched_keys"])
    expected = dict(model.state_dict())
    stray = set(_stray(info["unexpected_keys"], expected))
    unused = set(info["unexpected_keys"]) - stray
    return Comparison(tuple(sorted(missing)), tuple(sorted(misshapen)), tuple(sorted(stray)), tuple(sorted(unused)))


def unwrapped(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Other names of tensors by their own, one guess after the other: what stands around the model taken off."""
    plain = {name: _WRAPPERS.sub(r"\1", name) for name in names}
    for depth in range(_DEPTH + 1):
        heads = Counter(".".join(name.split(".")[:depth]) + "." for name in plain.values())
        prefix = heads.most_common(1)[0][0] if depth and heads else ""
        renamed = {name: short.removeprefix(prefix) for name, short in plain.items()}
        changed = {name: short for name, short in renamed.items() if name != short}
        if changed and all(renamed.values()) and len(set(renamed.values())) == len(renamed):
            yield changed


def needed(names: Iterable[str], task: str) -> set[str]:
    """The tensors that the answers depend on: an embedding is made without the encoder's own pooler."""
    return {name for name in names if task != "feature-extraction" or not name.startswith("pooler.")}


def is_of_head(name: str) -> bool:
    """Whether a tensor belongs to what is on top of a base model."""
    return name.partition(".")[0] in ("classifier", "score", "pre_classifier", "lm_head", "head")


def _stray(unexpected: Iterable[str], expected: Iterable[str]) -> Iterator[str]:
    names = set(expected)
    kinds = {_any_layer(name) for name in names}
    parents = {name.rpartition(".")[0] for name in names}
    for name in unexpected:
        if _any_layer(name) in kinds or name.rpartition(".")[0] in parents:
            yield name


def _any_layer(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)


def not_finite(weights: Safetensors) -> list[str]:
    """The names of the tensors that hold NaN or an infinity, sorted; every tensor is read once."""
    found = []
    for path, names in weights.by_file().items():
        for name in names:
            # Opened for each tensor: an open file stays mapped, and all its pages count as memory.
            with safe_open(path, framework="pt") as handle:
                tensor = handle.get_tensor(name)
            if tensor.is_floating_point() and tensor.numel():
                smallest, largest = torch.aminmax(tensor)  # NaN if one is
                if not (torch.isfinite(smallest) and torch.isfinite(largest)):
                    found.append(name)
    return sorted(found)
