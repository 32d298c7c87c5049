"""What a caller may ask of the decode loop: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError

MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
MAX_BANNED = 10_000
MAX_INCLUDED = 32
MAX_SEED = 2**63 - 1
MAX_BEAMS = 16
MAX_DEADLINE_MS = 24 * 3600 * 1000
MAX_SEQUENCES = 10_000  # of token ids, and ids of a list
MAX_SEQUENCE_LENGTH = 256
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no tokenizer takes

Sequence = tuple[int, ...]
_LISTS = (
    "stop", "banned", "must_include", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias",
)  # fmt: skip


@dataclass(frozen=True)
class GenerationOptions:
    """How an answer is generated. Every value is checked at construction; InputError names all that are out of range.

    max_new_tokens        tokens to generate at the most, at least 1
    min_new_tokens        tokens before which the answer does not end by itself; 0 lets it
    max_length            tokens of prompt and answer together, at the most; None is the model's context
    min_length            tokens of prompt and answer before which the answer does not end by itself; 0 lets it
    temperature           0 is greedy; above 0 divides the logits before sampling
    top_k                 keep the k most probable tokens; 0 keeps all
    top_p                 keep the smallest set with this probability, in (0, 1]; 1 keeps all
    min_p                 keep the tokens with this share of the largest probability; 0 keeps all
    typical_p             keep the most typical tokens with this probability (arXiv:2202.00666), in (0, 1]; 1 keeps all
    repetition_penalty    CTRL's penalty (arXiv:1909.05858) on tokens that there were; 1 is none
    no_repeat_ngram_size  no n-gram of this many tokens twice; 0 allows all
    penalize_prompt       whether the penalty and the n-gram rule count the prompt, or what a decoder begins with, as
                          transformers does; else the answer alone: a summary may quote its source
    suppress_tokens       token ids that are never chosen
    begin_suppress_tokens token ids that are not chosen first
    bad_words_ids         sequences of token ids that are never completed
    sequence_bias         pairs of a sequence of token ids and what is added to the logit of its last when it may follow
    seed                  of the sampler; None draws a fresh one
    banned                phrases that the answer may not hold
    must_include          phrases that it may not end without
    absolute_terms        whether a Chinese description may use the absolute terms that advertising law forbids
    facts                 "locked": numbers, units, prices and names in Latin letters come from the input alone;
                          "free": from anywhere
    stop                  texts that end the answer; they are not part of it
    ignore_eos            go on after the end-of-text token (for benchmarks)
    prompt_lookup_num_tokens  tokens to propose at a time, from what stood before; 0 is off. In int8 one answer in a
                          thousand differs by it, where two tokens are nearly as probable
    context_shift         an answer may go on past the context: the older half of what was read and written is then
                          forgotten. Not with beams; without it the answer ends there
    num_beams             above 1: beam search, with that many beginnings of the answer kept
    length_penalty        of beam search: above 0 favours long answers, below 0 short ones
    early_stopping        of beam search: end with as many whole answers as beams, though a better one might come
    deadline_ms           the answer's time, prompt included: what is written by then is cut at its last whole sentence
    coverage_bonus        a description: added to the logits of tokens that begin an attribute's value that is not
                          named yet, twice that to those that go on with it; 0 is off
    quote_bonus           a summary: added to the logits of tokens that its text has, and again to those that follow
                          there on the last token; 0 is off
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    banned: tuple[str, ...] = ()
    must_include: tuple[str, ...] = ()
    absolute_terms: bool = False
    facts: str = "free"
    prompt_lookup_num_tokens: int = 0
    context_shift: bool = False
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    min_new_tokens: int = 0
    deadline_ms: float | None = None
    coverage_bonus: float = 0.0
    quote_bonus: float = 0.0
    max_length: int | None = None
    min_length: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    penalize_prompt: bool = False
    suppress_tokens: Sequence = ()
    begin_suppress_tokens: Sequence = ()
    bad_words_ids: tuple[Sequence, ...] = ()
    sequence_bias: tuple[tuple[Sequence, float], ...] = ()

    def __post_init__(self) -> None:
        # A list (JSON has no tuples) is taken as it is meant; a bare string is not a list of letters.
        for name in _LISTS:
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        problems = [f"{name} is {getattr(self, name)!r}, accepted: {accepted}" for name, accepted in _violations(self)]
        if problems:
            raise InputError("generation options refused: " + "; ".join(problems))

    @property
    def greedy(self) -> bool:
        """True when the most probable token is always taken."""
        return self.temperature == 0

    @property
    def edits_logits(self) -> bool:
        """True when the answer so far changes the logits of the next token."""
        biased = self.bad_words_ids or self.sequence_bias
        return self.repetition_penalty != 1 or self.no_repeat_ngram_size > 0 or bool(biased)

    def after(self, tokens: int) -> GenerationOptions:
        """The options of an answer to so many tokens: lengths that count them become lengths of the answer.

        Raises InputError when `max_length` leaves no token for an answer.
        """
        if self.max_length is None and not self.min_length:
            return self
        room = self.max_new_tokens if self.max_length is None else self.max_length - tokens
        if room < 1:
            raise InputError(
                f"the prompt has {tokens} tokens, and max_length {self.max_length} counts prompt and answer: shorten "
                "the input, or give max_new_tokens, which stands for it"
            )
        return replace(
            self,
            max_new_tokens=min(self.max_new_tokens, room),
            min_new_tokens=max(self.min_new_tokens, self.min_length - tokens),
            max_length=None,
            min_length=0,
        )

    @classmethod
    def from_mapping(cls, defaults: Mapping[str, Any], **overrides: Any) -> GenerationOptions:
        """Options from a bundle's defaults, with the caller's overrides on top.

        Unknown names in `defaults` are left aside (a manifest may hold more than this version reads);
        unknown names in `overrides` raise InputError. A length of the answer takes the place of a default that counts
        the prompt, as in transformers.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise InputError(f"unknown generation option {', '.join(unknown)}; accepted: {', '.join(known)}")
        replaced = [f"{end}_length" for end in ("max", "min") if f"{end}_new_tokens" in overrides]
        chosen = {name: defaults[name] for name in known if name in defaults and name not in replaced}
        return cls(**{**chosen, **overrides})


_IDS = f"at most {MAX_SEQUENCES} token ids"
_SEQUENCES = f"sequences of 1 to {MAX_SEQUENCE_LENGTH} token ids"


def _violations(options: GenerationOptions) -> list[tuple[str, str]]:
    """(field, accepted values) of every field that is out of range."""
    checks = (
        ("max_new_tokens", _is_int(options.max_new_tokens, 1), "an integer, at least 1"),
        ("min_new_tokens", _is_int(options.min_new_tokens, 0), "an integer, at least 0 (0 lets the answer end)"),
        ("temperature", _is_number(options.temperature, 0.01, 100, or_is=0), "0 (greedy) or 0.01 to 100"),
        ("top_k", _is_int(options.top_k, 0), "an integer, at least 0 (0 keeps all)"),
        ("top_p", _is_number(options.top_p, 0, 1) and options.top_p > 0, "a number above 0, at most 1"),
        ("min_p", _is_number(options.min_p, 0, 1), "a number from 0 (keeps all) to 1"),
        ("typical_p", _is_number(options.typical_p, 0, 1) and options.typical_p > 0, "a number above 0, at most 1"),
        ("max_length", options.max_length is None or _is_int(options.max_length, 1), "an integer, at least 1, or none"),
        ("min_length", _is_int(options.min_length, 0), "an integer, at least 0 (0 lets the answer end)"),
        ("penalize_prompt", isinstance(options.penalize_prompt, bool), "true or false"),
        (
            "repetition_penalty",
            _is_number(options.repetition_penalty, 0.01, 100),
            "a number from 0.01 to 100 (1 is none)",
        ),
        ("no_repeat_ngram_size", _is_int(options.no_repeat_ngram_size, 0), "an integer, at least 0 (0 allows all)"),
        ("seed", options.seed is None or _is_int(options.seed, 0, MAX_SEED), f"an integer from 0 to {MAX_SEED}"),
        (
            "stop",
            _are_texts(options.stop, MAX_STOP_STRINGS, blank=True),
            f"at most {MAX_STOP_STRINGS} texts of 1 to {MAX_STOP_LENGTH} characters, all of Unicode",
        ),
        (
            "banned",
            _are_texts(options.banned, MAX_BANNED),
            f"at most {MAX_BANNED} texts of 1 to {MAX_STOP_LENGTH} characters, not blank, all of Unicode",
        ),
        (
            "must_include",
            _are_texts(options.must_include, MAX_INCLUDED),
            f"at most {MAX_INCLUDED} texts of 1 to {MAX_STOP_LENGTH} characters, not blank, all of Unicode",
        ),
        ("absolute_terms", isinstance(options.absolute_terms, bool), "true or false"),
        ("facts", options.facts in ("free", "locked"), '"free" or "locked"'),
        ("ignore_eos", isinstance(options.ignore_eos, bool), "true or false"),
        ("prompt_lookup_num_tokens", _is_int(options.prompt_lookup_num_tokens, 0, 64), "an integer from 0 (off) to 64"),
        ("context_shift", isinstance(options.context_shift, bool), "true or false"),
        (
            "num_beams",
            _is_int(options.num_beams, 1, MAX_BEAMS)
            and (options.num_beams == 1 or (options.temperature == 0 and not options.context_shift)),
            f"an integer from 1 to {MAX_BEAMS}, above 1 with temperature 0 and without context_shift only",
        ),
        ("length_penalty", _is_number(options.length_penalty, -10, 10), "a number from -10 to 10"),
        ("early_stopping", isinstance(options.early_stopping, bool), "true or false"),
        (
            "deadline_ms",
            options.deadline_ms is None or _is_number(options.deadline_ms, 1, MAX_DEADLINE_MS),
            f"milliseconds from 1 to {MAX_DEADLINE_MS}",
        ),
        ("coverage_bonus", _is_number(options.coverage_bonus, 0, 100), "a number from 0 (off) to 100"),
        ("quote_bonus", _is_number(options.quote_bonus, 0, 100), "a number from 0 (off) to 100"),
    )
    return [(name, accepted) for name, valid, accepted in (*checks, *_token_checks(options)) if not valid]


def _token_checks(options: GenerationOptions) -> tuple[tuple[str, bool, str], ...]:
    """(field, whether it is accepted, accepted values) of the fields that name token ids."""
    return (
        ("suppress_tokens", _are_ids(options.suppress_tokens), _IDS),
        ("begin_suppress_tokens", _are_ids(options.begin_suppress_tokens), _IDS),
        ("bad_words_ids", _are_sequences(options.bad_words_ids), f"at most {MAX_SEQUENCES} {_SEQUENCES}"),
        (
            "sequence_bias",
            _are_biases(options.sequence_bias),
            f"at most {MAX_SEQUENCES} pairs of {_SEQUENCES}, and a number",
        ),
    )


def _is_int(value: object, low: int, high: int = 2**31 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object, low: float, high: float, *, or_is: float | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high or value == or_is


def _are_texts(value: object, most: int, *, blank: bool = False) -> bool:
    if not isinstance(value, tuple) or len(value) > most:
        return False
    return all(
        isinstance(text, str)
        and 1 <= len(text) <= MAX_STOP_LENGTH
        and (blank or not text.isspace())
        and not _LONE_SURROGATE.search(text)
        for text in value
    )


def _tuples(value: object) -> object:
    """Lists as tuples, those inside them, too."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _are_ids(value: object, most: int = MAX_SEQUENCES) -> bool:
    return isinstance(value, tuple) and len(value) <= most and all(_is_int(token, 0) for token in value)


def _are_sequences(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) > MAX_SEQUENCES:
        return False
    return all(_are_ids(sequence, MAX_SEQUENCE_LENGTH) and len(sequence) > 0 for sequence in value)


def _are_biases(value: object) -> bool:
    if not isinstance(value, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return False
    biases = [bias for _, bias in value]
    return _are_sequences(tuple(sequence for sequence, _ in value)) and all(
        _is_number(bias, -math.inf, math.inf) and math.isfinite(bias) for bias in biases
    )
