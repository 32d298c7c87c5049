"""Several end tokens: each ends an answer as it does in transformers' own generation, in every way of writing one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.reference import greedy_ids
from edgelm_export.trim import trim
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import BundleRejected, UnsupportedCheckpoint
from edgelm_runtime.generate.batch import Request, generate_together
from edgelm_runtime.generate.beam import beam_search
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.loader import load
from edgelm_runtime.session import SessionOptions, create_session
from edgelm_runtime.verify import verify_bundle
from tests.export import seq2seq, tiny

ENDS = (4, 9, 17)
VOCAB = 24
TEXTS = [text for text in tiny.TEXTS if text.isascii()][:6]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.gpt2(spread=0.12, vocab_size=VOCAB, eos_token_id=list(ENDS))


@pytest.fixture(scope="module")
def session(model: Any) -> GeneratorSession:
    return GeneratorSession(
        create_session(tiny.build(model), SessionOptions(1)), max_tokens=tiny.CONTEXT, eos_ids=ENDS, suppressed=(4, 9)
    )


def transformers_answer(model: Any, prompt: Sequence[int], **options: Any) -> tuple[list[int], int | None]:
    """The answer of `generate`, and the token that ended it, by what the model itself says of its ends."""
    given = torch.tensor([list(prompt)])
    with torch.inference_mode():
        made = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, pad_token_id=0, **options)
    answer = made[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()
    ends = model.generation_config.eos_token_id
    place = next((index for index, token in enumerate(answer) if token in ends), None)
    return (answer, None) if place is None else (answer[:place], answer[place])


@pytest.mark.parametrize("least", [0, 6])
def test_greedy_answers_end_as_those_of_transformers(model: Any, session: GeneratorSession, least: int) -> None:
    prompts, ended = tiny.rows(VOCAB, (1, 2, 3) * 8), set()
    options = GenerationOptions(max_new_tokens=20, min_new_tokens=least)
    together = generate_together(session, [Request(prompt, options) for prompt in prompts])
    for prompt, answer in zip(prompts, together, strict=True):
        expected, end = transformers_answer(model, prompt, max_new_tokens=20, min_new_tokens=least)
        for lookup in (0, 4):
            looked_up = GenerationOptions(max_new_tokens=20, min_new_tokens=least, prompt_lookup_num_tokens=lookup)
            stream = session.stream(prompt, looked_up)
            assert list(stream) == expected
            assert stream.finish_reason == ("length" if end is None else "stop")
        assert (answer.tokens, answer.finish_reason) == (expected, stream.finish_reason)
        assert greedy_ids(model, prompt, options, ENDS) == expected
        ended.add(end)
    assert len(ended - {None}) > 1


@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("options", [{"length_penalty": 0.0}, {"length_penalty": -1.0}, {"min_new_tokens": 5}])
def test_beams_end_as_those_of_transformers(
    model: Any, session: GeneratorSession, beams: int, options: dict[str, Any]
) -> None:
    ended = set()
    for prompt in tiny.rows(VOCAB, (1,) * 12):
        expected, end = transformers_answer(model, prompt, num_beams=beams, max_new_tokens=14, **options)
        found = beam_search(session, prompt, GenerationOptions(num_beams=beams, max_new_tokens=14, **options))
        assert found == (expected, "length" if end is None else "stop")
        ended.add(end)
    assert len(ended - {None}) > 1


def test_sampled_answers_are_cut_before_the_first_end(session: GeneratorSession) -> None:
    for seed in range(12):
        options: dict[str, Any] = {"max_new_tokens": 20, "temperature": 1.0, "seed": seed}
        whole = list(session.stream([3], GenerationOptions(ignore_eos=True, **options)))
        place = next((index for index, token in enumerate(whole) if token in ENDS), 20)
        assert list(session.stream([3], GenerationOptions(**options))) == whole[:place]


def test_an_end_that_the_graph_does_not_have_is_refused(model: Any) -> None:
    with pytest.raises(BundleRejected, match=r"eos_id names the tokens \[4, 24\], accepted: .* 0 to 23"):
        GeneratorSession(create_session(tiny.build(model), SessionOptions(1)), max_tokens=9, eos_ids=(4, VOCAB))


def edit_generation(folder: Path, ends: Any) -> Path:
    """Change the ends of generation_config.json; without any it is gone."""
    path = folder / "generation_config.json"
    path.unlink(missing_ok=True)
    if ends is not None:
        path.write_text(json.dumps({"eos_token_id": ends}), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ([5, 9], 7, (5, 9)),
        (5, [7, 8], (5,)),
        (None, [7, 8], (7, 8)),
        ([9, 5, 9], 7, (9, 5)),
    ],
)
def test_the_ends_are_those_of_transformers(
    tmp_path: Path, generation: Any, config: Any, expected: tuple[int, ...]
) -> None:
    folder = edit_generation(tiny.edit_config(tiny.save_gpt2(tmp_path / "gpt2"), eos_token_id=config), generation)
    assert load_checkpoint(folder).tokenizer.eos_ids == expected
    theirs = AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id
    assert tuple(dict.fromkeys([theirs] if isinstance(theirs, int) else theirs)) == expected


@pytest.mark.parametrize("config", [None, 600, [], [-1, 50256]])
def test_where_no_file_names_a_token_of_the_model_it_is_the_tokenizers(tmp_path: Path, config: Any) -> None:
    folder = edit_generation(tiny.edit_config(tiny.save_gpt2(tmp_path / "gpt2"), eos_token_id=config), None)
    assert load_checkpoint(folder).tokenizer.eos_ids == (0,)


def _tokenizer_finding(folder: Path) -> tuple[str, str]:
    (found,) = [each for each in diagnose(Origin(folder)).findings if each.check == "tokenizer"]
    return found.state, found.text


def test_the_ends_are_said_and_those_that_are_no_tokens_noted(tmp_path: Path) -> None:
    folder = edit_generation(tiny.edit_config(tiny.save_gpt2(tmp_path / "gpt2"), eos_token_id=50256), [0, 5])
    state, text = _tokenizer_finding(folder)
    assert (state, "eos 0 or 5," in text) == ("ok", True)
    state, text = _tokenizer_finding(edit_generation(folder, [5, 600]))
    assert state == "note"
    assert "eos_token_id names [600], which the model does not have: answers end at 5" in text


@pytest.mark.parametrize("ends", ["</s>", [True], [0, 1.5], [[0]], list(range(65))])
def test_ends_that_are_no_tokens_are_refused(tmp_path: Path, ends: Any) -> None:
    folder = edit_generation(tiny.save_gpt2(tmp_path / "gpt2"), ends)
    with pytest.raises(UnsupportedCheckpoint, match=r"generation_config.json: eos_token_id is .* at most 64"):
        load_checkpoint(folder)


def common_tokens(answers: Sequence[Sequence[int]], count: int) -> list[int]:
    """Tokens that stand inside of answers, each of another one: answers would end there."""
    found: list[int] = []
    for answer in answers:
        found += [token for token in answer[2:] if token not in found][:1]
    return found[:count]


def test_a_bundle_ends_where_transformers_does_and_says_so(tmp_path: Path) -> None:
    folder = tiny.save_gpt2(tmp_path / "gpt2", tiny.gpt2(spread=0.12), {"summary": "<|summary|>{text}<|answer|>"})
    export(ExportOptions(folder, tmp_path / "endless", precision="fp32"))
    endless = load(tmp_path / "endless", task="summary")
    prompts = [endless.tokenize(text) for text in TEXTS]
    ends = [0, *common_tokens([endless.infer(prompt, max_new_tokens=12) for prompt in prompts], 2)]
    report = export(ExportOptions(edit_generation(folder, ends), tmp_path / "bundle", precision="fp32"))
    assert report.parity.cached == 1
    stored = json.loads((tmp_path / "bundle/edgelm.json").read_text("utf-8"))
    assert stored["tokenizer"]["eos_id"] == ends
    assert verify_bundle(tmp_path / "bundle").golden > 0
    model, theirs, found = (
        load(tmp_path / "bundle", task="summary"),
        AutoModelForCausalLM.from_pretrained(folder),
        set(),
    )
    for prompt in prompts:
        expected, end = transformers_answer(theirs, prompt, max_new_tokens=12)
        assert model.infer(prompt, max_new_tokens=12) == expected
        found.add(end)
    assert len(found - {None}) > 1
    for text in TEXTS:
        result = model(text, max_new_tokens=12)
        assert result.text == model.decode(model.infer(model.tokenize(text), max_new_tokens=12))


def test_models_that_read_and_write_end_there_too(tmp_path: Path) -> None:
    model, ends = seq2seq.seq2seq("bart", spread=0.2), [seq2seq.END, 60, 90]
    model.final_logits_bias[0, [seq2seq.START, 0, 2, 4]] = -100.0  # special tokens, which are never generated
    model.final_logits_bias[0, ends] = 5.0
    folder = seq2seq.save(tmp_path / "bart", model, {"eos_token_id": ends})
    wanted = ExportOptions(folder, tmp_path / "b", task="summary", prompts={"summary": "{text}"}, precision="fp32")
    assert export(wanted).parity.worst < 1e-4
    assert open_bundle(tmp_path / "b").manifest.tokenizer.eos_ids == tuple(ends)
    graph = load(tmp_path / "b", task="summary").generator
    theirs = AutoModelForSeq2SeqLM.from_pretrained(folder)
    # In the last the ends lead, and longer answers win: of twice as many tokens as beams none would go on.
    for options in ({}, {"num_beams": 3}, {"num_beams": 2, "length_penalty": 4.0}):
        found = set()
        for prompt in seq2seq.rows((3, 7, 20) * 4):
            expected, end = transformers_answer(theirs, prompt, max_new_tokens=14, **options)
            assert seq2seq.answer_of(graph, prompt, GenerationOptions(max_new_tokens=14, **options)) == expected
            found.add(end)
        assert found == {60, 90, None}


def test_a_cut_vocabulary_keeps_them_under_their_new_ids(tmp_path: Path) -> None:
    folder = edit_generation(tiny.save_gpt2(tmp_path / "gpt2"), [0, 590, 595])
    whole, corpus = load_checkpoint(folder), tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS), "utf-8")
    cut, _ = trim(whole, str(corpus))
    assert cut.kept_ids is not None
    assert cut.tokenizer.eos_ids != whole.tokenizer.eos_ids
    assert tuple(cut.kept_ids[list(cut.tokenizer.eos_ids)].tolist()) == whole.tokenizer.eos_ids
