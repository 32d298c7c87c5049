"""The task metric of a checkpoint and of its bundles on a file with the right answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.finetune.data import GENERATOR_FIELDS, Pair, Row, generator_pairs, label_id, read_rows
from edgelm_export.metrics import classification_metrics, first_sentence, repeats_ngram, rouge_l
from edgelm_export.verify import fits
from edgelm_runtime.errors import InputError
from edgelm_runtime.loader import load
from edgelm_runtime.tasks.attributes import items, parse
from edgelm_runtime.tasks.probabilities import softmax

Metrics = dict[str, float]
Answer = tuple[str, bool]  # text, and whether it ended by itself
# Greedy answers in torch are slow: more rows of a task in a language are thinned out evenly to this many.
MAX_GENERATED = 200
REPEATED = 6


@dataclass(frozen=True)
class Evaluation:
    """Metrics in percent, and the answers (labels or texts) that they are of, one for each row."""

    metrics: Metrics
    answers: Sequence[object]

    def against(self, reference: Evaluation) -> Metrics:
        """The metrics with the share of answers that are exactly the reference's."""
        same = [mine == other for mine, other in zip(self.answers, reference.answers, strict=True)]
        return {**self.metrics, "same answer as torch": 100.0 * fmean(map(float, same))}


def evaluate_bundle(folder: Path, serves: Sequence[str], rows: Sequence[Row]) -> Evaluation:
    """Metrics of a bundle, in percent, answered through edgelm_runtime, on rows of ``evaluation_rows``."""
    if list(serves) == ["sentiment"]:
        model = load(folder)
        return _classification(model, rows, lambda windows: model.logits(windows))

    def answer(model: Any, pair: Pair) -> Answer:
        result = model(pair.source, temperature=0.0)
        return result.text, result.finish_reason == "stop"

    return _generation(folder, serves, rows, answer)


def evaluate_checkpoint(checkpoint: Checkpoint, folder: Path, serves: Sequence[str], rows: Sequence[Row]) -> Evaluation:
    """The same metrics of the checkpoint in torch, on the token ids that the bundle in ``folder`` reads."""
    from edgelm_export.reference import Reference

    reference = Reference(checkpoint)
    if list(serves) == ["sentiment"]:
        return _classification(load(folder), rows, lambda windows: np.stack(reference.logits(windows)))

    def answer(model: Any, pair: Pair) -> Answer:
        prompt, options = model.tokenize(pair.source), model.options(temperature=0.0)
        limit = min(options.max_new_tokens, model.context - len(prompt))
        options, guide = replace(options, max_new_tokens=limit), model.guide(pair.source, options)
        ids = reference.greedy(prompt, options, checkpoint.tokenizer.eos_id, guide)
        return model.decode(ids), len(ids) < limit

    return _generation(folder, serves, rows, answer)


def _generation(
    folder: Path, serves: Sequence[str], rows: Sequence[Row], answer: Callable[[Any, Pair], Answer]
) -> Evaluation:
    pairs: list[Pair] = []
    answers: list[Answer] = []
    candidates = evaluation_pairs(rows, serves)
    for task in dict.fromkeys(pair.task for pair in candidates):
        model = load(folder, task=task)
        # The checkpoint itself has no windows: a text that needs them cannot be compared.
        chosen = [pair for pair in candidates if pair.task == task and fits(model, pair.source)]
        pairs += chosen
        answers += [answer(model, pair) for pair in chosen]
    if not pairs:
        raise InputError("every row of the evaluation file is longer than the model's context; give shorter ones")
    return Evaluation(generation_metrics(pairs, answers), [text for text, _ in answers])


def evaluation_rows(path: Path, serves: Sequence[str]) -> list[Row]:
    """The rows of an evaluation file that can be used.

    Raises:
        InputError: the file cannot be read, or has no row with the fields of the served tasks.
    """
    fields = [("text", "label")] if list(serves) == ["sentiment"] else [GENERATOR_FIELDS[task] for task in serves]
    rows = [row for row in read_rows([path]) if any(all(_filled(row, name) for name in names) for names in fields)]
    if not rows:
        wanted = ", or ".join(" and ".join(names) for names in fields)
        raise InputError(f"{path}: no row has the fields {wanted}; they are needed to evaluate with")
    return rows


def _filled(row: Row, name: str) -> bool:
    return row.get(name) is not None and bool(str(row[name]).strip())


def evaluation_pairs(rows: Sequence[Row], serves: Sequence[str]) -> list[Pair]:
    """The rows of the served tasks, thinned out to ``MAX_GENERATED`` of a task in a language."""
    present = [
        task for task in serves if any(all(_filled(row, name) for name in GENERATOR_FIELDS[task]) for row in rows)
    ]
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in generator_pairs(rows, present):
        groups.setdefault((pair.task, _language(pair.answer)), []).append(pair)
    return [pair for mine in groups.values() for pair in mine[:: -(-len(mine) // MAX_GENERATED)]]


def _classification(
    model: Any, rows: Sequence[Row], logits: Callable[[list[list[int]]], NDArray[np.float32]]
) -> Evaluation:
    windows = [model.windows(str(row["text"])) for row in rows]
    flat = softmax(logits([window for text in windows for window in text]))
    weights = np.array([len(window) for text in windows for window in text], np.float64)
    predicted: list[int] = []
    start = 0
    for text in windows:
        part = slice(start, start + len(text))
        predicted.append(int(np.average(flat[part], axis=0, weights=weights[part]).argmax()))
        start += len(text)
    expected = [label_id(row, model.labels) for row in rows]
    metrics = classification_metrics(expected, predicted)
    for source in sorted({str(row["source"]) for row in rows if row.get("source")}):
        hits = [e == p for row, e, p in zip(rows, expected, predicted, strict=True) if row.get("source") == source]
        metrics[f"accuracy {source}"] = 100.0 * fmean(map(float, hits))
    return Evaluation(metrics, predicted)


def generation_metrics(pairs: Sequence[Pair], answers: Sequence[Answer]) -> Metrics:
    """ROUGE-L of every task, with the first-sentence baseline of summaries; how descriptions end, repeat and name.

    There is one answer for each pair. All figures are in percent.
    """
    metrics: Metrics = {}
    groups: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(f"{pair.task} {_language(pair.answer)}", []).append(index)
    for name, chosen in sorted(groups.items()):
        scores = [rouge_l(pairs[index].answer, answers[index][0]) for index in chosen]
        metrics[f"{name} ROUGE-L"] = 100.0 * fmean(scores)
        if name.startswith("summary"):
            baseline = [rouge_l(pairs[index].answer, first_sentence(pairs[index].source)) for index in chosen]
            metrics[f"{name} first sentence ROUGE-L"] = 100.0 * fmean(baseline)
        else:
            metrics[f"{name} ends by itself"] = 100.0 * fmean(float(answers[index][1]) for index in chosen)
            metrics[f"{name} repeats a 6-gram"] = 100.0 * fmean(
                float(repeats_ngram(answers[index][0], REPEATED)) for index in chosen
            )
            named = [hit for index in chosen for hit in named_values(pairs[index], answers[index][0])]
            metrics[f"{name} names values"] = 100.0 * fmean(map(float, named)) if named else 100.0
    return metrics


def named_values(pair: Pair, answer: str) -> list[bool]:
    """For every attribute value that the reference names: whether the answer names it, too."""
    reference, found = pair.answer.lower(), answer.lower()
    values = {item.lower() for item in items(parse(pair.source))}
    return [part in found for part in sorted(values) if part in reference]


def _language(text: str) -> str:
    from edgelm_runtime.script import language_of

    return language_of(text)


def metric_columns(metrics: Mapping[str, Mapping[str, float]]) -> list[list[object]]:
    """Rows (name, one value a precision) for a table."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    return [[name, *(values.get(name, "") for values in metrics.values())] for name in names]
