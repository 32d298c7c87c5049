"""CTranslate2, converted by its own converter for transformers; it ends at the pooler, the head is numpy's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.encode.front import Front, FrontTexts, copy_texts
from perf.encode.protocol import About, Ids, main

ABOUT = About("CTranslate2", ("int8",), "ctranslate2")
TEXTS = "texts"  # CTranslate2 has a config.json of its own
HEAD = ("classifier.weight", "classifier.bias")


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    import numpy as np
    from ctranslate2.converters import TransformersConverter
    from safetensors import safe_open

    TransformersConverter(str(checkpoint)).convert(str(out), quantization=precision)
    with safe_open(checkpoint / "model.safetensors", "np") as weights:
        np.savez(out / "head.npz", *(weights.get_tensor(name) for name in HEAD))
    copy_texts(checkpoint, out / TEXTS)


class Engine(FrontTexts):
    """`Encoder.forward_batch`; rows of different lengths are padded by CTranslate2."""

    def __init__(self) -> None:
        import ctranslate2
        import numpy as np
        import tokenizers  # noqa: F401  (Front imports it)

        self._class, self._numpy = ctranslate2.Encoder, np

    def load(self, model: Path, threads: int) -> None:
        self._encoder = self._class(str(model), device="cpu", intra_threads=threads, inter_threads=1)
        with self._numpy.load(model / "head.npz") as head:
            self._weight, self._bias = head["arr_0"], head["arr_1"]
        self._front = Front(model / TEXTS, self.logits)

    def logits(self, rows: Sequence[Ids]) -> Any:
        pooled = self._numpy.array(self._encoder.forward_batch([list(row) for row in rows]).pooler_output)
        return pooled @ self._weight.T + self._bias


if __name__ == "__main__":
    main(Engine, convert)
