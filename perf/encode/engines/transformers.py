"""transformers on torch, float32 or bfloat16: the model called directly, and its pipeline for text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.encode.front import PipelineTexts, padded
from perf.encode.protocol import About, Ids, main

ABOUT = About("transformers", ("fp32", "bf16"), "transformers")


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    """A copy: the checkpoint is the model."""
    shutil.copytree(checkpoint, out)


class Engine(PipelineTexts):
    """The model in the type that the folder's name ends with."""

    def __init__(self) -> None:
        import torch
        import transformers

        self._torch, self._transformers = torch, transformers
        self._model_class = transformers.AutoModelForSequenceClassification  # loads it, so that `load` does not

    def load(self, model: Path, threads: int) -> None:
        self._torch.set_num_threads(threads)
        dtype = self._torch.bfloat16 if model.name.endswith("bf16") else self._torch.float32
        self._model = self._model_class.from_pretrained(model, dtype=dtype, trust_remote_code=False).eval()
        tokenizer = self._transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._pipeline = self._transformers.pipeline(
            "text-classification", model=self._model, tokenizer=tokenizer, device="cpu"
        )

    def logits(self, rows: Sequence[Ids]) -> Any:
        inputs = {name: self._torch.from_numpy(array) for name, array in padded(rows).items()}
        with self._torch.inference_mode():
            return self._model(**inputs).logits.float().numpy()


if __name__ == "__main__":
    main(Engine, convert)
