"""Large weights beside the graph: a .safetensors file, mapped into memory and never copied as a whole.

The format is a length, a JSON header and raw numbers, so that nothing in it is code and little is parsed. The graph
names the tensors as external data; onnxruntime gets them from here and opens no file.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleRejected

MAX_HEADER_BYTES = 1 << 20
MAX_RANK = 16
DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8, "I8": np.int8}


class Weights:
    """The tensors of a mapped .safetensors file by name. Raises BundleRejected for a header that does not fit it."""

    def __init__(self, name: str, memory: mmap.mmap) -> None:
        self._name = name
        self._memory = memory
        self.arrays: Mapping[str, npt.NDArray[Any]] = self._read()

    def release(self) -> None:
        """Let the system take back the pages that were read; those that are needed again come from the file."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)

    def _read(self) -> dict[str, npt.NDArray[Any]]:
        size = len(self._memory)
        length = int.from_bytes(self._memory[:8], "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise self._wrong(f"a header of {length:,} bytes in a file of {size:,}")
        try:
            header = json.loads(self._memory[8 : 8 + length].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"a header that is not JSON ({error})") from error
        if not isinstance(header, dict):
            raise self._wrong("a header that is no object")
        header.pop("__metadata__", None)
        return {name: self._array(name, entry, 8 + length) for name, entry in header.items()}

    def _array(self, name: str, entry: Any, start: int) -> npt.NDArray[Any]:
        """The tensor of one header entry, over the mapped memory."""
        try:
            dtype, shape, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(f"an entry for {name[:80]!r} that is not understood ({repr(error)[:80]})") from error
        size = len(self._memory)
        # Each number is bounded before any are multiplied: products of long integers take minutes.
        listed = isinstance(shape, list) and len(shape) <= MAX_RANK
        numbers = listed and all(type(n) is int and 0 <= n <= size for n in (*shape, begin, end))
        count = math.prod(shape) if numbers else -1
        if not numbers or count * dtype.itemsize != end - begin or start + end > size:
            raise self._wrong(
                f"{name[:80]!r} of shape {str(shape)[:80]} at {str((begin, end))[:80]}, which does not fit"
            )
        if count == 0:
            return np.empty(shape, dtype)
        return np.frombuffer(self._memory, dtype, count, start + begin).reshape(shape)

    def _wrong(self, found: str) -> BundleRejected:
        return BundleRejected(
            f"{self._name} is no weights file: it has {found}; export the bundle again",
            what=self._name,
            expected=f"the safetensors format with {', '.join(DTYPES)}",
            found=found,
        )
