"""Processes of this Python for what may end a process: how one is started, bounded, and spoken of when it died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_PYTHONS = ("python", "pypy")


def can_start() -> bool:
    """Whether this program can be started again as Python: a frozen one, or one that embeds it, cannot."""
    name = Path(sys.executable or "").name.lower()
    return name.startswith(_PYTHONS) and not getattr(sys, "frozen", False)


def run_python(call: str, data: bytes, seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run `module:function` of this package in a fresh process, which finds packages where this one does.

    `data` is its stdin. Raises OSError where none can be started, TimeoutExpired after so many seconds.
    """
    module, function = call.split(":")
    code = f"import sys; sys.path[:] = sys.argv[1:]; from {__package__}.{module} import {function}; {function}()"
    return subprocess.run(  # noqa: S603 - this very Python, and our own module
        [sys.executable, "-c", code, *sys.path], input=data, capture_output=True, timeout=seconds,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip


def limit(cpu_seconds: int, memory_bytes: int | None = None) -> None:
    """Bound this process where the system has such bounds: no core file, processor time, memory."""
    try:
        import resource
    except ImportError:  # Windows: the parent's clock is left
        return
    bounds = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: cpu_seconds, resource.RLIMIT_AS: memory_bytes}
    for what, most in bounds.items():
        _, hard = resource.getrlimit(what)
        if most is not None:
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def how_ended(code: int) -> str:
    """An exit code in words: "signal 8 (SIGFPE)"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
