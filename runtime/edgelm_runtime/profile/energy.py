"""Joules an answer, by the counters that processors keep for whole packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter, sleep

from ..machine import kernel_text
from . import report
from .subject import Deadline, NotMeasured, Subject

POWERCAP = Path("/sys/class/powercap")
IDLE = 0.2  # of the time
LEAST_SECONDS = 0.3  # the counters move every millisecond or so


@dataclass(frozen=True)
class Counters:
    """Microjoules by package since the machine began, and where each begins again at 0 (Linux, power/powercap)."""

    microjoules: Mapping[Path, int]
    ranges: Mapping[Path, int]

    def since(self, earlier: Counters) -> float:
        """Joules since then; a counter may have begun again once."""
        total = 0
        for path, now in self.microjoules.items():
            before = earlier.microjoules[path]
            total += now - before if now >= before else now - before + self.ranges[path]
        return total / 1e6


def measure(subject: Subject, deadline: Deadline, folder: Path = POWERCAP) -> report.Energy:
    """First nothing, then one answer after the other. Raises NotMeasured where there is no counter, or it may not be
    read, and what answering raises."""
    start = counters(folder)
    idle = max(LEAST_SECONDS, deadline.left) * IDLE
    sleep(idle)
    middle = counters(folder)
    began, answers = perf_counter(), 0
    for answers, value in enumerate(cycle(subject.values), start=1):
        subject.answer(value)
        if deadline.over() and perf_counter() - began >= LEAST_SECONDS and answers >= len(subject.values):
            break
    used, seconds = counters(folder).since(middle), perf_counter() - began
    names = ", ".join(sorted(path.name for path in middle.microjoules))
    return report.Energy(f"RAPL {names}", used / answers, used / seconds, middle.since(start) / idle)


def counters(folder: Path = POWERCAP) -> Counters:
    """The counters of all packages. Raises NotMeasured where there is none, or one may not be read."""
    packages = [path for path in sorted(folder.glob("*:*")) if kernel_text(path / "name").startswith("package-")]
    if not packages:
        raise NotMeasured(f"this machine exposes no energy counter of its processor ({folder})")
    texts = {path: kernel_text(path / "energy_uj").strip() for path in packages}
    ranges = {path: kernel_text(path / "max_energy_range_uj").strip() for path in packages}
    hidden = [path for path in packages if not (texts[path].isdecimal() and ranges[path].isdecimal())]
    if hidden:
        raise NotMeasured(f"{hidden[0] / 'energy_uj'} cannot be read: Linux gives it to root alone")
    return Counters({path: int(text) for path, text in texts.items()}, {path: int(ranges[path]) for path in packages})
