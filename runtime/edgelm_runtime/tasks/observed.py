"""Who watches a model answer: the times of its last answers, profiles, and observers of the program around it."""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

from ..errors import BundleRejected

WINDOW = 1024
MOST = 100_000  # answers that one profile keeps: some 50 MB

Observer = Callable[[Any], None]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a model's last answers, at most WINDOW of them; `count` are all that it has given."""

    count: int
    p50: float
    p99: float


class Answers:
    """What is kept of a model's answers, and who is told of each. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last = array("d")
        self._count = 0
        self._observers: tuple[Observer, ...] = ()

    def seen(self, result: Any) -> None:
        """Take note of an answer that is ready to be returned."""
        with self._lock:
            if len(self._last) < WINDOW:
                self._last.append(result.timings["total"])
            else:
                self._last[self._count % WINDOW] = result.timings["total"]
            self._count += 1
        for observer in self._observers:
            observer(result)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have `observer` called with each further answer, until the function that is returned is called."""
        with self._lock:
            self._observers = (*self._observers, observer)
        return lambda: self._forget(observer)

    def _forget(self, observer: Observer) -> None:
        with self._lock:
            self._observers = tuple(one for one in self._observers if one is not observer)

    def latency(self) -> Latency | None:
        """Percentiles of the last answers; None before the first one."""
        with self._lock:
            last, count = list(self._last), self._count
        if not last:
            return None
        from ..profile.summary import summarize

        found = summarize(last)
        return Latency(count, found.p50, found.p99)


class Profile:
    """The timings of the answers that were given meanwhile, of any thread; the newest MOST of them."""

    def __init__(self) -> None:
        self._timings: deque[Mapping[str, float]] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return len(self._timings)

    def add(self, result: Any) -> None:
        """Take an answer."""
        self._timings.append(result.timings)

    def stages(self) -> Mapping[str, Any]:
        """A `profile.summary.Summary` in milliseconds for each key of `timings`; empty where nothing was answered."""
        from ..profile.summary import summarize

        timings = list(self._timings)
        names = dict.fromkeys(name for one in timings for name in one)
        return {name: summarize([one[name] for one in timings if name in one]) for name in names}

    def table(self) -> str:
        """The stages for a person, milliseconds."""
        lines = [f"{'ms':<20}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}{'answers':>9}"]
        for name, found in self.stages().items():
            numbers = "".join(f"{value:9.2f}" for value in (found.p50, found.p90, found.p99, found.max))
            lines.append(f"{name.replace('_', ' '):<20}{numbers}{found.count:9}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Origin:
    """How a model was loaded: what a pickled one is. `sha256` is the bundle's, "" where the text decides on it."""

    name: str
    options: tuple[tuple[str, Any], ...]
    sha256: str = ""

    def load(self) -> Any:
        """A model that is loaded the same way, here; a process keeps the last few.

        Raises what `load` raises, and BundleRejected where another bundle has that name here.
        """
        return _loaded(self, os.getpid())


@lru_cache(maxsize=4)  # a pool of processes sends its model with every piece of work
def _loaded(origin: Origin, process: int) -> Any:
    from ..loader import load

    model = load(origin.name, **dict(origin.options))
    if origin.sha256 and model.bundle.sha256 != origin.sha256:
        raise BundleRejected(
            f"a model of the bundle {origin.name} was pickled, and the bundle here is another; copy the same one to "
            "both places",
            what=origin.name,
            expected=f"sha256 {origin.sha256}",
            found=f"sha256 {model.bundle.sha256}",
        )
    return model


class Observed:
    """What every model offers to those who watch it. Pickled it is its origin, and loads again where it is read."""

    answers: Answers
    origin: Origin | None = None

    def __reduce__(self) -> tuple[Callable[[Origin], Any], tuple[Origin]]:
        if self.origin is None:
            raise TypeError("only a model that edgelm.load gave can be pickled: it is loaded again where it is read")
        return Origin.load, (self.origin,)

    def latency(self) -> Latency | None:
        """Milliseconds of the last answers, p50 and p99; None before the first. Always on, and bounded."""
        return self.answers.latency()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have `observer` called with the result of each answer, in the thread that answers, before it is returned.

        What it raises, the caller of the model gets. The function that is returned ends it.
        """
        return self.answers.observe(observer)

    @contextmanager
    def profile(self) -> Iterator[Profile]:
        """Collect the timings of all answers that are given inside the `with` block, by any thread.

        An answer of a group that is made in step (`batch` of a generator) has the group's times.
        """
        found = Profile()
        end = self.observe(found.add)
        try:
            yield found
        finally:
            end()
