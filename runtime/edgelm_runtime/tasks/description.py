"""Description: the attributes of a product to a text about it, through tokenize -> infer -> decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..generate.control import Control
from ..generate.guides import Coverage
from ..generate.options import GenerationOptions
from ..results import TextResult
from ..script import language_of
from ..tokenizer import checked
from .attributes import canonical, parse, to_name
from .generation import Generation
from .writing import Account, Job, Writing

MAX_VARIANTS = 64
VARIANT_TEMPERATURE = 0.8
VARIANT_TOP_P = 0.9
# Nobody names a longer value word by word: it is a title that the text is about.
MAX_VALUE_TOKENS = 16


class Description(Generation):
    """Writes product descriptions. Attributes come as a mapping or as text in any form of `attributes.parse`."""

    task = "description"
    advertises = True

    def __call__(self, value: Mapping[str, object] | str, *, variants: int | None = None, **options: Any) -> TextResult:
        """Write one description; with `variants=N`, N sampled ones with the seeds seed, seed + 1, ....

        Variants use temperature 0.8 and top_p 0.9 unless the call or the bundle says otherwise; `text` is the first
        of them. `options` are those of GenerationOptions. Raises InputError for attributes or options that are not
        accepted, and for attributes that do not fit into the context.
        """
        if variants is None:
            return self.stream(value, **options).finish()
        chosen = self._variant_options(variants, options)
        account, text = self._start(value, Control(chosen.deadline_ms))
        with account.watch("tokenize"):
            prompt = self._prompt_in_time(text, account.control)
        chosen = self._seeded(chosen, account)
        jobs = [
            self._written(account, prompt, replace(chosen, seed=(chosen.seed or 0) + number), text)
            for number in range(variants)
        ]
        texts = self._write_together(jobs)
        if account.finish_reason == "deadline":
            account.notes.append("the deadline came before all variants were whole")
            texts = [text for text in texts if text and not account.missing(text)]
        return self._result(account, texts[0] if texts else "", tuple(texts))

    def stream(self, attributes: Mapping[str, object] | str, **options: Any) -> Writing:
        """The pieces of one description as they are made. Raises InputError at once, like the call."""
        job = self._job(attributes, self.options(**options))
        return Writing(self._answer(job), job.account.control)

    def guide(self, attributes: Mapping[str, object] | str, options: GenerationOptions) -> Coverage | None:
        """The values that a description of these attributes should name; None where the options want no bonus."""
        if not options.coverage_bonus:
            return None
        phrases = []
        for value in to_name(parse(attributes)):
            # A word after a space is other tokens than one at the start; Chinese has no spaces.
            forms = (value,) if language_of(value) == "zh" else (f" {value}", value)
            spellings = (self.tokenizer.encode(form, special=False) for form in forms)
            if short := [ids for ids in spellings if 0 < len(ids) <= MAX_VALUE_TOKENS]:
                phrases.append(short)
        return Coverage(phrases, options.coverage_bonus, self.generator.eos_ids)

    def tokenize(self, attributes: Mapping[str, object] | str) -> list[int]:
        """First stage: the prompt's token ids, template included."""
        return self._prompt(self._start(attributes, Control())[1])

    def _job(self, value: Any, options: GenerationOptions) -> Job:
        account, text = self._start(value, Control(options.deadline_ms))
        with account.watch("tokenize"):
            prompt = self._prompt_in_time(text, account.control)
        return self._written(account, prompt, self._seeded(options, account), text)

    def _written(self, account: Account, prompt: list[int], options: GenerationOptions, text: str) -> Job:
        return Job(account, prompt, options, self.guide(text, options), self._rules(text, options, account))

    def _start(self, attributes: Mapping[str, object] | str, control: Control) -> tuple[Account, str]:
        """The account of a new answer, and the canonical text of its attributes."""
        text, notes = checked(canonical(parse(attributes)))
        control.in_time()
        return Account(language_of(text), list(notes), control), text

    def _variant_options(self, variants: object, options: dict[str, Any]) -> GenerationOptions:
        if type(variants) is not int or not 1 <= variants <= MAX_VARIANTS:
            raise InputError(f"variants is {variants!r}, accepted: an integer from 1 to {MAX_VARIANTS}")
        chosen = self.options(**options)
        if chosen.num_beams > 1:
            raise InputError("variants are sampled, and beam search is not; leave out one of the two")
        if not chosen.greedy:
            return chosen
        if "temperature" in options:
            raise InputError("variants with temperature 0 would all be the same; give a temperature above 0, or none")
        top_p = chosen.top_p if chosen.top_p < 1 or "top_p" in options else VARIANT_TOP_P
        return replace(chosen, temperature=VARIANT_TEMPERATURE, top_p=top_p)
