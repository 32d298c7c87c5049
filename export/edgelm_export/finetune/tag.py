"""Fine-tuning a token classifier: the pieces that are labelled are those that the runtime reads an entity from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgelm_export import class_report
from edgelm_export.class_report import Entities, row_warnings
from edgelm_export.finetune import data
from edgelm_export.finetune.base import load_base, runtime_tokenizer
from edgelm_export.finetune.classify import shared_texts
from edgelm_export.finetune.plan import FinetuneOptions, Outcome, Prepared
from edgelm_export.finetune.spans import Tagged, tagged_rows, trimmed
from edgelm_export.finetune.trainer import ClassifierTrainer, PaddingCollator
from edgelm_runtime.errors import InputError
from edgelm_runtime.manifest import OUTSIDE, PARSE
from edgelm_runtime.tasks.entities import Mark, Spans, entities_of, grouped, marks_of, words_of
from edgelm_runtime.tasks.presplit import Words
from edgelm_runtime.tasks.probabilities import softmax
from edgelm_runtime.tasks.reading import window_spans
from edgelm_runtime.tasks.tag import merged
from edgelm_runtime.tokenizer import Encoded, TextTokenizer

_EVERY = 1 << 40  # windows: no row of training is cut


def prepare(options: FinetuneOptions, train: list[data.Row], dev: list[data.Row]) -> Prepared:
    """A token classifier for rows of ``spans.tagged_rows``, with the labels B-KIND and I-KIND of the training rows.

    Where the vocabulary marks the pieces that go on with a word, the first piece of each word is labelled, the others
    are IGNORED, and entities are aggregated by "first". Where it does not, a word cannot be told from a comma that
    stands at it without a blank: every piece is labelled, and entities are aggregated by "simple".

    Raises:
        InputError: rows that cannot be used, or a kind of entity that no training row has.
    """
    rows = tagged_rows([*train, *dev])
    learned, judged = rows[: len(train)], rows[len(train) :]
    kinds, checked = (Counter(label for row in some for label, _, _ in row.spans) for some in (learned, judged))
    strange = sorted(checked.keys() - kinds.keys())
    if strange or not kinds:
        raise InputError(
            f"entities {', '.join(map(repr, strange))} of the development rows: no training row has them"
            if strange else "no training row has an entity; give rows with entities"
        )  # fmt: skip
    labels = [OUTSIDE, *(f"{place}-{kind}" for kind in sorted(kinds) for place in "BI")]
    base = load_base(options.base, "token-classification", [row.text for row in learned], labels, options.vocab_size)
    size = base.limited(options.max_tokens)
    reader = Pieces(
        runtime_tokenizer(base, size, PARSE), tuple(base.model.config.id2label[i] for i in range(len(labels)))
    )
    split = sum(reader.split(row) for row in learned)
    notes = [f"{split} of {kinds.total()} training entities begin or end inside a word, whose first piece "
             "is labelled for all of it"] if split else []  # fmt: skip
    wrong = row_warnings(kinds, checked, shared_texts(train, dev), len(dev))

    def outcome(trainer: Any) -> Outcome:
        expected = [set(row.spans) for row in judged]
        answered = [reader.answered(trainer.model, row) for row in judged]
        of = class_report.of_entities(expected, answered)
        return Outcome(class_report.entity_metrics(expected, answered), of, [*of.warnings(), *wrong])

    return Prepared(
        base, [part for row in learned for part in reader.encoded(row)],
        [part for row in judged for part in reader.encoded(row)], PaddingCollator(base.tokenizer.pad_token_id or 0),
        ClassifierTrainer, outcome, "f1", reader.figures, reader.aggregation, notes,
    )  # fmt: skip


@dataclass(frozen=True)
class Pieces:
    """The tokens of tagged rows as a bundle will read them, and their labels."""

    tokenizer: TextTokenizer
    labels: tuple[str, ...]

    @property
    def aggregation(self) -> str:
        """How entities are made of the tokens' labels."""
        return "first" if self.tokenizer.marks_subwords else "simple"

    def read(self, row: Tagged) -> tuple[Encoded, list[bool]]:
        """The tokens of a row, and which of them go on with a word."""
        given = row.given
        parts = (
            self.tokenizer.encode_words(given.words, given.starts)
            if isinstance(given, Words)
            else self.tokenizer.encode_parts(given)
        )
        return parts, self._subwords(parts, row.text)

    def _subwords(self, parts: Encoded, text: str) -> list[bool]:
        if self.aggregation == "simple":
            return [False] * len(parts.ids)
        found = self.tokenizer.subwords(parts, text)
        return [False, *found[1:]] if found else found

    def encoded(self, row: Tagged) -> Iterator[data.Encoded]:
        """``input_ids`` and ``labels`` of the windows of a row."""
        parts, subwords = self.read(row)
        marked = self._marked(row, parts, subwords)
        before, after = [data.IGNORED] * len(parts.prefix), [data.IGNORED] * len(parts.suffix)
        for first, last in self._windows(parts):
            yield {"input_ids": parts.window(first, last)[0], "labels": before + marked[first:last] + after}

    def _windows(self, parts: Encoded) -> list[tuple[int, int]]:
        room = self.tokenizer.spec.max_tokens - len(parts.prefix) - len(parts.suffix)
        return window_spans(len(parts.ids), room, _EVERY)

    def _marked(self, row: Tagged, parts: Encoded, subwords: Sequence[bool]) -> list[int]:
        """The label of every token: of the entity that its word lies in, B for the first word of one."""
        found, begun = [], set()
        for place, subword in enumerate(subwords):
            if subword:
                found.append(data.IGNORED)
                continue
            span = _covering(row, parts.starts[place], _word_end(parts, subwords, place))
            found.append(self.labels.index(OUTSIDE if span is None else f"{'BI'[span in begun]}-{span[0]}"))
            begun.add(span)
        return found

    def split(self, row: Tagged) -> int:
        """How many entities of a row begin or end inside a word."""
        parts, subwords = self.read(row)
        edges = set()
        for place, subword in enumerate(subwords):
            if not subword:
                _, start, end = trimmed("", parts.starts[place], _word_end(parts, subwords, place), row.text)
                edges |= {start, end}
        return sum(not {start, end} <= edges for _, start, end in row.spans)

    def answered(self, model: Any, row: Tagged) -> Entities:
        """The entities that the model finds in a row, made as the runtime makes them."""
        parts, subwords = self.read(row)
        windows = self._windows(parts)
        found = []
        for first, last in windows:
            with torch.inference_mode():
                ids = torch.tensor([parts.window(first, last)[0]], device=model.device)
                logits = model(input_ids=ids).logits[0].float().cpu().numpy()
            found.append(softmax(logits[len(parts.prefix) : len(parts.prefix) + last - first]))
        scores, spans = merged(found, windows), Spans(parts.starts, parts.ends)
        if self.aggregation == "first":
            scores, spans = words_of(scores, subwords, spans, "first")
        entities = entities_of(scores, spans, marks_of(self.labels, {}), row.text)
        return {trimmed(one.label, one.start, one.end, row.text) for one in entities}

    def figures(self, prediction: Any) -> dict[str, float]:
        """Metrics of entities over the labelled tokens of the development windows, for the choice of the best step."""
        marks = marks_of(self.labels, {})

        def entities(ids: Any, told: Any) -> Entities:
            sequence: list[Mark] = [marks[index] for index in ids[told].tolist()]
            return set(grouped(sequence))

        labels, best = prediction.label_ids, prediction.predictions.argmax(-1)
        told = labels != data.IGNORED
        return class_report.entity_metrics(
            *([entities(row, kept) for row, kept in zip(ids, told, strict=True)] for ids in (labels, best))
        )


def _word_end(parts: Encoded, subwords: Sequence[bool], place: int) -> int:
    """Where the word ends that begins with a token."""
    last = place
    while last + 1 < len(subwords) and subwords[last + 1]:
        last += 1
    return parts.ends[last]


def _covering(row: Tagged, start: int, end: int) -> tuple[str, int, int] | None:
    """The entity that most of the characters from `start` to `end` are in."""
    shared = [(min(end, last) - max(start, first), (label, first, last)) for label, first, last in row.spans]
    most = max(shared, default=(0, None), key=lambda one: one[0])
    return most[1] if most[0] > 0 else None
