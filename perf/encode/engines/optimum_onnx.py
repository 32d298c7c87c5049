"""optimum's ONNX export, dynamically quantized for AVX512-VNNI, and its ORTModelForSequenceClassification."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.encode.front import PipelineTexts, copy_texts, padded
from perf.encode.protocol import About, Ids, main

ABOUT = About("optimum-onnx", ("int8",), "optimum.onnxruntime")
MODEL = "model_quantized.onnx"


def quantized(checkpoint: Path, out: Path, task: str) -> None:
    """Write the int8 graph of a task, and the tokenizer."""
    optimum, exported = [sys.executable, "-m", "optimum.commands.optimum_cli"], out / "float32"
    subprocess.run([*optimum, "export", "onnx", "--model", str(checkpoint), "--task", task, str(exported)], check=True)
    quantize = [*optimum, "onnxruntime", "quantize", "--onnx_model", str(exported), "--avx512_vnni"]
    subprocess.run([*quantize, "--output", str(out)], check=True)
    shutil.rmtree(exported)
    copy_texts(checkpoint, out)


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    quantized(checkpoint, out, "text-classification")


class Engine(PipelineTexts):
    """`ORTModelForSequenceClassification`, and transformers' pipeline on it for text."""

    def __init__(self) -> None:
        import onnxruntime
        import transformers
        from optimum.onnxruntime import ORTModelForSequenceClassification

        self._options, self._class = onnxruntime.SessionOptions(), ORTModelForSequenceClassification
        self._transformers = transformers

    def load(self, model: Path, threads: int) -> None:
        self._options.intra_op_num_threads = threads
        self._model = self._class.from_pretrained(
            model, file_name=MODEL, session_options=self._options, trust_remote_code=False
        )
        tokenizer = self._transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._pipeline = self._transformers.pipeline("text-classification", model=self._model, tokenizer=tokenizer)

    def logits(self, rows: Sequence[Ids]) -> Any:
        return self._model(**padded(rows)).logits


if __name__ == "__main__":
    main(Engine, convert)
