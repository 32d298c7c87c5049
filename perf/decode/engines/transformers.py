"""transformers on torch, float32 or bfloat16, with `generate`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.decode.protocol import Seen, main


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    """A copy: the checkpoint is the model."""
    shutil.copytree(checkpoint, out)


class Streamer:
    """Passes on each token that `generate` makes; the prompt, which comes first, is dropped."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._prompt = True

    def put(self, value: Any) -> None:
        if not self._prompt:
            self._seen(int(value[0]))
        self._prompt = False

    def end(self) -> None:
        """Nothing is held back."""


def generate(model: Any, prompt: Sequence[int], count: int, seen: Seen, **options: Any) -> None:
    """Greedy tokens of a model of transformers' interface."""
    import torch

    ids = torch.tensor([list(prompt)])
    with torch.inference_mode():
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            streamer=Streamer(seen),
            **options,
        )


class Engine:
    """The model in the type that the folder's name ends with."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._torch, self._class = torch, AutoModelForCausalLM

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        self._torch.set_num_threads(threads)
        dtype = self._torch.bfloat16 if model.name.endswith("bf16") else self._torch.float32
        self._model = self._class.from_pretrained(model, dtype=dtype, trust_remote_code=False).eval()

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        generate(self._model, prompt, count, seen)


if __name__ == "__main__":
    main(Engine, convert)
