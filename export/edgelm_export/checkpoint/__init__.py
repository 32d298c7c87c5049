"""A Hugging Face folder, read and checked before any work: configuration, weights, tokenizer, task, prompts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export import families
from edgelm_export.architecture import graph_kind
from edgelm_export.checkpoint.checks import require
from edgelm_export.checkpoint.reading import PROMPTS_FILE, Reading
from edgelm_export.checkpoint.weights import Safetensors
from edgelm_runtime.manifest import DecoderSpec, EmbeddingSpec, TokenizerSpec

__all__ = ["PROMPTS_FILE", "Checkpoint", "load_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Everything of a checkpoint that a bundle is made from.

    ``root`` is the sentence-transformers folder that ``folder`` lies in, or is, if it is of one. Where the
    vocabulary is cut, ``kept_ids`` are the token ids that are left of the folder's, int64, ascending; all else is of
    the cut one.
    """

    folder: Path
    config: Mapping[str, Any]
    architecture: families.Family
    weights: Safetensors
    tokenizer_json: bytes
    tokenizer: TokenizerSpec
    wanted: families.Wanted
    labels: tuple[str, ...]
    problem_type: str
    prompts: Mapping[str, str]
    generation: Mapping[str, Any]
    kept_ids: NDArray[np.int64] | None = None
    decoder: DecoderSpec | None = None
    embedding: EmbeddingSpec | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    function_to_apply: str = ""
    root: Path | None = None

    @property
    def task(self) -> str:
        """Hugging Face's name of the task."""
        return self.wanted.answers

    @property
    def family(self) -> str:
        """The architecture: transformers' model type."""
        return str(self.config["model_type"])

    @property
    def float32_bytes(self) -> int:
        """Size in float32 of the weights that were read: old checkpoints hold masks and counters beside them.

        Of all that are there where the graph was not built from them.
        """
        built = graph_kind(self.architecture) == "built"
        layers = [vars(layer).values() for layer in self.wanted.layers]
        arrays = [value for values in layers for value in values if isinstance(value, np.ndarray)]
        read = self.weights.elements_read if built else self.weights.elements
        return 4 * (read + sum(array.size for array in arrays))


def load_checkpoint(
    folder: Path, task: str | None = None, target: Path = Path(), *, pairs: bool = False, labels: tuple[str, ...] = (),
    eos: tuple[str, ...] = (),
) -> Checkpoint:  # fmt: skip
    """Read a folder that transformers saved, for a bundle below the folder ``target``, with ``pairs`` one of two texts.

    ``labels`` stand for the names of its classes, ``eos`` for the tokens that end its answers.

    Raises:
        UnsupportedCheckpoint: anything missing, broken, or of a kind that cannot be exported; the message says what to
            do about it.
    """
    reading = Reading(folder, task, target, pairs, labels, eos)
    require(reading)
    tokenizer, wanted = reading.tokenizer, reading.measured()
    if wanted.context < tokenizer.spec.max_tokens:
        print(
            f"edgelm: note: tokenizer: the model reads {wanted.context} tokens, not the {tokenizer.spec.max_tokens} "
            "that its configuration says: its positions are counted from a later row",
            file=sys.stderr,
        )
    return Checkpoint(
        reading.folder, reading.config, reading.family, reading.weights, tokenizer.json,
        replace(
            tokenizer.spec, special_tokens=reading.special_tokens, strip_cjk_spaces=reading.strips_cjk_spaces,
            max_tokens=wanted.context,
        ),
        wanted, reading.labels, reading.problem_type, reading.prompts, reading.generation,
        decoder=reading.decoder, embedding=reading.embedding, renamed=reading.renamed,
        function_to_apply=reading.function_to_apply, root=folder if reading.of_sentence_transformers else None,
    )  # fmt: skip
