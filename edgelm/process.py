"""The command as a process: standard streams that are closed, and signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import TextIO, cast

import click


class Terminated(BaseException):
    """A signal asked the process to end; raised so that what is unfinished is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class ClosedStream(io.TextIOBase):
    """A stdout that is closed (`>&-`, pythonw): who prints to it is told, and what is written to files goes on."""

    def write(self, text: str) -> int:
        """Raises ClickException."""
        raise click.ClickException("stdout is closed; give it a file or a pipe, or write to a file with --output")

    def fileno(self) -> int:
        """The descriptor of stdout, which leads nowhere."""
        return 1


def prepare() -> None:
    """Before a command: fill in standard streams that are closed, and let SIGTERM and SIGHUP end it in order."""
    _open_descriptors()
    if sys.stdout is None:
        sys.stdout = cast(TextIO, ClosedStream())
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP: so do we
            signal.signal(number, _terminate)


def _open_descriptors() -> None:
    """Give 0, 1 and 2 to the null device where they are closed: else the next file gets what C code prints."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # the second one ends the process at once
    raise Terminated(number)


def end_by(number: int) -> None:
    """End the process by the signal itself, so that whoever waits for it sees that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
