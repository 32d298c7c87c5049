"""The gate of every export: raw texts are answered as transformers answers them, or the bundle is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import pipeline

from edgelm_export import pipeline as exporting
from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.text_parity.asked import Step
from edgelm_export.text_parity.gate import Gate
from edgelm_export.texts import ODD
from edgelm_runtime.bundle import open_bundle, write_bundle
from edgelm_runtime.errors import ParityError
from edgelm_runtime.loader import load
from edgelm_runtime.verify import verify_bundle
from tests.export import kinds, seq2seq, tiny

# Without an O every token is of an entity, whatever vocabulary is learned and whatever these weights say.
NAMES = {0: "B-BRAND", 1: "I-BRAND", 2: "B-SIZE"}


def encoder_folder(folder: Path, task: str, **config: Any) -> Path:
    tiny.encoder("bert", task, vocab_size=620, **config).save_pretrained(folder)
    tokenizer = kinds.wordpiece()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    tokenizer.save_pretrained(folder)
    return folder


def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[Gate]:
    """The gates of the exports to come."""
    gates: list[Gate] = []
    ask = exporting.text_parity.ask
    monkeypatch.setattr(exporting.text_parity, "ask", lambda *given: gates.append(ask(*given)) or gates[-1])
    return gates


def changed(folder: Path, to: Path, **fields: Any) -> Path:
    """A bundle that says something else of itself."""
    bundle = open_bundle(folder)
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    return write_bundle(to, replace(bundle.manifest, **fields), contents).path


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_float32_bundle_answers_raw_texts_as_the_pipeline(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = encoder_folder(tmp_path / "checkpoint", task, id2label=NAMES, spread=0.4)
    (gates, report) = asked_by(monkeypatch), export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    found = report.text_parity
    assert found is not None
    assert (found.same, found.explained) == (found.texts, [])
    assert found.texts >= 16 + len(ODD)
    texts = [str(one.text) for one in gates[0].asked]
    assert any("[SEP]" in text for text in texts)
    assert any(len(one.reading.rows) > 1 for one in gates[0].asked if one.reading is not None)
    stored = open_bundle(tmp_path / "bundle").manifest.quality["text_parity"]
    assert (stored["texts"], stored["same"]) == (found.texts, found.same)
    assert "text-classification pipeline" in found.answered_by[0] or "token-classification" in found.answered_by[0]
    model, own = load(tmp_path / "bundle"), pipeline(task, model=str(folder))
    text = "the [E1] zipper [SEP] broke"
    if task == "text-classification":
        (expected,) = own(text, top_k=1)
        assert model(text).labels == (expected["label"],)
        assert model(text).scores[expected["label"]] == pytest.approx(expected["score"], abs=1e-5)
    else:
        entities = own(text, aggregation_strategy="simple")
        assert entities
        assert [(one.label, one.start, one.end) for one in model(text).entities] == [
            (one["entity_group"], one["start"], one["end"]) for one in entities
        ]
    verify_bundle(tmp_path / "bundle")


def test_labels_that_another_row_has_are_refused_with_both_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = encoder_folder(tmp_path / "checkpoint", "text-classification", spread=0.3)
    gates = asked_by(monkeypatch)
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    turned = changed(tmp_path / "bundle", tmp_path / "turned", labels=("LABEL_1", "LABEL_0"))
    with pytest.raises(ParityError) as refused:
        gates[0].measure(turned, "int8")
    message = str(refused.value)
    assert "transformers' text-classification pipeline: " in message
    assert "\n  transformers: LABEL_" in message
    assert "\n  bundle:       LABEL_" in message


def test_another_aggregation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoder_folder(tmp_path / "checkpoint", "token-classification", id2label=NAMES, spread=0.4)
    gates = asked_by(monkeypatch)
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    other = changed(tmp_path / "bundle", tmp_path / "other", aggregation="none")
    with pytest.raises(ParityError, match="token-classification pipeline, simple"):
        gates[0].measure(other, "int8")


def test_a_tokenizer_that_is_read_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoder_folder(tmp_path / "checkpoint", "text-classification")

    def cased(*given: Any, **named: Any) -> Any:
        checkpoint = load_checkpoint(*given, **named)
        content = json.loads(checkpoint.tokenizer_json)
        content["normalizer"]["lowercase"] = False
        return replace(checkpoint, tokenizer_json=json.dumps(content).encode())

    monkeypatch.setattr(exporting, "load_checkpoint", cased)
    with pytest.raises(ParityError, match=r"other tokens are read from token 2 on[^$]*transformers: \[CLS\] "):
        export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "metaspace"])
def test_a_generator_continues_prompts_as_generate_does(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "checkpoint"
    made = {"byte_level": tiny.gpt2}.get(kind, lambda **config: tiny.decoder("llama", **config))
    made(spread=0.3, vocab_size=640, bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    kinds.KINDS[kind]().save_pretrained(folder)
    prompts = {"summary": "Sum: {text}\nTL;DR:"}
    report = export(ExportOptions(folder, tmp_path / "bundle", precision="fp32", prompts=prompts))
    found = report.text_parity
    assert found is not None
    assert found.same == found.texts >= 10
    assert found.answered_by == ("transformers' generate",)


def test_a_model_that_reads_and_writes_does_so_as_well(tmp_path: Path) -> None:
    folder = seq2seq.save(tmp_path / "checkpoint", seq2seq.seq2seq("bart", spread=0.3), {})
    found = export(ExportOptions(folder, tmp_path / "bundle", precision="fp32")).text_parity
    assert found is not None
    assert found.same == found.texts >= 10


def test_another_template_is_refused_with_the_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.save_gpt2(tmp_path / "checkpoint", tiny.gpt2(), {"summary": "{text}\nTL;DR:"})
    gates = asked_by(monkeypatch)
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    other = changed(tmp_path / "bundle", tmp_path / "other", prompts={"summary": "{text} TL;DR:"})
    with pytest.raises(ParityError, match="other tokens are read"):
        gates[0].measure(other, "int4")


def step() -> Step:
    probabilities = np.array([0.5, 0.3, 0.1])
    return Step(4, np.array([4, 7, 9]), probabilities, np.array([0.6, 0.4, 0.0]))


def test_a_step_knows_how_near_a_tie_is() -> None:
    assert step().lead(7) == pytest.approx(0.2)
    assert step().lead(9) == 1.0  # a rule bars it
    assert step().lead(3) == 1.0  # hardly probable
    same = np.zeros(12)
    same[[4, 7, 9, 2]] = 0.5, 0.3, 0.1, 0.1
    assert step().distance(same) == pytest.approx(0.0)
    assert step().distance(np.eye(12)[4]) == pytest.approx(0.5)
    assert step().distance(np.eye(12)[2]) == pytest.approx(0.9)


def test_the_rules_of_a_generation_config_are_part_of_the_answer(tmp_path: Path) -> None:
    folder = tiny.save_gpt2(tmp_path / "checkpoint", tiny.gpt2(spread=0.3), {"summary": "{text}<|answer|>"})
    rules = {
        "stop_strings": ["a", "的"], "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "min_new_tokens": 3,
        "suppress_tokens": [40, 41, 42], "eos_token_id": 0,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(rules), "utf-8")
    found = export(ExportOptions(folder, tmp_path / "bundle", precision="fp32")).text_parity
    assert found is not None
    assert found.same == found.texts >= 10
