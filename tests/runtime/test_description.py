from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import InputError
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.tasks.description import MAX_VARIANTS, Description
from edgelm_runtime.tokenizer import REPLACED_NOTE

BUNDLE = Path(__file__).parents[1] / "data" / "tiny-generator"
ATTRIBUTES = {"类型": "裙", "颜色": "白色"}


@pytest.fixture(scope="module")
def model() -> Description:
    return Description(open_bundle(BUNDLE), LoadOptions(threads=1))


def test_every_form_of_the_attributes_gives_the_same(model: Description) -> None:
    forms: list[Any] = [
        ATTRIBUTES,
        "类型#裙*颜色#白色",
        "类型: 裙; 颜色: 白色",
        "类型：裙；颜色：白色",
        '{"类型": "裙", "颜色": "白色"}',
    ]
    assert len({model(form).text for form in forms}) == 1
    assert len({tuple(model.tokenize(form)) for form in forms}) == 1
    result = model(ATTRIBUTES)
    assert (result.language, result.variants, result.windows, result.notes) == ("zh", (), 1, ())
    assert model.decode(model.infer(model.tokenize(ATTRIBUTES))) == result.text


def test_the_pieces_joined_are_the_text(model: Description) -> None:
    stream = model.stream("name: satellite 25; type: laptop", temperature=1.0, seed=4)
    pieces = list(stream)
    assert stream.result is not None
    assert "".join(pieces) == stream.result.text
    assert stream.result.language == "en"


def test_variants_are_sampled_with_following_seeds(model: Description) -> None:
    result = model(ATTRIBUTES, variants=3, seed=7)
    singles = [model(ATTRIBUTES, temperature=0.8, top_p=0.9, seed=7 + index) for index in range(3)]
    assert result.variants == tuple(single.text for single in singles)
    assert result.text == result.variants[0]
    assert result.tokens == sum(single.tokens for single in singles)
    assert result.prompt_tokens == 3 * singles[0].prompt_tokens
    assert len(set(result.variants)) == 3
    assert result.notes == ()


def test_a_high_bonus_names_every_value_and_no_yes_or_no(model: Description) -> None:
    attributes = {"型": "裙", "n": "b 25", "g": "a b, c", "w": "no", "t": "qzqzqzqzqzqzqzqzqz"}
    text = model(attributes, coverage_bonus=100, max_new_tokens=36, no_repeat_ngram_size=0).text
    assert all(value in text for value in ("裙", "b 25", "a b", "c"))
    guide = model.guide(attributes, model.options(coverage_bonus=100))
    assert guide is not None
    assert guide.left == 4
    assert model.guide(attributes, model.options(coverage_bonus=0)) is None
    varied = model(attributes, variants=2, seed=1, coverage_bonus=100, max_new_tokens=36, no_repeat_ngram_size=0)
    assert all("b 25" in variant for variant in varied.variants)


def test_one_variant_that_the_limit_cut_is_said(model: Description) -> None:
    orders = set()
    for seed in range(20):
        options: dict[str, Any] = {"temperature": 1.0, "stop": ("!", "a", "t")}
        single = [model(ATTRIBUTES, seed=seed + index, **options).finish_reason for index in range(2)]
        orders.add(tuple(single))
        expected = "length" if "length" in single else "stop"
        assert model(ATTRIBUTES, variants=2, seed=seed, **options).finish_reason == expected
    assert {("length", "stop"), ("stop", "length")} <= orders


def test_variants_take_the_options_of_the_call(model: Description) -> None:
    hot = model(ATTRIBUTES, variants=2, seed=1, temperature=2.0)
    assert hot.variants[1] == model(ATTRIBUTES, temperature=2.0, seed=2).text
    wide = model(ATTRIBUTES, variants=1, seed=1, top_p=1.0)
    assert wide.variants == (model(ATTRIBUTES, temperature=0.8, seed=1).text,)


def test_variants_without_a_seed_note_the_one_drawn(model: Description) -> None:
    result = model(ATTRIBUTES, variants=2)
    (note,) = result.notes
    assert model(ATTRIBUTES, variants=2, seed=int(note.split()[-1])).variants == result.variants


@pytest.mark.parametrize("variants", [0, -1, MAX_VARIANTS + 1, 1.0, "2", True])
def test_a_number_of_variants_that_is_not_accepted(model: Description, variants: Any) -> None:
    with pytest.raises(InputError, match=f"accepted: an integer from 1 to {MAX_VARIANTS}"):
        model(ATTRIBUTES, variants=variants)


def test_greedy_variants_are_refused(model: Description) -> None:
    with pytest.raises(InputError, match="would all be the same"):
        model(ATTRIBUTES, variants=2, temperature=0)


@pytest.mark.parametrize("attributes", ["", " ", {}, None, 3, b"a: b", "裙", {"a": ""}, "{", ["a"]])
def test_malformed_attributes_are_refused_at_once(model: Description, attributes: Any) -> None:
    with pytest.raises(InputError):
        model.stream(attributes)


def test_attributes_over_the_context_are_refused_with_count_and_limit(model: Description) -> None:
    for ask in (model, model.stream):
        with pytest.raises(InputError, match=r"the prompt has .* tokens, accepted: at most 95"):
            ask({"标题": "很" * 200})


@pytest.mark.timeout(30)
@pytest.mark.parametrize("character", ["a", "很", ";"])
def test_a_megabyte_of_one_character_takes_bounded_time(model: Description, character: str) -> None:
    for attributes in (character * 1_000_000, f"a: b{character * 1_000_000}c"):
        with pytest.raises(InputError) as caught:
            model(attributes)
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", ["😀", "\u202eabc", "a\x00b", "<|answer|>"])
def test_odd_characters_are_read_as_text(model: Description, value: str) -> None:
    result = model({"a": value})
    assert result.notes == ()
    assert model.tokenize({"a": value}).count(3) == 1


def test_lone_surrogates_are_replaced_and_noted(model: Description) -> None:
    assert model({"a": "x\ud800"}).notes == (REPLACED_NOTE,)


def test_the_rules_of_the_bundle_hold(model: Description) -> None:
    ids = model.infer(model.tokenize(ATTRIBUTES), max_new_tokens=60)
    trigrams = list(zip(ids, ids[1:], ids[2:], strict=False))
    assert len(trigrams) == len(set(trigrams))
