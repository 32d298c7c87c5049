"""optimum's ONNX export, dynamically quantized for AVX512-VNNI, and its ORTModelForCausalLM."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from perf.decode.engines.transformers import generate
from perf.decode.protocol import Seen, main


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    optimum = str(Path(sys.executable).with_name("optimum-cli"))
    exported = out if precision == "fp32" else out / "float32"
    export = [optimum, "export", "onnx", "--model", str(checkpoint), "--task", "text-generation-with-past"]
    subprocess.run([*export, str(exported)], check=True)
    if precision == "int8":
        quantize = [optimum, "onnxruntime", "quantize", "--onnx_model", str(exported), "--avx512_vnni"]
        subprocess.run([*quantize, "--output", str(out)], check=True)
        shutil.rmtree(exported)


class Engine:
    """`ORTModelForCausalLM` with `generate`."""

    def __init__(self) -> None:
        import onnxruntime
        from optimum.onnxruntime import ORTModelForCausalLM

        self._options, self._class = onnxruntime.SessionOptions(), ORTModelForCausalLM

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        options = self._options
        options.intra_op_num_threads = threads
        self._model = self._class.from_pretrained(model, session_options=options, trust_remote_code=False)

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        generate(self._model, prompt, count, seen)


if __name__ == "__main__":
    main(Engine, convert)
