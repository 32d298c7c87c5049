"""The spine of fine-tuning: read, split, encode, train, evaluate, save."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, GenerationConfig, Trainer, TrainingArguments, set_seed

from edgelm_export.checkpoint import PROMPTS_FILE
from edgelm_export.finetune import classify, data, evaluate, tag
from edgelm_export.finetune.base import Base, load_base, runtime_tokenizer
from edgelm_export.finetune.optimizer import MuonAdamW
from edgelm_export.finetune.plan import FinetuneOptions, FinetuneReport, Outcome, Prepared
from edgelm_export.finetune.trainer import LanguageModelTrainer, PaddingCollator, has_bfloat16, quiet
from edgelm_runtime.errors import ExportError, InputError

MIN_DEV_ROWS = 30
GENERATOR_TASKS = tuple(data.GENERATOR_FIELDS)
PLAIN_TASKS = ("sentiment", "classify", "tag", "mlm", "clm")
# Options that may change between a training and its resumption.
_FREE = frozenset(["resume", "force", "progress", "out"])


def finetune(options: FinetuneOptions) -> FinetuneReport:
    """Train ``options.task`` and write a Hugging Face folder with its development metrics beside it.

    A training that was killed goes on where it was with ``resume``: its state is in ``OUT.training`` until the end.

    Raises:
        InputError: data that cannot be read or lacks the fields of the task.
        ExportError: a target or a training state that is already there.
        UnsupportedCheckpoint: a base that transformers cannot load.
    """
    _check_task(options.task)
    state = options.out.with_name(options.out.name + ".training")
    _check_target(options, state)
    _check_same(options, state)
    set_seed(options.seed)
    train_rows, dev_rows = _rows(options)
    prepared = _prepare(options, train_rows, dev_rows)
    trainer = _train(options, prepared, state)
    outcome = prepared.evaluate(trainer)
    notes = (*prepared.base.notes, *prepared.notes, *_notes(trainer, dev_rows))
    report = FinetuneReport(
        options.out, options.task, len(train_rows), len(dev_rows), outcome, notes, prepared.aggregation
    )
    _save(report, prepared.base, trainer, state, options.force)
    return report


def _notes(trainer: Trainer, dev: Sequence[data.Row]) -> tuple[str, ...]:
    """What the figures do not say by themselves."""
    notes = []
    if trainer.state.global_step < trainer.state.max_steps:
        notes.append(
            f"stopped early, at step {trainer.state.global_step} of {trainer.state.max_steps}: the development metric "
            "grew no more; the best step was kept. If it never grew, try a lower --learning-rate"
        )
    if len(dev) < MIN_DEV_ROWS:
        notes.append(f"{len(dev)} development rows say little; give more, with --dev or a larger --dev-fraction")
    return tuple(notes)


def _check_task(task: str) -> None:
    if task not in PLAIN_TASKS and not set(task.split(",")) <= set(GENERATOR_TASKS):
        accepted = ", ".join((*PLAIN_TASKS, *GENERATOR_TASKS, ",".join(GENERATOR_TASKS)))
        raise InputError(f"task {task!r} cannot be trained; accepted are {accepted}")


def _check_target(options: FinetuneOptions, state: Path) -> None:
    if options.out.exists() and not options.force:
        raise ExportError(f"{options.out} exists; name another --out, or add --force to replace it")
    if options.out.exists() and not (options.out / "finetune.json").is_file():
        raise ExportError(
            f"{options.out} is no folder that a fine-tuning wrote, and --force replaces only such; name another"
        )
    if state.exists() and not options.resume:
        raise ExportError(f"{state} holds an unfinished training; add --resume to go on with it, or delete it")
    if options.resume and not state.exists():
        raise ExportError(f"--resume: {state} does not exist; leave --resume out to begin")


def _check_same(options: FinetuneOptions, state: Path) -> None:
    """Hold a resumed training to the options and data that it began with: others would train something else."""
    record = state / "options.json"
    told = _told(options)
    before = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    changed = [name for name in told if options.resume and told[name] != before.get(name)]
    if changed:
        raise ExportError(
            f"--resume: {', '.join(changed)} differ from the unfinished training in {state}; "
            "give what it began with, or delete it"
        )


def _told(options: FinetuneOptions) -> dict[str, str]:
    sizes = [path.stat().st_size for path in options.data if path.is_file()]
    return {"data_bytes": str(sizes), **{n: str(v) for n, v in asdict(options).items() if n not in _FREE}}


def _rows(options: FinetuneOptions) -> tuple[list[data.Row], list[data.Row]]:
    rows = data.read_rows(options.data)
    fields = data.PLAIN_FIELDS.get(options.task, ())
    if options.task == "classify" and any("labels" in row for row in rows):
        fields = ("text", "labels")
    data.check_fields(rows, fields)
    if options.dev is not None:
        train, dev = rows, data.check_fields(data.read_rows([options.dev]), fields)
    else:
        fraction = options.dev_fraction
        train, dev = data.split_rows(rows, fraction)
        while not dev and fraction < 0.5:  # of few rows a twentieth may be none
            fraction *= 2
            train, dev = data.split_rows(rows, fraction)
    if not train or not dev:
        raise InputError(
            f"{len(train)} rows to train on and {len(dev)} for development are too few; "
            "give more rows, a larger --dev-fraction, or a development file with --dev"
        )
    return train, dev


def _prepare(options: FinetuneOptions, train: list[data.Row], dev: list[data.Row]) -> Prepared:
    tasks = options.task.split(",")
    if options.task in ("sentiment", "classify"):
        return classify.prepare(options, train, dev)
    if options.task == "tag":
        return tag.prepare(options, train, dev)
    if options.task in ("mlm", "clm"):
        return _prepare_lines(options, train, dev)
    return _prepare_generator(options, tasks, train, dev)


def _prepare_lines(options: FinetuneOptions, train: list[data.Row], dev: list[data.Row]) -> Prepared:
    causal = options.task == "clm"
    lines = [str(row["text"]) for row in train]
    base = load_base(options.base, "causal" if causal else "masked", lines, (), options.vocab_size)
    tokenizer = base.tokenizer
    size = base.limited(options.max_tokens)
    end = tokenizer.eos_token_id if causal else tokenizer.sep_token_id
    mask_id = None if causal else tokenizer.mask_token_id

    def encode(rows: list[data.Row]) -> list[data.Encoded]:
        texts = [str(row["text"]) for row in rows]
        ids = iter(tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"])
        return data.pack_lines(texts, lambda _: [*next(ids), end], size)

    collator = PaddingCollator(tokenizer.pad_token_id or 0, mask_id, len(tokenizer))
    return Prepared(
        base, encode(train), encode(dev), collator, partial(LanguageModelTrainer, causal=causal),
        lambda trainer: Outcome(evaluate.perplexity(trainer)),
    )  # fmt: skip


def _prepare_generator(
    options: FinetuneOptions, tasks: list[str], train: list[data.Row], dev: list[data.Row]
) -> Prepared:
    pairs, dev_pairs = data.generator_pairs(train, tasks), data.generator_pairs(dev, tasks)
    texts = [f"{pair.source}\n{pair.answer}" for pair in pairs]
    base = load_base(options.base, "causal", texts, (), options.vocab_size)
    size = base.limited(options.max_tokens)
    tokenizer = runtime_tokenizer(base, size)
    collator = PaddingCollator(base.tokenizer.pad_token_id or base.tokenizer.eos_token_id or 0)

    def encode(some: list[data.Pair]) -> list[data.Encoded]:
        return [data.encode_pair(pair, tokenizer, base.prompts[pair.task], size) for pair in some]

    return Prepared(
        base, encode(pairs), encode(dev_pairs), collator, partial(LanguageModelTrainer, causal=True),
        lambda trainer: Outcome(evaluate.generator_metrics(trainer, tokenizer, base.prompts, dev_pairs)),
    )  # fmt: skip


def _train(options: FinetuneOptions, prepared: Prepared, state: Path) -> Trainer:
    steps = max(1, round(len(prepared.train) / options.batch_size * options.epochs / options.evaluations))
    judged = prepared.figures is not None
    arguments = TrainingArguments(
        output_dir=str(state), num_train_epochs=options.epochs, seed=options.seed, data_seed=options.seed,
        per_device_train_batch_size=options.batch_size, per_device_eval_batch_size=2 * options.batch_size,
        learning_rate=options.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.06, weight_decay=0.01,
        max_grad_norm=1.0, bf16=has_bfloat16(), use_cpu=not torch.cuda.is_available(), optim="adamw_torch_fused",
        eval_strategy="steps", save_strategy="steps", eval_steps=steps, save_steps=steps, save_total_limit=2,
        logging_steps=max(1, steps // 5), load_best_model_at_end=True, greater_is_better=judged,
        metric_for_best_model=f"eval_{prepared.best}",
        train_sampling_strategy="group_by_length", disable_tqdm=not options.progress, report_to=[],
        remove_unused_columns=False, dataloader_pin_memory=False, prediction_loss_only=not judged,
    )  # fmt: skip
    state.mkdir(parents=True, exist_ok=True)
    (state / "options.json").write_text(json.dumps(_told(options), indent=2), "utf-8")
    settings: dict[str, Any] = {
        "model": prepared.base.model, "args": arguments, "data_collator": prepared.collator,
        "train_dataset": prepared.train, "eval_dataset": prepared.dev,
        "callbacks": [EarlyStoppingCallback(options.patience)],
    }  # fmt: skip
    if options.optimizer == "muon":
        optimizer = MuonAdamW(prepared.base.model, options.learning_rate, arguments.weight_decay)
        settings["optimizers"] = (optimizer, None)  # the Trainer makes the schedule
    if judged:
        settings["compute_metrics"] = prepared.figures
    trainer = prepared.trainer(**settings)
    quiet(trainer).train(resume_from_checkpoint=_last_checkpoint(state) if options.resume else None)
    return trainer


def _last_checkpoint(state: Path) -> str | None:
    """The newest whole checkpoint: a kill may have cut off a newer one, whose trainer_state.json is written last."""
    whole = [path.parent for path in state.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda folder: int(folder.name.partition("-")[2]))) if whole else None


def _save(report: FinetuneReport, base: Base, trainer: Trainer, state: Path, force: bool) -> None:
    """Write the folder under another name and rename it: OUT is whole or absent."""
    partial = state / "result"
    if base.prompts:  # the end is the one that was trained, whatever the base stopped at; nor does it sample like that
        tokens = {name: getattr(base.tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        trainer.model.generation_config = GenerationConfig(**evaluate.GENERATION_DEFAULTS, **tokens)
    trainer.model.save_pretrained(partial)
    base.tokenizer.save_pretrained(partial)
    if base.prompts:
        (partial / PROMPTS_FILE).write_text(json.dumps(dict(base.prompts), ensure_ascii=False, indent=2), "utf-8")
    (partial / "finetune.json").write_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=2), "utf-8")
    if report.out.exists() and force:
        shutil.rmtree(report.out)
    report.out.parent.mkdir(parents=True, exist_ok=True)
    os.rename(partial, report.out)
    shutil.rmtree(state)
