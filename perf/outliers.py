"""Real models' outliers in a trained checkpoint: what plain dynamic int8 and edgelm's int8 make of them.

A few hidden channels are multiplied by 100 and the weights that read them divided by as much: the function stays.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from perf.bench import Figure, Report, arguments

FACTOR = 100.0
CHANNELS = 4
MOST_POINTS, MOST_PERPLEXITY = 0.3, 0.01
MAX_TEXTS = 200
PATHS = {
    "--classifier": "a BERT classifier's folder",
    "--classifier-eval": "rows with text and label",
    "--generator": "a GPT-2 generator's folder",
    "--generator-eval": "rows of its tasks",
}


def main() -> None:
    given = arguments("What outliers do to int8.", rounds=1, smoke_rounds=1, paths=PATHS)
    report = Report("outliers", given.smoke, excludes="time: this measures answers")
    with tempfile.TemporaryDirectory() as scratch:
        if given.smoke:
            _train(given, Path(scratch))
        if None in (given.classifier, given.classifier_eval, given.generator, given.generator_eval):
            report.skipped = f"give {', '.join(PATHS)}: they are trained checkpoints, which are not in the repository"
        else:
            report.facts = {"channels": f"{CHANNELS} in each place, times {FACTOR:g}"}
            distance = max(
                _classifier(report, given.classifier, given.classifier_eval, Path(scratch)),
                _generator(report, given.generator, given.generator_eval, Path(scratch)),
            )
            report.add(Figure("distance of the function after spreading", "", [distance], at_most=1e-3))
    report.print()


def _train(given: argparse.Namespace, scratch: Path) -> None:
    from perf.toy import train

    given.classifier, given.classifier_eval = train("sentiment", scratch / "classifier")
    given.generator, given.generator_eval = train("summary,description", scratch / "generator")


def spread(model: Any, channels: int = CHANNELS, factor: float = FACTOR) -> Any:
    """Give a torch BERT or GPT-2 outliers, in place, and return it; its function stays what it was.

    In a GPT-2 they come out of the norms. BERT's norms are read by what adds up the layers, too, where a factor would
    not be undone: there they are in the values of the attention.
    """
    import torch

    random = torch.Generator().manual_seed(0)

    def some(width: int) -> Any:
        return torch.randperm(width, generator=random)[:channels]

    with torch.no_grad():
        for block in model.transformer.h if hasattr(model, "transformer") else ():
            for norm, reader in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                chosen = some(len(norm.weight))
                norm.weight[chosen] *= factor
                norm.bias[chosen] *= factor
                reader.weight[chosen] /= factor
        for block in model.bert.encoder.layer if hasattr(model, "bert") else ():
            values, reader = block.attention.self.value, block.attention.output.dense
            chosen = some(len(values.bias))
            values.weight[chosen] *= factor
            values.bias[chosen] *= factor
            reader.weight[:, chosen] /= factor
    return model


def with_outliers(checkpoint: Path, out: Path) -> Path:
    """A copy of a checkpoint with outliers."""
    import shutil

    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    shutil.copytree(checkpoint, out)
    generator = (checkpoint / "generation_config.json").is_file() or (checkpoint / "prompts.json").is_file()
    kind: Any = AutoModelForCausalLM if generator else AutoModelForSequenceClassification
    spread(kind.from_pretrained(checkpoint, trust_remote_code=False)).save_pretrained(out)
    return out


def bundles(checkpoint: Path, out: Path) -> Mapping[str, Path]:
    """The bundle that `edgelm export` makes, and one with plain dynamic int8 everywhere."""
    from edgelm_export.checkpoint import load_checkpoint
    from edgelm_export.pipeline import MODEL_FILE, ExportOptions, export
    from edgelm_export.quantize.int8_dynamic import Int8Dynamic
    from edgelm_runtime.bundle import open_bundle, write_bundle

    class Plain(Int8Dynamic):
        """DynamicQuantizeMatMul for products with outliers as well."""

        def linear(self, *given: Any, outliers: bool = False) -> Any:
            return super().linear(*given)

    export(ExportOptions(checkpoint, out / "int8"))
    made = open_bundle(out / "int8")
    read = load_checkpoint(checkpoint)
    model = read.architecture.build(read.weights, read.config, Plain(), read.wanted)
    if model.weights is not None:
        raise SystemExit(f"{checkpoint}: too large for this measurement, whose bundles have their weights in the graph")
    contents: dict[str, bytes | Path] = {name: made.path / name for name in made.manifest.files}
    variant = replace(made.manifest.variants[0], weights="")
    contents = {name: path for name, path in contents.items() if name in ("tokenizer.json", "golden.json")}
    manifest = replace(made.manifest, variants=(variant,))
    write_bundle(out / "plain", manifest, {**contents, MODEL_FILE: model.graph})
    return {"plain dynamic int8": out / "plain", "int8": out / "int8"}


def _classifier(report: Report, checkpoint: Path, rows_file: Path, scratch: Path) -> float:
    """Accuracy in points away from torch's; the worst distance of torch's logits before and after."""
    from edgelm_export import taskmetrics
    from edgelm_export.checkpoint import load_checkpoint
    from edgelm_export.reference import Reference
    from edgelm_runtime.loader import load

    spoiled = with_outliers(checkpoint, scratch / "classifier-outliers")
    made = bundles(spoiled, scratch / "classifier-bundles")
    model = load(made["int8"])
    rows = taskmetrics.evaluation_rows(rows_file, model.bundle.manifest, ["sentiment"])
    torch = taskmetrics.evaluate_checkpoint(load_checkpoint(spoiled), made["int8"], ["sentiment"], rows).metrics
    report.facts["accuracy in torch"] = f"{torch['accuracy']:.2f} on {len(rows)} rows"
    for name, folder in made.items():
        found = taskmetrics.evaluate_bundle(folder, ["sentiment"], rows).metrics
        goal = MOST_POINTS if name == "int8" else None
        points = abs(found["accuracy"] - torch["accuracy"])
        report.add(Figure(f"accuracy, {name} - torch", "points", [points], at_most=goal))
    ids = [model.windows(str(row["text"]))[0] for row in rows[:20]]
    before, after = (Reference(load_checkpoint(folder)).logits(ids) for folder in (checkpoint, spoiled))
    return _apart(before, after)


def _generator(report: Report, checkpoint: Path, rows_file: Path, scratch: Path) -> float:
    """Perplexity of prompts and answers against torch's; the worst distance of torch's logits before and after."""
    from edgelm_export import taskmetrics
    from edgelm_export.checkpoint import load_checkpoint
    from edgelm_export.reference import Reference
    from edgelm_runtime.bundle import open_bundle
    from edgelm_runtime.loader import load

    spoiled = with_outliers(checkpoint, scratch / "generator-outliers")
    made = bundles(spoiled, scratch / "generator-bundles")
    manifest = open_bundle(made["int8"]).manifest
    serves = manifest.serves
    pairs = taskmetrics.evaluation_pairs(taskmetrics.evaluation_rows(rows_file, manifest, serves), serves)
    models = {task: load(made["int8"], task=task) for task in serves}
    sequences = [
        (models[pair.task].tokenize(pair.source) + models[pair.task].tokenizer.encode(pair.answer))
        for pair in pairs[:: -(-len(pairs) // MAX_TEXTS)]
    ]
    sequences = [ids for ids in sequences if 2 <= len(ids) <= models[serves[0]].context]
    reference = Reference(load_checkpoint(spoiled))
    torch = perplexity([_torch_rows(reference, ids) for ids in sequences], sequences)
    report.facts["perplexity in torch"] = f"{torch:.3f} on {len(sequences)} texts"
    for name, folder in made.items():
        generator = load(folder, task=serves[0]).generator
        found = perplexity([_bundle_rows(generator, ids) for ids in sequences], sequences)
        goal = MOST_PERPLEXITY if name == "int8" else None
        report.add(Figure(f"perplexity, {name} / torch - 1", "", [abs(found / torch - 1)], at_most=goal))
    before = Reference(load_checkpoint(checkpoint)).logits(sequences[:20])
    return _apart(before, reference.logits(sequences[:20]))


def _torch_rows(reference: Any, ids: Sequence[int]) -> Any:
    import torch

    with torch.inference_mode():
        return reference.model(input_ids=torch.tensor([list(ids)])).logits[0].numpy()


def _bundle_rows(generator: Any, ids: Sequence[int]) -> Any:
    from edgelm_runtime.generate.cache import KVCache

    runs = generator.runs(KVCache.empty(generator.layout, len(ids)))
    return runs.read([list(ids)], [0], keep=len(ids))[0].copy()


def perplexity(logits: Sequence[Any], sequences: Sequence[Sequence[int]]) -> float:
    """Of every token after the first of each sequence, from logits float32 [tokens, vocab] of each."""
    losses: list[float] = []
    for rows, ids in zip(logits, sequences, strict=True):
        rows = np.asarray(rows[:-1], np.float64)
        shifted = rows - rows.max(axis=1, keepdims=True)
        chosen = shifted[np.arange(len(ids) - 1), list(ids[1:])]
        losses += (np.log(np.exp(shifted).sum(axis=1)) - chosen).tolist()
    return math.exp(sum(losses) / len(losses))


def _apart(left: Sequence[Any], right: Sequence[Any]) -> float:
    from edgelm_export.problems import distance

    return max(distance(one, other) for one, other in zip(left, right, strict=True))


if __name__ == "__main__":
    main()
