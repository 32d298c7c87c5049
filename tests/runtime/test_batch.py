"""Answers that are made together are those that each would be alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import Cancelled, InputError
from edgelm_runtime.generate import batch
from edgelm_runtime.generate.banned import BannedPhrases
from edgelm_runtime.generate.batch import MAX_SEQUENCES, Request, generate_together
from edgelm_runtime.generate.constraints import Banned
from edgelm_runtime.generate.control import Control
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.loader import load
from edgelm_runtime.results import TextResult
from edgelm_runtime.session import SessionOptions, create_session

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"
PROMPTS = [[1, 50, 60, 70, 3], [9], list(range(20, 70)), [2, 3], list(range(100, 195)), list(range(20, 70))]
REVIEWS = [
    "The sweater is soft and warm. It fits true to size.",
    "",
    "这款连衣裙采用柔软的棉质面料，穿着透气舒适。",
    "I love the colour, it is just as in the picture, but the zipper broke after two weeks.",
    "Great phone. " * 300,
]


@pytest.fixture(scope="module")
def model() -> GeneratorSession:
    session = create_session(open_bundle(BUNDLE).read("model.onnx"), SessionOptions(1))
    return GeneratorSession(session, max_tokens=96, eos_ids=(12,), suppressed=(0, 1))


@pytest.mark.parametrize("options", [{}, {"no_repeat_ngram_size": 2}, {"temperature": 1.0}, {"ignore_eos": True}])
def test_tokens_and_ends_are_those_of_single_streams(model: GeneratorSession, options: dict[str, Any]) -> None:
    requests = [
        Request(prompt, GenerationOptions(max_new_tokens=4 + 9 * index, seed=index, **options))
        for index, prompt in enumerate(PROMPTS)
    ]
    streams = [model.stream(request.prompt, request.options) for request in requests]
    expected = [list(stream) for stream in streams]
    answers = generate_together(model, requests)
    assert [answer.tokens for answer in answers] == expected
    assert [answer.finish_reason for answer in answers] == [stream.finish_reason for stream in streams]


def test_a_prompt_that_several_have_is_read_once(model: GeneratorSession, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    prefill = batch.prefill

    def counted(runs: Any, prompt: Any, *rest: Any) -> Any:
        read.append(len(prompt))
        return prefill(runs, prompt, *rest)

    monkeypatch.setattr(batch, "prefill", counted)
    requests = [Request(prompt, GenerationOptions(seed=seed, temperature=1.0)) for seed, prompt in
                enumerate([[9, 8, 7], [5], [9, 8, 7], [9, 8, 7]])]  # fmt: skip
    answers = generate_together(model, requests)
    assert read == [3, 1]
    assert [answer.tokens for answer in answers] == [list(model.stream(each.prompt, each.options)) for each in requests]


def test_an_answer_past_the_context_is_not_made_in_step(model: GeneratorSession) -> None:
    with pytest.raises(InputError, match="context_shift is for one answer at a time"):
        generate_together(model, [Request([9], GenerationOptions(context_shift=True))] * 2)


def test_each_has_its_own_end(model: GeneratorSession) -> None:
    seen: list[list[int]] = [[], []]
    limits = (2, 7)

    def ends(index: int) -> Any:
        return lambda token: seen[index].append(token) or len(seen[index]) == limits[index]

    options = GenerationOptions(max_new_tokens=20, ignore_eos=True)
    answers = generate_together(model, [Request([9, 8], options, ends(0)), Request([7], options, ends(1))])
    assert [answer.count for answer in answers] == list(limits)
    assert [answer.tokens for answer in answers] == seen
    assert {answer.finish_reason for answer in answers} == {"stop"}


def test_a_prompt_that_is_refused_refuses_all(model: GeneratorSession) -> None:
    with pytest.raises(InputError, match="the prompt has 96 tokens"):
        generate_together(model, [Request([9], GenerationOptions()), Request([9] * 96, GenerationOptions())])


def test_they_can_be_cancelled_and_have_a_deadline(model: GeneratorSession) -> None:
    control = Control()
    options = GenerationOptions(max_new_tokens=50, ignore_eos=True)

    def call(reason: Any) -> Any:
        return lambda token: control._call(reason)

    requests = [Request([9], options, call("deadline")), Request([8], options)]
    assert [answer.finish_reason for answer in generate_together(model, requests, control)] == ["deadline"] * 2
    control = Control()
    with pytest.raises(Cancelled):
        generate_together(model, [Request([9], options, call("cancelled")), Request([8], options)], control)


@pytest.mark.parametrize("task", ["summary", "description"])
def test_a_batch_of_inputs_gives_what_each_gives(task: str) -> None:
    writer = load(task)
    inputs = REVIEWS if task == "summary" else ["类型: 裙; 颜色: 白色", "", "name: aurora; type: laptop", "a: b"] * 3
    found = writer.try_batch(inputs, max_new_tokens=24)
    for value, result in zip(inputs, found, strict=True):
        if not value:
            assert isinstance(result, InputError)
            continue
        expected = writer(value, max_new_tokens=24)
        assert isinstance(result, TextResult)
        assert (result.text, result.finish_reason) == (expected.text, expected.finish_reason)
        assert (result.tokens, result.prompt_tokens) == (expected.tokens, expected.prompt_tokens)
    assert len(inputs) > MAX_SEQUENCES or task == "summary"
    with pytest.raises(InputError, match="input 2: "):
        writer.batch(inputs)
    assert writer.batch([]) == []


def test_one_input_is_no_batch() -> None:
    for model in (load("summary"), load("sentiment")):
        with pytest.raises(InputError, match="put it into a list"):
            model.batch("好吃")


def test_inputs_are_counted_across_languages() -> None:
    with pytest.raises(InputError, match=r"input 3: "):
        load("sentiment").batch(["好", "Nice", ""])


def test_variants_and_beams_do_not_go_together() -> None:
    with pytest.raises(InputError, match="variants are sampled"):
        load("description")("类型: 裙", variants=2, num_beams=3)


def test_a_batch_with_a_deadline_answers_one_by_one() -> None:
    writer = load("summary")
    found = writer.try_batch(REVIEWS[:3], deadline_ms=60_000)
    assert [getattr(result, "text", "") for result in found] == [
        writer(text).text if text else "" for text in REVIEWS[:3]
    ]


def test_one_that_cannot_keep_its_rules_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = load("description")
    inputs = ["类型: 裙; 颜色: 白色", "类型: 裤; 颜色: 黑色"]
    vocabulary = writer._words.vocabulary
    make = type(writer).constraint

    class Hopeless(Banned):
        def mask(self, row: Any, left: int) -> None:
            row[:] = -np.inf

    def constraint(self: Any, source: str, *rest: Any) -> Any:
        return Hopeless(BannedPhrases(["x"], vocabulary)) if "黑色" in source else make(self, source, *rest)

    monkeypatch.setattr(type(writer), "constraint", constraint)
    first, second = writer.try_batch(inputs)
    assert first.text == writer(inputs[0]).text
    assert isinstance(second, InputError)
    assert "ask for fewer" in str(second)
