"""Facts that may not be invented: numbers, their units, prices and names in Latin letters come from the source alone.

The rule runs over the bytes of the answer, so that no way of cutting a number into tokens gets around it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .sampling import Row
from .token_trie import Ids, Node
from .units import (
    CURRENCIES,
    NUMBER_WITH_UNIT,
    PLAIN_UNITS_EN,
    PRICE,
    UNIT_BEGINNINGS_EN,
    UNIT_BEGINNINGS_ZH,
    UNITS_EN,
    UNITS_ZH,
    forms,
)
from .vocabulary import Vocabulary

MAX_UNITS = 64  # different ones of one number
MAX_FACT = 64  # letters and digits of a name or number; nobody quotes a longer one

# A run of letters and digits, with a point or comma between digits only: "ps5", "15.6", "1,299".
_RUN = re.compile(r"[a-z0-9]+(?:(?<=[0-9])[.,][0-9]+[a-z0-9]*)*")
_OTHER_WORD = b"\0"  # stands for a word that may be written and that no fact begins with
_CONTINUES = range(0x80, 0xC0)  # bytes inside a UTF-8 character
_NUMERAL = ("Nd", "Nl", "No")  # categories of characters that are numbers
_CJK_NUMERALS = frozenset("〇〡〢〣〤〥〦〧〨〩")  # used like 一二三, which are letters
_FOLDED_NUMBER = re.compile(r"[0-9A-Za-z]")
_FOLDED = re.compile(r"[0-9A-Za-z%$¥£]")
_UNIT_CHARACTERS = frozenset("".join(UNITS_ZH))
_UNIT_BEGINNINGS_EN = frozenset(unit.encode() for unit in UNIT_BEGINNINGS_EN)
_PARTS_NUMBERS = ".,:;!?\n。，：；！？、"  # no unit belongs to a number before them


class _State(NamedTuple):
    """Where the end of the answer stands."""

    run: bytes = b""  # the open run of letters and digits
    named: bool = False  # the run is one that must be in the source
    number: bytes = b""  # a whole number that a unit may follow
    unit: str = ""  # what stands after it and begins a Chinese unit
    sign: str = ""  # of a currency, whose number follows
    partial: bytes = b""  # of a character that is not whole yet
    start: bool = True  # of a sentence, where a capital says nothing


_INSIDE = _State(start=False)


class SourceFacts:
    """The facts of one source, and which tokens would add others; shared by all answers to it.

    `language` is that of the answer: a Chinese one takes every word in Latin letters from the source; an English one
    those with a digit, and those with a capital inside a sentence. Time and memory are linear in the source.
    """

    def __init__(self, source: str, language: str, vocabulary: Vocabulary, eos_ids: Sequence[int]) -> None:
        folded = "".join(map(_fold, source)).lower()
        self._vocabulary = vocabulary
        self._trie = vocabulary.trie
        self._eos_ids = list(eos_ids)
        self._chinese = language == "zh"
        runs = {run for run in _RUN.findall(folded) if len(run) <= MAX_FACT}
        units: dict[str, set[str]] = {}
        for number, unit in NUMBER_WITH_UNIT.findall(folded):
            if len(number) + len(unit) > MAX_FACT:
                continue
            runs.add(number)
            if unit and len(units.setdefault(number, set())) < MAX_UNITS:
                units[number] |= forms(unit)
                runs |= {one for form in forms(unit) for one in (form, number + form) if one.isascii()}
        prices = {(sign or after, number or before) for sign, number, before, after in PRICE.findall(folded)}
        self._runs = {run.encode() for run in runs}
        self._sorted_runs = sorted(self._runs)
        self._units = {number.encode(): found for number, found in units.items()}
        self._unit_words = UNITS_EN.union(*units.values()) if self._chinese else UNITS_EN
        self._prices = {(sign, number.encode()) for sign, number in prices if len(number) <= MAX_FACT}
        self._sorted_prices = sorted(sign.encode() + number for sign, number in self._prices)
        self._currencies = {sign for sign in CURRENCIES if sign in folded}
        self._other_forms = {one for one in set(source) if _fold(one) != one}
        # Beginnings of the source's full-width letters and digits, which go on with a run.
        wide = [one.encode() for one in self._other_forms if len(_fold(one)) == 1 and _fold(one).isalnum()]
        self._wide = {one[:end] for one in wide for end in range(1, len(one) + 1)}
        self._numerals = {one for one in set(folded) if not one.isascii() and unicodedata.category(one) in _NUMERAL}
        self._plain = vocabulary.cached("plain tokens", self._find_plain)
        self._sensitive = vocabulary.cached(("facts", self._chinese), self._find_sensitive)
        self._forbidden: dict[_State, Ids] = {}
        self._below: dict[tuple[_State, Node], Ids] = {}

    def begin(self) -> Locked:
        """The rule for one answer."""
        return Locked(self)

    def advance(self, state: _State, token: int) -> _State | None:
        """The state after a token; None when it adds a fact."""
        if token in self._plain and state == _INSIDE:
            return state
        for byte in self._vocabulary.texts[token]:
            following = self._feed(state, byte)
            if following is None:
                return None
            state = following
        return state

    def forbidden(self, state: _State) -> Ids:
        """Tokens that would add a fact, or leave one half said: int64 [n]."""
        if state not in self._forbidden:
            self._forbidden[state] = self._find_forbidden(state)
        return self._forbidden[state]

    def _find_forbidden(self, state: _State) -> Ids:
        """Those that `advance` has no state for, and the ends where the answer cannot end."""
        found = [np.array(self._eos_ids if self._closed(state) is None else [], dtype=np.int64)]
        for byte, child in self._trie.children(self._trie.root):
            following = self._feed(state, byte)
            if following is None:
                found.append(self._trie.ids(child))
            elif self._may_refuse(following, child):
                key = following, child  # after one byte most states are the same
                if key not in self._below:
                    self._below[key] = self._trie.refused(following, self._feed, self._may_refuse, child)
                found.append(self._below[key])
        return np.concatenate(found)

    def _may_refuse(self, state: _State, node: Node) -> bool:
        """Whether a byte below the node can add a fact, which takes an open one or a byte that begins one."""
        if state.named or state.sign or (state.number and not state.partial):
            return True
        last = self._sensitive[1 if state.number else 0]
        return bool(last[node.low : node.high].max() >= node.depth)

    def _find_sensitive(self) -> npt.NDArray[np.int32]:
        """For every token, in the tree's order, the place of the last byte that may add a fact, -1 where none does.

        int32 [2, tokens]: where nothing is open, and after a number, which units may follow.
        """
        texts = [self._vocabulary.texts[token] for token in self._trie.order.tolist()]
        last = np.full((2, len(texts)), -1, dtype=np.int32)
        for place, text in enumerate(texts):
            end = 0
            for character in text.decode(errors="surrogateescape"):
                # A byte of its own continues, or begins, what is whole in no token.
                end += 1 if "\udc80" <= character <= "\udcff" else len(character.encode())
                folded = _fold(character)
                begins = folded != character or _is_sensitive(character, self._chinese)
                if begins:
                    last[0, place] = end - 1
                if begins or character in _UNIT_CHARACTERS:
                    last[1, place] = end - 1
        return last

    def _find_plain(self) -> frozenset[int]:
        """Tokens that are whole letters outside ASCII, which say nothing where no number stands before them."""
        texts = [text.decode(errors="replace") for text in self._vocabulary.texts]
        return frozenset(
            token
            for token, text in enumerate(texts)
            if text.isalpha() and all(one > "\x7f" and one != "\ufffd" and _fold(one) == one for one in text)
        )

    def _feed(self, state: _State, byte: int) -> _State | None:
        if state.partial or byte >= 0x80:
            return self._in_character(state, byte)
        return self._character(state, chr(byte))

    def _in_character(self, state: _State, byte: int) -> _State | None:
        if state.partial and byte not in _CONTINUES:  # what came before was no character
            closed = self._closed(state._replace(partial=b""))
            return None if closed is None else self._feed(closed, byte)
        partial = state.partial + bytes([byte])
        if partial not in self._wide:
            closed = self._closed(state)
            if closed is None:
                return None
            state = closed
        try:
            character = partial.decode()
        except UnicodeDecodeError:
            return state._replace(partial=partial) if len(partial) < 4 else _INSIDE
        following: _State | None = state._replace(partial=b"")
        folded = _fold(character)
        if folded != character and _FOLDED_NUMBER.search(folded) and character not in self._other_forms:
            return None  # a number is written as the source writes it
        for one in folded:
            following = None if following is None else self._character(following, one)
        return following

    def _character(self, state: _State, character: str) -> _State | None:
        if character.isascii() and character.isalnum():
            return self._in_run(state, character)
        if state.run[-1:].isdigit() and character in ".,":
            longer = state.run + character.encode()
            whole = state.run in self._runs and (not state.sign or (state.sign, state.run) in self._prices)
            return state._replace(run=longer) if whole or self._begins(longer, state.sign) else None
        closed = self._closed(state)
        return None if closed is None else self._after(closed, character)

    def _in_run(self, state: _State, character: str) -> _State | None:
        run = state.run + character.lower().encode()
        capital = character.isupper() and (bool(state.run) or not state.start)
        sign = state.sign if state.run or character.isdigit() else ""
        if state.named or self._chinese or capital or character.isdigit():
            leads = self._leads_on(run, state.number) if state.number else self._begins(run, sign)
            return _State(run, True, state.number, sign=sign, start=False) if leads else None
        if state.number and run in _UNIT_BEGINNINGS_EN:
            if run.decode() in PLAIN_UNITS_EN and not self._known_unit(state.number, run.decode()):
                return None
            return _State(run, number=state.number, start=False)
        return _State(run if self._begins(run) else _OTHER_WORD, start=False)

    def _begins(self, run: bytes, sign: str = "") -> bool:
        """Whether a run, or with a sign a price, of the source begins so."""
        wanted = sign.encode() + run
        known = self._sorted_prices if sign else self._sorted_runs
        place = bisect_left(known, wanted)
        return place < len(known) and known[place].startswith(wanted)

    def _leads_on(self, run: bytes, number: bytes) -> bool:
        """Whether a run of the source begins so that may stand after the number: "320 GB" cannot be begun of 320 mb."""
        for place in range(bisect_left(self._sorted_runs, run), len(self._sorted_runs)):
            known = self._sorted_runs[place]
            if not known.startswith(run):
                return False
            if not self._is_foreign_unit(number, known):
                return True
        return False

    def _is_foreign_unit(self, number: bytes, run: bytes) -> bool:
        """Whether a run after a number is a unit that the number does not have in the source."""
        return run.decode() in self._unit_words and run.decode() not in self._units.get(number, ())

    def _known_unit(self, number: bytes, unit: str) -> bool:
        """Whether the source has a unit after the number that begins with `unit`."""
        return any(known.startswith(unit) for known in self._units.get(number, ()))

    def _after(self, closed: _State, character: str) -> _State | None:
        """The state after a character that is in no run."""
        if character in CURRENCIES:
            known = (character, closed.number) in self._prices if closed.number else character in self._currencies
            return _State(sign=character, start=False) if known else None
        if unicodedata.category(character) in _NUMERAL and character not in _CJK_NUMERALS:
            return _INSIDE if character in self._numerals else None
        unit = closed.unit + character
        if closed.number and unit in UNIT_BEGINNINGS_ZH:
            if unit in UNITS_ZH and not self._known_unit(closed.number, unit):
                return None
            return _State(number=closed.number, unit=unit, start=False)
        begins = character in ".!?。！？\n" or (closed.start and not character.isalnum())
        keeps = not closed.unit and not character.isalnum() and character not in _PARTS_NUMBERS
        blank = character.isspace()
        return _State(number=closed.number if keeps else b"", sign=closed.sign if blank else "", start=begins)

    def _closed(self, state: _State) -> _State | None:
        """The state once its run is over; None when the run is no whole one of the source, or an invented unit."""
        if not state.run:
            return state
        run = state.run.rstrip(b".,")
        if state.named and (run not in self._runs or (state.sign and (state.sign, run) not in self._prices)):
            return None
        if state.number and self._is_foreign_unit(state.number, run):
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
        self._state = self._facts.advance(self._state, token) or _INSIDE

    def branch(self) -> Locked:
        """The rule for another answer that begins like this one."""
        return Locked(self._facts, self._state)


@cache
def _fold(character: str) -> str:
    """A digit, letter or sign in another form as its ASCII one, "２", "㎏", "™", "％"; else the character itself."""
    if character.isascii():
        return character
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    compatible = unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    if "\uff01" <= character <= "\uff5e":  # full-width: punctuation stays what it is
        return compatible if compatible.isalnum() or compatible in "$%" else character
    return compatible if _FOLDED.search(compatible) else character


def _is_sensitive(character: str, chinese: bool) -> bool:
    """Whether a character can begin a fact by itself."""
    if character.isascii():
        return (
            character.isdigit() or character in CURRENCIES or (character.isalpha() and (chinese or character.isupper()))
        )
    numeral = unicodedata.category(character) in _NUMERAL and character not in _CJK_NUMERALS
    return numeral or character in CURRENCIES or "\udc80" <= character <= "\udcff"
