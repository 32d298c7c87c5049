"""OpenVINO, quantized by NNCF after training, with scales measured on a few dozen rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.encode.front import Front, FrontTexts, copy_texts, padded
from perf.encode.protocol import About, Ids, main

ABOUT = About("OpenVINO", ("int8",), "nncf")


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    import nncf
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    rows = json.loads((checkpoint / "calibration.json").read_text("utf-8"))
    inputs = [padded([row]) for row in rows]
    example = {name: torch.from_numpy(array) for name, array in inputs[-1].items()}
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        converted = openvino.convert_model(model, example_input=example)
    dataset = nncf.Dataset(inputs)
    quantized = nncf.quantize(converted, dataset, subset_size=len(inputs), model_type=nncf.ModelType.TRANSFORMER)
    openvino.save_model(quantized, out / "model.xml")
    copy_texts(checkpoint, out)


class Engine(FrontTexts):
    """One infer request with the latency hint."""

    def __init__(self) -> None:
        import openvino
        import tokenizers  # noqa: F401  (Front imports it)

        self._core = openvino.Core()

    def load(self, model: Path, threads: int) -> None:
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        self._request = self._core.compile_model(model / "model.xml", "CPU", hints).create_infer_request()
        self._front = Front(model, self.logits)

    def logits(self, rows: Sequence[Ids]) -> Any:
        return self._request.infer(padded(rows), share_inputs=True)[0]


if __name__ == "__main__":
    main(Engine, convert)
