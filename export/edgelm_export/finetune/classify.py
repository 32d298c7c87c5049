"""Fine-tuning a classifier of texts: one label of several, or any number of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export import class_report
from edgelm_export.class_report import row_warnings
from edgelm_export.finetune import data, evaluate
from edgelm_export.finetune.base import Base, load_base
from edgelm_export.finetune.labels import distinct, label_text
from edgelm_export.finetune.plan import FinetuneOptions, Outcome, Prepared
from edgelm_export.finetune.trainer import ClassifierTrainer, PaddingCollator
from edgelm_export.metrics import classification_metrics
from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import MULTI_LABEL, SINGLE_LABEL
from edgelm_runtime.tasks.classify import THRESHOLD

Rows = list[data.Row]


def prepare(options: FinetuneOptions, train: Rows, dev: Rows) -> Prepared:
    """A classifier for rows with ``label``, or ``labels`` where any number may hold.

    Raises:
        InputError: labels of two kinds, of one class only, or of classes that no training row has.
    """
    if options.task == "classify" and any("labels" in row for row in train):
        return _any_number(options, train, dev)
    classes = data.label_names(train, sentiment=options.task == "sentiment")
    wanted = [[classes[data.label_id(row, classes)] for row in rows] for rows in (train, dev)]
    base = _base(options, train, classes, SINGLE_LABEL)
    names = _names(base)

    def encoded(rows: Rows, labels: Sequence[str]) -> list[data.Encoded]:
        taught = (_teacher(row, classes, names) for row in rows)
        tokens = _tokens(options, base, rows)
        return [{**x, "label": names.index(y), **more} for x, y, more in zip(tokens, labels, taught, strict=True)]

    wrong = row_warnings(Counter(wanted[0]), Counter(wanted[1]), shared_texts(train, dev), len(dev))

    def judged(trainer: Any) -> Outcome:
        expected, logits = evaluate.predicted(trainer)
        answered = logits.argmax(-1)
        of = class_report.of_classes([names[index] for index in expected], [names[index] for index in answered], names)
        return Outcome(evaluate.classifier_metrics(expected, answered, dev), of, [*of.warnings(), *wrong])

    return Prepared(
        base, encoded(train, wanted[0]), encoded(dev, wanted[1]), _collator(base), ClassifierTrainer, judged,
        "accuracy", lambda found: classification_metrics(found.label_ids, found.predictions.argmax(-1)),
        notes=data.label_notes([*train, *dev], classes),
    )  # fmt: skip


def _any_number(options: FinetuneOptions, train: Rows, dev: Rows) -> Prepared:
    sets = [[_labels(row) for row in rows] for rows in (train, dev)]
    distinct(set().union(*sets[0], *sets[1]))
    names = sorted(set().union(*sets[0]))
    strange = sorted(set().union(*sets[1]) - set(names))
    if not names or strange:
        raise InputError(
            f"labels {', '.join(map(repr, strange))} of the development rows: no training row has them"
            if strange else "no training row has a label; give rows with labels, a list"
        )  # fmt: skip
    base = _base(options, train, names, MULTI_LABEL)
    names = _names(base)

    def encoded(rows: Rows, wanted: Sequence[set[str]]) -> list[data.Encoded]:
        held = ([float(name in one) for name in names] for one in wanted)
        return [{**x, "label": y} for x, y in zip(_tokens(options, base, rows), held, strict=True)]

    learned, checked = (Counter(label for one in wanted for label in one) for wanted in sets)
    wrong = row_warnings(learned, checked, shared_texts(train, dev), len(dev))

    def judged(trainer: Any) -> Outcome:
        expected, answered = (_held(found, names) for found in _both(*evaluate.predicted(trainer)))
        of = class_report.of_labels(expected, answered, names)
        return Outcome(class_report.label_metrics(expected, answered), of, [*of.warnings(), *wrong])

    return Prepared(
        base, encoded(train, sets[0]), encoded(dev, sets[1]), _collator(base), ClassifierTrainer, judged, "f1",
        lambda found: class_report.label_metrics(
            *(_held(one, names) for one in _both(found.label_ids, found.predictions))
        ),
    )  # fmt: skip


def _both(expected: NDArray[Any], logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Right and given probabilities [rows, labels]."""
    return expected, 1 / (1 + np.exp(-logits.astype(np.float64)))


def _held(probabilities: NDArray[Any], names: Sequence[str]) -> list[set[str]]:
    return [{names[index] for index in np.flatnonzero(row >= THRESHOLD).tolist()} for row in probabilities]


def _labels(row: data.Row) -> set[str]:
    given = row.get("labels")
    if not isinstance(given, list):
        raise InputError(
            f"{data.where(row)}: labels is {str(given)[:80]!r}: a list of names is needed, empty where none holds"
        )
    try:
        return set(map(label_text, given))
    except InputError as error:
        raise InputError(f"{data.where(row)}: {error}") from None


def _teacher(row: data.Row, classes: Sequence[str], names: Sequence[str]) -> dict[str, list[float]]:
    """What a teacher said, which is in the order of the classes' names, in that of the model's logits."""
    found = data.teacher(row, classes)
    return {name: [values[classes.index(one)] for one in names] for name, values in found.items()}


def _base(options: FinetuneOptions, train: Rows, names: Sequence[str], problem: str) -> Base:
    texts = [str(row[name]) for row in train for name in ("text", "text_pair") if row.get(name)]
    return load_base(options.base, "sequence-classification", texts, names, options.vocab_size, problem)


def _names(base: Base) -> list[str]:
    """The classes in the order of the model's logits: that of the base where it has the same."""
    return [base.model.config.id2label[index] for index in range(base.model.config.num_labels)]


def _tokens(options: FinetuneOptions, base: Base, rows: Rows) -> list[data.Encoded]:
    """What the model reads for a text, or a pair where rows have ``text_pair``; a long first text is cut."""
    size = base.limited(options.max_tokens)
    pairs = [row.get("text_pair") for row in rows]
    if any(pairs) and not all(pairs):
        raise InputError(f"{sum(map(bool, pairs))} of {len(rows)} rows have text_pair: give it in all rows, or in none")
    second = [[str(pair) for pair in pairs]] if any(pairs) else []
    found = base.tokenizer([str(row["text"]) for row in rows], *second, truncation=True, max_length=size)
    kept = [name for name in ("input_ids", "token_type_ids") if name in found and (name == "input_ids" or second)]
    return [{name: found[name][index] for name in kept} for index in range(len(rows))]


def _collator(base: Base) -> PaddingCollator:
    return PaddingCollator(base.tokenizer.pad_token_id or 0)


def shared_texts(train: Sequence[data.Row], dev: Sequence[data.Row]) -> int:
    """How many development rows have the very text of a training row."""
    known = {_key(row) for row in train}
    return sum(_key(row) in known for row in dev)


def _key(row: data.Row) -> str:
    return str([row.get(name) for name in ("text", "text_pair", "tokens")])
