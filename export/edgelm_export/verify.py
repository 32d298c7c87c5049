"""A finished bundle, run through edgelm_runtime, against the checkpoint in torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.quantize.calibration import Calibration
from edgelm_export.quantize.ranges import ROOM, Range, Span
from edgelm_export.texts import verification_inputs
from edgelm_runtime.errors import ParityError, UnsupportedCheckpoint
from edgelm_runtime.generate.cache import KVCache
from edgelm_runtime.generate.loop import PREFILL_CHUNK, prefill
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks.probabilities import softmax
from edgelm_runtime.tokenizer import TextTokenizer

Logits = NDArray[np.float32]
GOLDENS = 8
STEPWISE = 8  # prompts that are also read token by token
GOLDEN_TOKENS = 48
CACHED_TOKENS = 8  # of each of their answers, that are also found without the cache


@dataclass(frozen=True)
class Tolerance:
    """How far a bundle may be from the checkpoint: the distance of two answers' probabilities, worst and mean."""

    worst: float
    mean: float


TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(1e-3, 1e-3), "fp16": Tolerance(0.02, 0.005),
    "int8": Tolerance(0.25, 0.06), "int4": Tolerance(0.5, 0.15),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One verification input, the token ids that the model reads for it, and torch's logits."""

    task: str
    text: str
    ids: list[int]
    expected: Logits


@dataclass(frozen=True)
class Parity:
    """Distances of a bundle to its checkpoint over the verification inputs.

    A distance is the total variation of two probability distributions: 0 the same, 1 disjoint. ``agreement`` is the
    share of inputs with the same most probable class or token. ``stepwise`` compares reading a prompt at once with
    reading it token by token; it is 0 for a classifier. ``largest_error`` and ``mean_error`` are absolute differences
    of logits, ``kl`` and ``largest_kl`` the Kullback-Leibler divergence of the bundle from torch, in nats, on average
    and at worst. ``cached`` is the share of greedy tokens, decoded with the key-value cache, that reading all before
    them at once gives as well; 1 for a classifier.
    """

    inputs: int
    worst: float
    mean: float
    agreement: float
    stepwise: float
    worst_input: str
    largest_error: float
    mean_error: float
    kl: float
    largest_kl: float
    cached: float

    def within(self, tolerance: Tolerance) -> bool:
        """Whether every distance is accepted."""
        return max(self.worst, self.stepwise) <= tolerance.worst and self.mean <= tolerance.mean

    def error(self, precision: str) -> ParityError:
        """The refusal, naming the worst input."""
        accepted = TOLERANCES[precision]
        return ParityError(
            f"the {precision} bundle does not answer like the checkpoint: distance {self.worst:.3f} at worst, "
            f"{self.mean:.3f} on average, {self.stepwise:.3f} step by step; accepted are {accepted.worst} and "
            f"{accepted.mean}. Worst input: {self.worst_input[:200]!r}. Nothing was written; try --precision fp32"
        )


def consult(
    checkpoint: Checkpoint, draft: Manifest, calibration: Sequence[str] = ()
) -> tuple[list[Case], dict[str, Range]]:
    """The verification inputs of every served task with torch's answers, and the ranges of its activations.

    ``calibration`` are further texts for the ranges alone. Torch's model is loaded and let go in here.
    """
    from edgelm_export.reference import Reference

    tokenizer = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
    chosen = [(task, text) for task in draft.serves for text in verification_inputs(task, draft.languages)]
    rows = [_ids(tokenizer, draft.prompts.get(task), text) for task, text in chosen]
    further = [_ids(tokenizer, None, text) for text in calibration]
    logits, ranges = Reference(checkpoint).logits_and_ranges([*rows, *further])
    for (_, text), expected in zip(chosen, logits, strict=False):
        if not np.isfinite(expected).all():
            raise UnsupportedCheckpoint(
                f"{checkpoint.folder}: in torch itself its answer to {text[:80]!r} is NaN or infinite; "
                "its weights are broken, train it again with a lower learning rate"
            )
    answered = zip(chosen, rows, logits, strict=False)
    cases = [Case(task, text, ids, expected) for (task, text), ids, expected in answered]
    return cases, ranges


def _ids(tokenizer: TextTokenizer, template: str | None, text: str) -> list[int]:
    limit = tokenizer.spec.max_tokens
    if template is None:
        ids = tokenizer.encode(text)
        return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
    return tokenizer.encode_template(template, text=text)[: limit - 1]


def spans_of(checkpoint: Checkpoint, texts: Sequence[str], method: str) -> Mapping[str, Span]:
    """The spans of the inputs of every linear layer of a classifier over `texts`, by `calibration.METHODS`."""
    from edgelm_export.reference import Reference

    tokenizer = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
    calibration = Calibration(method)
    Reference(checkpoint).watched([_ids(tokenizer, None, text) for text in texts], calibration.collect)
    return calibration.spans()


def measure_parity(folder: Path, cases: Sequence[Case]) -> Parity:
    """Run every case through the runtime and measure its distance to torch."""
    found: list[Logits] = []
    stepwise: list[float] = [0.0]
    cached: list[float] = []
    for task in dict.fromkeys(case.task for case in cases):
        model = load(folder, task=task)
        mine = [case for case in cases if case.task == task]
        if task == "sentiment":
            found += list(model.logits([case.ids for case in mine]))
            continue
        for index, case in enumerate(mine):
            found.append(model.generator.logits(case.ids))
            if index % max(1, len(mine) // STEPWISE) == 0:
                stepwise.append(distance(found[-1], model.generator.logits(case.ids, stepwise=True)))
                cached += _cached(model, case.ids)
    distances = [distance(case.expected, logits) for case, logits in zip(cases, found, strict=True)]
    same = [case.expected.argmax() == logits.argmax() for case, logits in zip(cases, found, strict=True)]
    worst = int(np.argmax(distances))
    errors = [np.abs(case.expected - logits) for case, logits in zip(cases, found, strict=True)]
    divergences = [kl_divergence(case.expected, logits) for case, logits in zip(cases, found, strict=True)]
    return Parity(
        len(cases), max(distances), fmean(distances), fmean(map(float, same)), max(stepwise), cases[worst].text,
        largest_error=float(max(error.max() for error in errors)), mean_error=fmean(float(e.mean()) for e in errors),
        kl=fmean(divergences), largest_kl=max(divergences), cached=fmean(cached or [1.0]),
    )  # fmt: skip


def _cached(model: Any, ids: Sequence[int]) -> list[float]:
    """Of a short greedy answer, decoded with the cache: 1 for each token that a run without it gives, 0 for others."""
    generator, same = model.generator, []
    answer = _generate(model, ids, CACHED_TOKENS, no_repeat_ngram_size=0, repetition_penalty=1.0, temperature=0.0)
    for place, token in enumerate(answer):
        logits = generator.logits([*ids, *answer[:place]])
        logits[generator.suppressed] = -np.inf  # never generated
        same.append(float(logits.argmax() == token))
    return same


def cache_scales(folder: Path, cases: Sequence[Case]) -> dict[str, NDArray[np.float32]]:
    """Scales of an int8 cache, float32 [kv heads * head size] by "{layer}.key|value": what the float32 one held.

    Keys are as they are stored, after their rotation. A little room is left: what is beyond saturates.
    """
    largest: dict[str, NDArray[np.float32]] = {}
    generator = load(folder, task=cases[0].task).generator
    for case in cases:
        cache = KVCache.empty(generator.layout, len(case.ids))
        prefill(generator.runs(cache), np.array(case.ids, np.int64), PREFILL_CHUNK)
        for name, array in cache.arrays.items():
            found = np.abs(array[0]).max(axis=1).ravel()
            largest[name] = np.maximum(found, largest.get(name, found))
    # A channel that was always 0 still needs a scale that can be divided by.
    return {name: (ROOM * np.maximum(found, 1e-6) / 127).astype(np.float32) for name, found in largest.items()}


def distance(left: Logits, right: Logits) -> float:
    """Total variation distance of the probabilities of two rows of logits, in 0..1."""
    return float(0.5 * np.abs(softmax(left) - softmax(right)).sum())


def kl_divergence(reference: Logits, logits: Logits) -> float:
    """Kullback-Leibler divergence of the probabilities of `logits` from the reference's, in nats: 0 is the same."""
    wanted, found = log_softmax(reference), log_softmax(logits)
    return max(0.0, float((np.exp(wanted) * (wanted - found)).sum()))


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Logarithms of probabilities, in float64, which rounds none to 0."""
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def make_goldens(folder: Path, cases: Sequence[Case]) -> bytes:
    """golden.json: a few inputs of every task with this bundle's own answers, for `edgelm verify` to replay."""
    goldens: dict[str, list[dict[str, Any]]] = {}
    for task in dict.fromkeys(case.task for case in cases):
        model = load(folder, task=task)
        mine = [case for case in cases if case.task == task]
        mine = steady(model, mine) if task == "sentiment" else [case for case in mine if fits(model, case.text)]
        for text in [case.text for case in mine[:: max(1, len(mine) // GOLDENS)][:GOLDENS]]:
            if task == "sentiment":
                result = model(text)
                entry = {"text": text, "label": result.label, "scores": dict(result.scores)}
                goldens.setdefault("classification", []).append(entry)
            else:
                ids = model.infer(model.tokenize(text), max_new_tokens=GOLDEN_TOKENS, temperature=0.0)
                entry = {
                    "task": task, "text": text, "answer": model.decode(ids), "ids": ids,
                    "max_new_tokens": GOLDEN_TOKENS,
                }  # fmt: skip
                goldens.setdefault("generation", []).append(entry)
    return json.dumps(goldens, ensure_ascii=False).encode()


def steady(model: Any, cases: Sequence[Case]) -> list[Case]:
    """The half of `cases` whose answers rounding moves least: other CPUs round otherwise, and must still pass."""
    logits = model.logits([case.ids for case in cases])
    distances = [distance(case.expected, found) for case, found in zip(cases, logits, strict=True)]
    return [case for case, moved in zip(cases, distances, strict=True) if moved <= median(distances)]


def fits(model: Any, text: str) -> bool:
    """Whether a generator reads ``text`` in one pass and has a quarter of its context left for the answer."""
    return len(model.tokenize(text)) <= model.context - model.context // 4


def measure_latency(folder: Path, cases: Sequence[Case]) -> dict[str, float]:
    """Median milliseconds of a whole answer (a classifier), or of one token (a generator), on this machine."""
    case = sorted(cases, key=lambda case: len(case.ids))[len(cases) // 2]
    model = load(folder, task=case.task)
    if case.task == "sentiment":
        return {"answer_ms": _median_ms(lambda: model(case.text), 20), "tokens": float(len(case.ids))}
    tokens = 32
    model.generator.prefixes.limit_bytes = 0  # the same prompt again and again is to be read each time
    return {
        "first_token_ms": _median_ms(lambda: _generate(model, case.ids, 1), 5),
        "token_ms": _median_ms(lambda: _generate(model, case.ids, tokens), 5) / tokens,
    }


def _generate(model: Any, ids: Sequence[int], tokens: int, **options: Any) -> list[int]:
    tokens = min(tokens, model.context - len(ids))
    return list(model.stream_ids(ids, max_new_tokens=tokens, ignore_eos=True, prompt_lookup_num_tokens=0, **options))


def _median_ms(work: Callable[[], object], times: int) -> float:
    work()
    spent = []
    for _ in range(times):
        start = perf_counter()
        work()
        spent.append(1000.0 * (perf_counter() - start))
    return median(spent)
