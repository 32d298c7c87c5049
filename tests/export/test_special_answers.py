"""Special tokens in an answer: chosen, read back, and left out of its text, as transformers does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.loader import load
from tests.export import seq2seq, tiny

TEXTS = ["The sweater is soft and warm.", "It fits true to size, buy it.", "Exactly what I was looking for."]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BART that likes to begin with one special token and to write others between its words."""
    model = seq2seq.seq2seq("bart")
    model.final_logits_bias[0, [0, 2, seq2seq.START]] = 3.0
    model.final_logits_bias[0, seq2seq.END] = -3.0
    return seq2seq.save(tmp_path_factory.mktemp("special") / "bart", model, {"no_repeat_ngram_size": 2})


@pytest.fixture(scope="module")
def writer(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("bundle") / "b"
    export(ExportOptions(checkpoint, out, task="summary", prompts={"summary": "{text}"}, precision="fp32"))
    return load(out)


def generated(folder: Path, text: str, **options: Any) -> tuple[list[int], str]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.inference_mode():
        ids = model.generate(**tokenizer(text, return_tensors="pt"), do_sample=False, max_new_tokens=12, **options)[0]
    return ids[1:].tolist(), tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("beams", [1, 4])
def test_they_are_chosen_as_transformers_chooses_them(checkpoint: Path, writer: Any, beams: int) -> None:
    special = set(writer.tokenizer.special_ids) - {seq2seq.END}
    seen = set()
    for text in TEXTS:
        ids, expected = generated(checkpoint, text, num_beams=beams)
        result = writer(text, max_new_tokens=12, num_beams=beams)
        assert result.text == expected
        seen |= special & set(ids)
        if beams == 1:
            assert writer.infer(writer.tokenize(text), max_new_tokens=12) == [
                each for each in ids if each != seq2seq.END
            ]
            assert "".join(writer.stream(text, max_new_tokens=12)) == expected
    assert len(seen) > 1, "several were written"
    assert [each.text for each in writer.batch(TEXTS, max_new_tokens=12)] == [
        writer(text, max_new_tokens=12).text for text in TEXTS
    ]


def test_rules_on_words_hold_beside_them(writer: Any) -> None:
    plain = writer(TEXTS[0], max_new_tokens=12)
    word = plain.text.split()[-1]
    assert word.lower() not in writer(TEXTS[0], max_new_tokens=12, banned=(word,)).text.lower()
    assert "wool" in writer(TEXTS[0], max_new_tokens=16, must_include=("wool",)).text


def test_a_bundle_that_does_not_speak_of_them_never_chooses_them(writer: Any, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    for path in writer.bundle.path.iterdir():
        (older / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((older / "edgelm.json").read_text("utf-8"))
    del manifest["generation"]["suppress_tokens"]
    (older / "edgelm.json").write_text(json.dumps(manifest), "utf-8")
    found = load(older)
    special = set(found.tokenizer.special_ids)
    for text in TEXTS:
        assert not special & set(found.infer(found.tokenize(text), max_new_tokens=12))
    assert set(load("writer", task="summary").generator.suppressed.tolist()) == {1, 2, 3}


def test_a_generator_with_special_tokens_of_its_own_writes_them(tmp_path: Path) -> None:
    model = tiny.gpt2(spread=0.2)
    with torch.no_grad():  # the directions of special tokens, which are 1 to 3, are made long: they are often chosen
        model.transformer.wte.weight[1:4] *= 3.0
    folder = tiny.save_gpt2(tmp_path / "gpt2", model, {"summary": "<|summary|>{text}<|answer|>"})
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    found, theirs = load(tmp_path / "bundle", task="summary"), AutoModelForCausalLM.from_pretrained(folder)
    seen = set()
    for text in TEXTS:
        prompt = found.tokenize(text)
        with torch.inference_mode():
            made = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[
                0, len(prompt) :
            ].tolist()
        answer = found.infer(prompt, max_new_tokens=12)
        assert answer == made[: made.index(0)] if 0 in made else made
        seen |= {1, 2, 3} & set(answer)
    assert seen
