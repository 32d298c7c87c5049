"""Which part of a profile is running, and a bar by time, on a terminal's stderr; nothing in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from time import perf_counter

import click

from edgelm.reports.layout import cut
from edgelm_runtime.profile.run import Part

_BAR = 20
_CLEARED = "\r\x1b[K"
_EVERY = 0.5  # seconds: drawing takes some ten microseconds, which nobody measures


@dataclass
class _Progress:
    """How far the parts are, by the time that each may take."""

    parts: Sequence[Part]
    seconds: float
    running: int = 0
    since: float = field(default_factory=perf_counter)

    def begin(self, name: str) -> None:
        self.running = next((at for at, part in enumerate(self.parts) if part.name == name), self.running)
        self.since = perf_counter()

    def line(self) -> str:
        part = self.parts[self.running]
        within = min(part.share, (perf_counter() - self.since) / self.seconds)
        done = (sum(one.share for one in self.parts[: self.running]) + within) / sum(one.share for one in self.parts)
        filled = int(_BAR * done)
        return f"[{'#' * filled}{'-' * (_BAR - filled)}] {done:4.0%}  {part.name}"


@contextmanager
def progress(parts: Sequence[Part], seconds: float) -> Iterator[Callable[[str], None]]:
    """What is told the name of each part before it begins."""
    if not sys.stderr.isatty():
        yield lambda part: None
        return
    state, ended = _Progress(parts, seconds), Event()
    drawer = Thread(target=_draw, args=(state, ended), daemon=True)
    drawer.start()
    try:
        yield state.begin
    finally:
        ended.set()
        drawer.join()
        click.echo(_CLEARED, nl=False, err=True)


def _draw(state: _Progress, ended: Event) -> None:
    columns = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
    while not ended.wait(_EVERY):
        click.echo(_CLEARED + cut(state.line(), columns), nl=False, err=True)
