"""A whole profile: one part after the other, each with its share of the time; what is done stays when it is ended."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from ..machine import cpu_name, isa_flags, memory_bytes, usable_cores
from . import report, steady
from .subject import Deadline, Subject

SECONDS = 30.0


@dataclass(frozen=True)
class ProfileOptions:
    """`seconds` is the time for all that is repeated; what runs once (a few seconds) is beside it."""

    seconds: float = SECONDS


@dataclass(frozen=True)
class Part:
    """A part of the report: its field's name, what measures it, and its share of the time."""

    name: str
    measure: Callable[[Subject, Deadline], Any]
    share: float


PARTS: Sequence[Part] = (Part("steady", steady.measure, 0.4),)


def profile(
    subject: Subject, options: ProfileOptions, seen: Callable[[str], None] = lambda part: None
) -> report.Report:
    """Measure every part; `seen` is told the name of each before it begins.

    Raises what answering a value raises. KeyboardInterrupt ends it: the report then says that it is not complete.
    """
    began = perf_counter()
    found: dict[str, Any] = {}
    complete = True
    try:
        for part in PARTS:
            seen(part.name)
            found[part.name] = part.measure(subject, Deadline(options.seconds * part.share))
    except KeyboardInterrupt:
        complete = False
    return report.Report(
        schema=report.SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=perf_counter() - began,
        complete=complete,
        subject=subject.facts(),
        machine=_machine(),
        inputs=subject.inputs(),
        **found,
    )


def _machine() -> report.Machine:
    return report.Machine(
        cpu=cpu_name(),
        isa=isa_flags(),
        cores=usable_cores(),
        memory=memory_bytes(),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        governor="",
        mhz=(),
        throttled=None,
    )
