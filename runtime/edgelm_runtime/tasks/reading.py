"""A text, or a pair of texts, as the rows of token ids that an encoder reads: one, or overlapping windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from ..errors import BundleRejected, InputError
from ..manifest import EmbeddingSpec, Manifest
from ..script import language_of
from ..timing import ended
from ..tokenizer import Encoded, checked
from .presplit import Words
from .rows import Row

MAX_WINDOWS = 64
# A text; a pair; either with names; and for token classification one that is split into words.
Text = str | tuple[str, str] | Sequence[str] | Mapping[str, str | Sequence[str]]

# No tokenizer in use has longer tokens on average; what lies beyond could not be read in MAX_WINDOWS anyway.
_CHARACTERS_PER_TOKEN = 8


@dataclass(frozen=True)
class Reading:
    """A text that is ready to be inferred.

    `text` is what the offsets of `parts` belong to, in a pair that which windows are laid over; `spans` are the tokens
    of `parts` in each of the `rows`.
    """

    text: str
    parts: Encoded
    spans: list[tuple[int, int]]
    rows: list[Row]
    language: str
    notes: tuple[str, ...]
    tokenize_ms: float

    @property
    def tokens(self) -> int:
        """What the model reads of it, special tokens and overlaps included."""
        return sum(len(row.ids) for row in self.rows)


class Tokenizes(Protocol):
    """What cuts texts into tokens: a `TextTokenizer`."""

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text, with what stands around it where `special`."""

    def encode_parts(self, text: str, before: str | None = None, after: str | None = None) -> Encoded:
        """Content tokens of a text, and what stands around them."""

    def encode_words(self, words: Sequence[str], starts: Sequence[int]) -> Encoded:
        """The same of a text that is split already."""


class Reader:
    """Reads texts as a manifest says, with its tokenizer, or with another that is to be held against it.

    Raises BundleRejected where the context has no room beside the special tokens.
    """

    def __init__(self, manifest: Manifest, tokenizer: Tokenizes) -> None:
        self.tokenizer = tokenizer
        self.languages = manifest.languages
        self.pairs = manifest.pairs
        self.embedding = manifest.embedding or EmbeddingSpec()
        self._splits = manifest.task == "token-classification"
        self._context = manifest.tokenizer.max_tokens
        self._room = self._content_room()

    def read(self, given: Text, prompt_name: str | None = None) -> Reading:
        """Check and tokenize one input, and lay its windows.

        The prompt of an embedding stands whole in every window, and so does one text of a pair: the first where it
        leaves room for the second, else the second; the shorter of two long ones is cut to half of the context. Raises
        InputError for an empty, blank or too long text, a pair where one text is read, one text where a pair is, a
        prompt that leaves too little room, and a prompt that is not there.
        """
        start = perf_counter()
        prompt = self.prompt(prompt_name)
        words = Words.of(given) if self._splits else None
        before, text = self._texts(given) if words is None else (None, words.text)
        first, notes = (None, ()) if before is None else checked(before)
        cleaned, changed = checked(text)
        notes = (*notes, *(note for note in changed if note not in notes))
        # The longest text whose tokens could all be read, so that a megabyte costs no more than it can be used for.
        cut = self._cut(cleaned)
        if first is not None:
            cleaned, cut, parts, more = self._pair(first, cleaned)
            notes += more
        elif words is None:
            parts = self.tokenizer.encode_parts(prompt + cut).after(len(prompt))
        else:
            words = words.until(len(cut))
            parts = self.tokenizer.encode_words(words.words, words.starts)
        if not parts.ids:
            raise InputError("the text has no character that the model's tokenizer reads; give visible characters")
        most = 1 if self.embedding.truncation else MAX_WINDOWS
        spans = window_spans(len(parts.ids), self._room_beside(parts, prompt), most)
        read = parts.ends[spans[-1][1] - 1] if spans[-1][1] < len(parts.ids) else len(cut)
        notes += self._window_notes(len(spans), read, len(cleaned))
        language = language_of(cut)
        if language not in self.languages:
            spoken = ", ".join(self.languages)
            notes += (f"the text looks like {language}, the bundle was trained for {spoken}",)
        rows = [Row(*parts.window(*span)) for span in spans]
        return Reading(cut, parts, spans, rows, language, notes, ended("tokenize", start))

    def prompt(self, name: str | None = None) -> str:
        """What is put before a text: the prompt of that name, or the default. Raises InputError for another."""
        prompts, name = self.embedding.prompts, self.embedding.default_prompt_name if name is None else name
        if name is not None and name not in prompts:
            known = ", ".join(prompts) or "none"
            raise InputError(f"the bundle has no prompt {name!r}; it has {known}. Put other words into the text itself")
        return "" if name is None else prompts[name]

    def _texts(self, given: Any) -> tuple[Any, Any]:
        """The first text of a pair, or None, and the text that is cut into windows."""
        if isinstance(given, Mapping):
            if set(given) - {"text", "text_pair"} or "text" not in given:
                raise InputError(f"the fields are {sorted(map(str, given))}; accepted are text and text_pair")
            given = (given["text"], given["text_pair"]) if "text_pair" in given else given["text"]
        if isinstance(given, tuple | list):
            if len(given) != 2:
                raise InputError(f"{len(given)} texts were given for one answer; a pair is (text, text_pair)")
            if not self.pairs:
                raise InputError("a pair of texts was given, the bundle reads one text; export with --pairs for pairs")
            return given[0], given[1]
        if self.pairs:
            raise InputError("one text was given, the bundle reads pairs: (text, text_pair), or --pair TEXT")
        return None, given

    def _pair(self, first: str, second: str) -> tuple[str, str, Encoded, tuple[str, ...]]:
        """The text of a pair that windows are laid over, whole and cut; its tokens beside the other; what was left out.

        It is the second where the first leaves it a quarter of the room, else the first.
        """
        before, text = self._cut(first), self._cut(second)
        notes = self._left_out("first", len(before), len(first)) if len(before) < len(first) else ()
        later = self.tokenizer.encode_parts(text, before)
        if self._fits(later):
            return second, text, later, notes
        earlier = self.tokenizer.encode_parts(before, after=text)
        if self._fits(earlier):
            return first, before, earlier, ()
        special = len(later.prefix) + len(later.suffix) - len(earlier.ids)
        half = max(1, (self._context - special) // 2)
        if len(earlier.ids) > len(later.ids):
            shown = text[: later.ends[half - 1]]
            parts = self.tokenizer.encode_parts(before, after=shown)
            return first, before, parts, self._left_out("second", len(shown), len(second))
        shown = before[: earlier.ends[half - 1]]
        return second, text, self.tokenizer.encode_parts(text, shown), self._left_out("first", len(shown), len(first))

    def _fits(self, parts: Encoded) -> bool:
        """Whether enough of the context is left for a window beside what stands in all of them."""
        return self._context - len(parts.prefix) - len(parts.suffix) >= min(len(parts.ids), max(1, self._room // 4))

    def _cut(self, text: str) -> str:
        return text[: MAX_WINDOWS * self._room * _CHARACTERS_PER_TOKEN]

    @staticmethod
    def _left_out(which: str, read: int, length: int) -> tuple[str, ...]:
        return (f"only the first {read:,} of {length:,} characters of the {which} text were read",)

    def _room_beside(self, parts: Encoded, prompt: str) -> int:
        """Tokens of the context that are left for a window of the text."""
        room = self._context - len(parts.prefix) - len(parts.suffix)
        if room < 1:
            filled, remedy = (
                (f"the prompt {prompt[:40]!r}", "name another prompt")
                if prompt
                else ("one text of the pair", "export it with a larger context")
            )
            raise InputError(
                f"{filled} fills the context of {self._context} tokens and leaves no room for the text; {remedy}"
            )
        return room

    def _content_room(self) -> int:
        """Tokens of the context that are left beside the special ones."""
        special = len(self.tokenizer.encode(""))
        room = self._context - special
        if room < 1:
            raise BundleRejected(
                f"tokenizer.max_tokens is {self._context} and the tokenizer adds {special} special "
                "tokens: no room for text; export the bundle again",
                what="tokenizer.max_tokens",
                expected=f"more than {special}",
                found=str(self._context),
            )
        return room

    def _window_notes(self, windows: int, read: int, length: int) -> tuple[str, ...]:
        notes: tuple[str, ...] = ()
        if windows > 1:
            notes += (
                f"longer than the model's context of {self._context} tokens: {windows} overlapping windows were read",
            )
        if read < length:
            notes += (f"only the first {read:,} of {length:,} characters were read",)
        return notes


def window_spans(length: int, room: int, limit: int) -> list[tuple[int, int]]:
    """Spans (first, last + 1) of `room` tokens that cover `length` tokens, neighbours a quarter over each other.

    All spans are full and evenly spread. At most `limit` spans: a longer text is covered from its start.
    """
    if length <= room:
        return [(0, length)]
    stride = room - room // 4
    last = min(length - room, (limit - 1) * stride)
    steps = max(1, -(-last // stride))
    firsts = [step * last // steps for step in range(steps + 1)] if last else [0]
    return [(first, first + room) for first in firsts]
