"""Fine-tuning on small synthetic data: it learns, it is repeatable, it goes on after a kill."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.finetune import FinetuneOptions, FinetuneReport, finetune
from edgelm_export.finetune.base import load_base
from edgelm_export.finetune.data import IGNORED, split_rows
from edgelm_export.finetune.evaluate import GENERATION_DEFAULTS, classifier_metrics, predicted
from edgelm_export.finetune.optimizer import MuonAdamW
from edgelm_export.finetune.run import _last_checkpoint, _rows
from edgelm_export.finetune.trainer import ClassifierTrainer, LanguageModelTrainer, PaddingCollator, quiet
from edgelm_runtime.errors import ExportError, InputError, UnsupportedCheckpoint
from tests.export.rows import pairs, reviews, write_rows
from tests.export.tiny import bert, gpt2


def _finetune(task: str, data: Path, out: Path, **given: Any) -> FinetuneReport:
    """A run of a few seconds."""
    settings: dict[str, Any] = {
        "base": "tiny", "vocab_size": 400, "epochs": 1.0, "batch_size": 16, "learning_rate": 1e-3,
        "dev_fraction": 0.25, "evaluations": 2,
    }  # fmt: skip
    return finetune(FinetuneOptions(task, data=(data,), out=out, **{**settings, **given}))


@pytest.fixture(scope="module")
def review_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 reviews."""
    return write_rows(tmp_path_factory.mktemp("data") / "reviews.jsonl", reviews(240))


@pytest.fixture(scope="module")
def trained(review_file: Path) -> FinetuneReport:
    """A classifier trained on them."""
    return _finetune("sentiment", review_file, review_file.parent / "sentiment", epochs=5.0)


def test_a_classifier_learns(trained: FinetuneReport) -> None:
    assert trained.metrics["accuracy"] > 85
    assert set(trained.metrics) >= {"accuracy", "precision", "recall", "f1", "accuracy short", "accuracy long"}
    assert trained.train_rows + trained.dev_rows == 240
    assert "accuracy" in trained.table()
    assert json.loads(json.dumps(trained.to_dict()))["metrics"] == dict(trained.metrics)


def test_the_result_is_an_ordinary_folder(trained: FinetuneReport) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json", "finetune.json"} <= {
        p.name for p in trained.out.iterdir()
    }
    assert not trained.out.with_name("sentiment.training").exists()
    model = AutoModelForSequenceClassification.from_pretrained(trained.out)
    tokenizer = AutoTokenizer.from_pretrained(trained.out)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    with torch.inference_mode():
        for text, label in (("质量很好，the box is lovely", 1), ("颜色很差，awful", 0)):
            assert model(**tokenizer(text, return_tensors="pt")).logits.argmax() == label


def test_the_metrics_are_those_of_the_development_rows(trained: FinetuneReport, review_file: Path) -> None:
    rows = [json.loads(line) for line in review_file.read_text("utf-8").splitlines()]
    _, dev = split_rows(rows, 0.25)
    assert len(dev) == trained.dev_rows
    model = AutoModelForSequenceClassification.from_pretrained(trained.out).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained.out)
    for source in ("short", "long"):
        chosen = [row for row in dev if row["source"] == source]
        with torch.inference_mode():
            hits = [
                int(model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax() == row["label"])
                for row in chosen
            ]
        # bfloat16 in training may decide a tie otherwise
        assert trained.metrics[f"accuracy {source}"] == pytest.approx(100 * sum(hits) / len(hits), abs=101 / len(hits))


def test_predictions_come_in_the_order_of_the_rows() -> None:
    class ById(torch.nn.Module):
        """Answers with the first token id."""

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
            logits = torch.nn.functional.one_hot(input_ids[:, 0], 2).float()
            return {"loss": logits.sum() * 0, "logits": logits}

    # Right where the source is "a", wrong where it is "b"; lengths in disorder.
    dev = [{"input_ids": [index % 2] * (1 + 37 * index % 23), "label": 0} for index in range(40)]
    arguments = TrainingArguments(
        output_dir="unused", train_sampling_strategy="group_by_length", per_device_eval_batch_size=4, report_to=[],
        disable_tqdm=True, remove_unused_columns=False, use_cpu=True,
    )  # fmt: skip
    trainer = quiet(Trainer(ById(), arguments, PaddingCollator(0), eval_dataset=dev))
    expected, logits = predicted(trainer)
    rows = [{"source": "ab"[index % 2]} for index in range(40)]
    metrics = classifier_metrics(expected, logits.argmax(-1), rows)
    assert (metrics["accuracy a"], metrics["accuracy b"], metrics["accuracy"]) == (100.0, 0.0, 50.0)


def test_the_same_seed_gives_the_same_weights(review_file: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _finetune("sentiment", review_file, tmp_path / name, epochs=0.5, seed=seed)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "c/tokenizer.json").read_bytes()


def test_both_generator_tasks_in_one_model(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "pairs.jsonl", pairs(120))
    report = _finetune("summary,description", data, tmp_path / "writer", epochs=2.0)
    assert {"loss", "perplexity", "summary ROUGE-L", "first sentence ROUGE-L", "description ROUGE-L"} == set(
        report.metrics
    )
    assert report.metrics["perplexity"] < 150  # of 400 pieces
    prompts = json.loads((tmp_path / "writer/prompts.json").read_text("utf-8"))
    assert prompts == {
        "summary": "<|summary|>{text}<|answer|>", "description": "<|description|>{text}<|answer|>",
    }  # fmt: skip
    AutoModelForCausalLM.from_pretrained(tmp_path / "writer")
    saved = json.loads((tmp_path / "writer/generation_config.json").read_text("utf-8"))
    assert {name: saved[name] for name in GENERATION_DEFAULTS} == GENERATION_DEFAULTS
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "writer")
    assert tokenizer.encode("<|answer|>") == [tokenizer.convert_tokens_to_ids("<|answer|>")]


def test_reading_on_masked_and_then_a_classifier_on_top(review_file: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt.gz"
    lines.write_bytes(gzip.compress("\n\n".join(row["text"] for row in reviews(150)).encode()))
    report = _finetune("mlm", lines, tmp_path / "read", max_tokens=32)
    assert set(report.metrics) == {"loss", "perplexity"}
    AutoModelForMaskedLM.from_pretrained(tmp_path / "read")
    # The classifier keeps the body and the tokenizer of its base.
    _finetune("sentiment", review_file, tmp_path / "top", base=str(tmp_path / "read"), learning_rate=1e-12)
    body = "bert.encoder.layer.0.attention.self.query.weight"
    below, top = (load_file(tmp_path / name / "model.safetensors")[body] for name in ("read", "top"))
    torch.testing.assert_close(below, top)
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "top").get_vocab()
        == AutoTokenizer.from_pretrained(tmp_path / "read").get_vocab()
    )


def test_reading_on_causal_and_then_a_generator_on_top(tmp_path: Path) -> None:
    table = tmp_path / "lines.csv"
    table.write_text("text\n" + "".join(f'"{row["text"]}"\n' for row in reviews(150)), "utf-8")
    report = _finetune("clm", table, tmp_path / "read", max_tokens=32)
    assert set(report.metrics) == {"loss", "perplexity"}
    AutoModelForCausalLM.from_pretrained(tmp_path / "read")
    (tmp_path / "read/generation_config.json").write_text('{"eos_token_id": [3, 5]}')
    data = write_rows(tmp_path / "pairs.jsonl", [row for row in pairs(60) if "summary" in row])
    report = _finetune("summary", data, tmp_path / "top", base=str(tmp_path / "read"))
    prompts = json.loads((tmp_path / "top/prompts.json").read_text("utf-8"))
    assert prompts["summary"] == "<|summary|>{text}<|answer|>"
    assert load_checkpoint(tmp_path / "top").tokenizer.eos_ids == (0,)  # the end that was trained, not the base's


def test_a_base_without_our_special_tokens_gets_plain_prompts(tmp_path: Path) -> None:
    alphabet = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE({**alphabet, "<|endoftext|>": 256}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(tmp_path / "gpt2")
    gpt2().save_pretrained(tmp_path / "gpt2")
    base = load_base(str(tmp_path / "gpt2"), "causal", (), (), None)
    assert base.prompts["summary"] == "{text}\n\nSummary:\n"


def test_a_base_that_is_not_there_is_refused(review_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="accepted are a Hugging Face folder, 'tiny' and 'small'"):
        _finetune("sentiment", review_file, tmp_path / "out", base="large")


def test_a_training_that_stops_early_says_so(review_file: Path, tmp_path: Path) -> None:
    settings = {"epochs": 8.0, "evaluations": 12, "patience": 1, "dev_fraction": 0.1, "learning_rate": 1e-9}
    report = _finetune("sentiment", review_file, tmp_path / "out", **settings)
    assert any("stopped early" in note and "--learning-rate" in note for note in report.notes)
    assert any(f"{report.dev_rows} development rows say little" in note for note in report.notes)
    assert all(note in report.table() for note in report.notes)


def test_an_existing_target_is_refused_and_replaced_with_force(review_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("")
    with pytest.raises(ExportError, match=r"exists.*--force"):
        _finetune("sentiment", review_file, out)
    with pytest.raises(ExportError, match="no folder that a fine-tuning wrote"):
        _finetune("sentiment", review_file, out, epochs=0.2, force=True)
    (out / "finetune.json").write_text("{}")
    report = _finetune("sentiment", review_file, out, epochs=0.2, force=True)
    assert not any("stopped early" in note for note in report.notes)
    assert (out / "model.safetensors").is_file()
    assert not (out / "old").exists()


@pytest.mark.parametrize(
    ("task", "rows", "message"),
    [
        ("poem", reviews(40), "task 'poem' cannot be trained; accepted are sentiment"),
        ("sentiment", [{**row, "label": 1} for row in reviews(40)], "one class only"),
        ("sentiment", [*reviews(40), {"text": "no label"}], "line 41: the fields needed are text, label; found text"),
        ("sentiment", reviews(1), "too few"),
        ("sentiment", [], "too few"),
        ("mlm", [*reviews(9), {"summary": "x"}], "line 10: the fields needed are text; found summary"),
        ("clm", [{"text": " "}], "line 1"),
        ("summary", reviews(40), "no row for summary: rows with the fields text and summary are needed"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], message: str
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=message):
        _finetune(task, data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_development_rows_are_checked_too(review_file: Path, tmp_path: Path) -> None:
    for rows, message in (([{"text": "x"}], "line 1"), ([{"text": "x", "label": "maybe"}], "'maybe'"), ([], "too few")):
        dev = write_rows(tmp_path / "dev.jsonl", rows)
        with pytest.raises(InputError, match=message):
            _finetune("sentiment", review_file, tmp_path / "out", dev=dev)


KILLABLE = """
import sys
from pathlib import Path
import torch
from edgelm_export.finetune import FinetuneOptions, finetune
torch.set_num_threads(1)
finetune(FinetuneOptions("sentiment", "tiny", (Path(sys.argv[1]),), Path(sys.argv[2]), vocab_size=400, epochs=8.0,
    batch_size=16, learning_rate=1e-3, dev_fraction=0.25, evaluations=8, patience=8, optimizer=sys.argv[3]))
"""


@pytest.mark.parametrize("count", [3, 8, 20])
def test_of_few_rows_some_are_set_aside_too(tmp_path: Path, count: int) -> None:
    data = write_rows(tmp_path / "rows.jsonl", reviews(count))
    train, dev = _rows(FinetuneOptions("sentiment", "tiny", (data,), tmp_path / "out"))
    assert train
    assert dev
    assert len(train) + len(dev) == count


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_training_goes_on_where_it_was(
    review_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], optimizer: str
) -> None:
    out, state = tmp_path / "out", tmp_path / "out.training"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", KILLABLE, str(review_file), str(out), optimizer]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(state.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    settings: dict[str, Any] = {"epochs": 8.0, "evaluations": 8, "patience": 8, "optimizer": optimizer}
    with pytest.raises(ExportError, match="add --resume to go on"):
        _finetune("sentiment", review_file, out, **settings)

    reached = json.loads((Path(str(_last_checkpoint(state))) / "trainer_state.json").read_text())["global_step"]
    (state / "checkpoint-9999").mkdir()  # cut off while it was written
    capfd.readouterr()
    report = _finetune("sentiment", review_file, out, resume=True, **settings)
    steps = [int(line.split()[1].partition("/")[0]) for line in capfd.readouterr().err.splitlines() if "step" in line]
    assert steps[0] > reached > 0
    assert report.metrics["accuracy"] > 85
    assert not state.exists()
    # The same as if nothing had happened.
    _finetune("sentiment", review_file, tmp_path / "whole", **settings)
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "whole"))
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=1e-5)


def test_resume_without_a_training_is_refused(review_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="leave --resume out"):
        _finetune("sentiment", review_file, tmp_path / "out", resume=True)


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest() -> None:
    model = BertForMaskedLM(bert().config)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = MuonAdamW(model, 1e-3, 0.0)
    muon, adamw = optimizer._parts
    chosen = {id(weight) for group in muon.param_groups for weight in group["params"]}
    names = {name for name, weight in model.named_parameters() if id(weight) in chosen}
    assert "bert.encoder.layer.0.intermediate.dense.weight" in names
    assert not [name for name in names if "embeddings" in name or "LayerNorm" in name or "cls" in name]
    assert len(chosen) + sum(len(group["params"]) for group in adamw.param_groups) == len(before)
    ids = torch.randint(5, 50, (16, 32), generator=torch.Generator().manual_seed(0))
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    for name, weight in model.named_parameters():
        change = weight.detach() - before[name]
        assert change.abs().max() > 0 or weight.grad is None or not weight.grad.any(), name
        if name in names:  # all directions move alike, together as much as in an AdamW step: 0.2 of the rate
            assert change.pow(2).mean().sqrt() == pytest.approx(2e-4, rel=0.3)


def test_a_teacher_weighs_as_much_as_the_label() -> None:
    rows = [{"input_ids": [5, 6], "label": 1, "teacher": [0.6, 0.4]}, {"input_ids": [7], "label": 0}]
    batch = PaddingCollator(0)(rows)
    model = bert()
    loss, outputs = ClassifierTrainer.__new__(ClassifierTrainer).compute_loss(model, batch, return_outputs=True)
    log = outputs["logits"].log_softmax(-1)
    expected = -(0.3 * log[0, 0] + 0.7 * log[0, 1] + log[1, 0]) / 2
    torch.testing.assert_close(loss, expected)
    plain = PaddingCollator(0)([{**row, "teacher": []} for row in rows])
    assert "teacher" not in plain
    found = ClassifierTrainer.__new__(ClassifierTrainer).compute_loss(model, plain)
    torch.testing.assert_close(found, model(**plain).loss)


def test_a_teacher_that_contradicts_the_labels_is_heard(review_file: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in review_file.read_text("utf-8").splitlines()]
    taught = [{**row, "teacher": [float(row["label"]), 1.0 - row["label"]]} for row in rows]
    data = write_rows(tmp_path / "taught.jsonl", taught)
    report = _finetune("sentiment", data, tmp_path / "out", epochs=2.0)
    assert report.metrics["accuracy"] < 85  # half of every target says the opposite


@pytest.mark.parametrize("causal", [True, False])
def test_the_loss_is_that_of_transformers(causal: bool) -> None:
    model = gpt2() if causal else BertForMaskedLM(bert().config).eval()
    rows = [{"input_ids": [5, 6, 7, 8, 9]}, {"input_ids": [3, 4]}]
    batch = PaddingCollator(0)(rows)
    batch["labels"][0, :2] = IGNORED
    trainer = LanguageModelTrainer.__new__(LanguageModelTrainer)
    trainer._causal = causal
    found = trainer.compute_loss(model, batch)
    torch.testing.assert_close(found, model(**batch).loss)


def test_a_batch_is_padded_to_its_longest_row() -> None:
    batch = PaddingCollator(7)([{"input_ids": [1, 2, 3]}, {"input_ids": [4]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 7, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3], [4, IGNORED, IGNORED]]
    classes = PaddingCollator(7)([{"input_ids": [1], "label": 1}, {"input_ids": [2, 2], "label": 0}])
    assert classes["labels"].tolist() == [1, 0]


def test_masking_is_that_of_bert_but_for_more_of_it() -> None:
    torch.manual_seed(0)
    collator = PaddingCollator(0, mask_id=4, vocab_size=1000)
    rows = [{"input_ids": [10] * 400}, {"input_ids": [10] * 200}]
    batches = [collator(rows) for _ in range(20)]
    ids, labels = (torch.stack([batch[name] for batch in batches]) for name in ("input_ids", "labels"))
    real = torch.stack([batch["attention_mask"] for batch in batches]).bool()
    chosen = labels != IGNORED
    assert not (chosen & ~real).any()
    assert (ids[~chosen & real] == 10).all()
    assert chosen[real].float().mean() == pytest.approx(0.4, abs=0.02)
    assert (ids[chosen] == 4).float().mean() == pytest.approx(0.8, abs=0.04)
    assert (ids[chosen] == 10).float().mean() == pytest.approx(0.1, abs=0.04)
