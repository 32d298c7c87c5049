"""A whole profile: one part after the other, each with its share of the time; what is done stays when it is ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from math import inf
from time import perf_counter
from typing import Any

from ..errors import InputError
from . import advice, ceiling, cold, energy, generation, memory, operators, report, scenarios, steady, throughput
from .fingerprint import clock, look, machine
from .subject import Deadline, Interrupted, NotMeasured, Subject
from .trust import Watched, judge

SECONDS = 30.0


@dataclass(frozen=True)
class ProfileOptions:
    """`seconds` is the time for all that is repeated; what runs once (a few seconds) is beside it.

    `scenarios` are some of `scenarios.NAMES`; `latency_limit`, ms, is the server's, by default four times the 90th
    percentile of the single stream, at least 10. Raises InputError for scenarios or a limit that cannot be.
    """

    seconds: float = SECONDS
    scenarios: Sequence[str] = scenarios.NAMES
    latency_limit: float | None = None

    def __post_init__(self) -> None:
        unknown = set(self.scenarios) - set(scenarios.NAMES)
        if unknown or not self.scenarios:
            raise InputError(f"scenarios are {list(self.scenarios)}, accepted are some of {', '.join(scenarios.NAMES)}")
        limit = self.latency_limit
        if limit is not None and not 0 < limit < inf:
            raise InputError(f"latency_limit is {limit}, accepted are milliseconds above 0, or None for the default")


@dataclass(frozen=True)
class Part:
    """A part of the report: its field's name, what measures it, and its share of the time.

    `given` are the names of ProfileOptions, and of parts before, that it is given besides the subject and a deadline.
    """

    name: str
    measure: Callable[..., Any]
    share: float
    given: tuple[str, ...] = ()


PARTS: Sequence[Part] = (
    Part("cold", cold.measure, 0.1),
    Part("steady", steady.measure, 0.25),
    Part("generation", generation.measure, 0.04),
    Part("scenarios", scenarios.measure, 0.21, ("scenarios", "latency_limit")),
    Part("throughput", throughput.measure, 0.08),
    Part("memory", memory.measure, 0.12),
    Part("energy", energy.measure, 0.02),
    Part("operators", operators.measure, 0.05),
    Part("ceiling", ceiling.measure, 0.05),
    Part("advice", advice.measure, 0.08, ("cold",)),
)


def _again(found: Mapping[str, Any], seconds: float, began: float) -> Iterator[Part]:
    """Steady once more, where its median is not known and the other parts left more time than it had."""
    part = next(part for part in PARTS if part.name == "steady")
    left = 1 - (perf_counter() - began) / seconds
    if found["steady"].rounds.width > steady.NARROW and left > part.share:
        yield replace(part, share=left)


def profile(
    subject: Subject, options: ProfileOptions, seen: Callable[[str], None] = lambda part: None
) -> report.Report:
    """Measure every part; `seen` is told the name of each before it begins.

    Raises what answering a value raises. KeyboardInterrupt ends it: the report then says that it is not complete, and
    where no part was measured until then, it passes through.
    """
    began = perf_counter()
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    watched: list[Watched] = []
    mhz, first, complete = clock(), look(), True
    try:
        for part in chain(PARTS, _again(found, options.seconds, began)):
            seen(part.name)
            before = look()
            try:
                known = {**found, **vars(options)}
                given = {name: known.get(name) for name in part.given}
                found[part.name] = part.measure(subject, Deadline(options.seconds * part.share), **given)
            except NotMeasured as reason:
                found[part.name] = reason.found
                left_out[part.name] = str(reason)
            except Interrupted as end:
                if part.name not in found:
                    found[part.name] = end.found
                    left_out[part.name] = "interrupted"
                raise
            finally:
                watched.append(Watched(part.name, before, look()))
    except KeyboardInterrupt:
        if not any(found.values()):
            raise
        complete = False
        left_out.update({part.name: "interrupted" for part in PARTS if part.name not in {*found, *left_out}})
    whole = Watched("", first, look())
    advised, tried = found.pop("advice", None) or advice.Advised(None, ())
    here = machine(whole.before, whole.after, (mhz, clock()))
    return report.Report(
        schema=report.SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=perf_counter() - began,
        complete=complete,
        subject=subject.facts(),
        machine=here,
        inputs=subject.inputs(),
        **found,
        advice=advised,
        tried=tried,
        trust=judge(whole, watched, here, found.get("steady"), len(subject.values)),
        left_out=tuple(f"{name}: {reason}" for name, reason in left_out.items()),
    )
