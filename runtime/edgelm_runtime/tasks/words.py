"""Words of a bundle's tokenizer that may not be said, made at the first need and shared by all answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock

from ..generate.banned import BannedPhrases
from ..generate.facts import SourceFacts
from ..generate.vocabulary import Vocabulary
from ..tokenizer import TextTokenizer

ABSOLUTE_TERMS = Path(__file__).parent.parent / "data" / "absolute_terms_zh.txt"
MAX_LISTS = 8  # lists of banned phrases that are kept ready


class Words:
    """The vocabulary of a tokenizer, and the lists of banned phrases that were used last."""

    def __init__(self, tokenizer: TextTokenizer, rows: int) -> None:
        self._tokenizer = tokenizer
        self._rows = rows
        self._vocabulary: Vocabulary | None = None
        self._lists: dict[tuple[str, ...], BannedPhrases] = {}
        self._facts: tuple[tuple[str, str], SourceFacts] | None = None
        self._lock = Lock()

    @property
    def vocabulary(self) -> Vocabulary:
        """What every token writes."""
        with self._lock:
            return self._made()

    def banned(self, phrases: tuple[str, ...]) -> BannedPhrases:
        """The automaton of a list of phrases."""
        with self._lock:
            if phrases not in self._lists:
                while len(self._lists) >= MAX_LISTS:
                    del self._lists[next(iter(self._lists))]
                self._lists[phrases] = BannedPhrases(phrases, self._made())
            return self._lists[phrases]

    def facts(self, source: str, language: str, eos_ids: Sequence[int]) -> SourceFacts:
        """The facts of a source; those of the last one are kept, for its variants."""
        with self._lock:
            if self._facts is None or self._facts[0] != (source, language):
                self._facts = (source, language), SourceFacts(source, language, self._made(), eos_ids)
            return self._facts[1]

    def _made(self) -> Vocabulary:
        if self._vocabulary is None:
            pieces = self._tokenizer.pieces()
            padded = [*pieces, *[""] * (self._rows - len(pieces))]  # rows of the head that no token has
            special = self._tokenizer.special_ids
            self._vocabulary = Vocabulary(
                padded, byte_level=self._tokenizer.joins_bytes, special=special, continuing=self._tokenizer.continuing
            )
        return self._vocabulary


@cache
def absolute_terms() -> tuple[str, ...]:
    """The absolute terms that a Chinese advertisement may not use."""
    return read_phrases(ABSOLUTE_TERMS.read_text("utf-8"))


def read_phrases(text: str) -> tuple[str, ...]:
    """One phrase a line; blank lines and those that begin with "#" are left out."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
