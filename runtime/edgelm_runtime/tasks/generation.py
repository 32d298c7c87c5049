"""What the tasks that write text share: a bundle, its options, and answers one by one or several together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..errors import BundleRejected, DeadlineExceeded, InputError
from ..generate.batch import MAX_SEQUENCES, Request, generate_together
from ..generate.beam import beam_search
from ..generate.constraints import Banned, Constraint, MustInclude, Rules
from ..generate.control import Control
from ..generate.loop import GeneratorSession, TokenStream
from ..generate.options import GenerationOptions
from ..generate.sampling import fresh_seed
from ..manifest import DecoderSpec
from ..placement import DEFAULTS, Engine, LoadOptions, Receipt
from ..results import TextResult
from ..script import language_of
from ..session import Session
from ..tokenizer import TextTokenizer
from ..vetting.trial import tokenizer_content
from .observed import Answers, Observed
from .words import Words, absolute_terms
from .writing import Account, Job, Reader

SLICE = 4096  # characters that are cut into tokens at a time, to see whether a text is too long
MIN_ROOM = 16  # tokens that must be left for a text, beside the prompt's own words and the answer


class Generation(Observed, ABC):
    """A bundle that writes text for one of its tasks. Safe to share between threads: every answer has its own buffers.

    Raises BundleRejected when a file does not match, the graph is no generator, or the manifest's prompt or generation
    defaults cannot be used; DeviceError when no variant runs on this machine.
    """

    task = ""
    advertises = False

    def __init__(self, bundle: Bundle, options: LoadOptions = DEFAULTS) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.answers = Answers()
        self.tokenizer = TextTokenizer(tokenizer_content(bundle), manifest.tokenizer, manifest.prompts.values())
        self._template = manifest.prompts.get(self.task, "")
        self._defaults = self._read_defaults()
        self.context = manifest.tokenizer.max_tokens
        self._encodes = manifest.decoder is not None
        self.template_tokens = len(self._prompt(""))
        room = self.context - self.template_tokens - self.reserved(self.context)
        if "{text}" not in self._template or room < MIN_ROOM:
            raise BundleRejected(
                f"the prompt for {self.task} is {self._template!r} ({self.template_tokens} tokens) in a context of "
                f"{self.context}; accepted: one with {{text}} that leaves {MIN_ROOM} tokens for it beside an answer of "
                "a quarter of the context; export the bundle again",
                what=f"prompts[{self.task!r}]",
            )
        self.engine = Engine(bundle, options)
        self.threads = self.engine.threads
        self.generator = GeneratorSession(
            self.engine.session,
            max_tokens=self.context,
            eos_ids=manifest.tokenizer.eos_ids,
            suppressed=() if "suppress_tokens" in manifest.generation else self.tokenizer.special_ids,
            encoder=self._encoder(),
        )
        self._check_defaults()
        self._words = Words(self.tokenizer, self.generator.vocab)

    def receipt(self) -> Receipt:
        """How the bundle was loaded: variant, device, nodes by provider, threads, and why."""
        return self.engine.receipt()

    def options(self, **overrides: Any) -> GenerationOptions:
        """The bundle's options for this task with `overrides` on top. Raises InputError for what is not accepted."""
        return GenerationOptions.from_mapping(self._defaults, **overrides)

    def batch(self, values: Iterable[Any], **options: Any) -> list[TextResult]:
        """Answer many inputs, those of like length together; results in input order.

        Raises InputError, naming the first input by its number from 1 that is not accepted.
        """
        results = self.try_batch(values, **options)
        for number, result in enumerate(results, start=1):
            if isinstance(result, InputError | DeadlineExceeded):
                raise type(result)(f"input {number}: {result}") from result
        return [result for result in results if isinstance(result, TextResult)]

    def try_batch(self, values: Iterable[Any], **options: Any) -> list[TextResult | InputError | DeadlineExceeded]:
        """Like `batch`, with the error in the place of the result for an input that has none.

        Inputs are answered one by one where each has a deadline of its own.
        """
        chosen = self.options(**options)
        if isinstance(values, str | Mapping):
            raise InputError("one input was given where several are wanted; put it into a list")
        given = list(values)
        results: list[TextResult | InputError | DeadlineExceeded | None] = [None] * len(given)
        jobs: list[tuple[int, Job]] = []
        for index, value in enumerate(given):
            try:
                job = None if chosen.deadline_ms is not None else self._job(value, chosen)
            except InputError as error:
                results[index] = error
                continue
            if job is not None and job.account.windows == 1 and len(job.prompt) <= self.generator.most:
                jobs.append((index, job))
            else:
                results[index] = self._or_error(value, options)
        jobs.sort(key=lambda numbered: len(numbered[1].prompt))
        for start in range(0, len(jobs), MAX_SEQUENCES):
            group = jobs[start : start + MAX_SEQUENCES]
            try:
                texts = self._write_together([job for _, job in group])
            except InputError:  # rules on words that one of them cannot keep: the others are answered alone
                for index, _ in group:
                    results[index] = self._or_error(given[index], options)
                continue
            for (index, job), text in zip(group, texts, strict=True):
                results[index] = self._result(job.account, text)
        return [result for result in results if result is not None]

    def _or_error(self, value: Any, options: Mapping[str, Any]) -> TextResult | InputError | DeadlineExceeded:
        try:
            return self(value, **options)
        except (InputError, DeadlineExceeded) as error:
            return error

    @abstractmethod
    def __call__(self, value: Any, **options: Any) -> TextResult:
        """Answer one input."""

    def _encoder(self) -> tuple[Session, DecoderSpec] | None:
        session, spec = self.engine.encoder, self.bundle.manifest.decoder
        return None if session is None or spec is None else (session, spec)

    def reserved(self, tokens: int, context: int | None = None) -> int:
        """How much of the context an answer of so many tokens takes from the prompt; a quarter at the most."""
        return 0 if self._encodes else min(tokens, (context or self.context) // 4)

    def infer(self, ids: Sequence[int], **options: Any) -> list[int]:
        """Second stage: the token ids of the answer to a prompt's ids (of `tokenize`). Raises InputError."""
        return list(self.stream_ids(ids, **options))

    def decode(self, ids: Sequence[int]) -> str:
        """Third stage: the text of an answer's ids."""
        return self.tokenizer.decode(ids)

    def stream_ids(self, input_ids: Sequence[int], **options: Any) -> TokenStream:
        """The level below text: yields the ids of the answer to a prompt's ids, `finish_reason` is known at the end.

        One answer, whatever `num_beams` says: beams are known at their end alone. The tokens of a stop string are among
        the ids. Raises InputError at once for ids or options not accepted.
        """
        chosen = self.options(**options)
        reader = Reader(self.tokenizer, chosen)
        ends = reader.read if chosen.stop else None
        return self.generator.stream(input_ids, chosen, ends, control=Control(chosen.deadline_ms))

    def constraint(self, source: str, options: GenerationOptions, account: Account) -> Constraint | None:
        """The rules on words for one answer to `source`; None where the options have none.

        What is banned and in the source is noted. Raises InputError for phrases that contradict each other.
        """
        account.must_include = options.must_include or account.must_include
        phrases = options.banned
        if self.advertises and account.language == "zh" and not options.absolute_terms:
            phrases = (*absolute_terms(), *phrases)
        parts: list[Constraint] = []
        if phrases:
            banned = self._words.banned(phrases)
            parts.append(Banned(banned))
            for phrase in options.must_include:
                if found := banned.within(phrase):
                    law = "" if found[0] in options.banned else ", an absolute term (absolute_terms=True allows it)"
                    raise InputError(f"{phrase}: to be included, and holds {found[0]}, which is banned{law}")
            note = [phrase for phrase in banned.within(source) if phrase]
            if note and not any("is banned" in given for given in account.notes):
                account.notes.append(f"{', '.join(note)} is in the input and is banned: the answer does not say it")
        if options.facts == "locked":
            # What must be included is given, like the source.
            known = " ; ".join((source, *options.must_include))
            parts.append(self._words.facts(known, account.language, self.generator.eos_ids).begin())
        if options.must_include:
            spellings = {
                phrase: self.tokenizer.encode(phrase if language_of(phrase) == "zh" else f" {phrase}", special=False)
                for phrase in options.must_include
            }
            parts.append(MustInclude(spellings, self._words.vocabulary, self.generator.eos_ids, options.max_new_tokens))
        return None if not parts else parts[0] if len(parts) == 1 else Rules(parts)

    def _prompt(self, text: str) -> list[int]:
        if self._encodes or self.tokenizer.spec.special_tokens is not None:
            return self.tokenizer.encode_prompt(self._template, text, encoder=self._encodes)
        return self.tokenizer.encode_template(self._template, text=text)

    def _prompt_in_time(self, text: str, control: Control) -> list[int]:
        """The prompt of a text that has to fit into the context.

        A long one is refused once the first of it are too many tokens. Raises InputError and DeadlineExceeded.
        """
        most, tokens = self.generator.most, 0
        for start in range(0, len(text), SLICE) if len(text) > SLICE else ():
            control.in_time()
            tokens += len(self.tokenizer.encode(text[start : start + SLICE], special=False))
            if tokens > 2 * most:  # what is cut may be a few tokens more than the whole
                raise InputError(
                    f"the prompt has more than {most} tokens, accepted: at most {most} (the model's context is "
                    f"{self.context}); shorten the input"
                )
        control.in_time()
        prompt = self._prompt(text)
        control.in_time()
        self.generator.checked(prompt)
        return prompt

    def _rules(self, source: str, options: GenerationOptions, account: Account) -> Constraint | None:
        """`constraint`, waited for no longer than the deadline."""
        return account.control.waited_for(lambda: self.constraint(source, options, account))

    def _read_defaults(self) -> dict[str, Any]:
        """The manifest's generation defaults, those of this task on top; refused as a fault of the bundle."""
        generation = self.bundle.manifest.generation
        tasks = generation.get("tasks", {})
        own = tasks.get(self.task, {}) if isinstance(tasks, dict) else None
        try:
            if not isinstance(own, dict):
                raise InputError('"tasks" must be an object of objects')
            defaults = {**generation, **own}
            GenerationOptions.from_mapping(defaults)
        except InputError as error:
            raise _unusable_defaults(error) from error
        return defaults

    def _check_defaults(self) -> None:
        """Refuse, as a fault of the bundle, defaults that name tokens which the graph does not have."""
        try:
            self.generator.edits(np.empty(0, dtype=np.int64), self.options())
        except InputError as error:
            raise _unusable_defaults(error) from error

    @abstractmethod
    def _job(self, value: Any, options: GenerationOptions) -> Job:
        """One answer to an input, ready to be written. Raises InputError for what is not accepted."""

    def _write(self, job: Job) -> Iterator[str]:
        """Start one answer and return its text piece by piece. Raises InputError at once for a prompt too long."""
        reader = Reader(self.tokenizer, job.options)
        if job.options.num_beams > 1:
            return self._read_beam(job, reader)
        tokens = self.generator.stream(
            job.prompt, job.options, reader.read, job.guide, job.constraint, job.account.control
        )
        return self._read(tokens, reader, job.account)

    def _read_beam(self, job: Job, reader: Reader) -> Iterator[str]:
        """The text that beam search finds, once it is found."""
        account = job.account
        if job.guide is not None:
            account.notes.append("beam search goes by probability alone: coverage_bonus and quote_bonus were not used")
        ran = account.control.run_ms
        with account.watch("decode"):
            tokens, finish = beam_search(self.generator, job.prompt, job.options, job.constraint, account.control)
            account.prompt_tokens += len(job.prompt)
            account.tokens += len(tokens)
            for token in tokens:
                if reader.collect(token):
                    break
        account.took(account.control.run_ms - ran, reader.ms)
        yield "".join(reader.pieces) + account.finish(reader, finish)

    def _write_together(self, jobs: Sequence[Job]) -> list[str]:
        """The texts of several answers, in step. Raises InputError for a prompt too long."""
        texts: list[str] = []
        for start in range(0, len(jobs), MAX_SEQUENCES):
            group = jobs[start : start + MAX_SEQUENCES]
            if len(group) == 1 or group[0].options.num_beams > 1 or group[0].options.context_shift:
                texts += ["".join(self._write(job)) for job in group]
                continue
            readers = [Reader(self.tokenizer, job.options) for job in group]
            requests = [
                Request(job.prompt, job.options, reader.collect, job.guide, job.constraint)
                for job, reader in zip(group, readers, strict=True)
            ]
            control = group[0].account.control
            began, ran = perf_counter(), control.run_ms
            answers = generate_together(self.generator, requests, control)
            for account in {id(job.account): job.account for job in group}.values():
                account.watch.add("decode", (perf_counter() - began) * 1000.0)
                account.took(control.run_ms - ran, sum(reader.ms for reader in readers))
            for job, reader, answer in zip(group, readers, answers, strict=True):
                job.account.prompt_tokens += len(job.prompt)
                job.account.tokens += answer.count
                texts.append("".join(reader.pieces) + job.account.finish(reader, answer.finish_reason))
        return texts

    @staticmethod
    def _read(tokens: TokenStream, reader: Reader, account: Account) -> Iterator[str]:
        """Text of the tokens as they come; counts and times go to `account`."""
        account.prompt_tokens += tokens.prompt_tokens
        ran = account.control.run_ms
        stage, start = "prefill", perf_counter()
        for _ in tokens:
            account.watch.add(stage, (perf_counter() - start) * 1000.0)
            if account.time_to_first_token is None:
                account.time_to_first_token = account.watch.elapsed()
            account.tokens += 1
            if reader.piece:
                yield reader.piece
            stage, start = "decode", perf_counter()
        account.watch.add(stage, (perf_counter() - start) * 1000.0)
        account.took(account.control.run_ms - ran, reader.ms)
        if tokens.lookup is not None:
            account.proposed += tokens.lookup.proposed
            account.accepted += tokens.lookup.accepted
        if rest := account.finish(reader, tokens.finish_reason):
            yield rest

    def _answer(self, job: Job) -> Generator[str, None, TextResult]:
        """What a Writing reads. Raises InputError at once for a prompt too long."""
        return self._collect(self._write(job), job.account)

    def _collect(self, pieces: Iterator[str], account: Account) -> Generator[str, None, TextResult]:
        parts = []
        for piece in pieces:
            parts.append(piece)
            yield piece
        return self._result(account, "".join(parts))

    def _result(self, account: Account, text: str, variants: tuple[str, ...] = ()) -> TextResult:
        """The result. Raises DeadlineExceeded when the deadline came before the first sentence was whole, or before
        all that must be included was written."""
        account.control.close()
        if account.finish_reason == "deadline":
            if not text:
                raise DeadlineExceeded(
                    "the deadline came before the first sentence was whole; give it more time, or a shorter text to "
                    "read"
                )
            if missing := account.missing(*(variants or (text,))):
                raise DeadlineExceeded(
                    f"the deadline came before {', '.join(missing)} was written, which the answer must include; give "
                    "it more time, or ask for fewer phrases"
                )
        result = account.result(self.bundle.manifest.name, text, variants)
        self.answers.seen(result)
        return result

    @staticmethod
    def _seeded(options: GenerationOptions, account: Account) -> GenerationOptions:
        """Options with a seed: one that is drawn here is noted, so that the answer can be had again."""
        if options.greedy or options.seed is not None:
            return options
        seed = fresh_seed()
        account.notes.append(f"sampled with seed {seed}")
        return replace(options, seed=seed)


def _unusable_defaults(error: InputError) -> BundleRejected:
    return BundleRejected(
        f"the manifest's generation defaults cannot be used: {error}; export the bundle again",
        what="generation",
        found=str(error),
    )
