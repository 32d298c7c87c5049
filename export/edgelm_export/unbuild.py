"""The weights of a graph that an export built from weights, back in float32 under the names of the checkpoint.

What rounding took away stays away; everything else is as in training: 8- and 4-bit values times their scales, channels
that were taken apart in their places, levels multiplied back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgelm_export.quantize.rounding import ZERO_POINT
from edgelm_runtime.errors import UnsupportedCheckpoint

Array = NDArray[np.float32]
_ACTIVATIONS: Mapping[str, str] = {"Gelu": "gelu", "FastGelu": "gelu_new", "Relu": "relu", "Tanh": "tanh"}
_ZERO_POINT_4 = 8


@dataclass(frozen=True)
class StoredGraph:
    """A graph's constants by name, and its nodes."""

    nodes: list[Any]
    arrays: Mapping[str, NDArray[Any]]
    _by_weight: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> StoredGraph:
        """The graph in a file whose hash was checked. Raises UnsupportedCheckpoint where it cannot be read."""
        try:
            model = onnx.load(str(path))
            arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
        except Exception as error:  # of protobuf, of onnx's checks, of files
            raise UnsupportedCheckpoint(f"{path}: not readable as a graph ({error})") from error
        nodes = list(model.graph.node)
        return cls(nodes, arrays, {name: node for node in nodes for name in node.input if name in arrays})

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def vector(self, name: str) -> Array:
        """A constant as it is stored. Raises UnsupportedCheckpoint where there is none of that name."""
        if name not in self.arrays:
            raise UnsupportedCheckpoint(
                f"the graph has no {name}: it was not built from weights, or by another edgelm; "
                "give the checkpoint that it was exported from"
            )
        return np.asarray(self.arrays[name], np.float32)

    def has(self, name: str) -> bool:
        """Whether there is a product of that name."""
        return f"{name}.weight" in self or f"{name}.0.weight" in self

    def linear(self, name: str) -> tuple[Array, Array]:
        """Weight [in, out] and bias [out] of a product, or of one that was stored in parts."""
        if f"{name}.0.weight" not in self:
            return self._weight(name, name), self.vector(f"{name}.bias")
        parts = [f"{name}.{index}" for index in range(3)]
        weights = [self._weight(part, name) for part in parts]
        return np.concatenate(weights, axis=1), np.concatenate([self.vector(f"{part}.bias") for part in parts])

    def _weight(self, name: str, inputs: str) -> Array:
        """A weight [in, out]; `inputs` is the name that what happens to its inputs is stored under."""
        weight = self._stored(f"{name}.weight", f"{name}.scale")
        if f"{inputs}.apart" in self:
            weight[self.arrays[f"{inputs}.apart"]] = self.vector(f"{name}.apart_weight")
        if f"{inputs}.level" in self:
            weight *= self.vector(f"{inputs}.level")[:, None]
        return weight

    def _stored(self, name: str, scale: str) -> Array:
        stored = self.arrays.get(name)
        if stored is None or stored.dtype.kind == "f":
            return self.vector(name).copy()
        if stored.ndim == 2:
            return stored.astype(np.float32) * self.vector(scale)
        return self._blocks(name, scale).T.copy()

    def _blocks(self, name: str, scale: str) -> Array:
        """Rows [n, k] of a weight in blocks of 8 or 4 bits."""
        node, values = self._by_weight[name], self.arrays[name]
        scales, middle = self.vector(scale).reshape(*values.shape[:2], 1), float(ZERO_POINT)
        if attribute(node, "bits") == 4:
            values = _unpacked(values)
            zero = self.arrays.get(node.input[3]) if len(node.input) > 3 else None
            if zero is not None:
                zero = _unpacked(zero)[:, : scales.shape[1], None]
                return ((values.astype(np.float32) - zero.astype(np.float32)) * scales).reshape(len(values), -1)
            middle = _ZERO_POINT_4
        return ((values.astype(np.float32) - np.float32(middle)) * scales).reshape(len(values), -1)

    def table(self, name: str) -> Array:
        """Rows of an embedding; older exports leave its module's name out."""
        name = name if name in self else name.rpartition(".")[2]
        stored = self.arrays.get(name)
        if stored is None or stored.dtype.kind == "f":
            return self.vector(name)
        return self._blocks(name, f"{name}.scale")

    def heads(self) -> int:
        """How many heads the attention has."""
        found = next((attribute(node, "num_heads") for node in self.nodes if attribute(node, "num_heads")), None)
        if found is None:
            raise UnsupportedCheckpoint("the graph names no heads of attention; give the checkpoint that it came from")
        return int(found)

    def epsilon(self) -> float:
        """What its norms add to a variance."""
        found = (attribute(node, "epsilon") for node in self.nodes if node.op_type == "LayerNormalization")
        return float(f"{next(found):.6g}")

    def activation(self, name: str) -> str:
        """The activation behind a product, by transformers' name."""
        read = {f"{name}.weight"}
        for node in self._behind(read):
            if node.op_type in _ACTIVATIONS:
                return _ACTIVATIONS[node.op_type]
        raise UnsupportedCheckpoint(f"the graph has no activation behind {name} that transformers has a name for")

    def _behind(self, read: set[str]) -> Iterator[Any]:
        for node in self.nodes:
            if read & set(node.input):
                read |= set(node.output)
                yield node


def attribute(node: Any, name: str) -> Any:
    """An attribute of a node; None where it has none of that name."""
    found = next((one for one in node.attribute if one.name == name), None)
    return None if found is None else onnx.helper.get_attribute_value(found)


def _unpacked(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two numbers of 4 bits from each byte of the last axis, the low half first."""
    halves = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1)
