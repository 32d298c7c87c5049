"""The fastest way to run a bundle here: every variant, device and number of threads, measured on its goldens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from . import memory, providers
from .bundle import Bundle
from .device import CPU, Device, parse_device, runs_here
from .errors import BundleRejected, DeviceError
from .goldens import golden_inputs, replay
from .loader import known_tasks
from .machine import default_threads, usable_cores
from .manifest import Variant
from .placement import LoadOptions
from .tasks.reading import Text
from .verify import made
from .visible import visible

ROUNDS = 5
# A faster choice has to be this much faster: less is noise, and the first candidate is the one that needs no memory.
MARGIN = 0.97
TOKENS = 16


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle: milliseconds for all golden inputs, the median of a few rounds, or why it is refused.

    `texts` is how many inputs that are, 0 where it is refused.
    """

    variant: str
    device: str
    threads: int
    ms: float | None
    refused: str
    texts: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Tuning:
    """What was measured, the choice, and the file that remembers it; None with the `problem` that kept it from that."""

    bundle: str
    candidates: Sequence[Candidate]
    choice: memory.Choice
    file: Path | None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        measured = [candidate.to_dict() for candidate in self.candidates]
        return {
            "bundle": self.bundle,
            "choice": asdict(self.choice),
            "file": None if self.file is None else str(self.file),
            "problem": self.problem,
            "candidates": measured,
        }

    def table(self) -> str:
        """The candidates for a person, the choice marked."""
        texts = max(one.texts for one in self.candidates)
        lines = [f"{visible(self.bundle)}: {len(self.candidates)} ways to run it; ms for all golden texts ({texts})"]
        for one in self.candidates:
            chosen = (one.variant, one.device, one.threads) == tuple(asdict(self.choice).values())
            result = one.refused if one.ms is None else f"{one.ms:.2f} ms"
            mark = "*" if chosen else " "
            lines.append(
                f"{mark} {visible(one.variant):<14} {one.device:<14} {one.threads} threads  {' '.join(result.split())}"
            )
        last = self.problem if self.file is None else f"remembered in {self.file}; --device auto uses it"
        return "\n".join([*lines, last])


def tune(bundle: Bundle, seen: Callable[[Candidate], None] = lambda candidate: None) -> Tuning:
    """Measure every candidate, refuse those that answer otherwise than the goldens, and remember the fastest.

    `seen` is given each candidate once it is measured. Raises BundleRejected where none answers as it should, or where
    this runtime has none of the bundle's tasks, and DeviceError where none runs. Where the choice cannot be written
    down the result says why.
    """
    known_tasks(bundle)
    candidates = []
    for variant, device, threads in ways(bundle):
        candidate = _measure(bundle, LoadOptions(str(device), variant.name, threads))
        seen(candidate)
        candidates.append(candidate)
    timed = [(one.ms, one) for one in candidates if one.ms is not None]
    if not timed:
        raise BundleRejected(
            f"no variant of {bundle.manifest.name} answers on this machine as it did where it was made:\n"
            + "\n".join(f"  {one.variant} on {one.device}: {one.refused}" for one in candidates),
            what="goldens",
        )
    best_ms, best = timed[0]
    for ms, one in timed[1:]:
        if ms < best_ms * MARGIN:
            best_ms, best = ms, one
    choice = memory.Choice(best.variant, best.device, best.threads)
    try:
        file = memory.remember(bundle, choice, [one.to_dict() for one in candidates])
    except (OSError, RuntimeError) as error:
        problem = (
            f"not remembered: {error}; set {memory.HOME_VARIABLE} to a folder that can be written, for this command "
            "and for the program that answers, or give the program this choice itself (variant, threads)"
        )
        return Tuning(bundle.manifest.name, candidates, choice, None, problem)
    return Tuning(bundle.manifest.name, candidates, choice, file)


def ways(bundle: Bundle) -> Iterator[tuple[Variant, Device, int]]:
    """Variants, devices and numbers of threads that may be tried here: the default first."""
    usable = [parse_device(found.device) for found in providers.survey() if not found.problem]
    for device in filter(None, usable):
        for variant in bundle.manifest.variants:
            if runs_here(variant, device):
                for threads in thread_counts() if device == CPU else [default_threads()]:
                    yield variant, device, threads


def thread_counts() -> list[int]:
    """Numbers of threads to try on the CPU: the default first, then the powers of two up to the usable cores."""
    cores = usable_cores()
    powers = [1 << exponent for exponent in range(cores.bit_length()) if 1 << exponent <= cores]
    return list(dict.fromkeys([default_threads(), *powers, cores]))


def _measure(bundle: Bundle, options: LoadOptions) -> Candidate:
    name, threads = str(options.variant), options.threads or 1
    try:
        models = {task: made(bundle, task, options) for task in known_tasks(bundle)}
        for task, model in models.items():
            replay(bundle, task, model)
        inputs = {task: golden_inputs(bundle, task, model) for task, model in models.items()}
        ms = sum(_milliseconds(model, inputs[task]) for task, model in models.items())
    except (BundleRejected, DeviceError) as error:
        return Candidate(name, options.device, threads, None, str(error))
    return Candidate(name, options.device, threads, ms, "", sum(map(len, inputs.values())))


def _milliseconds(model: Any, texts: Sequence[Text]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        start = perf_counter()
        for text in texts:
            _answer(model, text)
        rounds.append(1000 * (perf_counter() - start))
    return median(rounds)


def _answer(model: Any, text: Text) -> None:
    if hasattr(model, "generator"):
        model(text, temperature=0.0, max_new_tokens=TOKENS)
    else:
        model(text)
