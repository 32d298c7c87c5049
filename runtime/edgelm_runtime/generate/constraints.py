"""Words that may not be said and words that must be, held token by token while an answer is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import InputError
from .banned import BannedPhrases, unspaced
from .sampling import Row
from .vocabulary import Vocabulary

SLACK = 4  # tokens that a character may need to be whole before a phrase can begin


class Constraint(Protocol):
    """Rules one answer; it follows the answer's tokens and belongs to it alone."""

    def mask(self, row: Row, left: int) -> None:
        """Set what may not come next to -inf in `row` (float32 [vocab]); `left` tokens may still come."""

    def push(self, token: int) -> None:
        """Take the token that was chosen."""

    def branch(self) -> Constraint:
        """The same rule for another answer that begins like this one."""


@dataclass(frozen=True)
class Rules:
    """Several constraints as one, in order: a later one has the last word on what an earlier one leaves."""

    parts: Sequence[Constraint]

    def mask(self, row: Row, left: int) -> None:
        """Every part's mask."""
        for part in self.parts:
            part.mask(row, left)

    def push(self, token: int) -> None:
        """Every part takes the token."""
        for part in self.parts:
            part.push(token)

    def branch(self) -> Rules:
        """Every part's branch."""
        return Rules([part.branch() for part in self.parts])


class Banned:
    """The banned phrases while one answer is written."""

    def __init__(self, phrases: BannedPhrases, state: int = 0) -> None:
        self._phrases = phrases
        self._state = state

    def mask(self, row: Row, left: int) -> None:
        """Forbid what would complete a phrase."""
        row[self._phrases.forbidden(self._state)] = -np.inf

    def push(self, token: int) -> None:
        """Take the token that was chosen."""
        self._state = self._phrases.advance(self._state, token)

    def branch(self) -> Banned:
        """The rule for another answer that begins like this one."""
        return Banned(self._phrases, self._state)


class MustInclude:
    """Phrases that the answer may not end without, spaced as in `BannedPhrases`; letters count as their small forms.

    What is missing when the model would end, or when no more tokens are left than it takes, is written then.
    """

    def __init__(
        self, spellings: Mapping[str, Sequence[int]], vocabulary: Vocabulary, eos_ids: Sequence[int], room: int
    ) -> None:
        self._missing = {unspaced(phrase.strip().lower()): list(ids) for phrase, ids in spellings.items()}
        self._vocabulary = vocabulary
        self._eos_ids = list(eos_ids)
        self._text = b""
        self._forced: list[int] = []
        if (needed := self._needed()) > room:
            raise InputError(
                f"must_include needs {needed} tokens, and the answer may have {room}; "
                "raise max_new_tokens, or ask for fewer phrases"
            )

    @property
    def missing(self) -> list[str]:
        """Phrases that are not written yet."""
        return list(self._missing)

    def mask(self, row: Row, left: int) -> None:
        """Where a phrase must be written now, nothing but its next token; else not the end, while one is missing."""
        if not self._missing:
            return
        if not self._forced and self._is_time(row, left):
            self._forced = list(next(iter(self._missing.values())))
        if self._forced:
            value = row[self._forced[0]]
            row[:] = -np.inf
            row[self._forced[0]] = value
        else:
            row[self._eos_ids] = -np.inf

    def push(self, token: int) -> None:
        """Take the token that was chosen."""
        if not self._missing:
            return
        if self._forced:
            self._forced.pop(0)
        self._text += self._vocabulary.folded[token]
        written = unspaced(self._text.decode(errors="ignore"))
        found = [phrase for phrase in self._missing if phrase in written]
        for phrase in found:
            del self._missing[phrase]

    def branch(self) -> MustInclude:
        """The rule for another answer that begins like this one."""
        other = copy(self)
        other._missing, other._forced = dict(self._missing), list(self._forced)
        return other

    def _is_time(self, row: Row, left: int) -> bool:
        short = left <= self._needed()
        return self._is_whole() and (short or int(row.argmax()) in self._eos_ids)

    def _is_whole(self) -> bool:
        """Whether the answer does not end inside a character."""
        for back, byte in enumerate(reversed(self._text[-4:]), start=1):
            if byte < 0x80 or byte >= 0xC0:
                return back >= (1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4)
        return True

    def _needed(self) -> int:
        return sum(map(len, self._missing.values())) + SLACK if self._missing else 0
