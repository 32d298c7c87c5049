"""The search for a scheme of every layer: least time or most accuracy, of what was measured on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgelm_runtime.errors import InputError

MAX_DROP = 0.3  # points
MINUTES = 10.0


@dataclass(frozen=True)
class Goal:
    """What `--precision auto` is to reach.

    ``max_drop`` points of the metric may be lost, MAX_DROP without one, and the time is made as small as that lets
    it. With ``size_limit`` (MB, the whole bundle) or ``latency_limit`` (ms an answer, or a token of a generator) it is
    the loss that is made as small as they let it. ``report`` is a folder for the table and the chart.
    """

    max_drop: float | None = None
    minutes: float = MINUTES
    best_effort: bool = False
    size_limit: float | None = None
    latency_limit: float | None = None
    report: Path | None = None

    @property
    def limited(self) -> bool:
        """Whether size or latency is given, and the metric is what is optimised."""
        return self.size_limit is not None or self.latency_limit is not None

    @property
    def points(self) -> float:
        """The drop that is accepted: none is asked about under limits."""
        return math.inf if self.limited else MAX_DROP if self.max_drop is None else self.max_drop

    @property
    def most_bytes(self) -> float:
        """The bytes that the bundle may have."""
        return math.inf if self.size_limit is None else 1e6 * self.size_limit

    @property
    def most_ms(self) -> float:
        """The milliseconds that it may take."""
        return math.inf if self.latency_limit is None else self.latency_limit

    @property
    def limits(self) -> str:
        """Those that were given, as they were."""
        given = {"--size-limit": self.size_limit, "--latency-limit": self.latency_limit}
        return " and ".join(f"{name} {value:g}" for name, value in given.items() if value is not None)

    def excess(self, size: float, ms: float) -> float:
        """How many times the limits a bundle is, by the one that it keeps least; above 1 it does not."""
        return max(size / self.most_bytes, ms / self.most_ms)


def check_goal(goal: Goal, precision: str, eval_file: Path | None) -> None:
    """Raise InputError for what contradicts itself, or for an `auto` that has nothing to measure with."""
    if precision != "auto":
        if goal != Goal():
            raise InputError(
                f"--max-drop, --search-minutes, --best-effort, --size-limit, --latency-limit and --report are for "
                f"--precision auto, not for {precision}; leave them out"
            )
        return
    if eval_file is None:
        raise InputError("--precision auto needs --eval FILE: rows with the right answers, to measure the drop on")
    given = {
        "--max-drop": goal.max_drop, "--search-minutes": goal.minutes, "--size-limit": goal.size_limit,
        "--latency-limit": goal.latency_limit,
    }  # fmt: skip
    for name, value in given.items():
        if value is not None and not (0 <= value < math.inf and (value > 0 or name == "--max-drop")):
            raise InputError(f"{name} {value}: accepted is a number above 0{', or 0' * (name == '--max-drop')}")
    if goal.limited and goal.max_drop is not None:
        raise InputError(
            "--max-drop contradicts --size-limit and --latency-limit: with a drop the time is made as small as it can "
            "be, with a limit the drop is; give one of the two"
        )
