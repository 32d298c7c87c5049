"""The verification inputs: enough of them, of different lengths, in the languages of the checkpoint."""

from __future__ import annotations

from itertools import product

import pytest

from edgelm_export.texts import ATTRIBUTES, REVIEWS, verification_inputs
from edgelm_runtime.script import language_of
from edgelm_runtime.tasks.attributes import canonical, parse

TASKS = ("sentiment", "summary", "description")
LANGUAGES = (("zh",), ("en",), ("zh", "en"), ("en", "zh"), (), ("fr",))


@pytest.mark.parametrize(("task", "languages"), list(product(TASKS, LANGUAGES)))
def test_at_least_32_inputs_of_different_lengths(task: str, languages: tuple[str, ...]) -> None:
    inputs = verification_inputs(task, languages)
    assert len(inputs) >= 32
    assert len(set(inputs)) == len(inputs)
    assert len({len(text) for text in inputs}) >= 10
    assert all(text == text.strip() and text for text in inputs)


@pytest.mark.parametrize("task", TASKS)
def test_both_languages_are_there_when_both_are_asked_for(task: str) -> None:
    inputs = verification_inputs(task, ("zh", "en"))
    found = [language_of(text) for text in inputs]
    assert min(found.count("zh"), found.count("en")) >= 12
    assert {language_of(text) for text in verification_inputs(task, ("zh",))} == {"zh"}


@pytest.mark.parametrize("task", ["sentiment", "summary"])
def test_there_are_single_sentences_and_long_texts(task: str) -> None:
    for language in ("zh", "en"):
        lengths = sorted(len(text) for text in verification_inputs(task, (language,)))
        assert lengths[-1] >= 5 * lengths[0]


def test_descriptions_are_asked_for_in_the_form_that_the_model_reads() -> None:
    for language in ("zh", "en"):
        for text in verification_inputs("description", (language,)):
            assert canonical(parse(text)) == text


def test_no_text_is_there_twice() -> None:
    for source in (REVIEWS, ATTRIBUTES):
        for texts in source.values():
            assert len(set(texts)) == len(texts)
