from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgelm_runtime import session as sessions
from edgelm_runtime.errors import BundleRejected
from edgelm_runtime.session import (
    bind,
    create_session,
    empty_value,
    input_shapes,
    onnxruntime,
    ort_value,
    output_shapes,
    run,
    run_bound,
)

DATA = Path(__file__).parents[1] / "data"
MODEL = (DATA / "tiny-classifier" / "model.onnx").read_bytes()
IDS = np.array([[2, 11, 12, 3]], np.int64)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_runs_on_the_cpu_with_the_threads_given(threads: int) -> None:
    session = create_session(MODEL, threads=threads)
    assert session.get_providers() == ["CPUExecutionProvider"]
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
    assert options.graph_optimization_level == onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    (logits,) = run(session, {"input_ids": IDS}, ("logits",))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, [[0.0, 4.0]])
    assert input_shapes(session) == {"input_ids": ["batch", "sequence"]}
    assert output_shapes(session) == {"logits": ["batch", 2]}


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("model", [b"", b"not a graph", MODEL[:200]])
def test_a_damaged_graph_is_refused(model: bytes) -> None:
    with pytest.raises(BundleRejected, match="onnxruntime refuses the graph"):
        create_session(model, threads=1)


def test_weights_outside_the_bundle_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.ones(2, np.float32).tofile(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleRejected, match="refuses the graph"):
        create_session((DATA / "external.onnx").read_bytes(), threads=1)


def test_a_failing_run_is_a_refusal() -> None:
    session = create_session(MODEL, threads=1)
    with pytest.raises(BundleRejected, match="failed while running"):
        run(session, {"input_ids": np.array([[1000]], np.int64)}, ("logits",))
    with pytest.raises(BundleRejected, match="failed while running"):
        run(session, {"wrong": IDS}, ("logits",))


def test_bound_buffers_are_shared_not_copied() -> None:
    session = create_session(MODEL, threads=1)
    ids, logits = IDS.copy(), np.zeros((1, 2), np.float32)
    binding = bind(session, {"input_ids": ort_value(ids)}, {"logits": ort_value(logits)})
    run_bound(session, binding)
    np.testing.assert_allclose(logits, [[0.0, 4.0]])
    ids[0, 1:3] = 5
    run_bound(session, binding)
    np.testing.assert_allclose(logits, [[4.0, 0.0]])


def test_an_output_can_be_left_to_onnxruntime() -> None:
    session = create_session(MODEL, threads=1)
    binding = bind(session, {"input_ids": ort_value(IDS)}, {"logits": None})
    run_bound(session, binding)
    np.testing.assert_allclose(binding.get_outputs()[0].numpy(), [[0.0, 4.0]])
    assert empty_value((2, 3), np.float32).shape() == [2, 3]


def test_a_buffer_that_does_not_fit_is_refused() -> None:
    session = create_session(MODEL, threads=1)
    with pytest.raises(BundleRejected, match="does not take the buffers"):
        bind(session, {"wrong": ort_value(IDS)}, {})
    binding = bind(session, {"input_ids": ort_value(IDS)}, {"logits": ort_value(np.zeros((3, 2), np.float32))})
    with pytest.raises(BundleRejected, match="failed while running"):
        run_bound(session, binding)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("avx2",), "1"),
        (("avx2", "avx512_vnni"), ""),
        (("avx2", "avx_vnni"), ""),
        (("asimd",), ""),
        ((), ""),
    ],
)
def test_saturating_products_are_avoided_only_where_they_saturate(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(sessions, "isa_flags", lambda: flags)
    options = create_session(MODEL, threads=1).get_session_options()
    if expected:
        assert options.get_session_config_entry("session.x64quantprecision") == expected
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry("session.x64quantprecision")
