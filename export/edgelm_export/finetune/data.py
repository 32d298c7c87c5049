"""Training rows: reading them, splitting off a development set, and turning them into token ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelm_export.finetune.labels import distinct, label_text, same_label, whole
from edgelm_export.notes import note
from edgelm_runtime import files
from edgelm_runtime.errors import InputError
from edgelm_runtime.tasks.attributes import canonical, parse
from edgelm_runtime.tokenizer import TextTokenizer

Row = dict[str, Any]
Encoded = dict[str, Any]
IGNORED = -100  # torch's cross entropy skips rows with this label

# The fields a row of each generator task has: what the model reads, and what it is to write.
GENERATOR_FIELDS: Mapping[str, tuple[str, str]] = {
    "summary": ("text", "summary"),
    "description": ("attributes", "description"),
}
# The fields of a row of the other tasks.
PLAIN_FIELDS: Mapping[str, tuple[str, ...]] = {
    "sentiment": ("text", "label"), "classify": ("text", "label"), "mlm": ("text",), "clm": ("text",),
}  # fmt: skip


SHOWN = 5  # lines of a file that a refusal names


class FileRow(Row):
    """A row that knows where it stands: ``where`` is its file and line, for messages."""

    def __init__(self, fields: Mapping[str, Any], where: str) -> None:
        super().__init__(fields)
        self.where = where


def where(row: Row, number: int = 0) -> str:
    """Where a row stands, for a message; its number where it is of no file."""
    return row.where if isinstance(row, FileRow) else f"row {number}" if number else "a row"


def read_rows(paths: Sequence[Path]) -> list[Row]:
    """Read .jsonl, .csv, .tsv or .txt files (each also as .gz) into rows, in order.

    A .txt line, and a string of .jsonl, becomes ``{"text": line}``; blank lines are skipped. What is not asked for by
    the file's name, such as UTF-16, is said on standard error.

    Raises:
        InputError: a file that is missing, of another kind or encoding, or has rows that cannot be read: the first
            of them are named by their lines.
    """
    return [row for path in paths for row in _read_file(Path(path))]


def _read_file(path: Path) -> list[Row]:
    found = files.read_rows(path)
    for told in found.notes:
        note(f"{path}: {told}")
    if found.problems:
        first, *others = found.problems
        lines = ", ".join(str(problem.line) for problem in others[:SHOWN])
        more = f"; {len(others)} more rows cannot be read, on lines {lines}" if others else ""
        more += ", ..." * (len(others) > SHOWN)
        raise InputError(f"{path}, line {first.line}: {first.message}{more}; mend or remove what is named")
    return [
        FileRow({"text": record.value.strip()} if isinstance(record.value, str) else record.value,
                f"{path}, line {record.line}")
        for record in found.records
    ]  # fmt: skip


def check_fields(rows: list[Row], fields: Sequence[str]) -> list[Row]:
    """The rows as they are.

    Raises:
        InputError: a row in which one of the fields is missing or blank.
    """
    for number, row in enumerate(rows, start=1):
        if not all(str("" if row.get(name) is None else row[name]).strip() for name in fields):
            found = ", ".join(sorted(str(name) for name, value in row.items() if value not in (None, "")))
            raise InputError(
                f"{where(row, number)}: the fields needed are {', '.join(fields)}; found {found or 'none'}"
            )
    return rows


def split_rows(rows: Sequence[Row], fraction: float) -> tuple[list[Row], list[Row]]:
    """Split into (training, development) by a hash of each row's text, or of its ``group`` where it names one.

    The same text lands on the same side in every file and every task, so that a text that is the input of one task
    and the answer of another never leaks from training into development. A group holds together what is not the same
    text but the same thing: all texts about one product.
    """
    train: list[Row] = []
    dev: list[Row] = []
    for row in rows:
        digest = hashlib.sha1(_split_text(row).encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
        (dev if int.from_bytes(digest[:4], "big") < fraction * 2**32 else train).append(row)
    return train, dev


def _split_text(row: Row) -> str:
    names = ("group", "description", "text", "tokens")
    return str(next((row[name] for name in names if row.get(name)), ""))


@dataclass(frozen=True)
class Pair:
    """What a generator reads and what it is to write."""

    task: str
    source: str
    answer: str


def generator_pairs(rows: Sequence[Row], tasks: Sequence[str]) -> list[Pair]:
    """The pairs of the given tasks; a row belongs to the first task whose two fields it has.

    Raises:
        InputError: no row has the fields of any of the tasks, or a task has no row.
    """
    pairs: list[Pair] = []
    for row in rows:
        for task in tasks:
            read, write = GENERATOR_FIELDS[task]
            if row.get(read) and row.get(write):
                source = canonical(parse(row[read])) if task == "description" else str(row[read])
                pairs.append(Pair(task, source, str(row[write])))
                break
    for task in tasks:
        if not any(pair.task == task for pair in pairs):
            fields = " and ".join(GENERATOR_FIELDS[task])
            raise InputError(f"no row for {task}: rows with the fields {fields} are needed")
    return pairs


def encode_pair(pair: Pair, tokenizer: TextTokenizer, template: str, max_tokens: int) -> Encoded:
    """Prompt and answer as ``input_ids``, with ``labels`` on the answer and its end token only.

    A prompt that leaves no room for the answer loses the end of its source text, never the template around it.
    """
    answer = [*tokenizer.encode(pair.answer, special=False), *tokenizer.spec.eos_ids[:1]]
    answer = answer[: max_tokens // 2]
    source = pair.source
    prompt = tokenizer.encode_prompt(template, source)
    while len(prompt) + len(answer) > max_tokens and source:
        source = source[: int(len(source) * 0.9 * (max_tokens - len(answer)) / len(prompt))]
        prompt = tokenizer.encode_prompt(template, source)
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def pack_lines(texts: Sequence[str], encode: Callable[[str], list[int]], size: int) -> list[Encoded]:
    """Join encoded lines and cut them into rows of ``size`` tokens: no padding is computed in pre-training."""
    stream: list[int] = [token for text in texts for token in encode(text)]
    return [{"input_ids": stream[start : start + size]} for start in range(0, max(len(stream) - 7, 1), size)]


def label_names(rows: Sequence[Row], *, sentiment: bool = True) -> list[str]:
    """Class names in the order of their ids, sorted by name; 0/1 of a sentiment are negative/positive.

    Raises:
        InputError: fewer than two classes, a row without a label, or two labels that are nearly the same.
    """
    names = distinct(_label(row) for row in rows)
    if len(names) < 2:
        raise InputError(f"one class only ({names}); at least two are needed to learn from")
    return ["negative", "positive"] if sentiment and names == ["0", "1"] else names


def label_id(row: Row, names: Sequence[str]) -> int:
    """The class id of a row.

    Raises:
        InputError: a label that is none of the names.
    """
    found = _label_id(row, names)
    if found is None:
        raise InputError(f"{where(row)}: label {row['label']!r}; accepted are {list(names)}")
    return found


def has_label(row: Row, names: Sequence[str]) -> bool:
    """Whether the label of a row is one of the names. Raises InputError for a row without a label."""
    return _label_id(row, names) is not None


def _label_id(row: Row, names: Sequence[str]) -> int | None:
    label = _label(row)
    if whole(label) in ("0", "1") and list(names) == ["negative", "positive"]:
        return int(whole(label))
    name = same_label(label, names)
    return None if name is None else names.index(name)


def label_notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """What was changed in the labels of rows, in words. Raises InputError for a row without a label."""
    read = ((str(row["label"]), _label(row)) for row in rows)
    forms = ((given, same_label(text, names) or whole(text)) for given, text in read)
    changed = Counter((given, text) for given, text in forms if given != text)
    listed = [f"{before!r} as {after!r} ({count})" for (before, after), count in changed.most_common(SHOWN)]
    more = f", and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return [f"labels were read without spaces and in one form: {', '.join(listed)}{more}"] if listed else []


def _label(row: Row) -> str:
    try:
        return label_text(row["label"])
    except InputError as error:
        raise InputError(f"{where(row)}: {error}") from None


def teacher(row: Row, names: Sequence[str]) -> dict[str, list[float]]:
    """The class probabilities that a larger model gave the row, to distil from; nothing where it has none.

    Raises:
        InputError: ``teacher`` is not one probability for each class.
    """
    given = row.get("teacher")
    if given is None:
        return {}
    if (
        not isinstance(given, list)
        or len(given) != len(names)
        or not all(isinstance(p, int | float) and 0 <= p <= 1 for p in given)
        or abs(sum(given) - 1) > 0.01
    ):
        raise InputError(f"teacher {given!r}: accepted is a list of {len(names)} probabilities, of {list(names)}")
    return {"teacher": [float(p) for p in given]}
