"""Variants for other devices: made, verified and told apart; and the texts that static scales are measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize.calibration import METHODS, MIN_TEXTS, Calibration, calibration_texts
from edgelm_export.quantize.ranges import ROOM, scale_of
from edgelm_export.targets import TARGETS, check_targets, schemes_for
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.device import KINDS
from edgelm_runtime.errors import InputError
from edgelm_runtime.loader import load
from edgelm_runtime.machine import machine_kind
from edgelm_runtime.verify import verify_bundle

TEXTS = ("the parcel is good", "very slow", "good good bad")


@pytest.fixture(scope="module")
def everywhere(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for every kind of target."""
    out = tmp_path_factory.mktemp("targets") / "bundle"
    export(ExportOptions(bert_folder, out, targets=("cpu", "openvino", "qnn", "cuda", "xnnpack")))
    return out


def test_every_target_is_a_device() -> None:
    assert set(TARGETS) == set(KINDS)


def test_each_target_has_its_variant_and_the_cpu_comes_first(everywhere: Path) -> None:
    manifest = open_bundle(everywhere).manifest
    assert {one.name: one.providers for one in manifest.variants} == {
        "cpu-int8": ("cpu",),
        "qdq-int8": ("openvino", "qnn", "cpu"),
        "fp16": ("cuda", "cpu"),
        "fp32": ("xnnpack", "cpu"),
    }
    assert manifest.variants[0].name == "cpu-int8"
    assert set(manifest.quality["variants"]) == {"qdq-int8", "fp16", "fp32"}
    assert manifest.provenance["machines"] == [machine_kind()]
    assert {"golden.json", "golden-fp16.json", "model-qdq-int8.onnx"} <= set(manifest.files)


def test_half_precision_stands_beside_the_graph_too(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgelm_runtime.placement import LoadOptions

    monkeypatch.setattr("edgelm_export.graph.APART_BYTES", 0)
    export(ExportOptions(bert_folder, tmp_path / "bundle", targets=("cpu", "cuda")))
    assert "model-fp16.safetensors" in open_bundle(tmp_path / "bundle").manifest.files
    assert verify_bundle(tmp_path / "bundle", LoadOptions(variant="fp16")).golden > 0


@pytest.mark.parametrize("variant", ["cpu-int8", "qdq-int8", "fp16", "fp32"])
def test_each_variant_answers_as_its_own_goldens_say_and_near_the_others(everywhere: Path, variant: str) -> None:
    from edgelm_runtime.placement import LoadOptions

    report = verify_bundle(everywhere, LoadOptions(variant=variant))
    assert (report.variant, report.device) == (variant, "cpu")
    assert report.score_difference == pytest.approx(0, abs=1e-6)
    exact, mine = load(everywhere, variant="fp32"), load(everywhere, variant=variant)
    rows = [exact.tokenize(text) for text in TEXTS]
    np.testing.assert_allclose(mine.logits(rows), exact.logits(rows), atol=0.05)


def test_accelerators_get_onnx_s_own_operators(everywhere: Path) -> None:
    stored = {}
    for name in ("qdq-int8", "fp16"):
        graph = onnx.load(everywhere / f"model-{name}.onnx").graph
        assert {node.domain for node in graph.node} == {""}
        stored[name] = {tensor.data_type for tensor in graph.initializer} - {onnx.TensorProto.INT64}
    assert stored["fp16"] == {onnx.TensorProto.FLOAT16}
    assert stored["qdq-int8"] == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_every_product_with_weights_is_in_8_bits(everywhere: Path) -> None:
    kinds = [node.op_type for node in onnx.load(everywhere / "model-qdq-int8.onnx").graph.node]
    layers = kinds.count("Softmax")
    # The packed projection, the attention's output, two of the feed-forward; then the pooler and the head.
    assert kinds.count("QuantizeLinear") == 4 * layers + 2
    assert kinds.count("DequantizeLinear") == 2 * kinds.count("QuantizeLinear")
    assert kinds.count("MatMul") == kinds.count("QuantizeLinear") + 2 * layers


@pytest.mark.parametrize(
    ("targets", "why"),
    [(("cpu", "tpu"), "accepted are"), (("openvino",), "cpu among them"), (("cpu", "cpu"), "each once"), ((), "cpu")],
)
def test_targets_that_cannot_be_are_refused(targets: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        check_targets(targets, "text-classification")


def test_a_generator_is_for_the_cpu(gpt2_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a generator runs on the CPU"):
        export(ExportOptions(gpt2_folder, tmp_path / "out", targets=("cpu", "cuda")))
    file = tmp_path / "texts.txt"
    file.write_text("good\n" * MIN_TEXTS, "utf-8")
    with pytest.raises(InputError, match="a generator, which is not calibrated"):
        export(ExportOptions(gpt2_folder, tmp_path / "out", calibration=file))
    assert not (tmp_path / "out").exists()


def test_a_scheme_is_built_once_for_all_its_targets() -> None:
    assert schemes_for(("cpu", "qnn", "cuda", "openvino")) == {"qdq-int8": ("qnn", "openvino"), "fp16": ("cuda",)}


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_file_and_its_method_are_used(bert_folder: Path, tmp_path: Path, method: str) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [{"text": f"{text} {number}"} for number in range(4) for text in TEXTS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "out"
    export(ExportOptions(bert_folder, out, targets=("cpu", "openvino"), calibration=file, calibration_method=method))
    assert load(out, variant="qdq-int8")(TEXTS[0]).label in open_bundle(out).manifest.labels


@pytest.mark.parametrize("content", ["", "one line\n", "a\n" * (MIN_TEXTS - 1)])
def test_a_calibration_file_with_too_few_texts_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "texts.txt"
    file.write_text(content, "utf-8")
    with pytest.raises(InputError, match=rf"accepted: at least {MIN_TEXTS}"):
        calibration_texts(file, ("en",))
    with pytest.raises(InputError, match="cannot be read"):
        calibration_texts(tmp_path / "none.txt", ("en",))


def test_many_texts_are_thinned_out_evenly(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"text {number}\n" for number in range(1600)), "utf-8")
    texts = calibration_texts(file, ("en",))
    assert (len(texts), texts[:2]) == (512, ["text 0", "text 3"])


def collected(method: str, values: Any) -> tuple[float, float]:
    calibration = Calibration(method)
    for part in np.array_split(np.asarray(values, np.float32), 3):
        calibration.collect("layer", part)
    return calibration.spans()["layer"]


def test_extremes_reach_a_little_beyond_what_was_seen() -> None:
    assert collected("minmax", [-1.0, 0.5, 2.0]) == pytest.approx((-ROOM, 2 * ROOM))


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_the_other_methods_cut_an_outlier_off(method: str) -> None:
    values = np.random.default_rng(0).normal(size=30_000)
    values[0] = 1000.0
    low, high = collected(method, values)
    assert -6 < low < -2
    assert 2 < high < 700
    low, high = collected(method, np.abs(values[1:]))
    assert low >= 0  # never more than what was seen


SPANS = st.floats(-1e6, 1e6, width=32)


@given(SPANS, SPANS)
def test_a_scale_covers_its_span_and_has_a_zero(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    scale, zero = scale_of((low, high))
    assert scale > 0
    assert (zero.dtype, scale.dtype) == (np.uint8, np.float32)
    step = float(scale)
    assert (0 - int(zero)) * step <= min(low, 0) + 0.51 * step
    assert (255 - int(zero)) * step >= max(high, 0) - 0.51 * step


def test_calibration_texts_in_another_language_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(["物流很快，质量也好"] * MIN_TEXTS), encoding="utf-8")
    assert len(calibration_texts(file, ("zh", "en"))) == MIN_TEXTS
    assert capsys.readouterr().err == ""
    assert len(calibration_texts(file, ("en",))) == MIN_TEXTS
    assert f"{MIN_TEXTS} of {MIN_TEXTS} texts look like zh, the bundle is for en" in capsys.readouterr().err
