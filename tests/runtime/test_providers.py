"""Execution providers: what is built in, what comes as a library, and every way in which one cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from numpy._core import _multiarray_umath

from edgelm_runtime import providers
from edgelm_runtime.device import KINDS
from edgelm_runtime.errors import DeviceError
from edgelm_runtime.ort import onnxruntime


def test_every_device_is_there_or_says_why_not() -> None:
    found = providers.survey()
    assert {one.device.partition(":")[0] for one in found} == set(KINDS)
    assert found[0].to_dict() == {
        "device": "cpu", "provider": "CPUExecutionProvider", "source": "built in", "hardware": "", "problem": "",
    }  # fmt: skip
    built_in = onnxruntime().get_available_providers()
    for one in found:
        assert one.problem or one.provider in built_in or one.source.endswith((".so", ".dll", ".dylib"))


def test_what_is_not_installed_says_what_to_install() -> None:
    if "CUDAExecutionProvider" in onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(DeviceError, match=r"cuda: CUDAExecutionProvider is not installed; pip install onnxruntime-gpu"):
        providers.use(providers.Device("cuda"), onnxruntime().SessionOptions())


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGELM_LIBRARY_WEBGPU", str(tmp_path / "gone.so"))
    with pytest.raises(DeviceError, match=r"webgpu: the provider library .*gone\.so is not there"):
        providers.use(providers.Device("webgpu"), onnxruntime().SessionOptions())
    (problem,) = [one.problem for one in providers.survey() if one.device == "webgpu"]
    assert "gone.so is not there" in problem


@pytest.mark.parametrize("kind", ["garbage", "no provider"])
def test_a_library_that_does_not_load_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"\x7fELF is not enough")
    if kind == "no provider":  # a library that loads and is something else
        library = Path(_multiarray_umath.__file__)
    monkeypatch.setenv("EDGELM_LIBRARY_WEBGPU", str(library))
    with pytest.raises(DeviceError, match=r"webgpu: the provider library .* does not load"):
        providers.use(providers.Device("webgpu"), onnxruntime().SessionOptions())


def test_hardware_of_a_provider_that_is_built_in_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime(), "get_available_providers", lambda: ["OpenVINOExecutionProvider"])
    monkeypatch.setattr(providers, "_registered", {})
    options = onnxruntime().SessionOptions()
    assert providers.use(providers.Device("openvino"), options) == ["OpenVINOExecutionProvider"]
    with pytest.raises(DeviceError, match="built into this onnxruntime"):
        providers.use(providers.Device("openvino", "GPU"), options)
