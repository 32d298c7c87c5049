"""Golden answers: what a bundle answered where it was made, asked for again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BundleRejected, InputError
from .machine import cpu_name
from .manifest import GOLDEN_NAME
from .tasks import TASKS
from .tasks.reading import Text

SCORE_TOLERANCE = 0.02  # instruction sets round int8 products' scales differently
VECTOR_TOLERANCE = 0.1  # of an embedding's length
LOGIT_TOLERANCE = 0.2  # tokens this near may change places: one activation rounded otherwise moves them by 0.18
MAX_BYTES, MAX_ANSWERS = 8 << 20, 1_000  # an export writes 8 answers a task
_SHOWN = 200


@dataclass(frozen=True)
class Replay:
    """How many golden answers came again, and how far their scores were off; None where there are only texts."""

    answers: int
    score_difference: float | None


def replay(bundle: Bundle, task: str, model: Any) -> Replay:
    """Ask a model for the golden answers of its variant and task. Raises BundleRejected where one differs."""
    entries = _entries(bundle, task, model)
    differences = [_REPLAYS[kind](model, entry) for kind, entry in entries]
    return Replay(len(entries), max((one for one in differences if one is not None), default=None))


def golden_inputs(bundle: Bundle, task: str, model: Any) -> list[Text]:
    """The inputs of a task's golden answers."""
    return [_input(entry) for _, entry in _entries(bundle, task, model)]


def _entries(bundle: Bundle, task: str, model: Any) -> list[tuple[str, Any]]:
    """The golden answers of a task, each with its kind."""
    golden = _golden(bundle, model.engine.variant.goldens)
    every = [(kind, entry) for kind in _REPLAYS for entry in golden.get(kind, ())]
    return [(kind, entry) for kind, entry in every if _task_of(bundle, entry) == task]


def _golden(bundle: Bundle, name: str) -> dict[str, list[Any]]:
    expected = f"an object of lists, {', '.join(_REPLAYS)}, with at least one answer"
    try:
        golden = json.loads(bundle.read(name, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise _malformed(f"no JSON ({error})", expected) from error
    if not isinstance(golden, dict) or not all(isinstance(entries, list) for entries in golden.values()):
        raise _malformed("something else", expected)
    if not any(golden.get(kind) for kind in _REPLAYS):
        raise _malformed("no answers", expected)
    count = sum(map(len, golden.values()))
    if count > MAX_ANSWERS:
        raise _malformed(f"{count:,} answers", f"at most {MAX_ANSWERS:,}")
    return golden


def _task_of(bundle: Bundle, entry: Any) -> str:
    """The task of a golden answer; one that names none is of the first that the bundle serves."""
    _field(entry, "text", str)
    task, serves = entry.get("task", bundle.manifest.serves[0]), bundle.manifest.serves
    if task not in TASKS or task not in serves:
        raise _malformed(f"an answer of the task {task!r}", ", ".join(serves))
    return str(task)


def _malformed(found: str, expected: str) -> BundleRejected:
    return BundleRejected(
        f"{GOLDEN_NAME} holds {found}; accepted: {expected}. Export the bundle again.",
        what=GOLDEN_NAME,
        expected=expected,
        found=found,
    )


def _field(entry: Any, name: str, kind: type) -> Any:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise _malformed(f"an answer without a usable {name!r}", kind.__name__)
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(f"a score without a usable {name!r}", "number")
    try:
        return float(value)
    except OverflowError as error:
        raise _malformed(f"a score with a {name!r} of {len(str(value)[:400])} digits or more", "number") from error


def _input(entry: Any) -> Text:
    """The text of a golden answer, or its pair of texts."""
    text = str(_field(entry, "text", str))
    return (text, str(_field(entry, "text_pair", str))) if "text_pair" in entry else text


def _answer(model: Any, text: Text, **options: Any) -> Any:
    try:
        return model(text, **options)
    except InputError as error:
        raise _malformed(f"an input that is refused ({error})", "text that the task reads") from error


def _replay_classification(model: Any, entry: Mapping[str, Any]) -> float:
    """The largest distance of a score from its golden value; of numbers above 1 their relative one."""
    text = _input(entry)
    labels = _field(entry, "labels", list) if "labels" in entry else [_field(entry, "label", str)]
    scores = {name: _number(name, value) for name, value in _field(entry, "scores", dict).items()}
    result = _answer(model, text)
    found = list(result.labels) if hasattr(result, "labels") else [result.label]
    if found != labels:
        raise _differs(text, ", ".join(map(str, labels)) or "no label", ", ".join(found) or "no label")
    if not scores or not result.scores.keys() >= scores.keys():
        raise _differs(text, f"scores of {', '.join(scores)}", f"scores of {', '.join(result.scores)}")
    differences = {name: abs(result.scores[name] - value) / max(1.0, abs(value)) for name, value in scores.items()}
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= SCORE_TOLERANCE:
        raise _differs(text, f"{worst} {scores[worst]:.4f}", f"{worst} {result.scores[worst]:.4f}")
    return float(differences[worst])


def _replay_tagging(model: Any, entry: Mapping[str, Any]) -> float:
    """The largest distance of an entity's score from its golden value."""
    text, found = _input(entry), _answer(model, _input(entry)).entities
    entities = _field(entry, "entities", list)
    scores = [_number("score", _field(one, "score", float)) for one in entities]
    golden = [(_field(one, "label", str), _field(one, "start", int), _field(one, "end", int)) for one in entities]
    spans = [(one.label, one.start, one.end) for one in found]
    if golden != spans:
        raise _differs(text, str(golden), str(spans))
    worst = max((abs(one.score - score) for one, score in zip(found, scores, strict=True)), default=0.0)
    if not worst <= SCORE_TOLERANCE:
        raise _differs(text, f"scores at most {SCORE_TOLERANCE} apart", f"{worst:.4f}")
    return worst


def _replay_embedding(model: Any, entry: Mapping[str, Any]) -> None:
    text = _input(entry)
    golden = np.array([_number("embedding", value) for value in _field(entry, "embedding", list)])
    found = np.array(_answer(model, text).embedding)
    if found.shape != golden.shape:
        raise _differs(text, f"{golden.size} numbers", f"{found.size} numbers")
    apart = float(np.linalg.norm(found - golden)) / max(float(np.linalg.norm(golden)), 1e-9)
    if not apart <= VECTOR_TOLERANCE:
        raise _differs(text, f"a vector at most {VECTOR_TOLERANCE} of its length away", f"{apart:.4f} of it")


def _replay_generation(model: Any, entry: Mapping[str, Any]) -> None:
    text, answer = str(_field(entry, "text", str)), _field(entry, "answer", str)
    limit = {"max_new_tokens": _field(entry, "max_new_tokens", int)} if "max_new_tokens" in entry else {}
    # Golden ids are the model's own: a guide would hide what this machine computes.
    found = _answer(model, text, temperature=0.0, num_beams=1, coverage_bonus=0.0, quote_bonus=0.0, **limit).text
    if found != answer and not _tied(model, text, entry.get("ids"), limit):
        raise _differs(text, answer, found)


def _changed(model: Any, prompt: list[int], answer: list[int]) -> npt.NDArray[np.float32]:
    """The logits, float32 [vocab], after the beginning of an answer, as the bundle's own rules leave them."""
    generator = model.generator
    begun = generator.begin(generator.checked(prompt))
    edits = generator.edits(begun, model.options(temperature=0.0, num_beams=1).after(len(begun)))
    logits: npt.NDArray[np.float32] = generator.logits(prompt, answer)
    edits.forbid(logits, len(answer))
    seen = np.array([*edits.before, *answer], dtype=np.int64)
    changed: npt.NDArray[np.float32] = edits.change_or_yield(logits, seen)
    return changed


def _tied(model: Any, text: str, golden: Any, limit: Mapping[str, int]) -> bool:
    """Whether the answer parts from the golden token ids where two tokens are about equally probable.

    Instruction sets round differently: there the other token may win, and what follows is another good answer.
    """
    if not isinstance(golden, list) or not all(type(token) is int for token in golden):
        return False
    prompt = model.tokenize(text)
    found = model.infer(prompt, temperature=0.0, **limit)
    ends = list(model.generator.eos_ids)  # any of which may have been the end
    mine, others = ([*([token] for token in ids), ends] for ids in (found, golden))
    for place, (taken, other) in enumerate(zip(mine, others, strict=False)):
        if taken != other:
            if not taken or not other or not all(0 <= token < model.generator.vocab for token in other):
                return False
            logits = _changed(model, prompt, found[:place])
            return bool(logits[taken].max() - logits[other].max() <= LOGIT_TOLERANCE)
    return False


def _differs(text: Text, expected: str, found: str) -> BundleRejected:
    return BundleRejected(
        f"a golden answer differs on this machine ({cpu_name()}).\n"
        f"  input:    {_short(str(text))}\n  expected: {_short(expected)}\n  found:    {_short(found)}\n"
        "The files are those of the manifest, so this machine computes differently; do not use the bundle here.",
        what=GOLDEN_NAME,
        expected=expected,
        found=found,
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


_REPLAYS: Mapping[str, Callable[[Any, Mapping[str, Any]], float | None]] = {
    "classification": _replay_classification,
    "tagging": _replay_tagging,
    "embedding": _replay_embedding,
    "generation": _replay_generation,
}
