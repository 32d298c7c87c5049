"""What the measurements share: rounds in turns, processes with their peak memory, a table, one JSON line at the end.

This process imports the standard library only, as long as it measures others: Linux counts the memory of the process
that starts a child towards the child's peak.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any, TypeVar

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.machine import cpu_name, isa_flags, usable_cores

ROOT = Path(__file__).parent.parent
TINY = {
    "sentiment": ROOT / "tests" / "data" / "tiny-classifier",
    "summary": ROOT / "tests" / "data" / "tiny-generator",
    "description": ROOT / "tests" / "data" / "tiny-generator",
}
PACKAGES = ("edgelm", "numpy", "onnxruntime", "tokenizers")

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One measured quantity: its samples, the goal it has (`at_most` or `at_least`), and its ceiling."""

    name: str
    unit: str
    samples: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None
    ceiling: float | None = None

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile: half of the samples lie between them."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        first, _, third = quantiles(self.samples, n=4, method="inclusive")
        return first, third

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None where there is no goal."""
        if self.at_most is not None:
            return self.median <= self.at_most
        return None if self.at_least is None else self.median >= self.at_least

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "quartiles": list(self.spread),
            "rounds": len(self.samples),
            "at_most": self.at_most,
            "at_least": self.at_least,
            "ceiling": self.ceiling,
            "met": self.met,
        }

    def cells(self) -> list[str]:
        low, high = map(number, self.spread)
        goal = "" if self.at_most is None else f"<= {number(self.at_most)}"
        goal = goal if self.at_least is None else f">= {number(self.at_least)}"
        ceiling = "" if self.ceiling is None else number(self.ceiling)
        met = {None: "", True: "yes", False: "NO"}[self.met]
        return [self.name, number(self.median), f"{low} .. {high}", self.unit, ceiling, goal, met]


HEADER = ["what", "median", "quartiles", "unit", "ceiling", "goal", "met"]


@dataclass
class Report:
    """The result of one measurement: printed as a table, then as one JSON line."""

    benchmark: str
    smoke: bool
    excludes: str
    facts: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)  # in the JSON line only
    skipped: str = ""

    def add(self, *figures: Figure) -> None:
        """Take figures; those of a smoke run are held against no goal."""
        self.figures += [replace(figure, at_most=None, at_least=None) if self.smoke else figure for figure in figures]

    def print(self) -> None:
        kind = " (smoke: the figures mean nothing)" if self.smoke else ""
        print(f"{self.benchmark}{kind}\n  excluded: {self.excludes}")
        for name, value in self.facts.items():
            print(f"  {name}: {value}")
        if self.skipped:
            print(f"  skipped: {self.skipped}")
        else:
            print(table([HEADER, *(figure.cells() for figure in self.figures)]))
        print(json.dumps(self.to_dict(), ensure_ascii=False), flush=True)

    def to_dict(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "smoke": self.smoke,
            "skipped": self.skipped,
            "date": datetime.now(UTC).date().isoformat(),
            "command": command_line(),
            "machine": machine(),
            "facts": self.facts,
            "figures": [figure.to_dict() for figure in self.figures],
            "details": self.details,
        }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the left, a line below the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    return {
        "cpu": cpu_name(),
        "isa": list(isa_flags()),
        "usable_cores": usable_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def command_line() -> str:
    """How this process was called; of a path that is nobody else's, its name."""
    return " ".join(["python", *(Path(word).name if Path(word).is_absolute() else word for word in sys.orig_argv[1:])])


def arguments(
    description: str, *, rounds: int, smoke_rounds: int = 2, shapes: Sequence[str] = (),
    paths: Mapping[str, str] | None = None,
) -> argparse.Namespace:  # fmt: skip
    """The options of every measurement: `--smoke`, `--rounds N`, `--bundle FOLDER`; and `paths` with their help.

    With `shapes` also `--shape`, the first by default, and `--work FOLDER` for what is large.
    """
    parser = argparse.ArgumentParser(description=description)
    if shapes:
        parser.add_argument("--shape", choices=shapes, default=shapes[0], help=f"default: {shapes[0]}")
        parser.add_argument("--work", type=Path, help="where checkpoints are made; default: the system's own folder")
    parser.add_argument("--smoke", action="store_true", help="tiny models and few rounds: shows that it runs")
    parser.add_argument("--rounds", type=int, help=f"default: {rounds}")
    parser.add_argument("--bundle", type=Path, help="a bundle's folder, in place of the default one")
    for name, meaning in (paths or {}).items():
        parser.add_argument(name, type=Path, help=meaning)
    given = parser.parse_args()
    if given.rounds is None:
        given.rounds = smoke_rounds if given.smoke else rounds
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    return given


def bundle_for(task: str, given: argparse.Namespace) -> Path | None:
    """The folder asked for, the tiny bundle for a smoke run, else None: the default bundles."""
    if given.bundle is not None:
        return Path(given.bundle)
    return TINY[task] if given.smoke else None


def bundle_options(folder: Path | None) -> list[str]:
    """The same as options of `edgelm run`."""
    return [] if folder is None else ["--bundle", str(folder)]


def graph_bytes(folder: Path) -> int:
    """Size of the graph that a bundle's first variant has."""
    return open_bundle(folder, verify="lazy").manifest.variants[0].size


@dataclass(frozen=True)
class Process:
    """A process that has ended: wall-clock seconds, peak resident bytes (0 where the system does not tell)."""

    seconds: float
    peak_bytes: int


def edgelm_command(*arguments: str) -> list[str]:
    """The installed command, as a user has it."""
    script = Path(sys.executable).with_name("edgelm.exe" if os.name == "nt" else "edgelm")
    return [*([str(script)] if script.is_file() else [sys.executable, "-m", "edgelm"]), *arguments]


def run_process(command: Sequence[str], extra: Mapping[str, str] | None = None) -> Process:
    """Run a command to its end, its stdout thrown away. Ends the measurement with its stderr if it fails."""
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", **(extra or {})}
    with tempfile.TemporaryFile() as errors:
        start = perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        code, peak = _wait(child)
        seconds = perf_counter() - start
        if code != 0:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}: exit code {code}\n{errors.read().decode(errors='replace')}")
    return Process(seconds, peak)


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    if not hasattr(os, "wait4"):
        return child.wait(), 0
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return child.returncode, usage.ru_maxrss * unit


def in_turns(rounds: int, *works: Callable[[], T]) -> list[list[T]]:
    """Call the works one after the other, `rounds` times, after one round that does not count.

    Every second round goes backwards, so that what a work leaves behind does not always meet the same one.
    """
    for work in works:
        work()
    results: list[list[T]] = [[] for _ in works]
    for number in range(rounds):
        order = range(len(works)) if number % 2 == 0 else reversed(range(len(works)))
        for index in order:
            results[index].append(works[index]())
    return results


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def megabytes(count: float) -> float:
    return count / 1e6


def number(value: float) -> str:
    """Three significant digits, and all digits before the point."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"
