"""What would be faster here: each piece of advice is a trial on this machine, in turns with what is done now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from ..errors import BundleRejected, DeviceError
from ..goldens import replay
from ..products import products_saturate
from ..tune import ways
from . import report
from .memory import evenly
from .rounds import pace
from .scenarios import texts
from .subject import Deadline, NotMeasured, Subject

GAIN = 0.05  # of the time: less is not worth a change
TURNS = 6  # that all have to show a gain: by chance 1 in 64 trials of what changes nothing does
# Texts in a call: the most that the time is for. An encoder answers fewer one by one, a writer more in parts.
READ, WRITTEN = (32, 16, 8), (8, 4, 2)
LOOKUP = 8  # tokens to propose at a time
LONG = 16  # tokens of an answer that is tried at half its length
SLOW = 200.0  # ms to open a session
_TRIALS = 3  # that are to fit; most of those that show nothing end with their first turn


@dataclass(frozen=True)
class Trial:
    """Another way to have some values answered: what it is, what the user types for it, and how it is done.

    One that `loads` the bundle otherwise excludes the others that do.
    """

    text: str
    change: str
    ask: Callable[[Sequence[Any]], Any]
    values: Sequence[Any]
    loads: bool = False


def measure(subject: Subject, deadline: Deadline, *, cold: report.ColdStart | None) -> tuple[report.Advice, ...]:
    """Advice with the gain that its trial showed; of several ways to load the bundle the best.

    Raises what answering raises, and NotMeasured, with what was found, where the time was over before all was tried.
    """
    each = pace(subject, deadline)
    others = [way for way in ways(subject.bundle) if way != _current(subject)]
    fit = deadline.left / each / (2 * TURNS)
    few = evenly(subject.values, max(1, int(fit / _TRIALS)))
    sizes = WRITTEN if subject.generates else READ
    batch = texts(subject, next((size for size in sizes if size < fit / 2), sizes[-1]))
    found = list(_keeping(cold, 1000 * each))
    best: report.Advice | None = None
    missing = []
    for trial in (*_calls(subject, batch), *_writing(subject, few), *_loads(subject, others, few)):
        if 2 * TURNS * len(trial.values) * each > deadline.left:
            missing.append(trial.text)
            continue
        shown = _tried(subject, trial)
        if shown is None:
            continue
        if not trial.loads:
            found.append(shown)
        elif best is None or shown.after / shown.before < best.after / best.before:
            best = shown
    found += [best] if best is not None else []
    if missing:
        raise NotMeasured(f"the time is too short to try {'; '.join(missing)}", tuple(found))
    return tuple(found)


def _tried(subject: Subject, trial: Trial) -> report.Advice | None:
    """What a trial showed: ms a text as it is now and otherwise; None of a gain that is small, or not in every turn."""

    def one_by_one(values: Sequence[Any]) -> None:
        for value in values:
            subject.answer(value)

    now: list[float] = []
    other: list[float] = []
    while len(now) < TURNS:
        for samples, ask in ((now, one_by_one), (other, trial.ask)):
            if trial.loads:
                ask(trial.values[:1])  # meanwhile the threads of the other session stop spinning
            subject.forget()
            start = perf_counter()
            ask(trial.values)
            samples.append(1000 * (perf_counter() - start) / len(trial.values))
        if other[-1] >= now[-1]:
            return None
    before, after = median(now), median(other)
    return report.Advice(trial.text, trial.change, before, after, "ms a text") if after <= (1 - GAIN) * before else None


def _keeping(cold: report.ColdStart | None, each: float) -> Iterator[report.Advice]:
    """Where opening the session is most of a start: not to start for every text."""
    if cold is None or "session" not in cold.stages:
        return
    session = cold.stages["session"].p50
    if session >= SLOW and session == max(stage.p50 for stage in cold.stages.values()):
        why = "the session optimises its graph for this CPU" if products_saturate() else "opening the session takes"
        text = f"{why} {session / 1000:.1f} s at load: keep the model, and load it once for all texts"
        yield report.Advice(text, "model = edgelm.load(...)", cold.total.p50, each, "ms a text")


def _calls(subject: Subject, values: Sequence[Any]) -> Iterator[Trial]:
    """Many texts in a call."""
    if len(values) > 1:
        text = f"{len(values)} texts in a call instead of one by one"
        yield Trial(text, "model.batch(texts)", subject.batch, values)


def _writing(subject: Subject, values: Sequence[Any]) -> Iterator[Trial]:
    """Options of a writer: prompt lookup, and shorter answers where the limit cuts them anyway."""
    if not subject.generates:
        return
    options = subject.model.options()
    if options.num_beams == 1:
        tokens = 0 if options.prompt_lookup_num_tokens else LOOKUP
        text = "prompt lookup" if tokens else "no prompt lookup"
        yield Trial(
            text, f"--prompt-lookup-num-tokens {tokens}", _asked(subject.model, prompt_lookup_num_tokens=tokens), values
        )
    results = [subject.answer(value) for value in values]
    half = int(median(result.tokens // result.windows for result in results)) // 2
    if 2 * half >= LONG and all(result.finish_reason == "length" for result in results):
        text = f"answers of at most {half} tokens: all are cut by their limit now"
        yield Trial(text, f"--max-new-tokens {half}", _asked(subject.model, max_new_tokens=half), values)


def _loads(subject: Subject, others: Sequence[Any], values: Sequence[Any]) -> Iterator[Trial]:
    """The variants, devices and numbers of threads that `edgelm tune` would try, where they answer their goldens."""
    now = _current(subject)
    for variant, device, threads in others:
        changes = []
        if variant != now[0]:
            changes.append((f"the variant {variant.name}", now[0].name, f"--use-variant {variant.name}"))
        if device != now[1]:
            changes.append((f"the device {device}", str(now[1]), f"--device {device}"))
        if threads != now[2]:
            changes.append((f"{threads} thread{'s' if threads > 1 else ''}", str(now[2]), f"--threads {threads}"))
        try:
            other = subject.loaded(variant=variant.name, device=str(device), threads=threads)
            replay(other.bundle, other.task, other.model)
        except (BundleRejected, DeviceError):
            continue
        text = ", ".join(f"{new} instead of {old}" for new, old, _ in changes) + "; edgelm tune finds and remembers it"
        change = " ".join(flag for _, _, flag in changes)
        yield Trial(text, change, _asked(other.model), values, loads=True)


def _asked(model: Any, **options: Any) -> Callable[[Sequence[Any]], Any]:
    return lambda values: [model(value, **options) for value in values]


def _current(subject: Subject) -> tuple[Any, Any, int]:
    """The variant, device and threads of the subject."""
    engine = subject.model.engine
    return engine.variant, engine.plan.device, engine.threads
