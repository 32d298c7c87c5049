"""What the tasks that write text share: prompt -> token ids -> text, streamed, with the result at the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from ..bundle import Bundle
from ..device import choose_variant, default_threads
from ..errors import BundleRejected, InputError
from ..generate.guides import Guide
from ..generate.loop import GeneratorSession, TokenStream
from ..generate.options import GenerationOptions
from ..generate.sampling import fresh_seed
from ..generate.stop import StopFilter
from ..results import TextResult
from ..session import create_session
from ..timing import Stopwatch
from ..tokenizer import TextStream, TextTokenizer

MIN_ROOM = 16  # tokens that must be left for a text, beside the prompt's own words and the answer


@dataclass
class Account:
    """What is counted and noted while one input is answered; it becomes the TextResult."""

    language: str
    notes: list[str] = field(default_factory=list)
    watch: Stopwatch = field(default_factory=Stopwatch)
    prompt_tokens: int = 0
    tokens: int = 0
    windows: int = 1
    finish_reason: str = ""
    time_to_first_token: float | None = None

    def result(self, bundle: str, text: str, variants: tuple[str, ...] = ()) -> TextResult:
        """The finished result: `prompt_tokens`, `tokens` and `timings` are sums over windows and variants."""
        timings = self.watch.timings()
        if self.time_to_first_token is not None:
            timings["time_to_first_token"] = self.time_to_first_token
        return TextResult(
            text=text,
            variants=variants,
            finish_reason=self.finish_reason,
            language=self.language,
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            windows=self.windows,
            notes=tuple(self.notes),
            bundle=bundle,
            timings=timings,
        )


class Writing(Iterator[str]):
    """The pieces of one answer as they are made. No piece ends inside a character.

    After the last piece `result` is the TextResult, whose `text` is the pieces joined; before it is None.
    """

    def __init__(self, pieces: Generator[str, None, TextResult]) -> None:
        self._pieces = pieces
        self.result: TextResult | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self.result = self.result or end.value
            raise StopIteration from None

    def close(self) -> None:
        """End early and free the buffers; there is no result then."""
        self._pieces.close()

    def finish(self) -> TextResult:
        """Make the pieces that are left and return the result. Raises InputError after `close`."""
        for _ in self:
            continue
        if self.result is None:
            raise InputError("the stream was closed before its end, so there is no result; start a new one")
        return self.result


class _Reader:
    """Text of an answer as its tokens come, up to the first stop string."""

    def __init__(self, tokenizer: TextTokenizer, stops: tuple[str, ...]) -> None:
        self._text = TextStream(tokenizer)
        self._stop = StopFilter(stops)
        self.piece = ""

    @property
    def stopped(self) -> bool:
        return self._stop.found

    def read(self, token: int) -> bool:
        """Take one token; `piece` is then the text that may be shown. True when a stop string was completed."""
        self.piece = self._stop.push(self._text.push(token))
        return self._stop.found

    def rest(self) -> str:
        """The text that was held back, at the end of the answer."""
        return self._stop.push(self._text.flush()) + self._stop.flush()


class Generation:
    """A bundle that writes text for one of its tasks. Safe to share between threads: every answer has its own buffers.

    Raises BundleRejected when a file does not match, the graph is no generator, or the manifest's prompt or generation
    defaults cannot be used; DeviceError when no variant runs on this machine.
    """

    task = ""

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.threads = default_threads() if threads is None else threads
        self.variant = choose_variant(manifest.variants, device)
        self.tokenizer = TextTokenizer(bundle.read(manifest.tokenizer.file), manifest.tokenizer)
        self._template = manifest.prompts.get(self.task, "")
        self._defaults = self._read_defaults()
        self.context = manifest.tokenizer.max_tokens
        self.template_tokens = len(self._prompt(""))
        room = self.context - self.template_tokens - self.context // 4
        if "{text}" not in self._template or room < MIN_ROOM:
            raise BundleRejected(
                f"the prompt for {self.task} is {self._template!r} ({self.template_tokens} tokens) in a context of "
                f"{self.context}; accepted: one with {{text}} that leaves {MIN_ROOM} tokens for it beside an answer of "
                "a quarter of the context; export the bundle again",
                what=f"prompts[{self.task!r}]",
            )
        self.generator = GeneratorSession(
            create_session(bundle.read(self.variant.file), threads=self.threads),
            max_tokens=self.context,
            eos_id=manifest.tokenizer.eos_id,
            suppressed=self.tokenizer.special_ids,
        )

    def options(self, **overrides: Any) -> GenerationOptions:
        """The bundle's options for this task with `overrides` on top. Raises InputError for what is not accepted."""
        return GenerationOptions.from_mapping(self._defaults, **overrides)

    def infer(self, ids: Sequence[int], **options: Any) -> list[int]:
        """Second stage: the token ids of the answer to a prompt's ids (of `tokenize`). Raises InputError."""
        return list(self.stream_ids(ids, **options))

    def decode(self, ids: Sequence[int]) -> str:
        """Third stage: the text of an answer's ids."""
        return self.tokenizer.decode(ids)

    def stream_ids(self, input_ids: Sequence[int], **options: Any) -> TokenStream:
        """The level below text: yields the ids of the answer to a prompt's ids, `finish_reason` is known at the end.

        The tokens of a stop string are among the ids. Raises InputError at once for ids or options not accepted.
        """
        chosen = self.options(**options)
        reader = _Reader(self.tokenizer, chosen.stop)
        return self.generator.stream(input_ids, chosen, reader.read if chosen.stop else None)

    def _prompt(self, text: str) -> list[int]:
        return self.tokenizer.encode_template(self._template, text=text)

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
            raise BundleRejected(
                f"the manifest's generation defaults cannot be used: {error}; export the bundle again",
                what="generation",
                found=str(error),
            ) from error
        return defaults

    def _write(
        self, prompt: Sequence[int], options: GenerationOptions, account: Account, guide: Guide | None = None
    ) -> Iterator[str]:
        """Start one answer and return its text piece by piece. Raises InputError at once for a prompt too long."""
        reader = _Reader(self.tokenizer, options.stop)
        return self._read(self.generator.stream(prompt, options, reader.read, guide), reader, account)

    @staticmethod
    def _read(tokens: TokenStream, reader: _Reader, account: Account) -> Iterator[str]:
        """Text of the tokens as they come; counts and times go to `account`."""
        account.prompt_tokens += tokens.prompt_tokens
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
        if rest := reader.rest():
            yield rest
        finish = "stop" if reader.stopped else tokens.finish_reason
        # A variant that the limit cut is not undone by a later one that ended by itself.
        account.finish_reason = "length" if account.finish_reason == "length" else finish

    def _answer(
        self, prompt: Sequence[int], options: GenerationOptions, account: Account, guide: Guide | None = None
    ) -> Generator[str, None, TextResult]:
        """What a Writing reads. Raises InputError at once for a prompt too long."""
        return self._collect(self._write(prompt, options, account, guide), account)

    def _collect(self, pieces: Iterator[str], account: Account) -> Generator[str, None, TextResult]:
        parts = []
        for piece in pieces:
            parts.append(piece)
            yield piece
        return account.result(self.bundle.manifest.name, "".join(parts))

    @staticmethod
    def _seeded(options: GenerationOptions, account: Account) -> GenerationOptions:
        """Options with a seed: one that is drawn here is noted, so that the answer can be had again."""
        if options.greedy or options.seed is not None:
            return options
        seed = fresh_seed()
        account.notes.append(f"sampled with seed {seed}")
        return replace(options, seed=seed)
