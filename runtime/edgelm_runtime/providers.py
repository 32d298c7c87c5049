"""Execution providers of this onnxruntime: those built in, those in plug-in libraries, and why one cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from .device import KINDS, Device
from .errors import DeviceError
from .ort import onnxruntime

# EDGELM_LIBRARY_OPENVINO=/opt/libonnxruntime_providers_openvino_plugin.so: a library that no package brings.
LIBRARY_VARIABLE = "EDGELM_LIBRARY_{}"
_HARDWARE_ORDER = ("NPU", "GPU", "CPU")

_registered: dict[str, str] = {}
_lock = Lock()


@dataclass(frozen=True)
class Provider:
    """An execution provider on this machine, with hardware that it runs on, or the `problem` that keeps it from that.

    `source` is "built in", or the plug-in library.
    """

    device: str
    provider: str
    source: str
    hardware: str
    problem: str

    def to_dict(self) -> dict[str, str]:
        """The fields for JSON."""
        return asdict(self)


def survey() -> list[Provider]:
    """Every device that edgelm knows, with all its hardware, or with the reason why it cannot be used here."""
    return [found for name in KINDS for found in _survey_one(name)]


def _survey_one(name: str) -> Iterator[Provider]:
    kind = KINDS[name]
    try:
        source = _source(name)
        found = _hardware(name)
        if not found:
            raise DeviceError(_nothing(Device(name), []))
    except DeviceError as error:
        yield Provider(name, kind.provider, _library(name) or "", "", str(error).removeprefix(f"{name}: "))
        return
    for type_name, description in found:
        device = Device(name, type_name if kind.hardware and source != "built in" else "")
        yield Provider(str(device), kind.provider, source, description, "")


def use(device: Device, options: Any) -> list[str] | None:
    """Set a session's options for the device.

    Returns the providers to give to the session: None for a plug-in, which is in the options then. Raises DeviceError
    where the device is not there.
    """
    source, kind = _source(device.name), device.kind
    if source == "built in":
        if device.hardware:
            raise DeviceError(
                f"{device}: {kind.provider} is built into this onnxruntime, where it chooses its hardware itself; "
                f"ask for {device.name}, or install the plug-in: {kind.install}"
            )
        return [kind.provider]
    devices = _plugin_devices(device.name)
    wanted = [device.hardware] if device.hardware else list(_HARDWARE_ORDER)
    for hardware in wanted:
        chosen = [one for one in devices if _type_name(one) == hardware]
        if chosen:
            options.add_provider_for_devices(chosen[:1], _settings(device.name, hardware))
            return None
    raise DeviceError(_nothing(device, devices))


def hardware_of(device: Device) -> str:
    """The piece of hardware that `use` takes, in words."""
    found = dict(_hardware(device.name))
    wanted = [device.hardware] if device.hardware else list(_HARDWARE_ORDER)
    return next((found[name] for name in wanted if name in found), "")


def _source(name: str) -> str:
    """Where the provider comes from; its library is registered. Raises DeviceError where there is none."""
    kind = KINDS[name]
    if kind.provider in onnxruntime().get_available_providers() and name not in _registered:
        return "built in"
    library = _library(name)
    if library is None:
        raise DeviceError(f"{name}: {kind.provider} is not installed; {kind.install}")
    _register(name, library)
    return library


def _library(name: str) -> str | None:
    """The plug-in library: the one that the environment names, else that of the installed package."""
    given = os.environ.get(LIBRARY_VARIABLE.format(name.upper()))
    if given:
        return given
    plugin = KINDS[name].plugin
    if not plugin or find_spec(plugin) is None:
        return None
    return str(import_module(plugin).get_library_path())


def _register(name: str, library: str) -> None:
    """Load the library into this process, once. Raises DeviceError where it does not load."""
    with _lock:
        if _registered.get(name) == library:
            return
        if not Path(library).is_file():
            raise DeviceError(f"{name}: the provider library {library} is not there; {KINDS[name].install}")
        try:
            onnxruntime().register_execution_provider_library(KINDS[name].provider, library)
        except Exception as error:
            raise DeviceError(f"{name}: the provider library {library} does not load: {error}") from error
        _registered[name] = library


def _plugin_devices(name: str) -> list[Any]:
    return [one for one in onnxruntime().get_ep_devices() if one.ep_name == KINDS[name].provider]


def _hardware(name: str) -> list[tuple[str, str]]:
    """Type ("CPU", "GPU", "NPU") and description of the hardware that a provider finds."""
    if name not in _registered:
        return [("CPU" if name in ("cpu", "xnnpack") else "GPU", "")]
    return [(_type_name(one), _description(one)) for one in _plugin_devices(name)]


def _nothing(device: Device, found: Sequence[Any]) -> str:
    offered = ", ".join(sorted({_type_name(one) for one in found}))
    rest = f"only {offered}" if offered else "although its library loads"
    return f"{device}: {device.kind.provider} finds no {device.hardware or 'hardware'} that it takes here, {rest}"


def _settings(name: str, hardware: str) -> dict[str, str]:
    """Options that a provider cannot do without: QNN has to be told where the library for its hardware is."""
    if name != "qnn" or find_spec(KINDS[name].plugin) is None:
        return {}
    backend = {"NPU": "htp", "GPU": "gpu", "CPU": "cpu"}[hardware]
    return {"backend_path": getattr(import_module(KINDS[name].plugin), f"get_qnn_{backend}_path")()}


def _type_name(ep_device: Any) -> str:
    return str(ep_device.device.type).rpartition(".")[2]


def _description(ep_device: Any) -> str:
    metadata = dict(ep_device.device.metadata)
    return metadata.get("Description") or f"{ep_device.device.vendor}".strip()
