"""Summary: a text of any length to a short one, through tokenize -> infer -> decode.

A text over the context is cut at sentence ends into windows; each is summarised, and then their joined summaries are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from ..generate.control import Control
from ..generate.guides import Quoting
from ..generate.options import GenerationOptions
from ..generate.stop import SENTENCE_END
from ..results import TextResult
from ..script import language_of
from ..tokenizer import TextTokenizer, checked
from .generation import MIN_ROOM, Generation
from .writing import Account, Job, Writing

MAX_WINDOWS = 64
MAX_PASSES = 3
# Longer tokens are rare; where they are not, a window is shorter than it could be and nothing else.
_CHARACTERS_PER_TOKEN = 8
_CLOSED = re.compile(r"""[。！？…!?.][”’」』）"')]*\Z""")
_BLANK = re.compile(r"\s+")


@dataclass(frozen=True)
class SummaryJob(Job):
    """A job with the windows of its text; the prompt is that of the first."""

    windows: tuple[str, ...] = ()


class Summary(Generation):
    """Writes summaries."""

    task = "summary"

    def __call__(self, value: str, **options: Any) -> TextResult:
        """Summarise a text of up to `tokenizer.MAX_CHARACTERS`; a long one in windows, which the result says.

        `options` are those of GenerationOptions. Raises InputError for empty, blank or too long text, and for options
        that are not accepted.
        """
        return self.stream(value, **options).finish()

    def stream(self, text: str, **options: Any) -> Writing:
        """The pieces of the summary as they are made; for a long text, of the last pass. Raises InputError at once."""
        job = self._job(text, self.options(**options))
        if len(job.windows) == 1:
            return Writing(self._answer(job), job.account.control)
        return Writing(self._in_windows(job), job.account.control)

    def _job(self, value: Any, options: GenerationOptions) -> SummaryJob:
        control = Control(options.deadline_ms)
        cleaned, notes = checked(value)
        account = Account(language_of(cleaned), list(notes), control)
        with account.watch("tokenize"):
            windows, read = self._cut(cleaned, self._room(options), control)
            prompt = self._prompt(windows[0])
        if read < len(cleaned):
            account.notes.append(f"only the first {read:,} of {len(cleaned):,} characters were read")
        chosen = self._seeded(options, account)
        account.windows = len(windows)
        if len(windows) > 1:
            account.notes.append(
                f"the text is longer than the context of {self.context} tokens: it was summarised in {len(windows)} "
                "windows, and then their summaries were"
            )
        constraint = self._rules(cleaned[:read], chosen, account)
        return SummaryJob(account, prompt, chosen, self.guide(windows[0], chosen), constraint, tuple(windows))

    def tokenize(self, text: str) -> list[int]:
        """First stage: the prompt's token ids, template included; not cut to the context."""
        return self._prompt(checked(text)[0])

    def guide(self, text: str, options: GenerationOptions) -> Quoting | None:
        """What makes a summary use the words of its text; None where the options want no bonus."""
        if not options.quote_bonus:
            return None
        return Quoting(self.tokenizer.encode(text, special=False), options.quote_bonus)

    def _room(self, options: GenerationOptions) -> int:
        """Tokens that a text may have: the context less the template, and less an answer that stands in it, too.

        Raises InputError for a `max_length` that leaves it less than MIN_ROOM.
        """
        context = self.context if self._encodes else min(self.context, options.max_length or self.context)
        room = context - self.template_tokens - self.reserved(options.max_new_tokens, context)
        if room < MIN_ROOM:
            raise InputError(
                f"max_length {options.max_length} counts prompt and answer, and leaves {room} tokens for a text; "
                f"accepted are {MIN_ROOM} or more: raise it, or give max_new_tokens, which stands for it"
            )
        return room

    def _cut(self, text: str, room: int, control: Control) -> tuple[list[str], int]:
        """`cut_windows`, while there is time. Words of the template and of the text may share tokens: both count."""

        def count(part: str) -> int:
            control.in_time()
            return len(self._prompt(part)) - self.template_tokens

        return cut_windows(text, self.tokenizer, room, count)

    def _in_windows(self, job: SummaryJob) -> Generator[str, None, TextResult]:
        """Summarise the windows until their joined summaries are one window, then write the summary of that."""
        account, options, windows = job.account, job.options, list(job.windows)
        room = self._room(options)
        # A part takes at most a quarter of a window, so that every pass leaves a quarter of the text.
        brief = replace(options, max_new_tokens=min(options.max_new_tokens, room // 4), must_include=())
        for _ in range(MAX_PASSES):
            parts = self._write_together([self._part(window, brief, account) for window in windows])
            joined = join_sentences(parts, account.language)
            if account.finish_reason == "deadline":
                account.notes.append("the deadline came before the windows' summaries were summarised")
                yield joined
                return self._result(account, joined)
            # A model that has nothing to say about any window leaves the text's beginning to be summarised.
            windows = self._cut(joined, room, account.control)[0] if joined else windows[:1]
            if len(windows) == 1:
                break
        if len(windows) > 1:
            account.notes.append("the summaries of the windows were too long together: only the first were used")
        account.finish_reason, account.time_to_first_token = "", None
        return (yield from self._answer(self._part(windows[0], options, account)))

    def _part(self, window: str, options: GenerationOptions, account: Account) -> Job:
        account.control.in_time()
        constraint = self._rules(window, options, account)
        return Job(account, self._prompt(window), options, self.guide(window, options), constraint)


def cut_windows(
    text: str, tokenizer: TextTokenizer, room: int, count: Callable[[str], int] | None = None
) -> tuple[list[str], int]:
    """Cut a text that is not blank into parts of at most `room` tokens, at sentence ends where there are any.

    `count` says how many tokens a part has; those of the part alone where it is left out.
    Returns at most MAX_WINDOWS parts, none blank, and how many characters of the text they are. A text that fits is
    returned unchanged.
    """
    windows: list[str] = []
    start = 0
    while start < len(text) and len(windows) < MAX_WINDOWS:
        end = _window_end(text, start, tokenizer, room, count or (lambda part: len(tokenizer.encode(part, False))))
        windows.append(text[start:end])
        blank = _BLANK.match(text, end)
        start = blank.end() if blank else end
    return windows, start


def _window_end(text: str, start: int, tokenizer: TextTokenizer, room: int, count: Callable[[str], int]) -> int:
    """Where a window from `start` ends: at most `room` tokens on, after the last sentence end in its second half."""
    piece = text[start : start + room * _CHARACTERS_PER_TOKEN]
    if start + len(piece) == len(text) and count(piece) <= room:
        return len(text)
    encoded = tokenizer.encode_parts(piece)
    limit = len(piece) if len(encoded.ids) <= room else max(1, encoded.ends[room - 1])
    ends = [match.end() for match in SENTENCE_END.finditer(piece, limit // 2, limit)]
    end = ends[-1] if ends else piece.rfind(" ", limit // 2, limit) + 1 or limit
    # Cut off from what follows, the last word may take more tokens than before.
    while end > 1 and count(piece[:end]) > room:
        end -= max(1, end // 16)
    return start + end


def join_sentences(parts: Iterable[str], language: str) -> str:
    """Join texts into one, each closed by a full stop of the language ("zh" or "en") unless it has an end."""
    stop, space = ("。", "") if language == "zh" else (".", " ")
    stripped = (part.strip() for part in parts)
    return space.join(part if _CLOSED.search(part) else part + stop for part in stripped if part)
