"""The other side of `fresh`: from nothing to an answer, once or many times, as `edgelm.load` does it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from mmap import mmap
from time import perf_counter
from typing import Any

from ..bundle import MAX_READ_BYTES, Bundle, open_bundle
from ..errors import EdgeLMError
from ..machine import resident_bytes
from ..ort import onnxruntime
from ..placement import LoadOptions
from ..tasks import task_class
from ..timing import Stopwatch
from ..verify import checked_here

_POINTS = 100


@dataclass(frozen=True)
class _Watched(Bundle):
    """A bundle whose reading and hashing is counted."""

    watch: Stopwatch

    def read(self, name: str, most: int = MAX_READ_BYTES) -> bytes:
        with self.watch("verification"):
            return super().read(name, most)

    def map(self, name: str) -> mmap:
        with self.watch("verification"):
            return super().map(name)


def main(began: float) -> None:
    """Do what stdin asks for; `began` is when this process came to Python code, in seconds of `perf_counter`."""
    request = json.load(sys.stdin)
    onnxruntime()
    task_class(request["task"])
    watch = Stopwatch({"imports": 1000 * (perf_counter() - began)})
    try:
        reply = _first_answer(request, watch) if request["seconds"] is None else _many_answers(request, watch)
    except EdgeLMError as error:
        reply = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write("\n" + json.dumps({"began": began, **reply, "ended": perf_counter()}))


def _first_answer(request: Mapping[str, Any], watch: Stopwatch) -> dict[str, Any]:
    model = _load(request, watch)
    with watch("first_answer"):
        model(_value(request["values"][0]))
    return {"stages": watch.timings()}


def _many_answers(request: Mapping[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """Resident memory on the way; the answers go round until the time is over."""
    imported = resident_bytes()
    model = _load(request, watch)
    loaded = resident_bytes()
    values = [_value(value) for value in request["values"]]
    start = last = perf_counter()
    points = []
    for answers, value in enumerate(cycle(values), start=1):
        model(value)
        now = perf_counter()
        over = now - start >= request["seconds"]
        if over or now - last >= request["seconds"] / _POINTS:
            last = now
            points.append((now - start, answers, resident_bytes()))
        if over:
            break
    return {"imported": imported, "loaded": loaded, "peak": _peak(), "points": points}


def _load(request: Mapping[str, Any], watch: Stopwatch) -> Any:
    with watch("verification"):
        opened = open_bundle(request["path"], verify="lazy")
    opening = watch.timings()["verification"]
    options = LoadOptions(**request["options"])
    model = checked_here(_Watched(opened.path, opened.manifest, watch), request["task"], options, watch)
    watch.add("session", opening - watch.timings()["verification"])  # what was verified meanwhile is no part of it
    return model


def _value(value: Any) -> Any:
    """A pair of texts is a list in JSON."""
    return tuple(value) if isinstance(value, list) else value


def _peak() -> int | None:
    """The most bytes that were resident: from /proc, or getrusage, which is in bytes on macOS alone."""
    found = resident_bytes("VmHWM")
    if found is not None or sys.platform == "win32":
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
