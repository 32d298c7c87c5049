"""The KV cache of one answer: arrays that the graph reads as its past and appends to as its present."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BundleRejected

Shape = list[int | str | None]
_PRIVATE: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
DTYPES: Mapping[str, type[np.float32 | np.int8]] = {"tensor(float)": np.float32, "tensor(int8)": np.int8}


@dataclass(frozen=True)
class CacheLayout:
    """Shape of the cache of a graph, read from its inputs `past_key_values.{layer}.key|value`."""

    layers: int
    kv_heads: int
    head_size: int
    dtype: type[np.float32 | np.int8] = np.float32

    @classmethod
    def of_graph(cls, inputs: Mapping[str, Shape], types: Mapping[str, str]) -> CacheLayout:
        """The layout that a graph's inputs ask for, by their shapes and onnxruntime's names of their types.

        Raises BundleRejected when they are not one cache.
        """
        shapes = {name: shape for name, shape in inputs.items() if name.startswith("past_key_values.")}
        layers = len(shapes) // 2
        wanted = {f"past_key_values.{layer}.{part}" for layer in range(layers) for part in ("key", "value")}
        # Free dimensions may be named differently from layer to layer; the fixed ones must agree.
        fixed = {tuple(shape[1::2]) for shape in shapes.values() if len(shape) == 4}
        kv_heads, head_size = fixed.pop() if len(fixed) == 1 else (None, None)
        kinds = {types[name] for name in shapes}
        whole = set(shapes) == wanted and all(len(shape) == 4 for shape in shapes.values()) and kinds <= set(DTYPES)
        if not whole or len(kinds) != 1 or not isinstance(kv_heads, int) or not isinstance(head_size, int):
            raise BundleRejected(
                f"the graph's cache inputs are {shapes} of {', '.join(sorted(kinds))}, accepted: "
                "past_key_values.0.key, past_key_values.0.value, ... of one shape [batch, kv_heads, capacity, "
                "head_size], all float32 or all int8; export the bundle again",
                what="past_key_values",
                expected="[batch, kv_heads, capacity, head_size]",
                found=str(shapes),
            )
        return cls(layers, kv_heads, head_size, DTYPES[kinds.pop()])


class KVCache:
    """One array [sequences, kv_heads, capacity, head_size], float32 or int8, per layer for keys and one for values.

    Each is bound as past and as present (GroupQueryAttention's shared buffer), so that a step writes one row of it
    and copies nothing.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.arrays = dict(arrays)
        self.sequences, _, self.capacity, _ = next(iter(self.arrays.values())).shape

    @classmethod
    def empty(cls, layout: CacheLayout, capacity: int, sequences: int = 1) -> KVCache:
        """A cache with nothing in it, for `capacity` tokens of each sequence."""
        shape = (sequences, layout.kv_heads, capacity, layout.head_size)
        names = [f"{layer}.{part}" for layer in range(layout.layers) for part in ("key", "value")]
        size = math.prod(shape) * np.dtype(layout.dtype).itemsize
        try:
            # Untouched pages of zeros from the system: used as the answer grows, and given back with the last array.
            memory = mmap.mmap(-1, len(names) * size, **_PRIVATE)
        except (OSError, OverflowError, ValueError) as error:
            raise BundleRejected(
                f"a context of {capacity:,} tokens takes {len(names) * size:,} bytes, more than this machine gives "
                f"({error}); export the model with a shorter context",
                what="tokenizer.max_tokens",
                expected="what fits into memory",
                found=f"{len(names) * size:,} bytes",
            ) from error
        arrays = np.frombuffer(memory, dtype=layout.dtype).reshape(len(names), *shape)
        return cls(dict(zip(names, arrays, strict=True)))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(array.nbytes for array in self.arrays.values())

    def sequence(self, index: int) -> KVCache:
        """The cache of one sequence, in the same memory."""
        return KVCache({name: array[index : index + 1] for name, array in self.arrays.items()})

    def first(self, count: int) -> KVCache:
        """A copy of the first `count` tokens, and no larger."""
        return KVCache({name: array[:, :, :count].copy() for name, array in self.arrays.items()})

    def copy_tokens(self, other: KVCache, count: int) -> None:
        """Take the first `count` tokens of another cache of the same layout."""
        for name, array in self.arrays.items():
            array[:, :, :count] = other.arrays[name][:, :, :count]

    @staticmethod
    def past(values: Mapping[str, Any]) -> dict[str, Any]:
        """Names of the graph's inputs for values that are named like `arrays`."""
        return {f"past_key_values.{name}": value for name, value in values.items()}

    @staticmethod
    def present(values: Mapping[str, Any]) -> dict[str, Any]:
        """Names of the graph's outputs for values that are named like `arrays`."""
        return {f"present.{name}": value for name, value in values.items()}
