"""Whether the numbers of a profile are to be trusted: what disturbed the machine, and how sure the median is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import report, steady
from .fingerprint import Look

VALID, NOISY = "VALID", "NOISY"
LOAD = 0.10  # of the usable cores, taken by others
STOLEN = 0.03  # of the CPU time that was asked for
STOPPED = 0.03  # of the time of the usable cores
CLOCK = 0.10  # of the clock at the beginning
DRIFT = 0.05
FEWEST_ROUNDS = 6  # below, the interval is no more than the range
_TICK, _LONG_ENOUGH = 0.01, 0.5  # seconds: what the kernel counts in, and what is long beside it


@dataclass(frozen=True)
class Watched:
    """A part of the profile between two looks at the machine."""

    part: str
    before: Look
    after: Look

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.after.at - self.before.at

    def load(self, cores: int) -> float | None:
        """The part of the usable cores that others took.

        Where a quota leaves fewer cores than there are processors, others first take those that nobody may use.
        """
        if self.before.busy is None or self.after.busy is None or not self.seconds:
            return None
        others = (self.after.busy - self.before.busy) - (self.after.own - self.before.own)
        taken = others / self.seconds - (self.after.processors - cores)
        return min(1.0, max(0.0, taken / cores))


def judge(
    whole: Watched, parts: Sequence[Watched], machine: report.Machine, found: report.Steady | None, texts: int
) -> report.Trust:
    """The verdict over all parts; `found` is None where nothing was answered, `texts` is how many there are."""
    reasons = (*_disturbed(whole, parts, machine), *_unsure(found))
    return report.Trust(
        verdict=NOISY if reasons else VALID,
        reasons=reasons,
        excluded=tuple(_excluded(found, texts)),
        load=whole.load(machine.cores),
        width=None if found is None else found.rounds.width,
    )


def _disturbed(whole: Watched, parts: Sequence[Watched], machine: report.Machine) -> Iterator[str]:
    """What happened to the machine meanwhile."""
    cores = machine.cores
    long = [part for part in parts if part.seconds >= _LONG_ENOUGH]
    loads = {part.part: part.load(cores) or 0.0 for part in long}
    load, worst = whole.load(cores) or 0.0, max(loads, key=lambda name: loads[name], default="")
    if max([load, *loads.values()]) > LOAD:
        where = f", during {worst} {loads[worst]:.0%}" if worst else ""
        yield f"other programs took {load:.0%} of the {cores} usable cores{where} (accepted: {LOAD:.0%})"
    before, after = whole.before, whole.after
    stolen = _rise(before.stolen, after.stolen)
    share = stolen / max(stolen + _rise(before.busy, after.busy), _TICK)
    if share > STOLEN:
        yield f"the host of this virtual machine took {share:.0%} of its CPU time (accepted: {STOLEN:.0%})"
    share = _rise(before.stopped, after.stopped) / max(whole.seconds * cores, _TICK)
    if share > STOPPED:
        yield f"the CPU quota of a control group stopped programs for {share:.0%} of the time; give fewer --threads"
    if machine.mhz and abs(machine.mhz[-1] / machine.mhz[0] - 1) > CLOCK:
        yield f"the clock went from {machine.mhz[0]:,.0f} to {machine.mhz[-1]:,.0f} MHz (accepted: {CLOCK:.0%})"
    if machine.throttled:
        yield f"heat slowed the processor {_rise(before.throttles, after.throttles):.0f} times"


def _rise(before: float | None, after: float | None) -> float:
    """How much a counter went up; 0 where the system does not tell."""
    return 0.0 if before is None or after is None else after - before


def _unsure(found: report.Steady | None) -> Iterator[str]:
    """What is wrong with the answers themselves."""
    if found is None:
        yield "no answers were measured one after the other"
        return
    rounds = found.rounds
    if rounds.count < FEWEST_ROUNDS:
        yield f"too few runs: {rounds.count} of each text (at least {FEWEST_ROUNDS}); give more --seconds"
    if rounds.width > steady.NARROW:
        yield (
            f"the 95 % interval of the median is {rounds.width:.1%} wide after {rounds.count} rounds "
            f"(accepted: {steady.NARROW:.0%}); give more --seconds"
        )
    if abs(found.drift) > DRIFT:
        change = f"{abs(found.drift):.0%} {'slower' if found.drift > 0 else 'faster'}"
        yield f"answers became {change} from the first half to the second (accepted: {DRIFT:.0%})"


def _excluded(found: report.Steady | None, texts: int) -> Iterator[str]:
    """What does not count."""
    yield "the first answers to every text, which warm up"
    yield "reading the bundle from the disk: its files are in the system's cache, also in cold starts"
    yield "what a program does besides edgelm: reading its input, the command line, printing"
    yield "of memory's growth the first half of the answers: buffers settle for the first thousands, so it may end"
    if found is not None:
        if found.texts < texts:
            yield f"{texts - found.texts} of {texts} texts, for which the time was too short; give more --seconds"
        if found.texts > 1:
            yield f"that texts differ, in the interval of the median: it is of means over all {found.texts} texts"
