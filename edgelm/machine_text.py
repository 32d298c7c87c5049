"""This machine, and how a bundle was loaded on it, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgelm_runtime.machine import cpu_name, default_threads, isa_flags, memory_bytes, usable_cores
from edgelm_runtime.ort import onnxruntime
from edgelm_runtime.placement import Receipt
from edgelm_runtime.products import products_saturate
from edgelm_runtime.providers import Provider
from edgelm_runtime.session import Node
from edgelm_runtime.visible import visible

_WIDTH = 14


def machine_facts() -> dict[str, Any]:
    """The CPU, what of it may be used, and the onnxruntime that would."""
    return {
        "cpu": cpu_name(),
        "isa": list(isa_flags()),
        "exact_products": not products_saturate(),
        "cores": usable_cores(),
        "default_threads": default_threads(),
        "memory_bytes": memory_bytes(),
        "onnxruntime": onnxruntime().__version__,
    }


def describe(facts: Mapping[str, Any], found: Sequence[Provider]) -> str:
    """The machine, then a line for each device."""
    products = "exact" if facts["exact_products"] else "clipped by this CPU; edgelm makes int8 weights uint8: exact"
    lines = [
        _row("cpu", facts["cpu"]),
        _row("flags", " ".join(facts["isa"]) or "none that matter here"),
        _row("8-bit products", products),
        _row("cores", f"{facts['cores']} usable, {facts['default_threads']} used by default"),
        _row("memory", f"{facts['memory_bytes'] / 2**30:.1f} GiB"),
        _row("onnxruntime", facts["onnxruntime"]),
        "",
    ]
    for one in found:
        about = one.problem or ", ".join(filter(None, [one.hardware, one.source]))
        lines.append(f"{'-' if one.problem else '+'} {one.device:<{_WIDTH - 2}} {one.provider:<26} {_one_line(about)}")
    return "\n".join(lines)


def receipt(loaded: Receipt, nodes: Sequence[Node]) -> str:
    """How a bundle was loaded, then every node with its provider."""
    lines = [
        _row("variant", f"{loaded.variant} ({loaded.precision}): {loaded.why}"),
        _row("device", f"{loaded.device}: {loaded.provider}, {loaded.hardware}"),
        _row("nodes", ", ".join(f"{count} on {provider}" for provider, count in loaded.nodes.items())),
        _row("threads", loaded.threads),
        _row("flags", " ".join(loaded.isa)),
        _row("onnxruntime", loaded.onnxruntime),
        *(_row("note", note) for note in loaded.notes),
        *(visible(f"  {node.provider:<26} {node.op_type:<24} {node.name}") for node in nodes),
    ]
    return "\n".join(lines)


def _row(name: str, value: object) -> str:
    return f"{name:<{_WIDTH}} {visible(str(value))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
