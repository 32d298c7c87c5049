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
from edgelm_export.encoder_metrics import FIELDS, evaluate_encoder, kind_of
from edgelm_export.evaluation import Each, Evaluation, Example, Metrics, nothing
from edgelm_export.finetune.data import (
    GENERATOR_FIELDS,
    SHOWN,
    Pair,
    Row,
    generator_pairs,
    has_label,
    label_id,
    label_notes,
    read_rows,
    where,
)
from edgelm_export.finetune.spans import entity_rows
from edgelm_export.goldens import fits
from edgelm_export.metrics import first_sentence, format_table, repeats_ngram, rouge_l
from edgelm_export.notes import note
from edgelm_export.significance import bootstrap_interval, mcnemar_exact, paired_permutation
from edgelm_export.text_parity.own import own_reader
from edgelm_runtime.errors import InputError
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks import ENCODERS
from edgelm_runtime.tasks.attributes import items, parse

Answer = tuple[str, bool]  # text, and whether it ended by itself
# Greedy answers in torch are slow: more rows of a task in a language are thinned out evenly to this many.
MAX_GENERATED = 200
REPEATED = 6


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same rows, in percent, with bootstrap intervals of 95 %.

    ``p`` is that of ``test``, two-sided, for "both are equally good".
    """

    metric: str
    rows: int
    before: float
    before_interval: tuple[float, float]
    after: float
    after_interval: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    p: float
    test: str


def differences(before: Evaluation, after: Evaluation) -> list[Difference]:
    """What the metrics that rows count for became, on the rows that both have; none of a metric with fewer than two."""
    before, after = before.shared(after), after.shared(before)
    found = []
    for metric in dict.fromkeys(example.metric for example in before.examples):
        mine = np.array([example.metric == metric for example in before.examples])
        if mine.sum() > 1:
            found.append(difference(metric, before.scores[mine], after.scores[mine]))
    return found


def difference(metric: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> Difference:
    """A metric from the scores of the same rows before and after, float64 [rows] in percent.

    Raises:
        InputError: fewer than two rows.
    """
    change = after - before
    if np.isin([before, after], (0.0, 100.0)).all():  # right or wrong
        p, test = mcnemar_exact(int((change < 0).sum()), int((change > 0).sum())), "McNemar, exact"
    else:
        p, test = paired_permutation(change), "paired permutation"
    return Difference(
        metric, len(change), float(before.mean()), bootstrap_interval(before), float(after.mean()),
        bootstrap_interval(after), float(change.mean()), bootstrap_interval(change), p, test,
    )  # fmt: skip


def difference_table(found: Sequence[Difference], before: str, after: str) -> str:
    """Differences for a person, with what the two models are called."""
    rows = [
        [
            one.metric, one.rows, f"{one.before:.2f} {_interval(one.before_interval)}",
            f"{one.after:.2f} {_interval(one.after_interval)}", f"{one.difference:+.2f} {_interval(one.interval, '+')}",
            f"{one.p:.3f} ({one.test})",
        ]
        for one in found
    ]  # fmt: skip
    return format_table(rows, ("metric", "rows", before, after, "difference", "p"))


def _interval(interval: tuple[float, float], sign: str = "") -> str:
    return f"[{interval[0]:{sign}.2f}, {interval[1]:{sign}.2f}]"


def evaluate_bundle(folder: Path, serves: Sequence[str], rows: Sequence[Row], each: Each = nothing) -> Evaluation:
    """Metrics of a bundle, in percent, answered through edgelm_runtime, on rows of ``evaluation_rows``."""
    if serves[0] in ENCODERS:
        model = load(folder, task=serves[0])
        return evaluate_encoder(model, rows, model.rows.one, each)

    def answer(model: Any, pair: Pair) -> Answer:
        each()
        result = model(pair.source, temperature=0.0, num_beams=1)
        return result.text, result.finish_reason == "stop"

    return _generation(folder, serves, rows, answer)


def evaluate_checkpoint(
    checkpoint: Checkpoint, folder: Path, serves: Sequence[str], rows: Sequence[Row], each: Each = nothing
) -> Evaluation:
    """The same metrics of the checkpoint in torch, on the token ids of transformers' own tokenizer.

    The bundle in ``folder`` says what is read in windows, and what the outputs mean.
    """
    from edgelm_export.graph_reference import reference_of

    reference, read = reference_of(checkpoint), own_reader(checkpoint)
    if serves[0] in ENCODERS:
        model = load(folder, task=serves[0])
        model.reader = read.reader(model)
        return evaluate_encoder(model, rows, lambda row: reference.logits([row])[0], each)

    def answer(model: Any, pair: Pair) -> Answer:
        each()
        prompt, options = read.prompt(model, pair.source), model.options(temperature=0.0, num_beams=1)
        limit = model.generator.room(len(model.generator.begin(prompt)), options)
        options, guide = replace(options, max_new_tokens=limit), model.guide(pair.source, options)
        ids = reference.greedy(prompt, options, checkpoint.tokenizer.eos_ids, guide)
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
    texts = [text for text, _ in answers]
    examples = [Example(pair.task, pair.source, pair.answer, f"{_group(pair)} ROUGE-L") for pair in pairs]
    return Evaluation(generation_metrics(pairs, answers), examples, texts, _rouge(pairs, texts))


def evaluation_rows(path: Path, manifest: Manifest, serves: Sequence[str]) -> list[Row]:
    """The rows of an evaluation file that can be used for the tasks ``serves`` of a bundle.

    Raises:
        InputError: the file cannot be read, has no row with the fields of the served tasks, a label that the classifier
            does not have, or one class only.
    """
    kind = kind_of(manifest) if serves[0] in ENCODERS else ""
    fields = [FIELDS[kind]] if kind else [GENERATOR_FIELDS[task] for task in serves]
    read = read_rows([path])
    if kind == "spans":
        read = entity_rows(read)
    rows = [row for row in read if any(all(_filled(row, name) for name in names) for names in fields)]
    if not rows:
        wanted = ", or ".join(" and ".join(names) for names in fields)
        raise InputError(f"{path}: no row has the fields {wanted}; they are needed to evaluate with")
    if kind == "classes":
        _check_labels(path, rows, manifest.labels)
    return rows


def _check_labels(path: Path, rows: Sequence[Row], labels: Sequence[str]) -> None:
    for changed in label_notes(rows, labels):
        note(f"{path}: {changed}")
    wrong = [row for row in rows if not has_label(row, labels)]
    if wrong:
        unknown = sorted({str(row["label"]) for row in wrong})
        raise InputError(
            f"{path}: {len(wrong)} of {len(rows)} rows have labels that the model does not have: "
            f"{', '.join(map(repr, unknown[:SHOWN]))}{' and more' if len(unknown) > SHOWN else ''}; "
            f"accepted are {', '.join(map(repr, labels))}: rename them (first: {where(wrong[0])}), or leave these "
            "rows out"
        )
    if len({label_id(row, labels) for row in rows}) < 2:
        raise InputError(
            f"{path}: every row has the label {rows[0]['label']!r}: a model that always says so would be right; "
            "give rows of at least two classes"
        )


def _filled(row: Row, name: str) -> bool:
    return row.get(name) is not None and bool(str(row[name]).strip())


def evaluation_pairs(rows: Sequence[Row], serves: Sequence[str]) -> list[Pair]:
    """The rows of the served tasks, thinned out to ``MAX_GENERATED`` of a task in a language."""
    present = [
        task for task in serves if any(all(_filled(row, name) for name in GENERATOR_FIELDS[task]) for row in rows)
    ]
    groups: dict[str, list[Pair]] = {}
    for pair in generator_pairs(rows, present):
        groups.setdefault(_group(pair), []).append(pair)
    return [pair for mine in groups.values() for pair in mine[:: -(-len(mine) // MAX_GENERATED)]]


def generation_metrics(pairs: Sequence[Pair], answers: Sequence[Answer]) -> Metrics:
    """ROUGE-L of every task, with the first-sentence baseline of summaries; how descriptions end, repeat and name.

    There is one answer for each pair. All figures are in percent.
    """
    metrics: Metrics = {}
    groups: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(_group(pair), []).append(index)
    scores = _rouge(pairs, [text for text, _ in answers])
    for name, chosen in sorted(groups.items()):
        metrics[f"{name} ROUGE-L"] = float(scores[chosen].mean())
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


def _rouge(pairs: Sequence[Pair], texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array([100.0 * rouge_l(pair.answer, text) for pair, text in zip(pairs, texts, strict=True)])


def _group(pair: Pair) -> str:
    """What its metrics are called after."""
    return f"{pair.task} {_language(pair.answer)}"


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
