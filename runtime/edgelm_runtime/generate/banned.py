"""Phrases that no answer may hold, however they are cut into tokens and spaced: an automaton over bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np

from .token_trie import Ids, Node
from .vocabulary import Vocabulary

# White space, and the format characters that show nothing.
_BLANKS = frozenset(
    chr(point).encode()
    for point in (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0xAD, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F,
                  0x2060, 0x3000, 0xFEFF)
)  # fmt: skip
_BLANK_BEGINNINGS = frozenset(blank[:end] for blank in _BLANKS for end in range(1, len(blank)))
_ANY_BLANKS = "(?:" + "|".join(sorted(re.escape(blank.decode()) for blank in _BLANKS)) + ")+"
_SPACED = re.compile(_ANY_BLANKS)
_BESIDE_WIDE = re.compile(rf"(?<=[^\x00-\x7f]){_ANY_BLANKS}|{_ANY_BLANKS}(?=[^\x00-\x7f])")
_START = 0
_COMPLETE = -1
_LOOKED_AT = 100_000  # characters of a text that `within` reads

# A beginning of a phrase that the text ends with: its node, and the bytes of a blank that is not whole yet.
_Place = tuple[int, bytes]


class BannedPhrases:
    """Shared by all answers. ASCII letters count as their small forms.

    Blanks between words are any blanks; beside a character outside ASCII they are none, so that no spacing hides 最好.
    The phrases are one tree. A state is a set of places in it that a text may stand at (the subset construction), made
    when it is met, 0 where nothing has begun. Time and memory are linear in the phrases and the vocabulary.
    """

    def __init__(self, phrases: Sequence[str], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.phrases = [phrase.lower() for phrase in phrases]
        self._children: list[dict[int, int]] = [{}]
        self._ends: set[int] = set()
        self._spaced: set[int] = set()  # nodes where blanks change nothing
        for phrase in self.phrases:
            for spelling in _spellings(phrase):
                self._add(spelling)
        self._places: list[tuple[_Place, ...]] = [()]
        self._states: dict[tuple[_Place, ...], int] = {(): _START}
        self._next: list[dict[int, int]] = [{}]
        self._lock = Lock()
        self._always = vocabulary.trie.refused(_START, self._feed, lambda _state, _node: True)
        self._forbidden: dict[int, Ids] = {}

    def within(self, text: str) -> list[str]:
        """The phrases that a text holds, of a very long one its beginning."""
        folded = unspaced(text[:_LOOKED_AT].lower())
        return [phrase for phrase in self.phrases if any(one in folded for one in _spellings(phrase))]

    def advance(self, state: int, token: int) -> int:
        """The state after a token."""
        for byte in self.vocabulary.texts[token]:
            following = self._feed(state, byte)
            state = _START if following is None else following
        return state

    def forbidden(self, state: int) -> Ids:
        """Tokens that would complete a phrase: int64 [n]."""
        if state not in self._forbidden:
            self._forbidden[state] = np.concatenate([self._always, self._refused_from(state)])
        return self._forbidden[state]

    def _refused_from(self, state: int) -> Ids:
        """The tokens that complete what has begun."""
        if state == _START:
            return np.empty(0, dtype=np.int64)

        def feed(both: tuple[int, int], byte: int) -> tuple[int, int] | None:
            begun, afresh = self._feed(both[0], byte), self._feed(both[1], byte)
            return None if begun is None or afresh is None else (begun, afresh)

        def goes_on(both: tuple[int, int], _node: Node) -> bool:
            return both[0] != both[1]  # else nothing is left of what had begun

        return self.vocabulary.trie.refused((state, _START), feed, goes_on)

    def _feed(self, state: int, byte: int) -> int | None:
        """The state after a byte; None where it completes a phrase."""
        byte += 0x20 if 0x41 <= byte <= 0x5A else 0
        following = self._next[state].get(byte)
        if following is None:
            with self._lock:
                following = self._next[state][byte] = self._following(self._places[state], byte)
        return None if following == _COMPLETE else following

    def _following(self, places: Iterable[_Place], byte: int) -> int:
        found: set[_Place] = set()
        for node, blank in (*places, (0, b"")):
            child = None if blank else self._children[node].get(byte)
            if child is not None:
                if child in self._ends:
                    return _COMPLETE
                found.add((child, b""))
            word = self._children[node].get(0x20)  # any blank is one between two words
            if node in self._spaced or word is not None:
                longer = blank + bytes([byte])
                if longer in _BLANK_BEGINNINGS:
                    found.add((node, longer))
                elif longer in _BLANKS:
                    found |= {(node, b"")} if node in self._spaced else set()
                    found |= {(word, b"")} if word is not None else set()
        key = tuple(sorted(found))
        if key not in self._states:
            self._states[key] = len(self._places)
            self._places.append(key)
            self._next.append({})
        return self._states[key]

    def _add(self, spelling: str) -> None:
        node = 0
        for place, character in enumerate(spelling):
            for byte in character.encode("utf-8", "replace"):
                if byte not in self._children[node]:
                    self._children[node][byte] = len(self._children)
                    self._children.append({})
                node = self._children[node][byte]
            if place + 1 < len(spelling) and (character == " " or not character.isascii()):
                self._spaced.add(node)
        if node:
            self._ends.add(node)


def unspaced(text: str) -> str:
    """`text` with one blank for several, and none beside characters outside ASCII."""
    return _SPACED.sub(" ", _BESIDE_WIDE.sub("", text))


def _spellings(phrase: str) -> tuple[str, ...]:
    """A phrase without the blanks that do not count; once more with those that may stand before a wide character."""
    plain = unspaced(phrase)
    return plain, re.sub(r"(?<=[\x21-\x7f])(?=[^\x00-\x7f])", " ", plain)
