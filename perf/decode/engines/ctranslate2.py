"""CTranslate2, converted by its own converter for transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.decode.protocol import Seen, main

TYPES = {"fp32": "float32", "int8": "int8"}


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(str(out), quantization=TYPES[precision])


class Engine:
    """`Generator.generate_batch`; it takes tokens as text, which are looked up before the clock starts."""

    def __init__(self) -> None:
        import ctranslate2

        self._class = ctranslate2.Generator

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        self._generator = self._class(str(model), device="cpu", intra_threads=threads, inter_threads=1)
        self._tokens: list[str] = json.loads((model / "vocabulary.json").read_text("utf-8"))

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        def step(result: Any) -> bool:
            seen(result.token_id)
            return False

        self._generator.generate_batch(
            [[self._tokens[token] for token in prompt]],
            min_length=count,
            max_length=count,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=step,
        )


if __name__ == "__main__":
    main(Engine, convert)
