"""Names of devices, and which variant of a bundle runs there."""

from __future__ import annotations

import pytest

from edgelm_runtime import device
from edgelm_runtime.device import CPU, Device, choose_variant, parse_device
from edgelm_runtime.errors import DeviceError
from edgelm_runtime.manifest import Variant


def test_names_of_devices() -> None:
    assert parse_device("auto") is None
    assert parse_device("cpu") == CPU
    assert parse_device("openvino:GPU") == Device("openvino", "GPU")
    assert str(parse_device("openvino:GPU")) == "openvino:GPU"
    assert str(CPU) == "cpu"


@pytest.mark.parametrize("name", ["npu", "", "CPU", "openvino:TPU", "openvino:", "cpu:CPU", "auto:CPU", "cuda:0"])
def test_what_is_no_device_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=r"no device .*accepted are auto, cpu, openvino\[:CPU|GPU|NPU\], cuda"):
        parse_device(name)


def test_the_first_variant_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def variant(name: str, provider: str, *requires: str) -> Variant:
        return Variant(name, f"{name}.onnx", name, (provider,), requires, 1)

    monkeypatch.setattr(device, "isa_flags", lambda: ("avx2",))
    npu, vnni, plain = variant("npu", "qnn"), variant("int8", "cpu", "avx512_vnni"), variant("fp32", "cpu")
    assert choose_variant((npu, vnni, plain), CPU) == plain
    assert choose_variant((npu, vnni, plain), Device("qnn", "NPU")) == npu
    with pytest.raises(DeviceError, match=r"CPU flags avx2 \(the variants need npu: qnn; int8: cpu, avx512_vnni\)"):
        choose_variant((npu, vnni), CPU)
