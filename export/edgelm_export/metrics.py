"""Task metrics, the same for fine-tuning and for the verification of a bundle."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from edgelm_runtime.visible import visible

_UNITS = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", re.UNICODE)


def classification_metrics(expected: Sequence[int], predicted: Sequence[int]) -> dict[str, float]:
    """Accuracy and macro precision, recall and F1, in percent (scikit-learn)."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(expected, predicted, average="macro", zero_division=0)
    accuracy = accuracy_score(expected, predicted)
    return {
        name: 100.0 * float(value)
        for name, value in (("accuracy", accuracy), ("precision", precision), ("recall", recall), ("f1", f1))
    }


def units(text: str) -> list[str]:
    """What texts are counted in: each Han character, and lower-cased words of other scripts, without punctuation."""
    return _UNITS.findall(text.lower())


def rouge_l(reference: str, candidate: str) -> float:
    """ROUGE-L F1 in 0..1 of two texts: the longest common subsequence of their units (Lin, 2004)."""
    left, right = units(reference), units(candidate)
    common = _common_subsequence(left, right)
    return 2.0 * common / (len(left) + len(right)) if common else 0.0


def _common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    row = [0] * (len(right) + 1)
    for unit in left:
        diagonal = 0
        for column, other in enumerate(right, start=1):
            above = row[column]
            row[column] = diagonal + 1 if unit == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


def first_sentence(text: str) -> str:
    """The first sentence: the baseline that a summary has to beat."""
    match = re.search(r".+?(?:[。！？!?；;]|\.(?=\s|$))", text.strip(), re.DOTALL)
    return match.group(0) if match else text.strip()


def repeats_ngram(text: str, size: int) -> bool:
    """Whether any run of ``size`` units occurs twice in a text."""
    found = units(text)
    grams = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]
    return len(set(grams)) < len(grams)


def format_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """A plain table with aligned columns for a terminal, which no cell steers."""
    cells = [[*map(_cell, header)], *([*map(_cell, row)] for row in rows)]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(header))]
    padded = [[cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = ["  ".join(row).rstrip() for row in padded]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _width(text: str) -> int:
    """The columns that a terminal gives a text: two for each wide character, such as Chinese."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else visible(str(value))
