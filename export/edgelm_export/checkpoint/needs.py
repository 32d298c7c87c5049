"""What an export takes of memory and disk, from the headers of the weights."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgelm_export.checkpoint.weights import Safetensors
from edgelm_runtime import machine
from edgelm_runtime.errors import UnsupportedCheckpoint

# torch, transformers and onnxruntime before any weights; then the reference in float32 with its activations.
_LIBRARIES = 700_000_000
_REFERENCE = 4.2
# Large weights in half precision stay mapped and are widened layer by layer.
_LARGE, _MAPPED = 2 << 30, 2.7
_BUNDLE = 1.05  # bytes a parameter in int8, scales and norms included
_CANDIDATES = 4  # bundles of the schemes that are tried, and the one that is written


@dataclass(frozen=True)
class Needs:
    """Bytes: of memory at the peak, of disk while the export runs, of the int8 bundle."""

    memory: int
    disk: int
    bundle: int


def export_needs(weights: Safetensors) -> Needs:
    """An estimate for an int8 export of ``weights``."""
    parameters = weights.elements
    bundle = int(_BUNDLE * parameters)
    mapped = 4 * parameters > _LARGE and set(weights.dtypes) <= {"BF16", "F16"}
    memory = _LIBRARIES + (_MAPPED if mapped else _REFERENCE) * parameters
    return Needs(int(memory), _CANDIDATES * bundle, bundle)


def check_memory(needs: Needs) -> str:
    """What is needed and what is there. Raises UnsupportedCheckpoint where that is less; unknown memory suffices."""
    there = machine.memory_bytes()
    found = f"about {_gigabytes(needs.memory)} of {_gigabytes(there)}"
    if 0 < there < needs.memory:
        raise UnsupportedCheckpoint(
            f"memory: an export needs about {_gigabytes(needs.memory)}, this machine has {_gigabytes(there)}; "
            "export on a machine with more, or take a smaller checkpoint"
        )
    return found


def check_disk(needs: Needs, target: Path) -> str:
    """What is needed and what is free where ``target`` is to be. Raises UnsupportedCheckpoint where that is less."""
    target = target.absolute()
    place = next(parent for parent in (target, *target.parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    if free < needs.disk:
        raise UnsupportedCheckpoint(
            f"disk: an export needs about {_gigabytes(needs.disk)}, {place} has {_gigabytes(free)} free; "
            "make room, or choose another --out"
        )
    return f"about {_gigabytes(needs.disk)} of {_gigabytes(free)} free in {place}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
