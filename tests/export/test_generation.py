"""Every field of generation_config.json: honoured token for token, refused by name, or known to change nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from edgelm_export.checkpoint import generation
from edgelm_export.checkpoint.generation import Length, causal_defaults, options_of, renumbered
from edgelm_export.finetune.evaluate import GENERATION_DEFAULTS
from edgelm_export.reference import greedy_ids
from edgelm_runtime.errors import InputError, UnsupportedCheckpoint
from edgelm_runtime.generate.batch import Request, generate_together
from edgelm_runtime.generate.beam import beam_search
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.session import SessionOptions, create_session
from tests.export import seq2seq, tiny

VOCAB, EOS = 24, 4


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.gpt2(spread=0.12, vocab_size=VOCAB, eos_token_id=EOS)


@pytest.fixture(scope="module")
def session(model: Any) -> GeneratorSession:
    return GeneratorSession(
        create_session(tiny.build(model), SessionOptions(1)), max_tokens=tiny.CONTEXT, eos_ids=(EOS,)
    )


def generated(model: Any, prompt: Sequence[int], fields: dict[str, Any], ends: Sequence[int] = (EOS,)) -> list[int]:
    """What `generate` writes with these fields, without its end."""
    given = torch.tensor([list(prompt)])
    with torch.inference_mode():
        made = model.generate(given, attention_mask=torch.ones_like(given), **{"pad_token_id": 0, **fields})[0].tolist()
    answer = made[1:] if model.config.is_encoder_decoder else made[len(prompt) :]
    return answer[: next((place for place, token in enumerate(answer) if token in ends), len(answer))]


def answered(session: GeneratorSession, prompt: Sequence[int], options: GenerationOptions) -> list[int]:
    if options.num_beams > 1:
        return beam_search(session, prompt, options)[0]
    alone = list(session.stream(prompt, options))
    (together,) = generate_together(session, [Request(prompt, options)])
    assert together.tokens == alone
    return alone


BIAS = [[[5], 1.5], [[7, 9], 3.0], [[2], -2.0], [[1, 2, 3], 4.0]]
FIELDS: list[dict[str, Any]] = [
    {"max_new_tokens": 12},
    {"max_new_tokens": 12, "min_new_tokens": 8},
    {"max_length": 30},
    {"max_length": 30, "min_length": 25},
    {"max_new_tokens": 12, "max_length": 20, "min_length": 3, "min_new_tokens": 6},
    {"max_new_tokens": 12, "repetition_penalty": 1.4},
    {"max_new_tokens": 12, "repetition_penalty": 0.8},
    {"max_new_tokens": 12, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 12, "no_repeat_ngram_size": 1},
    {"max_new_tokens": 12, "suppress_tokens": [1, 6, 8, 900, -1]},
    {"max_new_tokens": 12, "begin_suppress_tokens": [1, 6, 8, 12, EOS]},
    {"max_new_tokens": 12, "bad_words_ids": [[3], [9, 1], [2, 6, 8], [EOS]]},
    {"max_new_tokens": 12, "sequence_bias": BIAS},
    {
        "max_new_tokens": 14, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "bad_words_ids": [[3], [9, 1]],
        "sequence_bias": BIAS, "suppress_tokens": [6], "begin_suppress_tokens": [8], "min_new_tokens": 5,
    },
]  # fmt: skip


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: "-".join(fields))
def test_a_causal_model_writes_what_transformers_writes(
    model: Any, session: GeneratorSession, fields: dict[str, Any], beams: int
) -> None:
    stored = {**fields, **({"num_beams": beams, "length_penalty": 0.5} if beams > 1 else {})}
    options = GenerationOptions.from_mapping(options_of(stored, VOCAB))
    plain = GenerationOptions(max_new_tokens=options.max_new_tokens, num_beams=beams)
    changed = 0
    for prompt in tiny.rows(VOCAB, (1, 2, 5, 9) * 2):
        expected = generated(model, prompt, {**stored, "do_sample": False})
        assert answered(session, prompt, options) == expected
        if beams == 1:
            assert greedy_ids(model, prompt, options, (EOS,)) == expected
        changed += expected != answered(session, prompt, plain)
    assert changed or not set(fields) - {"max_new_tokens", "max_length"}, "they change some answer"


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize(
    "fields",
    [
        {"max_new_tokens": 12, "repetition_penalty": 1.5},
        {"max_length": 12, "min_length": 6, "no_repeat_ngram_size": 1},
        {"max_new_tokens": 12, "min_new_tokens": 5, "bad_words_ids": [[30], [7, 9]], "sequence_bias": [[[20], 1.0]]},
        {"max_new_tokens": 9, "suppress_tokens": list(range(40, 90)), "begin_suppress_tokens": list(range(200))},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_a_sequence_to_sequence_model_does_so_too(kind: str, fields: dict[str, Any], beams: int) -> None:
    model = seq2seq.seq2seq(kind)
    session = seq2seq.built(model)
    stored = {**fields, **({"num_beams": beams} if beams > 1 else {})}
    options = GenerationOptions.from_mapping(options_of(stored, seq2seq.VOCAB, Length(1, 0, 0)))
    for prompt in seq2seq.rows((2, 5, 9)):
        expected = generated(model, prompt, {**stored, "do_sample": False}, (seq2seq.END,))
        assert answered(session, prompt, options) == expected
        if beams == 1:
            assert greedy_ids(model, prompt, options, (seq2seq.END,), start=[seq2seq.START]) == expected


def test_a_forced_first_token_counts_as_transformers_counts_it() -> None:
    model, first = seq2seq.seq2seq("bart"), 40
    session = seq2seq.built(model, spec=seq2seq.DecoderSpec(seq2seq.START, first))
    for fields in (
        {"max_new_tokens": 9, "min_new_tokens": 6, "repetition_penalty": 2.0},
        {"max_length": 9, "min_length": 6, "no_repeat_ngram_size": 1},
    ):
        options = GenerationOptions.from_mapping(options_of(fields, seq2seq.VOCAB, Length(2, 1, 0)))
        for prompt in seq2seq.rows((3, 8)):
            expected = generated(
                model, prompt, {**fields, "forced_bos_token_id": first, "do_sample": False}, (seq2seq.END,)
            )
            assert [first, *answered(session, prompt, options)] == expected
            assert [
                first,
                *greedy_ids(model, prompt, options, (seq2seq.END,), start=[seq2seq.START, first]),
            ] == expected


def test_every_field_of_transformers_is_in_one_place_of_the_table() -> None:
    places = [
        generation.HONOURED, generation.HONOURED_WITH_BEAMS, tuple(generation.HONOURED_SAMPLING),
        generation.TRANSLATED, tuple(generation.REFUSED), tuple(generation.REFUSED_SAMPLING),
        [name for name in generation.REFUSED_WITH_BEAMS if name not in generation.HONOURED_WITH_BEAMS],
        tuple(generation.WITHOUT_EFFECT),
    ]  # fmt: skip
    named = [name for place in places for name in place]
    assert len(named) == len(set(named))
    assert set(GenerationConfig().to_dict()) | set(vars(GenerationConfig())) <= set(named)


REFUSED = {
    "max_time": 2.0, "encoder_no_repeat_ngram_size": 3, "encoder_repetition_penalty": 1.2,
    "exponential_decay_length_penalty": [5, 1.1], "guidance_scale": 1.5, "watermarking_config": {"bias": 2.0},
    "token_healing": True, "penalty_alpha": 0.6, "dola_layers": "low", "constraints": [1],
    "force_words_ids": [[5]], "forced_decoder_ids": [[1, 5]], "forced_eos_token_id": 3, "top_h": 0.4,
    "epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3, "early_stopping": "never", "renormalize_logits": True,
    "num_beam_groups": 2, "diversity_penalty": 0.5,
}  # fmt: skip


def written(folder: Path, fields: dict[str, Any], name: str = "generation_config.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(fields), "utf-8")
    return folder


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_honoured_is_refused_by_name_where_it_counts(tmp_path: Path, name: str) -> None:
    sampling = {"do_sample": True} if name in generation.REFUSED_SAMPLING else {}
    beams = {"num_beams": 3} if name in generation.REFUSED_WITH_BEAMS else {}
    with pytest.raises(UnsupportedCheckpoint, match=f"{name} = "):
        causal_defaults(written(tmp_path, {name: REFUSED[name], **sampling, **beams}), VOCAB)
    if sampling or beams:
        causal_defaults(written(tmp_path, {name: REFUSED[name]}), VOCAB)
    assert set(generation.REFUSED) | set(generation.REFUSED_SAMPLING) <= set(REFUSED)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_beams": 3, "do_sample": True}, "do_sample = True"),
        ({"bad_words_ids": [[VOCAB]]}, f"bad_words_ids = {VOCAB}"),
        ({"sequence_bias": [[[VOCAB], 1.0]]}, f"sequence_bias = {VOCAB}"),
        ({"sequence_bias": {"(1,)": 1.0}}, "sequence_bias"),
        ({"num_beams": 99}, "num_beams is 99"),
        ({"stop_strings": ["a"] * 17}, "stop is "),
        ({"do_sample": True, "temperature": 1e-5}, "temperature is "),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1"),
    ],
)
def test_a_value_that_is_not_accepted_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=message):
        causal_defaults(written(tmp_path, fields), VOCAB)


def test_what_is_not_set_has_transformers_defaults_once_it_samples(tmp_path: Path) -> None:
    common = {"penalize_prompt": True, "suppress_tokens": []}
    assert causal_defaults(written(tmp_path, {"temperature": 0.3, "top_p": 0.5}), VOCAB) == common
    assert causal_defaults(written(tmp_path, {"do_sample": True, "top_p": 0.5}), VOCAB) == {
        **common, "temperature": 1.0, "top_k": 50, "top_p": 0.5, "min_p": 0.0, "typical_p": 1.0,
    }  # fmt: skip


def test_the_older_place_counts_where_there_is_no_generation_config(tmp_path: Path) -> None:
    written(tmp_path, {"no_repeat_ngram_size": 3, "vocab_size": VOCAB}, "config.json")
    assert causal_defaults(tmp_path, VOCAB)["no_repeat_ngram_size"] == 3
    written(tmp_path, {"stop_strings": "###"})
    assert causal_defaults(tmp_path, VOCAB) == {"stop": ["###"], "penalize_prompt": True, "suppress_tokens": []}


def test_what_edgelm_trains_may_quote(tmp_path: Path) -> None:
    assert causal_defaults(written(tmp_path, dict(GENERATION_DEFAULTS)), VOCAB)["penalize_prompt"] is False
    older = {name: value for name, value in GENERATION_DEFAULTS.items() if name != "penalize_prompt"}
    assert causal_defaults(written(tmp_path, older), VOCAB)["penalize_prompt"] is False


def test_a_length_of_the_call_stands_for_one_that_counts_the_prompt() -> None:
    defaults = options_of({"max_length": 30, "min_length": 25}, VOCAB)
    options = GenerationOptions.from_mapping(defaults)
    assert (options.after(20).max_new_tokens, options.after(20).min_new_tokens) == (10, 5)
    assert options.after(29).max_new_tokens == 1
    with pytest.raises(InputError, match="the prompt has 30 tokens, and max_length 30 counts prompt and answer"):
        options.after(30)
    chosen = GenerationOptions.from_mapping(defaults, max_new_tokens=7, min_new_tokens=2)
    assert (chosen.after(90).max_new_tokens, chosen.after(90).min_new_tokens) == (7, 2)


def test_a_cut_vocabulary_has_other_ids() -> None:
    options = options_of(
        {
            "suppress_tokens": [2, 5], "begin_suppress_tokens": [3], "bad_words_ids": [[2, 3], [5]],
            "sequence_bias": [[[3], 1.0], [[4, 2], 2.0]], "num_beams": 2,
        },
        VOCAB,
    )  # fmt: skip
    cut = renumbered({**options, "tasks": {"summary": {"suppress_tokens": [3, 4]}}}, {2: 0, 3: 1})
    assert cut == {
        "num_beams": 2, "penalize_prompt": True, "suppress_tokens": [0], "begin_suppress_tokens": [1],
        "bad_words_ids": [[0, 1]], "sequence_bias": [[[1], 1.0]], "tasks": {"summary": {"suppress_tokens": [1]}},
    }  # fmt: skip


def test_tokens_that_the_graph_does_not_have_are_refused(session: GeneratorSession) -> None:
    with pytest.raises(InputError, match="suppress_tokens names the token 24, accepted: 0 to 23"):
        session.stream([3], GenerationOptions(suppress_tokens=(VOCAB,)))
    with pytest.raises(InputError, match="leave no token to begin with"):
        session.stream([3], GenerationOptions(suppress_tokens=tuple(range(VOCAB))))
