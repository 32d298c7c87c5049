"""What a search measured, kept in a file beside the bundle until that is written: a search that was ended goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.search.layers import Cost, Layer
from edgelm_export.verify import Case
from edgelm_runtime.machine import cpu_name, usable_cores

WEIGHTS = (".safetensors", ".json", ".bin", ".onnx", ".onnx_data", ".data")  # and what says how they are used


def memory_key(checkpoint: Checkpoint, cases: Sequence[Case], names: Sequence[str]) -> str:
    """What the measurements hold for: weights, texts, schemes, onnxruntime and this processor."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.folder.iterdir()):
        if path.suffix in WEIGHTS:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    facts = [[case.task, case.ids] for case in cases], names, version("onnxruntime"), cpu_name(), usable_cores()
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


@dataclass
class Memory:
    """Layers with their costs, and the harm of each layer and scheme, in a file that is written after each of them."""

    path: Path
    key: str
    layers: list[Layer] = field(default_factory=list)
    harms: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path, key: str) -> Memory:
        """What the file has, if it is for the same ``key``; nothing where it is damaged or for something else."""
        try:
            stored: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
            if stored["key"] != key:
                return cls(path, key)
            layers = [
                Layer(one["name"], one["kind"], tuple(one["shape"]), {k: Cost(*v) for k, v in one["costs"].items()})
                for one in stored["layers"]
            ]
            return cls(path, key, layers, {name: dict(found) for name, found in stored["harms"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path, key)

    def note(self, layer: str, used: str, harm: float) -> None:
        """Keep the harm of a layer in a scheme."""
        self.harms.setdefault(layer, {})[used] = harm
        self.save()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        layers = [
            {
                "name": each.name, "kind": each.kind, "shape": each.shape,
                "costs": {used: [cost.bytes, cost.ms] for used, cost in each.costs.items()},
            }
            for each in self.layers
        ]  # fmt: skip
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text(json.dumps({"key": self.key, "layers": layers, "harms": self.harms}), "utf-8")
        os.replace(fresh, self.path)

    def forget(self) -> None:
        """Remove the file: the bundle is written."""
        self.path.unlink(missing_ok=True)
