"""A finished bundle, run through edgelm_runtime, against the checkpoint in torch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.evaluation import Each, nothing
from edgelm_export.problems import Problem, distance, problem_of
from edgelm_export.quantize.calibration import Calibration
from edgelm_export.quantize.ranges import ROOM, Range, Span
from edgelm_export.reference import Reference
from edgelm_export.texts import paired, verification_inputs
from edgelm_export.tolerance import TOLERANCES, Tolerance
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import ParityError, UnsupportedCheckpoint
from edgelm_runtime.generate.cache import KVCache
from edgelm_runtime.generate.loop import PREFILL_CHUNK, prefill
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks import ENCODERS
from edgelm_runtime.tasks.reading import Text
from edgelm_runtime.tasks.rows import Row
from edgelm_runtime.tokenizer import TextTokenizer

Logits = NDArray[np.float32]
STEPWISE = 8  # prompts that are also read token by token
BEGINNING_TOKENS = 16  # of the answers of a sequence-to-sequence model, that its logits are compared after
ANSWER_TOKENS = 32  # of an answer that is timed
CACHED_TOKENS = 8  # of each of their answers, that are also found without the cache


@dataclass(frozen=True)
class Case:
    """One verification input, the token ids that the model reads for it, and torch's output.

    ``type_ids`` are the segments of a pair's tokens. The logits of a sequence-to-sequence model follow ``answer``, the
    beginning of torch's own.
    """

    task: str
    text: Text
    ids: list[int]
    expected: Logits
    type_ids: list[int] | None = None
    answer: Sequence[int] = ()


@dataclass(frozen=True)
class Parity:
    """Distances of a bundle to its checkpoint over the verification inputs.

    A distance is the total variation of two probability distributions: 0 the same, 1 disjoint; what it is for numbers
    and vectors is in ``problems``. ``agreement`` is the share of inputs with the same most probable class or token, or
    with the same labels, numbers or direction. ``stepwise`` compares reading a prompt at once with
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
    checkpoint: Checkpoint, draft: Manifest, calibration: Sequence[str] = (),
    inputs: Sequence[tuple[str, Text]] | None = None, reference: Reference | None = None,
) -> tuple[list[Case], dict[str, Range]]:  # fmt: skip
    """The verification inputs of every served task with torch's answers, and the ranges of its activations.

    ``calibration`` are further texts for the ranges alone; ``inputs``, as (task, text), stand for edgelm's own. Torch's
    model is loaded and let go in here, unless ``reference`` has it.
    """
    from edgelm_export.graph_reference import reference_of

    tokenizer = TextTokenizer(checkpoint.tokenizer_json, draft.tokenizer, draft.prompts.values())
    if inputs is None:
        inputs = [(task, text) for task in draft.serves for text in verification_inputs(task, draft.languages)]
    pairs = checkpoint.wanted.pairs
    chosen = [(task, paired(text) if pairs and isinstance(text, str) else text) for task, text in inputs]
    encodes = checkpoint.decoder is not None
    behind = draft.embedding.prompt if draft.embedding is not None else ""
    read = [(task, f"{behind}{text}" if behind else text) for task, text in chosen]
    rows = [row_of(tokenizer, draft.prompts.get(task), text, encodes=encodes) for task, text in read]
    further = [row_of(tokenizer, None, paired(text) if pairs else behind + text) for text in calibration]
    reference = reference or reference_of(checkpoint)
    begun = reference.begun(rows, tokenizer.spec.eos_ids, BEGINNING_TOKENS) if encodes else []
    outputs, ranges = reference.logits_and_ranges([*(begun or rows), *further])
    del reference
    gc.collect()  # layers that are widened hold themselves, and with them a mapping of the whole file
    for (_, text), expected in zip(chosen, outputs, strict=False):
        if not np.isfinite(expected).all():
            raise UnsupportedCheckpoint(
                f"{checkpoint.folder}: in torch itself its answer to {str(text)[:80]!r} is NaN or infinite; "
                "its weights are broken, train it again with a lower learning rate"
            )
    answered = zip(chosen, rows, outputs, strict=False)
    cases = [Case(task, text, row.ids, expected, row.type_ids) for (task, text), row, expected in answered]
    if encodes:
        cases = [replace(case, answer=each.answer) for case, each in zip(cases, begun, strict=True)]
    return cases, ranges


def row_of(tokenizer: TextTokenizer, template: str | None, text: Text, *, encodes: bool = False) -> Row:
    """The tokens that a model reads for a text, a pair, or a text in a prompt; cut to the context.

    With ``encodes`` it is an encoder that reads the prompt.
    """
    limit = tokenizer.spec.max_tokens
    if template is not None:
        ids = tokenizer.encode_prompt(template, str(text), encoder=encodes)
        most, end = (limit, ids[-1:]) if encodes else (limit - 1, [])
        ids = ids if len(ids) <= most else [*ids[: most - len(end)], *end]
        return Row(ids, [0] * len(ids))
    before, own = (text[0], text[1]) if isinstance(text, tuple) else (None, str(text))
    if before is not None:  # a first text that fills the context leaves no room for the second
        first, half = tokenizer.encode_parts(before), max(1, limit // 2 - len(tokenizer.encode("")))
        before = before[: first.ends[half - 1]] if len(first.ids) > half else before
    parts = tokenizer.encode_parts(own, before)
    room = max(1, limit - len(parts.prefix) - len(parts.suffix))
    return Row(*parts.window(0, min(room, len(parts.ids))))


def spans_of(checkpoint: Checkpoint, texts: Sequence[Text], method: str) -> Mapping[str, Span]:
    """The spans of the inputs of every linear layer of a classifier over `texts`, by `calibration.METHODS`."""
    from edgelm_export.graph_reference import reference_of

    tokenizer = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
    calibration = Calibration(method)
    reference_of(checkpoint).watched([row_of(tokenizer, None, text) for text in texts], calibration.collect)
    return calibration.spans()


def measure_parity(folder: Path, cases: Sequence[Case], each: Each = nothing) -> Parity:
    """Run every case through the runtime and measure its distance to torch; ``each`` is called before every case."""
    found = _outputs(folder, cases, each)
    stepwise: list[float] = [0.0]
    cached: list[float] = []
    for task in dict.fromkeys(case.task for case in cases if case.task not in ENCODERS):
        model = load(folder, task=task)
        mine = [index for index, case in enumerate(cases) if case.task == task]
        for index in mine[:: max(1, len(mine) // STEPWISE)]:
            each()
            case = cases[index]
            stepwise.append(distance(found[index], model.generator.logits(case.ids, case.answer, stepwise=True)))
            cached += _cached(model, case.ids)
    problem = _problem(folder)
    pairs = [(case.expected, logits) for case, logits in zip(cases, found, strict=True)]
    distances = [problem.distance(*pair) for pair in pairs]
    same = [problem.agreement(*pair) for pair in pairs]
    worst = int(np.argmax(distances))
    errors = [np.abs(expected - logits) for expected, logits in pairs]
    divergences = [problem.divergence(*pair) for pair in pairs]
    return Parity(
        len(cases), max(distances), fmean(distances), fmean(same), max(stepwise), str(cases[worst].text),
        largest_error=float(max(error.max() for error in errors)), mean_error=fmean(float(e.mean()) for e in errors),
        kl=fmean(divergences), largest_kl=max(divergences), cached=fmean(cached or [1.0]),
    )  # fmt: skip


def mean_distance(folder: Path, cases: Sequence[Case], each: Each = nothing) -> float:
    """``Parity.mean`` alone, without reading anything step by step."""
    problem = _problem(folder)
    found = zip(cases, _outputs(folder, cases, each), strict=True)
    return fmean(problem.distance(case.expected, logits) for case, logits in found)


def _problem(folder: Path) -> Problem:
    manifest = open_bundle(folder, verify="lazy").manifest
    return problem_of(manifest.task, manifest.problem_type)


def _outputs(folder: Path, cases: Sequence[Case], each: Each) -> list[Logits]:
    """What the bundle answers to every case; a model of one task at a time is in memory."""
    found: dict[int, Logits] = {}
    for task in dict.fromkeys(case.task for case in cases):
        model = load(folder, task=task)
        for index, case in enumerate(cases):
            if case.task == task:
                each()
                reads = task in ENCODERS
                found[index] = (
                    model.infer(case.ids, case.type_ids) if reads else model.generator.logits(case.ids, case.answer)
                )
    return [found[index] for index in range(len(cases))]


def _cached(model: Any, ids: Sequence[int]) -> list[float]:
    """Of a short greedy answer, decoded with the cache: 1 for each token that a run without it gives, 0 for others."""
    generator, same = model.generator, []
    answer = list(generator.stream(ids, GenerationOptions(max_new_tokens=CACHED_TOKENS, ignore_eos=True)))
    for place, token in enumerate(answer):
        logits = generator.logits(ids, answer[:place])
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


def measure_latency(folder: Path, cases: Sequence[Case]) -> dict[str, float]:
    """Median milliseconds of a whole answer (a classifier), or of one token (a generator), on this machine."""
    case = sorted(cases, key=lambda case: len(case.ids))[len(cases) // 2]
    model = load(folder, task=case.task)
    if case.task in ENCODERS:
        return {"answer_ms": _median_ms(lambda: model(case.text), 20), "tokens": float(len(case.ids))}
    tokens = ANSWER_TOKENS
    model.generator.prefixes.limit_bytes = 0  # the same prompt again and again is to be read each time
    return {
        "first_token_ms": _median_ms(lambda: _generate(model, case.ids, 1), 5),
        "token_ms": _median_ms(lambda: _generate(model, case.ids, tokens), 5) / tokens,
    }


def _generate(model: Any, ids: Sequence[int], tokens: int) -> list[int]:
    return list(model.stream_ids(ids, max_new_tokens=tokens, ignore_eos=True, prompt_lookup_num_tokens=0))


def _median_ms(work: Callable[[], object], times: int) -> float:
    work()
    spent = []
    for _ in range(times):
        start = perf_counter()
        work()
        spent.append(1000.0 * (perf_counter() - start))
    return median(spent)
