"""OpenVINO, quantized by NNCF after training, with scales measured on the checkpoint's calibration.json.

`int8-accuracy`: with NNCF's accuracy control, which takes layers back to float32 until validation.json is answered as
well as before, a third of a point less at the most.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.encode.front import Front, FrontTexts, copy_texts, padded
from perf.encode.protocol import About, Ids, main

ABOUT = About("OpenVINO", ("int8",), "nncf")
WITH_ACCURACY_CONTROL, MAX_DROP = "int8-accuracy", 0.003


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    import nncf
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    rows = json.loads((checkpoint / "calibration.json").read_text("utf-8"))
    inputs = [padded([row]) for row in rows]
    example = {name: torch.from_numpy(array) for name, array in inputs[-1].items()}
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=False).eval()
    with torch.no_grad():
        converted = openvino.convert_model(model, example_input=example)
    dataset = nncf.Dataset(inputs)
    settings = {"subset_size": len(inputs), "model_type": nncf.ModelType.TRANSFORMER}
    if precision == WITH_ACCURACY_CONTROL:
        answers = json.loads((checkpoint / "validation.json").read_text("utf-8"))
        validation, limit = nncf.Dataset(answers), {"max_drop": MAX_DROP, "drop_type": nncf.DropType.ABSOLUTE}
        quantized = nncf.quantize_with_accuracy_control(converted, dataset, validation, accuracy, **limit, **settings)
    else:
        quantized = nncf.quantize(converted, dataset, **settings)
    openvino.save_model(quantized, out / "model.xml")
    copy_texts(checkpoint, out)


def accuracy(model: Any, answers: Iterable[Mapping[str, Any]]) -> tuple[float, list[float]]:
    """The share of right answers of a compiled model, and which they are."""
    right = [float(model(padded([row["ids"]]))[0][0].argmax() == row["label"]) for row in answers]
    return sum(right) / len(right), right


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
