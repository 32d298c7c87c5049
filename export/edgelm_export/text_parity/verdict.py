"""A bundle's answer to a raw text beside that of transformers: the same, explained by the precision, or neither."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.problems import problem_of
from edgelm_export.text_parity.asked import Asked
from edgelm_runtime.manifest import MULTI_LABEL, REGRESSION
from edgelm_runtime.tasks.classify import THRESHOLD
from edgelm_runtime.tasks.probabilities import softmax

EXACT = 1e-4  # what float32 may be off: a probability, a number of size 1, or a vector of length 1
_ROUNDING = 1e-6  # of a probability in float32
_SHOWN = 160
# BERT's decoder writes blanks between Han characters, which the runtime takes out.
_HAN = "[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]"
_BLANKS = re.compile(rf"(?<={_HAN})\s+|\s+(?={_HAN})")


Shown = tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is transformers' own. If not, ``why`` that is accepted, or else what the ``problem`` is."""

    same: bool
    expected: str
    found: str
    why: str = ""
    problem: str = ""


def verdict_of(model: Any, asked: Asked, worst: float, *, exact: bool) -> Verdict:
    """The bundle's answer, held against that of transformers.

    A distance of up to ``worst``, as in `Parity`, explains a difference; where it is to be ``exact``, float32's alone.
    """
    ids = _ids(model, asked)
    if list(ids) != list(asked.ids):
        place = next((n for n, pair in enumerate(zip(ids, asked.ids, strict=False)) if pair[0] != pair[1]), len(ids))
        shown = _tokens(model, asked.ids, place), _tokens(model, ids, place)
        return Verdict(False, *shown, problem=f"other tokens are read from token {place + 1} on")
    allowed = EXACT if exact else worst
    if asked.reading is None:
        return _written(model, asked, allowed)
    if asked.answer is None:
        return _by_outputs(model, asked, allowed)
    task = model.bundle.manifest.task
    kinds = {"text-classification": _classes, "token-classification": _entities}
    return kinds.get(task, _vector)(model, asked, allowed)


def _ids(model: Any, asked: Asked) -> list[int]:
    if asked.reading is None:
        return list(model.tokenize(asked.text))
    return list(model.reader.read(asked.text).rows[0].ids)


def _tokens(model: Any, ids: Sequence[int], place: int) -> str:
    names = model.tokenizer.pieces()
    return " ".join(names[one] for one in ids[max(0, place - 2) : place + 16])[:_SHOWN]


def _by_outputs(model: Any, asked: Asked, allowed: float) -> Verdict:
    """Where the runtime alone knows how: its own answer beside the one that it makes of torch's outputs."""
    reading = asked.reading
    if reading is None:
        raise TypeError(f"{asked.how}: no outputs to answer from")
    other = model.reader.read(asked.text)
    if [row.ids for row in other.rows] != [row.ids for row in reading.rows]:
        shown = f"{len(reading.rows)} windows", f"{len(other.rows)} windows"
        return Verdict(False, *shown, problem="other windows are read")
    answer = model.answer(reading, list(asked.outputs))
    task = model.bundle.manifest.task
    if task == "text-classification":
        return _classes(model, asked.answered(asked.how, dict(answer.scores)), allowed)
    if task == "feature-extraction":
        return _vector(model, asked.answered(asked.how, np.array(answer.embedding)), allowed)
    entities = [(one.label, one.start, one.end, one.score) for one in answer.entities]
    return _entities(model, asked.answered(asked.how, entities), allowed)


def _classes(model: Any, asked: Asked, allowed: float) -> Verdict:
    manifest = model.bundle.manifest
    problem, result = manifest.problem_type, model(asked.text)
    expected = np.array(list(asked.answer.values()))
    found = np.array([result.scores[label] for label in asked.answer])
    labels = tuple(asked.answer)
    decided = [result.label] if hasattr(result, "label") else list(result.labels)
    shown = _scores(labels, expected), _scores(labels, found)
    distance = _apart(expected, found, manifest.activation)
    if problem == REGRESSION:
        return _judged(shown, distance, allowed, decided == [])
    wanted, own = ([labels[n] for n in _decided(values, problem)] for values in (expected, found))
    if decided != own:
        return Verdict(False, *shown, problem=f"it says {decided} of its own scores")
    return _judged(shown, distance, allowed, decided == wanted)


def _apart(expected: NDArray[np.float64], found: NDArray[np.float64], activation: str) -> float:
    """Of distributions their total variation, of probabilities the largest difference, of numbers above 1 relative."""
    apart = np.abs(expected - found)
    if activation == "softmax":
        return float(0.5 * apart.sum())
    return float((apart / np.maximum(1.0, np.abs(expected))).max())


def _decided(scores: NDArray[np.float64], problem: str) -> list[int]:
    return np.flatnonzero(scores >= THRESHOLD).tolist() if problem == MULTI_LABEL else [int(scores.argmax())]


def _judged(shown: Shown, distance: float, allowed: float, same: bool) -> Verdict:
    """By the distance of two distributions, numbers or directions, and whether what they decide is the same."""
    if distance > allowed:
        return Verdict(False, *shown, problem=f"the distance is {distance:.4f}, accepted is {allowed:g}")
    return Verdict(same, *shown, why="" if same else f"a near tie: the distance is {distance:.6f}")


def _scores(labels: tuple[str, ...], scores: NDArray[np.float64]) -> str:
    order = np.argsort(-scores)[:3]
    return ", ".join(f"{labels[index]} {scores[index]:.4f}" for index in order)


def _vector(model: Any, asked: Asked, allowed: float) -> Verdict:
    expected, found = np.asarray(asked.answer, np.float32), np.array(model(asked.text).embedding, np.float32)
    shown = _numbers(expected), _numbers(found)
    if expected.shape != found.shape:
        return Verdict(False, *shown, problem=f"{found.size} numbers and not {expected.size}")
    direction = problem_of("feature-extraction").distance(expected, found)
    length = float(np.linalg.norm(expected))
    longer = abs(float(np.linalg.norm(found)) - length) / max(length, 1e-12)
    return _judged(shown, max(direction, longer), allowed, True)


def _numbers(vector: NDArray[np.float32]) -> str:
    return " ".join(f"{value:.4f}" for value in vector[:6])


def _entities(model: Any, asked: Asked, allowed: float) -> Verdict:
    found = _spans(model(asked.text))
    shown = _listed(asked.answer), _listed(found)
    if _same(asked.answer, found, allowed):
        return Verdict(True, *shown)
    if asked.again is None or asked.reading is None:
        return _entities_of_torch(model, asked, shown, allowed)
    row = asked.reading.rows[0]
    outputs = model.infer(row.ids, row.type_ids)
    distance = problem_of("token-classification").distance(asked.outputs[0], outputs)
    if distance > allowed or not _same(asked.again(outputs), found, EXACT):
        return Verdict(False, *shown, problem=f"the tokens' distance is {distance:.4f}, accepted is {allowed:g}")
    return Verdict(False, *shown, why=f"near ties of labels: the tokens' distance is {distance:.6f}")


def _entities_of_torch(model: Any, asked: Asked, shown: Shown, allowed: float) -> Verdict:
    """In windows, or in a scheme of labels that the pipeline does not know: the outputs alone may explain it."""
    rows = asked.reading.rows if asked.reading is not None else []
    compare = problem_of("token-classification").distance
    distances = [
        compare(mine, model.infer(row.ids, row.type_ids)) for row, mine in zip(rows, asked.outputs, strict=True)
    ]
    return _judged(shown, max(distances, default=1.0), allowed, False)


def _spans(result: Any) -> list[tuple[str, int, int, float]]:
    return [(one.label, one.start, one.end, one.score) for one in result.entities]


def _same(expected: Any, found: Any, allowed: float) -> bool:
    return [one[:3] for one in expected] == [one[:3] for one in found] and all(
        abs(mine[3] - other[3]) <= allowed for mine, other in zip(expected, found, strict=True)
    )


def _listed(entities: Any) -> str:
    return ", ".join(f"{label} {start}-{end} {score:.4f}" for label, start, end, score in entities)[:_SHOWN] or "none"


def _written(model: Any, asked: Asked, allowed: float) -> Verdict:
    options = {
        "max_new_tokens": max(1, len(asked.steps)), "temperature": 0.0, "num_beams": 1, "coverage_bonus": 0.0,
        "quote_bonus": 0.0, "absolute_terms": True, "prompt_lookup_num_tokens": 0, **asked.options,
    }  # fmt: skip
    text = model(asked.text, **options).text
    shown = repr(str(asked.answer)[:_SHOWN]), repr(text[:_SHOWN])
    if _plain(text) == _plain(asked.answer):
        return Verdict(True, *shown)
    tokens = model.infer(model.tokenize(asked.text), **options)
    place = next((n for n, pair in enumerate(zip(tokens, asked.tokens, strict=False)) if pair[0] != pair[1]), -1)
    if place < 0:
        place = min(len(tokens), len(asked.tokens))
    if len(tokens) == len(asked.tokens) == place or place >= len(asked.steps):
        return Verdict(False, *shown, problem="the tokens are the same, and their text is not")
    step = asked.steps[place]
    probabilities = softmax(model.generator.logits(list(asked.ids), list(asked.tokens[:place])))
    distance = step.distance(probabilities)
    other = [tokens[place]] if place < len(tokens) else list(model.generator.eos_ids)
    lead = min((step.lead(token) for token in other), default=1.0)
    if distance <= allowed and lead <= 4 * max(distance, _ROUNDING):
        why = f"a near tie at token {place + 1}: {lead:.6f} apart, the distance of the distributions is {distance:.6f}"
        return Verdict(False, *shown, why=why)
    another = f"token {place + 1} is another one, {lead:.4f} less probable in torch"
    return Verdict(False, *shown, problem=f"{another}; the distance of the distributions is {distance:.4f}")


def _plain(text: str) -> str:
    return _BLANKS.sub("", text).strip()
