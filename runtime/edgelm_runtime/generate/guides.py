"""What holds an answer to its source: logits of tokens that name what was given, or quote it, are raised.

Contextual biasing, as speech recognition does it for names (Zhao et al., 2019): a small model knows how to say a thing
better than what there is to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]
Spelling = Sequence[int]


class Guide(Protocol):
    """Steers one answer; it follows the answer's tokens and belongs to it alone."""

    def favour(self, logits: Row) -> Row:
        """A new row, float32 [vocab], for the next token; a token that is banned stays banned."""

    def push(self, token: int) -> None:
        """Take the token that was chosen."""


class Quoting:
    """Raises the tokens of a text by `bonus`, and once more those that follow there on the answer's last token."""

    def __init__(self, text: Sequence[int], bonus: float) -> None:
        # Not np.unique: its first call imports numpy.ma, which takes longer than the answer.
        self._tokens = np.array(sorted(set(text)), dtype=np.int64)
        self._bonus = np.float32(bonus)
        self._after: dict[int, set[int]] = {}
        for token, following in pairwise(text):
            self._after.setdefault(token, set()).add(following)
        self._last: int | None = None

    def favour(self, logits: Row) -> Row:
        """A new row (float32 [vocab]) with the bonuses."""
        favoured = logits.copy()
        favoured[self._tokens] += self._bonus
        if self._last is not None:
            favoured[list(self._after.get(self._last, ()))] += self._bonus
        return favoured

    def push(self, token: int) -> None:
        """Take the token that was chosen."""
        self._last = token


class Coverage:
    """The phrases that one answer has not named yet.

    `phrases` has for each phrase its spellings, token ids, none empty: any of them names it; the first is how it stands
    inside a text, the last how it begins one. `bonus` is added to the logit of a token that begins it, twice that to
    one that goes on with it, and as much is taken off each of `eos_ids` while a phrase is left. One automaton a
    spelling (Knuth, Morris and Pratt, 1977) makes a token cost the same, however long the answer is.
    """

    def __init__(self, phrases: Sequence[Sequence[Spelling]], bonus: float, eos_ids: Sequence[int]) -> None:
        self._left = [[_Automaton(spelling) for spelling in spellings] for spellings in phrases]
        self._bonus = np.float32(bonus)
        self._eos_ids = list(eos_ids)
        self._inside = False

    @property
    def left(self) -> int:
        """How many phrases are not named yet."""
        return len(self._left)

    def favour(self, logits: Row) -> Row:
        """A new row (float32 [vocab]) with the bonuses; the same row when nothing is left."""
        if not self._left:
            return logits
        favoured = logits.copy()
        begin = {spellings[0 if self._inside else -1].first for spellings in self._left}
        go_on = {automaton.next for automaton in chain.from_iterable(self._left) if automaton.matched}
        favoured[list(begin - go_on)] += self._bonus
        favoured[list(go_on)] += 2 * self._bonus
        favoured[self._eos_ids] -= self._bonus
        return favoured

    def push(self, token: int) -> None:
        """Take the token that was chosen."""
        self._inside = True
        named = [any(automaton.push(token) for automaton in spellings) for spellings in self._left]
        self._left = [spellings for spellings, found in zip(self._left, named, strict=True) if not found]


class _Automaton:
    """How far the end of the answer has come in one spelling."""

    def __init__(self, spelling: Spelling) -> None:
        self._spelling = list(spelling)
        self._border = _borders(self._spelling)
        self.matched = 0

    @property
    def first(self) -> int:
        return self._spelling[0]

    @property
    def next(self) -> int:
        return self._spelling[self.matched]

    def push(self, token: int) -> bool:
        """Whether the spelling is complete with this token."""
        while self.matched and self._spelling[self.matched] != token:
            self.matched = self._border[self.matched - 1]
        self.matched += self._spelling[self.matched] == token
        return self.matched == len(self._spelling)


def _borders(spelling: Sequence[int]) -> list[int]:
    """For every prefix, the length of its longest proper prefix that is also its end."""
    borders = [0] * len(spelling)
    for index in range(1, len(spelling)):
        length = borders[index - 1]
        while length and spelling[length] != spelling[index]:
            length = borders[length - 1]
        borders[index] = length + (spelling[length] == spelling[index])
    return borders
