"""fastembed with a model of one's own: optimum's int8 graph of the same body, mean of the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perf.encode.engines.optimum_onnx import MODEL, quantized
from perf.encode.protocol import About, main

ABOUT = About("fastembed", ("int8",), "fastembed", gives="embedding")
NAME = "perf/minilm"
WIDTH = 384


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    quantized(checkpoint, out, "feature-extraction")


class Engine:
    """`TextEmbedding.embed`."""

    def __init__(self) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        source = ModelSource(hf=NAME)  # it wants one; the model comes from the folder
        TextEmbedding.add_custom_model(
            model=NAME, pooling=PoolingType.MEAN, normalization=True, sources=source, dim=WIDTH, model_file=MODEL
        )
        self._class = TextEmbedding

    def load(self, model: Path, threads: int) -> None:
        self._model = self._class(NAME, specific_model_path=str(model), threads=threads)

    def answer(self, text: str) -> object:
        return next(iter(self._model.embed(text)))

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        return list(self._model.embed(list(texts)))


if __name__ == "__main__":
    main(Engine, convert)
