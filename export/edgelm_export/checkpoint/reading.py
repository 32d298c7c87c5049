"""A folder while it is read: each part when it is asked for, once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgelm_export import families
from edgelm_export.checkpoint.config import (
    generation_defaults,
    labels_of,
    problem_type_of,
    read_config,
    read_json,
    task_of,
)
from edgelm_export.checkpoint.tokenizer import read_tokenizer
from edgelm_export.checkpoint.weights import Safetensors, open_weights
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import SINGLE_LABEL, TokenizerSpec

PROMPTS_FILE = "prompts.json"
CLASSIFICATION = ("text-classification", "token-classification")


@dataclass(frozen=True)
class Reading:
    """The parts of the checkpoint in ``root``. Each raises UnsupportedCheckpoint for what is wrong with it.

    The bundle is to be written below ``target``; with ``pairs`` it is to read two texts at once.
    """

    root: Path
    asked_task: str | None = None
    target: Path = Path()
    pairs: bool = False

    @cached_property
    def folder(self) -> Path:
        """The folder, once it can be read."""
        if not self.root.exists():
            raise UnsupportedCheckpoint(f"{self.root}: there is no such folder; name the folder of a checkpoint")
        if not self.root.is_dir():
            raise UnsupportedCheckpoint(f"{self.root} is a file; name the folder that it lies in")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise UnsupportedCheckpoint(f"{self.root}: no permission to read it; chmod u+rx {self.root}")
        if not any(self.root.iterdir()):
            raise UnsupportedCheckpoint(f"{self.root} is empty; name the folder of a checkpoint")
        return self.root

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every field of config.json."""
        return read_config(self.folder)

    @cached_property
    def family(self) -> families.Family:
        """The family file, which honours every field of the configuration."""
        family = families.family(str(self.config["model_type"]))
        family.check(self.config)
        return family

    @cached_property
    def task(self) -> str:
        """Hugging Face's name of the task."""
        return task_of(self.config, self.family.TASKS, self.asked_task)

    @cached_property
    def weights(self) -> Safetensors:
        """The tensors."""
        return open_weights(self.folder)

    @cached_property
    def tokenizer(self) -> tuple[bytes, TokenizerSpec]:
        """tokenizer.json, and what the manifest says of it."""
        return read_tokenizer(self.folder, self.config)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes of a classifier, in order; empty for other tasks."""
        return labels_of(self.config, self.weights) if self.task in CLASSIFICATION else ()

    @cached_property
    def problem_type(self) -> str:
        """What the logits of a text classifier mean: transformers' `problem_type`, guessed as it does where unset."""
        return problem_type_of(self.config, self.labels) if self.task == "text-classification" else SINGLE_LABEL

    @cached_property
    def prompts(self) -> Mapping[str, str]:
        """The templates of a generator by task, from prompts.json."""
        path = self.folder / PROMPTS_FILE
        return read_json(path) if self.task == "text-generation" and path.is_file() else {}

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Defaults of generation."""
        return generation_defaults(self.folder, self.task)

    @cached_property
    def wanted(self) -> families.Wanted:
        """What the graph is to give."""
        if self.pairs and self.task != "text-classification":
            raise UnsupportedCheckpoint(f"pairs of texts are read for text-classification, not for {self.task}")
        pooling = "mean" if self.task == "feature-extraction" else ""
        return families.Wanted(self.task, self.tokenizer[1].max_tokens, pooling, pairs=self.pairs)
