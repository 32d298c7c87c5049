from __future__ import annotations

import gc
import os
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from edgelm_runtime import providers
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.device import Device
from edgelm_runtime.errors import BundleRejected, DeviceError
from edgelm_runtime.ort import onnxruntime
from edgelm_runtime.session import (
    SessionOptions,
    bind,
    create_session,
    input_shapes,
    open_session,
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
    session = create_session(MODEL, SessionOptions(threads))
    assert session.inference.get_providers() == ["CPUExecutionProvider"]
    options = session.inference.get_session_options()
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
    with pytest.raises(BundleRejected, match=r"onnxruntime refuses the graph|the graph is no ONNX model"):
        create_session(model, SessionOptions(1))


def test_weights_outside_the_bundle_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.ones(2, np.float32).tofile(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleRejected, match="refuses the graph"):
        create_session((DATA / "external.onnx").read_bytes(), SessionOptions(1))


def test_a_failing_run_is_a_refusal() -> None:
    session = create_session(MODEL, SessionOptions(1))
    with pytest.raises(BundleRejected, match="failed while running"):
        run(session, {"input_ids": np.array([[1000]], np.int64)}, ("logits",))
    with pytest.raises(BundleRejected, match="failed while running"):
        run(session, {"wrong": IDS}, ("logits",))


def test_bound_buffers_are_shared_not_copied() -> None:
    session = create_session(MODEL, SessionOptions(1))
    ids, logits = IDS.copy(), np.zeros((1, 2), np.float32)
    binding = bind(session, {"input_ids": ort_value(ids)}, {"logits": ort_value(logits)})
    run_bound(session, binding)
    np.testing.assert_allclose(logits, [[0.0, 4.0]])
    ids[0, 1:3] = 5
    run_bound(session, binding)
    np.testing.assert_allclose(logits, [[4.0, 0.0]])


def test_an_output_can_be_left_to_onnxruntime() -> None:
    session = create_session(MODEL, SessionOptions(1))
    binding = bind(session, {"input_ids": ort_value(IDS)}, {"logits": None})
    run_bound(session, binding)
    np.testing.assert_allclose(binding.get_outputs()[0].numpy(), [[0.0, 4.0]])


def test_a_buffer_that_does_not_fit_is_refused() -> None:
    session = create_session(MODEL, SessionOptions(1))
    with pytest.raises(BundleRejected, match="does not take the buffers"):
        bind(session, {"wrong": ort_value(IDS)}, {})
    binding = bind(session, {"input_ids": ort_value(IDS)}, {"logits": ort_value(np.zeros((3, 2), np.float32))})
    with pytest.raises(BundleRejected, match="failed while running"):
        run_bound(session, binding)


def test_every_node_says_where_it_runs() -> None:
    nodes = create_session(MODEL, SessionOptions(1)).nodes
    assert [(node.provider, node.op_type) for node in nodes] == [
        ("CPUExecutionProvider", "Gather"),
        ("CPUExecutionProvider", "ReduceMean"),
    ]


def test_a_bundle_has_one_session_in_a_process() -> None:
    bundle = open_bundle(DATA / "tiny-classifier")
    (variant,) = bundle.manifest.variants
    first = open_session(bundle, variant, SessionOptions(7))
    assert open_session(bundle, variant, SessionOptions(7)) is first
    assert open_session(bundle, variant, SessionOptions(1)) is not first
    kept = weakref.ref(first)
    del first
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("low", [False, True])
def test_threads_of_low_priority_do_not_spin(low: bool) -> None:
    settings = create_session(MODEL, SessionOptions(2, low_priority=low)).inference.get_session_options()
    key = "session.intra_op.allow_spinning"
    if low:
        assert settings.get_session_config_entry(key) == "0"
    else:
        with pytest.raises(RuntimeError):
            settings.get_session_config_entry(key)


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of single threads are Linux's")
def test_a_session_of_low_priority_gives_way_with_all_its_threads() -> None:
    def niceness() -> list[int]:
        return sorted(os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in Path("/proc/self/task").iterdir())

    before = niceness()
    session = create_session(MODEL, SessionOptions(3, low_priority=True))
    assert session.call(lambda: os.getpriority(os.PRIO_PROCESS, 0)) == before[0] + 10
    # The worker, and two threads of onnxruntime: the third that computes is the worker itself.
    assert niceness().count(before[0] + 10) == 3
    (logits,) = run(session, {"input_ids": IDS}, ("logits",))
    np.testing.assert_allclose(logits, [[0.0, 4.0]])
    with pytest.raises(BundleRejected, match="failed while running"):
        run(session, {"wrong": IDS}, ("logits",))


class TestAnotherDevice:
    """A provider that takes no node: onnxruntime is real, and its CPU provider runs what is left."""

    @pytest.fixture(autouse=True)
    def _takes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(providers, "use", lambda device, options: ["CPUExecutionProvider"])

    def test_nodes_that_run_elsewhere_are_refused_by_name(self) -> None:
        with pytest.raises(DeviceError, match=r"webgpu does not take the whole graph: 2 of 2 .*Gather, ReduceMean"):
            create_session(MODEL, SessionOptions(1, Device("webgpu")))

    def test_unless_that_is_allowed(self) -> None:
        session = create_session(MODEL, SessionOptions(1, Device("webgpu"), allow_fallback=True))
        assert {node.provider for node in session.nodes} == {"CPUExecutionProvider"}

    def test_a_failing_start_and_a_failing_run_are_the_device_s(self) -> None:
        with pytest.raises(DeviceError, match="webgpu: onnxruntime refuses the graph"):
            create_session(b"no graph", SessionOptions(1, Device("webgpu")))
        session = create_session(MODEL, SessionOptions(1, Device("webgpu"), allow_fallback=True))
        with pytest.raises(DeviceError, match="webgpu: the graph failed while running"):
            run(session, {"input_ids": np.array([[1000]], np.int64)}, ("logits",))
