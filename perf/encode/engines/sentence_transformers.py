"""sentence-transformers with its ONNX backend: the same body as an embedder, mean of the tokens, int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perf.encode.protocol import About, main

# a smoke run looks for the backend: it is what may be missing
ABOUT = About("sentence-transformers", ("int8",), "optimum.onnxruntime", gives="embedding")
FILE = "onnx/model_qint8_avx512_vnni.onnx"


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model

    # a folder without modules.json is a body, and gets mean pooling
    model = SentenceTransformer(str(checkpoint), backend="onnx", model_kwargs={"export": True})
    model.save(str(out))
    export_dynamic_quantized_onnx_model(model, "avx512_vnni", str(out))
    (out / "onnx" / "model.onnx").unlink()


class Engine:
    """`SentenceTransformer.encode`."""

    def __init__(self) -> None:
        import onnxruntime
        import sentence_transformers

        self._options, self._class = onnxruntime.SessionOptions(), sentence_transformers.SentenceTransformer

    def load(self, model: Path, threads: int) -> None:
        self._options.intra_op_num_threads = threads
        settings = {"file_name": FILE, "provider": "CPUExecutionProvider", "session_options": self._options}
        self._model = self._class(str(model), backend="onnx", model_kwargs=settings, local_files_only=True)

    def answer(self, text: str) -> object:
        return self._model.encode(text, show_progress_bar=False)

    def answers(self, texts: Sequence[str]) -> Sequence[object]:
        return list(self._model.encode(list(texts), show_progress_bar=False))


if __name__ == "__main__":
    main(Engine, convert)
