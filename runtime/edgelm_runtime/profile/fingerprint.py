"""What this machine is, and what its kernel counts: others' load, clocks, heat, stolen and forbidden time."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from ..machine import control_groups, cpu_name, isa_flags, kernel_text, memory_bytes, usable_cores
from . import report

_PROC = Path("/proc")
_SYS = Path("/sys")
_BUSY, _STEAL = (0, 1, 2, 5, 6), 7  # of a line of /proc/stat: user, nice, system, irq, softirq; proc_stat(5)
_SPIN = 0.02  # seconds: governors look at the load every few milliseconds


@dataclass(frozen=True)
class Look:
    """The kernel's counters at one moment, since the machine began; None where it does not tell.

    `at` and `own` are seconds of wall clock, and of CPU that this process and its ended children took. `busy` and
    `stolen` are CPU seconds of the `processors` that this process may use. `stopped` are seconds in which a control
    group had used up its quota, `throttles` how often heat slowed a core.
    """

    at: float
    own: float
    processors: int
    busy: float | None
    stolen: float | None
    stopped: float | None
    throttles: int | None


def look(proc: Path = _PROC, sys: Path = _SYS) -> Look:
    """The counters of now; a few file reads."""
    processors = _processors()
    times = _cpu_times(proc, processors)
    spent = os.times()
    return Look(
        at=perf_counter(),
        own=spent.user + spent.system + spent.children_user + spent.children_system,
        processors=len(processors),
        busy=None if times is None else sum(times[index] for index in _BUSY),
        stolen=None if times is None else times[_STEAL],
        stopped=_stopped(proc, sys / "fs" / "cgroup"),
        throttles=_throttles(sys),
    )


def clock(proc: Path = _PROC, sys: Path = _SYS) -> float | None:
    """MHz of the fastest usable core while one is busy: what it is in idleness says nothing. None where unknown."""
    start = perf_counter()
    while perf_counter() - start < _SPIN:
        pass
    return _mhz(proc, sys, _processors())


def machine(first: Look, last: Look, clocks: Sequence[float | None] = (), sys: Path = _SYS) -> report.Machine:
    """What the profile ran on, between two looks at it; `clocks` are those of the beginning and of the end."""
    throttled = None
    if first.throttles is not None and last.throttles is not None:
        throttled = last.throttles > first.throttles
    return report.Machine(
        cpu=_cpu(),
        isa=isa_flags(),
        cores=usable_cores(),
        memory=memory_bytes(),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        governor=_governor(sys, _processors()),
        mhz=tuple(mhz for mhz in clocks if mhz is not None),
        throttled=throttled,
    )


def _cpu() -> str:
    """The kernel's name for it; on other systems than Linux the less exact one of Python."""
    name = cpu_name()
    return name if name != "unknown" else platform.processor() or name


def _processors() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _cpu_times(proc: Path, processors: set[int]) -> list[float] | None:
    """Seconds by kind that these processors spent; of all of them where a container numbers them otherwise."""
    text = kernel_text(proc / "stat")
    lines: dict[str, str] = dict(re.findall(r"^cpu(\d*) +([\d ]+)$", text, re.MULTILINE))
    chosen = [lines[str(number)] for number in processors if str(number) in lines] or [lines.get("", "")]
    rows = [[int(field) for field in line.split()] for line in chosen]
    if not all(len(row) > _STEAL for row in rows):
        return None
    return [sum(column) / os.sysconf("SC_CLK_TCK") for column in zip(*rows, strict=False)]


def _stopped(proc: Path, cgroup: Path) -> float | None:
    """Of all control groups around this process the one that was stopped the longest."""
    seconds = []
    for folder, _ in control_groups(proc, cgroup, "cpu"):
        text = kernel_text(folder / "cpu.stat")
        for unit, value in re.findall(r"^throttled_(usec|time) (\d+)$", text, re.MULTILINE):
            seconds.append(int(value) / (1e6 if unit == "usec" else 1e9))
    return max(seconds, default=None)


def _mhz(proc: Path, sys: Path, processors: set[int]) -> float | None:
    """The clock of the fastest usable core: the others may idle."""
    texts = [kernel_text(_frequency(sys, number) / "scaling_cur_freq").strip() for number in processors]
    found = [int(text) / 1000 for text in texts if text.isdecimal()]
    if not found:
        text = kernel_text(proc / "cpuinfo")
        found = [float(value) for value in re.findall(r"^cpu MHz\s*: (\d+\.?\d*)$", text, re.MULTILINE)]
    return max(found, default=0.0) or None


def _governor(sys: Path, processors: set[int]) -> str:
    texts = {kernel_text(_frequency(sys, number) / "scaling_governor").strip() for number in processors}
    return ", ".join(sorted(texts - {""}))


def _frequency(sys: Path, number: int) -> Path:
    return sys / "devices" / "system" / "cpu" / f"cpu{number}" / "cpufreq"


def _throttles(sys: Path) -> int | None:
    """Events of all cores and packages; a package's are counted once for each of its cores, which does not matter."""
    files = (sys / "devices" / "system" / "cpu").glob("cpu*/thermal_throttle/*_throttle_count")
    counts = [text for text in (kernel_text(path).strip() for path in files) if text.isdecimal()]
    return sum(map(int, counts)) if counts else None
