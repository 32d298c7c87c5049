"""Facts that may not be invented: numbers, their units, prices and names in Latin letters come from the source alone.

The rule runs over the bytes of the answer, so that no way of cutting a number into tokens gets around it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .sampling import Row
from .vocabulary import Ids, Vocabulary

Mask = npt.NDArray[np.bool_]

# A run of letters and digits, with a point or comma between digits only: "ps5", "15.6", "1,299".
_RUN = re.compile(r"[a-z0-9]+(?:(?<=[0-9])[.,][0-9]+[a-z0-9]*)*")
_ASCII_RUN = re.compile(rb"[a-z0-9]+")
_WITH_UNIT = re.compile(r"([0-9]+(?:[.,][0-9]+)*)[ \-]?([a-z]+|[^\x00-\x7f]{1,2})?")
_CURRENCIES = "¥￥$€£"
_UNITS_ZH = frozenset("元角块万亿折斤克吨米升寸尺码度瓦伏安年月天岁件个只双支瓶包片盒层位档倍级英毫厘千公平立分秒％℃°")
_UNITS_EN = frozenset(
    re.split(
        r"\s+",
        "inch inches in ft feet cm mm m km kg g mg lb lbs oz ml l litre litres liter liters gb tb mb hz khz mhz ghz w "
        "kw v mah mp hour hours minute minutes second seconds day days week weeks month months year years "
        "dollar dollars usd euro euros eur pound pounds gbp rmb cny yuan percent star stars pack packs piece pieces "
        "pixel pixels",
    )
)
# Units that are no words, nor beginnings of many: they are refused before a word can be made of them.
_PLAIN_UNITS = frozenset(unit for unit in _UNITS_EN if len(unit) > 1) - {
    "in",
    "second",
    "star",
    "pack",
    "pound",
    "mb",
    "mg",
}
_UNIT_BEGINNINGS = frozenset(unit[:end].encode() for unit in _UNITS_EN for end in range(1, len(unit) + 1))
_OTHER_WORD = b"\0"  # stands for a word that may be written and that no fact begins with
_CONTINUES = range(0x80, 0xC0)  # bytes inside a UTF-8 character


class _State(NamedTuple):
    """Where the end of the answer stands."""

    run: bytes = b""  # the open run of letters and digits
    named: bool = False  # the run is one that must be in the source
    number: bytes = b""  # a whole number that a unit may follow
    partial: bytes = b""  # of a character that is not whole yet
    start: bool = True  # of a sentence, where a capital says nothing


_INSIDE = _State(start=False)


class SourceFacts:
    """The facts of one source, and which tokens would add others; shared by all answers to it.

    `language` is that of the answer: a Chinese one takes every word in Latin letters from the source; an English one
    those with a digit, and those with a capital inside a sentence.
    """

    def __init__(self, source: str, language: str, vocabulary: Vocabulary, eos_ids: Sequence[int]) -> None:
        folded = source.lower()
        self._vocabulary = vocabulary
        self._eos_ids = list(eos_ids)
        self._chinese = language == "zh"
        runs = set(_RUN.findall(folded))
        units: dict[str, set[str]] = {}
        for number, unit in _WITH_UNIT.findall(folded):
            runs.add(number)
            if unit:
                units.setdefault(number, set()).add(unit)
                runs |= {unit, number + unit} if unit.isascii() else set()
        self._runs = {run.encode() for run in runs}
        self._beginnings = {run[:end] for run in self._runs for end in range(1, len(run) + 1)}
        self._units = {number.encode(): found for number, found in units.items()}
        self._currencies = {sign for sign in _CURRENCIES if sign in source}
        self._plain = vocabulary.cached("plain tokens", self._find_plain)
        self._base, self._candidates = self._sorted_out(folded.encode())
        self._forbidden: dict[_State, Ids] = {}

    def begin(self) -> Locked:
        """The rule for one answer."""
        return Locked(self)

    def advance(self, state: _State, token: int) -> _State | None:
        """The state after a token; None when it adds a fact."""
        if token in self._plain and not (state.run or state.number or state.partial):
            return _INSIDE
        return self._advance(state, token)

    def _advance(self, state: _State, token: int) -> _State | None:
        for byte in self._vocabulary.texts[token]:
            following = self._feed(state, byte)
            if following is None:
                return None
            state = following
        return state

    def forbidden(self, state: _State) -> Ids:
        """Tokens that would add a fact, or leave one half said: int64 [n]."""
        if state not in self._forbidden:
            self._forbidden[state] = np.flatnonzero(self._find_forbidden(state))
        return self._forbidden[state]

    def _sorted_out(self, source: bytes) -> tuple[Mask, list[int]]:
        """Sensitive tokens that no state allows, and those that some may."""
        base = np.zeros(len(self._vocabulary.texts), dtype=np.bool_)
        candidates = []
        for token, runs in self._vocabulary.cached(("facts", self._chinese), self._find_sensitive):
            if all(run in source for run in runs):
                candidates.append(token)
            else:
                base[token] = True
        return base, candidates

    def _find_sensitive(self) -> list[tuple[int, list[bytes]]]:
        """Tokens that may add a fact where none is open: with digits, signs of currencies, and names."""
        letters = rb"a-zA-Z" if self._chinese else rb"A-Z"
        signs = b"|".join(re.escape(sign.encode()) for sign in _CURRENCIES)
        pattern = re.compile(rb"[0-9" + letters + rb"]|" + signs)
        return [
            (token, _ASCII_RUN.findall(folded))
            for token, (text, folded) in enumerate(zip(self._vocabulary.texts, self._vocabulary.folded, strict=True))
            if pattern.search(text)
        ]

    def _find_plain(self) -> frozenset[int]:
        """Tokens that are whole letters outside ASCII, which say nothing where no number stands before them."""
        texts = [text.decode(errors="replace") for text in self._vocabulary.texts]
        return frozenset(
            token
            for token, text in enumerate(texts)
            if text.isalpha() and all(character > "\x7f" and character != "\ufffd" for character in text)
        )

    def _find_forbidden(self, state: _State) -> Mask:
        mask, first = self._base.copy(), self._vocabulary.by_first_byte
        checked = [np.array(self._candidates, dtype=np.int64)]
        closed = self._closed(state)
        if state.partial:
            checked += [first[byte] for byte in _CONTINUES]
        elif state.run:
            for byte in range(256):
                point = chr(byte) in ".," and state.run[-1:].isdigit()
                goes_on = point or (byte < 0x80 and chr(byte).isalnum())
                wrong = state.named and self._feed(state, byte) is None if goes_on else closed is None
                if wrong:
                    mask[first[byte]] = True
                elif goes_on and (state.named or state.run + bytes([byte]) in _UNIT_BEGINNINGS):
                    checked.append(first[byte])
        if closed is not None and closed.number:
            checked += [self._vocabulary.beginning_with(unit.encode()) for unit in _UNITS_ZH]
        unsure = np.zeros_like(mask)
        unsure[np.concatenate(checked)] = True
        for token in np.flatnonzero(unsure & ~mask).tolist():
            mask[token] = self.advance(state, token) is None
        mask[self._eos_ids] = closed is None
        return mask

    def _feed(self, state: _State, byte: int) -> _State | None:
        if state.partial or byte >= 0x80:
            return self._in_character(state, byte)
        character = chr(byte)
        if character.isalnum():
            return self._in_run(state, character)
        if state.run[-1:].isdigit() and character in ".,":
            longer = state.run + bytes([byte])
            return state._replace(run=longer) if state.run in self._runs or longer in self._beginnings else None
        closed = self._closed(state)
        return None if closed is None else self._after(closed, character)

    def _in_run(self, state: _State, character: str) -> _State | None:
        run = state.run + character.lower().encode()
        capital = character.isupper() and (bool(state.run) or not state.start)
        named = state.named or self._chinese or capital or character.isdigit()
        if named:
            return _State(run, True, state.number, start=False) if run in self._beginnings else None
        if state.number and run in _UNIT_BEGINNINGS:
            if run.decode() in _PLAIN_UNITS and not self._known_unit(state.number, run):
                return None
            return _State(run, number=state.number, start=False)
        return _State(run if run in self._beginnings else _OTHER_WORD, start=False)

    def _known_unit(self, number: bytes, run: bytes) -> bool:
        """Whether the source has a unit after the number that begins with `run`."""
        return any(unit.encode().startswith(run) for unit in self._units.get(number, ()))

    def _in_character(self, state: _State, byte: int) -> _State | None:
        if state.partial and byte not in _CONTINUES:  # what came before was no character
            return self._feed(state._replace(partial=b""), byte)
        closed = self._closed(state)
        if closed is None:
            return None
        partial = closed.partial + bytes([byte])
        try:
            return self._after(closed, partial.decode())
        except UnicodeDecodeError:
            return closed._replace(partial=partial) if len(partial) < 4 else _State(start=False)

    def _after(self, closed: _State, character: str) -> _State | None:
        """The state after a character that is in no run."""
        if character in _CURRENCIES and character not in self._currencies:
            return None
        if closed.number and character in _UNITS_ZH:
            known = self._units.get(closed.number, set())
            return _State(start=False) if any(unit.startswith(character) for unit in known) else None
        begins = character in ".!?。！？\n" or (closed.start and not character.isalnum())
        return _State(number=closed.number if character in " -" else b"", start=begins)

    def _closed(self, state: _State) -> _State | None:
        """The state once its run is over; None when the run is no whole one of the source, or an invented unit."""
        if not state.run:
            return state
        run = state.run.rstrip(b".,")
        if state.named and run not in self._runs:
            return None
        if state.number and run.decode() in _UNITS_EN and run.decode() not in self._units.get(state.number, set()):
            return None
        plain = run.replace(b".", b"").replace(b",", b"")
        stopped = state.run.endswith(b".")
        return _State(number=run if plain.isdigit() and run == state.run else b"", start=stopped)


class Locked:
    """The facts of the source while one answer is written."""

    def __init__(self, facts: SourceFacts, state: _State | None = None) -> None:
        self._facts = facts
        self._state = state or _State()

    def mask(self, row: Row, left: int) -> None:
        """Forbid what would add a fact."""
        row[self._facts.forbidden(self._state)] = -np.inf

    def push(self, token: int) -> None:
        """Take the token that was chosen."""
        self._state = self._facts.advance(self._state, token) or _State(start=False)

    def branch(self) -> Locked:
        """The rule for another answer that begins like this one."""
        return Locked(self._facts, self._state)
