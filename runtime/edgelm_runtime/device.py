"""Devices by name: what `--device` accepts, which execution provider each stands for, and which variant runs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import DeviceError
from .machine import isa_flags
from .manifest import Variant

AUTO = "auto"


@dataclass(frozen=True)
class Kind:
    """What a device's name stands for.

    `provider` is onnxruntime's name. `plugin` is the Python package that holds the provider's library, "" for one that
    is built into some onnxruntime; `install` is what brings it. `hardware` may be asked for after a colon.
    """

    provider: str
    install: str
    plugin: str = ""
    hardware: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "cpu": Kind("CPUExecutionProvider", "pip install onnxruntime"),
    "openvino": Kind(
        "OpenVINOExecutionProvider",
        "pip install 'edgelm[openvino]'",
        "onnxruntime_ep_openvino",
        ("CPU", "GPU", "NPU"),
    ),
    "cuda": Kind("CUDAExecutionProvider", "pip install onnxruntime-gpu in the place of onnxruntime"),
    "tensorrt": Kind("TensorrtExecutionProvider", "pip install onnxruntime-gpu in the place of onnxruntime"),
    "qnn": Kind("QNNExecutionProvider", "pip install 'edgelm[qnn]'", "onnxruntime_qnn", ("NPU", "GPU", "CPU")),
    "coreml": Kind("CoreMLExecutionProvider", "pip install onnxruntime on macOS"),
    "dml": Kind("DmlExecutionProvider", "pip install onnxruntime-directml in the place of onnxruntime, on Windows"),
    "webgpu": Kind("WebGpuExecutionProvider", "pip install 'edgelm[webgpu]'", "onnxruntime_ep_webgpu", ("GPU",)),
    "xnnpack": Kind("XnnpackExecutionProvider", "an onnxruntime that was built with XNNPACK"),
}


@dataclass(frozen=True)
class Device:
    """A device that was asked for: a name of `KINDS`, and the hardware where that was said ("openvino:GPU")."""

    name: str
    hardware: str = ""

    @property
    def kind(self) -> Kind:
        """What the name stands for."""
        return KINDS[self.name]

    def __str__(self) -> str:
        return f"{self.name}:{self.hardware}" if self.hardware else self.name


CPU = Device("cpu")


def parse_device(text: str) -> Device | None:
    """The device that `text` names; None for "auto". Raises DeviceError for what is no device."""
    name, colon, hardware = text.partition(":")
    if text == AUTO:
        return None
    kind = KINDS.get(name)
    if kind is None or (colon and hardware not in kind.hardware):
        names = [name + (f"[:{'|'.join(one.hardware)}]" if one.hardware else "") for name, one in KINDS.items()]
        raise DeviceError(f"there is no device {text!r}; accepted are {AUTO}, {', '.join(names)}")
    return Device(name, hardware)


def runs_here(variant: Variant, device: Device) -> bool:
    """Whether the variant is made for the device, and this machine's CPU has the flags that it needs."""
    return device.name in variant.providers and set(variant.requires) <= set(isa_flags())


def choose_variant(variants: Sequence[Variant], device: Device = CPU) -> Variant:
    """The first variant that runs on `device` with this machine's CPU flags.

    Raises DeviceError that names what each variant needs when none does.
    """
    for variant in variants:
        if runs_here(variant, device):
            return variant
    needs = "; ".join(f"{v.name}: {', '.join((*v.providers, *v.requires))}" for v in variants)
    raise DeviceError(
        f"no variant of the bundle runs on device {str(device)!r} with the CPU flags "
        f"{', '.join(isa_flags()) or 'unknown'} (the variants need {needs}); "
        f"export the bundle with --targets {device.name}"
    )
