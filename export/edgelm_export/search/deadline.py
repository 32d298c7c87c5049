"""When a search has to end: asked between rows, so that what is under way ends as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic


class TimeIsUp(Exception):
    """The minutes of a search are over; what was under way is to be thrown away."""


@dataclass(frozen=True)
class Deadline:
    """The time ``end``, in monotonic seconds; never without one."""

    end: float = math.inf

    @property
    def passed(self) -> bool:
        """Whether the end is over."""
        return monotonic() > self.end

    def check(self) -> None:
        """Raise TimeIsUp after the end."""
        if self.passed:
            raise TimeIsUp
