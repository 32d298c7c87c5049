"""Special tokens in an answer: chosen, read back, and left out of its text, as transformers does it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, BertTokenizerFast

from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.errors import InputError
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


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with BERT's tokenizer, as Chinese ones have it: no file names an end."""
    folder = tmp_path_factory.mktemp("endless") / "gpt2"
    words = [*"物流很快质量也好包装破了，。！", "soft", "the", "##ness", "a", "5"]
    (folder.parent / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), "utf-8")
    tokenizer = BertTokenizerFast.from_pretrained(folder.parent)
    model = tiny.gpt2(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    return tiny.edit_config(folder, eos_token_id=None, bos_token_id=None)


def test_a_generator_without_an_end_is_said(endless: Path) -> None:
    (finding,) = [each for each in diagnose(Origin(endless)).findings if each.check == "tokenizer"]
    assert finding.state == "note"
    assert "goes on to max_new_tokens. Give --eos TOKEN" in finding.text


@pytest.mark.parametrize("names", [("[SEP]",), ("[SEP]", "[CLS]", "[SEP]")])
def test_an_end_is_named_at_export(endless: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    options = ExportOptions(endless, tmp_path / "b", prompts={"summary": "{text}"}, precision="fp32", eos=names)
    export(options)
    manifest = load(tmp_path / "b").bundle.manifest
    tokenizer = AutoTokenizer.from_pretrained(endless)
    assert manifest.tokenizer.eos_ids == tuple(tokenizer.convert_tokens_to_ids(list(dict.fromkeys(names))))
    assert manifest.tokenizer.strip_cjk_spaces
    with pytest.raises(InputError, match=r"--eos \[END\]: the tokenizer has no such token; .*\[SEP\]"):
        export(replace(options, out=tmp_path / "c", eos=("[END]",)))
    with pytest.raises(InputError, match="writes no answer; leave it out"):
        export(ExportOptions(tiny.save_bert(tmp_path / "bert"), tmp_path / "d", eos=names))


def test_chinese_of_a_bert_tokenizer_is_read_without_blanks(endless: Path, tmp_path: Path) -> None:
    export(ExportOptions(endless, tmp_path / "b", prompts={"summary": "{text}"}, precision="fp32"))
    found, theirs = load(tmp_path / "b"), AutoTokenizer.from_pretrained(endless)
    ids = theirs("物流很快，质量 soft 也好", add_special_tokens=False).input_ids
    assert theirs.decode(ids) == "物 流 很 快 ， 质 量 soft 也 好"
    assert found.decode(ids) == "物流很快，质量 soft 也好"
    result = found("物流很快", max_new_tokens=12)
    assert result.text == found.decode(found.infer(found.tokenize("物流很快"), max_new_tokens=12))
    assert "".join(found.stream("物流很快", max_new_tokens=12)) == result.text


def test_the_doctor_names_the_defaults_that_count(endless: Path, tmp_path: Path) -> None:
    def said(folder: Path) -> tuple[str, str]:
        (finding,) = [each for each in diagnose(Origin(folder)).findings if each.check == "generation"]
        return finding.state, finding.text

    assert said(endless) == ("ok", "nothing that changes edgelm's defaults")
    folder = Path(shutil.copytree(endless, tmp_path / "gpt2"))
    (folder / "generation_config.json").write_text(json.dumps({"num_beams": 4, "suppress_tokens": [5]}), "utf-8")
    assert said(folder) == ("ok", "num_beams 4, suppress_tokens [5]")
    tiny.edit_config(folder, task_specific_params={"text-generation": {"do_sample": True}})
    state, text = said(folder)
    assert state == "note"
    assert "task_specific_params of config.json (text-generation) are not taken" in text
