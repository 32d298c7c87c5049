"""A text that is split into words or characters before it comes here, as data sets for entities have it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ..errors import InputError
from ..tokenizer import clean

_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Words:
    """The words, or characters, and what stands between them in the text."""

    words: tuple[str, ...]
    delimiter: str

    @classmethod
    def of(cls, given: Any) -> Words | None:
        """What a list of words, or an object with `tokens` and perhaps `delimiter`, gives; None for anything else.

        Without a delimiter it is a blank, as in transformers' pipeline, and nothing between single characters of which
        one is Chinese or Japanese. Raises InputError for words or a delimiter that are no texts.
        """
        words, delimiter = given, None
        if isinstance(given, Mapping) and "tokens" in given:
            words, delimiter = given["tokens"], given.get("delimiter")
            if set(given) - {"tokens", "delimiter"}:
                raise InputError(f"the fields are {sorted(map(str, given))}; accepted are tokens and delimiter")
            if not isinstance(words, list | tuple):
                raise InputError(f"tokens is {type(words).__name__}, a list of words is needed")
        elif not isinstance(given, list | tuple):
            return None
        for place, word in enumerate(words, start=1):
            if not isinstance(word, str):
                raise InputError(f"word {place} is {type(word).__name__}, a str is needed")
        if not isinstance(delimiter, str | None):
            raise InputError(f"delimiter is {type(delimiter).__name__}, a str is needed")
        if delimiter is None:
            characters = max(map(len, words), default=0) == 1 and any(map(_CJK.match, words))
            delimiter = "" if characters else " "
        return cls(tuple(words), delimiter)

    @property
    def text(self) -> str:
        """The whole text."""
        return self.delimiter.join(self.words)

    @property
    def starts(self) -> list[int]:
        """Where each word begins in the text, in characters."""
        lengths = (len(word) + len(self.delimiter) for word in self.words)
        return list(accumulate(lengths, initial=0))[:-1]

    def until(self, length: int) -> Words:
        """The first `length` characters, as they can be encoded."""
        placed = zip(self.starts, self.words, strict=True)
        return Words(tuple(clean(word[: length - start]) for start, word in placed if start < length), self.delimiter)
