"""Large weights beside the graph: written to disk as they are made, so that memory holds one of them at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from edgelm_runtime.errors import ExportError
from edgelm_runtime.leftovers import temporary

ALIGNMENT = 64  # bytes: a tensor never begins inside a cache line
_KINDS = {"float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32", "int8": "I8", "uint8": "U8"}
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)

Place = tuple[int, int]  # where the bytes of a tensor begin and end


@contextmanager
def written_in(folder: Path) -> Iterator[None]:
    """Weights that are made in this block are written in ``folder``; elsewhere, where the system has its own."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out``, on the same disk; those of killed exports are removed.

    Raises:
        ExportError: it cannot be written.
    """
    with ExitStack() as stack:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            scratch = stack.enter_context(temporary(out.parent, f".{out.name}.export-", is_folder=True))
        except OSError as error:
            raise ExportError(f"{out} cannot be written: {error}; choose another --out") from error
        yield scratch


@dataclass(frozen=True)
class WeightsFile:
    """A .safetensors file in its two parts: the header, and a nameless file with the numbers, which goes with this."""

    header: bytes
    numbers: BinaryIO
    places: Mapping[str, Place]  # of each tensor in the whole file


class WeightsWriter:
    """Writes tensors one after the other.

    A reader of the format accepts no gaps. What would leave the next tensor unaligned is small, and waits for the end.
    """

    def __init__(self) -> None:
        self._numbers = cast(BinaryIO, tempfile.TemporaryFile(dir=_folder.get()))  # noqa: SIM115 - outlives this
        self._waiting: dict[str, NDArray[Any]] = {}
        self._header: dict[str, dict[str, Any]] = {}
        self._end = 0

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Take a tensor of float32 or 16, int64, 32 or 8, or uint8, in C order; of a name that it has, nothing."""
        if name in self._header or name in self._waiting:
            return
        if array.nbytes % ALIGNMENT:
            self._waiting[name] = array
        else:
            self._write(name, array)

    def finish(self) -> WeightsFile:
        """The whole file; nothing can be added to it."""
        for name, array in sorted(self._waiting.items(), key=lambda item: -item[1].itemsize):
            self._write(name, array)
        header = json.dumps(self._header, separators=(",", ":")).encode()
        header += b" " * (-(8 + len(header)) % ALIGNMENT)
        start = 8 + len(header)
        offsets = {name: entry["data_offsets"] for name, entry in self._header.items()}
        places = {name: (start + begin, start + end) for name, (begin, end) in offsets.items()}
        return WeightsFile(len(header).to_bytes(8, "little") + header, self._numbers, places)

    def _write(self, name: str, array: NDArray[Any]) -> None:
        begin, self._end = self._end, self._end + array.nbytes
        # A view: tobytes would be a second copy. Files are little-endian, as every machine that runs torch is.
        self._numbers.write(np.ravel(array).view(np.uint8).data)
        kind = _KINDS[str(array.dtype)]
        self._header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, self._end]}
