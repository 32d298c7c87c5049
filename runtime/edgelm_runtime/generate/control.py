"""What ends an answer from outside: a deadline, or a word from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Literal, TypeVar

from ..errors import Cancelled, DeadlineExceeded
from ..session import Interrupt

if TYPE_CHECKING:
    from concurrent.futures import Future

Reason = Literal["", "deadline", "cancelled"]
Result = TypeVar("Result")
RESERVE_MS = 2.0  # what the last node of a run, and the text of the last token, may take after the deadline is called


class Interrupted(Exception):
    """Raised between two runs, or out of one, when a Control has called; the decode loop turns it into an end."""


class Control:
    """One answer's end from outside. The first call decides; a run that is under way is stopped at its next node.

    `deadline_ms` counts from the making of the Control; None is no deadline. Its clock thread starts with the first
    run, so that a request that is refused leaves none behind. `run_ms` adds up what the runs took that it may stop.
    """

    def __init__(self, deadline_ms: float | None = None) -> None:
        self.interrupt = Interrupt()
        self.run_ms = 0.0
        self._reason: Reason = ""
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._end: float | None = None
        if deadline_ms is not None:
            self._end = perf_counter() + max(deadline_ms - RESERVE_MS, 0.0) / 1000.0

    @property
    def reason(self) -> Reason:
        """Who called, "" while nobody has."""
        return self._reason

    def cancel(self) -> None:
        """End the answer; any thread may say so, at any time."""
        self._call("cancelled")

    def close(self) -> None:
        """Let go of the deadline: the answer is there."""
        self._end = None
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Raise Interrupted when somebody has called."""
        if self._end is not None and self._timer is None:
            self._watch(self._end)
        if self._reason:
            raise Interrupted

    def in_time(self) -> None:
        """Raise DeadlineExceeded, or Cancelled, where there is no time left to begin an answer."""
        if self._end is not None and perf_counter() >= self._end:
            self._call("deadline")
        if self._reason:
            self.finish()
            raise DeadlineExceeded(
                "the deadline came while the input was read; give it more time, a shorter input, or fewer rules"
            )

    def waited_for(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises, waited for no longer than the deadline. Raises like `in_time`.

        With a deadline it has a thread, and goes on there after it: what it prepares is ready for the next call.
        """
        if self._end is None:
            return work()
        from concurrent.futures import Future  # a program without deadlines does not need it

        found: Future[Result] = Future()
        thread = threading.Thread(target=_settle, args=(found, work), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had
            return work()
        thread.join(max(self._end - perf_counter(), 0.0))
        if not found.done():
            self._call("deadline")
            self.in_time()
        return found.result()

    def _watch(self, end: float) -> None:
        """Start the clock thread; where none can be started the clock is looked at between two runs."""
        timer = threading.Timer(max(end - perf_counter(), 0.0), self._call, ("deadline",))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            if perf_counter() >= end:
                self._call("deadline")
        else:
            self._timer = timer

    def finish(self) -> str:
        """The finish reason of an answer that was interrupted. Raises Cancelled where it was cancelled."""
        if self._reason == "cancelled":
            raise Cancelled("the answer was cancelled; ask again for another") from None
        return self._reason

    def _call(self, reason: Reason) -> None:
        with self._lock:
            self._reason = self._reason or reason
        self.interrupt.stop()


def _settle(found: Future[Result], work: Callable[[], Result]) -> None:
    try:
        found.set_result(work())
    except BaseException as error:
        found.set_exception(error)
