"""What every token writes, as bytes in lower case, and which tokens begin with or hold a piece of text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..text_stream import byte_level as of_byte_level

Ids = npt.NDArray[np.int64]
Made = TypeVar("Made")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class Vocabulary:
    """The bytes of all tokens, lower-cased where they are ASCII: a rule about words holds for their capitals too.

    `pieces` are the tokens as the tokenizer stores them, by id. `byte_level` says that they are GPT-2's stand-ins for
    bytes; otherwise "▁" is a blank, and "<0x0A>" a byte. Special tokens write nothing.
    """

    def __init__(self, pieces: Sequence[str], *, byte_level: bool, special: Sequence[int] = ()) -> None:
        silent = set(special)
        bytes_of = of_byte_level if byte_level else _bytes_of
        self.texts: list[bytes] = [b"" if index in silent else bytes_of(piece) for index, piece in enumerate(pieces)]
        self.folded: list[bytes] = [text.lower() for text in self.texts]
        order = sorted(range(len(self.folded)), key=self.folded.__getitem__)
        self._order = np.array(order, dtype=np.int64)
        self._sorted = [self.folded[index] for index in order]
        self.by_first_byte: list[Ids] = [self.beginning_with(bytes([byte])) for byte in range(256)]
        self._cached: dict[Hashable, Any] = {}

    def cached(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of this vocabulary for `key`, made at the first need."""
        if key not in self._cached:
            self._cached[key] = make()
        found: Made = self._cached[key]
        return found

    def beginning_with(self, prefix: bytes) -> Ids:
        """Tokens whose text begins with `prefix` (not empty, lower case), or is it: int64 [n]."""
        start = bisect_left(self._sorted, prefix)
        end = bisect_left(self._sorted, _after(prefix), lo=start)
        found: Ids = self._order[start:end]
        return found

    def holding(self, phrases: Sequence[bytes]) -> Ids:
        """Tokens that hold one of the phrases (lower case) whole: int64 [n]."""
        pattern = re.compile(b"|".join(re.escape(phrase) for phrase in sorted(phrases, key=len)))
        return np.array([index for index, text in enumerate(self.folded) if pattern.search(text)], dtype=np.int64)


def _bytes_of(piece: str) -> bytes:
    single = _BYTE_TOKEN.match(piece)
    return bytes([int(single[1], 16)]) if single else piece.replace("▁", " ").encode("utf-8", "replace")


def _after(prefix: bytes) -> bytes:
    """The first of the texts in order that do not begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\xff" * 64
