"""The metric of an encoder's task on rows with the right answers, whoever computes its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.class_report import ClassReport, entity_metrics, label_metrics, of_classes, of_entities, of_labels
from edgelm_export.evaluation import Each, Evaluation, Example, Metrics, nothing
from edgelm_export.finetune.data import Row, label_id, where
from edgelm_export.finetune.labels import label_text, same_label
from edgelm_export.finetune.spans import Span, trimmed
from edgelm_export.metrics import classification_metrics
from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import MULTI_LABEL, REGRESSION, Manifest
from edgelm_runtime.tasks import rows as tokens
from edgelm_runtime.tasks.reading import Reading, Text

Infer = Callable[[tokens.Row], tokens.Values]
Answer = tuple[str, float]  # what is compared with another model's, and its score in percent


def evaluate_encoder(model: Any, rows: Sequence[Row], infer: Infer, each: Each = nothing) -> Evaluation:
    """Metrics of the outputs that ``infer`` gives for the rows of tokens that ``model`` reads.

    Raises:
        InputError: a row's right answer is not one of the task.
    """
    kind = kind_of(model.bundle.manifest)
    readings = [_reading(model, row) for row in rows]  # a row that is refused is named before anything is answered
    results = []
    for reading in readings:
        each()
        results.append(_result(model, reading, infer))
    if kind == "vectors":
        return _similarity(model, rows, results, infer)
    answered = [_ANSWERS[kind](model.labels, row, result) for row, result in zip(rows, results, strict=True)]
    answers, scores = [answer for answer, _ in answered], np.array([score for _, score in answered])
    expected = [_expected(kind, model.labels, row) for row in rows]
    task, metric = model.bundle.manifest.serves[0], METRICS[kind]
    second = [str(row.get("text_pair", "")) if model.bundle.manifest.pairs else "" for row in rows]
    examples = [
        Example(task, str(row["text"]), right, metric, other, where(row))
        for row, right, other in zip(rows, expected, second, strict=True)
    ]
    metrics, classes = _by_class(kind, model.labels, rows, results)
    worth = None
    if kind == "classes":
        worth = np.array([100.0 * result.scores[right] for right, result in zip(expected, results, strict=True)])
        metrics = _class_metrics(model.labels, rows, answers)
    return Evaluation({metric: float(scores.mean()), **metrics}, examples, answers, scores, classes, worth)


def _by_class(
    kind: str, labels: Sequence[str], rows: Sequence[Row], results: Sequence[Any]
) -> tuple[Metrics, ClassReport | None]:
    """Metrics over all labels or entities of all rows, and the figures of each class; nothing of numbers."""
    if kind == "classes":
        expected, given = ([labels[label_id(row, labels)] for row in rows], [_best(result) for result in results])
        return {}, of_classes(expected, given, labels)
    if kind == "labels":
        sets = [_label_set(labels, row) for row in rows], [set(result.labels) for result in results]
        return label_metrics(*sets), of_labels(*sets, labels)
    if kind == "spans":
        entities = (
            [_span_set(row) for row in rows],
            [_found(row, result) for row, result in zip(rows, results, strict=True)],
        )
        return entity_metrics(*entities), of_entities(*entities)
    return {}, None


def kind_of(manifest: Manifest) -> str:
    """What a row's right answer is: classes, labels, numbers, spans or vectors."""
    if manifest.task == "text-classification":
        return {MULTI_LABEL: "labels", REGRESSION: "numbers"}.get(manifest.problem_type, "classes")
    return "spans" if manifest.task == "token-classification" else "vectors"


# The fields of a row, and what the mean of the rows' scores is called.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "classes": ("text", "label"), "labels": ("text", "labels"), "numbers": ("text", "label"),
    "spans": ("text", "entities"), "vectors": ("text", "text_pair", "score"),
}  # fmt: skip
METRICS = {
    "classes": "accuracy", "labels": "F1 of the labels", "numbers": "minus the absolute error",
    "spans": "F1 of the entities",
}  # fmt: skip


def _reading(model: Any, row: Row) -> Reading:
    """What the model reads of a row. Raises InputError, with the row's place, for one that it does not accept."""
    pair = model.bundle.manifest.pairs
    text: Text = (str(row["text"]), str(row.get("text_pair", ""))) if pair else str(row["text"])
    if model.bundle.manifest.task == "token-classification" and "tokens" in row:
        text = {name: row[name] for name in ("tokens", "delimiter") if name in row}
    try:
        reading: Reading = model.reader.read(text)
    except InputError as error:
        raise InputError(f"{where(row)}: {error}") from None
    return reading


def _result(model: Any, reading: Reading, infer: Infer) -> Any:
    """The model's answer from the outputs of ``infer``."""
    return model.answer(reading, [infer(part) for part in reading.rows])


def _class_metrics(labels: Sequence[str], rows: Sequence[Row], predicted: Sequence[str]) -> Metrics:
    """Accuracy and its relatives, and the accuracy of every source that rows name."""
    expected, found = [label_id(row, labels) for row in rows], [labels.index(label) for label in predicted]
    metrics: Metrics = classification_metrics(expected, found)
    for source in sorted({str(row["source"]) for row in rows if row.get("source")}):
        hits = [e == p for row, e, p in zip(rows, expected, found, strict=True) if row.get("source") == source]
        metrics[f"accuracy {source}"] = 100.0 * fmean(map(float, hits))
    return metrics


def _class(labels: Sequence[str], row: Row, result: Any) -> Answer:
    label = _best(result)
    return label, 100.0 * (label == labels[label_id(row, labels)])


def _best(result: Any) -> str:
    return str(max(result.scores, key=lambda name: result.scores[name]))


def _labels(labels: Sequence[str], row: Row, result: Any) -> Answer:
    return ", ".join(result.labels), _f1(_label_set(labels, row), set(result.labels))


def _number(labels: Sequence[str], row: Row, result: Any) -> Answer:
    value = float(result.scores[labels[0]])
    return f"{value:.2f}", -abs(value - _wanted_number(row))


def _spans(labels: Sequence[str], row: Row, result: Any) -> Answer:
    found = _found(row, result)
    return str(sorted(found)), _f1(_span_set(row), found)


_ANSWERS: Mapping[str, Callable[[Sequence[str], Row, Any], Answer]] = {
    "classes": _class, "labels": _labels, "numbers": _number, "spans": _spans,
}  # fmt: skip


def _expected(kind: str, labels: Sequence[str], row: Row) -> str:
    right: Mapping[str, Callable[[], str]] = {
        "classes": lambda: labels[label_id(row, labels)], "labels": lambda: ", ".join(sorted(_label_set(labels, row))),
        "numbers": lambda: str(_wanted_number(row)), "spans": lambda: str(sorted(_span_set(row))),
    }  # fmt: skip
    return right[kind]()


def _f1(wanted: set[Any], found: set[Any]) -> float:
    """F1 of a row's set in percent; nothing where nothing is wanted is right."""
    return 200.0 * len(wanted & found) / (len(wanted) + len(found)) if wanted or found else 100.0


def _label_set(labels: Sequence[str], row: Row) -> set[str]:
    given = row["labels"]
    found = [same_label(label_text(one), labels) for one in given] if isinstance(given, list) else [None]
    known = {name for name in found if name is not None}
    if None in found:
        raise InputError(
            f"{where(row)}: labels is {str(given)[:80]!r}, a list of some of {', '.join(labels)} is needed"
        )
    return known


def _wanted_number(row: Row) -> float:
    try:
        return float(row["label"])
    except (TypeError, ValueError):
        raise InputError(f"label is {str(row['label'])[:80]!r}, the model gives numbers: a number is needed") from None


def _found(row: Row, result: Any) -> set[Span]:
    """The entities that a model found, without the white space that some vocabularies count to them."""
    return {trimmed(one.label, one.start, one.end, str(row["text"])) for one in result.entities}


def _span_set(row: Row) -> set[Span]:
    return {(one["label"], one["start"], one["end"]) for one in row["entities"]}


def _similarity(model: Any, rows: Sequence[Row], first: Sequence[Any], infer: Infer) -> Evaluation:
    """Spearman's rank correlation of the cosine of two texts' vectors with the right scores.

    A row's score is its part of it: the product of its two ranks, standardised, whose mean is the correlation.
    """
    second = [_result(model, _reading(model, {"text": row["text_pair"]}), infer) for row in rows]
    try:
        wanted = [float(row["score"]) for row in rows]
    except (TypeError, ValueError):
        raise InputError("score of every row must be a number: how similar text and text_pair are") from None
    if len(set(wanted)) < 2:
        raise InputError(f"every row has the score {wanted[0]}: give rows that are similar, and rows that are not")
    found = [_cosine(a.embedding, b.embedding) for a, b in zip(first, second, strict=True)]
    scores = 100.0 * _standard_ranks(wanted) * _standard_ranks(found)
    task = model.bundle.manifest.serves[0]
    examples = [
        Example(task, str(row["text"]), str(row["score"]), "Spearman", str(row["text_pair"]), where(row))
        for row in rows
    ]
    return Evaluation({"Spearman": float(scores.mean())}, examples, [f"{value:.2f}" for value in found], scores)


def _standard_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks with mean 0 and deviation 1, equal values sharing theirs; all 0 where every value is the same."""
    from scipy.stats import rankdata

    ranks = rankdata(values) - (len(values) + 1) / 2
    return np.asarray(ranks / max(float(ranks.std()), 1e-12))


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    a, b = np.asarray(left), np.asarray(right)
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
