"""Beam search against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgelm_runtime.generate.beam import beam_search
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.session import SessionOptions, create_session
from tests.export.tiny import CONTEXT, build, gpt2, rows

EOS = 4


@pytest.fixture(scope="module")
def model() -> Any:
    return gpt2(spread=0.12, vocab_size=24, eos_token_id=EOS)


@pytest.fixture(scope="module")
def session(model: Any) -> GeneratorSession:
    return GeneratorSession(create_session(build(model), SessionOptions(1)), max_tokens=CONTEXT, eos_ids=(EOS,))


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0, -1.0])
def test_the_answer_is_that_of_transformers(model: Any, session: GeneratorSession, beams: int, penalty: float) -> None:
    ended = 0
    for prompt in rows(24, (1,) * 12):
        found, finish = beam_search(
            session, prompt, GenerationOptions(num_beams=beams, length_penalty=penalty, max_new_tokens=14)
        )
        with torch.inference_mode():
            expected = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), num_beams=beams,
                do_sample=False, length_penalty=penalty, max_new_tokens=14, eos_token_id=EOS, pad_token_id=EOS,
            )[0, len(prompt) :].tolist()  # fmt: skip
        whole = EOS in expected
        assert found == (expected[: expected.index(EOS)] if whole else expected)
        assert finish == ("stop" if whole else "length")
        ended += whole
    assert ended > 0 or penalty >= 1


def test_one_beam_more_finds_an_answer_at_least_as_probable(model: Any, session: GeneratorSession) -> None:
    def score(prompt: list[int], answer: list[int]) -> float:
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        ids = [*answer, EOS] if len(answer) < 14 else answer
        return float(sum(logits[len(prompt) - 1 + index, token] for index, token in enumerate(ids)))

    for prompt in rows(24, (1,) * 6):
        greedy = list(session.stream(prompt, GenerationOptions(max_new_tokens=14)))
        found, _ = beam_search(session, prompt, GenerationOptions(num_beams=8, length_penalty=0.0, max_new_tokens=14))
        assert score(prompt, found) >= score(prompt, greedy) - 1e-4


class Counting:
    """A constraint that forbids nothing and notes how many tokens it is told may still come."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def mask(self, row: Any, left: int) -> None:
        self.left.append(left)

    def push(self, token: int) -> None:
        """Every token is fine."""

    def branch(self) -> Counting:
        return self


def test_a_constraint_is_told_of_the_room_that_the_context_leaves(session: GeneratorSession) -> None:
    rule = Counting()
    prompt = [1, 2, 3] * ((CONTEXT - 5) // 3)
    options = GenerationOptions(num_beams=2, max_new_tokens=40, ignore_eos=True)
    beam_search(session, prompt, options, rule)
    free = CONTEXT - len(prompt)
    assert rule.left == [free, *(left for left in range(free - 1, 0, -1) for _ in range(2))]
