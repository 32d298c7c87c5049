"""The half-precision variant on a GPU, where onnxruntime has CUDA and there is one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.loader import load
from edgelm_runtime.providers import survey

PROBLEM = next((one.problem for one in survey() if one.device == "cuda"), "")


@pytest.mark.skipif(bool(PROBLEM), reason=f"cuda: {PROBLEM}")
def test_a_classifier_runs_on_the_gpu(bert_folder: Path, tmp_path: Path) -> None:
    export(ExportOptions(bert_folder, tmp_path / "bundle", targets=("cpu", "cuda")))
    there = load(tmp_path / "bundle", device="cuda")
    receipt = json.loads(json.dumps(there.receipt().to_dict()))
    assert (receipt["variant"], receipt["device"]) == ("fp16", "cuda")
    assert set(receipt["nodes"]) == {"CUDAExecutionProvider"}
    rows = [there.tokenize(text) for text in ("the parcel is good", "very slow")]
    np.testing.assert_allclose(there.logits(rows), load(tmp_path / "bundle").logits(rows), atol=0.05)
