"""Answers one after the other, until the median is known or the time is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from time import perf_counter
from typing import Any

from . import report
from .rounds import that_fit
from .subject import Deadline, Interrupted, Subject
from .summary import Summary, histogram, summarize

NARROW = 0.05  # of the median: an interval below this is known well enough
MIN_ROUNDS, WARM_UP = 10, 1
MIN_ANSWERS = 100  # the 99th percentile of fewer is their largest
MIN_SECONDS = 0.5  # tiny models answer so often before the system has given the core to anyone else


def measure(subject: Subject, deadline: Deadline) -> report.Steady:
    """Whole rounds over the values, so that every one counts the same: at least one; MIN_ROUNDS, MIN_ANSWERS
    and MIN_SECONDS where time allows.

    Where not even one round of all values fits, the rounds are of fewer, taken evenly: another mix of texts is another
    figure, so few rounds of all are better than many of some. Percentiles are of all answers.

    The texts differ, so the plain interval of the median would be as wide as their mix however often they are answered;
    the samples of this one are whole rounds, which differ by noise alone. Once it is narrow the measurement ends.
    Raises what answering raises, and Interrupted with the whole rounds until then.
    """
    values = that_fit(subject, deadline, 1 + WARM_UP)
    for _ in range(WARM_UP):
        for value in values:
            if not deadline.over():
                subject.answer(value)
    rounds: list[_Round] = []
    began, look_at = perf_counter(), MIN_ROUNDS
    try:
        while not (rounds and deadline.over()):
            if len(rounds) >= look_at:
                if _enough(rounds, perf_counter() - began):
                    break
                look_at += look_at // 10  # looking takes time too
            rounds.append(_round(subject, values))
    except KeyboardInterrupt as end:
        if rounds:
            raise Interrupted(_found(rounds)) from end
        raise
    return _found(rounds)


@dataclass(frozen=True)
class _Round:
    """An answer to every value: milliseconds of each, and of its stages."""

    totals: list[float]
    stages: list[Mapping[str, float]]

    @property
    def mean(self) -> float:
        return fmean(self.totals)


def _round(subject: Subject, values: Sequence[Any]) -> _Round:
    found = _Round([], [])
    subject.forget()
    for value in values:
        start = perf_counter()
        result = subject.answer(value)
        found.totals.append(1000 * (perf_counter() - start))
        found.stages.append(result.timings)
    return found


def _found(every: Sequence[_Round]) -> report.Steady:
    totals = [ms for one in every for ms in one.totals]
    stages = [timings for one in every for timings in one.stages]
    texts, rounds = len(every[0].totals), [one.mean for one in every]
    return report.Steady(
        stages={name: _summary(samples, texts) for name, samples in _by_stage(stages).items()},
        total=_summary(totals, texts),
        latencies=histogram(totals),
        rounds=summarize(rounds),
        texts=texts,
        drift=_drift(rounds),
    )


def _enough(rounds: Sequence[_Round], seconds: float) -> bool:
    """Whether the median is known."""
    answers = len(rounds) * len(rounds[0].totals)
    return answers >= MIN_ANSWERS and seconds >= MIN_SECONDS and summarize([one.mean for one in rounds]).width < NARROW


def _rounds(samples: Sequence[float], size: int) -> list[float]:
    """The mean of each round."""
    return [fmean(samples[start : start + size]) for start in range(0, len(samples), size)]


def _summary(samples: Sequence[float], size: int) -> Summary:
    """Percentiles of the answers, with the interval of whole rounds around the median."""
    found, rounds = summarize(samples), summarize(_rounds(samples, size))
    scale = found.p50 / rounds.p50 if rounds.p50 else 1.0
    return replace(found, low=scale * rounds.low, high=scale * rounds.high)


def _drift(rounds: Sequence[float]) -> float:
    """The median of the second half against the first's, less 1; 0 of a single round."""
    half = len(rounds) // 2
    return median(rounds[-half:]) / median(rounds[:half]) - 1 if half else 0.0


def _by_stage(timings: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The stages of the total; of a text, by what was done and not by tokens read and written: once is enough."""
    others = {"total", "time_to_first_token", *(("prefill", "decode") if "sample" in timings[0] else ())}
    names = [name for name in timings[0] if name not in others]
    return {name: [one.get(name, 0.0) for one in timings] for name in names}
