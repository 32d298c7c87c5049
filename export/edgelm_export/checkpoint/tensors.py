"""The tensors of a checkpoint against those of the model that its configuration describes, and their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from edgelm_export.checkpoint.config import reason_of
from edgelm_export.checkpoint.weights import Safetensors
from edgelm_runtime.errors import UnsupportedCheckpoint

# The class of transformers that has the head of a task.
MODELS: Mapping[str, str] = {
    "feature-extraction": "AutoModel",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
}


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
        """All that is wrong, in one line; None where nothing is."""
        found = [
            f"{len(names)} {what}: {', '.join(names)}"
            for what, names in (
                ("missing", self.missing),
                ("of another shape", self.misshapen),
                ("of parts that the configuration does not have", self.stray),
            )
            if names
        ]
        return "; ".join(found) or None


def compare(folder: Path, task: str) -> Comparison:
    """Compare the weights of a folder with transformers' model for ``task``, which is made without its weights.

    Raises:
        UnsupportedCheckpoint: transformers cannot make the model.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    auto = getattr(transformers, MODELS[task])
    try:
        model, info = auto.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, device_map="meta",
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
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


def needed(names: Iterable[str], task: str) -> set[str]:
    """The tensors that the answers depend on: an embedding is made without the encoder's own pooler."""
    return {name for name in names if task != "feature-extraction" or not name.startswith("pooler.")}


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
