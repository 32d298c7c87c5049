"""How good each class of a model is: precision, recall and F1 with their support, and what is taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgelm_export.metrics import format_table

NONE = "(none)"  # in a confusion matrix of entities: where there is no entity
MIN_ROWS = 30
MATRIX = 10  # classes up to which the matrix is shown, of more the largest confusions
CONFUSIONS = 12
NAMED = 8


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one class in percent; ``support`` is how often it is the right answer."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassReport:
    """Figures of every class, and how often each right answer (row) got each answer (column of ``labels``).

    ``confusion`` is empty where any number of labels may hold.
    """

    classes: tuple[ClassFigures, ...]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        matrix = {"labels": list(self.labels), "rows_are": "right answers", "matrix": [list(r) for r in self.confusion]}
        classes = [asdict(one) for one in self.classes]
        return {"classes": classes, **({"confusion": matrix} if self.confusion else {})}

    def table(self) -> str:
        """The classes and the confusion matrix for a person."""
        rows = [[one.label, one.precision, one.recall, one.f1, one.support] for one in self.classes]
        text = format_table(rows, ("class", "precision", "recall", "F1", "support"))
        return f"{text}\n\n{self._confusion()}" if self.confusion else text

    def _confusion(self) -> str:
        if len(self.labels) <= MATRIX:
            rows = [[label, *counts] for label, counts in zip(self.labels, self.confusion, strict=True)]
            return format_table(rows, ("right answer \\ answered", *self.labels))
        found = [
            (count, self.labels[right], self.labels[answered])
            for right, counts in enumerate(self.confusion)
            for answered, count in enumerate(counts)
            if count and right != answered
        ]
        largest = sorted(found, key=lambda one: (-one[0], one[1:]))[:CONFUSIONS]
        if not largest:
            return "nothing was confused"
        return format_table([(right, answered, count) for count, right, answered in largest],
                            ("right answer", "answered", "rows"))  # fmt: skip

    def warnings(self) -> list[str]:
        """What the figures of the whole hide: one class alone was answered, or some never were."""
        answered = self._answered()
        real = [one for one in self.classes if one.label != NONE]
        given = [one.label for one in real if answered.get(one.label)]
        if len(real) > 1 and len(given) == 1 and sum(one.support > 0 for one in real) > 1:
            return [
                f"every answer is {given[0]!r}: the model tells nothing apart. Train it longer, with another learning "
                "rate, or on about as many rows of each class"
            ]
        never = [f"{one.label!r} ({one.support})" for one in real if one.support and not answered.get(one.label)]
        return [f"never answered: {_listed(never)}"] if never else []

    def _answered(self) -> Mapping[str, int]:
        """How often each class was answered; without a matrix whether it ever was."""
        if not self.confusion:
            return {one.label: int(one.precision > 0 or one.recall > 0) for one in self.classes}
        return dict(zip(self.labels, (sum(column) for column in zip(*self.confusion, strict=True)), strict=True))


def of_classes(expected: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> ClassReport:
    """The report of a classifier whose classes exclude each other, from the right and the given class of each row."""
    pairs = Counter(zip(expected, answered, strict=True))
    matrix = tuple(tuple(pairs[right, given] for given in labels) for right in labels)
    return ClassReport(tuple(_figures(labels, [{one} for one in expected], [{one} for one in answered])),
                       tuple(labels), matrix)  # fmt: skip


def of_labels(expected: Sequence[set[str]], answered: Sequence[set[str]], labels: Sequence[str]) -> ClassReport:
    """The report of a classifier of any number of labels, from the right and the given labels of each row."""
    return ClassReport(tuple(_figures(labels, expected, answered)), tuple(labels))


Entities = set[tuple[str, int, int]]  # label, start, end


def of_entities(expected: Sequence[Entities], answered: Sequence[Entities]) -> ClassReport:
    """The report of entities: right are those with the right label at exactly the right place.

    In the matrix those at the same place are compared; what is at no place of the other side counts against NONE.
    """
    kinds = sorted({one[0] for row in (*expected, *answered) for one in row})
    pairs: Counter[tuple[str, str]] = Counter()
    for right, given in zip(expected, answered, strict=True):
        rights, givens = ({(start, end): label for label, start, end in row} for row in (right, given))
        pairs.update((rights.get(place, NONE), givens.get(place, NONE)) for place in rights.keys() | givens.keys())
    names = (*kinds, NONE)
    matrix = tuple(tuple(pairs[row, column] for column in names) for row in names)
    figures = []
    for kind in kinds:
        of_kind = [
            (len(r & g), len(r), len(g))
            for right, given in zip(expected, answered, strict=True)
            for r, g in [({one for one in right if one[0] == kind}, {one for one in given if one[0] == kind})]
        ]
        both, wanted, found = (sum(column) for column in zip(*of_kind, strict=True))
        figures.append(_figure(kind, both, wanted, found))
    return ClassReport(tuple(figures), names, matrix)


def entity_metrics(expected: Sequence[Entities], answered: Sequence[Entities]) -> dict[str, float]:
    """Precision, recall and F1 in percent over the entities of all rows (CoNLL's micro average)."""
    both = sum(len(right & given) for right, given in zip(expected, answered, strict=True))
    whole = _figure("", both, sum(map(len, expected)), sum(map(len, answered)))
    return {"precision": whole.precision, "recall": whole.recall, "f1": whole.f1}


def label_metrics(expected: Sequence[set[str]], answered: Sequence[set[str]]) -> dict[str, float]:
    """Precision, recall and F1 over all labels of all rows, and the share of rows with exactly the right ones."""
    both = sum(len(right & given) for right, given in zip(expected, answered, strict=True))
    whole = _figure("", both, sum(map(len, expected)), sum(map(len, answered)))
    exact = sum(right == given for right, given in zip(expected, answered, strict=True))
    return {
        "f1": whole.f1, "precision": whole.precision, "recall": whole.recall,
        "all labels right": 100.0 * exact / max(1, len(expected)),
    }  # fmt: skip


def _figures(
    labels: Sequence[str], expected: Sequence[set[str]], answered: Sequence[set[str]]
) -> Iterable[ClassFigures]:
    rows = list(zip(expected, answered, strict=True))
    for label in labels:
        both = sum(label in right and label in given for right, given in rows)
        yield _figure(label, both, sum(label in right for right, _ in rows), sum(label in given for _, given in rows))


def _figure(label: str, both: int, wanted: int, found: int) -> ClassFigures:
    """Figures from counts; what would be a division by nothing is 0, as in scikit-learn with ``zero_division=0``."""
    share = 100.0 * both
    return ClassFigures(
        label, share / found if found else 0.0, share / wanted if wanted else 0.0,
        2 * share / (wanted + found) if both else 0.0, wanted,
    )  # fmt: skip


def row_warnings(train: Mapping[str, int], dev: Mapping[str, int], shared: int, rows: int) -> list[str]:
    """What is wrong with rows, from how many of each class there are, and how many dev rows of all are trained on."""
    few = [f"{label!r} ({count})" for label, count in sorted(train.items(), key=lambda one: one[1]) if count < MIN_ROWS]
    absent = [repr(label) for label in train if not dev.get(label)]
    found = []
    if shared == rows:
        found.append("the development rows are training rows: the figures only say what was learned by heart")
    elif shared:
        found.append(f"{shared} of {rows} development rows are training rows as well: the figures are too good")
    if few:
        found.append(f"fewer than {MIN_ROWS} training rows of a class: {_listed(few)}; give more")
    if absent:
        found.append(f"no development row has {_listed(absent)}: nothing is known of how well that is told")
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
