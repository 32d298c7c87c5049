"""The threads that are inside foreign code: what they may do when the process is copied, and when it ends.

A thread that comes back from C++ or Rust when Python has ended aborts the process, and a copy of a process (fork) has
the memory of all threads but only one of them.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from threading import Event, Thread, current_thread, get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import DeviceError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Result = TypeVar("Result")

MORE_THREADS = "let this process have more threads (ulimit -u; pids.max of a container; TasksMax= of a service)"
_NICE = 10
_PATIENCE = 10.0  # seconds that an exit waits for threads inside foreign code

_inside: set[int] = set()
_ended = False


def foreign(work: Callable[..., Result], *given: Any, **named: Any) -> Result:
    """`work(...)`, which lets other threads of Python run meanwhile.

    The end of the process waits for it. A daemon thread that comes later waits for ever, as Python lets it do.
    """
    ident = get_ident()
    _inside.add(ident)
    try:
        if _ended:
            _stay_out()
        return work(*given, **named)
    finally:
        _inside.discard(ident)


def _stay_out() -> None:
    if current_thread().daemon:
        _inside.discard(get_ident())
        Event().wait()


def _end() -> None:
    """Called when all threads but the daemon ones are done."""
    global _ended
    _ended = True
    until = monotonic() + _PATIENCE
    while len(_inside - {get_ident()}) and monotonic() < until:
        sleep(0.001)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inside.clear)


def started(work: Callable[[], object], count: int, daemon: bool = False) -> list[Thread]:
    """Threads that do `work`, at most `count`: limits of users, services and containers count threads."""
    threads: list[Thread] = []
    for _ in range(count):
        thread = Thread(target=work, daemon=daemon)
        try:
            thread.start()
        except RuntimeError:  # can't start new thread
            break
        threads.append(thread)
    return threads


def startable(count: int) -> int:
    """How many of `count` further threads this process may start now."""
    gate = Event()
    threads = started(gate.wait, count, daemon=True)
    gate.set()
    for thread in threads:
        thread.join()
    return len(threads)


class Worker:
    """The threads that call onnxruntime: the caller's own, or with `low` some of a lower priority."""

    def __init__(self, low: bool, threads: int) -> None:
        self._low = low
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self.restart()

    def restart(self) -> None:
        """New threads, in a process that is a copy of the one that had them."""
        if self._low:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads, "edgelm-low", _lower_priority)

    def call(self, work: Callable[..., Result], *given: Any) -> Result:
        """`work(*given)`, with its result or its exception. Raises DeviceError where no thread can be started."""
        if self._pool is None:
            return foreign(work, *given)
        try:
            waiting = self._pool.submit(work, *given)
        except RuntimeError as error:
            if "shutdown" in str(error):
                _stay_out()
            raise DeviceError(
                f"low_priority: a thread of lower priority cannot be started here ({error}); leave low_priority out, "
                f"or {MORE_THREADS}"
            ) from error
        return waiting.result()


def _lower_priority() -> None:
    """Of this thread, and of those that it makes: Linux keeps it by thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
