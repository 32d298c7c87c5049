from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgelm_runtime.errors import InputError
from edgelm_runtime.generate.options import MAX_SEED, GenerationOptions


def test_defaults_are_greedy_without_rules() -> None:
    options = GenerationOptions()
    assert options.greedy
    assert not options.edits_logits
    assert (options.max_new_tokens, options.seed, options.stop) == (64, None, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", -1),
        ("max_new_tokens", 2**31),
        ("max_new_tokens", 1.5),
        ("max_new_tokens", True),
        ("max_new_tokens", "64"),
        ("max_new_tokens", None),
        ("temperature", -0.1),
        ("temperature", 0.001),
        ("temperature", 101),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("temperature", False),
        ("top_k", -1),
        ("top_k", 1.0),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1),
        ("repetition_penalty", float("inf")),
        ("no_repeat_ngram_size", -1),
        ("no_repeat_ngram_size", "6"),
        ("coverage_bonus", -1),
        ("coverage_bonus", "4"),
        ("quote_bonus", 101),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("seed", 0.5),
        ("stop", "end"),
        ("stop", ("",)),
        ("stop", ("a", 1)),
        ("stop", ("x" * 257,)),
        ("stop", tuple("abcdefghijklmnopq")),
        ("stop", None),
        ("banned", ("",)),
        ("banned", (" ",)),
        ("banned", "best"),
        ("must_include", ("x",) * 33),
        ("must_include", (3,)),
        ("absolute_terms", 1),
        ("facts", "loose"),
        ("deadline_ms", 0),
        ("deadline_ms", float("nan")),
        ("deadline_ms", float("inf")),
        ("min_new_tokens", -1),
        ("early_stopping", "never"),
        ("num_beams", 0),
        ("num_beams", 17),
        ("length_penalty", float("nan")),
        ("prompt_lookup_num_tokens", -1),
        ("prompt_lookup_num_tokens", 65),
        ("ignore_eos", 1),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_accepted(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is .*accepted: ") as caught:
        GenerationOptions(**{name: value})
    assert repr(value) in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InputError, match=r"temperature.*top_k.*seed"):
        GenerationOptions(temperature=-1, top_k=-2, seed=-3)


def test_the_bounds_themselves_are_accepted() -> None:
    least = GenerationOptions(1, 0.01, 0, 1e-9, 0.01, 0, 0, ("x" * 256,), True)
    most = GenerationOptions(2**31 - 1, 100, 2**31 - 1, 1, 100, 2**31 - 1, MAX_SEED, tuple("abcdefghijklmnop"))
    assert (least.max_new_tokens, least.top_p, least.seed) == (1, 1e-9, 0)
    assert (most.temperature, most.top_k, most.seed) == (100, 2**31 - 1, MAX_SEED)


def test_from_mapping_puts_overrides_over_defaults() -> None:
    options = GenerationOptions.from_mapping({"top_k": 5, "temperature": 0.5, "stop": ["\n"]}, temperature=0.7, seed=1)
    assert options == GenerationOptions(top_k=5, temperature=0.7, stop=("\n",), seed=1)


def test_from_mapping_leaves_unknown_defaults_aside_and_refuses_unknown_overrides() -> None:
    assert GenerationOptions.from_mapping({"tasks": {}, "beams": 4}) == GenerationOptions()
    with pytest.raises(InputError, match="unknown generation option beams; accepted: max_new_tokens, temperature"):
        GenerationOptions.from_mapping({}, beams=4)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().top_k = 3  # type: ignore[misc]


def test_beams_do_not_go_with_sampling() -> None:
    with pytest.raises(InputError, match="above 1 with temperature 0 and without context_shift only"):
        GenerationOptions(num_beams=2, temperature=0.5)
    assert GenerationOptions(num_beams=2).num_beams == 2


@pytest.mark.parametrize("name", ["stop", "banned", "must_include"])
def test_half_a_character_is_no_phrase(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is .* all of Unicode"):
        GenerationOptions.from_mapping({}, **{name: ("good", "\ud800")})
