"""A Hugging Face folder, read and checked before any work: configuration, weights, tokenizer, task, prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelm_export import families
from edgelm_export.checkpoint.config import generation_defaults, labels_of, read_config, read_json, task_of
from edgelm_export.checkpoint.tokenizer import read_tokenizer
from edgelm_export.checkpoint.weights import Safetensors, open_weights
from edgelm_runtime.manifest import TokenizerSpec

PROMPTS_FILE = "prompts.json"


@dataclass(frozen=True)
class Checkpoint:
    """Everything of a checkpoint that a bundle is made from."""

    folder: Path
    config: Mapping[str, Any]
    weights: Safetensors
    tokenizer_json: bytes
    tokenizer: TokenizerSpec
    wanted: families.Wanted
    labels: tuple[str, ...]
    prompts: Mapping[str, str]
    generation: Mapping[str, Any]

    @property
    def task(self) -> str:
        """Hugging Face's name of the task."""
        return self.wanted.task

    @property
    def family(self) -> str:
        """The architecture: transformers' model type."""
        return str(self.config["model_type"])

    @property
    def float32_bytes(self) -> int:
        """Size in float32 of the weights that were read: old checkpoints hold masks and counters beside them."""
        return 4 * self.weights.elements_read


def load_checkpoint(folder: Path, task: str | None = None) -> Checkpoint:
    """Read a folder that transformers saved.

    Raises:
        UnsupportedCheckpoint: anything missing, broken, or of a kind that cannot be exported; the message says what to
            do about it.
    """
    config = read_config(folder)
    family = families.family(str(config.get("model_type")))
    family.check(config)
    found = task_of(config, family.TASKS, task)
    weights = open_weights(folder)
    tokenizer_json, spec = read_tokenizer(folder, config)
    labels: tuple[str, ...] = ()
    prompts: Mapping[str, str] = {}
    if found == "text-classification":
        labels = labels_of(config, weights)
    else:
        prompts = read_json(folder / PROMPTS_FILE) if (folder / PROMPTS_FILE).is_file() else {}
    wanted = families.Wanted(found, spec.max_tokens)
    return Checkpoint(
        folder, config, weights, tokenizer_json, spec, wanted, labels, prompts, generation_defaults(folder, found)
    )
