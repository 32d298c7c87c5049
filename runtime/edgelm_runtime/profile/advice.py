"""What would be faster here: each piece of advice is a trial on this machine, in turns with what is done now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from ..errors import BundleRejected, DeviceError
from ..goldens import replay
from ..tune import ways
from . import report
from .memory import evenly
from .rounds import pace
from .scenarios import texts
from .subject import Deadline, NotMeasured, Subject

GAIN = 0.05  # of the time: less is not worth a change
# All turns but one have to show a gain: of what changes nothing 1 trial in 28 does.
TURNS, AGAINST = 8, 1
MOST = 32  # texts in a call
READ, WRITTEN = 8, 2  # an encoder answers fewer one by one
LOOKUP = 8  # tokens to propose at a time
FEW = 3  # answers, to see how they end
LONG = 16  # tokens of an answer that is tried at half its length
SLOW = 200.0  # ms to open a session

Ask = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Trial:
    """Another way to have some values answered: what it is, what the user types for it, and how it is done.

    `fewest` of the values are needed; `text` says with {count} how many were taken. One that `loads` the bundle
    otherwise, which `prepared` does and may refuse, excludes the others that do.
    """

    text: str
    change: str
    prepared: Callable[[], Ask]
    values: Sequence[Any]
    fewest: int = 1
    loads: bool = False


class Advised(NamedTuple):
    """Advice, and the change of every trial that was done, whatever it showed."""

    advice: tuple[report.Advice, ...] | None
    tried: tuple[str, ...]


def measure(subject: Subject, deadline: Deadline, *, cold: report.ColdStart | None) -> Advised:
    """Advice with the gain that its trial showed; of several ways to load the bundle the best.

    Raises what answering raises, and NotMeasured, with what was found, where the time was over before all was tried.
    """
    each = pace(subject, deadline)
    found = list(_keeping(cold, 1000 * each))
    best: report.Advice | None = None
    tried, missing = [], []
    for trial in chain(_calls(subject), _writing(subject), _loads(subject)):
        fit = int(deadline.left / each / (2 * TURNS))
        if fit < min(trial.fewest, len(trial.values)):
            missing.append(trial.change)
            continue
        try:
            ask = trial.prepared()
        except (BundleRejected, DeviceError):
            continue
        # Most of those that show nothing end soon: half of the time for each leaves some for all.
        tried.append(trial.change)
        shown = _tried(subject, trial, ask, evenly(trial.values, max(trial.fewest, fit // 2)))
        if shown is None:
            continue
        if not trial.loads:
            found.append(shown)
        elif best is None or shown.after / shown.before < best.after / best.before:
            best = shown
    found += [best] if best is not None else []
    advised = Advised(tuple(found), tuple(tried))
    if missing:
        raise NotMeasured(f"the time is too short to try {', '.join(missing)}", advised)
    return advised


def _tried(subject: Subject, trial: Trial, ask: Ask, values: Sequence[Any]) -> report.Advice | None:
    """What a trial showed: ms a text as it is now and otherwise; None of a gain that is small, or not sure."""

    def one_by_one(values: Sequence[Any]) -> None:
        for value in values:
            subject.answer(value)

    now: list[float] = []
    other: list[float] = []
    against = 0
    while len(now) < TURNS:
        for samples, way in ((now, one_by_one), (other, ask)):
            if trial.loads:
                way(values[:1])  # meanwhile the threads of the other session stop spinning
            subject.forget()
            start = perf_counter()
            way(values)
            samples.append(1000 * (perf_counter() - start) / len(values))
        against += other[-1] >= now[-1]
        if against > AGAINST:
            return None
    before, after = median(now), median(other)
    if after > (1 - GAIN) * before:
        return None
    return report.Advice(trial.text.format(count=len(values)), trial.change, before, after, "ms a text")


def _keeping(cold: report.ColdStart | None, each: float) -> Iterator[report.Advice]:
    """Where opening the session is most of a start: not to start for every text."""
    if cold is None or "session" not in cold.stages:
        return
    session = cold.stages["session"].p50
    if session >= SLOW and session == max(stage.p50 for stage in cold.stages.values()):
        what = f"opening the session takes {session / 1000:.1f} s at load"
        text = f"{what}: keep the model, and load it once for all texts"
        yield report.Advice(text, "model = edgelm.load(...)", cold.total.p50, each, "ms a text")


def _calls(subject: Subject) -> Iterator[Trial]:
    """Many texts in a call."""
    values, fewest = texts(subject, MOST), WRITTEN if subject.generates else READ
    if len(values) >= fewest:
        text = "{count} texts in a call instead of one by one"
        yield Trial(text, "model.batch(texts)", lambda: subject.batch, values, fewest)


def _writing(subject: Subject) -> Iterator[Trial]:
    """Options of a writer: prompt lookup, and shorter answers where the limit cuts them anyway."""
    if not subject.generates:
        return
    options = subject.model.options()
    if options.num_beams == 1:
        tokens = 0 if options.prompt_lookup_num_tokens else LOOKUP
        text, change = "prompt lookup" if tokens else "no prompt lookup", f"--prompt-lookup-num-tokens {tokens}"
        yield Trial(text, change, _asked(subject, prompt_lookup_num_tokens=tokens), subject.values)
    results = [subject.answer(value) for value in evenly(subject.values, FEW)]
    half = int(median(result.tokens // result.windows for result in results)) // 2
    if 2 * half >= LONG and all(result.finish_reason == "length" for result in results):
        text = f"answers of at most {half} tokens: all are cut by their limit now"
        yield Trial(text, f"--max-new-tokens {half}", _asked(subject, max_new_tokens=half), subject.values)


def _loads(subject: Subject) -> Iterator[Trial]:
    """The other variants, devices and numbers of threads that `edgelm tune` tries, and threads that do not spin."""
    engine = subject.model.engine
    now = engine.variant, engine.plan.device, engine.threads
    if engine.threads > 1 and not subject.options.low_priority:
        text = "threads that give way, and sleep between runs instead of spinning"
        prepared = partial(_loaded, subject, {"low_priority": True}, False)
        yield Trial(text, "--low-priority", prepared, subject.values, loads=True)
    for variant, device, threads in ways(subject.bundle):
        changes = []
        if variant != now[0]:
            changes.append((f"the variant {variant.name}", now[0].name, f"--use-variant {variant.name}"))
        if device != now[1]:
            changes.append((f"the device {device}", str(now[1]), f"--device {device}"))
        if threads != now[2]:
            changes.append((f"{threads} thread{'s' if threads > 1 else ''}", str(now[2]), f"--threads {threads}"))
        if not changes:
            continue
        text = ", ".join(f"{new} instead of {old}" for new, old, _ in changes) + "; edgelm tune finds and remembers it"
        options = {"variant": variant.name, "device": str(device), "threads": threads}
        again = (variant, device) != now[:2]
        change = " ".join(flag for _, _, flag in changes)
        yield Trial(text, change, partial(_loaded, subject, options, again), subject.values, loads=True)


def _loaded(subject: Subject, options: Mapping[str, Any], again: bool) -> Ask:
    """How to ask the bundle loaded otherwise, whose golden answers are asked for `again`. Raises what loading raises,
    and BundleRejected where one differs."""
    other = subject.loaded(**options)
    if again:
        replay(other.bundle, other.task, other.model)

    def ask(values: Sequence[Any]) -> None:
        other.forget()
        for value in values:
            other.answer(value)

    return ask


def _asked(subject: Subject, **options: Any) -> Callable[[], Ask]:
    return lambda: lambda values: [subject.model(value, **options) for value in values]
