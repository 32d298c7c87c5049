"""Development metrics of a trained model, computed with torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from numpy.typing import NDArray

from edgelm_export.finetune.data import Pair, Row
from edgelm_export.metrics import classification_metrics, first_sentence, rouge_l
from edgelm_export.reference import greedy_ids
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.tokenizer import TextTokenizer

# Generating is slow in torch: this many answers a task give ROUGE-L to about a point.
GENERATED = 100
ANSWER_TOKENS = 96
# Greedy answers of a small model loop and forget their source without these (perf/LOG.md has the tries); they are saved
# with the model, and export copies them. The rule on repeating leaves out the prompt: a summary may quote it.
GENERATION_DEFAULTS = {
    "max_new_tokens": 200, "no_repeat_ngram_size": 3, "penalize_prompt": False, "coverage_bonus": 2.5,
    "quote_bonus": 1.0,
}  # fmt: skip


def predicted(trainer: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """The right answers of the development rows and the logits of the model, both in the order of the rows."""
    # The Trainer's sampler by length would give the predictions in another order than that of the rows.
    trainer.args.train_sampling_strategy = "sequential"
    prediction = trainer.predict(trainer.eval_dataset)
    return prediction.label_ids, prediction.predictions


def classifier_metrics(expected: NDArray[Any], answered: NDArray[Any], rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 in percent, and the accuracy of each ``source`` that the rows name.

    ``expected`` and ``answered`` are class ids, int [rows].
    """
    metrics = classification_metrics(expected.tolist(), answered.tolist())
    for source in sorted({str(row["source"]) for row in rows if row.get("source")}):
        chosen = [index for index, row in enumerate(rows) if row.get("source") == source]
        metrics[f"accuracy {source}"] = 100.0 * float((expected[chosen] == answered[chosen]).mean())
    return metrics


def perplexity(trainer: Any) -> dict[str, float]:
    """Mean cross entropy a token, and its exponential."""
    loss = float(trainer.evaluate()["eval_loss"])
    return {"loss": loss, "perplexity": math.exp(min(loss, 50.0))}


def generator_metrics(
    trainer: Any, tokenizer: TextTokenizer, prompts: Mapping[str, str], pairs: Sequence[Pair]
) -> dict[str, float]:
    """Perplexity, and for each task ROUGE-L of greedy answers (of the first sentence too, for a summary)."""
    metrics = perplexity(trainer)
    for task in sorted({pair.task for pair in pairs}):
        chosen = [pair for pair in pairs if pair.task == task]
        chosen = chosen[:: max(1, len(chosen) // GENERATED)]
        answers = [_greedy(trainer.model, tokenizer, prompts[task], pair.source) for pair in chosen]
        scores = [rouge_l(pair.answer, answer) for pair, answer in zip(chosen, answers, strict=True)]
        metrics[f"{task} ROUGE-L"] = 100.0 * fmean(scores)
        if task == "summary":
            baseline = [rouge_l(pair.answer, first_sentence(pair.source)) for pair in chosen]
            metrics["first sentence ROUGE-L"] = 100.0 * fmean(baseline)
    return metrics


def _greedy(model: Any, tokenizer: TextTokenizer, template: str, source: str) -> str:
    limit = tokenizer.spec.max_tokens - ANSWER_TOKENS
    prompt = tokenizer.encode_prompt(template, source)
    while len(prompt) > limit and source:
        source = source[: int(len(source) * 0.9 * limit / len(prompt))]
        prompt = tokenizer.encode_prompt(template, source)
    # Without a guide: the bonuses have no effect, and the figure is of the model alone.
    options = GenerationOptions.from_mapping(GENERATION_DEFAULTS, max_new_tokens=ANSWER_TOKENS)
    return tokenizer.decode(greedy_ids(model.eval(), prompt, options, tokenizer.spec.eos_ids))
